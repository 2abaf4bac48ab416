"""``nbq events``: what happens at a hub, a line for each event. Changes nothing there."""

from __future__ import annotations

import os
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

import click

from nbq.cli.show import connected, escaped, hub_option, time_text

if TYPE_CHECKING:
    from nbq.eventstream import Event, EventStream

__all__ = ["events"]


@click.command(short_help="Show what happens: tasks, engines, schedules, queues.")
@hub_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens from now on, until Ctrl-C.")
@click.option("--after", type=click.IntRange(0), metavar="N", help="Begin after the event of this number.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="K",
    help="Only events of this kind. May be given more than once.",
)
@click.option("--task", default="", metavar="TASK", help="Only events of tasks of this name.")
@click.option("--queue", default="", metavar="Q", help="Only events of this queue and its tasks.")
@click.option("--label", default="", metavar="L", help="Only events of tasks with this label.")
@click.option("--run", default="", metavar="ID", help="Only events of this run, or of the run of this task.")
@click.option(
    "-n", "--limit", type=click.IntRange(1), metavar="N",
    help="At most N events: the last ones, or with -f the first.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each event.")
def events(
    where: str | None, follow: bool, after: int | None, kinds: tuple[str, ...], task: str, queue: str,
    label: str, run: str, limit: int | None, as_json: bool,
) -> int:  # fmt: skip
    """Show what has happened at a hub, as far as it keeps it (the last 10,000 events), oldest first.

    \b
        nbq events -n 20
        nbq events -f --kind failed --kind revoked
        nbq events -f --json | jq -c 'select(.engine == "gpu-1")'
        nbq events -f --after 4398046511391    # nothing twice: go on after what was read before

    Kinds: submitted, started, progress, succeeded, failed, retried, revoked, engine-joined, engine-lost,
    engine-drained, schedule-fired, schedule-missed, schedule-changed, queue-paused, queue-resumed.

    \b
    --json prints for each event, in one line
        {"seq", "at", "kind", "count", "id", "run", "task", "queue", "label", "engine", "text",
         "attempt"}
    and where events are missing
        {"missed": how many}

    Exit code: 0 also when there is nothing; 3 the hub cannot be reached (one that goes away later is waited
    for); 130 Ctrl-C.
    """
    with connected(where) as client:
        start = after if after is not None or follow else 0
        stream = client.events(start, kinds, task, queue, label, run, timeout=None if follow else 0.0)
        printer = _Printer(stream, as_json)
        try:
            if follow:
                for number, event in enumerate(stream, 1):
                    printer.show(event)
                    if number == limit:
                        break
            else:
                for event in list(stream) if limit is None else deque(stream, limit):
                    printer.show(event)
                printer.gap()
        except BrokenPipeError:  # whoever reads this has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


class _Printer:
    """Prints events, and says where some are missing."""

    def __init__(self, stream: EventStream, as_json: bool) -> None:
        self._stream = stream
        self._as_json = as_json
        self._missed = 0

    def gap(self) -> None:
        """Say how many are missing since it was last said."""
        missed, self._missed = self._stream.missed - self._missed, self._stream.missed
        if missed and self._as_json:
            self._line({"missed": missed})
        elif missed:
            click.echo(f"... {missed:,} events were not kept ...", err=True)

    def show(self, event: Event) -> None:
        """Print an event."""
        self.gap()
        if self._as_json:
            values = {name: getattr(event, name) for name in event.__struct_fields__}
            self._line({**values, "at": event.at.isoformat()})
        else:
            click.echo(_text(event))
            sys.stdout.flush()

    def _line(self, value: dict[str, Any]) -> None:
        import json  # no cost for --help

        click.echo(json.dumps(value))
        sys.stdout.flush()


def _text(event: Event) -> str:
    count = f" x{event.count}" if event.count > 1 else ""
    what = " ".join(part for part in (event.task, event.id) if part)
    labelled = f" [{event.label}]" if event.label else ""
    where = f" on {event.engine}" if event.engine and event.engine != event.id else ""
    why = f": {event.text}" if event.text else ""
    at = time_text(event.at.timestamp())
    return escaped(f"{at}  {event.seq}  {event.kind:<15}  {what}{count}{labelled}{where}{why}")
