"""What the web page costs: the processor time of ``nbq web`` while tasks go through its hub at a set pace."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import tasks

PER_S = 10_000
PARTS = 10
"""So many maps a second make up the pace."""


def cost(client: Any, seconds: int) -> dict[str, float]:
    """Measure with one page open, and with none; in hundredths of a core.

    Args:
        client: Of a cluster.
        seconds: How long each.
    """
    with _serving(client.connection.path) as (pid, url):
        unseen = _used(pid, client, seconds)[0]
        with _open(url) as told:
            seen, rate = _used(pid, client, seconds)
        return {"open": seen, "closed": unseen, "rate": rate, "told": told[0] / 1000 / seconds}


def _used(pid: int, client: Any, seconds: int) -> tuple[float, float]:
    """Return what a process uses while tasks go through, and how many went in a second."""
    before, started = _cpu_s(pid), time.perf_counter()
    maps = []
    for part in range(seconds * PARTS):
        time.sleep(max(0.0, started + part / PARTS - time.perf_counter()))
        maps.append(client.map(tasks.noop, range(PER_S // PARTS)))
    for each in maps:
        each.get()
    took = time.perf_counter() - started
    return 100 * (_cpu_s(pid) - before) / took, seconds * PER_S / took


def _cpu_s(pid: int) -> float:
    """Return what a process has used, by its own clock: ticks would miss bursts of a few milliseconds."""
    return time.clock_gettime((~pid << 3) | 2)


@contextmanager
def _serving(hub: str) -> Iterator[tuple[int, str]]:
    command = [sys.executable, "-m", "nbq", "web", "--hub", hub, "--bind", "127.0.0.1:0"]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert started.stderr is not None
    try:
        found = re.search(r"http\S+", started.stderr.readline() + started.stderr.readline())
        assert found is not None
        yield started.pid, found.group()
    finally:
        started.terminate()
        started.wait()
        started.stderr.close()


@contextmanager
def _open(url: str) -> Iterator[list[int]]:
    """Read what an open page is told; gives a list with how many bytes that were."""
    address, _, token = url.partition("?token=")
    request = urllib.request.Request(f"{address}api/live", headers={"Authorization": f"token {token}"})
    told = [0]
    answer = urllib.request.urlopen(request)

    def read() -> None:
        for line in answer:
            told[0] += len(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    yield told
