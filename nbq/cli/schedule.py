"""``nbq schedule``: the schedules of a hub, seen and steered; and those that files declare, applied."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
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

if TYPE_CHECKING:
    from nbq.client import Client

__all__ = ["schedule"]

_POLICIES = ("misfire", "overlap", "jitter", "start", "end", "max_runs")


@click.group(invoke_without_command=True, short_help="List, add and steer schedules.")
@hub_option
@json_option
@click.pass_context
def schedule(context: click.Context, where: str | None, as_json: bool) -> None:
    """List, add, pause, resume, run, edit and remove the schedules of a hub; without a command, list them.

    \b
        nbq schedule
        nbq schedule add report shop.tasks.report --cron '50 4,5,15,17 * * *' --tz Asia/Shanghai
        nbq schedule run report
        nbq schedule apply                      # what pyproject.toml or nbq.toml declares

    Options before a command are those of the list. --json prints what 'nbq schedule list --json' prints.

    Exit code: 0 done; 2 there is no such schedule, or it means nothing; 3 the hub cannot be reached, or
    refuses.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_, where=where, as_json=as_json)
    elif where is not None or as_json:
        raise click.UsageError(f"--hub and --json go after {context.invoked_subcommand!r}")


def _times(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say when, and by what policies."""
    options = [
        click.option("--cron", metavar="LINE", help="When: a line of cron, as '0 5 * * mon-fri' or @daily."),
        click.option("--every", type=float, metavar="S", help="When: every S seconds."),
        click.option("--at", metavar="TIME", help="When: once, as 2028-03-01T08:00."),
        click.option(
            "--tz", metavar="ZONE", help="The zone of these.  [default: the setting 'timezone', else UTC]"
        ),
        click.option(
            "--misfire",
            type=click.Choice(["coalesce", "skip", "all"]),
            help="Missed fire times: run the latest, none, or each.  [default: coalesce]",
        ),
        click.option(
            "--overlap",
            type=click.Choice(["allow", "skip", "queue", "cancel_previous"]),
            help="A fire time while a run has not ended.  [default: allow]",
        ),
        click.option("--jitter", type=float, metavar="S", help="Start up to S seconds after a fire time."),
        click.option("--start", metavar="TIME", help="No fire time before this."),
        click.option("--end", metavar="TIME", help="No fire time after this."),
        click.option("--max-runs", type=click.IntRange(1), metavar="N", help="Finished after N runs."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _call(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say how a task is called."""
    options = [
        click.option("--args", metavar="JSON", help="Positional arguments, as a list."),
        click.option("--kwargs", metavar="JSON", help="Keyword arguments, as an object."),
        click.option("--options", metavar="JSON", help='As {"queue": "slow", "expires": 60}.'),
    ]
    for option in reversed(options):
        command = option(command)
    return command


# ------------------------------------------------------------------ seeing


@schedule.command("list", short_help="List schedules, by name.")
@hub_option
@json_option
def list_(where: str | None, as_json: bool) -> None:
    """List the schedules of a hub, by name.

    \b
        nbq schedule list --hub viewer.json

    --json prints {"schedules": [...]}, with what 'nbq schedule show --json' prints of each.

    Exit code: 0 also when there are none; 3 the hub cannot be reached.
    """
    from nbq.schedulehandle import summary

    with connected(where) as client:
        rows = [summary(view) for view in client.schedules.views()]
    if as_json:
        print_json({"schedules": rows})
    else:
        columns = ["name", "state", "what", "when", "next", "runs"]
        print_table(columns, [["" if row[each] is None else row[each] for each in columns] for row in rows])


@schedule.command(short_help="Show a schedule.")
@hub_option
@click.argument("name")
@json_option
def show(where: str | None, name: str, as_json: bool) -> None:
    """Show all that a hub has of the schedule NAME.

    \b
        nbq schedule show report

    \b
    --json prints
        {"name", "state", "what", "when", "timing", "next", "runs", "active", "waiting", "misfire",
         "overlap", "jitter_s", "start", "end", "max_runs", "source", "owner"}

    Exit code: 0 done; 2 there is no such schedule; 3 the hub cannot be reached.
    """
    from nbq.schedulehandle import summary

    with connected(where) as client:
        row = summary(client.schedules.view(name))
    if as_json:
        print_json(row)
    else:
        for key, value in row.items():
            text = ", ".join(value) if isinstance(value, list) else "" if value is None else str(value)
            if key != "timing":
                click.echo(escaped(f"{key:9} {text}".rstrip()))


@schedule.command(short_help="List what became of fire times.")
@hub_option
@click.argument("name")
@json_option
def history(where: str | None, name: str, as_json: bool) -> None:
    """List what became of the last fire times of the schedule NAME, the newest last.

    \b
        nbq schedule history report

    \b
    --json prints
        {"history": [{"fire_time", "decided_at", "outcome", "first_missed", "run"}]}

    Exit code: 0 done; 2 there is no such schedule; 3 the hub cannot be reached.
    """
    with connected(where) as client:
        fires = client.schedules.history(name)
    rows = [
        {
            "fire_time": fire.fire_time.isoformat(),
            "decided_at": fire.decided_at.isoformat(),
            "outcome": fire.outcome,
            "first_missed": fire.first_missed and fire.first_missed.isoformat(),
            "run": fire.run_id or None,
        }
        for fire in fires
    ]
    if as_json:
        print_json({"history": rows})
    else:
        columns = ["fire_time", "outcome", "run", "first_missed"]
        print_table(columns, [[row[each] or "" for each in columns] for row in rows])


@schedule.command(short_help="List the next fire times.")
@hub_option
@click.argument("name")
@click.option(
    "-n", "count", type=click.IntRange(1, 10_000), default=5, show_default=True, help="How many at most."
)
@json_option
def upcoming(where: str | None, name: str, count: int, as_json: bool) -> None:
    """List the next fire times of the schedule NAME, in its own zone.

    \b
        nbq schedule upcoming report

    --json prints {"upcoming": [TIME, ...]}.

    Exit code: 0 done; 2 there is no such schedule; 3 the hub cannot be reached.
    """
    with connected(where) as client:
        times = [moment.isoformat() for moment in client.schedules.upcoming(name, count)]
    if as_json:
        print_json({"upcoming": times})
    else:
        for text in times:
            click.echo(text)


# ------------------------------------------------------------------ steering


@schedule.command(short_help="Add a schedule of a task.")
@hub_option
@click.argument("name")
@click.argument("task")
@_times
@_call
@click.option("--replace", is_flag=True, help="Change the schedule of this name, if there is one.")
@json_option
def add(
    where: str | None, name: str, task: str, args: str | None, kwargs: str | None, options: str | None,
    replace: bool, as_json: bool, **given: Any,
) -> None:  # fmt: skip
    """Add the schedule NAME of TASK, by the name that engines know it by.

    \b
        nbq schedule add report shop.tasks.report --cron '0 5 * * *' --args '[7]' --overlap skip

    --json prints what 'nbq schedule show --json' prints.

    Exit code: 0 done; 2 it means nothing; 3 there is one of this name, or the hub cannot be reached.
    """
    when = _when(given)
    if when is None:
        raise click.UsageError("say when: --cron, --every or --at")
    what = _signature(task, args, kwargs, options)
    with connected(where) as client:
        client_only(client, "add schedules")
        client.schedules.add(name, what, when, replace=replace, **_policies(given))
        _print(client, name, as_json, "added")


@schedule.command(short_help="Change a schedule.")
@hub_option
@click.argument("name")
@click.option("--task", metavar="TASK", help="What it runs, with --args, --kwargs and --options.")
@_times
@_call
@json_option
def edit(
    where: str | None, name: str, task: str | None, args: str | None, kwargs: str | None,
    options: str | None, as_json: bool, **given: Any,
) -> None:  # fmt: skip
    """Change what is given of the schedule NAME; the rest, its runs and history stay.

    \b
        nbq schedule edit report --cron '0 6 * * *' --tz Asia/Shanghai

    --json prints what 'nbq schedule show --json' prints.

    Exit code: 0 done; 2 it means nothing, or there is no such schedule; 3 the hub cannot be reached.
    """
    changes = _policies(given)
    when = _when(given)
    if when is not None:
        changes["when"] = when
    if task is not None:
        changes["what"] = _signature(task, args, kwargs, options)
    elif args or kwargs or options:
        raise click.UsageError("--args, --kwargs and --options belong to --task")
    if not changes:
        raise click.UsageError("say what to change")
    with connected(where) as client:
        client_only(client, "edit schedules")
        client.schedules.edit(name, **changes)
        _print(client, name, as_json, "changed")


@schedule.command(short_help="Let a schedule fire no more for now.")
@hub_option
@click.argument("name")
@json_option
def pause(where: str | None, name: str, as_json: bool) -> None:
    """Let the schedule NAME fire no more until 'nbq schedule resume'. Runs of it go on.

    \b
        nbq schedule pause report

    --json prints what 'nbq schedule show --json' prints.

    Exit code: 0 done; 2 there is no such schedule; 3 the hub cannot be reached.
    """
    with connected(where) as client:
        client_only(client, "pause schedules")
        client.schedules.pause(name)
        _print(client, name, as_json, "paused")


@schedule.command(short_help="Let a schedule fire again.")
@hub_option
@click.argument("name")
@json_option
def resume(where: str | None, name: str, as_json: bool) -> None:
    """Let the schedule NAME fire again, from now on: while it was paused it missed nothing.

    \b
        nbq schedule resume report

    --json prints what 'nbq schedule show --json' prints.

    Exit code: 0 done; 2 there is no such schedule; 3 the hub cannot be reached.
    """
    with connected(where) as client:
        client_only(client, "resume schedules")
        client.schedules.resume(name)
        _print(client, name, as_json, "resumed")


@schedule.command(short_help="Run a schedule now.")
@hub_option
@click.argument("name")
@json_option
def run(where: str | None, name: str, as_json: bool) -> None:
    """Run the schedule NAME now, beside its fire times, and print the id of what it submits.

    \b
        nbq schedule run report

    --json prints {"id": ID}; ID is null if it waits for the end of another run (overlap queue).

    Exit code: 0 done; 2 there is no such schedule; 3 another run of it has not ended (overlap skip), or
    the hub cannot be reached.
    """
    with connected(where) as client:
        client_only(client, "run schedules")
        made = client.schedules.run(name)
        run_id = None if made is None else made.id
    if as_json:
        print_json({"id": run_id})
    else:
        click.echo("it waits for the end of another run" if run_id is None else escaped(run_id))


@schedule.command(short_help="Remove a schedule.")
@hub_option
@click.argument("name")
@json_option
def remove(where: str | None, name: str, as_json: bool) -> None:
    """Remove the schedule NAME. Runs of it go on, and their results are kept.

    \b
        nbq schedule remove report

    --json prints {"removed": NAME}.

    Exit code: 0 done; 2 there is no such schedule; 3 the hub cannot be reached.
    """
    with connected(where) as client:
        client_only(client, "remove schedules")
        client.schedules.remove(name)
    if as_json:
        print_json({"removed": name})
    else:
        click.echo(escaped(f"{name!r} removed"))


@schedule.command(short_help="Make schedules what files declare.")
@hub_option
@click.option(
    "--file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="A pyproject.toml or nbq.toml.  [default: those that settings are read from]",
)  # fmt: skip
@click.option(
    "--source", metavar="TEXT", help="Who declares them.  [default: the project's name, else the folder]"
)
@json_option
def apply(where: str | None, file: Path | None, source: str | None, as_json: bool) -> None:
    """Make schedules what [tool.nbq.schedules] in pyproject.toml, or [schedules] in nbq.toml, declares.

    Adds, changes and removes what differs; what has not changed is left alone, and so are schedules of
    other sources. 'nbq hub' does this at its start. Nothing is done if an entry is wrong.

    \b
        nbq schedule apply --file deploy/nbq.toml --hub client.json

    --json prints {"added": [NAME, ...], "changed", "removed", "kept", "passed"}; passed are those that would
    never fire any more.

    Exit code: 0 done; 2 an entry means nothing; 3 the hub cannot be reached.
    """
    import msgspec

    from nbq.declared import read_declared
    from nbq.errors import InvalidSchedule

    declared = read_declared(file)
    with connected(where) as client:
        client_only(client, "apply schedules")
        try:
            done = client.schedules.update(declared.schedules, source or declared.source)
        except InvalidSchedule as error:
            raise InvalidSchedule(f"{' and '.join(map(str, declared.files))}: {error}") from None
    if as_json:
        print_json(msgspec.structs.asdict(done))
        return
    counts = [(len(names), word) for word, names in msgspec.structs.asdict(done).items() if names]
    text = ", ".join(f"{count} {word}" for count, word in counts) or "nothing is declared"
    click.echo(escaped(f"schedules of {source or declared.source!r}: {text}"))


# ------------------------------------------------------------------ options to values


def _when(given: dict[str, Any]) -> Any:
    """Return the times that options say, or None if they say none."""
    from nbq.declared import timed

    kinds = {"cron": "crontab", "every": "every", "at": "at"}
    named = [option for option in kinds if given[option] is not None]
    if len(named) > 1:
        raise click.UsageError(f"--{named[0]} and --{named[1]} are two schedules: give one of them")
    if not named:
        if given["tz"] is not None:
            raise click.UsageError("--tz belongs to --cron, --every or --at")
        return None
    return timed(kinds[named[0]], given[named[0]], given["tz"])


def _policies(given: dict[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in _POLICIES if given[name] is not None}


def _signature(task: str, args: str | None, kwargs: str | None, options: str | None) -> Any:
    from nbq.canvas import signature

    keywords = _json("--options", options, dict)
    return signature(task, _json("--args", args, list), _json("--kwargs", kwargs, dict), **keywords)


def _json(option: str, text: str | None, kind: type) -> Any:
    import json  # only when there is something to read

    if text is None:
        return kind()
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not JSON: {error}", param_hint=option) from None
    if not isinstance(value, kind):
        raise click.BadParameter(f"{text!r} is no {'list' if kind is list else 'object'}", param_hint=option)
    return value


def _print(client: Client, name: str, as_json: bool, done: str) -> None:
    """Print a schedule after it was changed."""
    from nbq.schedulehandle import summary

    row = summary(client.schedules.view(name))
    if as_json:
        print_json(row)
    else:
        following = f"; next {row['next']}" if row["next"] else ""
        click.echo(escaped(f"{name!r} {done}: {row['when']}{following}"))
