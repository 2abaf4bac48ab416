"""The benchmarks' report: medians, ratios that favour nbq above one, and a reason for whatever is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.contenders import Found
from benchmarks.report import BEGIN, END, Report, chosen, markdown, table, write_docs


def found(**figures: dict[str, float]) -> Found:
    return Found(figures=figures)


@pytest.fixture
def report() -> Report:
    made = Report(chosen("trip,delay"), quick=False, repeat=3, load=0.0)
    made.runs["nbq"] = [
        found(trip={"p50": p50, "p99": 4.0}, delay={"rate": rate})
        for p50, rate in ((0.5, 30_000.0), (9.0, 50_000.0), (1.0, 40_000.0))
    ]
    made.runs["dask"] = [found(trip={"p50": 10.0, "p99": 20.0})]
    made.runs["dask"][0].absent["delay"] = "failed: OSError: no"
    made.absent["ray"] = "no network"
    return made


def test_a_cell_is_a_median_and_a_ratio_says_how_many_times_better_nbq_is(report: Report) -> None:
    assert table(report) == [
        ["", "target", "nbq", "dask", "ray"],
        ["one call at a time, p50, ms", "≤ 3 raw", "1.00", "10.0 (x10.0)", "-"],
        ["one call at a time, p99, ms", "", "4.00", "20.0 (x5.00)", "-"],
        ["20,000 calls of delay(), then get() each, tasks/s", "≥ 20,000", "40,000", "-", "-"],
    ]


def test_a_ratio_of_rates_goes_the_other_way(report: Report) -> None:
    report.runs["dask"][0].figures["delay"] = {"rate": 400.0}
    assert table(report)[3][3] == "400 (x100)"


def test_whatever_is_missing_has_its_reason(report: Report) -> None:
    assert report.reasons() == ["ray is absent: no network", "dask: delay: failed: OSError: no"]
    assert report.to_json()["missing"] == report.reasons()


def test_an_array_with_a_journal_is_compared_with_peers_that_keep_nothing() -> None:
    report = Report(chosen("array"), quick=False, repeat=1, load=0.0)
    report.runs["nbq"] = [found(array={"none": 100.0, "process": 200.0})]
    report.runs["dask"] = [found(array={"none": 400.0})]
    assert [line[2:] for line in table(report)[1:]] == [["100", "400 (x4.00)"], ["200", "400 (x2.00)"]]


def test_the_documentation_is_renewed_between_its_markers_only(report: Report, tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_docs(report, document)
    before, _, rest = document.read_text().partition(BEGIN)
    inside, _, after = rest.partition(END)
    assert (before, after) == ("before\n", "\nafter\n")
    assert inside.splitlines()[1:4] == markdown(report).splitlines()[:3]
    assert "old" not in inside


def test_a_document_without_markers_is_left_alone(report: Report, tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("before\n")
    with pytest.raises(ValueError, match="lacks the markers"):
        write_docs(report, document)
    assert document.read_text() == "before\n"


def test_a_row_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ValueError, match="there is no row 'mop'; the rows are map, delay, trip"):
        chosen("mop")
