"""Hosts on one machine: nothing of one is found from another, but for the files that are copied."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from nbq.settings import Connection, RuntimeFile
from tests.processes.harness import World, until

_ENTER = (
    "import os, sys; os.execvp('ip', ['ip', 'netns', 'exec', sys.argv[1], sys.executable, *sys.argv[2:]])"
)


class Host(World):
    """A host: folders of its own, and where it has one, a network of its own.

    Args:
        folder: A short path.
        network: A network namespace in which its processes run; empty for this one.
    """

    def __init__(self, folder: Path, network: str = "") -> None:
        super().__init__(folder)
        self.network = network

    def python(self, *arguments: str, capture: bool = False) -> subprocess.Popen[str]:
        """Start Python on this host."""
        inside = ("-c", _ENTER, self.network) if self.network else ()
        return super().python(*inside, *arguments, capture=capture)

    def listens(self, name: str, process: subprocess.Popen[str]) -> bool:
        """Return whether a hub that was started on this host listens; fail if it has ended."""
        assert process.poll() is None, self.log.read_text()
        path = self.runtime / f"{name}.json"
        return path.exists() and msgspec.json.decode(path.read_bytes(), type=RuntimeFile).pid == process.pid

    def file(self, role: str, name: str = "default") -> Path:
        """Return the path of a connection file of a hub of this host."""
        return self.data / name / f"{role}.json"

    def connection(self, role: str, name: str = "default") -> Connection:
        """Return the content of a connection file of a hub of this host."""
        return msgspec.json.decode(self.file(role, name).read_bytes(), type=Connection)

    def port(self, name: str = "default") -> int:
        """Return the TCP port of a hub of this host."""
        port = urlsplit(self.connection("engine", name).endpoints[0]).port
        assert port is not None
        return port

    def take(self, file: Path) -> Path:
        """Copy a file to this host, with its mode."""
        return Path(shutil.copy2(file, self.folder))

    def write(self, connection: Connection, file: str) -> Path:
        """Write a connection file on this host."""
        path = self.folder / file
        path.touch(0o600)
        path.write_bytes(msgspec.json.encode(connection))
        return path

    def said(self, text: str) -> str:
        """Wait until a process of this host has logged a text; returns its line, without time and level."""
        return until(lambda: [line for line in self.logged() if text in line], text)[0]

    def logged(self) -> list[str]:
        """Return the lines that processes of this host have logged, without time and level."""
        return [_STAMP.sub("", line) for line in self.log.read_text().splitlines()]


_STAMP = re.compile(r"^[-0-9]{10} [:0-9]{8} [A-Z]+ ")


def free_port() -> int:
    """Return a TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
