"""A runner in this process: one element runs, and how it ended is looked at."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from nbq import payload
from nbq.blocks import Feed
from nbq.core.model import State
from nbq.engines import pipe
from nbq.engines.ending import Ended, More
from nbq.engines.runner import Batch, Runner
from nbq.functions import named
from nbq.tasks import Task

KEY = bytes(range(32))
RUN = bytes(range(16))
ID = f"{RUN.hex()}-0-0"


class Stage:
    """A runner, and what it sent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sent: list[Any] = []
        self.aborted = False
        self._output = os.open(folder / "output", os.O_CREAT | os.O_RDWR)
        self.runner = Runner(KEY, "here", 1 << 30, self._output, self.sent.append, lambda: self.aborted)
        self._token = 0

    def close(self) -> None:
        """Free what it holds."""
        os.close(self._output)

    def work(self, task: Task[..., Any] | Callable[..., Any], **changes: Any) -> pipe.Work:
        """Return work of one element that calls a task."""
        self._token += 1
        if isinstance(task, Task):
            data, name = named(task.name, task.run.__module__), task.name
        else:
            data, name = msgspec.msgpack.encode(("pickle", payload.dump_function(task))), "plain"
        address, data = payload.seal_function(KEY, data)
        self.runner.add_function(pipe.FunctionBody(address, data, str(self.folder)))
        work = pipe.Work(
            1, self._token, RUN, 0, 0, 1, 1, name, address, [], False, "", str(self.folder), False, {}
        )
        return msgspec.structs.replace(work, **changes)

    def run(
        self,
        task: Task[..., Any] | Callable[..., Any],
        *args: Any,
        feed: Feed | None = None,
        headers: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Ended:
        """Run a call of a task; ``changes`` are of its work."""
        kwargs = changes.pop("kwargs", {})
        work = self.work(task, **changes)
        if feed is not None:
            self.runner.add_feed(pipe.Feeding(work.token, RUN, feed, str(self.folder)))
        call = bytes(payload.dump_call(args, kwargs, headers, serializer=work.serializer))
        return self.again(work, call)

    def again(self, work: pipe.Work, call: bytes) -> Ended:
        """Run an element with arguments as they travel."""
        self.last = msgspec.structs.replace(work, calls=[call])
        self.runner.prepare(self.last)
        return self.runner.run(self.last, 0, call)

    def last_with(self, **changes: Any) -> pipe.Work:
        """Return the work that ran last, with changes."""
        return msgspec.structs.replace(self.last, **changes)

    def results(self, ended: Ended) -> pipe.Results:
        """Return what the slot sends of it."""
        batch = Batch(self.last, 0)
        batch.add(ended, 0.5, None)
        return batch.results()


def state(ended: Ended) -> State:
    """Return the state in which an element ended."""
    return State(ended[0])


def value(ended: Ended) -> Any:
    """Return its value."""
    assert ended[0] == State.SUCCESS, error(ended)
    return payload.loads(bytes(ended[1]))


def error(ended: Ended) -> Exception:
    """Return its failure."""
    return payload.load_failure(bytes(ended[1]), "t")


def more(ended: Ended) -> More:
    """Return what else it asked for."""
    assert ended[3] is not None
    return ended[3]
