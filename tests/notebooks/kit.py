"""Notebooks for tests, written without any of Jupyter's packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbq


def cell(source: str, *tags: str) -> dict[str, Any]:
    return {
        "cell_type": "code", "execution_count": None, "outputs": [], "source": source,
        "metadata": {"tags": list(tags)} if tags else {},
    }  # fmt: skip


def book(*cells: str | dict[str, Any]) -> dict[str, Any]:
    """Return a notebook of these cells of code."""
    made = [cell(one) if isinstance(one, str) else one for one in cells]
    for number, one in enumerate(made):
        one["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def write(folder: Path, *cells: str | dict[str, Any], name: str = "book.ipynb") -> str:
    path = folder / name
    path.write_text(json.dumps(book(*cells)))
    return str(path)


@nbq.task
def double(x: int) -> int:
    return 2 * x


@nbq.task
def value_of(done: nbq.NotebookResult) -> Any:
    return done.value
