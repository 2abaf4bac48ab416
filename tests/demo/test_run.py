"""The demo as users run it: real processes, real files, and none left behind."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from nbq.demo import run
from nbq.demo.analysis import find_files, parse, rank, report, summarise

DEADLINE_S = 60.0
LIMIT = 40


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nbq", "demo", "--slots", "2", *arguments],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip


def expected(limit: int) -> str:
    library = sysconfig.get_path("stdlib")
    files = find_files(library)[:limit]
    return report(rank(summarise([parse(library, file) for file in files])))


def test_it_prints_the_report_and_what_was_measured() -> None:
    done = demo("--limit", str(LIMIT))
    assert done.returncode == 0, done.stderr
    text, _, shown = done.stdout.strip().partition("\n\nnbq, ")
    assert text == expected(LIMIT)
    pattern = (
        r"2 slots +(\S+) s  43 tasks, [\d,]+ a second\n"
        r"one process +(\S+) s  the same work and the same report, without nbq\n"
        r"speed-up +(\S+)  measured just now, on \d+ cores?"
        r"(?:\n\nThe cores were busy .*)?"
    )
    found = re.fullmatch(pattern, shown)
    assert found is not None, shown
    seconds, alone_s, speed_up = map(float, found.groups())
    rounded = 0.005  # all three are shown with two decimals
    least = (alone_s - rounded) / (seconds + rounded) - rounded
    most = (alone_s + rounded) / (seconds - rounded) + rounded
    assert least <= speed_up <= most
    lines = done.stderr.splitlines()
    assert lines[0] == f"40 files of the standard library of Python {platform.python_version()}"
    assert re.fullmatch(r"a hub and 2 slots started in \d+\.\d s", lines[1])
    ends = [line for line in lines[2:] if "100 %" in line]
    assert [re.sub(r"files, .*", "files", line) for line in ends] == [
        "2 slots      100 %  40 of 40 files",
        "one process  100 %  40 of 40 files",
    ]


def test_as_json_it_has_the_same() -> None:
    done = demo("--limit", "5", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    numbers = ("start_s", "seconds", "one_process_s", "tasks_per_s", "speed_up")
    measured = {name: told.pop(name) for name in numbers}
    assert min(measured.values()) > 0
    assert measured["speed_up"] == measured["one_process_s"] / measured["seconds"]
    assert measured["tasks_per_s"] == 8 / measured["seconds"]
    assert told.pop("load_before") >= 0
    ranking = told.pop("ranking")
    assert report(ranking) == expected(5)
    assert told == {
        "python": platform.python_version(), "cores": os.cpu_count(), "files": 5, "slots": 2, "tasks": 8,
        "report": expected(5),
    }  # fmt: skip


def test_a_task_that_fails_shows_its_own_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nbq.demo.find_files", lambda _library: ["os.py", "gone.py"])
    assert run(slots=1) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert re.search(r'File ".*analysis\.py", line \d+, in parse', told.err)
    assert re.search(r"^FileNotFoundError: .*gone\.py'$", told.err, re.MULTILINE)


def test_a_python_without_sources_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nbq.demo.find_files", lambda _library: [])
    assert run() == 1
    assert (
        capsys.readouterr().err == f"nbq demo: there are no Python files in {sysconfig.get_path('stdlib')}\n"
    )


@contextmanager
def started(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start the demo in a process group and with folders of its own; kill what is left of it."""
    with subprocess.Popen(
        [sys.executable, "-m", "nbq", "demo", "--slots", "2", "--limit", "200"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
        env={**os.environ, "TMPDIR": str(folder), "NBQ_RUNTIME_DIR": str(folder)},
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def family(process: subprocess.Popen[str], least: int) -> list[psutil.Process]:
    """Return the processes that a demo has started, as soon as there are so many."""
    until_s = time.monotonic() + DEADLINE_S
    while len(found := psutil.Process(process.pid).children(recursive=True)) < least:
        assert time.monotonic() < until_s
    return found


def read_until(process: subprocess.Popen[str], start: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(start):
            return
    pytest.fail(f"the demo ended before it said {start!r}")


@pytest.mark.parametrize(
    ("when", "children", "everyone"),
    [
        pytest.param("200 files", 2, False, id="starting"),
        pytest.param("a hub and 2 slots", 4, True, id="started"),
        pytest.param("2 slots ", 4, True, id="working-group"),
        pytest.param("2 slots ", 4, False, id="working-process"),
        pytest.param("one process ", 1, True, id="alone"),
    ],
)
def test_ctrl_c_leaves_nothing_behind(
    tmp_path_factory: pytest.TempPathFactory, when: str, children: int, everyone: bool
) -> None:
    folder = tmp_path_factory.mktemp("t")
    with started(folder) as process:
        read_until(process, when)
        below = family(process, children)
        (os.killpg if everyone else os.kill)(process.pid, signal.SIGINT)
        out, told = process.communicate(timeout=DEADLINE_S)
    _, alive = psutil.wait_procs(below, timeout=DEADLINE_S)
    assert alive == []
    assert (process.returncode, out) == (130, "")
    assert told.splitlines()[-1] == "stopped"
    assert re.findall("Traceback|Warning|Error", told) == []
    assert list(folder.iterdir()) == []
