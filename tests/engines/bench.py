"""A real slot process on a bench: work goes in, and what comes out is kept."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from nbq import payload
from nbq.core.model import Many, Slice
from nbq.engines import pipe
from nbq.engines.child import Child
from nbq.functions import named
from nbq.wire import Block, Feed

KEY = bytes(range(32))
RUN = bytes(range(16))
DEADLINE_S = 10.0
_ROOT = str(Path(payload.__file__).parents[1])


class Bench:
    """One slot.

    Attributes:
        results: By element of any lease: True and its value, or False and its exception.
        output: By element: what it printed.
        alive: Whether the process is there.
    """

    def __init__(self, folder: Path, include: list[str] | None = None, limit: int = 1 << 30) -> None:
        self.folder = folder
        init = pipe.Init(KEY, "bench", include or [], sys.path, str(folder), limit)
        self.child = Child({**os.environ, "NBQ_HUB": "", "PYTHONPATH": _ROOT}, init)
        self.results: dict[int, tuple[bool, Any]] = {}
        self.output: dict[int, tuple[str, str]] = {}
        self.messages: list[pipe.FromSlot] = []
        self.alive = True
        self._finished = 0
        self._token = 0

    def started(self) -> Bench:
        """Wait until it is ready."""
        self.until(lambda: bool(self.messages))
        return self

    def hello(self) -> pipe.Hello:
        """Return what it said first."""
        first = self.started().messages[0]
        assert isinstance(first, pipe.Hello)
        return first

    def function(self, function: Callable[..., Any] | bytes) -> bytes:
        """Make a function known; returns its address."""
        if isinstance(function, bytes):
            data = function
        else:
            data = msgspec.msgpack.encode(("pickle", payload.dump_function(function)))
        address, data = payload.seal_function(KEY, data)
        if not self.child.knows_function(address):
            self.child.send(pipe.FunctionBody(address, data, str(self.folder)))
        return address

    def named(self, name: str, module: str | None) -> bytes:
        """Make a task known by its name; returns the function's address."""
        return self.function(named(name, module))

    def give(self, function: Callable[..., Any] | bytes, calls: list[tuple[Any, ...]], **changes: Any) -> int:
        """Give it calls as one lease from element 0 on; returns the lease's token."""
        address = function if isinstance(function, bytes) else self.function(function)
        return self.give_raw(address, [bytes(payload.dump_call(call, {})) for call in calls], **changes)

    def give_raw(
        self, address: bytes, calls: list[bytes] | None, feed: Feed | None = None, **changes: Any
    ) -> int:
        """Give it calls as they travel."""
        self._token += 1
        if feed is not None:
            self.child.send(pipe.Feeding(self._token, RUN, feed, str(self.folder)))
        count = changes.pop("count", len(calls or ()))
        lo = changes.pop("lo", 0)
        work = pipe.Work(
            self.child.next_position(count), self._token, RUN, 0, lo, lo + count, 1, "bench.task", address,
            calls, False, "", str(self.folder), False, {},
        )  # fmt: skip
        work = msgspec.structs.replace(work, **changes)
        self.child.gave(work)
        self.child.send(work)
        return self._token

    def until(self, condition: Callable[[], bool]) -> None:
        """Take in what it says until a condition holds."""
        until_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < until_s, "it did not happen in time"
            assert self.alive, f"the slot is gone: {self.child.evidence()}"
            select.select([self.child.fd], [], [], 0.05)
            self.child.flush()
            self.take_in()

    def take_in(self) -> None:
        """Take in what it has said."""
        messages, alive = self.child.receive()
        self.alive = self.alive and alive
        for message in messages:
            self.messages.append(message)
            if isinstance(message, pipe.Finished):
                self._finished += 1
                self.child.finished(message.position)
            elif isinstance(message, pipe.Results):
                self._keep(message)

    def _keep(self, message: pipe.Results) -> None:
        if message.blob:
            where = payload.origin("result", RUN, 0, message.lo)
            block = payload.unseal(KEY, where, payload.map_blob(self.folder, message.blob))
            self.results[message.lo] = True, payload.loads(block.element(0))
            for place, printed in payload.load_extras(block.extras)[2].items():
                self.output[message.lo + place] = printed
            return
        for place, element in enumerate(message.elements):
            good = not message.states or message.states[place] == 6
            value = element and payload.loads(element) if good else payload.load_failure(element, "t")
            assert message.lo + place not in self.results, "an element ended twice"
            self.results[message.lo + place] = good, value
        self.output.update({message.lo + place: text for place, text in message.output.items()})

    def finish(self, works: int | None = None) -> dict[int, tuple[bool, Any]]:
        """Wait until it has come to the end of all that it was given."""
        wanted = self._token if works is None else works
        self.until(lambda: self._finished >= wanted or not self.alive)
        return self.results

    def call(self, function: Callable[..., Any] | bytes, *args: Any) -> tuple[bool, Any]:
        """Run one call and return how it ended."""
        self.results.clear()
        self.output.clear()
        self.give(function, [args])
        return self.finish()[0]

    def died(self) -> tuple[tuple[int, int] | None, str]:
        """Wait until it is dead; returns what it ran, and the evidence."""
        self.until(lambda: not self.alive)
        return self.child.running(), self.child.evidence()


def feed_of(values: dict[int, Any], tree: Slice | Many, *, each: bool = False) -> Feed:
    """Return a feed with the values of elements of node 5, in one block each."""
    blocks = []
    for index, value in values.items():
        data = payload.seal(KEY, payload.origin("result", RUN, 5, index), [payload.dumps(value)])
        blocks.append(Block(5, index, 1, data, len(data), "", index, index, index + 1))
    return Feed(each, tree, blocks)
