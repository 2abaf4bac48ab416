"""The settings of the introduction to Celery that say how calls are made, or what says it here instead."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

import nbq
from nbq import chord, group
from nbq.testing import ClusterUnderTest
from tests.conformance.celery.work import (
    about,
    add,
    asks,
    called,
    fail,
    flaky,
    hopeless,
    kinds,
    loses_its_engine,
    losing,
    mul,
    note,
    same,
    xsum,
)

SHANGHAI = ZoneInfo("Asia/Shanghai")


# ------------------------------------------------------------------ where calls go


def test_setting_celery_default_queue(nbq_cluster: ClusterUnderTest) -> None:
    assert same.delay(1).queue == "default"
    nbq.configure(default_queue="celery")
    assert (same.delay(1).queue, same.apply_async((1,), queue="other").queue) == ("celery", "other")


def test_setting_celery_default_exchange(nbq_cluster: ClusterUnderTest) -> None:
    with pytest.raises(nbq.InvalidSignature, match="'exchange': there are no exchanges here; name the queue"):
        same.apply_async((1,), exchange="reports")
    assert same.apply_async((1,), queue="reports").queue == "reports"


def test_setting_celery_default_exchange_type(nbq_cluster: ClusterUnderTest) -> None:
    """What topic exchanges did by patterns of keys, routes do by patterns of names."""
    with pytest.raises(nbq.InvalidSignature, match="'exchange_type': there are no exchanges here"):
        same.apply_async((1,), exchange_type="topic")
    nbq.configure(routes={"tasks.*": "numbers", re.compile(r".*\.(same|note)"): "rest"})
    assert [task.delay(1).queue for task in (same, note, fail)] == ["rest", "rest", "default"]
    assert [task.delay(1, 1).queue for task in (add, mul)] == ["numbers", "numbers"]


def test_setting_celery_default_routing_key(nbq_cluster: ClusterUnderTest) -> None:
    """The queue is the key: a task finds it there, as in Celery."""
    assert about.delay().get()["queue"] == "default"
    nbq.configure(default_queue="reports")
    assert about.delay().get()["queue"] == "reports"


def test_setting_celery_queues(nbq_cluster: ClusterUnderTest) -> None:
    nbq.configure(queues=["reports", "pictures"], create_missing_queues=False)
    assert [same.apply_async((1,), queue=name).get() for name in ("reports", "pictures", "default")] == [
        1,
        1,
        1,
    ]
    with pytest.raises(nbq.UnknownQueue, match="did you mean pictures"):
        same.apply_async((1,), queue="picture")


def test_setting_celery_routes(nbq_cluster: ClusterUnderTest) -> None:
    def router(name, args, kwargs, options, task=None, **_):
        return {"queue": "large", "priority": 7} if name == "tasks.xsum" and len(args[0]) > 2 else None

    nbq.configure(
        routes=[router, {"tasks.add": {"queue": "exact"}, "tasks.*": "glob", re.compile("s.*e"): "re"}]
    )
    assert [task.delay(1, 1).queue for task in (add, mul)] == ["exact", "glob"]
    assert (xsum.delay([1]).queue, xsum.delay([1, 2, 3]).queue, same.delay(1).queue) == (
        "glob",
        "large",
        "default",
    )

    @nbq.task(name="tasks.own_queue", queue="own")
    def own_queue():
        return nbq.current_task.request.delivery_info.routing_key

    assert (own_queue.delay().get(), own_queue.apply_async(queue="call").get()) == ("own", "call")
    members = group(add.s(1, 1), own_queue.s(), xsum.s([1, 2, 3])).delay()
    assert [member.queue for member in members] == ["exact", "own", "large"]


def test_setting_celery_create_missing_queues(nbq_cluster: ClusterUnderTest) -> None:
    assert same.apply_async((1,), queue="made for this").get() == 1
    nbq.configure(create_missing_queues=False)
    for call in (
        lambda: same.apply_async((1,), queue="unknown"),
        lambda: group(same.s(1), same.s(2).set(queue="unknown")).delay(),
        lambda: nbq.send_task("tasks.add", (1, 1), queue="unknown"),
    ):
        with pytest.raises(nbq.UnknownQueue, match="queue 'unknown' is not declared"):
            call()


# ------------------------------------------------------------------ times


def test_setting_celery_timezone(nbq_cluster: ClusterUnderTest) -> None:
    there = (nbq_cluster.now + timedelta(hours=1)).astimezone(SHANGHAI).replace(tzinfo=None)
    with pytest.raises(nbq.InvalidSignature, match="has no time zone and none is configured"):
        same.apply_async((1,), eta=there)
    nbq.configure(timezone="Asia/Shanghai")
    result, expired = same.apply_async((1,), eta=there), same.apply_async((1,), countdown=3700, expires=there)
    nbq_cluster.advance(3590)
    assert result.state == "SCHEDULED"
    nbq_cluster.advance(20)
    assert (result.state, expired.state) == ("SUCCESS", "REVOKED")


def test_setting_celery_enable_utc(nbq_cluster: ClusterUnderTest) -> None:
    """An instant is an instant, whatever the zone in which it is written, and tasks see it in UTC."""
    nbq.configure(timezone="Asia/Shanghai")

    @nbq.task(bind=True, name="tasks.eta")
    def eta(self):
        return self.request.eta

    instant = (nbq_cluster.now + timedelta(hours=1)).replace(microsecond=0)
    written = [instant, instant.astimezone(SHANGHAI), instant.astimezone(SHANGHAI).replace(tzinfo=None)]
    found = group(eta.s().set(eta=moment) for moment in written).delay().get()
    assert found == [instant] * 3
    assert {moment.tzinfo for moment in found} == {UTC}


# ------------------------------------------------------------------ chords, limits, failures


def test_setting_celery_chord_propagates(nbq_cluster: ClusterUnderTest) -> None:
    header = [add.s(1, 1), fail.s("lost"), add.s(2, 2)]
    with pytest.raises(ValueError, match="lost"):
        chord(header, note.s())().get()
    assert called == []
    values = chord(header, same.s(), propagate=False)().get()
    assert list(map(repr, values)) == ["2", "ValueError('lost')", "4"]


def test_setting_celery_disable_rate_limits(nbq_cluster: ClusterUnderTest) -> None:
    def minutes() -> float:
        before = nbq_cluster.now
        group(same.s(k).set(rate_limit="2/m") for k in range(11)).delay().get()
        return round((nbq_cluster.now - before).total_seconds() / 60, 1)

    assert 4.5 <= minutes() <= 5.5
    nbq.configure(disable_rate_limits=True)
    assert minutes() == 0


def test_setting_celery_store_errors_even_if_ignored(nbq_cluster: ClusterUnderTest) -> None:
    nbq.configure(ignore_result=True)
    result = fail.delay("kept")
    with pytest.raises(ValueError, match="kept"):
        result.get()
    assert (result.state, "ValueError: kept" in result.traceback) == ("FAILURE", True)


def test_setting_celery_ignore_result(nbq_cluster: ClusterUnderTest) -> None:
    nbq.configure(ignore_result=True)
    assert (add.delay(1, 1).get(), add.apply_async((1, 1), ignore_result=False).get()) == (None, 2)
    assert (add.s(1, 1) | mul.s(4)).set(ignore_result=False).delay().get() == 8


def test_setting_celery_annotations(nbq_cluster: ClusterUnderTest) -> None:
    class Quick:
        """Annotations as an object, as in Celery."""

        def annotate(self, task):
            return {"queue": "quick"} if task.name == "tasks.mul" else None

    def told(self, exc, task_id, args, kwargs, einfo):
        called.append((self.name, repr(exc)))

    def around(on_success):
        def wrapped(value, *rest):
            called.append(("around", value))
            return on_success(value, *rest)

        return wrapped

    nbq.configure(
        annotations=[
            {
                "*": {"priority": 4},
                about.name: {"priority": 6, "rate_limit": "1/m"},
                fail.name: {"on_failure": told},
            },
            Quick(),
            {flaky.name: {"max_retries": 1}, "tasks.add": {"@on_success": around}},
        ]
    )
    assert [told["priority"] for told in group(about.si(), about.si()).delay().get()] == [6, 6]
    assert (mul.delay(2, 2).queue, add.delay(1, 1).get()) == ("quick", 2)
    with pytest.raises(ValueError, match="not yet"):
        flaky.delay(2).get()
    with pytest.raises(ValueError, match="boom"):
        fail.delay().get()
    assert called == [("around", 2), (fail.name, "ValueError('boom')")]
    nbq.configure(annotations=[])
    assert (add.delay(1, 1).get(), about.delay().get()["priority"], len(called)) == (2, 0, 2)


# ------------------------------------------------------------------ in this process


def test_setting_celery_always_eager() -> None:
    nbq.configure(always_eager=True)
    result = add.apply_async((4, 4), countdown=3600)
    assert (result.state, result.get()) == ("SUCCESS", 8)
    assert (asks.delay(1).get(), nbq.chain(add.s(4) | mul.s(8))(4).get()) == (2, 64)
    note.delay(1)
    (note.s(2) | note.si(3)).apply_async()
    nbq.send_task(note.name, (4,))
    assert called == [("note", k) for k in (1, 2, 3, 4)]
    failed = fail.delay()
    assert (failed.state, repr(failed.result)) == ("FAILURE", "ValueError('boom')")


@pytest.mark.parametrize(
    "call",
    [
        fail.delay,
        hopeless.apply_async,
        (add.s(1, 1) | fail.si()).delay,
        group(add.s(1, 1), fail.s()).delay,
        lambda: nbq.send_task(fail.name),
    ],
)
def test_setting_celery_eager_propagates_exceptions(call) -> None:
    nbq.configure(always_eager=True, eager_propagates=True)
    with pytest.raises(ValueError, match=r"boom|never"):
        call()


# ------------------------------------------------------------------ how it travels


def test_setting_celery_result_serializer(nbq_cluster: ClusterUnderTest) -> None:
    assert same.delay((1, 2)).get() == (1, 2)
    nbq.configure(result_serializer="json")
    assert same.delay((1, 2)).get() == [1, 2]
    with pytest.raises(ValueError, match="boom") as caught:
        fail.delay().get()
    assert type(caught.value) is ValueError
    with pytest.raises(nbq.NotSerializable, match="result cannot be serialised as json"):
        same.delay({1, 2}).get()


def test_setting_celery_message_compression(nbq_cluster: ClusterUnderTest) -> None:
    def stored() -> int:
        before = nbq_cluster.client.status().hub["bytes"]
        assert kinds.delay("x" * 40_000).get() == ["str"]
        return int(nbq_cluster.client.status().hub["bytes"]) - int(before)

    nbq.configure(compression="none")
    assert stored() > 40_000
    nbq.configure(compression="zlib")
    assert stored() < 2_000


# ------------------------------------------------------------------ schedules


def test_setting_celerybeat_schedule(nbq_cluster: ClusterUnderTest) -> None:
    """The table is no setting, and is taken as it is; engines know nothing of it."""
    began = nbq_cluster.now
    beat = {
        "[shop.note.day]": {
            "task": note.name, "schedule": nbq.every(24 * 3600, start=began + timedelta(days=1)),
            "args": ("a day",), "options": {"expires": 60},
        },
        "[shop.note.hour]": {"task": note.name, "schedule": timedelta(hours=1), "args": ["an hour"]},
    }  # fmt: skip
    with pytest.raises(nbq.SettingsError, match=r"no setting 'beat_schedule'; .* client\.schedules\.update"):
        nbq.configure(beat_schedule=beat)
    nbq_cluster.client.schedules.update(beat)
    nbq_cluster.client.schedules.update(beat)
    nbq_cluster.advance(24 * 3600 + 1)
    assert sorted(called) == [("note", "a day"), *[("note", "an hour")] * 24]


def test_setting_broker_transport_options(nbq_cluster: ClusterUnderTest) -> None:
    """There is no visibility timeout: what waits for long is not delivered twice."""
    result = note.apply_async(("once",), eta=datetime.now(UTC) + timedelta(days=3))
    nbq_cluster.advance(4 * 24 * 3600)
    assert (result.attempts, called) == (1, [("note", "once")])


def test_setting_broker_heartbeat(nbq_cluster: ClusterUnderTest) -> None:
    """An engine that is silent is given up within seconds, and what it had runs elsewhere."""
    losing[:] = [nbq_cluster]
    before = nbq_cluster.now
    assert loses_its_engine.delay().get() == 2
    assert timedelta(seconds=3) < nbq_cluster.now - before < timedelta(seconds=20)


def test_a_setting_by_its_name_in_celery_is_not_taken_in_silence() -> None:
    with pytest.raises(
        nbq.SettingsError, match="there is no setting 'task_default_queue'; did you mean default"
    ):
        nbq.configure(task_default_queue="x")
    with pytest.raises(nbq.SettingsError, match="'CELERY_DEFAULT_QUEUE'; did you mean default_queue"):
        nbq.configure(CELERY_DEFAULT_QUEUE="x")
    with pytest.raises(
        nbq.SettingsError, match=r"'BROKER_URL'; docs/celery\.md says what stands for Celery's"
    ):
        nbq.configure(BROKER_URL="amqp://")
