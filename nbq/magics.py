"""``%nbq``: the commands of the shell, in IPython and notebooks, on the hub of the current client.

The words go to ``nbq.cli``, which does what they say; nothing is decided here. Commands that would never end
stay in a terminal.
"""

from __future__ import annotations

import shlex
from typing import Any

import click

from nbq import current
from nbq.cli import nbq as commands
from nbq.errors import HubUnreachable, NbqError

__all__ = ["line", "load_ipython_extension"]

_ELSEWHERE = ("hub", "engine", "top", "web")


def load_ipython_extension(shell: Any) -> None:
    """Make ``%nbq`` known (``%load_ext nbq``)."""
    shell.register_magic_function(line, "line", "nbq")


def line(text: str) -> None:
    """Run a command of ``nbq``: ``%nbq status``, ``%nbq queue pause slow``; ``%nbq`` alone lists them.

    The hub is that of the current client, if ``--hub`` names no other.
    """
    words = shlex.split(text)
    if words and words[0] in _ELSEWHERE and not {"-h", "--help"} & set(words):
        click.echo(f"nbq {words[0]} runs until it is stopped: start it in a terminal", err=True)
        return
    try:
        commands.main(words or ["--help"], prog_name="%nbq", standalone_mode=False, obj=_hub())
    except click.ClickException as error:
        error.show()
    except click.Abort:
        click.echo("nothing was done", err=True)
    except NbqError as error:
        click.echo(f"nbq: {error}", err=True)


def _hub() -> str | None:
    """Return the connection file of the current client; None if there is none and nothing to connect to."""
    try:
        return current.current_client().connection.path
    except HubUnreachable:
        return None  # the command says so, where it needs one
