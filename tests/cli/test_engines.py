"""``nbq engines`` against a real hub and engine: all that it prints, and its exit codes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import nbq as library
from nbq.client import Client
from nbq.version import versions
from tests.cli.command import nbq, plain
from tests.processes.harness import until


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with library.Cluster(slots=1) as client:
        yield client


@pytest.fixture(autouse=True)
def name(client: Client, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let commands mean this hub; returns the name of its engine."""
    monkeypatch.setenv("NBQ_HUB", client.connection.path)
    return client.engines()[0].info.name


def bounds(client: Client) -> list[tuple[int, int, int]]:
    return [(view.info.slots, view.info.least, view.info.most) for view in client.engines()]


def test_slots_are_scaled_and_shown(client: Client, name: str) -> None:
    assert nbq("engines", "scale", name, "2", "--wait", "30") == (0, "told 1 engine to have 2 slots\n", "")
    assert bounds(client) == [(2, 0, 0)]
    assert nbq("engines", "scale", "--all", "1..3", "--json").json == {"told": 1}
    until(lambda: bounds(client) == [(2, 1, 3)])
    [row] = nbq("engines", "--json").json["engines"]
    info = client.engines()[0].info
    for changing in ("rss", "heard_s"):
        row.pop(changing)
    said = versions()
    assert row == {
        "name": name, "host": info.host, "pid": info.pid, "slots": 2, "least": 1, "most": 3,
        "queues": ["default"], "running": 0, "held": 0, "state": "up", "python": said["python"],
        "nbq": said["nbq"],
    }  # fmt: skip
    shown = nbq("engines", "list")
    assert nbq("engines").out.split("  ")[0] == shown.out.split("  ")[0] == "engine"
    assert " 2 of 1..3 " in plain(shown.out)


def test_slots_are_reloaded_and_engines_restarted(client: Client, name: str) -> None:
    pid = client.submit(os.getpid).get(30)
    assert nbq("engines", "reload", name).out == "told 1 engine to reload\n"
    until(lambda: client.submit(os.getpid).get(30) != pid)
    engine = client.engines()[0]
    assert nbq("engines", "restart", "--all", "--wait", "30").out == "told 1 engine to restart\n"
    assert [view.info.pid for view in client.engines() if view.id != engine.id] == [engine.info.pid]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("stop",), 2, "name one engine, or say --all"),
        (("drain", "x", "--all"), 2, "name one engine, or say --all"),
        (("scale", "x"), 2, "say which engine (or --all) and how many slots, such as 4 or 2..8"),
        (
            ("scale", "x", "auto"),
            2,
            "how many cores another host has is not known here: give bounds, such as 1..8",
        ),
        (("scale", "x", "8..2"), 2, "an engine has 1 to 4,096 slots, and bounds rise; '8..2' does not fit"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_asked_wrongly_is_refused(arguments: tuple[str, ...], code: int, text: str) -> None:
    assert nbq("engines", *arguments) == (code, "", f"nbq: {text}\n")


def test_who_is_not_there_is_told_near_names(name: str) -> None:
    ran = nbq("engines", "drain", name[:-1])
    assert ran == (2, "", f"nbq: no engine named {name[:-1]!r} is connected; there is {name}\n")


def test_a_viewer_may_look_and_no_more(client: Client, name: str) -> None:
    viewer = client.connection.path.replace("client.json", "viewer.json")
    assert [row["name"] for row in nbq("engines", "--hub", viewer, "--json").json["engines"]] == [name]
    ran = nbq("engines", "--hub", viewer, "--json", "stop", name)
    assert (ran.code, ran.json) == (
        3, {"error": {"type": "Refused", "message": "a viewer key cannot steer engines: use client.json"}},
    )  # fmt: skip


def test_an_engine_is_stopped(client: Client, name: str) -> None:
    assert nbq("engines", "stop", name, "--wait", "30") == (0, "told 1 engine to stop\n", "")
    assert client.engines() == []
    assert nbq("engines") == (0, "no engines: start one with 'nbq engine'\n", "")
