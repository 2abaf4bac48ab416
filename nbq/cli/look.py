"""``nbq status``, ``nbq tasks``, ``nbq runs``, ``nbq explain`` and ``nbq result``: questions.

Nothing here changes anything on a hub.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from nbq.cli.show import (
    client_only,
    connected,
    escaped,
    hub_option,
    json_option,
    print_json,
    print_table,
    size_text,
    span_text,
    time_text,
)
from nbq.errors import UsageError, WaitTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbq.core.views import ClusterView, EngineView
    from nbq.results import AsyncResult
    from nbq.resultsets import GroupResult

__all__ = ["engine_row", "explain", "outcome", "print_outcome", "result", "runs", "status", "tasks"]

_STATES = ["WAITING", "SCHEDULED", "RETRY", "QUEUED", "STARTED", "SUCCESS", "FAILURE", "REVOKED"]
_ENDED = _STATES[-3:]
_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_ARRIVAL_S = 30.0
"""How long to wait for the value of a task that has ended."""


@click.command(short_help="Show a hub: its engines, queues and tasks.")
@hub_option
@json_option
def status(where: str | None, as_json: bool) -> None:
    """Show a hub: who it is, its engines, its queues, and how many tasks are in each state.

    \b
        nbq status
        nbq status --hub viewer.json            # a viewer's file is enough
        nbq status --json | jq .tasks.QUEUED

    \b
    --json prints
        {"hub": {"name", "pid", "durability", "uptime_s", "epoch", "clients", ...},
         "engines": [{"name", "host", "pid", "slots", "least", "most", "queues", "running", "held",
                      "state", "rss", "heard_s", "python", "nbq"}],
         "queues": [{"name", "queued", "leased", "scheduled", "engines", "paused"}],
         "tasks": {"QUEUED": 3, ...}}

    Exit code: 0 the hub answered; 3 it cannot be reached, or does not know the key.
    """
    from nbq.wire import PROTOCOL

    with connected(where) as client:
        view = client.status()
    hub = {"protocol": PROTOCOL, **view.hub}
    if as_json:
        queues = [
            {
                "name": q.name,
                "queued": q.queued,
                "leased": q.leased,
                "scheduled": q.scheduled,
                "engines": q.engines,
                "paused": q.paused,
            }
            for q in view.queues
        ]
        engines = [engine_row(row) for row in view.engines]
        print_json({"hub": hub, "engines": engines, "queues": queues, "tasks": view.states})
    else:
        _print_status(hub, view)


def engine_row(row: EngineView) -> dict[str, object]:
    """Return an engine as it is in JSON."""
    info = row.info
    return {
        "name": info.name, "host": info.host, "pid": info.pid, "slots": info.slots, "least": info.least,
        "most": info.most, "queues": info.queues, "running": row.running, "held": row.held,
        "state": row.state, "rss": row.rss, "heard_s": row.beat_s, "python": info.python, "nbq": info.nbq,
    }  # fmt: skip


def _print_status(hub: dict[str, Any], view: ClusterView) -> None:
    click.echo(
        f"hub {escaped(hub['name'])!r} (pid {hub['pid']}): durability {hub['durability']}, "
        f"up {span_text(hub['uptime_s'])}, epoch {hub['epoch']}, clients {hub['clients']}\n"
        f"nbq {hub['nbq']}, protocol {hub['protocol']}, Python {hub['python']}, "
        f"cloudpickle {hub['cloudpickle']}\n"
        f"{hub['runs']:,} runs kept ({size_text(hub['bytes'])}), {hub['unfinished']:,} tasks unfinished\n"
    )
    if view.engines:
        print_table(
            ["engine", "host", "slots", "running", "held", "state", "memory", "last heard"],
            [
                [
                    row.info.name, row.info.host, row.info.slots, row.running, row.held, row.state,
                    size_text(row.rss) if row.rss else "", f"{span_text(row.beat_s)} ago",
                ]
                for row in view.engines
            ],
        )  # fmt: skip
    else:
        click.echo("no engines: start one with 'nbq engine'")
    if view.queues:
        click.echo()
        rows = [
            [row.name, row.queued, row.leased, row.scheduled, row.engines, "paused" if row.paused else ""]
            for row in view.queues
        ]
        print_table(["queue", "queued", "leased", "scheduled", "engines", ""], rows)
    if view.states:
        click.echo()
        rows = [[name, view.states[name]] for name in _STATES if name in view.states]
        print_table(["state", "tasks"], rows)


def _moment(_: click.Context, __: click.Parameter, value: str | None) -> datetime | timedelta | None:
    """Return a moment as the client takes it: so long ago, or a time (without a zone: of the clock here)."""
    if value is None:
        return None
    found = _AGO.fullmatch(value)
    if found is not None:
        return timedelta(seconds=float(found[1]) * _UNITS[found[2]])
    try:
        return datetime.fromisoformat(value).astimezone()
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither a time ago (90s, 10m, 2h, 3d) nor a date") from None


def _filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which tasks or runs are meant."""
    for option in (
        click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most."),
        click.option(
            "--since", callback=_moment, metavar="TIME", help="Submitted since: 90s, 10m, 2h, or a time."
        ),
        click.option("--label", default="", metavar="LABEL", help="Only with this label."),
        click.option("--queue", default="", metavar="QUEUE", help="Only of this queue."),
        click.option("--name", default="", metavar="TASK", help="Only of this task."),
        click.option("--state", type=click.Choice(_STATES, case_sensitive=False), help="Only in this state."),
    ):
        command = option(command)
    return command


@click.command(short_help="List tasks, newest first.")
@hub_option
@_filter_options
@json_option
def tasks(where: str | None, as_json: bool, state: str | None, **filters: Any) -> None:
    """List tasks, newest first: what each is, its state, where it ran, and why it failed (or cannot start).

    \b
        nbq tasks --state FAILURE --limit 5
        nbq tasks --name shop.tasks.charge --queue cards --since 2h --json

    \b
    --json prints
        {"tasks": [{"id", "run", "task", "state", "attempt", "engine", "queue", "label", "at_s", "text"}]}
    where at_s is when the task ended, or until then when its run was submitted (Unix time).

    Exit code: 0 also when there are none; 3 the hub cannot be reached.
    """
    with connected(where) as client:
        rows = client.tasks(state=state or "", **filters)
    if as_json:
        print_json(
            {
                "tasks": [
                    {
                        "id": row.id, "run": row.run.hex(), "task": row.task, "state": row.state,
                        "attempt": row.attempt, "engine": row.engine, "queue": row.queue, "label": row.label,
                        "at_s": row.at_s, "text": row.text,
                    }
                    for row in rows
                ]
            }
        )  # fmt: skip
    else:
        print_table(
            ["id", "task", "state", "attempt", "engine", "when", "text"],
            [
                [row.id, row.task, row.state, row.attempt, row.engine, time_text(row.at_s), row.text]
                for row in rows
            ],
        )


@click.command(short_help="List runs, newest first: what was submitted together.")
@hub_option
@_filter_options
@click.option("--mine", is_flag=True, help="Only those submitted with this key.")
@json_option
def runs(where: str | None, as_json: bool, state: str | None, **filters: Any) -> None:
    """List runs, newest first: how far each is. The filters are about its tasks.

    \b
        nbq runs --state STARTED
        nbq runs --label nightly --since 2026-01-31

    \b
    --json prints
        {"runs": [{"id", "task", "label", "owner", "size", "states", "at_s", "began_s", "finished_s",
                   "schedule", "fire_s"}]}
    where began_s is 0 until a task is granted, and finished_s null until all have ended.

    Exit code: 0 also when there are none; 3 the hub cannot be reached.
    """
    with connected(where) as client:
        rows = client.runs(state=state or "", **filters)
    if as_json:
        names = (
            "task",
            "label",
            "owner",
            "size",
            "states",
            "at_s",
            "began_s",
            "finished_s",
            "schedule",
            "fire_s",
        )
        print_json({"runs": [{"id": row.text, **{n: getattr(row, n) for n in names}} for row in rows]})
        return
    lines = []
    for row in rows:
        done = sum(row.states.get(state, 0) for state in _ENDED)
        states = ", ".join(f"{row.states[state]:,} {state}" for state in _STATES if state in row.states)
        lines.append(
            [row.text, row.task, row.label, f"{done:,} of {row.size:,}", states, time_text(row.at_s)]
        )
    print_table(["id", "task", "label", "ended", "states", "submitted"], lines)


@click.command(short_help="Say why a task waits, or how it ended.")
@hub_option
@click.argument("what", metavar="ID")
@json_option
def explain(where: str | None, what: str, as_json: bool) -> None:
    """Say why a task, group or run is where it is, and what it waits for in the end.

    \b
        nbq explain nightly-report
        nbq explain 01a20e224272b2ab9659950000000001

    \b
    --json prints
        {"id", "reasons": [{"code", "text", "refs"}]}
    where the most important reason is the first, and refs names the tasks, engines and queues behind it.

    Exit code: 0 there are reasons; 1 the hub has nothing of this id; 3 it cannot be reached.
    """
    with connected(where) as client:
        found = client.explain(what)
    if as_json:
        reasons = [{"code": why.code, "text": why.text, "refs": why.refs} for why in found.reasons]
        print_json({"id": found.id, "reasons": reasons})
    else:
        for why in found.reasons:
            click.echo(escaped(why.text))


@click.command(short_help="Print the value of a task, or why it failed.")
@hub_option
@click.argument("task_id", metavar="ID")
@click.option("--wait", "wait_s", type=float, default=0.0, metavar="S", help="Wait S seconds for its end.")
@click.option(
    "--traceback/--no-traceback", default=True, help="Of a failure: all of it, or one line.  [default: all]"
)
@click.option("--stdout", is_flag=True, help="Print what the task printed, not its value.")
@click.option("--stderr", is_flag=True, help="Print what it wrote to standard error, not its value.")
@json_option
def result(
    where: str | None, task_id: str, wait_s: float, traceback: bool, stdout: bool, stderr: bool, as_json: bool
) -> int:
    """Print the value of a task (or of a whole run) as Python writes it, or to standard error why it failed.

    \b
        nbq result 01a20e224272b2ab9659950000000001-0-0
        nbq result nightly-report --wait 60     # the id given with --task-id
        nbq result nightly-report --stdout

    \b
    --json prints
        {"id", "state", "value", "repr", "error": null or {"type", "message"},
         "traceback", "stdout", "stderr", "started_s", "seconds"}
    where value is null if JSON cannot say it; repr always does.

    Values are sealed, so a client's key is needed: a viewer's cannot read them.

    Exit code: 0 it succeeded; 1 it failed, has not ended, or is unknown; 3 the hub cannot be reached,
    or the key is for viewers.
    """
    from nbq.results import AsyncResult

    with connected(where) as client:
        client_only(client, "read values")
        found = client.result(task_id)
        if not wait_s and not found.ready():
            raise WaitTimeout(f"task {task_id} has not ended: --wait 60 waits a minute for it")
        if not found.wait(wait_s or _ARRIVAL_S):
            why = client.explain(task_id)
            raise WaitTimeout(f"task {task_id} has not ended after {wait_s:g} s; it goes on. {why}")
        report = outcome(found)
    if (stdout or stderr) and not as_json:
        if not isinstance(found, AsyncResult):
            raise UsageError(f"{task_id} is a run of several tasks: name the one whose output is meant")
        for wanted, text in ((stdout, report["stdout"]), (stderr, report["stderr"])):
            if wanted:
                click.echo(escaped(text, keep="\n\t"), nl=False)
        return 1 if report["error"] else 0
    return print_outcome(report, as_json, traceback)


# ------------------------------------------------------------------ outcomes


def outcome(found: AsyncResult | GroupResult) -> dict[str, Any]:
    """Return how a task or run that has ended did end, as plain data (see ``nbq result --help``)."""
    bad = _first_bad(found)
    report: dict[str, Any] = {
        "id": found.id, "state": "SUCCESS" if bad is None else bad.state, "value": None, "repr": None,
        "error": None, "traceback": None, "stdout": "", "stderr": "", "started_s": 0.0, "seconds": 0.0,
    }  # fmt: skip
    one: Any = found if bad is None else bad
    if hasattr(one, "stdout"):
        timing = one.timing
        report.update(
            stdout=one.stdout, stderr=one.stderr, started_s=timing["started"], seconds=timing["seconds"]
        )
    if bad is not None:
        error = bad.get(0, propagate=False)
        report["error"] = {"type": type(error).__name__, "message": str(error)}
        report["traceback"] = bad.traceback
        return report
    try:
        value = found.get(0)
        report["repr"] = repr(value)
    except Exception as error:  # a value's own code runs when it is rebuilt and shown
        report["error"] = {
            "type": type(error).__name__,
            "message": f"the value cannot be rebuilt here ({error}): run this where its modules are, "
            "or name their folder in PYTHONPATH",
        }
        return report
    report["value"] = _as_json(value)
    return report


def _first_bad(found: AsyncResult | GroupResult) -> AsyncResult | None:
    """Return the first task of a result that did not succeed."""
    if found.successful():
        return None
    members = getattr(found, "results", None)
    if members is None:
        return found  # type: ignore[return-value]
    return next((bad for member in members if (bad := _first_bad(member)) is not None), None)


def _as_json(value: object) -> Any:
    import msgspec

    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None  # JSON has no word for it


def print_outcome(report: dict[str, Any], as_json: bool, traceback: bool = True) -> int:
    """Print an outcome; returns the exit code."""
    error = report["error"]
    if as_json:
        print_json(report)
    elif error is None:
        click.echo(escaped(report["repr"], keep="\n\t"))
    else:
        line = f"{error['type']}: {error['message']}"
        text = report["traceback"] if traceback and report["traceback"] else line
        click.echo(escaped(text.rstrip("\n"), keep="\n\t"), err=True)
    return 1 if error else 0
