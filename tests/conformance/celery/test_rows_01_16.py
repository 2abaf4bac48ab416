"""Rows 1 to 16 of what the introduction to Celery names: the broker, tasks, and how they are called."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import nbq
from nbq import AsyncResult
from nbq.testing import ClusterUnderTest
from tests.conformance.celery.work import (
    about,
    add,
    bound_handler,
    called,
    coded,
    error_handler,
    fail,
    flaky,
    hopeless,
    kinds,
    kinds_in_json,
    note,
    on_failure,
    same,
    submits_two,
    with_parentheses,
)

ONE_SLOT = pytest.mark.parametrize("nbq_cluster", [{"slots": 1}], indirect=True)


# ------------------------------------------------------------------ concepts


def test_row_01_what_is_sent_waits_between_client_and_engine(nbq_cluster: ClusterUnderTest) -> None:
    nbq_cluster.lose_engine(replace=False)
    result = add.delay(4, 4)
    nbq_cluster.advance(60)
    assert (result.state, nbq_cluster.calls) == ("QUEUED", [])
    nbq_cluster.add_engine()
    assert result.get() == 8


def test_row_02_a_decorated_function_is_a_task_with_a_name(nbq_cluster: ClusterUnderTest) -> None:
    module = "tests.conformance.celery.work"
    assert (add.name, same.name, with_parentheses.name) == (
        "tasks.add", f"{module}.same", f"{module}.with_parentheses",
    )  # fmt: skip
    assert (add(4, 4), same("x"), with_parentheses("x")) == (8, "x", "x")
    assert [task.delay("x").get() for task in (same, with_parentheses)] == ["x", "x"]


@ONE_SLOT
def test_row_03_whoever_is_free_takes_what_came_first(nbq_cluster: ClusterUnderTest) -> None:
    nbq.group(note.s(k) for k in range(5)).delay().get()
    for k in range(5, 10):
        note.delay(k)
    nbq_cluster.run_all()
    assert called == [("note", k) for k in range(10)]
    other = nbq_cluster.add_engine()
    first = next(engine.info.name for engine in nbq_cluster.client.engines() if engine.info.name != other)
    engines = {told["engine"] for told in nbq.group(about.si() for _ in range(20)).delay().get()}
    assert engines == {first, other}


# ------------------------------------------------------------------ calling


def test_row_04_apply_async_takes_a_list_or_tuple_and_a_dictionary(nbq_cluster: ClusterUnderTest) -> None:
    result = add.apply_async((4, 4))
    assert isinstance(result, AsyncResult)
    assert (
        result.get(),
        add.apply_async([4], {"y": 5}).get(),
        add.apply_async(kwargs={"x": 1, "y": 2}).get(),
    ) == (8, 9, 3)
    with pytest.raises(TypeError, match=r"tasks\.add\(x, y\): too many positional arguments"):
        add.apply_async((1, 2, 3))
    with pytest.raises(TypeError, match="missing a required argument: 'y'"):
        add.apply_async((1,))


def test_row_05_delay_takes_arguments_and_no_options(nbq_cluster: ClusterUnderTest) -> None:
    assert (add.delay(4, 4).get(), add.delay(x=4, y=5).get()) == (8, 9)
    delay: Any = add.delay
    with pytest.raises(TypeError, match="countdown"):
        delay(4, 4, countdown=10)


def test_row_06_a_call_runs_here_and_sends_nothing(nbq_cluster: ClusterUnderTest) -> None:
    assert (add(4, 4), add.s(2, 2)()) == (8, 4)
    with pytest.raises(ValueError, match="boom"):
        fail()
    assert nbq_cluster.client.tasks() == []


def test_row_07_link_callbacks(nbq_cluster: ClusterUnderTest) -> None:
    ran = nbq_cluster.run(add, (2, 2), link=add.s(16))
    assert ran.value == 4
    assert [child.get() for child in ran.result.children] == [20]
    ran = nbq_cluster.run(add, (2, 2), link=[add.s(4), add.s(8)])
    assert (ran.value, [child.get() for child in ran.result.children]) == (4, [8, 12])
    assert nbq_cluster.run(fail.s(), link=note.s()).states == {"FAILURE": 1}
    assert called == []


def test_row_08_errbacks(nbq_cluster: ClusterUnderTest) -> None:
    ran = nbq_cluster.run(
        fail, link_error=[error_handler.s(), bound_handler.s(), on_failure.s(), note.si("immutable")]
    )
    assert repr(ran.error) == "ValueError('boom')"
    assert called == [
        ("error_handler", ran.result.id),
        ("bound_handler", ran.result.id),
        ("on_failure", ran.result.id, "ValueError('boom')", "ValueError: boom"),
        ("note", "immutable"),
    ]
    called.clear()
    ran = nbq_cluster.run(fail.s("again").on_error(error_handler.s()))
    assert called == [("error_handler", ran.result.id)]


def test_row_08_an_errback_is_called_for_the_last_failure_and_not_for_retries(
    nbq_cluster: ClusterUnderTest,
) -> None:
    assert nbq_cluster.run(flaky, (2,), link_error=error_handler.s()).value == 2
    assert called == []
    ran = nbq_cluster.run(hopeless, link_error=error_handler.s())
    assert (repr(ran.error), called) == ("ValueError('never')", [("error_handler", ran.result.id)])


# ------------------------------------------------------------------ when


def test_row_09_eta_is_a_datetime(nbq_cluster: ClusterUnderTest) -> None:
    tomorrow = nbq_cluster.now + timedelta(days=1)
    result = add.apply_async((2, 2), eta=tomorrow)
    nbq_cluster.advance(24 * 3600 - 1)
    assert (result.state, nbq_cluster.calls) == ("SCHEDULED", [])
    nbq_cluster.advance(2)
    assert (result.state, result.get()) == ("SUCCESS", 4)
    with pytest.raises(
        nbq.InvalidSignature, match="eta must be a datetime, not 10; for seconds use countdown"
    ):
        add.apply_async((2, 2), eta=10)


def test_row_09_an_eta_without_a_zone_is_in_that_of_the_settings(nbq_cluster: ClusterUnderTest) -> None:
    nbq.configure(timezone="Asia/Shanghai")
    there = (nbq_cluster.now + timedelta(hours=1)).astimezone(ZoneInfo("Asia/Shanghai")).replace(tzinfo=None)
    result = add.apply_async((2, 2), eta=there)
    nbq_cluster.advance(3590)
    assert result.state == "SCHEDULED"
    nbq_cluster.advance(11)
    assert result.state == "SUCCESS"


def test_row_10_countdown_is_in_seconds(nbq_cluster: ClusterUnderTest) -> None:
    result, soon = add.apply_async((2, 2), countdown=10), add.apply_async((1, 1), countdown=0.5)
    nbq_cluster.advance(1)
    assert (result.state, soon.state) == ("SCHEDULED", "SUCCESS")
    before = nbq_cluster.now
    assert (result.get(), nbq_cluster.now >= before + timedelta(seconds=9)) == (4, True)


@pytest.mark.parametrize("form", ["seconds", "datetime"])
def test_row_11_what_expires_is_revoked(nbq_cluster: ClusterUnderTest, form: str) -> None:
    expires = 60 if form == "seconds" else nbq_cluster.now + timedelta(seconds=60)
    nbq_cluster.lose_engine(replace=False)
    late = note.apply_async((1,), expires=expires)
    nbq_cluster.advance(61)
    nbq_cluster.add_engine()
    with pytest.raises(nbq.TaskRevoked, match="expired"):
        late.get()
    assert (late.state, called) == ("REVOKED", [])
    in_time = note.apply_async((2,), expires=datetime.now(UTC) + timedelta(days=1))
    assert in_time.get() == 2


# ------------------------------------------------------------------ how it travels


def test_row_12_serializers_by_call_then_task_then_setting(nbq_cluster: ClusterUnderTest) -> None:
    def kind(task: nbq.Task, **options: str) -> str:
        return task.apply_async(((1, 2),), **options).get()[0]

    assert {name: kind(kinds, serializer=name) for name in ("pickle", "json", "yaml", "msgpack")} == {
        "pickle": "tuple", "json": "list", "yaml": "list", "msgpack": "list",
    }  # fmt: skip
    assert (kind(kinds), kind(kinds_in_json), kind(kinds_in_json, serializer="pickle")) == (
        "tuple",
        "list",
        "tuple",
    )
    nbq.configure(task_serializer="msgpack")
    assert kind(kinds) == "list"
    with pytest.raises(nbq.NotSerializable, match=r"args\[0\] cannot be serialised as json"):
        kinds_in_json.delay(b"bytes")  # which msgpack takes: the task's own goes before the setting
    assert kinds.delay(b"bytes").get() == ["bytes"]


def test_row_13_a_serializer_of_ones_own(nbq_cluster: ClusterUnderTest) -> None:
    nbq.configure(accept_content=["pickle", "literal"])
    assert kinds.apply_async((1j, (1, 2)), serializer="literal").get() == ["complex", "tuple"]
    assert coded == ["dumps", "loads"]


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "zlib"])
def test_row_14_compression(nbq_cluster: ClusterUnderTest, compression: str) -> None:
    def stored(name: str) -> int:
        before = nbq_cluster.client.status().hub["bytes"]
        assert kinds.apply_async(("x" * 40_000,), compression=name).get() == ["str"]
        return int(nbq_cluster.client.status().hub["bytes"]) - int(before)

    assert stored("none") > 40_000
    assert stored(compression) < 2_000


def test_row_15_a_compression_of_ones_own(nbq_cluster: ClusterUnderTest) -> None:
    assert kinds.apply_async(((1, 2),), compression="mirrored").get() == ["tuple"]
    assert coded == ["compress", "expand"]


# ------------------------------------------------------------------ the options in general


def test_row_16_options_that_a_task_can_see(nbq_cluster: ClusterUnderTest) -> None:
    result = about.apply_async(
        task_id="mine", queue="reports", priority=9, headers={"who": "me"}, time_limit=60,
        soft_time_limit=30, shadow="nightly report",
    )  # fmt: skip
    told = result.get()
    assert (result.id, result.queue, result.name) == ("mine", "reports", "nightly report")
    wanted = {
        "id": "mine", "queue": "reports", "priority": 9, "headers": {"who": "me"}, "limits": (60.0, 30.0),
        "task": about.name,
    }  # fmt: skip
    assert {name: told[name] for name in wanted} == wanted


@ONE_SLOT
def test_row_16_the_higher_priority_goes_first(nbq_cluster: ClusterUnderTest) -> None:
    for k in (1, 5, 9, 3):
        note.apply_async((k,), priority=k)
    nbq_cluster.run_all()
    assert called == [("note", k) for k in (9, 5, 3, 1)]


def test_row_16_what_is_ignored_and_what_is_nobody_s_child(nbq_cluster: ClusterUnderTest) -> None:
    assert add.apply_async((2, 2), ignore_result=True).get() is None
    with pytest.raises(ValueError, match="boom"):
        fail.apply_async(ignore_result=True).get()
    result = submits_two.delay()
    assert [child.id for child in result.children] == result.get()[:1]


def test_row_16_an_option_that_is_none_is_none(nbq_cluster: ClusterUnderTest) -> None:
    names = [
        "queue", "priority", "headers", "retry_policy", "time_limit", "soft_time_limit", "shadow",
        "countdown", "eta", "expires", "serializer", "compression", "task_id", "link", "link_error",
        "ignore_result",
    ]  # fmt: skip
    assert add.apply_async((2, 2), **dict.fromkeys(names)).get() == 4


@pytest.mark.parametrize("name", ["exchange", "routing_key", "delivery_mode"])
def test_row_16_an_option_of_exchanges_says_what_to_write(nbq_cluster: ClusterUnderTest, name: str) -> None:
    with pytest.raises(nbq.InvalidSignature, match=f"there is no option '{name}': .*name .*queue"):
        add.apply_async((2, 2), **{name: "reports"})
