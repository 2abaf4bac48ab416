"""What was found, as a table for people, as JSON, and as the table in the documentation."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contenders import PEERS, ROOT, Found
from benchmarks.rows import ROWS, Figure, Row

DOCUMENT = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


@dataclass
class Report:
    """Everything that a call of the benchmarks found; a list of runs by contender."""

    rows: list[Row]
    quick: bool
    repeat: int
    load: float
    """The machine's load average before anything ran."""
    runs: dict[str, list[Found]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    """Why a peer is absent as a whole."""

    def values(self, contender: str, row: str, figure: str) -> list[float]:
        """Return a figure's value in every run that has it."""
        found = (run.figures.get(row, {}).get(figure) for run in self.runs.get(contender, []))
        return [value for value in found if value is not None]

    def median(self, contender: str, row: str, figure: str) -> float | None:
        """Return a figure's median, or None if it was not measured."""
        values = self.values(contender, row, figure)
        return statistics.median(values) if values else None

    def versions(self) -> dict[str, str]:
        """Return the versions of everything that was measured."""
        found = {"python": platform.python_version()}
        for runs in self.runs.values():
            for run in runs:
                found.update(run.versions)
        return found

    def reasons(self) -> list[str]:
        """Return a sentence for every peer and row that has no figure."""
        found = [f"{peer} is absent: {reason}" for peer, reason in self.absent.items()]
        seen: dict[tuple[str, str], list[str]] = {}
        for contender, runs in self.runs.items():
            for run in runs:
                for row, reason in run.absent.items():
                    if row not in seen.setdefault((contender, reason), []):
                        seen[contender, reason].append(row)
        return found + [f"{who}: {', '.join(rows)}: {why}" for (who, why), rows in seen.items()]

    def about(self) -> list[str]:
        """Return where and how it was measured, as lines."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions().items())
        peer_sizes = self._peer_sizes()
        return [
            f"{datetime.datetime.now():%Y-%m-%d %H:%M}, {os.cpu_count()} cores, "
            f"load {self.load:.1f} at the start, {platform.system()} {platform.release()}",
            versions,
            f"medians of {self.repeat} interleaved repetitions{', quick sizes' if self.quick else ''}; "
            "(xN): nbq is N times better",
            *([f"sizes of the peers and the executor: {peer_sizes}"] if peer_sizes else []),
        ]

    def _peer_sizes(self) -> str:
        sizes = ((row.name, row.peer_n[self.quick]) for row in self.rows)
        return ", ".join(f"{name} {n:,}" for name, n in sizes if n)

    def to_json(self) -> dict[str, Any]:
        """Return all of it: medians, every run's figures, and the reasons for what is missing."""
        contenders = {
            name: [{"figures": run.figures, "sizes": run.sizes} for run in runs]
            for name, runs in self.runs.items()
        }
        medians = {
            name: {
                f"{row.name}.{figure.name}": self.median(name, row.name, figure.name)
                for row in self.rows
                for figure in row.figures
                if self.values(name, row.name, figure.name)
            }
            for name in self.runs
        }
        return {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "cores": os.cpu_count(),
            "load": self.load,
            "quick": self.quick,
            "repeat": self.repeat,
            "versions": self.versions(),
            "medians": medians,
            "runs": contenders,
            "missing": self.reasons(),
        }


def table(report: Report) -> list[list[str]]:
    """Return the table's cells, its heading first; a peer's cell has nbq's ratio to it."""
    contenders = [name for name in report.runs if name != "nbq"]
    contenders += [peer for peer in PEERS if peer in report.absent]
    lines = [["", "target", "nbq", *contenders]]
    for row in report.rows:
        for figure in row.figures:
            own = report.median("nbq", row.name, figure.name)
            title = figure.title.format(n=f"{row.n[report.quick]:,}")
            line = [f"{title}, {figure.unit}", figure.target, _number(own)]
            for name in contenders:
                other = report.median(name, row.name, figure.against or figure.name)
                line.append(_beside(figure, own, other))
            lines.append(line)
    return lines


def _beside(figure: Figure, own: float | None, other: float | None) -> str:
    if other is None:
        return "-"
    if own is None or figure.more_is_better is None or not own or not other:
        return _number(other)
    ratio = own / other if figure.more_is_better else other / own
    return f"{_number(other)} (x{_number(ratio)})"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def text(report: Report) -> str:
    """Return the report for a terminal."""
    lines = table(report)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    shown = [_aligned(line, widths) for line in lines]
    shown.insert(1, "─" * len(shown[0]))
    return "\n".join([*report.about(), "", *shown, "", *report.reasons()])


def _aligned(line: Iterable[str], widths: Iterable[int]) -> str:
    first, *others = zip(line, widths, strict=True)
    cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return "  ".join(cells)


def markdown(report: Report) -> str:
    """Return the report for the documentation."""
    heading, *lines = (f"| {' | '.join(line)} |" for line in table(report))
    rule = "|---|" + "---:|" * (heading.count("|") - 2)
    notes = [f"- {line}" for line in (*report.about(), *report.reasons())]
    return "\n".join([heading, rule, *lines, "", *notes])


def write_docs(report: Report, document: Path = DOCUMENT) -> None:
    """Replace what stands between the two markers in the documentation."""
    old = document.read_text()
    before, _, rest = old.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{document.name} lacks the markers {BEGIN} and {END}")
    document.write_text(f"{before}{BEGIN}\n{markdown(report)}\n{END}{after}")


def write_json(report: Report, path: Path) -> None:
    """Write all figures to a file."""
    path.write_text(json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n")


def chosen(names: str | None) -> list[Row]:
    """Return the rows of a comma-separated list, or all.

    Raises:
        ValueError: There is no such row.
    """
    if names is None:
        return list(ROWS)
    known: Mapping[str, Row] = {row.name: row for row in ROWS}
    unknown = sorted(set(names.split(",")) - known.keys())
    if unknown:
        raise ValueError(f"there is no row {unknown[0]!r}; the rows are {', '.join(known)}")
    return [known[name] for name in names.split(",")]
