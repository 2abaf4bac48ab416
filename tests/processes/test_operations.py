"""What docs/guide/operations.md promises of hubs that are stopped, moved and copied."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

import nbq
from tests.processes.harness import World, slots_up, until


@nbq.task
def hold(mark: str, release: str) -> str:
    """Leave a mark, run until there is another, and leave a line more."""
    for line in ("began\n", "ended\n"):
        with Path(mark).open("a") as file:
            file.write(line)
        while not Path(release).exists():
            time.sleep(0.005)
    return "done"


def stop(hub: subprocess.Popen[str]) -> None:
    hub.send_signal(signal.SIGTERM)
    assert hub.wait(10) == 0


def test_engines_run_on_while_there_is_no_hub_and_the_next_takes_what_has_ended(world: World) -> None:
    hub = world.hub()
    engine = world.engine(1)
    with nbq.connect() as client:
        slots_up(client, 1)
        result = hold.delay(world.mark("ran"), world.mark("go"))
        world.marked("ran")
        stop(hub)
        Path(world.mark("go")).touch()
        world.marked("ran", 2)
        assert engine.poll() is None
        world.hub()
        assert result.get(30) == "done"
        assert (world.lines("ran"), result.attempts) == (["began", "ended"], 1)


def test_a_copy_of_a_stopped_hubs_folder_is_a_backup(world: World) -> None:
    folder = world.data / "default"
    hub = world.hub()
    world.engine(1)
    with nbq.connect() as client:
        large = client.submit(bytes, 3_000_000)  # a file of its own
        small = client.submit(sum, [1, 2])
        assert (len(large.get(30)), small.get(30)) == (3_000_000, 3)
        with pytest.raises(sqlite3.OperationalError, match="database is locked"):  # so no tool copies it live
            sqlite3.connect(folder / "journal.sqlite", timeout=0.0).execute("SELECT * FROM meta")
    stop(hub)
    assert sorted(path.name for path in folder.glob("journal*")) == ["journal.sqlite"]  # nothing beside it
    copy = world.folder / "copy"
    shutil.copytree(folder, copy)
    shutil.rmtree(folder)
    world.hub("--data", str(copy))
    with nbq.connect(copy / "client.json") as client:
        assert (len(client.result(large.id).get(30)), client.result(small.id).get(30)) == (3_000_000, 3)
        until(lambda: client.slots == 1, "the engine's return: it has the same key")


def test_an_engine_of_another_protocol_is_not_let_in_and_ends(world: World) -> None:
    world.hub()
    other = "import sys, nbq.wire; nbq.wire.PROTOCOL += 1; sys.argv[1:] = ['engine']"
    engine = world.python("-c", f"{other}; from nbq.cli import main; main()")
    assert engine.wait(30) == 3
    assert "install the same nbq on both sides" in world.log.read_text()
