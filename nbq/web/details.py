"""What a page shows of one task or run when it is opened: asked of the hub then, and only then."""

from __future__ import annotations

from typing import Any

from nbq import wire
from nbq.client import Client
from nbq.core.ids import run_text
from nbq.core.model import NONE
from nbq.errors import NbqError, UnknownResult
from nbq.results import AsyncResult
from nbq.web import state
from nbq.web.written import form_of

__all__ = ["run", "schedule", "task"]

_PATIENCE_S = 10.0
"""How long the content of a task that has ended may take to come."""
_SEALED = "Its traceback and its output are sealed: a viewer's key cannot read them."
_TASKS = 50
_NEXT = 8
_TAIL = 20_000
"""So many characters of what a task printed are shown."""
_ENDED_BADLY = ("FAILURE", "REVOKED")
_ENDED = ("SUCCESS", *_ENDED_BADLY)


def task(client: Client, task_id: str) -> dict[str, Any]:
    """Return all of a task that can be shown; what it printed and its traceback only to a client's key.

    Raises:
        UnknownResult: The hub has no such task.
    """
    found = client._link.ask(wire.Ask(0, "find", task_id))
    assert isinstance(found, wire.Found)
    if found.node == NONE:
        raise UnknownResult(f"{task_id} is a run, not a task")
    place = {"run": found.run, "node": found.node, "index": found.index}
    view = client._link.answer(wire.Ask(0, "element", **place)).elements[0]
    said = {"explain": str(client.explain(task_id)), "submitted_s": found.at_s, "sealed": ""}
    shown = {**state.task_row(view), **said}
    if view.state not in _ENDED:
        return shown
    if client.connection.role != "client":
        return {**shown, "sealed": _SEALED}
    return {**shown, **_output(client, task_id, view.state)}


def _output(client: Client, task_id: str, ended: str) -> dict[str, Any]:
    """Return what a task left when it ended, as text: no value and no exception is rebuilt for that."""
    result = client.result(task_id)
    assert isinstance(result, AsyncResult)
    try:
        result.wait(_PATIENCE_S)
        timing = result.timing
        return {
            "traceback": result.traceback if ended in _ENDED_BADLY else None,
            "stdout": result.stdout[-_TAIL:], "stderr": result.stderr[-_TAIL:],
            "started_s": timing["started"], "seconds": timing["seconds"],
        }  # fmt: skip
    except NbqError as error:  # the value is gone, or the key is not the one that it was sealed with
        return {"sealed": str(error)}


def run(client: Client, run_id: str) -> dict[str, Any]:
    """Return a run with its tasks: those that failed if there are any, else the first.

    Raises:
        UnknownResult: The hub has no such run.
    """
    found = client.run(run_id)
    view = found.view()
    failed = view.states.get("FAILURE", 0)
    rows = found.tasks("FAILURE" if failed else "", _TASKS)
    all_of = failed or view.size
    which = "failed tasks" if failed else "tasks"
    said = f"Its {which}" if len(rows) >= all_of else f"{len(rows):,} of its {all_of:,} {which}"
    began = view.states.keys() & {"STARTED", *_ENDED}
    why = "" if began else " ".join(reason.text for reason in client.explain(run_id).reasons[1:])
    tasks = [state.task_row(row) for row in rows]
    return {**state.run_row(view), "tasks": tasks, "tasks_are": said, "explain": why}


def schedule(client: Client, name: str) -> dict[str, Any]:
    """Return all of a schedule: what it says, how it is edited, what became of its last fire times, the next.

    Raises:
        UnknownSchedule: There is none of this name.
    """
    view = client.schedules.view(name)
    spec = view.spec
    return {
        **state.schedule_row(view), "active": [run_text(run) for run in view.active], "at_s": view.at_s,
        "form": form_of(spec.timing), "misfire": spec.misfire, "overlap": spec.overlap, "source": spec.source,
        "jitter_s": spec.jitter_s, "max_runs": spec.max_runs, "start_s": spec.start_s, "end_s": spec.end_s,
        "history": [state.fire_row(fire) for fire in reversed(view.state.history)],
        "upcoming": [state.moment(time) for time in client.schedules.upcoming(name, _NEXT)],
    }  # fmt: skip
