"""Functions that slots run in these tests; importable, so that they go by name."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbq

_DEADLINE_S = 60.0


@nbq.task
def add(x, y):
    return x + y


@nbq.task
def total(xs):
    return sum(xs)


@nbq.task
def plus(x, y=1):
    return x + y


@nbq.task
def fail(text):
    raise ValueError(text)


@nbq.task
def note(path, text="ran", value=None):
    """Append a line to a file, as one write."""
    handle = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(handle, f"{text}\n".encode())
    os.close(handle)
    return value


def wait_for(path):
    """Wait until a file is there."""
    deadline = time.monotonic() + _DEADLINE_S
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.002)


@nbq.task
def block(mark, gate, value=None):
    """Say that it runs, wait for a file, return a value."""
    note(mark, str(os.getpid()))
    wait_for(gate)
    return value


@nbq.task
def slow_add(x, y):
    time.sleep(0.0001)
    return x + y


@nbq.task
def fails_until(path, value):
    """Fail until a file is there."""
    if not Path(path).exists():
        raise ValueError(value)
    return value


@nbq.task
def die(how, path, times=1_000_000):
    """End the slot's process, the first so many times; then return how often it was tried."""
    note(path)
    tries = len(Path(path).read_text().splitlines())
    if tries > times:
        return tries
    print(f"about to die by {how}", file=sys.__stderr__, flush=True)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(3)
    else:
        ctypes.string_at(0)
    return None


@nbq.task
def stubborn(path):
    """Refuse to be interrupted."""
    note(path)
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        try:
            time.sleep(0.05)
        except BaseException:
            note(path, "refused")


@nbq.task
def pid_of_slot():
    return os.getpid()


@nbq.task
def shout():
    """Print in every way there is."""
    print("from print")
    print("to stderr", file=sys.stderr)
    time.sleep(0.001)
    os.write(1, b"from os.write\n")
    subprocess.run(["echo", "from a child"], check=True)


class Unfriendly(Exception):
    """An exception that cannot be rebuilt from its pickle."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


@nbq.task
def raise_unfriendly():
    raise Unfriendly("salt", "pepper")


@nbq.task
def return_lock():
    import threading

    return threading.Lock()


class Unreadable:
    """A value that pickles and cannot be made again."""

    def __reduce__(self):
        return int, ("no number",)


@nbq.task
def return_unreadable():
    return Unreadable()


@nbq.task
def leave(code):
    sys.exit(code)


@nbq.task
def where():
    return str(Path.cwd()), list(sys.path)


@nbq.task(bind=True)
def fired(self, path):
    """Leave a line with the fire time that this is for."""
    note(path, str(self.request.fire_time.timestamp()))
