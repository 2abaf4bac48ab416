"""``nbq engines``: who executes, and what they are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from nbq.cli.look import engine_row
from nbq.cli.show import (
    client_only,
    connected,
    hub_option,
    json_option,
    print_json,
    print_table,
    size_text,
    span_text,
)
from nbq.errors import UsageError

if TYPE_CHECKING:
    from nbq.client import Client
    from nbq.core.views import EngineView

__all__ = ["engines"]

Command = Callable[..., Any]


@click.group(
    short_help="List engines, and drain, stop, restart, reload or scale them.", invoke_without_command=True
)
@hub_option
@json_option
@click.pass_context
def engines(context: click.Context, where: str | None, as_json: bool) -> int | None:
    """List engines (as 'nbq engines list'), or tell them what to do.

    \b
        nbq engines
        nbq engines drain worker-7 --wait 600   # before its host goes down
        nbq engines scale worker-7 2..8
        nbq engines reload --all                # after new code was installed

    --json prints {"engines": [...]} as 'nbq engines list'.

    Exit code: 0 the hub answered; 3 it cannot be reached, or refuses.
    """
    if context.invoked_subcommand is None:
        return _list(where, as_json)
    given = {"where": where, "as_json": as_json}
    context.default_map = dict.fromkeys(engines.commands, given)
    return None


@engines.command("list", short_help="List engines: their hosts, slots and what they run.")
@hub_option
@json_option
def list_(where: str | None, as_json: bool) -> int:
    """List engines: their hosts, slots (with bounds, if they are scaled by the work) and what they run.

    \b
        nbq engines list
        nbq engines list --json | jq '.engines[].name'

    \b
    --json prints
        {"engines": [{"name", "host", "pid", "slots", "least", "most", "queues", "running", "held",
                      "state", "rss", "heard_s", "python", "nbq"}]}
    where least and most are 0 of engines whose slots are fixed.

    Exit code: 0 the hub answered; 3 it cannot be reached, or does not know the key.
    """
    return _list(where, as_json)


def _list(where: str | None, as_json: bool) -> int:
    with connected(where) as client:
        rows = client.engines()
    if as_json:
        print_json({"engines": [engine_row(row) for row in rows]})
    elif not rows:
        click.echo("no engines: start one with 'nbq engine'")
    else:
        print_table(
            ["engine", "host", "slots", "running", "queues", "state", "memory", "heard", "nbq", "Python"],
            [
                [
                    row.info.name, row.info.host, _slots(row), row.running, ", ".join(row.info.queues),
                    row.state, size_text(row.rss) if row.rss else "", f"{span_text(row.beat_s)} ago",
                    row.info.nbq, row.info.python,
                ]
                for row in rows
            ],
        )  # fmt: skip
    return 0


def _slots(row: EngineView) -> str:
    info = row.info
    return f"{info.slots} of {info.least}..{info.most}" if info.most else str(info.slots)


# ------------------------------------------------------------------ orders


def _whom(command: Command) -> Command:
    """Give a command the argument and the option that say which engines are meant."""
    command = click.option("--all", "all_", is_flag=True, help="All engines, in place of NAME.")(command)
    return click.argument("name", required=False)(command)


def _wait(command: Command) -> Command:
    return click.option(
        "--wait", type=click.FloatRange(min=0), default=0.0, metavar="S",
        help="Wait up to S seconds until that is done.",
    )(command)  # fmt: skip


@engines.command(short_help="Let an engine finish what it runs, and end.")
@_whom
@_wait
@hub_option
@json_option
def drain(name: str | None, all_: bool, wait: float, where: str | None, as_json: bool) -> int:
    """Let the engine NAME finish what it runs, give back the rest, and end.

    \b
        nbq engines drain worker-7 --wait 600

    --json prints {"told": how many engines}.

    Exit code: 0 told (and done, with --wait); 1 not done in time; 2 there is no such engine; 3 refused.
    """
    return _tell(where, _meant(name, all_), "drain", as_json, lambda client, whom: client.drain(whom, wait))


@engines.command(short_help="End an engine at once.")
@_whom
@_wait
@hub_option
@json_option
def stop(name: str | None, all_: bool, wait: float, where: str | None, as_json: bool) -> int:
    """End the engine NAME at once. What it runs is run again by others.

    \b
        nbq engines stop worker-7

    --json prints {"told": how many engines}.

    Exit code: 0 told (and done, with --wait); 1 not done in time; 2 there is no such engine; 3 refused.
    """
    return _tell(where, _meant(name, all_), "stop", as_json, lambda client, whom: client.stop(whom, wait))


@engines.command(short_help="Let an engine begin anew when it has finished what it runs.")
@_whom
@_wait
@hub_option
@json_option
def restart(name: str | None, all_: bool, wait: float, where: str | None, as_json: bool) -> int:
    """Let the engine NAME finish what it runs and begin anew, with the same command line.

    It stays the same process, but has the nbq, the packages and the configuration that are there by then.

    \b
        nbq engines restart --all               # after 'pip install --upgrade nbq'

    --json prints {"told": how many engines}.

    Exit code: 0 told (and done, with --wait); 1 not done in time; 2 there is no such engine; 3 refused.
    """
    return _tell(
        where, _meant(name, all_), "restart", as_json, lambda client, whom: client.restart(whom, wait)
    )


@engines.command("reload", short_help="Let an engine's slots import modules anew.")
@_whom
@hub_option
@json_option
def reload_(name: str | None, all_: bool, where: str | None, as_json: bool) -> int:
    """Let fresh processes take the places of the slots of the engine NAME: they import changed modules.

    Each slot goes on until another is ready and it has finished what it runs. Where none comes up, because a
    module has an error, the old one stays; the engine's log says why.

    \b
        nbq engines reload worker-7

    --json prints {"told": how many engines}.

    Exit code: 0 told; 2 there is no such engine; 3 refused.
    """
    return _tell(where, _meant(name, all_), "reload", as_json, lambda client, whom: client.reload(whom))


@engines.command(short_help="Let an engine have more slots, or fewer.")
@click.argument("words", nargs=-1, metavar="NAME N|N..M")
@click.option("--all", "all_", is_flag=True, help="All engines, in place of NAME.")
@_wait
@hub_option
@json_option
def scale(words: tuple[str, ...], all_: bool, wait: float, where: str | None, as_json: bool) -> int:
    """Let the engine NAME have N slots, or as many as the work needs between N and M.

    New slots take work as soon as they have started; those that are too many finish what they run.

    \b
        nbq engines scale worker-7 4
        nbq engines scale --all 2..8

    --json prints {"told": how many engines}.

    Exit code: 0 told (and done, with --wait); 1 not done in time; 2 there is no such engine, or there cannot
    be so many slots; 3 refused.
    """
    from nbq.settings import slot_bounds

    if len(words) != 2 - all_:
        raise UsageError("say which engine (or --all) and how many slots, such as 4 or 2..8")
    name, slots = "" if all_ else words[0], words[-1]
    if slots == "auto":
        raise UsageError("how many cores another host has is not known here: give bounds, such as 1..8")
    count, least, most = slot_bounds(slots)

    def order(client: Client, whom: str) -> int:
        return client.autoscale(whom, least, most) if most else client.scale(whom, count, wait)

    return _tell(where, name, f"have {slots} slots", as_json, order)


def _meant(name: str | None, all_: bool) -> str:
    if bool(name) == all_:
        raise UsageError("name one engine, or say --all")
    return name or ""


def _tell(where: str | None, whom: str, what: str, as_json: bool, order: Callable[[Client, str], int]) -> int:
    """Tell engines what to do, and say how many were told; returns the exit code."""
    with connected(where) as client:
        client_only(client, "steer engines")
        told = order(client, whom)
    if as_json:
        print_json({"told": told})
    else:
        click.echo(f"told {told} {'engine' if told == 1 else 'engines'} to {what}")
    return 0
