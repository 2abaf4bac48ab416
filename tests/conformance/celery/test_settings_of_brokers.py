"""The settings of the introduction to Celery that are about the broker: what the hub does instead."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

import nbq
from tests.conformance.celery.work import add
from tests.network.conftest import made
from tests.network.hosts import Host
from tests.processes.harness import World, kill, slots_up, until

WAIT_S = 30.0


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Folders and processes for the tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        folder = Path(tempfile.mkdtemp(prefix="nbq-t-"))
        world = World(folder)
        for name, value in world.environment.items():
            patch.setenv(name, value)
        try:
            yield world
        finally:
            world.end()
            shutil.rmtree(folder, ignore_errors=True)


class Restarted(msgspec.Struct):
    """What was seen of a hub that was killed and started again."""

    engines: list[list[int]]
    before: str
    """The id of a task that had ended."""
    values: dict[str, Any]
    attempts: int
    refused: list[str]


@pytest.fixture(scope="module")
def restarted(world: World) -> Restarted:
    """Kill a hub while a client and an engine are connected, and start it again."""
    hub = world.hub()
    world.engine(2)
    with nbq.connect() as client:
        slots_up(client, 2)
        engines = [[engine.info.pid for engine in client.engines()]]
        before = add.delay(1, 1)
        before.get(WAIT_S)
        later = add.apply_async((2, 2), countdown=1)
        client.schedules.add("nightly", nbq.signature("tasks.add", (1, 1)), nbq.every(3600))
        client.flush()
        kill(hub)
        meanwhile = add.delay(3, 3)
        refused = []
        nbq.configure(retry_policy={"max_retries": 1, "interval_start": 0.01, "interval_step": 0})
        for options in ({}, {"retry": False}):
            try:
                add.apply_async((4, 4), **options)
            except nbq.HubUnreachable as error:
                refused.append(str(error).partition(";")[0])
        nbq.configure(retry_policy=None)
        world.hub()
        values = {"later": later.get(WAIT_S), "meanwhile": meanwhile.get(WAIT_S)}
        slots_up(client, 2)
        engines.append([engine.info.pid for engine in client.engines()])
        return Restarted(engines, before.id, values, later.attempts, refused)


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    """A host with a hub, and another with nothing but a copied file."""
    with made() as here, made() as there:
        here.hub("--bind", "tcp://127.0.0.1:0")
        yield here, there


# ------------------------------------------------------------------ a hub that is killed


def test_setting_broker_connection_retry(restarted: Restarted) -> None:
    assert restarted.values["meanwhile"] == 6


def test_setting_broker_connection_max_retries(restarted: Restarted) -> None:
    assert restarted.refused == [
        "hub 'default' does not answer, asked 2 times",
        "hub 'default' does not answer, asked 1 times",
    ]


def test_setting_broker_failover_strategy(restarted: Restarted) -> None:
    """Client and engine went on where they were."""
    assert restarted.engines[0] == restarted.engines[1]
    assert len(restarted.engines[0]) == 1


def test_setting_celery_queue_ha_policy(restarted: Restarted) -> None:
    with nbq.connect() as client:
        result = client.result(restarted.before)
        assert (result.state, result.get(WAIT_S), result.attempts) == ("SUCCESS", 2, 1)


def test_setting_celerybeat_schedule_redis_url(restarted: Restarted) -> None:
    """What is to run later, and what by the clock, is kept by the hub itself; it can be changed there."""
    assert (restarted.values["later"], restarted.attempts) == (4, 1)
    with nbq.connect() as client:
        nightly = client.schedules.get("nightly")
        assert (nightly.when, nightly.runs, nightly.state) == (nbq.every(3600), 0, "ACTIVE")
        nightly.edit(when=nbq.every(7200))
        assert nightly.when == nbq.every(7200)


@pytest.mark.usefixtures("restarted")
def test_setting_celery_default_delivery_mode(world: World) -> None:
    """The counterpart of transient messages: a hub that keeps nothing over its death."""
    hub = world.hub(name="brief", durability="none")
    with nbq.connect("brief") as client:
        lost = client.send_task("tasks.add", (1, 1)).id
        client.flush()
        assert client.result(lost).state == "QUEUED"
    kill(hub)
    world.hub(name="brief", durability="none")
    with nbq.connect("brief") as client, pytest.raises(nbq.UnknownResult):
        client.result(lost)


# ------------------------------------------------------------------ which hub


@pytest.mark.usefixtures("restarted")
def test_setting_broker_url(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.hub(name="second")
    with (
        nbq.connect() as one,
        nbq.connect("second") as two,
        nbq.connect(world.data / "second" / "client.json") as same,
    ):
        assert [client.connection.name for client in (one, two, same)] == ["default", "second", "second"]
    monkeypatch.setenv("NBQ_HUB", "second")
    with nbq.connect() as client:
        assert client.connection.name == "second"
    with pytest.raises(nbq.HubUnreachable, match="no hub named 'third' was ever started here"):
        nbq.connect("third")


@pytest.mark.usefixtures("restarted")
def test_setting_celerybeat_schedule_redis_prefix(world: World) -> None:
    """Hubs keep what they have apart by their names."""
    world.hub(name="apart")
    with nbq.connect("apart") as client:
        later = client.send_task("tasks.add", (1, 1), countdown=3600, task_id="nightly")
        client.flush()
        assert client.result("nightly").state == "SCHEDULED"
        assert client.schedules.names() == []
    with nbq.connect() as client:
        assert client.schedules.names() == ["nightly"]
        with pytest.raises(nbq.UnknownResult):
            client.result("nightly")
    assert {path.name for path in world.data.iterdir()} >= {"default", "apart"}
    assert later.id == "nightly"


# ------------------------------------------------------------------ the connection


def test_setting_broker_transport(hosts: tuple[Host, Host]) -> None:
    here, there = hosts
    assert here.said("listens at").count("ipc://") == 1
    with nbq.connect(there.take(here.file("client"))) as client:
        assert client.connection.endpoints == [f"tcp://127.0.0.1:{here.port()}"]
        assert client.status().hub["name"] == "default"


def test_setting_broker_use_ssl(hosts: tuple[Host, Host]) -> None:
    here, there = hosts
    public, secret = (key.decode() for key in zmq.curve_keypair())
    wrong = msgspec.structs.replace(here.connection("client"), public_key=public, secret_key=secret)
    with pytest.raises(nbq.AuthenticationError, match="does not know this key"):
        nbq.connect(there.write(wrong, "wrong.json"))


def test_setting_broker_login_method(hosts: tuple[Host, Host]) -> None:
    """A key is the login, and its role says what it may do."""
    here, there = hosts
    with nbq.connect(there.take(here.file("viewer"))) as viewer:
        assert viewer.status().hub["name"] == "default"
        with pytest.raises(nbq.NbqError, match="viewer"):
            add.delay(1, 1)


@pytest.mark.usefixtures("restarted")
def test_setting_broker_pool_limit() -> None:
    with nbq.connect() as client:
        found: list[int] = []
        threads = [
            threading.Thread(target=lambda k=k: found.append(add.delay(k, k).get(WAIT_S))) for k in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        assert (sorted(found), client.status().hub["clients"]) == ([2 * k for k in range(8)], 1)


@pytest.mark.usefixtures("restarted")
def test_setting_broker_connection_timeout(world: World) -> None:
    hub = world.hub(name="stopped")
    hub.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(nbq.HubUnreachable):
            nbq.connect("stopped", timeout=0.3)
    finally:
        hub.send_signal(signal.SIGCONT)
    with nbq.connect("stopped", timeout=WAIT_S) as client:
        assert client.status().hub["name"] == "stopped"


@pytest.mark.usefixtures("restarted")
def test_setting_broker_heartbeat_checkrate(world: World) -> None:
    """An engine that is not heard for some seconds is not counted on; when it is heard again, it is."""
    engine = world.engine(1, "--queues", "stops", name="stops")
    with nbq.connect() as client:
        until(lambda: "stops" in up(client), "its start")
        engine.send_signal(signal.SIGSTOP)
        try:
            until(lambda: "stops" not in up(client), "its loss")
            result = add.apply_async((1, 1), queue="stops")
            client.flush()
            assert result.state == "QUEUED"
        finally:
            engine.send_signal(signal.SIGCONT)
        assert (result.get(WAIT_S), "stops" in up(client)) == (2, True)


def up(client: nbq.Client) -> set[str]:
    """Return the names of the engines that can be given something."""
    return {engine.info.name for engine in client.engines() if engine.state == "up"}
