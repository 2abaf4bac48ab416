"""Two hosts for each test, or for the tests of one file."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.network.hosts import Host


@contextlib.contextmanager
def made(network: str = "") -> Iterator[Host]:
    """Make a host, and end all that runs on it."""
    folder = Path(tempfile.mkdtemp(prefix="nbq-n-"))
    host = Host(folder, network)
    try:
        yield host
    finally:
        try:
            host.end()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def here() -> Iterator[Host]:
    """The host of a hub."""
    with made() as host:
        yield host


@pytest.fixture
def there(here: Host) -> Iterator[Host]:
    """Another host, which ends first."""
    with made() as host:
        yield host
