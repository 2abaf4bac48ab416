"""What hubs and engines make of settings when they are started by command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nbq.cli.serve import engine, hub
from nbq.configuration import configure, current_settings, override
from nbq.core.scheduler import Limits
from nbq.errors import SettingsError
from nbq.settings import slot_bounds

Started = Callable[..., Any]


@pytest.fixture
def started(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    """Run a command with what would run the process in its place; returns the options it was given."""
    found: list[Any] = []
    for place in ("nbq.engines.supervisor.run_engine", "nbq.serve.run_hub"):
        monkeypatch.setattr(place, lambda options: found.append(options) or 0)
    monkeypatch.setattr("nbq.settings.find_connection", lambda *_: None)

    def start(command: Any, *arguments: str) -> Any:
        done = CliRunner().invoke(command, arguments, catch_exceptions=False)
        assert done.exception is None or isinstance(done.exception, SystemExit)
        return found.pop()

    return start


def test_an_engine_has_slots_queues_and_modules_of_the_settings(started: Started) -> None:
    configure(concurrency=3, default_queue="usual", queues=["a", "usual", "b"], include=["shop", "till"])
    options = started(engine, "--name", "e")
    assert (options.slots, options.queues, options.include, options.settings) == (
        3, ["usual", "a", "b"], ["shop", "till"], current_settings(),
    )  # fmt: skip


def test_arguments_of_the_command_go_before_the_settings(started: Started) -> None:
    configure(concurrency=3, queues=["a"], include=["shop"])
    options = started(engine, "--slots", "5", "--queues", "x,y", "--include", "till", "--name", "e")
    assert (options.slots, options.queues, options.include) == (5, ["x", "y"], ["till"])
    assert options.settings == override(current_settings(), {"concurrency": 5, "include": ["till"]}, "test")


def test_a_direct_engine_also_serves_a_queue_of_its_name(started: Started) -> None:
    configure(worker_direct=True)
    assert started(engine, "--name", "e").queues == ["default", "e.dq"]
    unnamed = started(engine, "--queues", "x")
    assert unnamed.queues == ["x", f"{unnamed.name}.dq"]


def test_a_hub_keeps_results_as_the_settings_say(started: Started) -> None:
    configure(result_expires=60, result_bytes=1000)
    assert started(hub).limits == Limits(retention_s=60.0, retention_bytes=1000)


def test_slots_of_an_engine_may_have_bounds(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    for text, slots in (("3", (3, 0, 0)), ("2..8", (2, 2, 8)), ("4..4", (4, 4, 4)), ("auto", (1, 1, 6))):
        options = started(engine, "--slots", text)
        assert (options.slots, options.least, options.most) == slots
        assert options.settings.concurrency == slots[0]


@pytest.mark.parametrize(
    "text", ["0", "8..2", "0..3", "2..4097", "4097", "-1", "2..", "..3", "many", "", "2.5"]
)
def test_slots_that_cannot_be(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^slots are a number, bounds such as|^an engine has 1 to 4,096"):
        slot_bounds(text)


def test_an_engine_begins_anew_with_the_command_that_started_it(started: Started) -> None:
    assert started(engine).command == [sys.executable, *sys.orig_argv[1:]]
