"""What the commands share: how a hub is named and reached, and how answers become text, tables and JSON.

Text that users made is never markup and never moves the cursor: what cannot be printed is shown escaped.
Tables depend on the terminal only where there is one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from nbq.errors import Refused

if TYPE_CHECKING:
    from nbq.client import Client

__all__ = [
    "client_only",
    "connected",
    "escaped",
    "hub_option",
    "json_option",
    "print_json",
    "print_table",
    "size_text",
    "span_text",
    "time_text",
]

Command = Callable[..., Any]

_STYLES = {
    "SUCCESS": "green", "FAILURE": "red", "REVOKED": "yellow", "STARTED": "cyan",
    "up": "green", "gone": "red", "draining": "yellow",
    "ok": "green", "note": "yellow", "wrong": "red",
}  # fmt: skip
_KB = 1000


def hub_option(command: Command) -> Command:
    """Give a command the option that says which hub is meant."""
    return click.option(
        "--hub",
        "where",
        metavar="NAME|FILE",
        help="The hub's name, or a connection file.  [default: $NBQ_HUB, else default]",
    )(command)


def json_option(command: Command) -> Command:
    """Give a command the option that says who reads its output."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON; of an error, its type and message."
    )(command)


def connected(where: str | None) -> Client:
    """Return a client of the hub that is meant; raises as ``nbq.connect``."""
    from nbq.client import connect  # loads zmq: only when a hub is asked

    return connect(where or click.get_current_context().find_object(str))  # in %nbq: the notebook's hub


def client_only(client: Client, act: str) -> None:
    """Check that a key may do something that viewers may not.

    Raises:
        Refused: It may not.
    """
    role = client.connection.role
    if role != "client":
        raise Refused(f"a {role} key cannot {act}: use client.json", code="role")


def escaped(text: str, keep: str = "") -> str:
    r"""Return a text with what cannot be printed escaped, such as ``\x1b``; but for what ``keep`` has."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def print_json(value: object) -> None:
    """Print a value as JSON, in ASCII."""
    import json  # as above: no cost for --help

    click.echo(json.dumps(value, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under their columns; numbers stand to the right."""
    cells = [[escaped(str(value)) for value in row] for row in rows]
    numbers = [all(isinstance(row[place], int) for row in rows) for place in range(len(columns))]
    if sys.stdout.isatty():
        _print_styled(columns, cells, numbers)
        return
    widths = [max(len(cell) for cell in column) for column in zip(columns, *cells, strict=True)]
    for line in [list(columns), *cells]:
        parts = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, numbers, strict=True)
        ]
        click.echo("  ".join(parts).rstrip())


def _print_styled(columns: Sequence[str], cells: list[list[str]], numbers: list[bool]) -> None:
    from rich.console import Console  # only where there is a terminal
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column, number in zip(columns, numbers, strict=True):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for line in cells:
        table.add_row(*(Text(cell, _STYLES.get(cell, "")) for cell in line))
    Console(highlight=False).print(table)


def size_text(count: float) -> str:
    """Return a number of bytes for people: ``12.3 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < _KB:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _KB
    return f"{count:.1f} TB"


def span_text(seconds: float) -> str:
    """Return a length of time for people: ``3 h 2 min``."""
    from nbq.core import words  # as above

    return words.span_text(seconds)


def time_text(at_s: float) -> str:
    """Return an instant for people, in local time."""
    from datetime import datetime

    return datetime.fromtimestamp(at_s).strftime("%Y-%m-%d %H:%M:%S")
