"""``nbq.Cluster``: a hub and an engine on this machine, as child processes.

Unnamed, it has temporary data and ends with its ``with`` block or with this process, however that ends.
Named, its data lies in the user's folder, it outlives this process until it is idle for 15 minutes or
``stop`` is called, and the same call finds it again.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nbq.client import Client, connect
from nbq.configuration import SERVING, check_scope, current_settings, dump, override
from nbq.errors import HubError, HubUnreachable, NbqError
from nbq.security import create_keys
from nbq.settings import (
    Durability,
    child_environment,
    data_dir,
    live_runtime,
    private_dir,
    runtime_path,
    slot_bounds,
    temporary_dir,
)

__all__ = ["Cluster"]

_READY_S = 60.0
_STOP_S = 10.0
_IDLE_EXIT_S = 15 * 60.0
_ENGINE_PATIENCE_S = 60.0
"""How long a named cluster's engine waits for its hub before it takes it to have ended for good."""
_POLL_S = 0.01
_TAIL_BYTES = 2000


class Cluster:
    """A hub and one engine on this machine.

    Args:
        slots: How many tasks run at a time; the setting ``concurrency``, else one for each core. As text also
            bounds (``"2..8"``: as many as the work needs) or ``"auto"`` (from one to one for each core).
        name: A name under which it outlives this process; None for a temporary one.
        durability: What its journal survives: ``none``, ``process`` or ``disk``.
        queues: What its engine takes work from; the default queue and the declared ones unless given.
        include: Modules that every slot imports at its start.
        bind: TCP addresses on which its hub listens for other hosts.
        timeout: Seconds to wait until it is ready.
        settings: Fields of ``nbq.Settings``, for its client, hub and engine, over those of this process.

    Attributes:
        client: A client of its hub.

    Raises:
        HubUnreachable: It was not ready in time, or ended; the message has the last of its log.
        SettingsError: There is no such setting, or it does not fit; or there cannot be so many slots.
    """

    def __init__(
        self,
        slots: int | str | None = None,
        *,
        name: str | None = None,
        durability: Durability = "process",
        queues: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
        bind: Iterable[str] = (),
        timeout: float = _READY_S,
        **settings: Any,
    ) -> None:
        count = slot_bounds(str(slots))[0] if slots is not None else None
        self.name = name or f"cluster-{os.getpid()}-{secrets.token_hex(3)}"
        named = {"concurrency": count, "queues": queues, "include": include}
        self._own = settings | {
            key: value if isinstance(value, int) else tuple(value)
            for key, value in named.items()
            if value is not None
        }
        check_scope(self._own, "Cluster()", serving=True)
        merged = override(current_settings(), self._own, "Cluster()")
        self._settings = dump(merged)
        self._slots = str(slots or merged.concurrency or os.cpu_count() or 1)
        self._temporary = name is None
        self._queues = list(merged.queues) if queues is not None else [merged.default_queue, *merged.queues]
        self._owner = os.getpid()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._stopped = False
        self._folder = temporary_dir("cluster") if self._temporary else private_dir(data_dir(name or ""))
        self._log = self._folder / "cluster.log"
        self._engine_name = f"{self.name}-engine"
        try:
            self.client = self._start(durability, list(bind), time.monotonic() + timeout)
        except BaseException:  # Ctrl-C too: nothing of a cluster that did not start stays
            self._end_processes(signal.SIGTERM)
            self._remove_folder()
            raise
        if self._temporary:
            atexit.register(self.stop)

    # -------------------------------------------------------------- starting

    def _start(self, durability: Durability, bind: list[str], until_s: float) -> Client:
        create_keys(self._folder, self.name)
        if self._temporary or live_runtime(self.name) is None:
            binds = [part for address in bind for part in ("--bind", address)]
            self._spawn(
                "hub", "--name", self.name, "--data", str(self._folder), "--durability", durability,
                "--no-schedules", *binds,
            )  # fmt: skip
            self._spawn_engine()
        client = self._connect(until_s)
        try:
            while not any(engine.info.name == self._engine_name for engine in client.engines()):
                if not self._processes:
                    self._spawn_engine()
                self._check(until_s, "its engine")
        except BaseException:  # Ctrl-C too: nobody would close it, and calls would go to it
            client.close(0.0)
            raise
        return client

    def _connect(self, until_s: float) -> Client:
        path = self._folder / "client.json"
        while live_runtime(self.name) is None:
            self._check(until_s, "its hub")
        own = {name: value for name, value in self._own.items() if name not in SERVING}
        return connect(path, max(1.0, until_s - time.monotonic()), **own)

    def _check(self, until_s: float, what: str) -> None:
        """Wait a moment for a part that is not there yet.

        Raises:
            HubUnreachable: It ended, or the time is over.
        """
        ended = [process for process in self._processes if process.poll() is not None]
        if ended or time.monotonic() > until_s:
            why = f"ended with exit code {ended[0].returncode}" if ended else "was not ready in time"
            raise HubUnreachable(f"cluster {self.name!r}: {what} {why}{self._tail()}")
        time.sleep(_POLL_S)

    def _spawn_engine(self) -> None:
        paths = [part for folder in sys.path for part in ("--slot-path", folder or str(Path.cwd()))]
        patience = [] if self._temporary else ["--hub-timeout", f"{_ENGINE_PATIENCE_S:g}"]
        self._spawn(
            "engine", "--hub", str(self._folder / "engine.json"), "--name", self._engine_name,
            "--slots", self._slots, "--queues", ",".join(self._queues), *paths, *patience,
        )  # fmt: skip

    def _spawn(self, command: str, *arguments: str) -> None:
        own = ["--parent", str(os.getpid())] if self._temporary else []
        if command == "hub" and not self._temporary:
            own = ["--idle-exit", f"{_IDLE_EXIT_S:g}"]
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "nbq", command, *arguments, *own],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=child_environment(self._settings), start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)

    def _tail(self) -> str:
        try:
            text = self._log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
        except OSError:
            return ""
        return f"; its log ends with:\n{text}" if text else ""

    # -------------------------------------------------------------- ending

    def stop(self) -> None:
        """Cancel what is unfinished (a warning says how many tasks that were), and end everything."""
        if self._stopped or os.getpid() != self._owner:
            return
        self._stopped = True
        atexit.unregister(self.stop)
        with contextlib.ExitStack() as ending:  # all of it, though a warning may be an error
            ending.callback(self._end)
            ending.callback(self.client.close)
            if not self.client.closed:
                self._cancel_rest()

    def _end(self) -> None:
        if self._temporary:
            self._end_processes(signal.SIGTERM)
            self._remove_folder()
        else:
            self._end_named()

    def _remove_folder(self) -> None:
        if self._temporary:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _cancel_rest(self) -> None:
        try:
            count = self.client.cancel_all()
        except HubError:
            return  # the hub is gone, and what it had with it
        if count:
            warnings.warn(f"nbq: {count} unfinished tasks were cancelled with their cluster", stacklevel=4)

    def _end_processes(self, signum: signal.Signals) -> None:
        """End the engine, then its hub."""
        for process in reversed(self._processes):
            process.send_signal(signum)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _end_named(self) -> None:
        live = live_runtime(self.name)
        pids = [live.pid] if live is not None else []
        with contextlib.suppress(NbqError), connect(self._folder / "client.json", 5.0) as client:
            pids[:0] = [e.info.pid for e in client.engines() if e.info.name == self._engine_name]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        until_s = time.monotonic() + _STOP_S
        while runtime_path(self.name).exists() and time.monotonic() < until_s:
            time.sleep(_POLL_S)
        for process in self._processes:
            process.poll()

    def __enter__(self) -> Client:
        """Be the cluster that is meant when no client is named; returns its client."""
        return self.client.__enter__()

    def __exit__(self, *_exc: object) -> None:
        """End it, if it is unnamed; hang up, if it is named."""
        if self._temporary:
            self.stop()
        else:
            self.client.close()

    def __repr__(self) -> str:
        """Show name and slots."""
        return f"<nbq cluster {self.name!r}, {self._slots} slots>"
