"""Taking back and halting while a real slot races ahead: what is returned never started."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.bench import Bench

ROUNDS = 200


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path).started()
    yield made
    made.child.close()


def test_nothing_that_is_returned_is_ever_started(slot: Bench, tmp_path: Path) -> None:
    log = tmp_path / "started"
    log.touch()

    def mark(path: str, name: str) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(handle, f"{name}\n".encode())
        os.close(handle)

    address = slot.function(mark)
    chance = random.Random(3)
    wanted: set[str] = set()
    returned: set[str] = set()
    for turn in range(ROUNDS):
        names = [f"{turn}.{n}" for n in range(20)]
        wanted.update(names)
        slot.results.clear()
        token = slot.give(address, [(str(log), name) for name in names])
        until_s = time.perf_counter() + chance.random() * 0.001
        while time.perf_counter() < until_s:
            pass
        for found, lo, hi in slot.child.take_back():
            assert found == token
            returned.update(names[lo:hi])
        slot.finish(turn + 1)
    started = log.read_text().split()
    assert len(started) == len(set(started))
    assert returned & set(started) == set()
    assert len(wanted - returned - set(started)) <= ROUNDS
    assert returned
    assert started


def test_an_element_that_is_halted_has_no_outcome_and_the_others_have(slot: Bench) -> None:
    def work(n: int) -> int:
        if n == 1:
            time.sleep(60)
        return n

    token = slot.give(work, [(n,) for n in range(3)])
    slot.until(lambda: slot.child.running() == (token, 1))
    slot.child.halt(token, 0, 1, 5.0)
    assert slot.child.halted is None
    slot.child.halt(token, 1, 2, 5.0)
    slot.finish(1)
    assert slot.results == {0: (True, 0), 2: (True, 2)}
    assert not slot.child.overdue(time.monotonic() + 60)


def test_an_element_that_will_not_stop_is_overdue(slot: Bench) -> None:
    def stubborn() -> None:
        while True:
            try:
                time.sleep(60)
            except BaseException:
                continue

    token = slot.give(stubborn, [()])
    slot.until(lambda: slot.child.running() == (token, 0))
    slot.child.halt(token, 0, 1, 0.0)
    assert slot.child.overdue(time.monotonic())
    slot.child.kill()
    running, evidence = slot.died()
    assert running == (token, 0)
    assert "SIGKILL" in evidence
