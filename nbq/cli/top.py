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
    Keys: 1 to 4 choose a table; up and down a row; e explains a run; p pauses or resumes a queue or schedule;
    c cancels a run (asks first); r retries what failed of a run, or runs a schedule now; q quits.

    A viewer's file is enough to look. Needs the extra tui: pip install 'nbq[tui]'.
    """
    try:
        from nbq.top import Top  # textual is heavy, and an extra
    except ModuleNotFoundError as error:
        raise SettingsError(f"nbq top needs {error.name}: pip install 'nbq[tui]'") from None
    with connected(where) as client:
        Top(client).run()
