"""Keys that are added and revoked while a hub's keyring is in use."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from nbq.errors import SettingsError
from nbq.security import Keyring, add_key, create_keys, issue_key, list_keys, publish_endpoints, revoke_key
from nbq.settings import Connection, load_connection


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    create_keys(made, "h")
    return made


def known(keyring: Keyring, connection: Connection) -> tuple[object, object]:
    """Return as whom a keyring takes a key, over TCP and over ipc."""
    user = keyring.user_of_key(connection.public_key)
    return user, keyring.identify(None, connection.token.encode())


def test_a_key_counts_from_its_making_to_its_revocation(folder: Path, tmp_path: Path) -> None:
    keyring = Keyring(folder)
    note = issue_key(folder, "alice", "viewer", tmp_path / "alice.json")
    alice = load_connection(tmp_path / "alice.json")
    assert known(keyring, alice) == (f"{note.kid}:viewer", (note.kid, "viewer"))
    assert keyring.identify(f"{note.kid}:viewer", b"") == (note.kid, "viewer")
    assert revoke_key(folder, note.kid) == note
    assert known(keyring, alice) == (None, None)
    assert keyring.identify(f"{note.kid}:viewer", b"") is None
    assert known(keyring, load_connection(folder / "client.json")) != (None, None)


@pytest.mark.parametrize("role", ["client", "engine", "viewer"])
def test_an_issued_key_has_all_that_its_role_needs(folder: Path, tmp_path: Path, role: str) -> None:
    publish_endpoints(folder, ["tcp://hub.example.org:7777"])
    issue_key(folder, "bob", role, tmp_path / "bob.json")
    made, like = load_connection(tmp_path / "bob.json"), load_connection(folder / f"{role}.json")
    own = {"public_key", "secret_key", "token", "path"}
    shared = {name: value for name, value in msgspec.structs.asdict(made).items() if name not in own}
    assert shared == {name: getattr(like, name) for name in shared}
    assert {name for name in own if getattr(made, name) == getattr(like, name)} == set()


def test_a_key_is_issued_without_the_payload_key_to_viewers_alone(folder: Path, tmp_path: Path) -> None:
    (folder / "client.json").unlink()
    (folder / "engine.json").unlink()
    assert issue_key(folder, "eve", "viewer", tmp_path / "eve.json").role == "viewer"
    with pytest.raises(SettingsError, match=r"has not client\.json or engine\.json"):
        issue_key(folder, "bob", "client", tmp_path / "bob.json")
    assert [note.label for note in list_keys(folder)] == ["client", "engine", "viewer", "eve"]


def test_nobody_comes_in_while_the_keys_cannot_be_read(folder: Path) -> None:
    keyring, client = Keyring(folder), load_connection(folder / "client.json")
    assert known(keyring, client) != (None, None)
    damaged = folder / "authorized" / "00000000.json"
    damaged.write_bytes(b"{")
    damaged.chmod(0o600)
    assert known(keyring, client) == (None, None)
    damaged.unlink()
    assert known(keyring, client) != (None, None)


def test_what_is_no_key_cannot_be_revoked(folder: Path) -> None:
    before = list_keys(folder)
    with pytest.raises(SettingsError, match=r"knows no key '\.\./client'"):
        revoke_key(folder, "../client")
    assert list_keys(folder) == before


def test_a_connection_file_is_never_written_over(folder: Path) -> None:
    before = list_keys(folder), (folder / "client.json").read_bytes()
    with pytest.raises(SettingsError, match="exists already"):
        add_key(folder, "h", "client", "", "", folder / "client.json")
    assert (list_keys(folder), (folder / "client.json").read_bytes()) == before
