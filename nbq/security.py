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
from pathlib import Path
from typing import Literal

import msgspec
import zmq
import zmq.utils.z85
from msgspec import Struct

from nbq.errors import SettingsError
from nbq.settings import Connection, private_dir, read_private, write_private

__all__ = ["ROLES", "Gatekeeper", "Keyring", "add_key", "create_keys", "publish_endpoints"]

Role = Literal["client", "engine", "viewer"]
ROLES: tuple[Role, ...] = ("client", "engine", "viewer")
_PAYLOAD_KEY_BYTES = 32
_ZAP_ADDRESS = "inproc://zeromq.zap.01"
_ZAP_POLL_MS = 200


class _Authorized(Struct, frozen=True):
    kid: str
    role: Role
    public_key: str
    token_digest: str


class _HubSecret(Struct, frozen=True):
    public_key: str
    secret_key: str


def create_keys(folder: Path, name: str, store: str) -> None:
    """Make the keys of a new hub, unless they exist: its own, and a connection file for each role."""
    private_dir(folder)
    private_dir(folder / "authorized")
    if (folder / "hub.secret").exists():
        return
    payload_key = secrets.token_hex(_PAYLOAD_KEY_BYTES)
    public, secret = zmq.curve_keypair()
    own = _HubSecret(public.decode(), secret.decode())
    for role in ROLES:
        add_key(folder, name, role, own.public_key, payload_key, store, folder / f"{role}.json")
    write_private(folder / "hub.secret", msgspec.json.encode(own))


def add_key(
    folder: Path, name: str, role: Role, server_key: str, payload_key: str, store: str, path: Path
) -> Connection:
    """Make one more key, note its public half, and write its connection file.

    Raises:
        SettingsError: The connection file exists already.
    """
    if path.exists():
        raise SettingsError(f"{path} exists already")
    public, secret = zmq.curve_keypair()
    token = secrets.token_hex(32)
    kid = secrets.token_hex(4)
    connection = Connection(
        name, role, [], server_key, public.decode(), secret.decode(), token,
        "" if role == "viewer" else payload_key, store,
    )  # fmt: skip
    digest = hashlib.blake2b(token.encode(), digest_size=32).hexdigest()
    note = _Authorized(kid, role, public.decode(), digest)
    write_private(folder / "authorized" / f"{kid}.json", msgspec.json.encode(note))
    write_private(path, msgspec.json.encode(connection))
    return connection


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
    """The keys of a hub, as its data folder has them.

    Raises:
        SettingsError: A file of keys is missing, damaged or open to others.
    """

    def __init__(self, folder: Path) -> None:
        try:
            own = msgspec.json.decode(read_private(folder / "hub.secret"), type=_HubSecret)
            notes = [
                msgspec.json.decode(read_private(path), type=_Authorized)
                for path in sorted((folder / "authorized").glob("*.json"))
            ]
        except (FileNotFoundError, msgspec.DecodeError) as error:
            raise SettingsError(f"the keys in {folder} cannot be read: {error}") from None
        self.public_key = own.public_key
        self.secret_key = own.secret_key
        self._by_key = {note.public_key: note for note in notes}
        self._notes = notes

    def user_of_key(self, public_key: str) -> str | None:
        """Return the ZAP user id ("kid:role") of a public key, or None."""
        note = self._by_key.get(public_key)
        return f"{note.kid}:{note.role}" if note is not None else None

    def identify(self, user: str | None, token: bytes) -> tuple[str, Role] | None:
        """Return key id and role of a peer: by its CURVE user id, or over ipc by its token."""
        digest = hashlib.blake2b(token, digest_size=32).hexdigest()
        found = None
        for note in self._notes:
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
        self._keyring = keyring
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        self._socket.bind(_ZAP_ADDRESS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="nbq-zap", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stop.is_set():
            if not self._socket.poll(_ZAP_POLL_MS):
                continue
            frames = self._socket.recv_multipart()
            self._socket.send_multipart(self._verdict(frames))
        self._socket.close()

    def _verdict(self, frames: list[bytes]) -> list[bytes]:
        request = frames[1] if len(frames) > 1 else b""
        user = None
        if len(frames) == 7 and frames[0] == b"1.0" and frames[5] == b"CURVE" and len(frames[6]) == 32:
            user = self._keyring.user_of_key(zmq.utils.z85.encode(frames[6]).decode())
        if user is None:
            return [b"1.0", request, b"400", b"unknown key", b"", b""]
        return [b"1.0", request, b"200", b"OK", user.encode(), b""]

    def close(self) -> None:
        """Stop; handshakes are refused from here on (the domain is enforced)."""
        self._stop.set()
        self._thread.join()
