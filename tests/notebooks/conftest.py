"""One cluster with two slots for the tests of a file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbq


@pytest.fixture(scope="module")
def client() -> Iterator[nbq.Client]:
    with nbq.Cluster(slots=2) as client:
        yield client


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short folder for temporary files, which has to be left empty."""
    folder = Path(tempfile.mkdtemp(prefix="nbq-n-"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    left = list(folder.iterdir())
    shutil.rmtree(folder)
    assert left == []
