"""The project as files: which there are, and what a module imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "nbq"


def project_files(pattern: str = "*") -> list[Path]:
    """Return the files of the project that match: all but what git keeps and what .gitignore names."""
    ignored = [".git", *(line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split())]

    def walk(folder: Path) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            if any(fnmatch(path.name, name) for name in ignored):
                continue
            if path.is_dir():
                yield from walk(path)
            elif fnmatch(path.name, pattern):
                yield path

    return list(walk(ROOT))


@cache
def modules() -> dict[str, Path]:
    """Return the package's modules by their dotted names."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def parsed(path: Path) -> ast.Module:
    """Return a file as a syntax tree."""
    return ast.parse(path.read_text(), str(path))


@cache
def imports(name: str) -> frozenset[str]:
    """Return all that a module imports anywhere in it, for types too: modules of nbq, and others by root."""
    found: set[str] = set()
    for node in ast.walk(parsed(modules()[name])):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            assert node.module is not None
            for alias in node.names:
                part = f"{node.module}.{alias.name}"
                found.add(part if part in modules() else node.module)
    return frozenset(part if part.split(".")[0] == "nbq" else part.split(".")[0] for part in found)
