"""The tasks of the introduction, under the names it gives them; slots import this module."""

from __future__ import annotations

import ast
import logging
import os
import time
from pathlib import Path

import nbq

called = []
"""What errbacks and callbacks were called with, in order, where tasks run in the test's process."""
coded = []
"""What the serializer and the compression of this module were asked to do, in order."""
losing = []
"""The cluster under test, for a task that loses its engine."""
_DEADLINE_S = 60.0


@nbq.task(name="tasks.add")
def add(x, y):
    return x + y


@nbq.task(name="tasks.mul")
def mul(x, y):
    return x * y


@nbq.task(name="tasks.xsum")
def xsum(numbers):
    return sum(numbers)


@nbq.task()
def with_parentheses(x):
    return x


@nbq.task
def same(x):
    return x


@nbq.task
def fail(text="boom"):
    raise ValueError(text)


@nbq.task(bind=True)
def about(self, *_fed):
    """Say what the task knows of itself."""
    request = self.request
    return {
        "id": request.id,
        "parent": request.parent_id,
        "root": request.root_id,
        "task": request.task,
        "headers": request.headers,
        "engine": request.hostname,
        "limits": request.timelimit,
        "priority": request.delivery_info.priority,
        "queue": request.delivery_info.routing_key,
        "retries": request.retries,
    }


@nbq.task
def note(*args):
    called.append(("note", *args))
    return args[0] if args else None


@nbq.task
def error_handler(task_id):
    """An errback as a task: it gets the id of what failed."""
    called.append(("error_handler", task_id))


@nbq.task(bind=True)
def bound_handler(self, task_id):
    called.append(("bound_handler", task_id))


@nbq.task
def on_failure(request, exc, traceback):
    """An errback in the style of a function."""
    called.append(("on_failure", request.id, repr(exc), traceback.splitlines()[-1]))


@nbq.task(bind=True)
def slow_handler(self, task_id):
    """An errback that asks to be run again, in an hour."""
    if not self.request.retries:
        raise self.retry(countdown=3600)
    called.append(("slow_handler", task_id))


@nbq.task(bind=True)
def flaky(self, times):
    if self.request.retries < times:
        raise self.retry(exc=ValueError("not yet"), countdown=1)
    return self.request.retries


@nbq.task(bind=True, max_retries=1)
def hopeless(self):
    raise self.retry(exc=ValueError("never"), countdown=1)


@nbq.task
def kinds(*args):
    """Say what arrived: JSON makes lists of tuples."""
    return [type(arg).__name__ for arg in args]


@nbq.task(serializer="json")
def kinds_in_json(*args):
    return kinds.run(*args)


@nbq.task
def upload(file):
    return f"uploaded {file}"


@nbq.task
def filtered(file, kind):
    return f"{file}, {kind}"


@nbq.task
def calls_a_group():
    """Submit a group from inside a task."""
    return nbq.group(add.s(k, k) for k in range(3)).delay().id


@nbq.task
def submits_two():
    """Submit a child, and a task that is to be none."""
    return [add.delay(1, 1).id, add.apply_async((2, 2), add_to_parent=False).id]


@nbq.task
def asks(x):
    """Submit a task and wait for it."""
    return add.delay(x, 1).get()


@nbq.task
def pid():
    return os.getpid()


def _wait(done):
    deadline = time.monotonic() + _DEADLINE_S
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.002)


@nbq.task
def meet(folder, name, count):
    """Say that it runs, and wait until so many do."""
    (Path(folder) / name).touch()
    _wait(lambda: len(list(Path(folder).iterdir())) >= count)
    return os.getpid()


@nbq.task
def too_slow(value):
    """Be stopped by the soft time limit, and give a value all the same."""
    try:
        _wait(lambda: False)
    except nbq.SoftTimeLimitExceeded:
        return value


@nbq.task(bind=True)
def loses_its_engine(self):
    """Lose the engine that runs this, the first time."""
    if self.request.attempt == 1:
        losing[0].lose_engine()
    return self.request.attempt


@nbq.task
def logs(text):
    """Log, and say which handlers the root logger has."""
    logging.getLogger("shop").warning(text)
    return [type(handler).__name__ for handler in logging.getLogger().handlers]


# ------------------------------------------------------------------ a serializer and a compression


def dumps(value):
    coded.append("dumps")
    return repr(value).encode()


def loads(data):
    coded.append("loads")
    return ast.literal_eval(data.decode())


def mirror(data):
    coded.append("compress")
    return data[::-1]


def mirror_back(data, max_size):
    coded.append("expand")
    return data[: max_size + 1][::-1]


nbq.register_serializer("literal", dumps, loads, content_type="text/x-literal-python")
nbq.register_compression("mirrored", mirror, mirror_back)
