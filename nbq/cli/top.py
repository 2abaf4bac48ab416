"""``nbq top``: the full-screen view."""

from __future__ import annotations

import click

from nbq.cli.show import connected, hub_option
from nbq.errors import SettingsError

__all__ = ["top"]


@click.command(short_help="Watch a hub in the whole terminal.")
@hub_option
def top(where: str | None) -> None:
    """Watch a hub: rates, runs, engines, queues and schedules, once a second.

    \b
        nbq top
        nbq top --hub viewer.json               # a viewer's file is enough to look

    \b
    Keys: 1 to 4 choose a table, the arrows a row
          e      say why a run is where it is
          p      pause a queue or schedule, or let it go on
          c      cancel a run (asks first)
          r      retry what failed of a run, or run a schedule now
          q      quit

    Needs the extra tui: pip install 'nbq[tui]'.

    Exit code: 0 it was quit; 2 textual is not installed; 3 the hub cannot be reached, or refuses.
    """
    try:
        from nbq.top import Top  # textual is heavy, and an extra
    except ModuleNotFoundError as error:
        raise SettingsError(f"nbq top needs {error.name}: pip install 'nbq[tui]'") from None
    with connected(where) as client:
        Top(client).run()
