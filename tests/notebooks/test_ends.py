"""However a notebook's task ends, its kernel ends too, and so does what that has started."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest

import nbq
from nbq.engines import kernels
from tests.notebooks.kit import write
from tests.processes.harness import until

_PIDS = """\
import os, pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
place = pathlib.Path({place!r})
place.with_suffix(".part").write_text(f"{{os.getppid()}} {{os.getpid()}} {{child.pid}}")
place.with_suffix(".part").rename(place)
"""
_STUBBORN = """\
import time
while True:
    try:
        time.sleep(300)
    except KeyboardInterrupt:
        pass
"""


def begun(folder: Path, *cells: str) -> tuple[nbq.Signature, Path]:
    """Return a notebook that writes who it is, and the file to which it does."""
    place = folder / "pids"
    return nbq.notebook(write(folder, _PIDS.format(place=str(place)), *cells)), place


def pids(place: Path) -> list[psutil.Process]:
    """Return slot, kernel and the kernel's child, when they run."""
    until(place.exists, "the first cell")
    return [psutil.Process(int(word)) for word in place.read_text().split()]


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.usefixtures("client")
def test_cancel_stops_the_kernel_and_keeps_the_slot(tmp_path: Path) -> None:
    sig, place = begun(tmp_path, _STUBBORN)
    result = sig.set(cancel_grace=20).delay()  # longer than it may take on a busy machine
    slot, kernel, child = pids(place)
    assert kernel.ppid() == slot.pid
    assert result.cancel() is True
    until(lambda: gone(kernel) and gone(child), "the end of the kernel")
    with pytest.raises(nbq.TaskRevoked):
        result.get(30)
    assert not gone(slot)


@pytest.mark.usefixtures("client")
def test_a_slot_that_is_killed_takes_the_kernel_with_it(tmp_path: Path) -> None:
    sig, place = begun(tmp_path, _STUBBORN)
    result = sig.set(acks_late=False).delay()
    slot, kernel, child = pids(place)
    os.kill(slot.pid, signal.SIGKILL)
    until(lambda: gone(kernel) and gone(child), "the end of the kernel")
    with pytest.raises(nbq.TaskLost):
        result.get(30)


@pytest.mark.usefixtures("client")
def test_a_time_limit_stops_the_kernel_and_a_soft_one_interrupts_the_cell(tmp_path: Path) -> None:
    hard, soft = tmp_path / "hard", tmp_path / "soft"
    hard.mkdir()
    soft.mkdir()
    tidy = f"import time\ntry:\n    time.sleep(300)\nfinally:\n    open({str(tmp_path / 'tidy')!r}, 'w')"
    stopped, stopped_place = begun(hard, _STUBBORN)
    interrupted, interrupted_place = begun(soft, tidy)
    results = [stopped.set(time_limit=6, cancel_grace=20).delay(), interrupted.set(soft_time_limit=6).delay()]
    processes = pids(stopped_place)[1:] + pids(interrupted_place)[1:2]
    with pytest.raises(nbq.TimeLimitExceeded):
        results[0].get(60)
    with pytest.raises(nbq.SoftTimeLimitExceeded) as caught:
        results[1].get(60)
    assert isinstance(caught.value, nbq.NotebookTooLong)
    assert (caught.value.cell, caught.value.cells, caught.value.source) == (2, 2, tidy)
    assert len(caught.value.notebook["cells"]) == 2
    assert (tmp_path / "tidy").exists()
    until(lambda: all(map(gone, processes)), "the end of the kernels")


def run(path: str, cell_timeout_s: float | None = None) -> nbq.NotebookFailed:
    """Run a notebook in this process; return how it failed."""
    job = kernels.Job(path, "", {}, "", cell_timeout_s, "", False, "")
    with pytest.raises(nbq.NotebookFailed) as caught:
        asyncio.run(kernels.execute(job, lambda *_: None))
    return caught.value


@pytest.mark.usefixtures("runtime")
def test_a_cell_that_takes_too_long_is_named(tmp_path: Path) -> None:
    error = run(write(tmp_path, "print('so far')\nimport time; time.sleep(300)"), 0.5)
    assert (error.cell, error.ename) == (1, "CellTimeout")
    assert error.evalue == "it took more than its cell_timeout, 0.5 s"
    assert error.notebook["cells"][0]["outputs"][0]["text"] == ["so far\n"]


@pytest.mark.usefixtures("runtime")
def test_what_prints_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "OUTPUT_BYTES", 100_000)
    error = run(write(tmp_path, "while True: print('x' * 10_000)"))
    assert (error.cell, error.ename) == (1, "TooMuchOutput")
    assert error.evalue == "the outputs have more than 100,000 bytes in all: write them to a file instead"
