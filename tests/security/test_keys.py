"""Key files: who may read them, what is in them, and what is refused."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from nbq import security
from nbq.errors import SettingsError
from nbq.security import Keyring, add_key, create_keys
from nbq.settings import Connection, load_connection, private_dir, read_private, write_private
from nbq.wire import Role

ROLES: tuple[Role, ...] = ("client", "engine", "viewer")


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    create_keys(made, "h")
    return made


def connection(folder: Path, role: str) -> Connection:
    return msgspec.json.decode(read_private(folder / f"{role}.json"), type=Connection)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o177])
def test_keys_are_private_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    with umask(mask & 0o077 if os.getuid() else mask):
        create_keys(tmp_path / "data", "h")
        write_private(tmp_path / "other", b"x")
    found = {str(p.relative_to(tmp_path)): p.stat().st_mode & 0o777 for p in tmp_path.rglob("*")}
    folders = {"data", "data/authorized"}
    assert {name for name, mode in found.items() if name in folders and mode & 0o077} == set()
    assert {mode for name, mode in found.items() if name not in folders} == {0o600}
    assert len(found) == 2 + 1 + 3 + 3 + 1


def test_each_role_has_its_own_key_and_token(folder: Path) -> None:
    found = [connection(folder, role) for role in ROLES]
    assert [one.role for one in found] == list(ROLES)
    for field in ("public_key", "secret_key", "token"):
        assert len({getattr(one, field) for one in found}) == 3
    assert len({one.server_key for one in found}) == 1


def test_viewers_have_no_payload_key_and_the_hub_keeps_none(folder: Path) -> None:
    client, engine, viewer = (connection(folder, role) for role in ROLES)
    assert len(bytes.fromhex(client.payload_key)) == 32
    assert (engine.payload_key, viewer.payload_key) == (client.payload_key, "")
    kept = [folder / "hub.secret", *(folder / "authorized").iterdir()]
    for secret in (client.payload_key, client.secret_key, client.token, engine.secret_key, engine.token):
        assert [path.name for path in kept if secret.encode() in path.read_bytes()] == []


def test_keys_are_made_once(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    create_keys(folder, "h")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_connection_files_may_be_moved_away(folder: Path) -> None:
    moved = connection(folder, "client")
    (folder / "client.json").unlink()
    create_keys(folder, "h")
    assert not (folder / "client.json").exists()
    assert Keyring(folder).identify(None, moved.token.encode()) is not None


def test_a_start_that_was_cut_short_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data"
    write = security.write_private

    def dies(path: Path, content: bytes) -> None:
        if path.name == "viewer.json":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(security, "write_private", dies)
    with pytest.raises(KeyboardInterrupt):
        create_keys(folder, "h")
    monkeypatch.undo()
    create_keys(folder, "h")
    keyring = Keyring(folder)
    for role in ROLES:
        made = connection(folder, role)
        assert made.server_key == keyring.public_key
        assert keyring.user_of_key(made.public_key) is not None


def test_a_peer_is_known_by_token_over_ipc_and_by_key_over_tcp(folder: Path) -> None:
    keyring = Keyring(folder)
    for role in ROLES:
        made = connection(folder, role)
        user = keyring.user_of_key(made.public_key)
        assert user is not None
        kid = user.removesuffix(f":{role}")
        assert keyring.identify(None, made.token.encode()) == (kid, role)
        assert keyring.identify(user, b"") == (kid, role)


def test_strangers_are_nobody(folder: Path) -> None:
    keyring = Keyring(folder)
    client = connection(folder, "client")
    user = keyring.user_of_key(client.public_key)
    assert user is not None
    assert keyring.user_of_key(client.server_key) is None
    assert keyring.identify(None, b"") is None
    assert keyring.identify(None, client.token.encode()[:-1]) is None
    assert keyring.identify("", client.token.encode()) is None
    assert keyring.identify("None", client.token.encode()) is None
    assert keyring.identify(user.replace("client", "engine"), client.token.encode()) is None


def test_one_more_key_can_be_added_and_none_replaced(folder: Path) -> None:
    client = connection(folder, "client")
    path = folder / "laptop.json"
    note = add_key(folder, "h", "client", client.server_key, client.payload_key, path)
    laptop = connection(folder, "laptop")
    assert (laptop.public_key, laptop.payload_key) == (note.public_key, client.payload_key)
    assert Keyring(folder).user_of_key(note.public_key) == f"{note.kid}:client"
    assert Keyring(folder).identify(None, laptop.token.encode()) == (note.kid, "client")
    with pytest.raises(SettingsError, match=r"laptop\.json exists already"):
        add_key(folder, "h", "client", client.server_key, client.payload_key, path)


@pytest.mark.parametrize("name", ["hub.secret", "authorized"])
@pytest.mark.parametrize("damage", ["open", "link", "garbage"])
def test_damaged_keys_stop_the_hub(folder: Path, name: str, damage: str) -> None:
    path = folder / name if name == "hub.secret" else next((folder / name).iterdir())
    content = path.read_bytes()
    if damage == "open":
        path.chmod(0o640)
    elif damage == "link":
        path.rename(folder / "elsewhere")
        path.symlink_to(folder / "elsewhere")
    else:
        path.write_bytes(content[:-10])
    with pytest.raises(SettingsError):
        Keyring(folder)


def test_a_hub_without_its_own_key_does_not_start(folder: Path) -> None:
    (folder / "hub.secret").unlink()
    with pytest.raises(SettingsError, match=f"the keys in {folder} cannot be read"):
        Keyring(folder)


def test_no_secret_shows_in_a_repr(folder: Path) -> None:
    client = connection(folder, "client")
    text = repr(client) + str(client) + f"{[client]}" + repr(Keyring(folder))
    shown = [
        name
        for name in ("secret_key", "token", "payload_key")
        if getattr(client, name) and getattr(client, name) in text
    ]
    assert shown == []
    assert repr(client) == "Connection(name='h', role='client', endpoints=[])"


def test_a_planted_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    path = tmp_path / "secret"
    path.symlink_to(victim)
    (tmp_path / f".secret.{os.getpid()}").symlink_to(victim)
    write_private(path, b"key")
    assert (victim.read_bytes(), path.is_symlink(), path.read_bytes()) == (b"untouched", False, b"key")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["secret", "victim"]


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_private(path, b"key")
    assert read_private(path) == b"key"
    for mode in (0o644, 0o640, 0o602, 0o610):
        path.chmod(mode)
        with pytest.raises(SettingsError, match=f"is open to other users: chmod 600 {path}"):
            read_private(path)


def test_a_secret_behind_a_link_is_refused(tmp_path: Path) -> None:
    write_private(tmp_path / "secret", b"key")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(SettingsError, match="it must not be a link"):
        read_private(tmp_path / "link")


def test_a_secret_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    write_private(path, b"key")
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    monkeypatch.setattr(os, "fstat", _owned_by(owner + 2))
    with pytest.raises(SettingsError, match=f"belongs to user {owner + 2}, not to you"):
        read_private(path)


def _owned_by(uid: int) -> Callable[[int], os.stat_result]:
    fstat = os.fstat

    def found(handle: int) -> os.stat_result:
        values = list(fstat(handle))
        values[4] = uid
        return os.stat_result(values)

    return found


def test_a_private_folder_is_made_and_kept(tmp_path: Path) -> None:
    with umask(0o000):
        path = private_dir(tmp_path / "a" / "b")
    assert path.stat().st_mode & 0o777 == 0o700
    assert private_dir(path) == path


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701, 0o777])
def test_a_folder_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "data"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(SettingsError, match=f"{path} is open to other users: chmod 700 {path}"):
        private_dir(path)


@pytest.mark.parametrize("what", ["link", "dangling link", "file"])
def test_what_is_no_folder_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "data"
    if what == "file":
        path.write_bytes(b"")
    else:
        path.symlink_to(tmp_path if what == "link" else tmp_path / "none")
    with pytest.raises(SettingsError, match=f"{path} is not a folder"):
        private_dir(path)


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = private_dir(tmp_path / "data")
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(SettingsError, match=f"{path} belongs to user {owner}: name a folder of your own"):
        private_dir(path)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b'{"name": "h", "role": "admin"}'])
def test_what_is_no_connection_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "client.json"
    write_private(path, content)
    with pytest.raises(SettingsError, match="is not a connection file of nbq"):
        load_connection(path)
