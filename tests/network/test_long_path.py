"""A socket path that is too long for ZeroMQ moves to a short one; nothing else changes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import nbq
from nbq.settings import RuntimeFile, live_runtime
from tests.network.hosts import Host
from tests.processes.harness import slots_up
from tests.processes.work import add


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Host]:
    """A host whose folders lie deep: no socket in them could be bound."""
    folder = tmp_path / ("deep" * 30)
    folder.mkdir()
    host = Host(folder)
    try:
        yield host
    finally:
        host.end()


def test_a_hub_in_a_deep_folder_is_found_by_its_name(deep: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in deep.environment.items():
        monkeypatch.setenv(name, value)
    hub = deep.hub()
    deep.engine(1)
    found = msgspec.json.decode((deep.runtime / "default.json").read_bytes(), type=RuntimeFile)
    (address,) = found.endpoints
    path = Path(address.removeprefix("ipc://"))
    folder = path.parent
    assert (len(os.fsencode(deep.runtime)) > 100, len(os.fsencode(path)) <= 100) == (True, True)
    assert (stat.S_IMODE(folder.stat().st_mode), folder.stat().st_uid) == (0o700, os.getuid())
    with nbq.connect() as client:
        slots_up(client, 1)
        assert client.connection.endpoints == [address]
        assert client.map(add, range(500), range(500)).get(30) == [2 * i for i in range(500)]
    hub.terminate()
    assert hub.wait(10) == 0
    assert (live_runtime("default"), path.exists()) == (None, False)
