"""The floor: three bare pyzmq processes, client → ROUTER → worker and back, and no logic at all.

The messages are pickled calls and pickled values, as an engine's would be. Nothing is queued, kept, retried
or named: whatever nbq takes above this is the price of what it promises.
"""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
from pathlib import Path
from typing import Any

import zmq

from benchmarks import script, work

CLIENT, WORKER = b"c", b"w"
BLOCK = 256
"""Calls per message in the chunked form, as many as an nbq block holds."""


def _socket(kind: int, identity: bytes = b"") -> zmq.Socket[bytes]:
    socket = zmq.Context.instance().socket(kind)
    socket.set_hwm(0)
    if identity:
        socket.setsockopt(zmq.IDENTITY, identity)
    return socket


def route(address: str) -> None:
    """Tell the client when both are there, then pass messages on, for ever."""
    router = _socket(zmq.ROUTER)
    router.bind(address)
    other = {CLIENT: WORKER, WORKER: CLIENT}
    for _ in other:
        router.recv_multipart()
    router.send_multipart([CLIENT, b""])
    while True:
        sender = router.recv()
        message = router.recv(copy=False)
        router.send(other[sender], zmq.SNDMORE)
        router.send(message, copy=False)


def serve(address: str) -> None:
    """Run what is called and send its values back, for ever."""
    socket = _socket(zmq.DEALER, WORKER)
    socket.connect(address)
    socket.send(b"")
    while True:
        function, calls = pickle.loads(socket.recv())
        socket.send(pickle.dumps([function(*args) for args in calls], 5))


class Raw:
    """The client's end."""

    def __init__(self, address: str) -> None:
        self.socket = _socket(zmq.DEALER, CLIENT)
        self.socket.connect(address)
        self.socket.send(b"")
        self.socket.recv()

    def call(self, function: Any, argument: Any) -> Any:
        """Make one call and return its value."""
        self.send(function, [(argument,)])
        return self.receive()[0]

    def send(self, function: Any, calls: list[tuple[Any, ...]]) -> None:
        """Send calls in one message."""
        self.socket.send(pickle.dumps((function, calls), 5))

    def receive(self) -> list[Any]:
        """Return the values of one message."""
        return pickle.loads(self.socket.recv())

    def rate(self, n: int, block: int) -> float:
        """Return calls per second, n calls in messages of a block each."""
        blocks = [[(i,) for i in range(lo, min(lo + block, n))] for lo in range(0, n, block)]

        def all_of_them() -> None:
            for calls in blocks:
                self.send(work.noop, calls)
            for _ in blocks:
                self.receive()

        return n / script.seconds(all_of_them)


def main() -> None:
    """Measure the rows that have a floor."""
    start = multiprocessing.get_context("spawn").Process
    with tempfile.TemporaryDirectory() as folder:
        address = f"ipc://{Path(folder) / 'raw'}"
        others = [start(target=target, args=(address,), daemon=True) for target in (route, serve)]
        for process in others:
            process.start()
        raw = Raw(address)
        script.run(
            {
                "map": lambda n: {"rate": raw.rate(n, 1), "chunked": raw.rate(n, BLOCK)},
                "delay": lambda n: {"rate": raw.rate(n, 1)},
                "trip": lambda n: script.round_trips(lambda: raw.call(work.noop, None), n),
                "array": lambda n: {"none": 1e3 * script.there_and_back(lambda a: raw.call(work.same, a), n)},
            },
            {"pyzmq": zmq.__version__, "libzmq": zmq.zmq_version()},
        )
        for process in others:
            process.kill()


if __name__ == "__main__":
    main()
