"""What a running task adds to its run: planned and sealed in the slot, as a client would do it.

The blocks are sealed for the run with a random **scope**, and for the numbers that nodes have within the
addition: where the hub puts them is not known here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from nbq.batch import Sealer, seal_plan
from nbq.blocks import place
from nbq.canvas import Plan, TaskRef, plan, plan_replacement
from nbq.canvas.signature import to_canvas
from nbq.core.model import Slice
from nbq.engines.pipe import Added
from nbq.errors import PayloadTooLarge
from nbq.frames import MESSAGE_LIMIT
from nbq.functions import FunctionCache, named
from nbq.tasks import Task, registered

__all__ = ["addition"]

_BYTES = MESSAGE_LIMIT // 2
_cache = FunctionCache()


def addition(key: bytes, run: bytes, blobs: str, sig: object, replaces: str) -> Added:
    """Return what a task adds.

    Args:
        key: The payload key.
        run: The run that it is added to.
        blobs: The folder in which large blocks and functions are written.
        sig: A canvas, or the plain data of one.
        replaces: The id of the task whose place it takes; empty for a member of a chord's header.

    Raises:
        InvalidSignature: It is no canvas, or one that cannot mean anything.
        NotSerializable: A function or an argument cannot be serialised.
        PayloadTooLarge: It is too large for one outcome.
    """
    canvas = to_canvas(sig, "replace" if replaces else "add_to_chord")
    planned = plan_replacement(canvas) if replaces else plan(canvas)
    if replaces:
        _take_over(planned, replaces)
    scope = os.urandom(16)
    sealer = Sealer(key, Path(blobs), "none")
    sealed = seal_plan(planned, place(run, 0, scope, 0)[0], sealer, _functions(sealer))
    size = sum(len(block.data) for block in sealed.blocks) + sum(map(len, sealed.functions.values()))
    size += len(msgspec.msgpack.encode(sealed.graph))
    if size > _BYTES:
        raise PayloadTooLarge(
            f"what a task adds to its run has {size:,} bytes, the limit is {_BYTES:,}: submit it with "
            "delay(), or pass paths to large values"
        )
    return Added(scope, sealed.graph, sealed.blocks, bool(replaces), sealed.functions)


def _take_over(planned: Plan, task_id: str) -> None:
    """Let the element that gives the value run under the id of what it replaces."""
    value = planned.value
    if isinstance(value, Slice):
        node = planned.nodes[value.node]
        if node.size == 1:
            node.ids[value.lo] = task_id


def _functions(sealer: Sealer) -> Callable[[TaskRef | str], tuple[bytes, bytes]]:
    def function_of(ref: TaskRef | str) -> tuple[bytes, bytes]:
        found: Any = (registered(ref) or ref) if isinstance(ref, str) else ref
        if isinstance(found, str):
            data = named(found, None)
        else:
            data = found.payload() if isinstance(found, Task) else _cache.payload(found)
        address = sealer.function(data)
        return address, b"" if sealer.large_function(address, data) else data

    return function_of
