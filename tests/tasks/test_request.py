"""What a running task knows of itself, in a slot and when it is called directly."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import nbq
from nbq.core.model import Options
from nbq.errors import UsageError
from nbq.request import DeliveryInfo, Request
from nbq.wire import Kin
from tests.tasks.stage import ID, RUN, Stage, value


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.close()


@nbq.task(bind=True)
def about(self, *args: Any, **kwargs: Any) -> Request:
    return self.request


@nbq.task
def by_name() -> Request:
    return nbq.current_task.request


@nbq.task
def nested() -> tuple[Request, Request, Request]:
    before = nbq.current_task.request
    return before, about(1), nbq.current_task.request


@nbq.task(bind=True, max_retries=9)
def as_the_task(self) -> tuple[str, int, str]:
    self.seen = "kept"
    return self.name, self.max_retries, str(self.s(1))


@nbq.task
async def later() -> Request:
    await asyncio.sleep(0)
    return nbq.current_task.request


@nbq.task(bind=True)
def in_a_thread(self) -> str:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(self.request.id))
    thread.start()
    thread.join()
    return found[0]


def test_every_field_that_is_known_is_filled(stage: Stage) -> None:
    options = Options(
        queue="slow", priority=3, eta_s=1000.0, expires_s=60.0, time_limit_s=9.0, soft_time_limit_s=8.0
    )
    ended = stage.run(
        about, 1, kwargs={"y": 2}, headers={"trace": "abc"}, options=options, retries=2, attempt=4,
        parent=Kin(3), root=Kin(1, 5, {5: "mine"}), header=True, at_s=2000.0,
    )  # fmt: skip
    assert value(ended) == Request(
        id=ID, task=about.name, run=RUN.hex(), root_id="mine", parent_id=f"{RUN.hex()}-3-0", args=(1,),
        kwargs={"y": 2}, retries=2, attempt=4, hostname="here", eta=datetime.fromtimestamp(1000, UTC),
        expires=datetime.fromtimestamp(2060, UTC), timelimit=(9.0, 8.0),
        delivery_info=DeliveryInfo(3, True, "slow"), headers={"trace": "abc"}, in_chord=True,
    )  # fmt: skip


def test_what_is_not_said_is_empty(stage: Stage) -> None:
    assert value(stage.run(about)) == Request(
        id=ID, task=about.name, run=RUN.hex(), root_id=ID, hostname="here",
        delivery_info=DeliveryInfo(0, False, "default"),
    )  # fmt: skip


def test_a_given_id_is_the_id(stage: Stage) -> None:
    assert value(stage.run(about, ids={0: "given"})).id == "given"


def test_a_request_can_be_read_like_celerys() -> None:
    request = Request(delivery_info=DeliveryInfo(2, False, "q"))
    info = request.delivery_info
    assert (info["priority"], info["redelivered"], info["routing_key"], info["exchange"]) == (
        2,
        False,
        "q",
        "",
    )
    assert (info.get("nothing", 5), request.get("retries"), request.get("nothing")) == (5, 0, None)
    with pytest.raises(KeyError):
        info["nothing"]


def test_a_direct_call_has_a_request_that_says_so() -> None:
    expected = Request(task=about.name, args=(1,), kwargs={"y": 2}, called_directly=True)
    assert about(1, y=2) == expected
    assert by_name() == Request(task=by_name.name, called_directly=True)
    assert asyncio.run(later()).called_directly


def test_a_direct_call_in_a_slot_is_one_too(stage: Stage) -> None:
    before, inner, after = value(stage.run(nested))
    assert (before.id, inner.id, inner.called_directly, after) == (ID, None, True, before)


def test_a_coroutine_knows_itself(stage: Stage) -> None:
    assert value(stage.run(later)).id == ID


def test_threads_of_a_task_know_it(stage: Stage) -> None:
    assert value(stage.run(in_a_thread)) == ID


def test_self_has_what_the_task_has(stage: Stage) -> None:
    assert value(stage.run(as_the_task)) == (as_the_task.name, 9, f"{as_the_task.name}(1)")
    assert as_the_task.seen == "kept"


def test_outside_of_tasks_there_is_nothing() -> None:
    assert repr(nbq.current_task) == "<no task is running here>"
    with pytest.raises(UsageError, match="no task is running here"):
        _ = nbq.current_task.request
    with pytest.raises(AttributeError, match="while no task is running here"):
        _ = nbq.current_task.name
    with pytest.raises(UsageError, match="inside tasks only"):
        nbq.current_task.update_state("X")


def test_it_pickles_by_name() -> None:
    assert pickle.loads(pickle.dumps(nbq.current_task)) is nbq.current_task


def test_a_plain_function_has_a_request_and_no_attributes(stage: Stage) -> None:
    assert value(stage.run(lambda: nbq.current_task.request.task)) == "plain"

    def name() -> str:
        try:
            return nbq.current_task.name
        except AttributeError as error:
            return str(error)

    assert value(stage.run(name)) == "a plain function has no 'name': make it a task with @nbq.task"
