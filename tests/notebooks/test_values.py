"""What needs no kernel: the call, its parameters, where they are put, and what fits into an error."""

from __future__ import annotations

import asyncio
import json
import math
import pickle
import sys
from pathlib import Path

import nbformat
import pytest

import nbq
from nbq.engines import kernels
from tests.notebooks.kit import book, cell, write


def job(path: str, **parameters: object) -> kernels.Job:
    return kernels.Job(path, "", parameters, "", None, "", False, "")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({1, 2}, "parameter rows is of type set: "),
        ([{"a": 1 + 2j}], "parameter rows[0]['a'] is of type complex: "),
        ({1: 2}, "parameter rows has the key 1: keys are text"),
        (b"x", "parameter rows is of type bytes: "),
    ],
)
def test_a_parameter_that_is_not_plain_data_is_refused_by_name(value: object, text: str) -> None:
    with pytest.raises(nbq.NotSerializable) as caught:
        nbq.notebook("report.ipynb", {"rows": value})
    assert str(caught.value).startswith(text)


def test_a_parameter_that_holds_itself_is_refused() -> None:
    held: list[object] = []
    held.append(held)
    with pytest.raises(nbq.NotSerializable, match=r"nested more than 50 times, or holds itself$"):
        nbq.notebook("report.ipynb", {"rows": held})


@pytest.mark.parametrize("name", ["class", "a b", "", "x=1\nimport os", 3])
def test_a_parameter_has_a_name_of_python(name) -> None:
    with pytest.raises(nbq.InvalidSignature, match=r"^a parameter is named as in Python, not "):
        nbq.notebook("report.ipynb", {name: 1})


def test_arguments_are_checked_where_they_are_given() -> None:
    for wrong in [
        {"cell_timeout": 0}, {"retries": -1}, {"takes": "if"}, {"parameters": {"x": 1}, "takes": "x"},
    ]:  # fmt: skip
        with pytest.raises(nbq.InvalidSignature):
            nbq.notebook("report.ipynb", **wrong)
    with pytest.raises(FileNotFoundError):
        nbq.notebook("no such.ipynb", pin=True)


def test_parameters_are_what_they_were_in_python() -> None:
    values = [None, True, -3, 1e300, 'it\'s\n"so" \ud800', (1,), (), [[], {"a b": (1, 2)}]]
    assert [eval(kernels.literal(value)) for value in values] == values
    assert math.isnan(eval(kernels.literal(math.nan)))
    assert eval(kernels.literal([math.inf, -math.inf])) == [math.inf, -math.inf]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([cell("a = 1", "parameters"), cell("a")], ["a = 1", "# Parameters\na = 2", "a"]),
        ([cell("b"), cell("a")], ["# Parameters\na = 2", "b", "a"]),
        (
            [cell("a = 1", "parameters"), cell("b"), cell("old", "injected-parameters")],
            ["a = 1", "b", "# Parameters\na = 2"],
        ),
    ],
)
def test_parameters_are_put_where_papermill_puts_them(before: list, after: list) -> None:
    node = nbformat.reads(json.dumps(book(*before)), as_version=4)
    kernels._inject(node, job("report.ipynb", a=2), "python")
    assert [one.source for one in node.cells] == after
    assert node.cells[after.index("# Parameters\na = 2")].metadata.tags == ["injected-parameters"]
    nbformat.validate(node)


def test_other_languages_take_no_parameters() -> None:
    with pytest.raises(nbq.InvalidNotebook, match=r"^report\.ipynb runs in a kernel for R, and parameters "):
        kernels._inject(nbformat.v4.new_notebook(), job("report.ipynb", a=2), "R")


def test_what_is_no_notebook_is_said_to_be_none(tmp_path: Path) -> None:
    for text in ["", "[]", "{}", "\N{SNOWMAN} no json", '{"nbformat": 4}']:
        path = tmp_path / "bad.ipynb"
        path.write_text(text or "   ")
        with pytest.raises(nbq.InvalidNotebook, match=r"bad\.ipynb is no notebook: "):
            asyncio.run(kernels.execute(job(str(path)), lambda *_: None))


def test_an_unknown_kernel_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    given = kernels.Job(write(tmp_path, "1"), "", {}, "fortran", None, "", False, "")
    with pytest.raises(nbq.InvalidNotebook, match=r"wants the kernel 'fortran', and host \S+ has .*python3"):
        asyncio.run(kernels.execute(given, lambda *_: None))


def test_without_the_extra_the_task_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "nbq.engines.kernels")
    monkeypatch.setitem(sys.modules, "nbclient", None)
    with pytest.raises(nbq.SettingsError) as caught:
        asyncio.run(nbq.notebook("report.ipynb")())
    assert str(caught.value) == "notebooks need the package nbclient: install nbq[notebook] where engines run"


def test_a_failure_keeps_as_much_of_the_notebook_as_may_travel() -> None:
    noise = [f"{hash((row, 'x')):x}" for row in range(6000)]
    cells = [cell("small"), cell("large"), cell("failed")]
    for one, text in zip(cells, (["kept\n"], noise, ["why\n"]), strict=True):
        one["outputs"] = [{"output_type": "stream", "name": "stdout", "text": text}]
    error = nbq.NotebookFailed("it failed", "id", 3, 3, "failed", "KeyError", "'x'", "Traceback")
    error.keep(kernels._bounded(nbformat.reads(json.dumps(book(*cells)), as_version=4), 2))
    again = pickle.loads(pickle.dumps(error))
    assert (again.args, again.cell, again.ename, str(again)) == (
        error.args,
        3,
        "KeyError",
        "it failed [task id]",
    )
    left = f"[{sum(map(len, noise)) + 12:,} bytes of outputs were left out]\n"
    texts = ["".join(one["outputs"][0]["text"]) for one in again.notebook["cells"]]
    assert texts == ["kept\n", left, "why\n"]
    assert len(pickle.dumps(error)) < 48 * 1024
    error.keep(kernels._bounded(nbformat.reads(json.dumps(book("".join(noise))), as_version=4), 0))
    assert error.notebook is None
    with pytest.raises(nbq.UsageError, match=r"is not known here \[task id\]$"):
        error.save("nowhere.ipynb")


def test_a_result_is_small_where_it_travels_and_shows_itself_safely(tmp_path: Path) -> None:
    outputs = {"output_type": "execute_result", "data": {"text/plain": "[1, ...]"}, "metadata": {}}
    shown = book("[1]")
    shown["cells"][0]["outputs"] = [outputs]
    done = nbq.NotebookResult("a.ipynb", json.dumps(shown), "<p>" + 300_000 * "x" + '"</p>', 1.25)
    assert done.value == "[1, ...]"  # never a list with an Ellipsis
    again = pickle.loads(pickle.dumps(done))
    assert (again.notebook, again.html, again.outputs) == (shown, done.html, [[outputs]])
    assert len(pickle.dumps(done)) < 3000
    assert repr(again) == "<notebook a.ipynb: 1 cells of code in 1.2 s>"
    assert again._repr_html_().startswith('<iframe sandbox="allow-scripts" style=')
    assert "&lt;p&gt;" in again._repr_html_()
    assert again.save(tmp_path / "a.html").read_text() == done.html
    plain = nbq.NotebookResult("<b>.ipynb", json.dumps(shown), "", 1.0)
    assert plain._repr_html_() == "<code>&lt;notebook &lt;b&gt;.ipynb: 1 cells of code in 1.0 s&gt;</code>"
    with pytest.raises(nbq.InvalidNotebook, match=r"html=False"):
        plain.save(tmp_path / "b.html")
