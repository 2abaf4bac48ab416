"""A link between two hosts that can be cut: namespaces, or a relay where those are not permitted."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Protocol

from tests.network.conftest import made
from tests.network.hosts import Host, free_port

_FAR = "127.0.0.2"


class Link(Protocol):
    """What joins two hosts.

    Attributes:
        here: The host of the hub.
        there: The host of an engine.
        bind: Where the hub listens.
        advertise: What is dialled from the other host.
    """

    here: Host
    there: Host
    bind: str
    advertise: str

    def cut(self) -> None:
        """Let nothing pass."""
        ...

    def mend(self) -> None:
        """Let everything pass again."""
        ...


def _ip(*words: str) -> bool:
    done = subprocess.run(["ip", *words], capture_output=True, check=False)
    return done.returncode == 0


def namespaces_permitted() -> bool:
    """Return whether this process may make network namespaces."""
    if shutil.which("ip") is None or os.getuid() != 0:
        return False
    name = f"nbq-try-{os.getpid()}"
    return _ip("netns", "add", name) and _ip("netns", "delete", name)


class Namespaces:
    """Two namespaces and a pair of virtual interfaces."""

    bind = "tcp://0.0.0.0:0"
    advertise = "10.77.0.1"

    def __init__(self, here: Host, there: Host) -> None:
        self.here = here
        self.there = there

    def cut(self) -> None:
        """Take the hub's end down."""
        assert _ip("-n", self.here.network, "link", "set", "wire", "down")

    def mend(self) -> None:
        """Take it up again."""
        assert _ip("-n", self.here.network, "link", "set", "wire", "up")


@contextlib.contextmanager
def _namespaces() -> Iterator[Link]:
    names = [f"nbq-{os.getpid()}-{end}" for end in ("here", "there")]
    try:
        for name in names:
            assert _ip("netns", "add", name)
        pair = ["link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", names[1]]
        assert _ip("-n", names[0], *pair)
        for number, name in enumerate(names, 1):
            assert _ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", "wire")
            assert _ip("-n", name, "link", "set", "wire", "up")
        with made(names[0]) as here, made(names[1]) as there:
            yield Namespaces(here, there)
    finally:
        for name in names:
            _ip("netns", "delete", name)


class Relay:
    """A relay on another address of loopback, before the hub: cut, it swallows what comes."""

    advertise = _FAR

    def __init__(self, here: Host, there: Host) -> None:
        self.here = here
        self.there = there
        self.port = free_port()
        self.bind = f"tcp://127.0.0.1:{self.port}"
        self._passes = threading.Event()
        self._passes.set()
        self._joined: list[tuple[socket.socket, socket.socket]] = []
        self._listening = socket.create_server((_FAR, self.port))
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                near, _ = self._listening.accept()
                if not self._passes.is_set():
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self.port))
                for a, b in ((near, far), (far, near)):
                    self._joined.append((a, b))
                    self._threads.append(threading.Thread(target=self._pass_on, args=(a, b)))
                    self._threads[-1].start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the other direction has ended
            while data := source.recv(65536):
                if self._passes.is_set():
                    sink.sendall(data)
        self._passes.wait()  # an end is not told, either, while the link is cut
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Swallow what comes, and greet nobody."""
        self._passes.clear()

    def mend(self) -> None:
        """Pass on what comes."""
        self._passes.set()

    def close(self) -> None:
        """End every thread."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._threads[0].join()
        self.mend()
        for end, _ in self._joined:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end, _ in self._joined:
            end.close()


@contextlib.contextmanager
def _relay() -> Iterator[Link]:
    with made() as here, made() as there:
        relay = Relay(here, there)
        try:
            yield relay
        finally:
            relay.close()


LINK = "namespaces" if namespaces_permitted() else "relay-on-127.0.0.2"


@contextlib.contextmanager
def linked() -> Iterator[Link]:
    """Make two hosts and the link between them."""
    with _namespaces() if LINK == "namespaces" else _relay() as link:
        yield link
