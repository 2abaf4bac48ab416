"""The hub process from its start to its end: locks, keys, journal, sockets, signals, the loop.

Decides nothing about work; that is the hub's. A data folder and a name serve one hub at a time.
"""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from nbq.blobs import BlobFolder
from nbq.core.model import Now
from nbq.core.scheduler import Limits
from nbq.errors import StoreError
from nbq.hub import Hub, HubInfo
from nbq.journal import Journal
from nbq.logs import Log, LogFormat, configure
from nbq.security import Keyring, create_keys, publish_endpoints
from nbq.settings import (
    Durability,
    RuntimeFile,
    check_name,
    child_environment,
    data_dir,
    private_dir,
    process_start,
    runtime_dir,
    runtime_path,
    socket_path,
    write_private,
)
from nbq.transport import HubEndpoint
from nbq.version import versions

__all__ = ["HubOptions", "run_hub"]

_TURN_S = 1.0


class HubOptions(Struct, frozen=True):
    """How a hub is to run.

    Args:
        name: Its name on this host.
        data: The folder of its journal, keys and blobs; empty for the usual one of its name.
        bind: TCP addresses to listen on, beside the local socket.
        advertise: What other hosts dial instead of the bound host.
        durability: What its journal survives (``journal.Journal``).
        idle_exit_s: End after so long without work and clients; None for never.
        parent: A process with which the hub ends, or 0.
        limits: The scheduler's bounds.
        schedules: ``apply`` those that files declare; ``tidy``: do so if there are any that files declared,
            since none does any more; or ``leave`` them.
        log_format: How it writes its log.
        log_levels: What it writes there (``logs.levels``).
    """

    name: str = "default"
    data: str = ""
    bind: list[str] = []
    advertise: str | None = None
    durability: Durability = "disk"
    idle_exit_s: float | None = None
    parent: int = 0
    limits: Limits = Limits()
    schedules: Literal["apply", "tidy", "leave"] = "leave"
    log_format: LogFormat = "text"
    log_levels: list[str] = []


def run_hub(options: HubOptions) -> int:
    """Run a hub until it is told to end; returns the exit code.

    Raises:
        StoreError: Its data folder or name is in use (by the process named), or cannot be used.
        SettingsError: A name, address, folder or log level cannot be used.
    """
    configure("hub", options.log_format, options.log_levels)
    log = Log("hub")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until it serves, there is nothing to finish
    folder = private_dir(Path(options.data).absolute() if options.data else data_dir(options.name))
    with ExitStack() as stack:
        stack.enter_context(_lock(folder / "hub.lock", f"the data folder {folder}"))
        name_lock = runtime_dir() / f"{check_name(options.name)}.lock"
        stack.enter_context(_lock(name_lock, f"the name {options.name!r}"))
        if options.parent:  # its name is its own: nobody else can be about to take this lock
            stack.callback(name_lock.unlink)
        journal = Journal(folder, options.durability)
        stack.callback(journal.close)
        create_keys(folder, options.name)
        keyring = Keyring(folder)
        stack.callback(socket_path(options.name).unlink, missing_ok=True)
        endpoint = HubEndpoint(socket_path(options.name), options.bind, keyring, options.advertise)
        stack.callback(endpoint.close)
        stop = _stop_on_signals(endpoint.wake)
        _publish(options.name, folder, keyring.public_key, endpoint.endpoints)
        stack.callback(runtime_path(options.name).unlink, missing_ok=True)
        info = HubInfo(options.name, options.durability, os.getpid(), versions())
        blobs = BlobFolder(folder / "blobs")
        hub = Hub(endpoint, journal, _now, info, keyring.identify, blobs, options.limits)
        _say(log, options, folder, endpoint.endpoints, hub)
        gc.freeze()
        gc.disable()  # the hub makes no circles that matter, and a full collection would be a long turn
        applying = _apply_schedules(options, folder, hub)
        while not (stop() or _done(options, hub)):
            hub.turn(_TURN_S)
            if applying is not None and applying.poll() is not None:
                applying = None
        hub.stop()
        if applying is not None:
            applying.terminate()
            applying.wait()
        log.info("it has committed what it was told, and ends")
    return 0


def _apply_schedules(options: HubOptions, folder: Path, hub: Hub) -> subprocess.Popen[bytes] | None:
    """Let a child process, which is a client, make schedules what files declare; the hub reads no canvas.

    What is wrong in the files it says where this hub's log goes, and ends.
    """
    there = hub.scheduler.ledger.schedules.values()
    if not (
        options.schedules == "apply" or (options.schedules == "tidy" and any(s.spec.source for s in there))
    ):
        return None
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "nbq", "schedule", "apply", "--hub", str(folder / "client.json")],
        stdin=subprocess.DEVNULL, stdout=sys.stderr, env=child_environment(),
    )  # fmt: skip


@contextmanager
def _lock(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file, with this process's number in it, while a hub runs."""
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 32).decode(errors="replace").strip() or "another process"
            raise StoreError(
                f"{what} is in use by the hub with pid {holder}: stop that one, or choose another with "
                "--name and --data"
            ) from None
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        yield
    finally:
        os.close(handle)


def _stop_on_signals(wake: Callable[[], None]) -> Callable[[], bool]:
    """Let SIGTERM and SIGINT end the loop after its turn; returns what asks whether one came."""
    came: list[int] = []

    def on_signal(signum: int, _frame: object) -> None:
        came.append(signum)
        wake()

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, on_signal)
    return lambda: bool(came)


def _done(options: HubOptions, hub: Hub) -> bool:
    if options.parent and os.getppid() != options.parent:
        return True
    return options.idle_exit_s is not None and time.monotonic() - hub.served_s > options.idle_exit_s


def _publish(name: str, folder: Path, server_key: str, endpoints: list[str]) -> None:
    """Say where this hub listens: to this host by its runtime file, to others by connection files."""
    pid = os.getpid()
    runtime = RuntimeFile(name, pid, process_start(pid), endpoints, str(folder), server_key)
    publish_endpoints(folder, [text for text in endpoints if not text.startswith("ipc://")])
    write_private(runtime_path(name), msgspec.json.encode(runtime))  # last: who sees it may copy the others


def _now() -> Now:
    return Now(time.monotonic(), time.time())


def _say(log: Log, options: HubOptions, folder: Path, endpoints: list[str], hub: Hub) -> None:
    log.info(f"{options.name!r} (pid {os.getpid()}) listens at {' and '.join(endpoints)}")
    left = hub.scheduler.ledger.left
    recovered = f", {left:,} unfinished tasks recovered" if left else ""
    log.info(f"data {folder}, durability {options.durability}{recovered}")
    if any(text.startswith(("tcp://0.0.0.0:", "tcp://[::]:")) for text in endpoints):
        log.warning("other hosts cannot dial that address: name this one with --advertise HOST")
