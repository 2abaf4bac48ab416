"""The limits of size: no file over 600 lines, no function over 60."""

from __future__ import annotations

import ast

import pytest

from tests.project.tree import ROOT, parsed, project_files

FILE_LINES = 600
FUNCTION_LINES = 60
FILES = {str(path.relative_to(ROOT)): path for path in project_files("*.py")}


@pytest.mark.parametrize("name", FILES)
def test_a_file_and_its_functions_are_short(name: str) -> None:
    path = FILES[name]
    assert len(path.read_text().splitlines()) <= FILE_LINES
    functions = [
        node for node in ast.walk(parsed(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {function: lines for function, lines in lengths.items() if lines > FUNCTION_LINES} == {}
