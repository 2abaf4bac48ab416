"""The ``nbq`` command: words to calls of the library, and its answers to text or JSON.

Modules here import click and nothing heavy: what a command needs is imported when it runs, so that
``nbq --help`` is quick. An error is one line, or with ``--json`` {"error": {"type", "message"}}. Exit
codes: 0 done; 1 what was asked about failed; 2 the command line is wrong; 3 the hub cannot be reached, or
refuses; 130 interrupted.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper

import click

from nbq.cli.act import call, key
from nbq.cli.demo import demo
from nbq.cli.doctor import doctor
from nbq.cli.engines import engines
from nbq.cli.events import events
from nbq.cli.look import explain, result, runs, status, tasks
from nbq.cli.schedule import schedule
from nbq.cli.serve import engine, hub
from nbq.cli.show import escaped, print_json
from nbq.cli.steer import cancel, priority, queue, rate, retry
from nbq.cli.top import top
from nbq.cli.web import web
from nbq.errors import HubError, NbqError, Refused, UnknownResult, UsageError
from nbq.version import __version__

__all__ = ["main", "nbq"]


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
    Ask how it goes, and what is wrong:
        nbq status
        nbq doctor
    Watch and steer it, in the terminal or a browser; run things by the clock:
        nbq top
        nbq web
        nbq schedule
    """


for command in (
    hub,
    engine,
    engines,
    status,
    top,
    tasks,
    runs,
    explain,
    result,
    events,
    call,
    cancel,
    retry,
    priority,
    queue,
    rate,
    schedule,
    key,
    demo,
    doctor,
    web,
):
    nbq.add_command(command)


def main() -> None:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # what a terminal's encoding lacks is shown, not an error
            stream.reconfigure(errors="backslashreplace")
    try:
        code = nbq.main(prog_name="nbq", standalone_mode=False)
    except click.ClickException as error:
        code = _failed(error, error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except NbqError as error:
        code = _failed(error, _exit_code(error))
    sys.exit(code)


def _exit_code(error: NbqError) -> int:
    if isinstance(error, HubError | Refused):
        return 3
    return 2 if isinstance(error, UsageError) and not isinstance(error, UnknownResult) else 1


def _failed(error: Exception, code: int) -> int:
    """Say why a command failed, to whoever reads its output; returns the exit code."""
    click_error = error if isinstance(error, click.ClickException) else None
    text = click_error.format_message() if click_error else str(error)
    if "--json" in sys.argv:  # the command line may be what is wrong, so nothing has parsed it
        print_json({"error": {"type": type(error).__name__, "message": text}})
    elif click_error:
        click_error.show()
    else:
        click.echo(escaped(f"nbq: {text}", keep="\n"), err=True)
    return code
