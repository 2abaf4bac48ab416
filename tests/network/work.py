"""Functions that engines on other hosts run in these tests; importable, so that they go by name."""

from __future__ import annotations

import hashlib
import os

import nbq
from tests.processes.work import note, wait_for


@nbq.task
def digest(data):
    whole = data if isinstance(data, bytes) else b"".join(data)
    return hashlib.sha256(whole).hexdigest()


@nbq.task
def fill(size, seed):
    return hashlib.shake_128(seed.to_bytes(4, "little")).digest(size)


@nbq.task
def swap(data):
    return data[::-1]


@nbq.task
def hold(mark, gate):
    """Say who runs it, wait for a file, return who ran it."""
    note(mark, str(os.getpid()))
    wait_for(gate)
    return os.getpid()
