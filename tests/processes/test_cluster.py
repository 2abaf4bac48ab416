"""Clusters: unnamed ones end with their block, named ones outlive it, and slots see what their maker sees."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path

import pytest

import nbq
from nbq.settings import live_runtime
from tests.processes.harness import World, until
from tests.processes.work import add, block, where

NAMED = """
import nbq, os, sys
from tests.processes.work import add
cluster = nbq.Cluster(slots=1, name="lab")
with cluster as client:
    print(client.status().hub["pid"], [engine.info.pid for engine in client.engines()])
    result = add.delay(20, 22)
    print(result.id, result.get(20))
if sys.argv[1:] == ["stop"]:
    cluster.stop()
"""

BY_VALUE = """
import nbq
base = 1
def helper(x): return x + base
@nbq.task
def f(x): return helper(x)
class Point:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return self.x == other.x
def move(point): return Point(point.x + base)
with nbq.Cluster(slots=1) as client:
    print(f.delay(1).get(), client.submit(f, 1).get(), list(client.map(helper, [1, 2])))
    print(client.submit(move, Point(4)).get() == Point(5))
    base = 10
    print(f.delay(1).get(), client.submit(move, Point(4)).get() == Point(14))
    def helper(x): return x * 100
    print(f.delay(1).get())
    @nbq.task
    def f(x): return ("new", x)
    print(f.delay(1).get(), client.submit(lambda: base).get())
"""


def test_a_block_gives_a_client_and_ends_everything(world: World) -> None:
    cluster = nbq.Cluster(slots=2)
    with cluster as client:
        assert client is cluster.client
        assert (client.slots, add.delay(1, 2).get(30)) == (2, 3)
        assert client.status().hub["durability"] == "process"
        # A supervisor and two slots are three Pythons.
        until(lambda: 30e6 < client.engines()[0].rss < 1e9, "the engine's memory")
        folder = Path(client.connection.path).parent
        assert folder.is_dir()
    assert client.closed
    world.gone(seconds=5)
    assert not folder.exists()
    assert list(world.runtime.glob("*.json")) == []


def test_a_cluster_without_a_block_has_a_client_and_a_stop(world: World) -> None:
    cluster = nbq.Cluster(slots=1)
    assert cluster.client.submit(pow, 2, 10).get(30) == 1024
    cluster.stop()
    cluster.stop()
    world.gone(seconds=5)


def test_leaving_with_unfinished_work_says_how_much_was_cancelled(world: World) -> None:
    cluster = nbq.Cluster(slots=1)
    block.delay(world.mark("runs"), world.mark("never"))
    cluster.client.map(add, range(10), range(10))
    world.marked("runs")
    with pytest.warns(UserWarning, match="^nbq: 11 unfinished tasks were cancelled with their cluster$"):
        cluster.__exit__()
    world.gone(seconds=5)


def test_leaving_with_an_error_ends_everything_too(world: World) -> None:
    with pytest.raises(ZeroDivisionError), nbq.Cluster(slots=1):
        raise ZeroDivisionError
    world.gone(seconds=5)


def test_a_named_cluster_is_found_again_by_the_same_call_until_it_is_stopped(world: World) -> None:
    first, result = world.output(NAMED).splitlines()
    task_id, value = result.split()
    assert value == "42"
    assert len(world.alive("hub")) == 1
    with nbq.connect("lab") as client:
        assert client.result(task_id).get(5) == 42
    again, _ = world.output(NAMED, "stop").splitlines()
    assert again == first
    world.gone(seconds=10)
    assert live_runtime("lab") is None
    third, _ = world.output(NAMED, "stop").splitlines()
    assert third != first
    world.gone(seconds=10)


def test_slots_have_the_import_path_and_the_folder_of_their_maker(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home_made.py").write_text("import nbq\n@nbq.task\ndef triple(x): return 3 * x\n")
    home_made = importlib.import_module("home_made")

    try:
        with nbq.Cluster(slots=1):
            assert home_made.triple.delay(14).get(30) == 42
            folder, path = where.delay().get(30)
    finally:
        del sys.modules["home_made"]
    assert folder == str(tmp_path)
    mine = [entry or folder for entry in sys.path]
    assert path[: len(mine)] == mine


def test_what_a_script_defines_goes_by_value_and_as_it_is_now(world: World) -> None:
    assert world.output(BY_VALUE).splitlines() == [
        "2 2 [2, 3]",
        "True",
        "11 True",
        "100",
        "('new', 1) 10",
    ]


def test_slots_import_what_they_are_told_to(world: World) -> None:
    with nbq.Cluster(slots=1, include=["tests.processes.work"]):
        by_name = nbq.signature("tests.processes.work.add", (1, 2))
        assert by_name.delay().get(30) == 3


def test_a_cluster_that_cannot_start_says_why_and_leaves_nothing(world: World) -> None:
    with pytest.raises(nbq.HubUnreachable) as caught:
        nbq.Cluster(slots=1, bind=["tcp://256.0.0.1:1"])
    assert "its hub ended with exit code" in str(caught.value)
    assert "256.0.0.1" in str(caught.value)
    world.gone(seconds=5)


def test_a_cluster_needs_a_slot(world: World) -> None:
    with pytest.raises(
        nbq.UsageError, match=r"an engine has 1 to 4,096 slots, and bounds rise; '0' does not fit"
    ):
        nbq.Cluster(slots=0)


def test_nothing_is_warned_of_when_all_has_ended(world: World) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with nbq.Cluster(slots=1):
            assert add.delay(1, 2).get(30) == 3


def test_a_warning_that_is_an_error_does_not_keep_a_cluster_alive(world: World) -> None:
    cluster = nbq.Cluster(slots=1)
    block.delay(world.mark("runs"), world.mark("never"))
    world.marked("runs")
    with pytest.raises(UserWarning, match="1 unfinished tasks"):
        cluster.stop()
    assert cluster.client.closed
    world.gone(seconds=5)
