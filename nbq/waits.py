"""Waiting for tasks inside a task: the slot hears of it, so that something else can run meanwhile.

A slot binds itself here for the thread in which its tasks run. What is known at once, or within a moment, is
waited for as anywhere. Nothing here knows what is waited for, or how.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Protocol

__all__ = ["MOMENT_S", "Host", "bind", "patiently", "while_pending"]

MOMENT_S = 0.005
"""How long a task waits before others are let run meanwhile."""


class Host(Protocol):
    """What lets others run while a task waits."""

    def wait_begins(self) -> None:
        """The running task begins to wait; raises TooManyWaiting if it may not."""
        ...

    def wait_ends(self) -> None:
        """It goes on. Called for each beginning, also for one that raised."""
        ...


_hosts: dict[int, Host] = {}
"""By thread."""


def bind(host: Host | None) -> Host | None:
    """Let a host, or nobody, know when the calling thread waits; returns the one that knew before."""
    thread = threading.get_ident()
    before = _hosts.pop(thread, None)
    if host is not None:
        _hosts[thread] = host
    return before


def patiently(until: Callable[[float | None], bool], timeout: float | None) -> bool:
    """Wait by ``until``, which takes a timeout and returns whether what is waited for has come.

    Raises:
        TooManyWaiting: This is a task, and more tasks of its engine wait than its setting allows.
    """
    host = _hosts.get(threading.get_ident())
    if host is None or (timeout is not None and timeout <= MOMENT_S):
        return until(timeout)
    if until(MOMENT_S):
        return True
    try:
        host.wait_begins()
        return until(timeout if timeout is None else timeout - MOMENT_S)
    finally:
        host.wait_ends()


def while_pending(future: asyncio.Future[None]) -> asyncio.Future[None]:
    """Return a future of the running event loop; a task that awaits it waits as by ``patiently``."""
    host = _hosts.get(threading.get_ident())
    if host is None or future.done():
        return future

    def begin() -> None:
        if future.done():
            return
        future.add_done_callback(lambda _: host.wait_ends())
        try:
            host.wait_begins()
        except Exception as error:  # too many wait: whoever awaits it is told, not the event loop
            if not future.done():
                future.set_exception(error)

    future.get_loop().call_later(MOMENT_S, begin)
    return future
