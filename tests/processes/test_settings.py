"""Settings as real processes obey them."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

import nbq
from nbq import configuration
from tests.processes.harness import World, kill, until
from tests.processes.work import add


@pytest.fixture(autouse=True)
def unset() -> Iterator[None]:
    configuration.reset()
    yield
    configuration.reset()


@nbq.task
def settings_here() -> tuple[object, ...]:
    found = nbq.current_settings()
    return found.default_queue, found.accept_content, found.waiting_limit, found.timezone


def test_a_cluster_its_client_and_its_slots_have_its_settings(world: World) -> None:
    with nbq.Cluster(
        concurrency=1, default_queue="usual", queues=["other"], waiting_limit=2, timezone="Asia/Shanghai",
        routes=[{re.compile(r".*work\.add"): "other"}],
    ) as client:  # fmt: skip
        assert client.slots == 1
        assert client.settings.default_queue == "usual"
        assert nbq.current_settings().default_queue == "default"
        assert [engine.info.queues for engine in client.engines()] == [["other"]]
        assert add.delay(1, 2).get(30) == 3


def test_a_cluster_serves_the_default_queue_and_the_declared_ones(world: World) -> None:
    nbq.configure(default_queue="usual", queues=["other"], accept_content=["pickle"])
    with nbq.Cluster(slots=1, waiting_limit=2, timezone="UTC") as client:
        assert [engine.info.queues for engine in client.engines()] == [["usual", "other"]]
        assert settings_here.delay().get(30) == ("usual", ("pickle",), 2, "UTC")
        assert client.submit(settings_here.run).get(30) == ("usual", ("pickle",), 2, "UTC")
        assert {queue.name for queue in client.queues()} == {"usual", "other"}


def test_a_task_goes_to_one_engine_by_its_direct_queue(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.hub()
    monkeypatch.setenv("NBQ_WORKER_DIRECT", "true")
    world.engine(1, name="one")
    world.engine(1, name="two")
    with nbq.connect(create_missing_queues=False) as client:
        until(lambda: len(client.engines()) == 2, "the engines' start")
        for name in ("one", "two"):
            result = add.apply_async((1, 2), queue=f"{name}.dq")
            assert (result.get(30), client.tasks(name=add.name)[0].engine) == (3, name)
        with pytest.raises(nbq.UnknownQueue, match="queue 'onne' is not declared"):
            add.apply_async((1, 2), queue="onne")


def test_a_task_is_sent_by_name_without_its_code(world: World) -> None:
    with nbq.Cluster(slots=1, include=["tests.processes.work"]) as client:
        sent = client.send_task("tests.processes.work.add", (1,), {"y": 2}, priority=3, task_id="mine")
        assert (sent.id, sent.get(30)) == ("mine", 3)
        assert nbq.send_task("tests.processes.work.add", [3, 4]).get(30) == 7


def test_children_of_a_task_are_what_it_submits(world: World) -> None:
    with nbq.Cluster(slots=2) as client:
        result = client.submit(submits_two)
        first, second = result.get(30)
        until(lambda: client.tasks(name=add.name)[1:], "the hub's knowledge of both")
        assert [child.id for child in result.children] == [first]
        assert [client.result(name).get(30) for name in (first, second)] == [3, 7]


def submits_two() -> tuple[str, str]:
    kept = add.delay(1, 2)
    return kept.id, add.apply_async((3, 4), add_to_parent=False).id


def test_serializers_compressions_and_headers_of_settings_tasks_and_calls(world: World) -> None:
    with nbq.Cluster(
        slots=1, task_serializer="json", result_serializer="msgpack", compression="zlib",
        result_compression="gzip", include=["tests.processes.work"],
    ) as client:  # fmt: skip
        assert add.delay("x" * 2000, "y").get(30) == "x" * 2000 + "y"
        assert client.map(add, [1, 2], [3, 4]).get(30) == [4, 6]
        assert (add.s(1, 2) | add.s(3)).delay().get(30) == 6
        with pytest.raises(nbq.NotSerializable, match=r"args\[0\]"):
            add.delay({1, 2}, 3)
        with pytest.raises(nbq.SettingsError, match="no such"):
            add.apply_async((1, 2), serializer="no such")


def test_a_time_without_a_zone_is_in_the_configured_one(world: World) -> None:
    naive = datetime.now(ZoneInfo("Asia/Shanghai")).replace(tzinfo=None)
    with nbq.Cluster(slots=1, timezone="Asia/Shanghai"):
        with pytest.raises(nbq.TaskRevoked):
            add.apply_async((1, 2), expires=naive - timedelta(seconds=5)).get(30)
        assert add.apply_async((1, 2), expires=naive + timedelta(hours=1)).get(30) == 3
        assert (add.s(1, 2).set(eta=naive) | add.s(3)).delay().get(30) == 6
    with nbq.Cluster(slots=1), pytest.raises(nbq.InvalidSignature, match="has no time zone and none is conf"):
        add.apply_async((1, 2), eta=naive)


def test_a_call_that_does_not_want_to_wait_for_a_hub_is_refused_when_it_is_gone(world: World) -> None:
    hub = world.hub()
    with nbq.connect() as client:
        assert add.apply_async((1, 2), retry=False).state == "QUEUED"
        kill(hub)
        policy = {"max_retries": 1, "interval_start": 0.01}
        for call in (
            lambda: add.apply_async((1, 2), retry=False),
            lambda: add.apply_async((1, 2), retry_policy=policy),
            lambda: nbq.group(add.s(1, 2), add.s(3, 4)).apply_async(retry=False),
            lambda: client.map(add, [1], [2], retry=False),
        ):
            began = time.monotonic()
            with pytest.raises(nbq.HubUnreachable, match="the call was not submitted"):
                call()
            assert time.monotonic() - began < 10
        kept = add.delay(3, 4)
        waiting = threading.Timer(0.5, world.hub)
        waiting.start()
        found = add.apply_async((5, 6), retry_policy={"max_retries": None})
        waiting.join()
        world.engine(1)
        assert [kept.get(30), found.get(30)] == [7, 11]
        assert len(client.tasks(name=add.name)) == 3
