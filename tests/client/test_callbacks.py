"""``then`` and ``await``: called once, whoever waits meanwhile, whatever a callback does; never forgotten."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import queue
import threading
import time
from collections.abc import Iterator
from logging.handlers import QueueHandler

import pytest

import nbq
from nbq.errors import UsageError

DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[nbq.Client]:
    with nbq.Cluster(slots=2, durability="none") as client:
        yield client


@pytest.fixture
def client(cluster: nbq.Client) -> Iterator[nbq.Client]:
    with nbq.connect(cluster.connection.path) as made:
        yield made


def test_a_callback_does_not_wait_for_a_thread_that_waits_for_something_else(client: nbq.Client) -> None:
    called_s: list[float] = []
    slow = client.submit(time.sleep, 3.0)
    client.submit(time.sleep, 0.2).then(lambda _: called_s.append(time.monotonic()))
    slow.get(DEADLINE_S)
    ended_s = time.monotonic()
    assert len(called_s) == 1
    assert ended_s - called_s[0] > 1.5


def test_a_callback_that_raises_is_logged_and_the_client_goes_on(client: nbq.Client) -> None:
    logged: queue.Queue[logging.LogRecord] = queue.Queue()
    handler = QueueHandler(logged)
    handler.prepare = lambda record: record  # type: ignore[method-assign]

    def fail(_: object) -> None:
        raise ValueError("mine")

    called = threading.Event()
    logging.getLogger("nbq").addHandler(handler)
    try:
        client.submit(os.getpid).then(fail)
        record = logged.get(timeout=DEADLINE_S)
        assert record.exc_info is not None
        assert repr(record.exc_info[1]) == "ValueError('mine')"
        client.submit(os.getppid).then(lambda _: called.set())
        assert called.wait(DEADLINE_S)
        assert client.submit(abs, -1).get(DEADLINE_S) == 1
        assert logged.empty()
    finally:
        logging.getLogger("nbq").removeHandler(handler)


def test_a_loop_that_was_closed_meanwhile_harms_nobody(client: nbq.Client) -> None:
    slow = client.submit(time.sleep, 0.5)

    async def impatient() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_value(slow), 0.05)

    asyncio.run(impatient())
    called = threading.Event()
    slow.then(lambda _: called.set())
    assert called.wait(DEADLINE_S)


async def _value(result: nbq.AsyncResult) -> object:
    return await result


def test_a_callback_is_called_though_nobody_keeps_the_handle(client: nbq.Client) -> None:
    got: list[int] = []
    called = threading.Event()

    def take(result: nbq.AsyncResult) -> None:
        got.append(result.get(0))
        called.set()

    client.submit(_late, 7).then(take)
    client.flush()
    gc.collect()
    assert called.wait(DEADLINE_S)
    assert got == [7]


def _late(value: int) -> int:
    time.sleep(0.3)
    return value


def test_a_callback_may_wait_for_another_result_and_close_the_client(cluster: nbq.Client) -> None:
    client = nbq.connect(cluster.connection.path)
    got: list[int] = []
    called = threading.Event()

    def more(_: object) -> None:
        got.append(client.submit(abs, -3).get(DEADLINE_S))
        client.close()
        called.set()

    client.submit(abs, -2).then(more)
    assert called.wait(DEADLINE_S)
    assert (got, client.closed) == ([3], True)


def test_who_awaits_learns_that_the_client_was_closed(cluster: nbq.Client) -> None:
    client = nbq.connect(cluster.connection.path)
    slow = client.submit(time.sleep, 30)

    async def close_and_wait() -> None:
        waiting = asyncio.ensure_future(_value(slow))
        await asyncio.sleep(0)
        await asyncio.to_thread(client.close)
        with pytest.raises(UsageError, match="this client is closed"):
            await asyncio.wait_for(waiting, DEADLINE_S)

    asyncio.run(close_and_wait())
    assert cluster.cancel(slow.id) == 1


def test_every_one_of_many_callbacks_is_called_once(client: nbq.Client) -> None:
    calls: list[int] = []
    results = list(client.map(abs, range(-500, 0)).results)
    for number, result in enumerate(results):
        result.then(lambda _, number=number: calls.append(number))
    [result.get(DEADLINE_S) for result in results]
    until_s = time.monotonic() + DEADLINE_S
    while len(calls) < 500:
        assert time.monotonic() < until_s
        client.submit(abs, 1).get(DEADLINE_S)
    assert sorted(calls) == list(range(500))
