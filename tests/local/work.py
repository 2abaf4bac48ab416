"""Tasks for the tests here: in a module that slots can import, as users' tasks are."""

from __future__ import annotations

import sys
from typing import Any

import nbq
from tests.conformance.canvas.tasks import ExpectedError

seen: list[Any] = []
marked: dict[str, list[str]] = {}
"""By name: the ids of the calls."""


@nbq.task
def add(x, y):
    return x + y


@nbq.task
def total(xs):
    return sum(xs)


@nbq.task
def fail(text):
    raise ValueError(text)


@nbq.task
def note(*args):
    seen.append(args)
    return args


@nbq.task(bind=True)
def mark(self, *args):
    """Note by its last argument that it was called."""
    marked.setdefault(args[-1], []).append(self.request.id)
    return args[-1]


@nbq.task
def told(request, error, traceback):
    seen.append((request.id, repr(error)))


@nbq.task(bind=True, default_retry_delay=180)
def flaky(self, times):
    if self.request.retries < times:
        raise self.retry()
    return self.request.retries


@nbq.task(bind=True)
def swap(self, x):
    self.replace(add.s(x, 100) | add.s(1))


@nbq.task(bind=True)
def into(self, x):
    self.add_to_chord(add.s(x, 10))
    return x


@nbq.task
def say(text):
    print(text)
    print(text.upper(), file=sys.stderr)


@nbq.task
async def later(x):
    return x


@nbq.task
def depth(n):
    return 0 if n == 0 else 1 + depth.delay(n - 1).get()


@nbq.task
async def depth_awaited(n):
    return 0 if n == 0 else 1 + await depth_awaited.delay(n - 1)


@nbq.task(bind=True)
def waits_for_itself(self):
    return nbq.AsyncResult(self.request.id).get()


@nbq.task
def waits_for_all(n):
    return sum(nbq.group(depth.s(1) for _ in range(n)).delay().get())


@nbq.task(bind=True)
def loses_and_waits(self, under_test_name):
    """Lose the engine or slot that runs it when it runs for the first time, and wait for another task."""
    if self.request.attempt == 1:
        getattr(clusters[0], under_test_name)()
    return self.request.attempt + depth.delay(1).get()


@nbq.task(bind=True)
def about(self):
    request = self.request
    return request.is_eager, request.retries, request.hostname


@nbq.task(bind=True)
def loses(self, under_test_name):
    """Lose the engine or slot that runs it, when it runs for the first time."""
    seen.append(self.request.attempt)
    if self.request.attempt == 1:
        getattr(clusters[0], under_test_name)()
    return self.request.attempt


clusters: list[Any] = []


@nbq.task(bind=True)
def stubborn(self, times, *args):
    """Give what it is given, after so many retries."""
    if self.request.retries < times:
        raise self.retry(countdown=60)
    return list(args)


@nbq.task(autoretry_for=(KeyError,), bind=True, retry_backoff=True)
def auto(self, times, *args):
    """Give what it is given, after so many retries that it does not ask for."""
    if self.request.retries < times:
        raise KeyError(times)
    return list(args)


@nbq.task(bind=True)
def again_with(self, *args):
    """Give the last argument, after a retry with others than it was called with."""
    if self.request.retries == 0:
        raise self.retry(args=("again", args[-1]), countdown=5)
    return list(args)


@nbq.task(bind=True, max_retries=2)
def give_up(self, *args):
    """Fail with its last argument, when it may not be retried once more."""
    raise self.retry(exc=ExpectedError(args[-1]), countdown=5)


@nbq.task
def add_members(*args):
    """Add canvases to the header that it is in, if it is in one."""
    for data in args[-1]:
        try:
            nbq.current_task.add_to_chord(nbq.signature(data))
        except nbq.UsageError:
            break
    return len(args)
