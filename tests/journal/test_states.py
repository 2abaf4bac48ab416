"""The journal keeps of a whole state the last alone: schedules, how far they have come, what is steered."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbq.core.facts import Fact, ScheduleMoved, ScheduleRemoved, ScheduleSet, Steered
from nbq.core.model import BlockMeta
from nbq.core.timing import Cron, Every, Fire, ScheduleSpec, ScheduleState
from nbq.errors import StoreError
from nbq.journal import Journal
from tests.journal.test_journal import GRAPH, accepted, batch, leased, reopened, rows


def set_to(number: int, seconds: float) -> ScheduleSet:
    spec = ScheduleSpec(Every(seconds), overlap="queue", text="tick()")
    blocks = [BlockMeta(0, 0, 2, 4)]
    return ScheduleSet(number, f"s{number}", bytes(16), "owner", 1.5, spec, GRAPH, blocks)


def moved(number: int, runs: int) -> ScheduleMoved:
    fires = [Fire(10.0 * count, 10.5 * count, "run", bytes(16)) for count in range(runs)]
    return ScheduleMoved(number, ScheduleState(10.0 * runs, runs=runs, waiting=[7.5], history=fires))


def recovered(folder: Path) -> list[Fact]:
    store, facts = reopened(folder)
    store.close()
    return facts


def test_a_later_state_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    store = Journal(tmp_path, "process")
    store.commit(batch(set_to(1, 10.0), moved(1, 0), Steered(0, ["slow"], {})))
    for runs in range(1, 50):
        store.commit(batch(moved(1, runs), moved(1, runs + 1), accepted(runs + 1), leased(runs + 1, runs)))
    store.commit(batch(set_to(1, 20.0), Steered(0, [], {"tick": 5.0, "tock": None})))
    store.close()
    facts = recovered(tmp_path)
    assert facts[:3] == [Steered(0, [], {"tick": 5.0, "tock": None}), set_to(1, 20.0), moved(1, 50)]
    assert rows(tmp_path, "facts") == 3 + 49


def test_a_removed_schedule_leaves_nothing(tmp_path: Path) -> None:
    store = Journal(tmp_path, "process")
    store.commit(batch(set_to(1, 10.0), moved(1, 0), blocks=((1, 0, b"args"),)))
    store.commit(batch(set_to(2, 10.0), moved(2, 0), blocks=((2, 0, b"more"),)))
    store.commit(batch(moved(1, 3), ScheduleRemoved(1)))
    with pytest.raises(StoreError, match="has lost block 0 of run 1"):
        Journal.block(_uncached(store), 1, 0)
    assert store.block(2, 0) == b"more"
    store.close()
    assert recovered(tmp_path) == [set_to(2, 10.0), moved(2, 0)]
    assert (rows(tmp_path, "facts"), rows(tmp_path, "blocks")) == (2, 1)


def _uncached(store: Journal) -> Journal:
    store._cache.clear()
    return store


def test_another_definition_takes_the_place_in_one_transaction(tmp_path: Path) -> None:
    store = Journal(tmp_path, "process")
    store.commit(batch(set_to(1, 10.0), moved(1, 0), blocks=((1, 0, b"args"),)))
    store.commit(batch(ScheduleRemoved(1), set_to(2, 5.0), moved(2, 4), blocks=((2, 0, b"new"),)))
    store.close()
    assert recovered(tmp_path) == [set_to(2, 5.0), moved(2, 4)]


def test_blocks_of_a_schedule_survive_the_next_start(tmp_path: Path) -> None:
    store = Journal(tmp_path, "process")
    store.commit(batch(set_to(1, 10.0), moved(1, 0), blocks=((1, 0, b"args"), (9, 0, b"staged"))))
    store.close()
    store, facts = reopened(tmp_path)
    assert facts == [set_to(1, 10.0), moved(1, 0)]
    assert store.block(1, 0) == b"args"
    store.close()
    assert rows(tmp_path, "blocks") == 1


def test_a_spec_comes_back_as_it_was(tmp_path: Path) -> None:
    timing = Cron(minute="50", hour="4,5", tz="Asia/Shanghai", unix=True)
    spec = ScheduleSpec(timing, "all", "cancel_previous", 3.5, 1.0, 2.0, 7, "text", "file", "d" * 64)
    fact = ScheduleSet(1, "名", bytes(16), "owner", 1.5, spec, GRAPH, [])
    store = Journal(tmp_path, "process")
    store.commit(batch(fact))
    store.close()
    assert recovered(tmp_path) == [fact]
