"""Tasks that say how they end, for the tests of what tasks may ask; importable, so that they go by name."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import nbq
from nbq.signals import task_success

_DEADLINE_S = 60.0


@nbq.task
def add(x, y):
    return x + y


@nbq.task
def total(xs):
    return sum(xs)


@nbq.task
def in_order(xs):
    return sorted(xs)


@nbq.task
def names(xs):
    return [type(x).__name__ for x in xs]


@nbq.task
def fail(text):
    raise ValueError(text)


@nbq.task(bind=True)
def own_id(self):
    return self.request.id


@nbq.task(bind=True)
def kin(self):
    return self.request.parent_id, self.request.root_id


@nbq.task(bind=True, default_retry_delay=0.01)
def flaky(self, times):
    request = self.request
    if request.retries < times:
        raise self.retry(exc=ValueError("not yet"))
    return request.retries, request.attempt, request.id


@nbq.task(bind=True)
def renamed(self, x, factor=1):
    if factor == 1:
        raise self.retry(args=(x, 10), countdown=0)
    return x * factor


@nbq.task(bind=True, max_retries=1)
def hopeless(self):
    raise self.retry(exc=ConnectionError("down"), countdown=0)


@nbq.task(bind=True)
def much_later(self):
    raise self.retry(countdown=3600)


def _count(path):
    with Path(path).open("a+") as file:
        file.write("x")
    return len(Path(path).read_text())


@nbq.task(autoretry_for=(OSError,), retry_kwargs={"countdown": 0.01})
def unlucky(path, times):
    tries = _count(path)
    if tries <= times - 1:
        raise TimeoutError(path)
    return tries


@nbq.task
def ends(how):
    if how == "ignore":
        raise nbq.Ignore
    raise nbq.Reject("not mine")


@nbq.task(bind=True)
def requeued(self, path):
    tries = _count(path)
    if tries < 3:
        raise nbq.Reject("not now", requeue=True)
    return tries, self.request.retries


@nbq.task(bind=True)
def becomes(self, sig):
    self.replace(sig)


@nbq.task(bind=True)
def extends(self, own, more):
    self.add_to_chord(add.s(more, 0))
    return own


def _wait(done):
    deadline = time.monotonic() + _DEADLINE_S
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.002)


@nbq.task(bind=True)
def shows(self, gate):
    for done in range(1000):
        self.update_state("COUNTING", {"done": done})
    _wait(Path(gate).exists)
    return "ended"


@nbq.task(bind=True)
def patient(self):
    _wait(self.is_aborted)
    return "in order"


@nbq.task(soft_time_limit=0.2)
async def sleepy():
    try:
        await asyncio.sleep(_DEADLINE_S)
    except nbq.SoftTimeLimitExceeded:
        return "woken"


@nbq.task
async def sleeps(mark):
    Path(mark).write_text("began")
    try:
        await asyncio.sleep(_DEADLINE_S)
    finally:
        Path(mark).write_text("began, ended in order")


def _write(mark, text):
    part = Path(f"{mark}.part")
    part.write_text(text)
    part.rename(mark)


@nbq.task
def by_id(task_id, mark):
    _write(mark, task_id)


@nbq.task
def by_request(request, exc, traceback, mark):
    _write(mark, f"{request.id} {exc!r}")


@nbq.task(bind=True)
def by_bound(self, task_id, mark):
    _write(mark, task_id)


@nbq.task
def immutable(text, mark):
    _write(mark, text)


class Hooked(nbq.Task):
    def before_start(self, task_id, args, kwargs):
        print("before_start")

    def on_success(self, retval, task_id, args, kwargs):
        print("on_success", retval)


@nbq.task(base=Hooked)
def hooked(x):
    return 2 * x


@task_success.connect(sender=hooked)
def tell(event):
    print("signal", event.result)


@nbq.task
def submits():
    return [add.delay(1, 2).id, nbq.group(add.s(1, 1), add.s(2, 2)).delay().id]


@nbq.task
def returns_handles():
    return add.delay(1, 2), add.s(3, 4)
