"""Where things are: names, folders and files, and what the environment says of them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest

from nbq import settings
from nbq.errors import HubUnreachable, SettingsError
from nbq.settings import Connection, RuntimeFile


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NBQ_HUB", "NBQ_DATA_DIR", "NBQ_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NBQ_RUNTIME_DIR", str(tmp_path / "run"))


def test_the_data_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings.data_dir("h") == tmp_path / ".local/share/nbq/h"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert settings.data_dir("h") == tmp_path / "xdg/nbq/h"
    monkeypatch.setenv("NBQ_DATA_DIR", str(tmp_path / "own"))
    assert settings.data_dir("h") == tmp_path / "own/h"


def test_the_runtime_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.runtime_dir() == tmp_path / "run"
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
    monkeypatch.delenv("NBQ_RUNTIME_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert settings.runtime_dir() == tmp_path / "nbq"


def test_a_long_socket_path_moves_to_a_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.socket_path("h") == tmp_path / "run" / "h.sock"
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setenv("NBQ_RUNTIME_DIR", str(deep / "run"))
    first, second = settings.socket_path("h"), settings.socket_path("other")
    assert len(os.fsencode(first)) <= 100
    assert first != second
    assert settings.socket_path("h") == first


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../up", "a b", "x" * 65, "ü", "-x"])
def test_what_cannot_be_the_name_of_a_hub_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="cannot be the name of a hub"):
        settings.check_name(name)


def test_the_hub_that_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.hub_name() == "default"
    monkeypatch.setenv("NBQ_HUB", "other")
    assert settings.hub_name() == "other"


def test_a_hub_that_was_never_started_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBQ_DATA_DIR", str(tmp_path))
    with pytest.raises(HubUnreachable, match=r"no hub named 'h' was ever started here .*h/client\.json"):
        settings.find_connection("h", "client")
    with pytest.raises(HubUnreachable, match=r"there is no connection file .*none\.json"):
        settings.find_connection(tmp_path / "none.json", "client")


def test_a_connection_gets_the_endpoints_of_the_hub_that_runs(tmp_path: Path) -> None:
    connection = Connection("h", "client", ["tcp://far:1"], "5708e0", "", "", "t")
    path = tmp_path / "client.json"
    settings.write_private(path, msgspec.json.encode(connection))
    assert settings.find_connection(path, "client").endpoints == ["tcp://far:1"]
    for key, start, endpoints in [
        ("5708e0", settings.process_start(os.getpid()), ["ipc://here"]),
        ("0e5705", settings.process_start(os.getpid()), ["tcp://far:1"]),
        ("5708e0", 1.0, ["tcp://far:1"]),
    ]:
        live = RuntimeFile("h", os.getpid(), start, ["ipc://here"], "", key)
        settings.write_private(settings.runtime_path("h"), msgspec.json.encode(live))
        assert settings.find_connection(path, "client").endpoints == endpoints


def test_a_process_that_is_not_there_never_started() -> None:
    assert settings.process_start(os.getpid()) > 0
    assert settings.process_start(2**22 + 1) == 0.0


def test_temporary_folders_of_killed_processes_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = settings.temporary_dir("engine")
    program = (
        "import os; from nbq.settings import temporary_dir; "
        "print(temporary_dir('engine'), flush=True); os._exit(9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}, check=False,
    )  # fmt: skip
    left = Path(done.stdout.strip())
    assert (left.is_dir(), stat.S_IMODE(left.stat().st_mode)) == (True, 0o700)
    foreign = tmp_path / "nbq-engine-notes"
    foreign.mkdir()
    other = settings.temporary_dir("client")
    assert left.is_dir()
    new = settings.temporary_dir("engine")
    assert sorted(tmp_path.iterdir()) == sorted([own, foreign, other, new])
