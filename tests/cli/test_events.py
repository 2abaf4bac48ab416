"""``nbq events``, and the logs of ``nbq hub`` and ``nbq engine``, as users start them."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import nbq as package
from nbq.client import Client
from tests.cli.command import COMMAND, Ran, nbq
from tests.processes.harness import World, until


def bad() -> None:
    raise ValueError("red \x1b[31m\nline")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with package.Cluster(slots=1) as client:
        with pytest.raises(ValueError, match="red"):
            client.submit(bad).get()
        client.map(abs, range(3)).get()
        yield client


@pytest.fixture
def events(client: Client, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NBQ_HUB", client.connection.path)

    def run(*args: str) -> Ran:
        return nbq("events", *args)

    return run


def test_text_is_a_line_an_event_and_escaped(events: Any) -> None:
    done = events("--kind", "failed", "--kind", "submitted", "-n", "2")
    failed, submitted = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert "  failed           bad " in failed
    assert failed.endswith(": ValueError: red \\x1b[31m line")
    assert "  submitted        abs " in submitted
    assert submitted.endswith("-0-0 x3")


def test_json_is_a_line_an_event(events: Any, client: Client) -> None:
    done = events("--json")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert (done.code, done.err) == (0, "")
    assert rows[0]["kind"] == "engine-joined"
    everything = client.events(0, timeout=0)
    assert [{**row, "at": datetime.fromisoformat(row["at"])} for row in rows] == [
        {name: getattr(event, name) for name in event.__struct_fields__} for event in everything
    ]


def test_a_number_a_limit_and_filters_choose(events: Any) -> None:
    rows = [json.loads(line) for line in events("--json").out.splitlines()]
    last = events("--json", "-n", "2").out.splitlines()
    assert [json.loads(line) for line in last] == rows[-2:]
    after = events("--json", "--after", str(rows[2]["seq"])).out.splitlines()
    assert [json.loads(line) for line in after] == rows[3:]
    abs_ = [row for row in rows if row["task"] == "abs"]
    chosen = events("--json", "--task", "abs", "--run", abs_[0]["id"]).out.splitlines()
    assert [json.loads(line) for line in chosen] == abs_
    assert events("--label", "none").out == ""


def test_an_unknown_kind_is_refused(events: Any) -> None:
    done = events("--kind", "sucess")
    assert (done.code, done.out) == (2, "")
    assert "there are no events of kind 'sucess', but: submitted," in done.err


def test_follow_goes_on_until_the_limit_or_ctrl_c(events: Any, client: Client) -> None:
    first = json.loads(events("--json", "-n", "1").out)["seq"]
    command = [*COMMAND, "events", "-f", "--json", "--after", str(first), "--kind", "submitted"]
    command += ["--kind", "succeeded"]
    limited = subprocess.Popen([*command, "-n", "2"], stdout=subprocess.PIPE, text=True)
    endless = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    client.submit(abs, 1).get()
    out = limited.communicate(timeout=30)[0]
    assert [json.loads(line)["kind"] for line in out.splitlines()] == ["submitted", "succeeded"]
    assert limited.returncode == 0
    assert endless.stdout is not None
    assert json.loads(endless.stdout.readline())["seq"] == first + 1
    endless.send_signal(signal.SIGINT)
    endless.communicate(timeout=30)
    assert endless.returncode == 130


def test_who_reads_no_more_is_left_in_peace(events: Any, client: Client) -> None:
    command = [*COMMAND, "events", "-f", "--after", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    assert "engine-joined" in process.stdout.readline()
    process.stdout.close()
    client.map(abs, range(2)).get()
    assert process.wait(30) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


# ------------------------------------------------------------------ logs


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(tmp_path)
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    yield world
    world.end()


def test_both_formats_say_what_hub_and_engine_do(world: World) -> None:
    hub = world.hub("--log-format", "json", "--log-level", "warning", "--log-level", "tasks=debug")
    engine = world.engine(1, "--log-level", "engine=warning", "--log-level", "tasks=debug")
    with package.connect() as client, pytest.raises(ValueError, match="red"):
        (result := client.submit(bad)).get()
    for process in (engine, hub):
        process.terminate()
        assert process.wait(30) == 0
    lines = world.log.read_text().splitlines()
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    rows = [row for row in rows if not row["event"].startswith("started")]  # seen only if it takes a while
    assert [list(row)[:4] for row in rows] == [["time", "level", "module", "event"]] * 2
    assert [(row["level"], row["module"], row["event"], row["task"], row["attempt"]) for row in rows] == [
        ("debug", "tasks", "submitted: bad", result.id, 1),
        ("debug", "tasks", "failed: bad", result.id, 1),
    ]
    assert rows[1]["error"] == "ValueError: red \x1b[31m line"
    said = [line.partition(" WARNING nbq engine: ")[2] for line in lines if " WARNING " in line]
    error = '"ValueError: red \\x1b[31m line"'
    assert said == [f"bad failed task={result.id} name=bad attempt=1 slot=0 error={error}"]


def test_the_hub_tells_at_first_who_comes_and_goes(world: World) -> None:
    hub = world.hub()
    with package.connect() as client:
        client.submit(abs, 1)
        client.cancel_all()
    until(lambda: "a peer is gone" in world.log.read_text(), "the end of a session")
    hub.terminate()
    assert hub.wait(30) == 0
    lines = [line.split(" nbq hub: ") for line in world.log.read_text().splitlines()]
    assert {
        datetime.strptime(head.rpartition(" ")[0], "%Y-%m-%d %H:%M:%S").year for head, _ in lines
    } != set()
    said = [(head.rpartition(" ")[2], text.partition(" peer=")[0]) for head, text in lines]
    assert said == [
        ("INFO", f"'default' (pid {hub.pid}) listens at ipc://{world.runtime / 'default.sock'}"),
        ("INFO", f"data {world.data / 'default'}, durability process"),
        ("INFO", "a peer connected"),
        ("INFO", "a peer is gone"),
        ("INFO", "it has committed what it was told, and ends"),
    ]


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ("loud", "'loud': there is no log level 'loud', but debug, info, warning, error"),
        ("peer=debug", "'peer=debug': the log has no module 'peer', but hub, peers, "),
    ],
)
def test_a_level_or_module_that_does_not_exist_is_refused(world: World, level: str, said: str) -> None:
    done = nbq("hub", "--log-level", level)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
