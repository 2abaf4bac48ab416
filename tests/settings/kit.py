"""Settings as in a new process: no files, no variables, nothing configured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbq import configuration

PLACES = {"NBQ_DATA_DIR", "NBQ_RUNTIME_DIR"}


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder without settings, which it is; returns it."""
    for name in os.environ:
        if name.startswith("NBQ_") and name not in PLACES:
            monkeypatch.delenv(name)
    folder = tmp_path / "project" / "deep"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    configuration.reset()
    yield folder
    configuration.reset()
