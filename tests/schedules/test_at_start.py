"""``nbq hub`` in a project's folder applies what its files declare, at every start, and nothing twice."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nbq
from tests.cli.command import COMMAND
from tests.processes.harness import until

DEADLINE_S = 60.0
ENTRY = '[schedules.%s]\ntask = "shop.report"\nevery = %s\n'


class Project:
    """A folder with an ``nbq.toml``, and a hub that is started in it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.file = folder / "nbq.toml"
        self.log = folder / "hub.log"
        self.name = name
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> None:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*COMMAND, "hub", "--name", self.name, "--durability", "process", *arguments],
                cwd=self.file.parent, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def stop(self, signum: int = signal.SIGTERM) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        process.send_signal(signum)
        return process.wait(DEADLINE_S)

    def said(self, text: str) -> str:
        """Wait until the hub, or what it has started, has said something; return all that it said."""
        return until(lambda: (said := self.log.read_text()) if text in self.log.read_text() else "")

    def names(self) -> dict[str, Any]:
        with nbq.connect(self.name) as client:
            return {each.name: each.when for each in client.schedules}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path, f"project-{tmp_path.name}"[:60])
    yield project
    project.stop()


def test_declared_schedules_across_restarts(project: Project) -> None:
    source = f"schedules of 'folder {project.file.parent}':"
    project.file.write_text(ENTRY % ("a", 3600) + ENTRY % ("b", 3600))
    project.start()
    project.said(f"{source} 2 added")
    with nbq.connect(project.name) as client:
        client.schedules.add("hand", nbq.signature("shop.report"), 3600)
        first = client.schedules.run("a").id
    project.stop(signal.SIGKILL)

    project.start()
    project.said(f"{source} 2 kept")
    assert project.names() == {"a": nbq.every(3600), "b": nbq.every(3600), "hand": nbq.every(3600)}
    project.stop()

    project.file.write_text(ENTRY % ("a", 60) + ENTRY % ("c", 3600))
    project.start()
    project.said(f"{source} 1 added, 1 changed, 1 removed")
    assert project.names() == {"a": nbq.every(60), "c": nbq.every(3600), "hand": nbq.every(3600)}
    with nbq.connect(project.name) as client:
        assert [fire.run_id for fire in client.schedules.history("a")] == [first.split("-")[0]]
    project.stop()

    project.file.write_text("default_queue = 'usual'\n")  # none is declared any more
    project.start()
    project.said(f"{source} 2 removed")
    assert project.names() == {"hand": nbq.every(3600)}


def test_what_is_wrong_is_said_and_does_not_stop_the_hub(project: Project) -> None:
    project.file.write_text(ENTRY % ("right", 60) + ENTRY % ("wrong", '"often"'))
    project.start()
    said = project.said("nbq: ")
    assert f"nbq: {project.file}: schedule 'wrong': every: 'often' is no number of seconds" in said
    assert project.names() == {}
    assert project.stop() == 0


def test_a_hub_that_is_told_to_leaves_them(project: Project) -> None:
    project.file.write_text(ENTRY % ("a", 60))
    project.start("--no-schedules")
    project.said("listens at")
    assert project.names() == {}
    project.stop()
    assert "schedules of" not in project.log.read_text()
