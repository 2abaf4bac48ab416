"""Real servers of the stores, on free ports and in folders of their own, for as long as a test needs them."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PASSWORD = "s3cr3t-of-the-store"
_START_S = 20.0


class Server:
    """A server program in a folder; it can be stopped and started again where it was.

    Args:
        command: What runs it.
        folder: Where it works; removed when it is ended.
        user: Whom it runs as; None for who runs the tests.
        ready: Tells whether it answers.
        ending: The signal that ends it at once.
    """

    def __init__(
        self, command: list[str], folder: Path, user: str | None, ready: Callable[[], bool],
        ending: signal.Signals = signal.SIGTERM,
    ) -> None:  # fmt: skip
        self.url = ""
        self.folder = folder
        self._command, self._user = command, user
        self._ready, self._ending = ready, ending
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Return whether it was started, and not stopped since."""
        return self._process is not None

    def start(self) -> None:
        """Start it, and return when it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self.folder, stdout=log, stderr=log, user=self._user
            )
        deadline_s = time.monotonic() + _START_S
        while not self._ready():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline_s, (self.folder / "log").read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        """End it; what it holds on disk stays."""
        if self._process is not None:
            self._process.send_signal(self._ending)
            self._process.wait(_START_S)
            self._process = None

    def end(self) -> None:
        """End it, and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder)


def redis() -> Server:
    """Start Redis with a password; ``url`` is its TCP port, its socket is ``redis.sock`` in ``folder``."""
    program = _program("redis-server", "redis-server")
    folder, port = _folder(None), _free_port()
    options = f"--port {port} --bind 127.0.0.1 --unixsocket {folder}/redis.sock --requirepass {PASSWORD}"
    server = Server(
        [program, *options.split(), "--dir", str(folder), "--save", "", "--appendonly", "yes"],
        folder, None, lambda: _answers(port),
    )  # fmt: skip
    server.url = f"redis://:{PASSWORD}@127.0.0.1:{port}/1"
    server.start()
    return server


def memcached() -> Server:
    """Start memcached."""
    program = _program("memcached", "memcached")
    folder, port = _folder(None), _free_port()
    command = [program, "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "1", "-u", _name()]
    server = Server(command, folder, None, lambda: _answers(port), signal.SIGKILL)
    server.url = f"memcached://127.0.0.1:{port}"
    server.start()
    return server


def postgresql() -> Server:
    """Start PostgreSQL with a password, as the user whom Debian's package makes: it does not run as root."""
    places = [str(path) for path in Path("/usr/lib/postgresql").glob("*/bin")]
    program = _program("postgres", "postgresql", *places)
    user = "postgres" if os.getuid() == 0 else None
    folder, port = _folder(user), _free_port()
    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)  # the folder is private
    init = [
        str(Path(program).resolve().parent / "initdb"),
        "-D",
        str(folder / "data"),
        "-U",
        "nbq",
        "-A",
        "scram-sha-256",
    ]
    subprocess.run(
        [*init, "--no-sync", "-E", "UTF8", "--locale", "C", "--pwfile", str(secret)],
        cwd=folder, user=user, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    options = f"-k {folder} -h 127.0.0.1 -p {port} -c fsync=off -c shared_buffers=16MB".split()
    server = Server(
        [program, "-D", str(folder / "data"), *options], folder, user,
        lambda: _answers(port) and _accepts(port), signal.SIGINT,
    )  # fmt: skip
    server.url = f"postgresql://nbq:{PASSWORD}@127.0.0.1:{port}/postgres"
    server.start()
    return server


def _accepts(port: int) -> bool:
    """Return whether the database is up; it takes connections before it is."""
    import psycopg

    try:
        psycopg.connect(f"host=127.0.0.1 port={port} user=nbq password={PASSWORD} dbname=postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


def _program(name: str, package: str, *places: str) -> str:
    """Return a program's path; without it the test is skipped, but for root, for whom dev.py installs it."""
    found = shutil.which(
        name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", *places])
    )
    if found is None and os.getuid() != 0:
        pytest.skip(f"needs {name} (Debian: {package}), and root to install it")
    assert found is not None, f"there is no {name}: python3 dev.py test installs it (Debian: {package})"
    return found


def _folder(user: str | None) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="nbq-s-"))  # short: sockets lie in it
    if user is not None:
        shutil.chown(folder, user)
    return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _name() -> str:
    return pwd.getpwuid(os.getuid()).pw_name
