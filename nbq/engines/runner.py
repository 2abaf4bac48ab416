"""Runs elements in a slot: resolves functions, feeds values, captures output, catches everything.

Whatever user code raises becomes an outcome (``ending`` says which); nothing it raises ends the slot. What it
prints, from Python, from C or from a child process, belongs to the element that was running.
"""

from __future__ import annotations

import os
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import CoroutineType
from typing import Any, Literal

import msgspec

from nbq import payload, signals
from nbq.context import Running, here
from nbq.core.model import On, State
from nbq.engines import ending, watching
from nbq.engines.captured import Captured
from nbq.engines.coroutines import Coroutines
from nbq.engines.ending import Ended
from nbq.engines.feeds import Failure, Feeds, errback_arguments
from nbq.engines.pipe import Feeding, FromSlot, FunctionBody, Noted, Results, Work
from nbq.engines.storing import Storing
from nbq.errors import ContentDisallowed, IntegrityError, NbqError, SettingsError
from nbq.tasks import Task, find_task
from nbq.traits import hooked
from nbq.wire import INLINE_LIMIT

__all__ = ["Batch", "Halted", "Runner", "is_large", "large"]

_SUCCESS, _RETRY = int(State.SUCCESS), int(State.RETRY)
_FUNCTIONS = 1000
_ERROR_LINES = 20
_NOTE_LIMIT = 64 * 1024
_SETTLE_S = 10.0


class Halted(BaseException):
    """Raised in the running element when it is to stop. Not an Exception: few handlers catch it.

    Args:
        error: Its failure, if it is stopped because it ran for too long; None when it is cancelled.
    """

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error


class _Target:
    """What is called: a function, and the task that it belongs to, if any."""

    __slots__ = ("bound", "call", "hooked", "task")

    def __init__(self, found: Any) -> None:
        self.task: Task[..., Any] | None = found if isinstance(found, Task) else None
        self.call: Callable[..., Any] = found if self.task is None else self.task.call_in_slot
        self.bound = self.task is not None and self.task.bind
        self.hooked = self.task is not None and hooked(self.task)


class Runner:
    """What a slot knows: functions, feeds, and how to run an element. The ``Host`` of what runs.

    Args:
        key: The payload key.
        engine: The engine's name.
        limit: The most bytes that a result may have.
        output: The descriptor of the file that standard output and error of the process go to.
        send: Sends a message to the supervisor, in whatever thread it is called.
        aborted: Whether the running element was asked to end by itself.
        eager: Whether this is the process that submits, too.
        begins: Called when the time of an element with limits begins to count; None where none does.
    """

    def __init__(
        self,
        key: bytes,
        engine: str,
        limit: int,
        output: int,
        send: Callable[[FromSlot], None],
        aborted: Callable[[], bool],
        eager: bool = False,
        begins: Callable[[], None] | None = None,
    ) -> None:
        self.engine = engine
        self.eager = eager
        self.captured = Captured(output)
        self.coroutines = Coroutines()
        self.feeds = Feeds(key)
        self.is_aborted = aborted
        self._begins = begins
        self.inside = False
        """Whether the function of an element runs, so that an error can be raised in it."""
        self._key = key
        self._limit = limit
        self._send = send
        self._functions: OrderedDict[bytes, FunctionBody | _Target | Exception] = OrderedDict()
        self._prepared: Running | None = None
        self.accept: frozenset[str] | None = None
        """The serializers of what is read here (``accept_content``); None for all."""
        self._note = f"on engine {engine} ({socket.gethostname()}, process {os.getpid()})"

    # -------------------------------------------------------------- what work needs

    def add_function(self, body: FunctionBody) -> None:
        """Keep a function until it is first needed; the oldest go (``Child`` knows of fewer)."""
        self._functions[body.address] = body
        if len(self._functions) > _FUNCTIONS:
            self._functions.popitem(last=False)

    def add_feed(self, feeding: Feeding) -> None:
        """Keep what elements of a lease are fed; if it cannot be built, they fail with the reason."""
        self.feeds.add(feeding)

    def function(self, address: bytes) -> _Target:
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

    def _resolve(self, body: FunctionBody) -> _Target:
        data: Any = body.payload
        if not data:
            data = payload.map_blob(Path(body.blobs), body.address.hex())[:]
        kind, *rest = msgspec.msgpack.decode(payload.open_function(self._key, body.address, data))
        return _Target(find_task(*rest) if kind == "name" else payload.load_function(rest[0], self.accept))

    # -------------------------------------------------------------- running

    def prepare(self, work: Work) -> list[bytes | memoryview]:
        """Return the arguments of each element of some work, for ``run``.

        Raises:
            NbqError: They may not be read here, a blob of them is not what was submitted, or there is no
                way here to serialise results as is asked for.
        """
        running = self._prepared = Running(work, self)
        options = work.options
        running.writes = payload.encoding(options.result_serializer, options.result_compression).serializer
        running.reads = work.serializer
        if work.trouble:
            raise ContentDisallowed(work.trouble)
        if work.calls is not None:
            payload.check_accepted(work.serializer, self.accept)
            calls: list[bytes | memoryview] = list(work.calls)
        else:
            lo = 0 if work.shared else work.lo
            where = payload.origin("args", *work.args_place, lo, work.function)
            content = payload.map_blob(Path(work.blobs), work.blob)
            opened = payload.unseal(self._key, where, content, accept=self.accept)
            calls = [opened.element(0)]
            running.reads = opened.serializer
        return calls * (work.hi - work.lo) if work.shared else calls

    def run(self, work: Work, index: int, call: bytes | memoryview, broken: NbqError | None = None) -> Ended:
        """Run one element; returns how it ended.

        ``broken`` is why its arguments cannot be read, if they cannot.

        Raises:
            Halted: It was cancelled.
        """
        outer, running = here.running, self._prepared
        assert running is not None  # prepare made it
        running.index = index
        running.call = running.extra = None
        here.running = running
        value: Any = None
        ended: Ended | None = None
        raised: BaseException | None = None
        try:
            try:
                if broken is not None:
                    raise broken
                value = self._call(running, work, index, call)
                if running.extra is not None:
                    ended, raised = ending.by_request(running, running.extra)
                if ended is None:
                    element: payload.Element = b""
                    if not work.ignore_result:
                        element = payload.dumps(value, "result", self._limit, running.writes)
                    ended = _SUCCESS, element, "", None
            except Halted as halted:
                if halted.error is None:
                    watching.stopped(running)
                else:
                    watching.ended(running, State.FAILURE, None, halted.error)
                raise
            except BaseException as error:  # user code: SystemExit and KeyboardInterrupt are failures too
                ended, raised = ending.by_error(running, error, f"{self._note}, attempt {work.attempt}")
            if running.hooked or signals.watched:
                watching.ended(running, ended[0], value, raised)
            if running.extra is not None:
                if running.extra.children and not self.eager:
                    _acknowledged()
                ended = ending.with_extra(ended, running.extra)
            return ended
        finally:
            here.running = outer
            if outer is not None and outer.host is self:
                self._prepared = outer  # an element that waits in this very thread goes on

    def _call(self, running: Running, work: Work, index: int, call: bytes | memoryview) -> Any:
        target = self.function(work.function)
        running.task, running.hooked = target.task, target.hooked
        if not call:
            raise IntegrityError("the arguments of this task are not as they were sealed")
        args, kwargs, headers = payload.load_call(call, running.reads)
        whole = headers and headers.pop(ending.WHOLE, False)
        if work.token in self.feeds.tokens and not whole:
            fed = self.feeds.get(work, self.accept)
            value = fed[1][index] if fed[0] else fed[1]
            if work.on == On.FAILURE and isinstance(value, Failure):
                args = errback_arguments(target.call, target.bound, work.told, value, args, kwargs)
            else:
                args = (value, *args)
        running.call = args, kwargs, headers
        if target.hooked or signals.watched:
            watching.starts(running)
        if self._begins is not None and work.limited:
            self._begins()  # what came before, such as the import of a module, is not the task's
        self.inside = True
        try:
            value = target.call(*args, **kwargs)
            return self.coroutines.run(value) if type(value) is CoroutineType else value
        finally:
            self.inside = False

    def interrupt(self, error: BaseException) -> None:
        """Raise an error in the element that runs. For signal handlers."""
        self.coroutines.interrupt(error)

    # -------------------------------------------------------------- what a running element asks for

    def note(self, running: Running, state: str, meta: object) -> None:
        """Show a state and a value of the running element to whoever looks.

        The supervisor sends some 20 of them a second to the hub, and the last one always.

        Raises:
            NotSerializable: The value cannot be serialised.
            PayloadTooLarge: It is too large.
        """
        work: Any = running.work
        run, node = work.place
        where = payload.origin("note", run, node, running.index)
        element = payload.dumps(meta, "meta", _NOTE_LIMIT, running.writes)
        block = payload.seal(self._key, where, [element], serializer=running.writes)
        self._send(Noted(work.token, running.index, state, block))

    def add(self, running: Running, canvas: object, replaces: bool) -> None:
        """Plan and seal what the running element adds to its run."""
        from nbq.engines.additions import addition  # canvases are planned in few slots

        work: Any = running.work
        added = addition(self._key, work.run, work.blobs, canvas, running.id if replaces else "")
        extra = running.more()
        if replaces:
            extra.replacement, extra.sig = added, canvas
            watching.replaced(running, canvas)
        else:
            extra.added.append(added)


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
        self.more: ending.More | None = None
        """Of the element, which then is the only one."""

    def add(self, ended: Ended, seconds: float, printed: tuple[str, str] | None) -> None:
        """Add the result of the next element."""
        state, element, line, self.more = ended
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
        more = self.more or ending.More()
        elements = self.elements
        serializer, compression = _result_encoding(self.work)
        if more.again is not None:
            serializer = more.serializer
            elements = elements if elements[0] else []  # else it keeps its arguments
        return Results(
            self.work.token, self.lo, self.lo + len(self.states), bytes(self.states) if failed else b"",
            elements, self.started_s, self.seconds, self.errors, self.output, serializer=serializer,
            compression=compression, again=more.again, added=more.added, children=more.children,
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
    key: bytes,
    work: Work,
    index: int,
    ended: Ended,
    seconds: float,
    extras: bytes,
    storing: Storing | None = None,
) -> Results:
    """Write a large result, or the large arguments of a retry, as a blob; return the supervisor's message.

    Raises:
        NbqError: The store to which it was to go does not take it.
    """
    state, element, line, more = ended
    more = more or ending.More()
    states, function = b"" if state == _SUCCESS else bytes([state]), b""
    kind: Literal["args", "result"] = "result"
    serializer, compression = _result_encoding(work)
    if state == _RETRY:
        kind, function, serializer = "args", work.function, more.serializer
    where = payload.origin(kind, *work.place, index, function)
    name, parts = payload.seal_large(
        key, where, element, extras, serializer=serializer, compression=compression or "none"
    )
    store = ""
    if storing is not None and kind == "result":
        store = storing.keep(name, parts)
    else:
        payload.write_blob(Path(work.blobs), name, parts)
    size = sum(len(part) for part in parts)
    return Results(
        work.token, index, index + 1, states, [], time.time() - seconds, [seconds],
        {index: line} if line else {}, {}, name, size,
        again=more.again, added=more.added, store=store, children=more.children,
    )  # fmt: skip


def _acknowledged() -> None:
    """Wait until the hub has what the running element submitted, so that its end never comes first.

    A hub that does not answer delays the end, and what was submitted is still on its way afterwards.
    """
    from nbq import current  # who submits has loaded it

    current.settle(_SETTLE_S)


def is_large(element: payload.Element) -> bool:
    """Return whether a result has to travel as a blob."""
    return len(element) > INLINE_LIMIT
