"""How the demo looks: its lines, its bar and its figures."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest

from nbq.demo.show import Bar, Lines, Pace, count, duration, figures, progress, tell


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.99, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (125, "2 min 5 s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 slots"), (1, "1 slot"), (1790, "1,790 slots")])
def test_counts(number: int, text: str) -> None:
    assert count(number, "slot") == text


def test_lines_for_each_tenth_say_rate_and_time_left() -> None:
    clock = Clock()
    out = io.StringIO()
    with Lines("2 slots", Pace(2000, clock), out) as shown:
        for done in (0, 100, 199, 200, 250, 1000, 1900, 2000, 2000):
            clock.now_s = 100 + done / 100
            shown.update(done)
    assert out.getvalue().splitlines() == [
        "2 slots       10 %  200 of 2,000 files, 100/s, 18 s left",
        "2 slots       50 %  1,000 of 2,000 files, 100/s, 10 s left",
        "2 slots       90 %  1,900 of 2,000 files, 100/s, 1.0 s left",
        "2 slots      100 %  2,000 of 2,000 files, 100/s, in 20 s",
    ]


def test_a_bar_is_drawn_ten_times_a_second_at_most_and_at_the_end() -> None:
    clock = Clock()
    out = Terminal()
    drawn = []
    with Bar("2 slots", Pace(1000, clock), out, clock) as shown:
        for done in range(1, 1001):
            clock.now_s = 100 + done / 1000
            before = out.tell()
            shown.update(done)
            if out.tell() > before:
                drawn.append(done)
    assert drawn[0] == 1
    assert drawn[-1] == 1000
    assert len(drawn) <= 12
    assert min(later - earlier for earlier, later in pairwise(drawn[:-1])) >= 100
    assert "1,000 of 1,000 files, 1,000/s, in 1.0 s" in out.getvalue()


def test_a_terminal_gets_a_bar_and_all_else_lines() -> None:
    assert isinstance(progress("a", 1, Terminal()), Bar)
    assert isinstance(progress("a", 1, io.StringIO()), Lines)


BUSY = "\n\nThe cores were busy before this began (load 2.1): a quiet machine tells more."


@pytest.mark.parametrize(
    ("load", "alone_s", "speed_up", "remark"), [(2.0, 9.5, "1.90", ""), (2.1, 2.5, "0.50", BUSY)]
)
def test_the_figures_are_what_was_measured(load: float, alone_s: float, speed_up: str, remark: str) -> None:
    assert figures(2, 4, load, 1793, 5.0, alone_s) == (
        "nbq, 2 slots      5.00 s  1,793 tasks, 359 a second\n"
        f"one process       {alone_s:.2f} s  the same work and the same report, without nbq\n"
        f"speed-up            {speed_up}  measured just now, on 4 cores{remark}"
    )


TOLD = "9 modules: 1 line\n\nLargest modules   lines\n[a] 9 modules\n\nspeed-up  1.90  measured"


def test_what_matters_is_bold_in_a_terminal_and_plain_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain, terminal = io.StringIO(), Terminal()
    tell(TOLD, plain)
    tell(TOLD, terminal)
    assert plain.getvalue() == f"{TOLD}\n"
    assert terminal.getvalue() == (
        "\x1b[1m9 modules: 1 line\x1b[0m\n\n\x1b[1mLargest modules   lines\x1b[0m\n[a] 9 modules\n\n"
        "\x1b[1mspeed-up  1.90\x1b[0m  measured\n"
    )
