"""What ``nbq`` says of itself: every command teaches, and none costs anything before it runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

import nbq.cli


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        yield (*path, name)


COMMANDS = list(commands(nbq.cli.nbq))


def help_of(*path: str) -> str:
    done = CliRunner().invoke(nbq.cli.nbq, [*path, "--help"], prog_name="nbq")
    assert done.exit_code == 0
    return done.output


def test_the_first_page_lists_every_command() -> None:
    listed = {line.split()[0] for line in help_of().partition("Commands:\n")[2].splitlines()}
    assert listed == {path[0] for path in COMMANDS}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_has_an_example(path: tuple[str, ...]) -> None:
    examples = [line for line in help_of(*path).splitlines() if line.startswith("      nbq ")]
    assert any(line.split()[1 : len(path) + 1] == list(path) for line in examples)


@pytest.mark.parametrize("path", [path for path in COMMANDS if path != ("key",)], ids=" ".join)
def test_help_says_what_the_exit_code_means_and_what_json_looks_like(path: tuple[str, ...]) -> None:
    text = " ".join(help_of(*path).split())
    assert "Exit code: 0 " in text
    assert ("--json prints" in text) == ("--json " in text)


def test_help_loads_click_and_little_else() -> None:
    program = "import sys, nbq.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    own = {name for name in loaded if name.split(".")[0] == "nbq" and not name.startswith("nbq.cli.")}
    assert own == {"nbq", "nbq.cli", "nbq.errors", "nbq.version"}
    assert loaded & {"asyncio", "json", "msgspec", "rich", "sqlite3", "zmq"} == set()
