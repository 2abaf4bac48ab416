"""The Python blocks of every document run, one after another in one fresh interpreter per document.

A block that cannot run here has `<!-- not run: reason -->` on the line before it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.project.tree import ROOT, project_files

_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: .+ -->\s*\Z")
_TIMEOUT_S = 100


def program(text: str) -> str:
    """Return a document's blocks as one program, each line at its place in the document."""
    lines = [""] * (text.count("\n") + 1)
    for block in _BLOCK.finditer(text):
        if not _NOT_RUN.search(text, 0, block.start()):
            first = text.count("\n", 0, block.start(1))
            code = block.group(1).splitlines()
            lines[first : first + len(code)] = code
    return "\n".join(lines) + "\n"


DOCUMENTS = {
    str(path.relative_to(ROOT)): path
    for path in [ROOT / "README.md", *project_files("*.md")]
    if path.name == "README.md" or path.is_relative_to(ROOT / "docs")
    if program(path.read_text()).strip()
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_blocks_run(name: str, tmp_path: Path) -> None:
    script = tmp_path / f"{DOCUMENTS[name].stem}.py"
    script.write_text(program(DOCUMENTS[name].read_text()))
    with tempfile.TemporaryDirectory() as runtime:  # short: sockets lie in it
        places = {"NBQ_DATA_DIR": str(tmp_path / "data"), "NBQ_RUNTIME_DIR": runtime}
        environment = {key: value for key, value in os.environ.items() if key != "NBQ_HUB"} | places
        done = subprocess.run(
            [sys.executable, script.name], cwd=tmp_path, env=environment, timeout=_TIMEOUT_S,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_block_keeps_its_place_and_a_marked_one_is_left_out() -> None:
    run, marked = "```python\na = 1\n```\n", "<!-- not run: needs a second host -->\n```python\nb = 2\n```\n"
    assert program(run + marked + run) == "\na = 1\n" + "\n" * 6 + "a = 1\n\n\n"
