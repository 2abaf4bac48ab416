"""Runs ``nbq`` as a user does, in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any, NamedTuple

COMMAND = [sys.executable, "-m", "nbq"]
DEADLINE_S = 60.0


class Ran(NamedTuple):
    """What a command left: its exit code, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON; nothing went to standard error."""
        assert self.err == ""
        return json.loads(self.out)


def nbq(*args: str, **options: Any) -> Ran:
    done = subprocess.run(
        [*COMMAND, *args],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=DEADLINE_S,
        **options,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def plain(text: str) -> str:
    """Return a text without what differs from run to run: ids, times and the widths of columns."""
    text = re.sub(r"\b[0-9a-f]{32}\b", "RUN", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "WHEN", text)
    text = re.sub(r"cluster-\d+-[0-9a-f]+", "CLUSTER", text)
    return re.sub(r" {2,}", "  ", text)
