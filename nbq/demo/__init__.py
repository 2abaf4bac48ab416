"""``nbq demo``: real work on a cluster of this machine, and the same work in one process beside it.

It parses every file of the standard library of the Python that runs it: a group of one task per file,
piped into a summary (a chord), then a chain that turns the summary into a report. It uses only public
names of nbq.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import sysconfig
import time
from dataclasses import asdict, dataclass
from typing import Any

import nbq
from nbq.demo.analysis import Ranking, find_files, parse, rank, report, summarise
from nbq.demo.show import count, figures, progress, tell

__all__ = ["run"]

_LOOK_S = 0.1
_ALONE = "import sys; sys.path[:] = sys.argv[1:]; from nbq.demo.alone import main; main()"


@dataclass
class Outcome:
    """What the cluster made of the work, and how long it took from the submit to the report."""

    files: int
    slots: int
    tasks: int
    start_s: float
    """How long hub and slots took to start, which is not in ``seconds``."""
    seconds: float
    ranking: Ranking
    report: str


class _Failed(Exception):
    """A part of the demo failed; the message is for the user."""


def run(slots: int | None = None, limit: int | None = None, as_json: bool = False) -> int:
    """Run the demo; returns its exit code: 0, 1 if anything failed, 130 if it was interrupted.

    Args:
        slots: How many tasks run at a time; one for each core unless given.
        limit: How many files are analysed; all unless given.
        as_json: Whether figures and ranking are printed, as JSON, in place of the report.
    """
    library = sysconfig.get_path("stdlib")
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    try:
        files = find_files(library)[:limit]
        if not files:
            raise _Failed(f"nbq demo: there are no Python files in {library}")
        _say(f"{count(len(files), 'file')} of the standard library of Python {platform.python_version()}")
        outcome = _on_cluster(library, files, slots)
        alone_s = _alone(library, files, outcome.report)
    except _Failed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    if as_json:
        print(json.dumps(_measured(outcome, alone_s, cores, load), indent=2))
    else:
        shown = figures(outcome.slots, cores, load, outcome.tasks, outcome.seconds, alone_s)
        tell(f"\n{outcome.report}\n\n{shown}", sys.stdout)
    return 0


def _say(text: str) -> None:
    """Tell of progress; standard output is for the report alone."""
    print(text, file=sys.stderr, flush=True)


def _measured(outcome: Outcome, alone_s: float, cores: int, load: float) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "cores": cores,
        "load_before": load,
        **asdict(outcome),
        "one_process_s": alone_s,
        "tasks_per_s": outcome.tasks / outcome.seconds,
        "speed_up": alone_s / outcome.seconds,
    }


def _on_cluster(library: str, files: list[str], slots: int | None) -> Outcome:
    """Start a cluster, do the work on it, and end it."""
    begun_s = time.perf_counter()
    # The slots import the tasks as they start: the one process is timed without its imports, too.
    with nbq.Cluster(slots, include=["nbq.demo.analysis"]) as client:
        start_s = time.perf_counter() - begun_s
        slots = client.slots
        _say(f"a hub and {count(slots, 'slot')} started in {start_s:.1f} s\n")
        work = nbq.group(parse.s(library, file) for file in files) | summarise.s() | rank.s() | report.s()
        begun_s = time.perf_counter()
        try:
            result = work.delay()
            _follow(result, count(slots, "slot"))
        except KeyboardInterrupt:
            client.cancel_all()
            raise
        seconds = time.perf_counter() - begun_s
        if not result.successful():
            raise _Failed(result.traceback)
        return Outcome(len(files), slots, len(files) + 3, start_s, seconds, result.parent.get(), result.get())


def _follow(result: nbq.AsyncResult, label: str) -> None:
    """Show the progress of the group that a result comes from, until the result is there."""
    header: Any = result
    while not isinstance(header, nbq.GroupResult):
        header = header.parent
    with progress(label, len(header), sys.stderr) as shown:
        while not result.wait(_LOOK_S):
            shown.update(header.completed_count())
        shown.update(header.completed_count())


def _alone(library: str, files: list[str], expected: str) -> float:
    """Do the same work in one fresh process; returns the seconds it took, which its start is not part of.

    The process has a session of its own, so that Ctrl-C in a terminal reaches only this one, which ends it.
    """
    with subprocess.Popen(
        [sys.executable, "-c", _ALONE, *sys.path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            json.dump([library, files], process.stdin)
            process.stdin.close()
            with progress("one process", len(files), sys.stderr) as shown:
                for line in process.stdout:
                    told = json.loads(line)
                    if isinstance(told, int):
                        shown.update(told)
                        continue
                    shown.update(len(files))
                    if told["text"] != expected:
                        raise _Failed(
                            "nbq demo: the report of one process is not the one that the cluster made"
                        )
                    return float(told["seconds"])
        finally:
            process.kill()
    raise _Failed(f"nbq demo: the process that does the work alone ended with {process.returncode}")
