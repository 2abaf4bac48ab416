"""Where things are and what they are called: the only reader of the environment.

Data (journal, keys, blobs) lies in ``$NBQ_DATA_DIR/<name>``, else ``$XDG_DATA_HOME/nbq/<name>``.
Sockets and ``<name>.json`` (who runs where, now) lie in ``$NBQ_RUNTIME_DIR``, else
``$XDG_RUNTIME_DIR/nbq``, else ``nbq-<uid>`` in the system's temporary folder. All of it is private:
folders 0700, files 0600, owned by the user, never through a symbolic link.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from nbq.errors import HubUnreachable, SettingsError

__all__ = [
    "Connection",
    "Durability",
    "RuntimeFile",
    "check_name",
    "child_environment",
    "data_dir",
    "data_folder",
    "find_connection",
    "hub_name",
    "kernel_environment",
    "live_runtime",
    "load_connection",
    "named_configuration",
    "private_dir",
    "process_start",
    "read_private",
    "refresh_endpoints",
    "resident_bytes",
    "runtime_dir",
    "runtime_path",
    "setting_variables",
    "slot_bounds",
    "slot_environment",
    "socket_path",
    "temporary_dir",
    "write_private",
]

Durability = Literal["none", "process", "disk"]
"""What a hub's journal survives: the hub not at all, the end of any process, the loss of power."""

_PREFIX = "NBQ_"
_PLACES = {"NBQ_CONFIG", "NBQ_DATA_DIR", "NBQ_HUB", "NBQ_RUNTIME_DIR"}
_SLOTS = re.compile(r"(\d+)(?:\.\.(\d+))?")
_MOST_SLOTS = 4096
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SOCKET_PATH_LIMIT = 100
"""ZeroMQ refuses ipc paths of more than about 107 bytes; the rest is for its own suffixes."""


class Connection(Struct, frozen=True):
    """What a peer needs to reach a hub and to be let in: the content of a connection file.

    Keys are CURVE keys in Z85. ``token`` proves the role over ipc. ``payload_key`` (hexadecimal) seals
    payloads between clients and engines; viewers have none.
    """

    name: str
    role: Literal["client", "engine", "viewer"]
    endpoints: list[str]
    server_key: str
    public_key: str
    secret_key: str
    token: str
    payload_key: str = ""
    path: str = ""
    """Where the file was read, to read it (and the runtime file) again; empty in the file itself."""

    def __repr__(self) -> str:
        """Show no secrets."""
        return f"Connection(name={self.name!r}, role={self.role!r}, endpoints={self.endpoints!r})"


class RuntimeFile(Struct, frozen=True):
    """Who runs a hub of some name on this host, and where it listens."""

    name: str
    pid: int
    start: float
    endpoints: list[str]
    data: str
    server_key: str
    """The hub's public key: another hub may have run under this name, and its files may still be about."""


def hub_name() -> str:
    """Return the hub that is meant when none is named: a name, or the path of a connection file."""
    return os.environ.get("NBQ_HUB") or "default"


def setting_variables() -> dict[str, str]:
    """Return the ``NBQ_`` variables but those that say where things are, without that prefix.

    What a parent process of nbq hands down (``SETTINGS``) is taken out of the environment: it is not for
    what this process starts.
    """
    found = {
        name.removeprefix(_PREFIX): text
        for name, text in os.environ.items()
        if name.startswith(_PREFIX) and name not in _PLACES
    }
    os.environ.pop(f"{_PREFIX}SETTINGS", None)
    return found


def named_configuration() -> Path | None:
    """Return the file of settings that ``NBQ_CONFIG`` names, if it does."""
    named = os.environ.get("NBQ_CONFIG")
    return Path(named).expanduser().absolute() if named else None


def check_name(name: str) -> str:
    """Return a hub's name if it can be one.

    Raises:
        SettingsError: It has other than letters, digits, dots, dashes and underscores.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r} cannot be the name of a hub: use up to 64 letters, digits, '.', '-' and '_'"
        )
    return name


def data_dir(name: str) -> Path:
    """Return the data folder of a hub; it need not exist."""
    base = os.environ.get("NBQ_DATA_DIR")
    if base:
        return Path(base) / check_name(name)
    home = os.environ.get("XDG_DATA_HOME") or Path("~/.local/share").expanduser()
    return Path(home) / "nbq" / check_name(name)


def data_folder(where: str | None) -> Path:
    """Return the data folder of a hub: by its name where it keeps it, or by a connection file in it."""
    text = where or hub_name()
    if not _is_name(text):
        return Path(text).absolute().parent
    live = live_runtime(text)
    return data_dir(text) if live is None else Path(live.data)


def _is_name(text: str) -> bool:
    return not text.endswith(".json") and os.sep not in text


def runtime_dir() -> Path:
    """Return the folder of sockets and runtime files, made if it is missing.

    Raises:
        SettingsError: It is not private to this user.
    """
    given = os.environ.get("NBQ_RUNTIME_DIR")
    if given:
        return private_dir(Path(given))
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and Path(base).is_dir():
        return private_dir(Path(base) / "nbq")
    return private_dir(Path(tempfile.gettempdir()) / f"nbq-{os.getuid()}")


def socket_path(name: str) -> Path:
    """Return the path of a hub's socket; a short one where the usual one is too long for ZeroMQ."""
    path = runtime_dir() / f"{name}.sock"
    if len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT:
        return path
    digest = hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest()
    return private_dir(Path("/tmp") / f"nbq-{os.getuid()}") / f"{digest}.sock"  # noqa: S108 - 0700


def private_dir(path: Path) -> Path:
    """Make a folder that only this user can enter, or check that it is one.

    Raises:
        SettingsError: It is a link, belongs to somebody else, or is open to others.
    """
    with contextlib.suppress(FileExistsError):  # whatever is there is looked at below
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise SettingsError(f"{path} is not a folder (or is a link): name another one")
    if found.st_uid != os.getuid():
        raise SettingsError(f"{path} belongs to user {found.st_uid}: name a folder of your own")
    if found.st_mode & 0o077:
        raise SettingsError(f"{path} is open to other users: chmod 700 {path}")
    return path


def temporary_dir(kind: str) -> Path:
    """Make a folder that only this user can enter and that is worthless without this process.

    Those of the same kind that killed processes have left behind are deleted on the way.
    """
    pid = os.getpid()
    prefix = f"nbq-{kind}-"
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        owner, start, *_ = [*path.name.removeprefix(prefix).split("-"), "", ""]
        if owner.isdigit() and start.isdigit() and process_start(int(owner)) != float(start):
            with contextlib.suppress(OSError):
                if path.lstat().st_uid == os.getuid():
                    shutil.rmtree(path, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{prefix}{pid}-{process_start(pid):.0f}-"))


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only this user can read, as a whole, whatever the umask."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(part, flags, 0o600)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)


def read_private(path: Path) -> bytes:
    """Read a file of secrets.

    Raises:
        SettingsError: It is a link, belongs to somebody else, or others may read it.
        FileNotFoundError: There is none.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SettingsError(f"cannot read {path} ({error.strerror}); it must not be a link") from None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        if found.st_uid not in (os.getuid(), 0):
            raise SettingsError(f"{path} belongs to user {found.st_uid}, not to you")
        if found.st_mode & 0o077:
            raise SettingsError(f"{path} holds keys and is open to other users: chmod 600 {path}")
        return file.read()


def load_connection(path: Path) -> Connection:
    """Read a connection file.

    Raises:
        SettingsError: It is not one, or not private.
        FileNotFoundError: There is none.
    """
    try:
        found = msgspec.json.decode(read_private(path), type=Connection)
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path} is not a connection file of nbq: {error}") from None
    return refresh_endpoints(msgspec.structs.replace(found, path=str(path.absolute())))


def refresh_endpoints(connection: Connection) -> Connection:
    """Return a connection with the endpoints where its hub listens now, if it runs on this host."""
    live = live_runtime(connection.name)
    if live is None or live.server_key != connection.server_key:
        return connection
    return msgspec.structs.replace(connection, endpoints=live.endpoints)


def find_connection(where: str | Path | None, role: Literal["client", "engine", "viewer"]) -> Connection:
    """Return the connection to a hub, by the path of a connection file or by its name.

    Raises:
        HubUnreachable: No hub of this name was ever started here.
        SettingsError: The file is not one, or not private.
    """
    text = str(where) if where is not None else hub_name()
    path = Path(text)
    if _is_name(text):
        path = data_folder(text) / f"{role}.json"
        if not path.exists():
            raise HubUnreachable(
                f"no hub named {text!r} was ever started here ({path} is missing): "
                f"start one with 'nbq hub --name {text}', or use nbq.Cluster(slots=2)"
            )
    try:
        found = load_connection(path)
    except FileNotFoundError:
        raise HubUnreachable(f"there is no connection file {path}") from None
    if "engine" in (found.role, role) and found.role != role:
        whom = "an engine" if role == "engine" else f"a {role}"
        raise SettingsError(f"{path} is for the role {found.role}: {whom} needs {role}.json")
    return found


def runtime_path(name: str) -> Path:
    """Return the path of a hub's runtime file."""
    return runtime_dir() / f"{check_name(name)}.json"


def live_runtime(name: str) -> RuntimeFile | None:
    """Return who runs a hub of this name on this host now, or None."""
    try:
        content = runtime_path(name).read_bytes()
        found = msgspec.json.decode(content, type=RuntimeFile)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return found if process_start(found.pid) == found.start else None


def process_start(pid: int) -> float:
    """Return when a process started, in clock ticks since boot; 0.0 if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return _process_start_elsewhere(pid)
    return 0.0 if fields[0] == "Z" else float(fields[19])


def _process_start_elsewhere(pid: int) -> float:
    """Return the same from psutil, where there is no /proc."""
    if Path("/proc/self/stat").exists():
        return 0.0
    import psutil  # loaded only off Linux

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


def resident_bytes(pid: int) -> int:
    """Return the memory that a process has in use, in bytes; 0 if there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        pass
    if Path("/proc/self/statm").exists():
        return 0
    import psutil  # loaded only off Linux

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def slot_bounds(text: str) -> tuple[int, int, int]:
    """Return how many slots are meant, and the bounds between which they may be scaled (0 and 0 for none).

    Args:
        text: ``N``; ``N..M``, which begins with N; or ``auto``, from one to one a core.

    Raises:
        SettingsError: It is none of these.
    """
    if text == "auto":
        return 1, 1, os.cpu_count() or 1
    found = _SLOTS.fullmatch(text)
    if found is None:
        raise SettingsError(f"slots are a number, bounds such as 2..8, or auto; not {text!r}")
    slots, most = int(found[1]), int(found[2] or 0)
    if not 1 <= slots <= _MOST_SLOTS or (most and not slots <= most <= _MOST_SLOTS):
        raise SettingsError(
            f"an engine has 1 to {_MOST_SLOTS:,} slots, and bounds rise; {text!r} does not fit"
        )
    return (slots, slots, most) if found[2] else (slots, 0, 0)


def child_environment(settings: str = "") -> dict[str, str]:
    """Return the environment of a child process that runs nbq: this one's, where nbq is found.

    Args:
        settings: What it is to have as settings, in place of files and variables; empty for those.
    """
    home = str(Path(__file__).parent.parent)
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    found = dict(os.environ)
    if settings:
        found["NBQ_SETTINGS"] = settings
    if home not in paths and home not in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        found["PYTHONPATH"] = os.pathsep.join([*paths, home])
    return found


def slot_environment(engine_file: str, settings: str = "") -> dict[str, str]:
    """Return the environment of a slot, with the hub that its tasks are to find.

    They are clients, so that is the client's connection file, if there is one beside the engine's.
    ``settings`` as for ``child_environment``.
    """
    client_file = Path(engine_file).with_name("client.json")
    hub = str(client_file) if client_file.exists() else engine_file
    return {**child_environment(settings), "NBQ_HUB": hub}


def kernel_environment(paths: list[str]) -> dict[str, str]:
    """Return the environment of a kernel that a task starts: this process's, with what it can import.

    Args:
        paths: Where this process finds modules; what belongs to its Python is left out.
    """
    found = child_environment()
    own = {sys.prefix, sys.base_prefix}
    others = [path for path in paths if path and not any(Path(path).is_relative_to(home) for home in own)]
    given = [path for path in found.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {
        **found,
        "JPY_PARENT_PID": str(os.getpid()),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys([*others, *given])),
    }
