"""Schedules on a real cluster: real time, functions by value, large arguments, and no shared folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import nbq
from tests.processes.harness import until
from tests.schedules import work

DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def client() -> Iterator[nbq.Client]:
    with nbq.Cluster(slots=2, bind=["tcp://127.0.0.1:0"]) as client:
        yield client


@pytest.fixture(autouse=True)
def clean(client: nbq.Client) -> Iterator[None]:
    yield
    for handle in client.schedules:
        handle.remove()
    client.cancel_all()


def test_it_fires_on_its_own(client: nbq.Client) -> None:
    handle = client.schedules.add("often", work.fired, nbq.every(0.2))
    until(lambda: handle.runs >= 3)
    handle.pause()
    history = handle.history
    fires = [fire.fire_time for fire in history]
    assert [fire.result.get(DEADLINE_S) for fire in history] == [("often", at) for at in fires]
    assert len(set(fires)) == len(fires) == handle.runs
    assert all(round(at.timestamp() * 5, 6).is_integer() for at in fires)
    runs = handle.runs
    handle.resume()
    until(lambda: handle.runs > runs)


def test_a_function_of_a_notebook_cell(client: nbq.Client) -> None:
    scope: dict[str, Any] = {"__name__": "__main__", "nbq": nbq}
    exec("base = 40\n@nbq.task\ndef cell(x): return base + x", scope)
    handle = client.schedules.add("cell", scope["cell"].s(2), nbq.every(0.2), max_runs=1)
    assert until(lambda: handle.history)[0].result.get(DEADLINE_S) == 42
    assert (until(lambda: handle.state == "FINISHED"), handle.next) == (True, None)
    assert client.schedules.add("plain", lambda: base_of(scope), 3600).run().get(DEADLINE_S) == 40


def base_of(scope: dict[str, Any]) -> int:
    return scope["base"]


@pytest.mark.parametrize("overlap", ["skip", "queue", "cancel_previous"])
def test_overlap(client: nbq.Client, overlap: Any) -> None:
    """A run that waits for its time is in the way of the next ones."""
    handle = client.schedules.add(
        "slow", work.add.signature((1, 1), countdown=3600), nbq.every(0.1), overlap=overlap
    )
    wanted = {"skip": "overlap", "queue": "queued", "cancel_previous": "run"}[overlap]
    until(lambda: [fire.outcome for fire in handle.history[1:3]] == [wanted, wanted])
    handle.pause()
    active = handle.active
    assert len(active) == 1
    if overlap == "cancel_previous":
        assert {fire.result.state for fire in handle.history[:-1]} == {"REVOKED"}
    else:
        assert (handle.runs, active[0]) == (1, handle.history[0].result)


def test_run_now_through_a_hub_that_shares_no_folder(client: nbq.Client) -> None:
    """Large arguments and functions are sent as those of a run are: before it, in parts, and once."""
    far = [text for text in client.connection.endpoints if text.startswith("tcp://")]
    own = type(client.connection)(
        **{field: getattr(client.connection, field) for field in client.connection.__struct_fields__}
        | {"endpoints": far, "name": "elsewhere", "path": ""}
    )
    ballast = bytes(range(256)) * 8000

    def large(one: bytes, two: bytes) -> int:
        return len(one) + len(two) + len(ballast)

    with nbq.Client(own) as other:
        assert not other._link.local
        with pytest.warns(UserWarning, match="captures"):
            handle = other.schedules.add(
                "large", nbq.Task(large, "large", False, {}).s(b"a" * 3_000_000, b"b"), 3600
            )
        many = other.schedules.add(
            "many", nbq.group(work.add.s("x" * 300, str(n)) for n in range(3000)), 3600
        )
        assert handle.run().get(DEADLINE_S) == 3_000_001 + len(ballast)
        assert many.run().get(DEADLINE_S)[2999] == "x" * 300 + "2999"
    assert client.schedules.run("large").get(DEADLINE_S) == 3_000_001 + len(ballast)


def test_a_viewer_sees_and_steers_nothing(client: nbq.Client) -> None:
    client.schedules.add("report", work.fired, 3600)
    path = client.connection.path.replace("client.json", "viewer.json")
    with nbq.connect(path) as viewer:
        assert viewer.schedules.names() == ["report"]
        for act in (viewer.schedules.get("report").run, viewer.schedules.get("report").remove):
            with pytest.raises(nbq.UsageError, match="a viewer key cannot"):
                act()
        with pytest.raises(nbq.UsageError, match="a viewer key cannot"):
            viewer.schedules.add("other", work.fired, 3600)
