"""The tasks of the conformance tests. What links and errbacks are called with is in ``log``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import nbq
from nbq.canvas import Canvas, signature
from nbq.errors import Ignore, Reject, SoftTimeLimitExceeded

log: list[tuple[Any, ...]] = []
"""Name and arguments of each call of a task that notes its calls, in order."""

_asked: list[tuple[list[tuple[Canvas, bool]], type[Exception]]] = []


class ExpectedError(Exception):
    """What tasks of these tests fail with; equal by arguments."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Exception) and self.args == other.args

    def __hash__(self) -> int:
        return hash(self.args)


@contextmanager
def seam(asked: list[tuple[Canvas, bool]], replaced: type[Exception]) -> Iterator[None]:
    """Collect what tasks ask for, where no slot runs them."""
    _asked.append((asked, replaced))
    try:
        yield
    finally:
        _asked.pop()


def replace(canvas: Canvas) -> Any:
    if not _asked:
        return nbq.current_task.replace(canvas)
    asked, replaced = _asked[-1]
    asked.append((canvas, True))
    raise replaced


def add_to_chord(canvas: Canvas) -> None:
    if _asked:
        _asked[-1][0].append((canvas, False))
    else:
        nbq.current_task.add_to_chord(canvas)


@nbq.task
def i(x: Any) -> Any:
    return x


@nbq.task
def add(x: Any, y: Any, z: Any = 0) -> Any:
    return x + y + z if z else x + y


@nbq.task
def mul(x: Any, y: Any) -> Any:
    return x * y


@nbq.task
def tsum(xs: list[Any]) -> Any:
    return sum(xs)


@nbq.task
def xsum(xs: Any) -> Any:
    return sum(map(xsum.run, xs)) if isinstance(xs, list) else xs


@nbq.task
def count(xs: list[Any]) -> int:
    return len(xs)


@nbq.task
def each_plus(xs: list[Any], n: Any, z: Any = 0) -> list[Any]:
    return [x + n + z if z else x + n for x in xs]


@nbq.task
def show(*args: Any, **kwargs: Any) -> list[Any]:
    return [list(args), kwargs]


@nbq.task
def fail(*args: Any) -> Any:
    raise ExpectedError(*args)


@nbq.task
def note(*args: Any) -> Any:
    log.append(("note", *args))
    return args[0] if args else None


@nbq.task
def told_id(task_id: str) -> None:
    log.append(("told_id", task_id))


@nbq.task
def told_all(request: Any, exc: Any, traceback: Any) -> None:
    log.append(("told_all", request if isinstance(request, str) else request.id, exc))


@nbq.task(bind=True)
def kin(self: Any, *fed: Any) -> Any:
    """Say who it is, what it follows, and where that began."""
    return self.request.id, self.request.parent_id, self.request.root_id


@nbq.task(bind=True)
def priority(self: Any, *fed: Any) -> str:
    return f"Priority: {self.request.delivery_info.priority}"


@nbq.task(bind=True)
def calls_a_group(self: Any) -> Any:
    """Submit a group; return its id, what the request says of it, and its result."""
    result = nbq.group(i.s(k) for k in range(3)).delay()
    return result.id, self.request.children, result


@nbq.task(soft_time_limit=0.1)
def caught(x: Any) -> Any:
    """Run until the soft time limit, and return a value all the same."""
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            time.sleep(0.001)
    except SoftTimeLimitExceeded:
        return x
    raise TimeoutError


@nbq.task(bind=True)
def told_later(self: Any, task_id: str) -> Any:
    """Be an errback that asks to be run again, in an hour."""
    raise self.retry(countdown=3600)


@nbq.task
def ignore(*args: Any) -> Any:
    raise Ignore


@nbq.task
def reject(*args: Any) -> Any:
    raise Reject("no", requeue=False)


@nbq.task
def become(data: Any) -> Any:
    """Be replaced by the canvas that the data describes."""
    return replace(signature(data))


@nbq.task
def become_add_to_all(xs: list[Any], n: Any) -> Any:
    return replace(nbq.group(add.s(x, n) for x in xs))


@nbq.task
def grow(x: Any, *more: Any) -> Any:
    """Add members to the chord that it is in."""
    for data in more:
        add_to_chord(signature(data))
    return x


@nbq.task
def call_signature(data: Any) -> Any:
    return signature(data)()


@nbq.task
def describe(x: Any) -> Any:
    """Return the data of a signature."""
    return add.s(x, 1).to_dict()
