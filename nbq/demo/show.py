"""How the demo looks: live progress, and the figures under its report.

In a terminal progress is a bar, redrawn at most ten times a second; elsewhere it is a line for each 10 %.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Bar", "Lines", "Pace", "count", "duration", "figures", "progress", "tell"]

_REDRAW_S = 0.1
_LABEL_WIDTH = 11
_BAR_WIDTH = 28
_BUSY = 0.5
"""From how much load a core on the figures are doubtful."""
_BOLD = re.compile(r"^(?:[\d,]+ modules: .*|Largest modules .*|speed-up +\S+)", re.MULTILINE)
Clock = Callable[[], float]


def duration(seconds: float) -> str:
    """Return a time as people say it: ``0.4 s``, ``12 s``, ``2 min 5 s``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def count(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 slot``, ``1,790 files``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class Pace:
    """How fast work goes, and so how long the rest of it takes.

    Args:
        total: How many files there are.
        clock: Seconds, from any start.
    """

    def __init__(self, total: int, clock: Clock = time.monotonic) -> None:
        self.total = total
        self._clock = clock
        self._started_s = clock()

    def text(self, done: int) -> str:
        """Return count, rate and time left (at the end: taken), for so many files done."""
        taken_s = max(self._clock() - self._started_s, 1e-9)
        counted = f"{done:,} of {self.total:,} files"
        if not done:
            return counted
        left_s = taken_s / done * (self.total - done)
        when = f"{duration(left_s)} left" if done < self.total else f"in {duration(taken_s)}"
        return f"{counted}, {done / taken_s:,.0f}/s, {when}"


class Lines:
    """Progress as a line for each 10 %."""

    def __init__(self, label: str, pace: Pace, out: TextIO) -> None:
        self._label = label
        self._pace = pace
        self._out = out
        self._shown = 0

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """End."""

    def update(self, done: int) -> None:
        """Write a line if another 10 % are done."""
        tenths = 10 * done // self._pace.total
        if tenths > self._shown:
            self._shown = tenths
            line = f"{self._label:<{_LABEL_WIDTH}}  {tenths * 10:3} %  {self._pace.text(done)}"
            print(line, file=self._out, flush=True)


class Bar:
    """Progress as a bar in a terminal."""

    def __init__(self, label: str, pace: Pace, out: TextIO, clock: Clock = time.monotonic) -> None:
        self._pace = pace
        self._clock = clock
        self._due_s = clock()
        self._progress = _drawing(out)
        self._task = self._progress.add_task(label.ljust(_LABEL_WIDTH), total=pace.total, text=pace.text(0))

    def __enter__(self) -> Self:
        """Draw it."""
        self._progress.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Leave it as it is."""
        self._progress.stop()

    def update(self, done: int) -> None:
        """Draw it anew, unless that was less than a tenth of a second ago."""
        now_s = self._clock()
        if now_s < self._due_s and done < self._pace.total:
            return
        self._due_s = now_s + _REDRAW_S
        self._progress.update(self._task, completed=done, text=self._pace.text(done), refresh=True)


def _drawing(out: TextIO) -> Progress:
    # Only a terminal needs rich, and it takes longer to load than nbq.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=_BAR_WIDTH),
        TextColumn("{task.fields[text]}", markup=False),
        console=Console(file=out),
        auto_refresh=False,
        expand=False,
    )


def progress(label: str, total: int, out: TextIO) -> Bar | Lines:
    """Return what shows the progress of so many files: a bar in a terminal, else lines."""
    pace = Pace(total)
    return Bar(label, pace, out) if out.isatty() else Lines(label, pace, out)


def figures(slots: int, cores: int, load: float, tasks: int, seconds: float, alone_s: float) -> str:
    """Return what was measured: both times, the task rate and the speed-up.

    Args:
        slots: How many tasks ran at a time.
        cores: How many cores the machine has.
        load: How many processes wanted a core before the demo began.
        tasks: How many tasks the cluster ran.
        seconds: How long the cluster took.
        alone_s: How long one process took.
    """
    rows = [
        (
            f"nbq, {count(slots, 'slot')}",
            f"{seconds:.2f} s",
            f"{tasks:,} tasks, {tasks / seconds:,.0f} a second",
        ),
        ("one process", f"{alone_s:.2f} s", "the same work and the same report, without nbq"),
        ("speed-up", f"{alone_s / seconds:.2f}", f"measured just now, on {count(cores, 'core')}"),
    ]
    lines = [f"{name:<14}{value:>10}  {note}" for name, value, note in rows]
    if load > cores * _BUSY:
        lines.append(
            f"\nThe cores were busy before this began (load {load:.1f}): a quiet machine tells more."
        )
    return "\n".join(lines)


def tell(text: str, out: TextIO) -> None:
    """Print report and figures; in a terminal, with what matters in bold."""
    if not out.isatty():
        print(text, file=out)
        return
    # As above: only a terminal needs rich.
    from rich.console import Console
    from rich.text import Text

    shown = Text(text)
    shown.highlight_regex(_BOLD, "bold")
    Console(file=out).print(shown, soft_wrap=True)
