"""``nbq call`` and ``nbq key``: who may come in, and one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nbq.cli.look import outcome, print_outcome
from nbq.cli.show import (
    client_only,
    connected,
    escaped,
    hub_option,
    json_option,
    print_json,
    print_table,
    time_text,
)
from nbq.errors import SettingsError, WaitTimeout

__all__ = ["call", "key"]


@click.command(short_help="Submit a call of a task, and print its value.")
@hub_option
@click.argument("task")
@click.argument("args", nargs=-1)
@click.option("--kw", multiple=True, metavar="NAME=VALUE", help="A keyword argument; may be repeated.")
@click.option("--queue", metavar="Q", help="The queue to put it into.")
@click.option("--countdown", type=float, metavar="S", help="Start it in S seconds at the earliest.")
@click.option("--priority", type=int, metavar="P", help="Higher goes first.")
@click.option("--expires", type=float, metavar="S", help="Revoke it if it has not started in S seconds.")
@click.option("--task-id", metavar="ID", help="The id it is to have.")
@click.option("--no-wait", is_flag=True, help="Print its id once the hub has it, and wait no longer.")
@click.option("--timeout", type=float, metavar="S", help="Wait at most S seconds for its end.")
@json_option
def call(
    where: str | None, task: str, args: tuple[str, ...], kw: tuple[str, ...], no_wait: bool,
    timeout: float | None, as_json: bool, **options: Any,
) -> int:  # fmt: skip
    """Submit a call of TASK, by the name that engines know it by, and print its value.

    An engine that does not know shop.tasks.charge yet imports shop.tasks. Arguments are read as JSON where
    they are JSON, and else as text; put -- before one that begins with a dash.

    \b
        nbq call shop.tasks.add 2 3
        nbq call shop.tasks.add -- -2 3
        nbq call shop.tasks.report '["a", "b"]' --kw title=Sales --queue slow
        nbq call shop.tasks.report --task-id nightly --no-wait

    --json prints what 'nbq result --json' prints; with --no-wait {"id": ID}.

    Exit code: 0 it succeeded, or with --no-wait was taken; 1 it failed, or has not ended in time (it goes
    on); 2 it cannot be submitted like this; 3 the hub cannot be reached, or refuses.
    """
    from nbq.canvas import signature

    arguments = [_value(text) for text in args]
    keywords = dict(_keyword(text) for text in kw)
    given = {name: value for name, value in options.items() if value is not None}
    with connected(where) as client:
        client_only(client, "submit")
        found = signature(task, arguments, keywords, **given).apply_async()
        try:
            client.flush()
            ended = no_wait or found.wait(timeout)
        except KeyboardInterrupt:
            task_id = escaped(found.id)
            click.echo(f"nbq: task {task_id} goes on; 'nbq cancel {task_id}' stops it", err=True)
            raise
        if no_wait:
            if as_json:
                print_json({"id": found.id})
            else:
                click.echo(escaped(found.id))
            return 0
        if not ended:
            why = client.explain(found)
            raise WaitTimeout(f"task {found.id} has not ended after {timeout:g} s; it goes on. {why}")
        report = outcome(found)
    return print_outcome(report, as_json)


def _value(text: str) -> Any:
    import json  # only when there is something to read

    try:
        return json.loads(text)
    except ValueError:
        return text


def _keyword(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--kw")
    return name, _value(value)


# ------------------------------------------------------------------ keys


@click.group(short_help="List, add and revoke the keys of a hub.")
def key() -> None:
    """List, add and revoke the keys that let others in; on the host that has the hub's data folder.

    \b
        nbq key list
        nbq key add alice --role viewer --out alice.json
        nbq key revoke 5d217c44

    A hub that runs knows of it at once.
    """


@key.command("list", short_help="List who may come in.")
@hub_option
@json_option
def list_(where: str | None, as_json: bool) -> None:
    """List the keys that a hub lets in: the id of each, its role, whose it is, and when it was made.

    \b
        nbq key list --hub team

    --json prints {"keys": [{"kid", "role", "name", "made_s"}]}.

    Exit code: 0 done; 2 no hub's keys are there.
    """
    from nbq.security import list_keys

    notes = list_keys(_data_folder(where))
    if as_json:
        rows = [{"kid": n.kid, "role": n.role, "name": n.label, "made_s": n.made_s} for n in notes]
        print_json({"keys": rows})
    else:
        print_table(
            ["key", "role", "name", "made"], [[n.kid, n.role, n.label, time_text(n.made_s)] for n in notes]
        )


@key.command(short_help="Make a key for somebody.")
@hub_option
@click.argument("name")
@click.option(
    "--role", type=click.Choice(["client", "engine", "viewer"]), default="client", show_default=True,
    help="Submit and steer work; execute it; or only look.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE",
    help="The connection file to write.  [default: NAME.json]",
)  # fmt: skip
@json_option
def add(where: str | None, name: str, role: str, out: Path | None, as_json: bool) -> None:
    """Make a key for NAME, and write the connection file that lets its holder in.

    Give the file to its holder over a safe way: it is all that is needed. A hub that runs takes it at once.

    \b
        nbq key add alice --role viewer --out alice.json
        nbq status --hub alice.json             # what alice can do with it

    --json prints {"kid", "role", "name", "file"}.

    Exit code: 0 done; 1 the file cannot be written; 2 it exists, or no hub's keys are there.
    """
    from nbq.security import issue_key
    from nbq.settings import check_name

    path = (out or Path(f"{check_name(name)}.json")).absolute()
    try:
        note = issue_key(_data_folder(where), name, role, path)  # type: ignore[arg-type]
    except OSError as error:
        raise click.FileError(str(path), error.strerror) from None
    if as_json:
        print_json({"kid": note.kid, "role": note.role, "name": note.label, "file": str(path)})
    else:
        click.echo(f"key {note.kid} ({role}) for {escaped(name)}: {path}")
        click.echo("A hub that runs takes it at once. Whoever has the file can come in with it.")


@key.command(short_help="Let a key in no more.")
@hub_option
@click.argument("kid", metavar="KEY")
@json_option
def revoke(where: str | None, kid: str, as_json: bool) -> None:
    """Let nobody in any more with KEY, the id that 'nbq key list' shows.

    From now on a hub that runs refuses it. Connections that are open with it stay until they end: to cut
    them too, restart the hub (acknowledged work is kept).

    \b
        nbq key revoke 5d217c44

    --json prints {"kid", "role", "name"} of the key.

    Exit code: 0 done; 2 there is no such key.
    """
    from nbq.security import revoke_key

    note = revoke_key(_data_folder(where), kid)
    if as_json:
        print_json({"kid": note.kid, "role": note.role, "name": note.label})
    else:
        click.echo(f"key {note.kid} ({note.role}) of {escaped(note.label)} lets nobody in any more")
        click.echo("Connections that are open with it stay until they end, or the hub is restarted.")


def _data_folder(where: str | None) -> Path:
    """Return the data folder of a hub, by its name or by a connection file in it.

    Raises:
        SettingsError: It is not on this host, or no hub ever ran in it.
    """
    from nbq.settings import data_folder

    folder = data_folder(where)
    if not (folder / "authorized").is_dir():
        raise SettingsError(f"{folder} holds no keys of a hub: run this on its host, with --hub NAME")
    return folder
