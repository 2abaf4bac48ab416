"""The demo's analysis: small libraries in, whole values out."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from nbq.demo.analysis import (
    Module,
    Ranking,
    Summary,
    find_files,
    knots,
    longest_chain,
    module_name,
    parse,
    rank,
    report,
    summarise,
    top,
)

SOURCE = b"""\
import os.path, sys
from . import near
from .near import thing
from ..far.away import other
from json import *

class Box:
    def put(self, what):
        self.items.append(len(what))

    async def take(self):
        def inner():
            print(len("\\d"))
        return inner()
"""


def write(library: Path, files: dict[str, bytes]) -> str:
    for name, source in files.items():
        path = library / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source)
    return str(library)


def module(name: str, imports: list[str], lines: int = 1, error: str = "", **calls: int) -> Module:
    return Module(name=name, error=error, lines=lines, functions=2, classes=1, calls=calls, imports=imports)


def test_the_files_of_a_library_are_found_but_not_what_was_installed_beside_it(tmp_path: Path) -> None:
    names = ["a.py", "b/__init__.py", "b/c.py", "b/data.txt", "site-packages/x.py", "dist-packages/y/z.py"]
    library = write(tmp_path, dict.fromkeys(names, b""))
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    found = find_files(library)
    assert sorted(found) == ["a.py", "b/__init__.py", "b/c.py"]
    assert find_files(library) == found


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("os.py", "os"),
        ("json/__init__.py", "json"),
        ("json/decoder.py", "json.decoder"),
        ("__init__.py", "__init__"),
    ],
)
def test_a_module_is_named_as_it_is_imported(file: str, name: str) -> None:
    assert module_name(file) == name


@pytest.mark.parametrize(
    ("file", "name", "relative"),
    [
        ("top/low/mod.py", "top.low.mod", ["top.far.away.other", "top.low.near", "top.low.near.thing"]),
        ("top/low/__init__.py", "top.low", ["top.far.away.other", "top.low.near", "top.low.near.thing"]),
    ],
)
def test_a_file_is_counted_whole(tmp_path: Path, file: str, name: str, relative: list[str]) -> None:
    assert parse(write(tmp_path, {file: SOURCE}), file) == {
        "name": name,
        "error": "",
        "lines": 14,
        "functions": 3,
        "classes": 1,
        "calls": {".append": 1, "len": 2, "print": 1, "inner": 1},
        "imports": sorted(["os.path", "sys", "json.*", *relative]),
    }


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (b"print 'old'\n", "SyntaxError: Missing parentheses in call to 'print'. Did you mean print(...)?"),
        (b"# coding: uft-8\n", "SyntaxError: unknown encoding: uft-8"),
    ],
)
def test_a_file_that_is_no_python_is_an_answer_and_not_a_failure(
    tmp_path: Path, source: bytes, error: str
) -> None:
    found = parse(write(tmp_path, {"bad.py": source}), "bad.py")
    assert found["error"].startswith(error)
    assert {**found, "error": ""} == {
        "name": "bad", "error": "", "lines": 0, "functions": 0, "classes": 0, "calls": {}, "imports": [],
    }  # fmt: skip


def test_a_summary_adds_up_and_finds_the_module_that_each_import_means() -> None:
    modules = [
        module("a", ["b.c.thing", "b.missing", "a", "sys", "xml.dom"], lines=5, len=2),
        module("b", ["b.c"], lines=7, len=1, print=1),
        module("b.c", [], lines=1),
        module("bad", [], error="SyntaxError: no"),
    ]
    assert summarise(modules) == {
        "broken": ["bad"],
        "lines": {"a": 5, "b": 7, "b.c": 1},
        "functions": 6,
        "classes": 3,
        "calls": {"len": 3, "print": 1},
        "imports": {"a": ["b", "b.c", "sys", "xml"], "b": ["b.c"], "b.c": []},
    }


def test_a_ranking_names_the_largest_and_how_the_modules_hang_together() -> None:
    summary = Summary(
        broken=["bad"],
        lines={"main": 10, "a": 30, "b": 30, "leaf": 1},
        functions=4,
        classes=2,
        calls={"len": 1, "print": 9},
        imports={"main": ["a", "sys"], "a": ["b"], "b": ["a", "leaf", "sys"], "leaf": []},
    )
    assert rank(summary) == {
        "modules": 4,
        "broken": ["bad"],
        "lines": 71,
        "functions": 4,
        "classes": 2,
        "largest": [("a", 30), ("b", 30), ("main", 10), ("leaf", 1)],
        "called": [("print", 9), ("len", 1)],
        "imported": [("a", 2), ("sys", 2), ("b", 1), ("leaf", 1)],
        "unused": 1,
        "knot": ["a", "b"],
        "chain": ["main", "(a knot of 2)", "leaf"],
    }


def test_no_files_give_an_empty_ranking() -> None:
    ranking = rank(summarise([]))
    assert ranking == {
        "modules": 0, "broken": [], "lines": 0, "functions": 0, "classes": 0,
        "largest": [], "called": [], "imported": [], "unused": 0, "knot": [], "chain": [],
    }  # fmt: skip
    assert report(ranking).startswith("0 modules: 0 lines, 0 functions, 0 classes\n")


def test_a_table_has_the_eight_largest_and_equal_ones_by_name() -> None:
    counts = {"i": 1, "h": 1, "g": 2, "f": 2, "e": 2, "d": 2, "c": 2, "b": 2, "a": 3}
    assert top(counts) == [(name, counts[name]) for name in "abcdefgh"]


def test_knots_come_after_what_they_reach_and_are_what_reaching_says() -> None:
    chance = random.Random(7)
    for _ in range(200):
        names = [f"m{number}" for number in range(chance.randrange(1, 9))]
        graph = {
            name: [other for other in names if other != name and chance.random() < 0.25] for name in names
        }
        parts = knots(graph)
        reach = {name: reached(graph, name) for name in names}
        together = {
            name: sorted(o for o in names if o == name or (o in reach[name] and name in reach[o]))
            for name in names
        }
        assert sorted(parts) == sorted({tuple(part): part for part in together.values()}.values())
        place = {name: number for number, part in enumerate(parts) for name in part}
        assert all(place[other] <= place[name] for name in names for other in graph[name])
        assert len(longest_chain(graph, parts)) == longest(graph, parts, place)


def reached(graph: dict[str, list[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = set(graph[waiting.pop()]) - found
        found |= new
        waiting += new
    return found


def longest(graph: dict[str, list[str]], parts: list[list[str]], place: dict[str, int]) -> int:
    """Return the length of the longest chain of parts, by trying all."""

    def below(number: int) -> int:
        onward = {place[other] for name in parts[number] for other in graph[name]} - {number}
        return 1 + max(map(below, onward), default=0)

    return max(below(number) for number in range(len(parts)))


def test_knots_needs_no_recursion() -> None:
    names = [f"m{number}" for number in range(5000)]
    graph = {name: [following] for name, following in zip(names, [*names[1:], names[0]], strict=True)}
    assert knots(graph) == [sorted(names)]
    graph[names[-1]] = []
    assert longest_chain(graph, knots(graph)) == names


REPORT = """\
1,781 modules: 857,247 lines, 58,754 functions, 13,116 classes

Largest modules     lines  Most called         times  Most imported          by
pydoc_data.topics  15,711  .assertEqual       39,880  unittest              803
test.datetimetest…  6,626  len                 5,906
typing              3,352

1,092 modules are imported by no other.
The largest knot: 2 modules that import each other in circles.
The longest chain of imports: test.libregrtest.main →
  test.libregrtest.run_workers → test.libregrtest.worker → (a knot of 2) →
  token.
3 files could not be parsed: one, two and 1 more."""


def test_the_report_is_this_text() -> None:
    ranking = Ranking(
        modules=1781,
        broken=["one", "two", "three"],
        lines=857247,
        functions=58754,
        classes=13116,
        largest=[("pydoc_data.topics", 15711), ("test.datetimetester", 6626), ("typing", 3352)],
        called=[(".assertEqual", 39880), ("len", 5906)],
        imported=[("unittest", 803)],
        unused=1092,
        knot=["a", "b"],
        chain=[
            "test.libregrtest.main",
            "test.libregrtest.run_workers",
            "test.libregrtest.worker",
            "(a knot of 2)",
            "token",
        ],
    )
    assert report(ranking) == REPORT
    assert max(map(len, REPORT.splitlines())) <= 79
