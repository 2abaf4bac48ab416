"""Coroutines of tasks: what interrupts one is felt where it waits, whatever is done with a cancel there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nbq.engines.coroutines import Coroutines


class Stop(BaseException):
    pass


def at_once(coroutines: Coroutines) -> None:
    """Interrupt the coroutine that runs, as a signal would, when the loop is next at work."""
    asyncio.get_running_loop().call_soon(coroutines.interrupt, Stop())


async def keeps_a_cancel() -> str:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "kept"
    return "never"


def test_an_interrupt_is_felt_though_what_is_awaited_keeps_the_cancel() -> None:
    coroutines = Coroutines()
    after: list[Any] = []

    async def work() -> None:
        at_once(coroutines)
        after.append(await asyncio.create_task(keeps_a_cancel()))

    with pytest.raises(Stop):
        coroutines.run(work())
    assert after == []


def test_an_interrupt_that_meets_what_is_done_comes_once() -> None:
    coroutines = Coroutines()

    async def work() -> str:
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(done.set_result, None)  # its waiter is to go on, and then
        at_once(coroutines)
        try:
            await done
        except Stop:
            for _ in range(5):
                await asyncio.sleep(0)  # nothing cancels what cleans up
            return "clean"
        return "not felt"

    assert coroutines.run(work()) == "clean"


def test_a_timeout_around_an_interrupt_is_still_a_timeout() -> None:
    coroutines = Coroutines()

    async def work() -> str:
        try:
            async with asyncio.timeout(0.05):
                at_once(coroutines)
                try:
                    await asyncio.Event().wait()
                except Stop:
                    await asyncio.Event().wait()
        except TimeoutError:
            return "timed out"
        return "never"

    assert coroutines.run(work()) == "timed out"
