"""However a notebook's task ends, its kernel ends too, and so does what that has started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import psutil
import pytest

import nbq
from nbq.engines import kernels
from nbq.engines.coroutines import Coroutines
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
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_cancel_stops_the_kernel_and_keeps_the_slot(client: nbq.Client, tmp_path: Path) -> None:
    sig, place = begun(tmp_path, _STUBBORN)
    result = sig.set(cancel_grace=20).delay()  # longer than it may take on a busy machine
    slot, kernel, child = pids(place)
    assert kernel.ppid() == slot.pid
    assert result.cancel() is True
    until(lambda: gone(kernel) and gone(child), "the end of the kernel")
    with pytest.raises(nbq.TaskRevoked):
        result.get(30)
    assert not gone(slot)
    assert client.submit(pow, 2, 3).get(30) == 8


@pytest.mark.usefixtures("client")
def test_a_slot_that_is_killed_takes_the_kernel_with_it(tmp_path: Path) -> None:
    sig, place = begun(tmp_path, _STUBBORN)
    result = sig.set(acks_late=False).delay()
    slot, kernel, child = pids(place)
    os.kill(slot.pid, signal.SIGKILL)
    until(lambda: gone(kernel) and gone(child), "the end of the kernel")
    with pytest.raises(nbq.TaskLost):
        result.get(30)


def test_a_time_limit_stops_the_kernel(client: nbq.Client, tmp_path: Path) -> None:
    engine = psutil.Process(client.submit(os.getpid).get(30)).parent()
    sig, _ = begun(tmp_path, _STUBBORN)
    result = sig.set(time_limit=5, cancel_grace=20).delay()
    below: list[psutil.Process] = []
    until(lambda: below.extend(kernels_below(engine)) or below, "a kernel")
    with pytest.raises(nbq.TimeLimitExceeded):
        result.get(60)
    until(lambda: not kernels_below(engine) and all(map(gone, below)), "the end of the kernel")


def kernels_below(process: psutil.Process) -> list[psutil.Process]:
    found = []
    for one in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any("nbq-kernel-" in word for word in one.cmdline()):
                found.append(one)
    return found


@pytest.mark.usefixtures("runtime")
def test_a_soft_time_limit_interrupts_the_cell_and_says_which(tmp_path: Path) -> None:
    inside, tidy = tmp_path / "inside", tmp_path / "tidy"
    source = (
        f"try:\n    open({str(inside)!r}, 'w')\n    while True: pass\nfinally:\n    open({str(tidy)!r}, 'w')"
    )
    job = kernels.Job(write(tmp_path, "1", source), "", {}, "", None, "", False, "id")
    coroutines = Coroutines()  # as in a slot

    def interrupt() -> None:
        if inside.exists():
            coroutines.interrupt(nbq.SoftTimeLimitExceeded("it has run for 1 s"))
        else:
            asyncio.get_running_loop().call_later(0.01, interrupt)

    with pytest.raises(nbq.SoftTimeLimitExceeded) as caught:
        coroutines.run(kernels.execute(job, lambda cell, *_: interrupt() if cell == 2 else None))
    error = caught.value
    assert isinstance(error, nbq.NotebookTooLong)
    assert (error.cell, error.cells, error.source, error.task_id) == (2, 2, source, "id")
    assert (error.ename, error.evalue) == ("SoftTimeLimitExceeded", "it has run for 1 s")
    assert error.notebook["cells"][0]["outputs"][0]["data"] == {"text/plain": ["1"]}
    assert tidy.exists()


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
