"""Tasks for the tests here: in a module that slots can import, as users' tasks are."""

from __future__ import annotations

import sys
from typing import Any

import nbq

seen: list[Any] = []


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
