"""A world for each test that starts or kills processes; a shared cluster for those that do not."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbq
from tests.processes.harness import World


def _world(patch: pytest.MonkeyPatch) -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="nbq-t-"))
    world = World(folder)
    for name, value in world.environment.items():
        patch.setenv(name, value)
    try:
        yield world
    finally:
        try:
            world.end()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Folders and processes for one test."""
    yield from _world(monkeypatch)


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    """Folders and processes for the tests of one file."""
    with pytest.MonkeyPatch.context() as patch:
        yield from _world(patch)


@pytest.fixture(scope="module")
def client(shared: World) -> Iterator[nbq.Client]:
    """A client of a cluster with two slots, for the tests of one file."""
    cluster = nbq.Cluster(slots=2)
    with cluster as client:
        yield client
