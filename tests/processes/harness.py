"""Hubs, engines, clusters and scripts as real processes, in folders of their own; none may be left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

import nbq
from nbq.settings import live_runtime

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30.0
_POLL_S = 0.005

T = TypeVar("T")


def until(condition: Callable[[], T], what: str = "it", seconds: float = PATIENCE_S) -> T:
    """Wait until a condition holds and return what it returned; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {seconds:g} s")
        time.sleep(_POLL_S)
    return found


class World:
    """Folders for data and sockets, and the processes that use them.

    Args:
        folder: A short path (socket paths are limited) that nothing else has in its environment.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.runtime = folder / "run"
        self.log = folder / "log"
        self.marks = folder / "marks"
        self.marks.mkdir()
        self.started: list[subprocess.Popen[str]] = []

    @property
    def environment(self) -> dict[str, str]:
        """Return what places hubs into the folder."""
        return {"NBQ_DATA_DIR": str(self.data), "NBQ_RUNTIME_DIR": str(self.runtime)}

    # -------------------------------------------------------------- starting

    def python(self, *arguments: str, capture: bool = False) -> subprocess.Popen[str]:
        """Start Python with these folders and with the project on its path."""
        inherited = {name: value for name, value in os.environ.items() if name != "NBQ_HUB"}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                env={**inherited, **self.environment, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if capture else log, stderr=log, text=True,
                cwd=self.folder,
            )  # fmt: skip
        self.started.append(process)
        return process

    def hub(
        self, *arguments: str, name: str = "default", durability: str = "process"
    ) -> subprocess.Popen[str]:
        """Start a hub and wait until it listens."""
        process = self.python("-m", "nbq", "hub", "--name", name, "--durability", durability, *arguments)
        until(lambda: self.listens(name, process), "the hub's start")
        return process

    def listens(self, name: str, process: subprocess.Popen[str]) -> bool:
        """Return whether a hub that was started listens; fail if it has ended."""
        assert process.poll() is None, self.log.read_text()
        found = live_runtime(name)
        return found is not None and found.pid == process.pid

    def engine(self, slots: int, *arguments: str, name: str = "e") -> subprocess.Popen[str]:
        """Start an engine (that may have to wait for its hub)."""
        return self.python("-m", "nbq", "engine", "--slots", str(slots), "--name", name, *arguments)

    def script(self, text: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a script, as a user writes it, whose standard output can be read."""
        path = self.folder / f"script-{len(self.started)}.py"
        path.write_text(text)
        return self.python("-u", str(path), *arguments, capture=True)

    def output(self, text: str, *arguments: str) -> str:
        """Run a script to its end and return what it printed; it has to succeed."""
        process = self.script(text, *arguments)
        out, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, self.log.read_text()
        return out

    # -------------------------------------------------------------- marks that tasks leave

    def mark(self, name: str) -> str:
        """Return the path of a mark, for a task that is to leave it (or wait for it)."""
        return str(self.marks / name)

    def marked(self, name: str, lines: int = 1) -> list[str]:
        """Wait for a mark of so many lines and return its lines."""
        path = self.marks / name
        until(lambda: path.exists() and len(path.read_text().splitlines()) >= lines, f"mark {name}")
        return path.read_text().splitlines()

    def lines(self, name: str) -> list[str]:
        """Return the lines of a mark as it is now."""
        path = self.marks / name
        return path.read_text().splitlines() if path.exists() else []

    # -------------------------------------------------------------- processes

    def alive(self, part: str = "") -> list[psutil.Process]:
        """Return the processes with this folder in their environment, whoever their parent is now.

        Args:
            part: Only those whose command line has this word, such as ``hub`` or ``nbq.engines.slot``.
        """
        sign = os.fsencode(self.folder) + b"/run"
        found = []
        for pid in psutil.pids():
            try:
                if pid != os.getpid() and sign in Path(f"/proc/{pid}/environ").read_bytes():
                    process = psutil.Process(pid)
                    if process.status() != psutil.STATUS_ZOMBIE and (not part or part in process.cmdline()):
                        found.append(process)
            except (OSError, psutil.Error):
                continue
        return found

    def gone(self, part: str = "", seconds: float = PATIENCE_S) -> None:
        """Wait until no such process is alive."""
        until(lambda: not self.alive(part), f"the end of every {part or 'process'}", seconds)

    def end(self) -> None:
        """End what was started, engines before hubs, and fail if a process outlives that."""
        for process in reversed(self.started):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        try:
            self.gone(seconds=10)
        finally:
            for process in self.alive():
                process.kill()


def kill(process: subprocess.Popen[str] | psutil.Process) -> None:
    """Kill -9 a process and wait until it is gone."""
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE_S)


def slots_up(client: nbq.Client, slots: int) -> None:
    """Wait until the hub has engines with so many slots."""
    until(lambda: client.slots == slots, f"engines with {slots} slots")
