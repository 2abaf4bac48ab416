"""What the demo works out about the source files of a Python library: its tasks, and the functions in them.

One ``parse`` for each file, then ``summarise``, ``rank`` and ``report``, each fed by the one before. They are
plain functions of their arguments: called, they do the same work here. Nothing here imports or runs what
it reads.
"""

from __future__ import annotations

import ast
import os
import textwrap
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypedDict

import nbq

__all__ = [
    "Module",
    "Ranking",
    "Summary",
    "find_files",
    "knots",
    "longest_chain",
    "module_name",
    "parse",
    "rank",
    "report",
    "summarise",
    "top",
]

_TOP = 8
"""How many entries each table of the report has."""
_NAME_WIDTH = 19
_WIDTH = 79
_NAMED = 2
"""How many of the broken files the report names."""
_INSTALLED = {"site-packages", "dist-packages"}


class Module(TypedDict):
    """What one file holds; ``error`` says why it could not be parsed, and is empty if it could."""

    name: str
    error: str
    lines: int
    functions: int
    classes: int
    calls: dict[str, int]
    imports: list[str]


class Summary(TypedDict):
    """What all files hold together. ``imports`` has a row for each module that could be parsed."""

    broken: list[str]
    lines: dict[str, int]
    functions: int
    classes: int
    calls: dict[str, int]
    imports: dict[str, list[str]]


class Ranking(TypedDict):
    """What is worth telling of a summary; tables are sorted, largest first."""

    modules: int
    broken: list[str]
    lines: int
    functions: int
    classes: int
    largest: list[tuple[str, int]]
    called: list[tuple[str, int]]
    imported: list[tuple[str, int]]
    """By how many other modules each is imported."""
    unused: int
    """How many modules no other one imports."""
    knot: list[str]
    """The most modules of which each imports, at some remove, all others; empty if there are none."""
    chain: list[str]
    """The longest row of modules of which each imports the next; a knot is one step of it."""


# ------------------------------------------------------------------ finding


def find_files(library: str) -> list[str]:
    """Return the Python files of a library, without what was installed beside it, in a mixed but fixed order.

    Mixed, so that any part of the list is a fair sample and the rate of the work stays even.
    """
    found: list[str] = []
    for folder, below, files in os.walk(library):
        below[:] = [name for name in below if name not in _INSTALLED]
        paths = [Path(folder, name) for name in files if name.endswith(".py")]
        found += [path.relative_to(library).as_posix() for path in paths if path.is_file()]
    return sorted(found, key=lambda name: (zlib.crc32(name.encode()), name))


def module_name(file: str) -> str:
    """Return the dotted name of a file of a library: ``json/__init__.py`` is ``json``."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


# ------------------------------------------------------------------ the tasks


@nbq.task
def parse(library: str, file: str) -> Module:
    """Parse one file of a library and count what is in it."""
    source = Path(library, file).read_bytes()
    found = Module(name=module_name(file), error="", lines=0, functions=0, classes=0, calls={}, imports=[])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old spellings in what is parsed
            tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:  # files with which Python tests its own parsers
        found["error"] = f"{type(error).__name__}: {error}"
        return found
    found["lines"] = len(source.splitlines())
    package = found["name"] if file.endswith("__init__.py") else found["name"].rpartition(".")[0]
    calls: Counter[str] = Counter()
    imports: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)):
                calls[name] += 1
            case ast.Call(func=ast.Attribute(attr=name)):
                calls[f".{name}"] += 1
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                found["functions"] += 1
            case ast.ClassDef():
                found["classes"] += 1
            case ast.Import() | ast.ImportFrom():
                imports.update(_imported(node, package))
    found["calls"] = dict(calls)
    found["imports"] = sorted(imports)
    return found


def _imported(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[str]:
    """Yield the full names that a statement imports, be they modules or what is in them."""
    start = ""
    if isinstance(node, ast.ImportFrom):
        parents = package.split(".")
        above = parents[: len(parents) + 1 - node.level] if node.level else []
        start = ".".join([*above, *filter(None, [node.module])])
    for alias in node.names:
        yield f"{start}.{alias.name}".strip(".")


@nbq.task
def summarise(modules: list[Module]) -> Summary:
    """Add up all files. An import counts for the longest part of its name that is a module here."""
    parsed = [module for module in modules if not module["error"]]
    known = {module["name"] for module in parsed}
    calls: Counter[str] = Counter()
    for module in parsed:
        calls.update(module["calls"])
    return Summary(
        broken=sorted(module["name"] for module in modules if module["error"]),
        lines={module["name"]: module["lines"] for module in parsed},
        functions=sum(module["functions"] for module in parsed),
        classes=sum(module["classes"] for module in parsed),
        calls=dict(calls),
        imports={
            module["name"]: sorted({_home(name, known) for name in module["imports"]} - {module["name"]})
            for module in parsed
        },
    )


def _home(name: str, known: set[str]) -> str:
    """Return the module that an imported name is, or is in; its first part if none here is it."""
    while name not in known and "." in name:
        name = name.rpartition(".")[0]
    return name


@nbq.task
def rank(summary: Summary) -> Ranking:
    """Find the largest, the most used, and how the modules hang together."""
    importers = Counter(name for row in summary["imports"].values() for name in row)
    graph = {name: [o for o in row if o in summary["imports"]] for name, row in summary["imports"].items()}
    parts = knots(graph)
    return Ranking(
        modules=len(summary["lines"]),
        broken=summary["broken"],
        lines=sum(summary["lines"].values()),
        functions=summary["functions"],
        classes=summary["classes"],
        largest=top(summary["lines"]),
        called=top(summary["calls"]),
        imported=top(importers),
        unused=sum(name not in importers for name in summary["imports"]),
        knot=max((part for part in parts if len(part) > 1), key=len, default=[]),
        chain=longest_chain(graph, parts),
    )


def top(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the largest counts; equal ones by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_TOP]


# ------------------------------------------------------------------ the import graph


def knots(graph: Mapping[str, list[str]]) -> list[list[str]]:
    """Return the strongly connected parts of a graph, each after all parts that can be reached from it.

    A part of more than one is a knot: each of its modules imports, at some remove, all others. This is
    Tarjan's algorithm, without recursion.
    """
    parts: list[list[str]] = []
    seen: dict[str, int] = {}
    lowest: dict[str, int] = {}
    done: set[str] = set()
    unfinished: list[str] = []
    for root in graph:
        steps = [] if root in seen else [(root, iter(graph[root]))]
        while steps:
            name, rest = steps[-1]
            if name not in seen:
                seen[name] = lowest[name] = len(seen)
                unfinished.append(name)
            unseen = next((other for other in rest if other not in seen), None)
            if unseen is not None:
                steps.append((unseen, iter(graph[unseen])))
                continue
            steps.pop()
            lowest[name] = min([lowest[name], *(lowest[other] for other in graph[name] if other not in done)])
            if lowest[name] == seen[name]:
                start = unfinished.index(name)
                parts.append(sorted(unfinished[start:]))
                done.update(parts[-1])
                del unfinished[start:]
    return parts


def longest_chain(graph: Mapping[str, list[str]], parts: list[list[str]]) -> list[str]:
    """Return the longest row of parts of which each imports the next; a knot is named by its size."""
    best: dict[str, list[str]] = {}
    for part in parts:
        onward = [best[other] for name in part for other in graph[name] if other in best]
        label = part[0] if len(part) == 1 else f"(a knot of {len(part)})"
        chain = [label, *max(onward, key=len, default=[])]
        best.update(dict.fromkeys(part, chain))
    return max(best.values(), key=len, default=[])


# ------------------------------------------------------------------ the report


@nbq.task
def report(ranking: Ranking) -> str:
    """Write the ranking as text, at most 80 columns wide."""
    tables = [
        _table("Largest modules", "lines", ranking["largest"]),
        _table("Most called", "times", ranking["called"]),
        _table("Most imported", "by", ranking["imported"]),
    ]
    height = max(map(len, tables))
    filled = [table + [" " * len(table[0])] * (height - len(table)) for table in tables]
    facts = [f"{ranking['unused']:,} modules are imported by no other."]
    if ranking["knot"]:
        facts.append(f"The largest knot: {len(ranking['knot']):,} modules that import each other in circles.")
    if ranking["chain"]:
        facts.append(f"The longest chain of imports: {' → '.join(ranking['chain'])}.")
    if ranking["broken"]:
        facts.append(f"{len(ranking['broken']):,} files could not be parsed: {_some(ranking['broken'])}.")
    sizes = [f"{ranking[key]:,} {key}" for key in ("lines", "functions", "classes")]
    return "\n".join(
        [
            f"{ranking['modules']:,} modules: {', '.join(sizes)}",
            "",
            *("  ".join(row).rstrip() for row in zip(*filled, strict=True)),
            "",
            *(line for fact in facts for line in textwrap.wrap(fact, _WIDTH, subsequent_indent="  ")),
        ]
    )


def _table(title: str, unit: str, rows: list[tuple[str, int]]) -> list[str]:
    shown = [(title, unit), *((name, f"{count:,}") for name, count in rows)]
    return [f"{_cut(name):<{_NAME_WIDTH}}{count:>6}" for name, count in shown]


def _cut(name: str) -> str:
    return name if len(name) < _NAME_WIDTH else f"{name[: _NAME_WIDTH - 2]}…"


def _some(names: list[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest:,} more" if rest > 0 else "")
