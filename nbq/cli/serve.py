"""``nbq hub`` and ``nbq engine``: the processes that serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from nbq.logs import LogFormat

__all__ = ["engine", "hub", "log_options"]


def log_options(command: Any) -> Any:
    """Give a command the options that say what is written into its log, and how."""
    form = click.option(
        "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True,
        help="A line of the log, on standard error: for people, or a JSON object.",
    )  # fmt: skip
    level = click.option(
        "--log-level", "log_levels", multiple=True, metavar="[MODULE=]LEVEL",
        help="What goes into the log: debug, info, warning or error; for one of its modules, or for all. May "
        "be given more than once.  [default: info]",
    )  # fmt: skip
    return form(level(command))


@click.command(short_help="Run a hub: the broker and scheduler.")
@click.option(
    "--name", default="default", show_default=True, help="The name by which it is found on this host."
)
@click.option("--data", default="", metavar="DIR", help="Its data folder.  [default: one for each name]")
@click.option(
    "--bind", multiple=True, metavar="tcp://HOST:PORT",
    help="Listen for other hosts too, encrypted; port 0 takes a free one. May be given more than once.",
)  # fmt: skip
@click.option("--advertise", metavar="HOST", help="What other hosts dial, if not the host of --bind.")
@click.option(
    "--durability", type=click.Choice(["none", "process", "disk"]), default="disk", show_default=True,
    help="What acknowledged work survives: engines and clients only; the hub's death too; power loss too.",
)  # fmt: skip
@click.option("--idle-exit", type=float, metavar="S", help="End after S seconds without work and clients.")
@click.option(
    "--schedules/--no-schedules", default=True,
    help="Apply the schedules that pyproject.toml or nbq.toml here declares.  [default: yes]",
)  # fmt: skip
@log_options
@click.option("--parent", type=int, default=0, hidden=True)
def hub(
    name: str, data: str, bind: tuple[str, ...], advertise: str | None, durability: str,
    idle_exit: float | None, schedules: bool, log_format: str,
    log_levels: tuple[str, ...], parent: int,
) -> int:  # fmt: skip
    """Run a hub until it is told to end (Ctrl-C or SIGTERM); acknowledged work is kept.

    At its first start it makes keys and writes three connection files into its data folder: client.json,
    engine.json and viewer.json. With --bind, copy engine.json to another host and start an engine there:

    \b
        nbq hub --name team --bind tcp://0.0.0.0:7777 --advertise hub.example.org
        nbq engine --hub engine.json          # on the other host

    Once it serves, it has 'nbq schedule apply' make its schedules what the files of settings declare. What is
    wrong there is said, and does not stop it.

    Exit code: 0 it was told to end; 2 a name, address or folder cannot be used; 3 another hub uses them.
    """
    import msgspec

    from nbq.configuration import current_settings
    from nbq.serve import HubOptions, run_hub

    settings = current_settings()
    limits = {"retention_s": settings.result_expires, "retention_bytes": settings.result_bytes}
    options = {
        "name": name, "data": data, "bind": list(bind), "advertise": advertise, "durability": durability,
        "idle_exit_s": idle_exit, "parent": parent, "limits": limits, "log_format": log_format,
        "log_levels": list(log_levels),
        "schedules": _declared() if schedules else "leave",
    }  # fmt: skip
    return run_hub(msgspec.convert(options, HubOptions))


def _declared() -> str:
    """Return what the files of settings mean for the schedules of a hub (``HubOptions``)."""
    from nbq.configuration import configuration_files, read_toml, tool_table

    files = configuration_files()
    if any("schedules" in tool_table(path, read_toml(path)) for path in files):
        return "apply"
    return "tidy" if files else "leave"


@click.command(short_help="Run an engine: slots that execute tasks.")
@click.option(
    "--hub",
    "hub_",
    metavar="NAME|FILE",
    help="The hub's name, or its engine.json.  [default: $NBQ_HUB, else default]",
)
@click.option(
    "--slots",
    metavar="N|N..M|auto",
    help="How many tasks run at a time; N..M: as many as the work needs within these bounds; auto: from one "
    "to one a core.  [default: the setting 'concurrency', else one a core]",
)
@click.option(
    "--queues",
    metavar="A,B",
    help="What it takes work from.  [default: the setting 'default_queue', and those in 'queues']",
)
@click.option(
    "--include",
    multiple=True,
    metavar="MODULE",
    help="Import this in every slot at its start, in place of what the setting 'include' says. May be given "
    "more than once.",
)
@click.option("--name", default="", help="Its name on the hub.  [default: host and process]")
@click.option(
    "--hub-timeout",
    type=float,
    metavar="S",
    help="Give up when the hub is gone for S seconds.  [default: wait for ever]",
)
@click.option("--via", metavar="USER@HOST", help="Reach the hub through ssh to this host.")
@log_options
@click.option("--parent", type=int, default=0, hidden=True)
@click.option("--slot-path", multiple=True, hidden=True)
def engine(
    hub_: str | None, slots: str | None, queues: str | None, include: tuple[str, ...], name: str,
    hub_timeout: float | None, via: str | None, log_format: LogFormat, log_levels: tuple[str, ...],
    parent: int, slot_path: tuple[str, ...],
) -> int:  # fmt: skip
    """Run an engine until it is told to end. Its slots import from the folder where it is started.

    \b
        nbq engine --slots 4 --queues default,slow
        nbq engine --slots 2..8
        nbq engine --hub engine.json --include shop.tasks

    SIGTERM drains it: running tasks finish, the rest goes back to the hub. Ctrl-C, or a second SIGTERM,
    stops at once; what was running is run again elsewhere. A hub that goes away is waited for.
    'nbq engines' tells engines the same from anywhere, and more.

    Exit code: 0 it was told to end; 3 the hub cannot be reached (for --hub-timeout, where that is given), or
    does not let it in.
    """
    import os
    import socket
    import sys
    from pathlib import Path

    from nbq.configuration import current_settings, override
    from nbq.engines.supervisor import EngineOptions, run_engine
    from nbq.settings import find_connection, slot_bounds

    count, least, most = slot_bounds(slots) if slots is not None else (None, 0, 0)
    given = {"concurrency": count, "include": include or None}
    given = {key: value for key, value in given.items() if value is not None}
    settings = override(current_settings(), given, "the command line")
    name = name or f"{socket.gethostname()}-{os.getpid()}"
    if queues is None:
        served = [settings.default_queue, *settings.queues]
    else:
        served = [queue.strip() for queue in queues.split(",") if queue.strip()]
    if settings.worker_direct:
        served.append(f"{name}.dq")
    options = EngineOptions(
        find_connection(hub_, "engine"),
        settings.concurrency or os.cpu_count() or 1,
        list(dict.fromkeys(served)),
        list(settings.include),
        name,
        hub_timeout,
        parent,
        list(slot_path) or [str(Path.cwd())],
        via=via or "",
        settings=settings,
        least=least,
        most=most,
        command=[sys.executable, *sys.orig_argv[1:]],
        log_format=log_format,
        log_levels=log_levels,
    )
    return run_engine(options)
