"""From calls to what travels: argument blocks, graphs, and batches of separate calls.

Nothing here touches a socket. A **batch** collects consecutive ``delay()``s of one definition until the
client's thread takes it; its ids are known at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from nbq import payload, wire
from nbq.canvas import Plan, PlannedNode, TaskRef
from nbq.core.model import Graph, NodeSpec, On, Options
from nbq.errors import InvalidSignature, PayloadTooLarge
from nbq.frames import MESSAGE_LIMIT
from nbq.functions import by_bare_name
from nbq.replica import Replica
from nbq.tasks import Task
from nbq.wire import Block

__all__ = ["Batch", "Minter", "PlannedRun", "Sealer", "put_schedule", "seal_plan", "stage"]

_STAGE_BYTES = 512 * 1024
_INLINE_SUBMIT_BYTES = 256 * 1024
_BATCH_CALLS = 4096
_SMALL_NODES = 1000
_GRAPH_BYTES = MESSAGE_LIMIT - 1024 * 1024
"""The rest is for blocks, and for what else a message about the run says."""


class Minter:
    """Run ids: 6 bytes of time in milliseconds, 5 random for the client, 5 of a counter."""

    def __init__(self) -> None:
        self._client = os.urandom(5)
        self._count = 0

    def run(self) -> bytes:
        """Return a new run id."""
        self._count += 1
        at_ms = int(time.time() * 1000)
        return at_ms.to_bytes(6, "big") + self._client + self._count.to_bytes(5, "big")


class Sealer:
    """Makes argument blocks.

    Args:
        key: The payload key.
        blobs: The folder in which large blocks are written.
        compression: For calls that ask for none: ``auto`` or ``none``.
    """

    def __init__(self, key: bytes, blobs: Path, compression: str) -> None:
        self._key = key
        self._blobs = blobs
        self.default = payload.Encoding(compression=compression)
        """The encoding of calls that ask for none."""

    def encoding(self, serializer: str = "", compression: str = "") -> payload.Encoding:
        """Return the encoding of calls with these options, where empty ones are the default.

        Raises:
            SettingsError: There is no such compression or serializer here.
        """
        if not (serializer or compression):
            return self.default
        return payload.encoding(serializer, compression or self.default.compression)

    def fingerprint(self, data: bytes) -> str:
        """Return what differs if data does (``payload.fingerprint``)."""
        return payload.fingerprint(self._key, data)

    def function(self, data: bytes) -> bytes:
        """Return the content address of a function."""
        return payload.seal_function(self._key, data)[0]

    def blocks(
        self,
        run: bytes,
        node: int,
        function: bytes,
        elements: Iterable[payload.Element],
        encoding: payload.Encoding | None = None,
    ) -> Iterator[Block]:
        """Yield the blocks of a node's arguments.

        Args:
            run: The run; of an addition with its scope (``blocks.place``).
            node: The node.
            function: The address of its function.
            elements: Its calls, made with the serializer of the encoding.
            encoding: What ``encoding`` returned for its options; None for the default.
        """
        serializer, compression = encoding or self.default
        for lo, group in payload.pack(elements):
            where = payload.origin("args", run, node, lo, function)
            if len(group) == 1 and len(group[0]) > wire.INLINE_LIMIT:
                name, parts = payload.seal_large(
                    self._key, where, group[0], serializer=serializer, compression=compression
                )
                payload.write_blob(self._blobs, name, parts)
                size = sum(len(part) for part in parts)
                yield Block(node, lo, 1, b"", size, name)
            else:
                data = payload.seal(self._key, where, group, serializer=serializer, compression=compression)
                yield Block(node, lo, len(group), data, len(data))

    def large_function(self, address: bytes, data: bytes) -> bool:
        """Write a function as a blob if it is too large for a message; returns whether it was."""
        if len(data) <= wire.INLINE_LIMIT:
            return False
        payload.write_blob(self._blobs, address.hex(), [data])
        return True


class PlannedRun:
    """A plan whose tasks have become addresses and whose calls have become blocks."""

    def __init__(self, run: bytes, graph: Graph, blocks: list[Block], functions: dict[bytes, bytes]) -> None:
        self.run = run
        self.graph = graph
        self.blocks = blocks
        self.functions = functions


def seal_plan(
    plan: Plan, run: bytes, sealer: Sealer, function_of: Callable[[TaskRef | str], tuple[bytes, bytes]]
) -> PlannedRun:
    """Return a plan, sealed.

    Args:
        plan: The plan.
        run: The id that it is to have.
        sealer: Makes the blocks.
        function_of: From a task to address and payload of its function.

    Raises:
        InvalidSignature: A task cannot be called with the arguments that it gets.
        NotSerializable: An argument cannot be serialised.
    """
    functions: dict[bytes, bytes] = {}

    def address_of(ref: TaskRef | str) -> bytes:
        address, data = function_of(ref)
        functions[address] = data
        return address

    graph = plan.graph(address_of)
    blocks: list[Block] = []
    for number, node in enumerate(plan.nodes):
        if isinstance(node.ref, Task):
            _check_calls(node, node.ref)
        encoding = sealer.encoding(node.serializer, node.compression)
        elements = (
            payload.dump_call(args, kwargs, node.headers, serializer=encoding.serializer)
            for args, kwargs in node.calls
        )
        blocks.extend(sealer.blocks(run, number, graph.nodes[number].function, elements, encoding))
    return PlannedRun(run, graph, blocks, functions)


def _check_calls(node: PlannedNode, task: Task[..., Any]) -> None:
    """Check that a task can be called as it will be; an errback gets an id, or (request, exc, traceback)."""
    for args, kwargs in node.calls:
        if node.fed and node.on is On.FAILURE and not task.bind:
            try:
                task.check((None, None, None, *args), kwargs)
                continue
            except InvalidSignature:
                pass  # then it is one that takes an id
        task.check((None, *args) if node.fed else args, kwargs)


def stage(run: bytes, graph: Graph, blocks: list[Block]) -> tuple[list[wire.Stage], wire.Submit]:
    """Return the messages that submit a run: blocks ahead if they are many, then the run.

    Raises:
        PayloadTooLarge: The run has too many different tasks for one message.
    """
    if len(graph.nodes) > _SMALL_NODES:
        size = len(wire.encode(wire.Submit(run, graph, [])))
        if size > _GRAPH_BYTES:
            raise PayloadTooLarge(
                f"a canvas of {len(graph.nodes):,} different tasks takes {size:,} bytes to describe, the "
                f"limit is {_GRAPH_BYTES:,}: submit it in parts, or as a group or map of one task"
            )
    if sum(len(block.data) for block in blocks) <= _INLINE_SUBMIT_BYTES and len(blocks) < 1000:
        return [], wire.Submit(run, graph, blocks)
    stages: list[wire.Stage] = []
    first = size = 0
    group: list[Block] = []
    for number, block in enumerate(blocks):
        if group and (size + len(block.data) > _STAGE_BYTES or len(group) >= 2000):
            stages.append(wire.Stage(run, first, group))
            first, size, group = number, 0, []
        group.append(block)
        size += len(block.data)
    stages.append(wire.Stage(run, first, group))
    return stages, wire.Submit(run, graph, [], len(blocks))


def put_schedule(message: wire.PutSchedule, planned: PlannedRun) -> tuple[list[wire.Stage], wire.PutSchedule]:
    """Return the messages that set a schedule to what was planned; raises as ``stage``."""
    stages, submit = stage(planned.run, planned.graph, planned.blocks)
    return stages, replace(
        message, id=planned.run, graph=submit.graph, blocks=submit.blocks, staged=submit.staged
    )


class Batch:
    """Separate calls of one definition that will leave together."""

    __slots__ = ("calls", "encoding", "function", "functions", "ids", "options", "replica", "task")

    def __init__(
        self,
        replica: Replica,
        task: str,
        function: bytes,
        data: bytes,
        options: Options,
        encoding: payload.Encoding,
    ) -> None:
        self.replica = replica
        self.task = task
        self.function = function
        self.functions = {function: data}
        self.options = options
        self.encoding = encoding
        """That of all its calls."""
        self.calls: list[payload.Element] = []
        self.ids: dict[int, str] = {}

    def add(self, call: payload.Element, task_id: str | None) -> int:
        """Add a call and return its number."""
        index = len(self.calls)
        self.replica.node(0).grow(index + 1)
        if task_id:
            self.ids[index] = task_id
        self.calls.append(call)  # last: Ctrl-C may come between any two of these
        return index

    def takes(self, function: bytes, options: Options, encoding: payload.Encoding) -> bool:
        """Return whether a call of this definition belongs here."""
        return (
            self.function == function
            and (self.options is options or self.options == options)
            and self.encoding == encoding
            and len(self.calls) < _BATCH_CALLS
        )

    def close(self) -> Graph:
        """Return the graph of all calls, which is the replica's from here on."""
        bare = by_bare_name(self.task, self.functions[self.function])
        spec = NodeSpec(
            self.task, self.function, len(self.calls), options=self.options, ids=self.ids, bare_name=bare
        )
        graph = self.replica.graph = Graph([spec], each=True)
        return graph
