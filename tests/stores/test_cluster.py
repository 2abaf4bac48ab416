"""Hubs, engines and clients with a result store: values go there first, and are read from there."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

import nbq
from nbq.errors import ResultGone, ResultStoreError, SettingsError
from tests.processes.harness import World, kill, slots_up, until
from tests.processes.work import add, fail, plus, total
from tests.stores import servers
from tests.stores.servers import PASSWORD, Server
from tests.stores.work import one_more, replaced, retried

NEEDLE = "a-value-that-nothing-else-has"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Folders and processes for one test."""
    folder = Path(tempfile.mkdtemp(prefix="nbq-t-"))
    made = World(folder)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    nbq.configuration.reset()
    try:
        yield made
    finally:
        nbq.configuration.reset()
        made.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A Redis that all processes are told of."""
    server = servers.redis()
    monkeypatch.setenv("NBQ_RESULT_BACKEND", server.url)
    try:
        yield server
    finally:
        server.end()


@pytest.fixture
def keys(backend: Server) -> Iterator[redis.Redis]:
    """What looks into it."""
    with redis.Redis.from_url(backend.url) as looking:
        yield looking


def found_in(folder: Path, text: str) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if text.encode() in path.read_bytes()]


def test_values_outlive_a_hub_that_is_killed_and_never_were_in_it(
    world: World, backend: Server, keys: redis.Redis
) -> None:
    hub = world.hub()
    world.engine(2)
    large = NEEDLE * 50_000
    with nbq.connect() as client:
        slots_up(client, 2)
        small = add.delay(NEEDLE, "!")
        big = add.delay(large, "!")
        mapped = client.map(add, range(1000), range(1000))
        chord = nbq.chord((add.s(i, i) for i in range(100)), total.s()).delay()
        broken = fail.delay(NEEDLE)
        assert (small.get(30), big.get(30) == large + "!", chord.get(30)) == (NEEDLE + "!", True, 9900)
        assert mapped.get(30) == [2 * i for i in range(1000)]
        with pytest.raises(ValueError, match=NEEDLE):
            broken.get(30)
        ids = [small.id, big.id, mapped.id, chord.id, broken.id]
    assert any(NEEDLE.encode() in (keys.get(key) or b"") for key in keys.keys("nbq:*"))
    assert min(keys.ttl(key) for key in keys.keys("nbq:*")) > 600_000
    kill(hub)
    world.hub()
    with nbq.connect() as client:
        got = [client.result(task) for task in ids]
        assert (got[0].get(30), got[1].get(30) == large + "!", got[3].get(30)) == (NEEDLE + "!", True, 9900)
        assert got[2].get(30) == [2 * i for i in range(1000)]
        with pytest.raises(ValueError, match=NEEDLE):
            got[4].get(30)
        shown = [*found_in(world.data, PASSWORD), *found_in(world.runtime, PASSWORD)]
        shown += [process.name() for process in world.alive("nbq") if PASSWORD in " ".join(process.cmdline())]
        assert (shown, PASSWORD in world.log.read_text()) == ([], False)
        for result in got:
            result.forget()
    assert keys.keys("nbq:*") == []


def test_every_way_to_end_goes_with_a_store(world: World) -> None:
    database = world.folder / "results.db"
    with nbq.Cluster(slots=2, result_backend=f"sqlite:///{database}") as client:
        chain = (replaced.s(1) | add.s(5)).delay()
        chord = nbq.chord([one_more.s(1), one_more.s(2)], total.s()).delay()
        got = [
            replaced.delay(1), chain, retried.delay("x"), chord,
            add.apply_async((1, 2), ignore_result=True), add.apply_async((1, 2), serializer="json"),
        ]  # fmt: skip
        assert [result.get(30) for result in got] == [12, 17, 400_000, 206, None, 3]
        assert client.map(len, ["a" * n for n in range(300)]).get(30) == list(range(300))
    with contextlib.closing(sqlite3.connect(database)) as rows:
        [(count,)] = rows.execute("SELECT count(*) FROM nbq_results").fetchall()
    assert count >= 10  # how many share a block depends on how fast they are


def test_a_store_that_is_away_is_waited_for(world: World, backend: Server) -> None:
    world.hub()
    world.engine(1)
    with nbq.connect() as other, nbq.connect() as client:
        slots_up(client, 1)
        before = add.delay(1, 1)
        assert before.get(30) == 2
        once = add.s(2, 2).set(acks_late=False)
        # Its second step is for an engine that is not there yet.
        chained = (add.s(3, 3) | plus.s(1).set(queue="later")).delay()
        until(lambda: chained.parent.state == "SUCCESS", "the first step")
        backend.stop()
        world.engine(1, "--queues", "later", name="later")
        result, failed = add.delay(4, 4), once.delay()
        with pytest.raises(
            ResultStoreError, match=r"^cannot write [0-9a-f]{32} in the result store redis://127"
        ):
            failed.get(30)
        until(lambda: (result.state, chained.state) == ("RETRY", "RETRY"), "their retries")
        with pytest.raises(
            ResultStoreError, match=r"^cannot read [0-9a-f]{32} in the result store redis://127"
        ):
            other.result(before.id).get(30)
        backend.start()
        assert (result.get(60), chained.get(60), other.result(before.id).get(30)) == (8, 7, 2)


def test_what_cannot_be_found_is_said(world: World, backend: Server, keys: redis.Redis) -> None:
    world.hub()
    world.engine(1)
    with nbq.connect(result_backend="") as without, nbq.connect() as client:
        slots_up(client, 1)
        result = add.delay(1, 1)
        until(result.ready, "its end")
        public = backend.url.replace(f":{PASSWORD}@", "")
        with pytest.raises(SettingsError) as unset:
            without.result(result.id).get(30)
        assert str(unset.value) == (
            f"this result lies in the result store {public}: set result_backend here to the URL of it"
        )
        [key] = keys.keys("nbq:*")
        keys.flushdb()
        with pytest.raises(ResultGone) as gone:
            result.get(30)
        assert str(gone.value) == (
            f"the result {key.decode()[4:]} is not in the result store {public}: it has expired "
            "(result_expires), was deleted, or result_backend names another store here than where it ran"
        )


def test_an_engine_says_why_its_slots_cannot_use_a_store(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBQ_RESULT_BACKEND", f"mongodb://me:{PASSWORD}@host")
    world.hub()
    world.engine(1)
    said = (
        "slot 0 cannot start: result_backend = mongodb://…: no store has such URLs; "
        "an entry point nbq.results can add one"
    )
    until(lambda: said in world.log.read_text(), "what it says")
    assert PASSWORD not in world.log.read_text()
