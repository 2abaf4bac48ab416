"""Keys and roles: who may speak to a hub, and as what.

At its first start a hub makes its own key pair, and a connection file for each role: ``client.json``,
``engine.json`` and ``viewer.json``. The public half of each is noted in ``authorized/<kid>.json``, which
is all that the hub reads later; the connection files can be moved elsewhere. Over TCP the key itself
is checked (CURVE, by ``Gatekeeper``, before any byte reaches the hub); over ipc, where only this user
can connect at all, the token of the connection file says which role is meant.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import zmq
import zmq.utils.z85
from msgspec import Struct

from nbq.errors import SettingsError
from nbq.settings import Connection, private_dir, read_private, write_private

__all__ = [
    "ROLES",
    "ZAP_DOMAIN",
    "Gatekeeper",
    "KeyNote",
    "Keyring",
    "add_key",
    "create_keys",
    "issue_key",
    "list_keys",
    "publish_endpoints",
    "revoke_key",
]

Role = Literal["client", "engine", "viewer"]
ROLES: tuple[Role, ...] = ("client", "engine", "viewer")
ZAP_DOMAIN = b"nbq"
_PAYLOAD_KEY_BYTES = 32
_ZAP_ADDRESS = "inproc://zeromq.zap.01"


class KeyNote(Struct, frozen=True):
    """What a hub keeps of a key: who may come in with it, and as what; no secrets.

    ``label`` says for people whose it is, and ``made_s`` when it was made (Unix time).
    """

    kid: str
    role: Role
    public_key: str
    token_digest: str
    label: str = ""
    made_s: float = 0.0


class _HubSecret(Struct, frozen=True):
    public_key: str
    secret_key: str


def create_keys(folder: Path, name: str) -> None:
    """Make the keys of a new hub, unless they exist: its own, and a connection file for each role."""
    private_dir(folder)
    private_dir(folder / "authorized")
    if (folder / "hub.secret").exists():
        return
    payload_key = secrets.token_hex(_PAYLOAD_KEY_BYTES)
    public, secret = zmq.curve_keypair()
    own = _HubSecret(public.decode(), secret.decode())
    for role in ROLES:
        path = folder / f"{role}.json"
        path.unlink(missing_ok=True)  # of a start that did not come to its end
        add_key(folder, name, role, own.public_key, payload_key, path)
    write_private(folder / "hub.secret", msgspec.json.encode(own))


def add_key(
    folder: Path, name: str, role: Role, server_key: str, payload_key: str, path: Path,
    label: str = "", endpoints: Sequence[str] = (),
) -> KeyNote:  # fmt: skip
    """Make one more key, note its public half, and write its connection file; returns the note.

    Raises:
        SettingsError: The connection file exists already.
    """
    if path.exists():
        raise SettingsError(f"{path} exists already")
    public, secret = zmq.curve_keypair()
    token = secrets.token_hex(32)
    kid = secrets.token_hex(4)
    connection = Connection(
        name, role, list(endpoints), server_key, public.decode(), secret.decode(), token,
        "" if role == "viewer" else payload_key,
    )  # fmt: skip
    digest = hashlib.blake2b(token.encode(), digest_size=32).hexdigest()
    note = KeyNote(kid, role, public.decode(), digest, label or role, time.time())
    write_private(path, msgspec.json.encode(connection))
    write_private(folder / "authorized" / f"{kid}.json", msgspec.json.encode(note))
    return note


def issue_key(folder: Path, label: str, role: Role, path: Path) -> KeyNote:
    """Make a key for somebody, as ``nbq key add`` does; a hub that runs takes it at once.

    Args:
        folder: The hub's data folder.
        label: Whose it is, for people.
        role: What it is for.
        path: The connection file to write.

    Raises:
        SettingsError: The file exists, or the folder has no connection file any more to learn from what
            the new one needs (for a client or an engine that is the payload key too).
    """
    for known in ROLES:
        like = folder / f"{known}.json"
        if like.exists() and (role == "viewer" or known != "viewer"):
            break
    else:
        needed = "a connection file" if role == "viewer" else "client.json or engine.json"
        raise SettingsError(f"{folder} has not {needed}, which a new key is made from: copy it back there")
    found = msgspec.json.decode(read_private(like), type=Connection)
    return add_key(
        folder, found.name, role, found.server_key, found.payload_key, path, label,
        found.endpoints,
    )  # fmt: skip


def list_keys(folder: Path) -> list[KeyNote]:
    """Return the keys that may come in, oldest first.

    Raises:
        SettingsError: A note of a key is damaged or open to others.
    """
    notes: list[KeyNote] = []
    for path in (folder / "authorized").glob("*.json"):
        try:
            notes.append(msgspec.json.decode(read_private(path), type=KeyNote))
        except FileNotFoundError:
            continue  # it was revoked just now
        except msgspec.DecodeError as error:
            raise SettingsError(f"the key noted in {path} cannot be read: {error}") from None
    return sorted(notes, key=lambda note: (note.made_s, note.kid))


def revoke_key(folder: Path, kid: str) -> KeyNote:
    """Let nobody come in with a key any more; returns what was noted of it.

    Connections that are open with it stay open until they end, or the hub does.

    Raises:
        SettingsError: There is no such key.
    """
    found = next((note for note in list_keys(folder) if note.kid == kid), None)
    if found is None:
        raise SettingsError(f"{folder} knows no key {kid!r}: 'nbq key list' shows all")
    (folder / "authorized" / f"{kid}.json").unlink()
    return found


def publish_endpoints(folder: Path, endpoints: list[str]) -> None:
    """Write into the connection files of a data folder where others dial, for hosts they are moved to."""
    for role in ROLES:
        path = folder / f"{role}.json"
        if not path.exists():
            continue  # it was moved off this host
        connection = msgspec.json.decode(read_private(path), type=Connection)
        if connection.endpoints != endpoints:
            write_private(path, msgspec.json.encode(msgspec.structs.replace(connection, endpoints=endpoints)))


class Keyring:
    """The keys of a hub, as its data folder has them now: one added or revoked counts at once.

    Raises:
        SettingsError: A file of keys is missing, damaged or open to others.
    """

    def __init__(self, folder: Path) -> None:
        try:
            own = msgspec.json.decode(read_private(folder / "hub.secret"), type=_HubSecret)
            self._folder = folder
            self._seen = self._names(), list_keys(folder)
        except (FileNotFoundError, msgspec.DecodeError) as error:
            raise SettingsError(f"the keys in {folder} cannot be read: {error}") from None
        self.public_key = own.public_key
        self.secret_key = own.secret_key

    def _names(self) -> list[str]:
        return sorted(path.name for path in (self._folder / "authorized").iterdir())

    def _notes(self) -> list[KeyNote]:
        """Return the keys; read again if there are others than before.

        A folder that cannot be read lets nobody in: it may have been made so to revoke a key.
        """
        try:
            names = self._names()
            if names != self._seen[0]:
                self._seen = names, list_keys(self._folder)
        except (OSError, SettingsError):
            return []
        return self._seen[1]

    def user_of_key(self, public_key: str) -> str | None:
        """Return the ZAP user id ("kid:role") of a public key, or None."""
        found = (note for note in self._notes() if note.public_key == public_key)
        return next((f"{note.kid}:{note.role}" for note in found), None)

    def identify(self, user: str | None, token: bytes) -> tuple[str, Role] | None:
        """Return key id and role of a peer: by its CURVE user id, or over ipc by its token."""
        digest = hashlib.blake2b(token, digest_size=32).hexdigest()
        found = None
        for note in self._notes():
            same = (
                hmac.compare_digest(note.token_digest, digest)
                if user is None
                else user == f"{note.kid}:{note.role}"
            )
            if same:
                found = note.kid, note.role
        return found


class Gatekeeper:
    """The ZAP handler of a context: answers, for each CURVE handshake, whether the key is known.

    Runs in a thread of its own that nothing a peer sends can stop: whatever goes wrong with a
    request, its answer is a refusal.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keyring: Keyring) -> None:
        self._context = context
        self._keyring = keyring
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind(_ZAP_ADDRESS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="nbq-zap", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stop.is_set():
            self._socket.send_multipart(self._verdict(self._socket.recv_multipart()))
        self._socket.close()

    def _verdict(self, frames: list[bytes]) -> list[bytes]:
        request = frames[1] if len(frames) > 1 else b""
        user = None
        ours = len(frames) == 7 and frames[0] == b"1.0" and frames[2] == ZAP_DOMAIN
        if ours and frames[5] == b"CURVE" and len(frames[6]) == 32:
            user = self._keyring.user_of_key(zmq.utils.z85.encode(frames[6]).decode())
        if user is None:
            return [b"1.0", request, b"400", b"unknown key", b"", b""]
        return [b"1.0", request, b"200", b"OK", user.encode(), b""]

    def close(self) -> None:
        """Stop; handshakes are refused from here on (the domain is enforced)."""
        self._stop.set()
        with self._context.socket(zmq.REQ) as bell:
            bell.linger = 0
            bell.connect(_ZAP_ADDRESS)
            bell.send(b"")  # so that the thread looks at the event
            self._thread.join()
