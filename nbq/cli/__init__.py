"""The ``nbq`` command: words to calls of the library, and its answers to text or JSON.

Modules here import click and nothing heavy: what a command needs is imported when it runs, so that
``nbq --help`` is quick. Exit codes: 0 done; 1 what was asked about failed; 2 the command line is wrong;
3 the hub cannot be reached, or refuses; 130 interrupted.
"""

from __future__ import annotations

import sys

import click

from nbq.cli.demo import demo
from nbq.cli.serve import engine, hub
from nbq.errors import HubError, NbqError
from nbq.version import __version__

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="nbq")
def nbq() -> None:
    """A cluster in your notebook: run, watch and steer work spread over engines.

    \b
    Start a hub and an engine on this machine, in two terminals:
        nbq hub
        nbq engine
    See real work run, with nothing to set up:
        nbq demo
    """


for command in (hub, engine, demo):
    nbq.add_command(command)


def main() -> None:
    """Run the command line and exit."""
    try:
        sys.exit(nbq.main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except NbqError as error:
        click.echo(f"nbq: {error}", err=True)
        sys.exit(3 if isinstance(error, HubError) else 1)
