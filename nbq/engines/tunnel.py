"""A way to a hub behind ssh: ``nbq engine --hub engine.json --via user@host``.

Runs the system's ssh, which knows the user's keys, agents, jumps and habits; what travels inside is
encrypted by CURVE all the same. The far end is a ``cat`` that ends when this process does, however it ends,
and ssh with it: so no tunnel outlives its engine.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

from nbq.errors import HubUnreachable, SettingsError
from nbq.settings import Connection

__all__ = ["Tunnel"]

_OPEN_S = 20.0
_POLL_S = 0.05
_AGAIN_S = 2.0
_TAIL_BYTES = 500


class Tunnel:
    """An ssh process that forwards a local port to a hub.

    Args:
        via: Where ssh goes: ``user@host``, or a name of ssh's configuration.
        connection: Of the hub, with the TCP address that is dialled from there.
        say: Takes a line for the log.

    Attributes:
        connection: Of the hub, as it is dialled from here.

    Raises:
        SettingsError: The hub has no TCP address, or there is no ssh here.
        HubUnreachable: The tunnel could not be opened; the message has what ssh said.
    """

    def __init__(self, via: str, connection: Connection, say: Callable[[str], None]) -> None:
        addresses = [text for text in connection.endpoints if text.startswith("tcp://")]
        if not addresses:
            raise SettingsError(
                f"the hub {connection.name!r} listens at no TCP address: start it with "
                "'nbq hub --bind tcp://127.0.0.1:0' and copy its engine.json again"
            )
        far = urlsplit(addresses[0])
        self._target = f"{far.hostname}:{far.port}"
        self._via = via
        self._say = say
        self._port = _free_port()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the tunnel
        self._opened_s = 0.0
        self.connection = msgspec.structs.replace(connection, endpoints=[f"tcp://127.0.0.1:{self._port}"])
        self._ssh = self._open()
        self._wait()

    def _open(self) -> subprocess.Popen[bytes]:
        self._opened_s = time.monotonic()
        command = [
            "ssh", "-o", "ExitOnForwardFailure=yes", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15",
            "-L", f"127.0.0.1:{self._port}:{self._target}", self._via, "cat",
        ]  # fmt: skip
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise SettingsError("--via needs ssh: install it (Debian: openssh-client)") from None

    def _wait(self) -> None:
        until_s = time.monotonic() + _OPEN_S
        while not self._listens():
            if self._ssh.poll() is not None or time.monotonic() > until_s:
                said = self._said()
                self.close()
                raise HubUnreachable(f"ssh to {self._via} opened no way to the hub at {self._target}{said}")
            time.sleep(_POLL_S)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), 1.0).close()
        except OSError:
            return False
        return True

    def _said(self) -> str:
        self._log.seek(0)
        text = self._log.read()[-_TAIL_BYTES:].decode(errors="replace").strip()
        return f"; it said: {text}" if text else ""

    def keep(self) -> None:
        """Open it again if it has ended, but not at once after the last time."""
        if self._ssh.poll() is not None and time.monotonic() - self._opened_s > _AGAIN_S:
            self._say(f"the ssh tunnel through {self._via} ended{self._said()}: opening it again")
            self._log.seek(0)
            self._log.truncate()
            self._ssh = self._open()

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(ProcessLookupError):
            self._ssh.kill()
        self._ssh.wait()
        if self._ssh.stdin is not None:
            self._ssh.stdin.close()
        self._log.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
