"""The rows: what is measured, at which sizes, and how each figure reads in the table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Args:
        name: As the contenders' scripts call it.
        title: What it is; ``{n}`` stands for nbq's size.
        unit: Of the value.
        target: What nbq means to reach, for people.
        more_is_better: Which way a ratio goes; None for a figure that is not compared.
        against: The others' figure that this one is compared with, if it is not the one of its own name.
    """

    name: str
    title: str
    unit: str
    target: str = ""
    more_is_better: bool | None = None
    against: str = ""


@dataclass(frozen=True)
class Row:
    """A thing to measure; gives one figure or more.

    Args:
        name: For ``--rows``.
        n: Size for nbq and ``raw``, in full and with ``--quick``.
        peer_n: Size for the others, which are slower: a rate is what counts.
        figures: What it gives.
    """

    name: str
    n: tuple[int, int]
    peer_n: tuple[int, int]
    figures: tuple[Figure, ...]


ROWS = (
    Row(
        "map",
        (100_000, 20_000),
        (5_000, 1_000),
        (
            Figure("rate", "map of {n} no-op calls, one call = one task", "tasks/s", "≥ 200,000", True),
            Figure("chunked", "the same, many calls in one task", "calls/s", "", True),
        ),
    ),
    Row(
        "delay",
        (20_000, 5_000),
        (2_000, 500),
        (Figure("rate", "{n} calls of delay(), then get() each", "tasks/s", "≥ 20,000", True),),
    ),
    Row(
        "trip",
        (1_000, 200),
        (500, 50),
        (
            Figure("p50", "one call at a time, p50", "ms", "≤ 3 raw", False),
            Figure("p99", "one call at a time, p99", "ms", "", False),
        ),
    ),
    Row(
        "chain",
        (1_000, 200),
        (200, 50),
        (
            Figure("step", "chain of {n}, a step", "ms", "≤ 1", False),
            Figure("plan", "building and planning it", "ms", "≤ 50"),
        ),
    ),
    Row(
        "chord",
        (10_000, 2_000),
        (1_000, 200),
        (
            Figure("rate", "chord with {n} header tasks", "tasks/s", "", True),
            Figure("of_map", "its rate to a map's of the same size", "x", "≥ 0.5"),
        ),
    ),
    Row(
        "canvas",
        (200, 200),
        (0, 0),
        (
            Figure("small", "task | (group of 3 | task) x 8, submitted bytes a task", "B"),
            Figure("bytes", "the same x {n}", "B", "≤ 1.5 of x 8"),
            Figure("rate", "its tasks, from building it to its value", "tasks/s"),
        ),
    ),
    Row(
        "array",
        (100, 10),
        (100, 10),
        (
            Figure("none", "{n} MB array there and back, nothing durable", "ms", "≤ Dask", False),
            Figure("process", "the same, with nbq's journal on", "ms", "≤ 3 Dask", False, "none"),
        ),
    ),
    Row(
        "million",
        (1_000_000, 100_000),
        (0, 0),
        (
            Figure("rss", "hub's memory, {n} tasks queued, no engine for them", "MB", "≤ 200"),
            Figure("rate", "map of {n} no-op calls", "tasks/s"),
            Figure("to_10k", "its rate to that of a map of 10,000", "x", "≥ 0.8"),
            Figure("hub_cpu", "hub's CPU per million tasks", "s", "≤ 10"),
            Figure("client_cpu", "client's CPU per million tasks", "s"),
            Figure("engine_cpu", "supervisor's and slots' CPU per million tasks", "s"),
        ),
    ),
    Row(
        "schedules",
        (10_000, 1_000),
        (0, 0),
        (
            Figure("bare", "hub's CPU, no schedules, nothing to do", "%"),
            Figure("idle", "the same with {n} schedules, none due", "%", "< 1"),
            Figure("due", "1,000 of them due at once, queued after", "ms", "≤ 100"),
            Figure("turn", "the longest turn of that", "ms", "≤ 50"),
            Figure("turns", "turns that it takes", ""),
        ),
    ),
    Row(
        "start",
        (5, 3),
        (0, 0),
        (
            Figure("python", "python -c pass", "ms"),
            Figure("import", "import nbq, without python's own start", "ms", "≤ 100"),
            Figure("help", "nbq --help", "ms", "≤ 200"),
            Figure("cluster", "Cluster(slots=2) ready, after the import", "ms", "≤ 1,000"),
        ),
    ),
    Row(
        "web",
        (10, 3),
        (0, 0),
        (
            Figure("open", "nbq web's CPU, one page open, 10,000 tasks/s for {n} s", "%", "≤ 5"),
            Figure("closed", "the same, no page open", "%"),
            Figure("rate", "tasks that went through meanwhile", "tasks/s", "10,000"),
            Figure("told", "what the page was told", "kB/s"),
        ),
    ),
)
