"""``nbq demo``: real work on this machine, with nothing to set up."""

from __future__ import annotations

import click

__all__ = ["demo"]


@click.command(short_help="See real work run on this machine.")
@click.option(
    "--slots", type=click.IntRange(1, 4096), help="How many tasks run at a time.  [default: one a core]"
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Analyse N files.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print figures and results as JSON.")
def demo(slots: int | None, limit: int | None, as_json: bool) -> int:
    """Analyse Python's own standard library on a cluster of this machine.

    Starts a hub and one slot a core, parses every source file of the library (one task a file), sums up and
    reports; then does the same in one process, and says how much faster the cluster was. Ctrl-C stops it.

    \b
        nbq demo
        nbq demo --slots 2 --limit 200

    --json prints how many tasks ran in how many seconds, how long one process took, and the report.

    Exit code: 0 done; 1 something failed; 130 interrupted.
    """
    from nbq.demo import run

    return run(slots, limit, as_json)
