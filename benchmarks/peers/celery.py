"""Celery on Redis: a worker of two forked processes, results in Redis too.

Also the module of the worker's app, which finds the broker in its environment.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import celery
import redis

from benchmarks import script, work

CHUNK = 256
REDIS = "BENCHMARK_REDIS_URL"

app = celery.Celery("benchmarks", broker=os.environ.get(REDIS), backend=os.environ.get(REDIS))
app.conf.update(
    accept_content=["json", "pickle"],
    result_serializer="pickle",  # JSON has no arrays
    worker_prefetch_multiplier=128,  # what its guide to optimising advises for short tasks
    broker_connection_retry_on_startup=True,
)
noop = app.task(name="noop")(work.noop)
step = app.task(name="step")(work.step)
count = app.task(name="count")(work.count)
same = app.task(name="same", serializer="pickle")(work.same)


def measures() -> dict[str, script.Measure | str]:
    """Return what can be measured."""

    def map_rates(n: int) -> dict[str, float]:
        one = script.seconds(lambda: celery.group(noop.s(i) for i in range(n)).delay().get())
        many = n * script.CHUNKED
        chunks = noop.chunks(((i,) for i in range(many)), CHUNK).group()
        chunked = script.seconds(lambda: chunks.delay().get())
        return {"rate": n / one, "chunked": many / chunked}

    def submit_each(n: int) -> None:
        for result in [noop.delay(i) for i in range(n)]:
            result.get()

    def chain(n: int) -> dict[str, float]:
        started = time.perf_counter()
        links = celery.chain(step.s(0), *(step.s() for _ in range(n - 1)))
        built = time.perf_counter()
        assert links.delay().get() == n
        return {"step": 1e3 * (time.perf_counter() - built) / n, "plan": 1e3 * (built - started)}

    def chord(n: int) -> None:
        assert celery.chord((noop.s(i) for i in range(n)), count.s()).delay().get() == n

    return {
        "map": map_rates,
        "delay": lambda n: {"rate": n / script.seconds(lambda: submit_each(n))},
        "trip": lambda n: script.round_trips(lambda: noop.delay().get(), n),
        "chain": chain,
        "chord": lambda n: {"rate": n / script.seconds(lambda: chord(n))},
        "array": lambda n: {"none": 1e3 * script.there_and_back(lambda a: same.delay(a).get(), n)},
    }


@contextmanager
def redis_server(folder: str) -> Iterator[str]:
    """Run a Redis that keeps nothing on disk, on a free port; gives its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        folder,
    ]
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    try:
        client = redis.Redis(port=port)
        until = time.monotonic() + 10
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                if time.monotonic() > until:
                    raise
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def worker() -> Iterator[None]:
    """Run a worker, of this module's app, that has done something."""
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"]
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.peers.celery", "worker"]
    env = {**os.environ, "C_FORCE_ROOT": "1"}
    process = subprocess.Popen([*command, "-P", "prefork", "-c", "2", *quiet], env=env, stdout=sys.stderr)
    try:
        celery.group(noop.s(i) for i in range(100)).delay().get(timeout=60)
        yield
    finally:
        process.terminate()
        process.wait(30)


def main() -> None:
    """Start Redis and a worker, and measure."""
    with tempfile.TemporaryDirectory() as folder, redis_server(folder) as url:
        os.environ[REDIS] = url
        app.conf.update(broker_url=url, result_backend=url)
        version = redis.Redis.from_url(url).info("server")["redis_version"]
        with worker():
            script.run(
                measures(), {"celery": celery.__version__, "redis": version, "redis-py": redis.__version__}
            )


if __name__ == "__main__":
    main()
