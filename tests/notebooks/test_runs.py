"""Notebooks on a cluster: what comes of them, what is shown meanwhile, how they fail, and in canvases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import nbq
from tests.notebooks.kit import book, cell, double, value_of, write
from tests.processes.harness import until
from tests.project.tree import ROOT

pytestmark = pytest.mark.usefixtures("client")


def test_the_example_runs_with_a_parameter_and_is_kept_with_its_html(tmp_path: Path) -> None:
    done = nbq.notebook(ROOT / "notebooks/report.ipynb", {"upto": 100}).delay().get(60)
    assert done.value == {"upto": 100, "sum": 338350}
    sources = ["".join(one["source"]) for one in done.notebook["cells"]]
    assert sources[1].startswith("upto = 10\n")
    assert sources[2] == "# Parameters\nupto = 100"
    assert done.outputs[2][0]["text"] == ["100 squares\n"]
    assert "338350" in done.html
    assert done.html.lstrip().startswith("<!DOCTYPE html>")
    assert done.save(tmp_path / "done.ipynb").read_text() == done.text


def test_progress_is_shown_by_cell_and_the_first_that_fails_ends_it(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    wait = f"# waits\nimport pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)"
    path = write(tmp_path, "print('first')", wait, "1 / 0", "print('never')")
    result = nbq.notebook(path).delay()
    shown = {"cell": 2, "cells": 4, "source": "# waits"}
    until(lambda: result.info == shown, "the second cell")
    assert result.state == "PROGRESS"
    gate.touch()
    with pytest.raises(nbq.NotebookFailed) as caught:
        result.get(60)
    error = caught.value
    text = f"{path} failed in cell 3 of 4 (`1 / 0`): ZeroDivisionError: division by zero"
    assert str(error) == f"{text} [task {result.id}]"
    assert (error.cell, error.cells, error.source) == (3, 4, "1 / 0")
    assert (error.ename, error.evalue) == ("ZeroDivisionError", "division by zero")
    assert "----> 1 1 / 0" in error.traceback
    assert "----> 1 1 / 0" in result.traceback
    kept = [one["outputs"] for one in error.notebook["cells"]]
    assert kept[0] == [{"name": "stdout", "output_type": "stream", "text": ["first\n"]}]
    assert [kept[2][0]["ename"], kept[3]] == ["ZeroDivisionError", []]


def test_it_is_a_step_of_a_canvas_and_may_take_what_came_before(tmp_path: Path) -> None:
    path = write(tmp_path, cell("rows, factor = [], 1", "parameters"), "sum(rows) * factor")
    header = nbq.group(double.s(1), double.s(2))
    taken = header | nbq.notebook(path, {"factor": 10}, takes="rows", html=False) | value_of.s()
    assert taken.delay().get(60) == 60
    ignored = double.s(1) | nbq.notebook(path, {"rows": (5,)}, html=False) | value_of.s()
    assert ignored.delay().get(60) == 5


def test_its_cells_find_the_hub_and_run_in_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("answer = 42")
    path = write(
        tmp_path, "import nbq, os, beside", "client = nbq.connect()",
        "(client.submit(abs, -3).get(30), beside.answer, os.getcwd())",
    )  # fmt: skip
    assert nbq.notebook(path, html=False).delay().get(60).value == (3, 42, str(tmp_path))


def test_a_pinned_notebook_needs_no_file_later(tmp_path: Path) -> None:
    path = write(tmp_path, "'pinned'")
    pinned, late = nbq.notebook(path, pin=True, html=False), nbq.notebook(path)
    Path(path).unlink()
    with pytest.raises(FileNotFoundError, match=r"^there is no notebook '.*' on host \S+, seen from "):
        late.delay().get(60)
    assert pinned.delay().get(60).value == "pinned"


def test_it_is_run_again_as_often_as_it_is_told(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    count = f"import pathlib; f = pathlib.Path({str(marks)!r}).open('a+'); f.write('x'); f.flush(); f.seek(0)"
    path = write(tmp_path, count, "tries = len(f.read())", "assert tries > 1", "tries")
    result = nbq.notebook(path, html=False, retries=1, retry_delay=0.01).delay()
    assert (result.get(60).value, result.retries) == (2, 1)


def test_a_kernel_that_dies_is_a_failure_that_names_the_cell(tmp_path: Path) -> None:
    path = write(tmp_path, "1", "import os; os._exit(3)")
    with pytest.raises(nbq.NotebookFailed) as caught:
        nbq.notebook(path).delay().get(60)
    assert (caught.value.cell, caught.value.ename) == (2, "KernelDied")
    assert caught.value.evalue == "its kernel died with exit code 3"


def test_by_name_it_is_known_to_every_engine() -> None:
    content = book("6 * 7")
    given = {"path": "x.ipynb", "content": json.dumps(content), "html": False}
    assert nbq.send_task("nbq.notebook", kwargs=given).get(60).value == 42
