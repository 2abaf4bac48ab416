"""Signals of a slot's own process, in a real one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nbq.engines import pipe
from tests.engines.bench import Bench

MODULE = """
from pathlib import Path
from nbq.signals import worker_process_init, worker_process_shutdown

@worker_process_init.connect
def begins(event):
    Path("began").write_text(f"{event.hostname} {event.pid}")

@worker_process_shutdown.connect
def ends(event):
    Path("ended").write_text(f"{event.hostname} {event.pid}")
"""


def test_a_slot_that_starts_and_ends_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slot_signals.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    bench = Bench(tmp_path, include=["slot_signals"])
    said = f"bench {bench.hello().pid}"
    try:
        assert "slot_signals" not in sys.modules
        assert ((tmp_path / "began").read_text(), (tmp_path / "ended").exists()) == (said, False)
        bench.child.send(pipe.Bye())
        bench.until(lambda: not bench.alive)
        assert bench.child.process.wait(20) == 0
        assert (tmp_path / "ended").read_text() == said
    finally:
        bench.child.close()
