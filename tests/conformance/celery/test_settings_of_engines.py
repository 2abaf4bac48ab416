"""The settings of the introduction to Celery about workers and results, as real processes obey them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbq
from nbq.stores.choose import open_store
from tests.conformance.celery.work import add, kinds, logs, meet, pid, same
from tests.processes.harness import until

WAIT_S = 30.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for results."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def cluster(store: Path) -> Iterator[nbq.Cluster]:
    """A cluster that has all of these settings."""
    made = nbq.Cluster(
        concurrency=2,
        include=["tests.conformance.celery.included"],
        queues=["default", "reports"],
        worker_direct=True,
        max_tasks_per_child=5,
        accept_content=["pickle", "json"],
        result_backend=f"file://{store}",
    )
    with made:
        yield made


@pytest.fixture(autouse=True)
def client(cluster: nbq.Cluster) -> nbq.Client:
    """Its client."""
    return cluster.client


def test_setting_celery_include() -> None:
    assert nbq.send_task("only.there", (1,)).get(WAIT_S) == ["there", 1]
    assert nbq.signature("only.there", (2,)).delay().get(WAIT_S) == ["there", 2]
    with pytest.raises(nbq.UnknownTask, match=r"no task named 'only\.here'; did you mean only\.there\?"):
        nbq.send_task("only.here").get(WAIT_S)


def test_setting_celery_accept_content() -> None:
    assert [kinds.apply_async(((1,),), serializer=name).get(WAIT_S) for name in ("pickle", "json")] == [
        ["tuple"],
        ["list"],
    ]
    with pytest.raises(nbq.ContentDisallowed, match="made by the serializer 'yaml'"):
        kinds.apply_async((1,), serializer="yaml").get(WAIT_S)


def test_setting_celeryd_concurrency(client: nbq.Client, tmp_path: Path) -> None:
    assert [engine.info.slots for engine in client.engines()] == [2]
    results = [meet.delay(str(tmp_path), name, 3) for name in ("one", "two", "three")]
    until(lambda: len(list(tmp_path.iterdir())) == 2, "the start of two")
    states = ["QUEUED", "STARTED", "STARTED"]
    until(lambda: sorted(result.state for result in results) == states, "the hub's knowledge of it")
    waiting = next(result for result in results if result.state == "QUEUED")
    (tmp_path / ("one", "two", "three")[results.index(waiting)]).touch()
    pids = [result.get(WAIT_S) for result in results if result is not waiting]
    assert len(set(pids)) == 2
    waiting.get(WAIT_S)


def test_setting_celeryd_max_tasks_per_child() -> None:
    pids = Counter(nbq.group(pid.si() for _ in range(24)).delay().get(60))
    assert (max(pids.values()), sum(pids.values())) == (5, 24)


def test_setting_celeryd_prefetch_multiplier(tmp_path: Path) -> None:
    """A task that takes long keeps nothing back that others could run."""
    long = meet.delay(str(tmp_path), "long", 2)
    until(lambda: list(tmp_path.iterdir()), "the start of the long one")
    assert nbq.group(same.s(k) for k in range(12)).delay().get(WAIT_S) == list(range(12))
    assert long.state == "STARTED"
    (tmp_path / "enough").touch()
    long.get(WAIT_S)


def test_setting_celery_worker_direct(client: nbq.Client, cluster: nbq.Cluster) -> None:
    (engine,) = client.engines()
    result = add.apply_async((4, 4), queue=f"{engine.info.name}.dq")
    assert (result.get(WAIT_S), result.worker, engine.info.name) == (
        8,
        engine.info.name,
        f"{cluster.name}-engine",
    )


def test_setting_celery_broadcast_queue(client: nbq.Client, tmp_path: Path) -> None:
    """What a worker is told takes no queue: it is told by the hub, which also answers for it."""
    result = meet.delay(str(tmp_path), "runs", 2)
    until(lambda: list(tmp_path.iterdir()), "its start")
    assert result.revoke(terminate=True)
    with pytest.raises(nbq.TaskRevoked):
        result.get(WAIT_S)
    (engine,) = client.engines()
    assert {queue.name for queue in client.queues()} == {"default", "reports", f"{engine.info.name}.dq"}


def test_setting_celeryd_pool_restarts() -> None:
    """New code needs no restart: a function that is defined again is run as it is now."""

    def define(factor: int) -> nbq.Task:
        @nbq.task(name="changing")
        def changing(x):
            return factor * x

        return changing

    assert [define(factor).delay(2).get(WAIT_S) for factor in (1, 10)] == [2, 20]


def test_setting_celeryd_hijack_root_logger() -> None:
    before = list(logging.getLogger().handlers)
    result = logs.delay("said by a task")
    assert (result.get(WAIT_S), result.stderr) == ([], "said by a task\n")
    assert logging.getLogger().handlers == before


def test_setting_celerybeat_scheduler(client: nbq.Client) -> None:
    """What is to run later needs no process of its own, and not whoever asked for it."""
    with nbq.connect(client.connection.path) as other:
        task_id = other.send_task("only.there", (1,), countdown=0.3).id
        other.schedules.add("brief", nbq.signature("only.there", (2,)), 0.3, max_runs=1)
    assert client.result(task_id).get(WAIT_S) == ["there", 1]
    until(lambda: client.schedules.get("brief").state == "FINISHED")
    assert client.schedules.history("brief")[0].result.get(WAIT_S) == ["there", 2]


def test_setting_celery_result_backend(client: nbq.Client, store: Path) -> None:
    before = len([path for path in store.rglob("*") if path.is_file()])
    result = same.delay("a value that is kept elsewhere")
    assert result.get(WAIT_S) == "a value that is kept elsewhere"
    files = [path for path in store.rglob("*") if path.is_file()]
    assert len(files) > before
    assert any(b"kept elsewhere" in path.read_bytes() for path in files)
    with nbq.connect(client.connection.path, result_backend=f"file://{store}") as other:
        assert other.result(result.id).get(WAIT_S) == result.get()


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost/0",
        "db+sqlite:///results.db",
        "cache+memcached://localhost:11211",
        "sqlite:///results.db",
    ],
)
def test_setting_celery_result_backend_in_the_spellings_of_celery(url: str) -> None:
    assert repr(open_store(url)) == f"ResultStore({url!r})"


@pytest.mark.parametrize("scheme", ["mongodb", "cassandra", "ironcache", "couchbase", "rpc", "amqp"])
def test_setting_celery_result_backend_that_has_no_store(scheme: str) -> None:
    with pytest.raises(
        nbq.SettingsError, match=r"no store has such URLs; an entry point nbq\.results can add one"
    ):
        open_store(f"{scheme}://localhost")
