"""Runs a notebook in a kernel that lives no longer than its task.

The kernel is a process in the slot's own group, so that whoever kills the slot kills it too; on Linux it
also ends with the slot by the system's hand. It is reached by sockets in a private folder. Loaded by the
first notebook that a slot runs, never before. Nothing here knows tasks, hubs or results.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import psutil
from jupyter_client.kernelspec import NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from nbq.errors import (
    InvalidNotebook,
    NotebookFailed,
    NotebookTooLong,
    RemoteTraceback,
    SoftTimeLimitExceeded,
)
from nbq.settings import kernel_environment, temporary_dir

__all__ = ["Executed", "Job", "execute"]

OUTPUT_BYTES = 64 << 20
"""What the outputs of one notebook may have in all."""
_FAILURE_BYTES = 40 * 1024
"""What a notebook may have, compressed, in the error of its failure, which travels whole."""
_TEXT = 8 * 1024
_LINE = 80
_PER_OUTPUT = 500
_START_S = 60
_SOCKET_PATH = 90
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LAUNCH = """\
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG stays with what is executed
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the slot is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Job:
    """What is to be run.

    Args:
        path: The file, or the name of what ``content`` holds.
        content: The notebook's JSON; empty to read the file.
        parameters: Plain data by name.
        kernel: The name of the kernel; empty for what the notebook says.
        cell_timeout_s: How long one cell may take; None for ever.
        cwd: Where it runs; empty for the notebook's folder.
        html: Whether it is wanted as HTML, too.
        task_id: For errors.
    """

    path: str
    content: str
    parameters: Mapping[str, Any]
    kernel: str
    cell_timeout_s: float | None
    cwd: str
    html: bool
    task_id: str


@dataclass(frozen=True)
class Executed:
    """A notebook that ran to its end: its JSON, and its HTML if that was wanted."""

    text: str
    html: str


class _Process(LocalProvisioner):
    """Starts the kernel as a child of the slot, in the slot's process group."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Start the process; returns how to reach it."""
        argv = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), *cmd]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, cwd=kwargs["cwd"], env=kwargs["env"])
        self.pid = self.process.pid
        self.cwd = kwargs["cwd"]
        return self.connection_info

    def end(self) -> None:
        """Kill the process, and what it has started, if it is still there."""
        if self.process is None or self.process.poll() is not None:
            return
        victims: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            victims = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        for victim in victims:
            with contextlib.suppress(psutil.Error):
                victim.kill()


class _Cells(NotebookClient):
    """Runs cells, and gives up on those that print without end."""

    size = 0
    too_much = False

    def output(self, outs: list[Any], msg: dict[str, Any], display_id: Any, cell_index: int) -> Any:
        """Keep an output, up to the limit on all."""
        self.size += _PER_OUTPUT + _weight(msg["content"])
        if self.size > OUTPUT_BYTES:
            if not self.too_much and self.task_poll_for_reply is not None:
                self.too_much = True
                self.task_poll_for_reply.cancel()
            return None
        return super().output(outs, msg, display_id, cell_index)


def _weight(value: Any) -> int:
    """Return about how many bytes of text some data has."""
    if isinstance(value, dict):
        return sum(map(_weight, value.values()))
    if isinstance(value, list):
        return sum(map(_weight, value))
    return len(value) if isinstance(value, str) else 8


async def execute(job: Job, show: Callable[[int, int, str], None]) -> Executed:
    """Run a notebook to its end.

    Args:
        job: What is to be run.
        show: Called before each cell of code with its number, how many cells there are, and the first
            line of its source.

    Raises:
        FileNotFoundError: This host does not have the file or the folder.
        InvalidNotebook: It is no notebook, or its kernel is not installed here, or takes no parameters.
        NotebookFailed: A cell raised, took too long or printed too much, or the kernel died.
    """
    run = _Run(job, _opened(job), show)
    try:
        await run.go()
        await run.leave()
    except SoftTimeLimitExceeded as error:
        await run.leave()
        raise run.failed("SoftTimeLimitExceeded", str(error), NotebookTooLong) from None
    except CellExecutionError as error:
        await run.leave()
        raise run.failed(error.ename, error.evalue) from RemoteTraceback(run.trace())
    except CellTimeoutError:
        await run.leave()
        text = f"it took more than its cell_timeout, {job.cell_timeout_s:g} s"
        raise run.failed("CellTimeout", text) from None
    except DeadKernelError:
        if run.cells.too_much:
            text = f"the outputs have more than {OUTPUT_BYTES:,} bytes in all: write them to a file instead"
            raise run.failed("TooMuchOutput", text) from None
        raise run.failed("KernelDied", run.death()) from None
    finally:
        run.end()
    return Executed(nbformat.writes(run.node), _html(run.node) if job.html else "")


class _Run:
    """One notebook and its kernel.

    Args:
        job: What is to be run.
        node: The notebook.
        show: As for ``execute``.
    """

    def __init__(self, job: Job, node: Any, show: Callable[[int, int, str], None]) -> None:
        self.job, self.node, self._show = job, node, show
        self._cwd = _folder(job)
        name = job.kernel or node.metadata.get("kernelspec", {}).get("name") or "python3"
        self._manager = AsyncKernelManager(kernel_name=name)
        try:
            spec: Any = self._manager.kernel_spec
        except NoSuchKernel:
            known = ", ".join(sorted(self._manager.kernel_spec_manager.find_kernel_specs())) or "none"
            raise InvalidNotebook(
                f"{job.path} wants the kernel {name!r}, and host {socket.gethostname()} has {known}: "
                "install it there, or give kernel="
            ) from None
        if job.parameters:
            _inject(node, job, str(spec.language))
        self._process = _Process(kernel_id="nbq", kernel_spec=spec, parent=self._manager)
        self._manager.provisioner = self._process
        self._place = temporary_dir("kernel")
        self._manager.connection_file = str(self._place / "kernel.json")
        if len(os.fsencode(self._place)) <= _SOCKET_PATH:  # else over TCP, which has a key as well
            self._manager.transport, self._manager.ip = "ipc", str(self._place / "k")
        self.number = 0
        self.cells = _Cells(
            node, self._manager, timeout_func=lambda _cell: job.cell_timeout_s, on_cell_execute=self._starts
        )

    def _starts(self, cell: Any, cell_index: int) -> None:
        self.number = cell_index + 1
        self._show(self.number, len(self.node.cells), first_line(cell.source))

    async def go(self) -> None:
        """Start the kernel and run all cells."""
        cells, manager = self.cells, self._manager
        options = ["--HistoryManager.hist_file=:memory:"] if manager.ipykernel else []
        await manager.start_kernel(extra_arguments=options, cwd=self._cwd, env=kernel_environment(sys.path))
        cells.kc = client = manager.client()
        client.start_channels(hb=False)  # its process is watched
        try:
            await client.wait_for_ready(timeout=_START_S)
        except RuntimeError:
            raise DeadKernelError from None
        client.allow_stdin = False
        reply = await cells.async_wait_for_reply(client.kernel_info())
        if reply is not None:
            self.node.metadata["language_info"] = reply["content"]["language_info"]
        for index, cell in enumerate(self.node.cells):
            await cells.async_execute_cell(cell, index, execution_count=cells.code_cells_executed + 1)
        cells.set_widgets_metadata()

    async def leave(self) -> None:
        """Let the kernel end in order; what still runs in it is interrupted."""
        await self._manager.shutdown_kernel()

    def end(self) -> None:
        """Leave nothing of the kernel."""
        self._process.end()
        client = self.cells.kc
        if client is not None:
            client.stop_channels()
        self._manager.context.destroy(linger=0)
        shutil.rmtree(self._place, ignore_errors=True)

    def death(self) -> str:
        """Return how the kernel died."""
        process = self._process.process
        code = process.poll() if process is not None else None
        if code is None:
            return f"its kernel did not answer within {_START_S} s"
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"its kernel died with {how}"

    def trace(self) -> str:
        """Return the traceback of the cell that raised, without colours."""
        outputs = self.node.cells[self.number - 1].outputs
        lines = [line for one in outputs if one.output_type == "error" for line in one.traceback]
        return _cut(_COLOURS.sub("", "\n".join(lines)))

    def failed(self, ename: str, evalue: str, kind: type[NotebookFailed] = NotebookFailed) -> NotebookFailed:
        """Return the error of a notebook whose running cell failed."""
        job, number, count = self.job, self.number, len(self.node.cells)
        if number:
            source = _cut(str(self.node.cells[number - 1].source))
            where, trace = f"cell {number} of {count} (`{first_line(source)}`)", self.trace()
        else:
            source, where, trace = "", f"before the first of {count} cells", ""
        evalue = _cut(evalue, _TEXT // 8)
        text = f"{job.path} failed in {where}" if number else f"{job.path} failed {where}"
        error = kind(
            f"{text}: {ename}: {evalue}", job.task_id, number, count, _cut(source, _TEXT // 4),
            ename, evalue, trace,
        )  # fmt: skip
        error.keep(_bounded(self.node, number - 1))
        return error


# ------------------------------------------------------------------ notebooks


def _opened(job: Job) -> Any:
    content = job.content
    if not content:
        try:
            content = Path(job.path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise FileNotFoundError(_absent("notebook", job.path)) from None
        except ValueError as error:
            raise InvalidNotebook(f"{job.path} is no notebook: {error}") from None
    try:
        node: Any = nbformat.reads(content, as_version=4)
    except (nbformat.ValidationError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise InvalidNotebook(f"{job.path} is no notebook: {str(error)[:200]}") from None
    if not isinstance(node.get("cells"), list):
        raise InvalidNotebook(f"{job.path} is no notebook: it has no cells")
    return node


def _absent(what: str, path: str) -> str:
    return (
        f"there is no {what} {path!r} on host {socket.gethostname()}, seen from {Path.cwd()}: give a path "
        "that is good there, or pin=True so that the notebook travels with the call"
    )


def _folder(job: Job) -> str:
    """Return where the kernel is to run."""
    if job.cwd:
        if not Path(job.cwd).is_dir():
            raise FileNotFoundError(_absent("folder", job.cwd))
        return str(Path(job.cwd).absolute())
    own = Path(job.path).absolute().parent
    return str(own if own.is_dir() else Path.cwd())  # a pinned notebook comes from another host


def _inject(node: Any, job: Job, language: str) -> None:
    """Give a notebook its parameters, where papermill would put them."""
    if language.lower() != "python":
        raise InvalidNotebook(
            f"{job.path} runs in a kernel for {language}, and parameters are given to Python alone: "
            "let it read them from a file"
        )
    lines = [f"{name} = {literal(value)}" for name, value in job.parameters.items()]
    cell = nbformat.v4.new_code_cell(
        "\n".join(["# Parameters", *lines]), metadata={"tags": ["injected-parameters"]}
    )
    if (node.nbformat, node.nbformat_minor) < (4, 5):
        del cell["id"]
    at = {tag: index for index, cell in enumerate(node.cells) for tag in cell.metadata.get("tags", [])}
    if "injected-parameters" in at:
        node.cells[at["injected-parameters"]] = cell
    else:
        node.cells.insert(at.get("parameters", -1) + 1, cell)


def literal(value: Any) -> str:
    """Return plain data as Python writes it."""
    if type(value) is list:
        return f"[{', '.join(map(literal, value))}]"
    if type(value) is tuple:
        return f"({''.join(f'{literal(part)}, ' for part in value).strip()})"
    if type(value) is dict:
        return "{" + ", ".join(f"{key!r}: {literal(part)}" for key, part in value.items()) + "}"
    if type(value) is float and repr(value) in ("nan", "inf", "-inf"):
        return f'float("{value!r}")'
    return repr(value)


def first_line(source: str) -> str:
    """Return the first line of a cell that says something, shortened."""
    lines = [line for line in source.splitlines() if line.strip()]
    line = lines[0].strip() if lines else ""
    return line if len(line) <= _LINE else line[: _LINE - 3] + "..."


def _cut(text: str, limit: int = _TEXT) -> str:
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= limit else text[: limit // 2] + "\n...\n" + text[-limit // 2 :]


def _bounded(node: Any, failed: int) -> bytes:
    """Return a notebook compressed: without its largest outputs, if need be, the failed cell's last.

    Empty if it is too large without any output.
    """
    whole = json.loads(nbformat.writes(node))
    data = _packed(whole)
    cells = [(index, cell) for index, cell in enumerate(whole["cells"]) if cell.get("outputs")]
    for _, cell in sorted(cells, key=lambda one: (one[0] == failed, -_weight(one[1]["outputs"]))):
        if len(data) <= _FAILURE_BYTES:
            break
        text = f"[{_weight(cell['outputs']):,} bytes of outputs were left out]\n"
        cell["outputs"] = [{"output_type": "stream", "name": "stderr", "text": [text]}]
        data = _packed(whole)
    return data if len(data) <= _FAILURE_BYTES else b""


def _packed(notebook: dict[str, Any]) -> bytes:
    return zlib.compress(json.dumps(notebook, indent=1).encode())


def _html(node: Any) -> str:
    from nbconvert import HTMLExporter  # it takes a second to load

    return str(HTMLExporter().from_notebook_node(node)[0])
