"""``nbq cancel``, ``retry``, ``priority``, ``queue``, ``rate``: what is done with work that a hub holds."""

from __future__ import annotations

import sys
from collections.abc import Callable
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
)
from nbq.errors import Refused, UnknownResult

if TYPE_CHECKING:
    from nbq.client import Client

__all__ = ["cancel", "priority", "queue", "rate", "retry"]

_STATES = ["WAITING", "SCHEDULED", "RETRY", "QUEUED", "STARTED", "FAILURE", "REVOKED"]
_SHOWN = 100
"""How many ids of new runs are printed for people."""

Command = Callable[..., Any]


def filter_options(command: Command) -> Command:
    """Give a command the options that say which tasks are meant by what they have in common."""
    options = [
        click.option("--label", metavar="L", help="Tasks with this label."),
        click.option("--name", metavar="TASK", help="Tasks of this name."),
        click.option("--queue", metavar="Q", help="Tasks of this queue."),
        click.option("--run", metavar="ID", help="Tasks of this run."),
        click.option(
            "--state", "states", multiple=True, type=click.Choice(_STATES, case_sensitive=False),
            help="Tasks in this state; may be repeated.",
        ),
        click.option("--yes", is_flag=True, help="Do not ask before something is done with many tasks."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _filters(
    ids: tuple[str, ...], states: tuple[str, ...], common: dict[str, str | None], other: str = ""
) -> dict[str, Any]:
    """Return the filters of a command line, which has either these or ids."""
    given = {name: value for name, value in common.items() if value}
    if bool(ids) == bool(given):
        raise click.UsageError(
            "name the tasks by their ids, or say --label, --name, --queue or --run" + other
        )
    if states and ids:
        raise click.UsageError("--state goes with --label, --name, --queue or --run, not with ids")
    return {**given, "state": [state.upper() for state in states]} if states else given


def _confirm(question: str, yes: bool) -> None:
    """Ask before something is done with many tasks; a script has to say that it means it."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this asks first, and there is nobody to ask: add --yes")
    click.confirm(question, abort=True, err=True)


def _meant(filters: dict[str, Any]) -> str:
    """Return in words which tasks filters mean."""
    words = [f"{name} {escaped(str(value))}" for name, value in filters.items() if name != "state"]
    states = " or ".join(filters.get("state", []))
    return " and ".join(words) + (f" in state {states}" if states else "")


def _each(ids: tuple[str, ...], act: Callable[[str], None]) -> list[str]:
    """Do something by each id; returns those that the hub does not know."""
    unknown: list[str] = []
    for text in ids:
        try:
            act(text)
        except UnknownResult:
            unknown.append(text)
    return unknown


def _print_unknown(unknown: list[str]) -> None:
    for text in unknown:
        click.echo(f"nbq: the hub has no run or task {text!r}", err=True)


def _tasks(count: int) -> str:
    return f"{count:,} {'task' if count == 1 else 'tasks'}"


@click.command(short_help="Stop tasks, queued or running.")
@hub_option
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="Everything that has not ended, whoever submitted it.")
@filter_options
@json_option
def cancel(
    where: str | None, ids: tuple[str, ...], all_: bool, states: tuple[str, ...], yes: bool, as_json: bool,
    **common: str | None,
) -> int:  # fmt: skip
    """Stop tasks, or whole runs: queued ones at once, running ones by interrupt, then kill.

    What has ended already stays as it is, and is no error. Tasks that follow a stopped one count too.

    \b
        nbq cancel 01a20e224272b2ab9659950000000001-0-0
        nbq cancel 01a20e224272b2ab9659950000000001     # all of the run
        nbq cancel --label nightly --state QUEUED
        nbq cancel --all --yes

    --json prints {"stopped": N, "unknown": [ID, ...]}.

    Exit code: 0 done; 1 an id is unknown (the others are stopped all the same); 3 the hub cannot be
    reached, or refuses.
    """
    if all_:
        if ids or states or any(common.values()):
            raise click.UsageError("--all means everything: leave out the rest")
        _confirm("Stop everything that has not ended?", yes)
    filters = {} if all_ else _filters(ids, states, common, ", or --all")
    if filters:
        _confirm(f"Stop all tasks with {_meant(filters)}?", yes)
    stopped = 0
    unknown: list[str] = []
    with connected(where) as client:
        client_only(client, "cancel")
        if all_:
            stopped = client.cancel_all()
        elif filters:
            stopped = client.cancel(**filters)
        else:

            def stop(text: str) -> None:
                nonlocal stopped
                stopped += client.cancel(text)

            unknown = _each(ids, stop)
    if as_json:
        print_json({"stopped": stopped, "unknown": unknown})
    else:
        click.echo(f"{_tasks(stopped)} stopped")
        _print_unknown(unknown)
    return 1 if unknown else 0


@click.command(short_help="Run failed tasks again.")
@hub_option
@click.argument("ids", metavar="[ID]...", nargs=-1)
@filter_options
@json_option
def retry(
    where: str | None, ids: tuple[str, ...], states: tuple[str, ...], yes: bool, as_json: bool,
    **common: str | None,
) -> int:  # fmt: skip
    """Run failed tasks again, from their first arguments, in new runs; prints the ids of these.

    A task that follows nothing, and that nothing follows, is run again alone; else its whole canvas is, once
    that has ended. By ids, what was cancelled is run again too; else only with --state REVOKED.

    \b
        nbq retry 01a20e224272b2ab9659950000000001-0-0
        nbq retry 01a20e224272b2ab9659950000000001      # all that failed of the run
        nbq retry --name shop.tasks.charge
        nbq retry --label nightly --state FAILURE --state REVOKED

    --json prints {"retried": N, "runs": [ID, ...], "unknown": [ID, ...], "left": [ID, ...]}; "left" are those
    of which nothing can be tried again.

    Exit code: 0 done; 1 an id is unknown, or nothing of it can be tried again; 3 the hub cannot be reached,
    or refuses.
    """
    filters = _filters(ids, states, common)
    if filters:
        _confirm(f"Run all failed tasks with {_meant(filters)} again?", yes)
    retried = 0
    runs: list[str] = []
    left: list[str] = []
    with connected(where) as client:
        client_only(client, "retry")

        def again(text: str) -> None:
            nonlocal retried
            try:
                found = client.retry(text)
            except Refused as error:
                if error.code != "unfinished":
                    raise
                left.append(text)
                return
            retried += found.tasks
            runs.extend(found.ids)

        unknown = _each(ids, again)
        if filters:
            found = client.retry(**filters)
            retried, runs = found.tasks, found.ids
    if as_json:
        print_json({"retried": retried, "runs": runs, "unknown": unknown, "left": left})
        return 1 if unknown or left else 0
    for run in runs[:_SHOWN]:
        click.echo(run)
    if len(runs) > _SHOWN:
        click.echo(f"... and {len(runs) - _SHOWN:,} more")
    click.echo(f"nbq: {_tasks(retried)} tried again", err=True)
    for text in left:
        click.echo(f"nbq: {escaped(text)} has not failed, or its canvas still runs", err=True)
    _print_unknown(unknown)
    return 1 if unknown or left else 0


@click.command(short_help="Let tasks go before others, or after them.")
@hub_option
@click.argument("value", metavar="PRIORITY", type=click.IntRange(-1000, 1000))
@click.argument("ids", metavar="[ID]...", nargs=-1)
@filter_options
@json_option
def priority(
    where: str | None, value: int, ids: tuple[str, ...], states: tuple[str, ...], yes: bool, as_json: bool,
    **common: str | None,
) -> int:  # fmt: skip
    """Give tasks that have not ended another PRIORITY: higher goes first, and what is queued moves at once.

    \b
        nbq priority 9 01a20e224272b2ab9659950000000001-0-0
        nbq priority --label nightly -- -5

    --json prints {"changed": N, "unknown": [ID, ...]}: how many tasks have it now.

    Exit code: 0 done; 1 an id is unknown; 3 the hub cannot be reached, or refuses.
    """
    filters = _filters(ids, states, common)
    if filters:
        _confirm(f"Give all tasks with {_meant(filters)} priority {value}?", yes)
    changed = 0
    with connected(where) as client:
        client_only(client, "change priorities")

        def change(text: str) -> None:
            nonlocal changed
            changed += client.set_priority(text, value)

        unknown = _each(ids, change)
        if filters:
            changed = client.set_priority(priority=value, **filters)
    if as_json:
        print_json({"changed": changed, "unknown": unknown})
    else:
        click.echo(f"{_tasks(changed)} with priority {value}")
        _print_unknown(unknown)
    return 1 if unknown else 0


# ------------------------------------------------------------------ queues and rates


@click.group(short_help="List, pause, resume and purge queues.")
def queue() -> None:
    """List, pause, resume and purge the queues of a hub.

    \b
        nbq queue list
        nbq queue pause slow
        nbq queue purge slow --yes

    Exit code: 0 done; 3 the hub cannot be reached, or refuses.
    """


@queue.command("list", short_help="List the queues.")
@hub_option
@json_option
def list_(where: str | None, as_json: bool) -> None:
    """List the queues that have work or an engine, and those that are paused.

    \b
        nbq queue list

    --json prints {"queues": [{"name", "queued", "scheduled", "leased", "engines", "paused"}]}.

    Exit code: 0 done; 3 the hub cannot be reached.
    """
    with connected(where) as client:
        rows = client.queues()
    if as_json:
        names = ("name", "queued", "scheduled", "leased", "engines", "paused")
        print_json({"queues": [{name: getattr(row, name) for name in names} for row in rows]})
        return
    cells = [
        [row.name, row.queued, row.scheduled, row.leased, row.engines, "paused" if row.paused else ""]
        for row in rows
    ]
    print_table(["queue", "queued", "scheduled", "granted", "engines", ""], cells)


@queue.command(short_help="Start nothing more of a queue.")
@hub_option
@click.argument("name")
@json_option
def pause(where: str | None, name: str, as_json: bool) -> None:
    """Start no more tasks of the queue NAME until it is resumed; what runs goes on.

    \b
        nbq queue pause slow

    --json prints {"queue": NAME, "paused": true, "changed": BOOL}.

    Exit code: 0 done; 3 the hub cannot be reached, or refuses.
    """
    _set_paused(where, name, as_json, paused=True)


@queue.command(short_help="Start tasks of a paused queue again.")
@hub_option
@click.argument("name")
@json_option
def resume(where: str | None, name: str, as_json: bool) -> None:
    """Start tasks of the queue NAME again.

    \b
        nbq queue resume slow

    --json prints {"queue": NAME, "paused": false, "changed": BOOL}.

    Exit code: 0 done; 3 the hub cannot be reached, or refuses.
    """
    _set_paused(where, name, as_json, paused=False)


def _set_paused(where: str | None, name: str, as_json: bool, *, paused: bool) -> None:
    with connected(where) as client:
        client_only(client, "pause and resume queues")
        changed = client.pause(name) if paused else client.resume(name)
    if as_json:
        print_json({"queue": name, "paused": paused, "changed": changed})
    else:
        already = "" if changed else " already"
        click.echo(f"queue {escaped(name)} is {'paused' if paused else 'not paused'}{already}")


@queue.command(short_help="Cancel what waits in a queue.")
@hub_option
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def purge(where: str | None, name: str, yes: bool, as_json: bool) -> None:
    """Cancel what waits in the queue NAME and does not run.

    \b
        nbq queue purge slow --yes

    --json prints {"queue": NAME, "stopped": N}.

    Exit code: 0 done; 3 the hub cannot be reached, or refuses.
    """
    _confirm(f"Cancel all that waits in queue {escaped(name)}?", yes)
    with connected(where) as client:
        client_only(client, "purge queues")
        stopped = client.purge(name)
    if as_json:
        print_json({"queue": name, "stopped": stopped})
    else:
        click.echo(f"{_tasks(stopped)} stopped")


@click.command(short_help="Change how often tasks of a name may start.")
@hub_option
@click.argument("task")
@click.argument("value", metavar="RATE|none|own")
@json_option
def rate(where: str | None, task: str, value: str, as_json: bool) -> None:
    """Let tasks of the name TASK start at another rate, over the whole cluster, from now on.

    \b
        nbq rate shop.tasks.charge 10/m
        nbq rate shop.tasks.charge none         # without a limit
        nbq rate shop.tasks.charge own          # at that which each call has of its own

    --json prints {"task": TASK, "rate": RATE, "changed": BOOL}.

    Exit code: 0 done; 2 it is no rate; 3 the hub cannot be reached, or refuses.
    """
    with connected(where) as client:
        client_only(client, "change rates")
        changed = _set_rate(client, task, value)
    if as_json:
        print_json({"task": task, "rate": value, "changed": changed})
    else:
        words = {"none": "has no limit", "own": "has the limit that each call has of its own"}
        click.echo(f"{escaped(task)} {words.get(value, f'starts at most {escaped(value)}')}")


def _set_rate(client: Client, task: str, value: str) -> bool:
    if value in ("none", "own"):
        return client.set_rate_limit(task, None if value == "none" else value)
    try:
        return client.set_rate_limit(task, float(value))
    except ValueError:
        return client.set_rate_limit(task, value)
