"""``nbq.notebook``: a notebook as a task, with parameters, and what comes of it.

The task is known by its name on every engine, so no code travels. Here are the call and its result; how a
notebook is run is ``engines.kernels``', which a slot loads when it runs the first. Nothing here reads a
notebook but what the caller pins.
"""

from __future__ import annotations

import ast
import html as escaping
import json
import keyword
import time
import zlib
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from nbq.canvas import Signature
from nbq.context import current_task
from nbq.errors import (
    InvalidNotebook,
    InvalidSignature,
    NotebookFailed,
    NotSerializable,
    SettingsError,
)
from nbq.tasks import task

__all__ = ["NotebookResult", "notebook"]

_DEPTH = 50
_SHOWN_BYTES = 4 << 20
"""A larger notebook is not shown within another one: its outputs would be saved there again."""


class NotebookResult:
    """A notebook that ran to its end.

    Args:
        path: Where it came from.
        text: Its JSON, with outputs.
        html: The same as a page; empty if that was not wanted.
        seconds: How long it took, with the start of its kernel.
    """

    def __init__(self, path: str, text: str, html: str, seconds: float) -> None:
        self.path = path
        self.seconds = seconds
        self._packed = zlib.compress(text.encode()), zlib.compress(html.encode())

    @cached_property
    def text(self) -> str:
        """The executed notebook, as a file holds it."""
        return zlib.decompress(self._packed[0]).decode()

    @cached_property
    def html(self) -> str:
        """The same as a page of HTML; empty if it was run with ``html=False``."""
        return zlib.decompress(self._packed[1]).decode()

    @cached_property
    def notebook(self) -> dict[str, Any]:
        """The same as data, by nbformat."""
        return json.loads(self.text)

    @property
    def outputs(self) -> list[list[dict[str, Any]]]:
        """The outputs of each cell of code, in order, by nbformat."""
        return [cell["outputs"] for cell in self.notebook["cells"] if cell["cell_type"] == "code"]

    @property
    def value(self) -> Any:
        """The value that was shown last: what its JSON or literal says it is, else its text; or None."""
        for outputs in reversed(self.outputs):
            for output in reversed(outputs):
                if output["output_type"] == "execute_result":
                    return _value(output["data"])
        return None

    def save(self, path: str | PathLike[str]) -> Path:
        """Write it: as HTML where the name ends so, else as a notebook. Returns the path.

        Raises:
            InvalidNotebook: It was run without HTML.
        """
        target = Path(path)
        as_html = target.suffix.lower() in (".html", ".htm")
        if as_html and not self.html:
            raise InvalidNotebook(f"{self.path} was run with html=False: save it as .ipynb")
        target.write_text(self.html if as_html else self.text, encoding="utf-8")
        return target

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what can be made again."""
        return {"path": self.path, "seconds": self.seconds, "_packed": self._packed}

    def __repr__(self) -> str:
        """Name it."""
        return f"<notebook {self.path}: {len(self.outputs)} cells of code in {self.seconds:.1f} s>"

    def _repr_html_(self) -> str:
        if not self.html or len(self.html) > _SHOWN_BYTES:
            return f"<code>{escaping.escape(repr(self))}</code>"
        page = escaping.escape(self.html)
        style = "width:100%;height:30em;border:1px solid #8884"
        return f'<iframe sandbox="allow-scripts" style="{style}" srcdoc="{page}"></iframe>'


def _value(data: dict[str, Any]) -> Any:
    if "application/json" in data:
        return data["application/json"]
    text = "".join(data.get("text/plain", ""))
    if "..." in text:  # shortened, perhaps
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def notebook(
    path: str | PathLike[str],
    parameters: Mapping[str, Any] | None = None,
    *,
    takes: str = "",
    pin: bool = False,
    kernel: str = "",
    cell_timeout: float | timedelta | None = None,
    html: bool = True,
    cwd: str | PathLike[str] = "",
    retries: int = 0,
    retry_delay: float | timedelta = 60,
) -> Signature:
    """Return the signature of a task that runs a notebook; its value is a ``NotebookResult``.

    Args:
        path: The notebook. The engine reads it when the task starts, from its own folder if it is relative.
        parameters: Plain data by name, given in a cell behind the one with the tag ``parameters``, else at
            the top. Started by a schedule, ``fire_time`` is one more (ISO text), unless it is given here.
        takes: The parameter that gets what the task before it in a canvas returned; empty to ignore that.
        pin: Read it now instead, so that it travels with the call.
        kernel: The name of a kernel that is installed on the engine; that of the notebook unless given.
        cell_timeout: How many seconds one cell may take.
        html: Whether the result has it as a page, too.
        cwd: Where it runs; the notebook's folder unless given.
        retries: How often it is run again when it has failed.
        retry_delay: After how many seconds.

    Raises:
        InvalidSignature: An argument does not fit.
        NotSerializable: A parameter is not plain data; the message names it.
        FileNotFoundError: It is to be pinned, and is not here.
    """
    given = dict(parameters or {})
    check_parameters(given)
    if takes:
        check_parameters({takes: None})
        if takes in given:
            raise InvalidSignature(f"{takes!r} is given as a parameter and taken from the task before, too")
    where = fspath(path)
    if not isinstance(where, str) or not where:
        raise InvalidSignature(f"a notebook is named by its path, not by {path!r}")
    kwargs: dict[str, Any] = {"path": str(Path(where).absolute()) if pin else where, "parameters": given}
    if pin:
        kwargs["content"] = Path(where).read_text(encoding="utf-8")
    kwargs |= {"takes": takes, "kernel": kernel, "html": bool(html), "cwd": fspath(cwd)}
    if cell_timeout is not None:
        kwargs["cell_timeout"] = _seconds("cell_timeout", cell_timeout)
    if type(retries) is not int or retries < 0:
        raise InvalidSignature(f"retries is a number from 0 on, not {retries!r}")
    if retries:
        kwargs |= {"retries": retries, "retry_delay": _seconds("retry_delay", retry_delay)}
    return Signature(run_notebook, (), kwargs, immutable=not takes)


@task(name="nbq.notebook", throws=(NotebookFailed, InvalidNotebook, FileNotFoundError))
async def run_notebook(
    *fed: Any,
    path: str,
    parameters: Mapping[str, Any] | None = None,
    content: str = "",
    takes: str = "",
    kernel: str = "",
    cell_timeout: float | None = None,
    html: bool = True,
    cwd: str = "",
    retries: int = 0,
    retry_delay: float = 60.0,
) -> NotebookResult:
    """Run a notebook in a kernel of its own; the arguments are those of ``notebook``, and what it was fed.

    Raises:
        NotebookFailed: It did not come to its end.
        InvalidNotebook: It is none, or cannot be run as is asked.
        FileNotFoundError: It, or its folder, is not on this host.
        NotSerializable: A parameter is not plain data.
        SettingsError: What runs notebooks is not installed here.
    """
    began = time.monotonic()
    try:
        from nbq.engines.kernels import Job, execute  # an extra, and a second to load
    except ImportError as error:
        raise SettingsError(
            f"notebooks need the package {error.name}: install nbq[notebook] where engines run"
        ) from None
    request = current_task.request
    given = dict(parameters or {})
    if takes:
        given[takes] = fed[0] if len(fed) == 1 else list(fed)
    if request.fire_time is not None:
        given.setdefault("fire_time", request.fire_time.isoformat())
    check_parameters(given)
    job = Job(path, content, given, kernel, cell_timeout, cwd, html, request.id or "")
    try:
        done = await execute(job, _show)
    except NotebookFailed as error:
        if request.retries < retries:
            raise current_task.retry(exc=error, countdown=retry_delay, max_retries=retries) from error
        raise
    return NotebookResult(path, done.text, done.html, time.monotonic() - began)


def _show(cell: int, cells: int, line: str) -> None:
    current_task.update_state("PROGRESS", {"cell": cell, "cells": cells, "source": line})


# ------------------------------------------------------------------ parameters


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Check that a notebook can be given these.

    Raises:
        InvalidSignature: A name is none of Python's.
        NotSerializable: A value is not plain data.
    """
    for name, value in parameters.items():
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            raise InvalidSignature(f"a parameter is named as in Python, not {name!r}")
        fault = _fault(value, f"parameter {name}", 0)
        if fault:
            raise NotSerializable(fault)


def _fault(value: Any, where: str, depth: int) -> str:
    """Return what in a value is not plain data, or nothing."""
    if depth > _DEPTH:
        return f"{where} is nested more than {_DEPTH} times, or holds itself"
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return ""
    if kind in (list, tuple):
        parts = [(part, f"{where}[{index}]") for index, part in enumerate(value)]
    elif kind is dict:
        wrong = [key for key in value if type(key) is not str]
        if wrong:
            return f"{where} has the key {wrong[0]!r:.100}: keys are text"
        parts = [(part, f"{where}[{key!r}]") for key, part in value.items()]
    else:
        return (
            f"{where} is of type {kind.__qualname__}: a notebook takes None, bool, int, float, str, and "
            "lists, tuples and dicts of them; convert it, or give a path"
        )
    for part, place in parts:
        if fault := _fault(part, place, depth + 1):
            return fault
    return ""


def _seconds(name: str, value: float | timedelta) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 1e9:
        raise InvalidSignature(f"{name} is a number of seconds, not {value!r}")
    return float(seconds)
