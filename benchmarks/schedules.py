"""The hub with many schedules: what they cost while none is due, and how fast many fire at once."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from nbq.core.events import SchedulePut
from nbq.core.model import BlockMeta, Graph, NodeSpec, Now, Slice
from nbq.core.timing import At, Cron, ScheduleSpec, Timing
from nbq.hub import Hub, HubInfo
from nbq.journal import Journal
from nbq.local.loopback import Loopback

__all__ = ["fires", "idle_share"]

_IDLE_S = 10.0
_DUE = 1_000
_START = Now(1000.0, 1_790_000_000.0)
_GRAPH = Graph([NodeSpec("tick", bytes(16))], value=Slice(0, 0, 1))


class _Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = _START

    def read(self) -> Now:
        return self.now


def _put(hub: Hub, number: int, timing: Timing) -> None:
    own_id = number.to_bytes(16, "big")
    event = SchedulePut(f"s{number}", own_id, "me", ScheduleSpec(timing), _GRAPH, [BlockMeta(0, 0, 1, 100)])
    hub.decide(event, hub._clock(), [bytes(100)])


def fires(n: int) -> dict[str, float]:
    """Measure how long 1,000 fire times that are due at once take to be queued, among n schedules.

    In this process, with a real journal, so that a turn is measured and not the way to it.
    """
    due_s = _START.wall_s + 60.0
    with tempfile.TemporaryDirectory(prefix="nbq-bench-") as folder:
        clock = _Clock()
        journal = Journal(Path(folder), "process")
        info = HubInfo("bench", "process", 1, {})
        hub = Hub(Loopback(), journal, clock.read, info, lambda _user, _token: None)
        when = At(datetime.fromtimestamp(due_s, UTC))
        for number in range(n):
            _put(hub, number, when if number < _DUE else Cron("0", "3", tz="Asia/Shanghai"))
        hub.turn(0.0)
        while hub.scheduler.wait_s(clock.now) == 0.0:
            hub.turn(0.0)
        clock.now = Now(_START.mono_s + 60.0, due_s)
        turns = []
        while len(hub.scheduler.ledger.runs) < min(n, _DUE) or hub.scheduler.wait_s(clock.now) == 0.0:
            turns.append(_seconds(lambda: hub.turn(0.0)))
        journal.close()
    return {"due": 1e3 * sum(turns), "turn": 1e3 * max(turns), "turns": float(len(turns))}


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def idle_share(hub: psutil.Process) -> float:
    """Return which share of a processor a hub uses while nothing happens, in percent."""
    before, began = hub.cpu_times(), time.perf_counter()
    time.sleep(_IDLE_S)
    after = hub.cpu_times()
    used = after.user + after.system - before.user - before.system
    return 100.0 * used / (time.perf_counter() - began)
