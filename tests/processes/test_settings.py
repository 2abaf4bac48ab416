"""Settings as real processes obey them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

import nbq
from nbq import configuration
from tests.processes.harness import World, until
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
