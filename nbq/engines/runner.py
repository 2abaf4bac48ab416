"""Runs elements in a slot: resolves functions, feeds values, captures output, catches everything.

Whatever user code raises becomes an outcome; nothing it raises ends the slot. What it prints, from
Python, from C or from a child process, belongs to the element that was running.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import os
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from nbq import context, payload
from nbq.core.model import Many, Slice, State
from nbq.engines.pipe import Feeding, FunctionBody, Results, Work
from nbq.errors import ContentDisallowed, IntegrityError, NbqError, SettingsError, UnknownTask
from nbq.tasks import find_task
from nbq.wire import INLINE_LIMIT, Block

__all__ = ["Batch", "Halted", "Runner", "is_large", "large", "redirect"]

_SUCCESS, _FAILURE = int(State.SUCCESS), int(State.FAILURE)
_FUNCTIONS = 1000
_FEEDS = 16
_OUTPUT_LIMIT = 64 * 1024
"""Characters and bytes of each of the two streams: results and output have to fit in one message."""
_ERROR_LINES = 20


class Halted(BaseException):
    """Raised in the running element when it is cancelled. Not an Exception: few handlers catch it."""


class _Bytes(io.RawIOBase):
    """The binary side of a captured stream."""

    def __init__(self, text: _Capture) -> None:
        self._text = text

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Keep bytes as text."""
        content = bytes(data)
        self._text.write(content.decode(errors="replace"))
        return len(content)


class _Capture(io.TextIOBase):
    """Standard output or error of an element: bounded, and nothing but a list while it is short.

    Args:
        handle: The descriptor of the same stream, for code that asks for it.
    """

    encoding = "utf-8"

    def __init__(self, handle: int) -> None:
        self.parts: list[str] = []
        self.buffer = _Bytes(self)
        """What code writes bytes to, as to any standard stream."""
        self._handle = handle
        self._size = 0

    def fileno(self) -> int:
        """Return the descriptor of the stream."""
        return self._handle

    def write(self, text: str) -> int:
        """Keep a text; from the limit on, count it only."""
        if text and self._size <= _OUTPUT_LIMIT:
            self.parts.append(text[: _OUTPUT_LIMIT + 1 - self._size])
        self._size += len(text)
        return len(text)

    def writable(self) -> bool:
        """Return True."""
        return True

    def take(self) -> str:
        """Return what was written since the last time."""
        text = "".join(self.parts)
        self.parts.clear()
        self._size = 0
        return text


class Runner:
    """What a slot knows: functions, feeds, and how to run an element.

    Args:
        key: The payload key.
        engine: The engine's name.
        limit: The most bytes that a result may have.
        output: The descriptor of the file that standard output and error of the process go to.
    """

    def __init__(self, key: bytes, engine: str, limit: int, output: int) -> None:
        self._key = key
        self._engine = engine
        self._limit = limit
        self._output = output
        self._output_size = 0
        self._functions: OrderedDict[bytes, FunctionBody | Callable[..., Any] | Exception] = OrderedDict()
        self._feeds: OrderedDict[int, tuple[bool, Any, BaseException | None]] = OrderedDict()
        self.accept: frozenset[str] | None = None
        """The serializers of what is read here (``accept_content``); None for all."""
        self._serializer = ""
        """Of the arguments of the work that was prepared."""
        self._results = payload.Encoding()
        """That of its results."""
        self.out, self.err = _Capture(1), _Capture(2)
        self._note = f"on engine {engine} ({socket.gethostname()}, process {os.getpid()})"

    # -------------------------------------------------------------- what work needs

    def add_function(self, body: FunctionBody) -> None:
        """Keep a function until it is first needed; the oldest go (``Child`` knows of fewer)."""
        self._functions[body.address] = body
        if len(self._functions) > _FUNCTIONS:
            self._functions.popitem(last=False)

    def function(self, address: bytes) -> Callable[..., Any]:
        """Return what is to be called; it is resolved when it is first needed.

        Raises:
            Exception: It is not what was submitted, or cannot be found or loaded here; each time
                the same.
        """
        found = self._functions[address]
        if isinstance(found, FunctionBody):
            try:
                found = self._resolve(found)
            except Exception as error:  # user code runs while a function is loaded
                found = error
            self._functions[address] = found
        if isinstance(found, Exception):
            raise found.with_traceback(None)  # it is kept, and must not grow with each call
        return found

    def _resolve(self, body: FunctionBody) -> Callable[..., Any]:
        data: Any = body.payload
        if not data:
            data = payload.map_blob(Path(body.blobs), body.address.hex())[:]
        kind, *rest = msgspec.msgpack.decode(payload.open_function(self._key, body.address, data))
        if kind == "name":
            return find_task(*rest).call_in_slot
        function = payload.load_function(rest[0], self.accept)
        return getattr(function, "call_in_slot", function)

    def add_feed(self, feeding: Feeding) -> None:
        """Build what elements of a lease are fed; if that fails, they fail with the reason."""
        try:
            value = self._build(feeding)
            self._feeds[feeding.token] = feeding.feed.each, value, None
        except Exception as error:  # user code may run while values are unpickled
            self._feeds[feeding.token] = feeding.feed.each, None, error
        if len(self._feeds) > _FEEDS:
            self._feeds.popitem(last=False)

    def _build(self, feeding: Feeding) -> Any:
        places: dict[tuple[int, int], tuple[memoryview, str]] = {}
        for block in feeding.feed.blocks:
            where = payload.origin("result", *block.place(feeding.run), block.lo)
            content = _content(block, feeding.blobs)
            opened = payload.unseal(self._key, where, content, accept=self.accept)
            for index in range(block.use_lo, block.use_hi):
                places[block.node, index] = opened.element(index - block.lo), opened.serializer

        def one(node: int, index: int) -> Any:
            found = places.get((node, index))
            if found is None:
                raise IntegrityError(f"the hub sent no value of element {index} of node {node}")
            return payload.loads(*found)

        def build(tree: Slice | Many) -> list[Any]:
            if isinstance(tree, Slice):
                return [one(tree.node, index) for index in range(tree.lo, tree.hi)]
            items: list[Any] = []
            for item in tree.items:
                if isinstance(item, Slice):
                    items += build(item)
                else:
                    items.append(build(item))
            return items

        value = feeding.feed.value
        if feeding.feed.each and isinstance(value, Slice):
            return {index: one(value.node, index) for index in range(value.lo, value.hi)}
        built = build(value)
        return built[0] if isinstance(value, Slice) else built

    # -------------------------------------------------------------- running

    def prepare(self, work: Work) -> list[bytes | memoryview]:
        """Return the arguments of each element of some work, for ``run``.

        Raises:
            NbqError: They may not be read here, a blob of them is not what was submitted, or there is no
                way here to serialise results as is asked for.
        """
        self._results = payload.Encoding()
        self._results = payload.encoding(work.options.result_serializer, work.options.result_compression)
        self._serializer = work.serializer
        if work.trouble:
            raise ContentDisallowed(work.trouble)
        if work.calls is not None:
            payload.check_accepted(work.serializer, self.accept)
            calls: list[bytes | memoryview] = list(work.calls)
        else:
            lo = 0 if work.shared else work.lo
            where = payload.origin("args", *work.place, lo, work.function)
            content = payload.map_blob(Path(work.blobs), work.blob)
            opened = payload.unseal(self._key, where, content, accept=self.accept)
            calls = [opened.element(0)]
            self._serializer = opened.serializer
        return calls * (work.hi - work.lo) if work.shared else calls

    def run(
        self, work: Work, index: int, call: bytes | memoryview, broken: NbqError | None = None
    ) -> tuple[int, payload.Element, str]:
        """Run one element; returns its state, its value or failure, and a line for a failure.

        ``broken`` is why its arguments cannot be read, if they cannot.

        Raises:
            Halted: It was cancelled.
        """
        context.enter(work, index, self._engine)
        try:
            if broken is not None:
                raise broken
            value = self._call(work, index, call)
            if work.ignore_result:
                return _SUCCESS, b"", ""
            return _SUCCESS, payload.dumps(value, "result", self._limit, self._results.serializer), ""
        except Halted:
            raise
        except BaseException as error:  # user code: SystemExit and KeyboardInterrupt are failures too
            note = f"{self._note}, attempt {work.attempt}"
            skip = 0 if isinstance(error, NbqError) else 2
            if isinstance(error, UnknownTask | IntegrityError | ContentDisallowed):
                skip = None  # no code of the user's ran
            failure = payload.dump_failure(error, note, skip, self._results.serializer)
            return _FAILURE, failure, payload.summary(error)

    def _call(self, work: Work, index: int, call: bytes | memoryview) -> Any:
        function = self.function(work.function)
        if not call:
            raise IntegrityError("the arguments of this task are not as they were sealed")
        args, kwargs, _ = payload.load_call(call, self._serializer)
        feed = self._feeds.get(work.token)
        if feed is not None:
            each, value, error = feed
            if error is not None:
                raise error
            args = (value[index] if each else value, *args)
        value = function(*args, **kwargs)
        return asyncio.run(value) if inspect.iscoroutine(value) else value

    def output(self) -> tuple[str, str] | None:
        """Return what the element that just ended has printed, or None."""
        written = b""
        size = os.lseek(self._output, 0, os.SEEK_END)
        if size != self._output_size:
            count = min(size - self._output_size, _OUTPUT_LIMIT + 1)
            written = os.pread(self._output, count, self._output_size) if count > 0 else b""
            self._output_size = size
        if not (written or self.out.parts or self.err.parts):
            return None
        return _cut(self.out.take() + written.decode(errors="replace")), _cut(self.err.take())


def _cut(text: str) -> str:
    """Return a text that can be encoded, and has not more bytes than the limit."""
    raw = text.encode(errors="backslashreplace")
    if len(raw) <= _OUTPUT_LIMIT:
        return text if text.isascii() else raw.decode()
    return raw[:_OUTPUT_LIMIT].decode(errors="ignore") + "\n... the rest was cut\n"


class Batch:
    """Results of consecutive elements that have not been sent yet."""

    def __init__(self, work: Work, lo: int) -> None:
        self.work = work
        self.lo = lo
        self.states = bytearray()
        self.elements: list[bytes] = []
        self.seconds: list[float] = []
        self.errors: dict[int, str] = {}
        self.output: dict[int, tuple[str, str]] = {}
        self.started_s = time.time()
        self.size = 0

    def add(
        self, ended: tuple[int, payload.Element, str], seconds: float, printed: tuple[str, str] | None
    ) -> None:
        """Add the result of the next element."""
        state, element, line = ended
        place = len(self.states)
        if line and len(self.errors) < _ERROR_LINES:
            self.errors[self.lo + place] = line
        if printed is not None:
            self.output[place] = printed
            self.size += len(printed[0]) + len(printed[1])
        self.states.append(state)
        self.elements.append(bytes(element))
        self.seconds.append(seconds)
        self.size += len(element)

    def results(self) -> Results:
        """Return the message for the supervisor."""
        failed = self.states.count(_SUCCESS) < len(self.states)
        serializer, compression = _result_encoding(self.work)
        return Results(
            self.work.token, self.lo, self.lo + len(self.states), bytes(self.states) if failed else b"",
            self.elements, self.started_s, self.seconds, self.errors, self.output, serializer=serializer,
            compression=compression,
        )  # fmt: skip


def _result_encoding(work: Work) -> tuple[str, str]:
    """Return serializer and compression of results; an empty compression leaves it to the supervisor."""
    options = work.options
    try:
        serializer, compression = payload.encoding(options.result_serializer, options.result_compression)
    except SettingsError:  # then all of its elements are failures that say so
        return "", ""
    return serializer, compression if options.result_compression else ""


def large(
    key: bytes, work: Work, index: int, element: payload.Element, seconds: float, extras: bytes
) -> Results:
    """Write a large result as a blob of its own, and return the message for the supervisor."""
    where = payload.origin("result", *work.place, index)
    serializer, compression = _result_encoding(work)
    name, parts = payload.seal_large(
        key, where, element, extras, serializer=serializer, compression=compression or "none"
    )
    payload.write_blob(Path(work.blobs), name, parts)
    size = sum(len(part) for part in parts)
    return Results(
        work.token, index, index + 1, b"", [], time.time() - seconds, [seconds], {}, {}, name, size
    )


def is_large(element: payload.Element) -> bool:
    """Return whether a result has to travel as a blob."""
    return len(element) > INLINE_LIMIT


def _content(block: Block, blobs: str) -> Any:
    return payload.map_blob(Path(blobs), block.blob) if block.blob else block.data


def redirect(runner: Runner) -> None:
    """Let print and logging of user code go to the runner."""
    sys.stdout = runner.out
    sys.stderr = runner.err
