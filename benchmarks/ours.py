"""nbq's own figures: a cluster of two slots on this machine, a fresh one for each row."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import psutil

import nbq
from benchmarks import schedules, script, tasks, watched
from nbq import wire
from nbq.batch import seal_plan, stage
from nbq.canvas import Canvas, plan
from nbq.version import versions

FLUSH_S = 120.0
_READY = """
import time, nbq
started = time.perf_counter()
with nbq.Cluster(slots=2):
    print(time.perf_counter() - started)
"""


@contextmanager
def cluster(durability: Literal["none", "process"] = "process") -> Iterator[Any]:
    """Give the client of a cluster that has done something."""
    with nbq.Cluster(slots=2, durability=durability) as client:
        mapped(client, 1_000)
        yield client


def mapped(client: Any, n: int) -> float:
    """Return the rate of a map, from the call to the last value."""

    def all_of_them() -> None:
        assert len(client.map(tasks.noop, range(n)).get()) == n

    return n / script.seconds(all_of_them)


def map_rates(n: int) -> dict[str, float]:
    """Measure a map; nbq has one form of it, which stands beside both of the peers'."""
    with cluster() as client:
        rate = mapped(client, n)
    return {"rate": rate, "chunked": rate}


def delay(n: int) -> dict[str, float]:
    """Measure separate calls, all submitted before the first is read."""

    def submit_each() -> None:
        for result in [tasks.noop.delay(i) for i in range(n)]:
            result.get()

    with cluster():
        return {"rate": n / script.seconds(submit_each)}


def trip(n: int) -> dict[str, float]:
    """Measure one call at a time."""
    with cluster():
        return script.round_trips(lambda: tasks.noop.delay().get(), n)


def chain(n: int) -> dict[str, float]:
    """Measure a chain; building and planning it apart, from the time of a step."""

    def build() -> nbq.chain:
        return nbq.chain(tasks.step.s(0), *(tasks.step.s() for _ in range(n - 1)))

    with cluster():
        planning_s = script.seconds(lambda: plan(build()))
        links = build()
        started = time.perf_counter()
        assert links.delay().get() == n
        return {"step": 1e3 * (time.perf_counter() - started) / n, "plan": 1e3 * planning_s}


def chord(n: int) -> dict[str, float]:
    """Measure a chord, from building it to the value of its body."""

    def whole() -> None:
        assert nbq.chord([tasks.noop.s(i) for i in range(n)], tasks.count.s()).delay().get() == n

    with cluster() as client:
        rate = n / script.seconds(whole)
        return {"rate": rate, "of_map": rate / mapped(client, n)}


def fans(k: int) -> Canvas:
    """Return a task, then k times a group of three and a task that joins it; it is worth k + 1."""
    canvas: Canvas = tasks.step.s(0)
    for _ in range(k):
        canvas = canvas | nbq.group(tasks.step.s(), tasks.step.s(), tasks.step.s()) | tasks.most.s()
    return canvas


def submitted_bytes(client: Any, canvas: Canvas) -> int:
    """Return how many bytes the messages have that submit a canvas, without its functions."""
    link = client._link
    sealed = seal_plan(plan(canvas), link.mint.run(), link.sealer, client._function)
    stages, submit = stage(sealed.run, sealed.graph, sealed.blocks)
    return sum(len(wire.encode(message)) for message in (*stages, submit))


def canvas(n: int) -> dict[str, float]:
    """Measure what a task costs in canvases of the same shape, of 8 and of n fans."""

    def whole() -> None:
        assert fans(n).delay().get() == n + 1

    with cluster() as client:
        small, large = (submitted_bytes(client, fans(k)) / (4 * k + 1) for k in (8, n))
        return {"small": small, "bytes": large, "rate": (4 * n + 1) / script.seconds(whole)}


def array(n: int) -> dict[str, float]:
    """Measure a large array there and back, with and without a journal."""
    found: dict[str, float] = {}
    durabilities: tuple[Literal["none", "process"], ...] = ("none", "process")
    for durability in durabilities:
        with cluster(durability):
            found[durability] = 1e3 * script.there_and_back(lambda a: tasks.same.delay(a).get(), n)
    return found


def million(n: int) -> dict[str, float]:
    """Measure the hub with n tasks queued that no engine takes, then with as many that run."""
    with cluster() as client:
        client.map(tasks.noop, range(n), queue="nobody")
        client.flush(FLUSH_S)
        rss = psutil.Process(hub_pid(client)).memory_info().rss
    with cluster() as client:
        small = statistics.median(mapped(client, 10_000) for _ in range(5))
        me, hub = psutil.Process(), psutil.Process(hub_pid(client))
        engine = [child for child in me.children(recursive=True) if child != hub]
        parts = {"client_cpu": [me], "hub_cpu": [hub], "engine_cpu": engine}
        before = {name: cpu_s(processes) for name, processes in parts.items()}
        rate = mapped(client, n)
        cpu = {name: (cpu_s(processes) - before[name]) * 1e6 / n for name, processes in parts.items()}
    return {"rss": rss / 1e6, "rate": rate, "to_10k": rate / small, **cpu}


def hub_pid(client: Any) -> int:
    """Return the process of the client's hub."""
    return int(client.status().hub["pid"])


def cpu_s(processes: list[psutil.Process]) -> float:
    """Return the seconds of processor time that processes have used."""
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)


def many_schedules(n: int) -> dict[str, float]:
    """Measure the hub with n schedules: idle, and with many due at once."""
    with cluster() as client:
        hub = psutil.Process(hub_pid(client))
        bare = schedules.idle_share(hub)
        when = nbq.crontab(minute=0, hour=3, day_of_month=29, month_of_year=2, tz="Asia/Shanghai")
        for number in range(n):
            client.schedules.add(f"s{number}", tasks.noop.s(number), when)
        share = schedules.idle_share(hub)
    return {"bare": bare, "idle": share, **schedules.fires(n)}


def start(n: int) -> dict[str, float]:
    """Measure what a user waits for first; medians of n fresh processes each."""
    shell = Path(sys.executable).with_name("nbq")
    command = [str(shell)] if shell.exists() else [sys.executable, "-m", "nbq"]

    def wall(*command: str) -> Callable[[], float]:
        return lambda: script.seconds(lambda: subprocess.run(command, check=True, capture_output=True))

    def ready() -> float:
        done = subprocess.run([sys.executable, "-c", _READY], check=True, capture_output=True)
        return float(done.stdout)

    asked = {
        "python": wall(sys.executable, "-c", "pass"),
        "import": wall(sys.executable, "-c", "import nbq"),
        "help": wall(*command, "--help"),
        "cluster": ready,
    }
    found = {name: 1e3 * statistics.median(ask() for _ in range(n)) for name, ask in asked.items()}
    found["import"] -= found["python"]
    return found


def web(n: int) -> dict[str, float]:
    """Measure what the web page costs, for n seconds."""
    with cluster() as client:
        return watched.cost(client, n)


if __name__ == "__main__":
    script.run(
        {
            "map": map_rates,
            "delay": delay,
            "trip": trip,
            "chain": chain,
            "chord": chord,
            "canvas": canvas,
            "array": array,
            "million": million,
            "schedules": many_schedules,
            "start": start,
            "web": web,
        },
        {"nbq": versions()["nbq"]},
    )
