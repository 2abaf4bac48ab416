"""`%nbq` in IPython: the shell's commands, on the hub of the current client."""

from collections.abc import Iterator

import pytest
from IPython.core.interactiveshell import InteractiveShell

import nbq


@pytest.fixture(scope="module")
def client() -> Iterator[nbq.Client]:
    with nbq.Cluster(slots=1) as client:
        yield client


@pytest.fixture(scope="module")
def shell() -> Iterator[InteractiveShell]:
    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "nbq")
    yield shell
    InteractiveShell.clear_instance()


def said(shell: InteractiveShell, capsys: pytest.CaptureFixture[str], line: str) -> tuple[str, str]:
    capsys.readouterr()
    shell.run_line_magic("nbq", line)
    printed = capsys.readouterr()
    return printed.out, printed.err


def test_what_the_shell_steers_a_notebook_steers(client, shell, capsys) -> None:
    result = client.submit(pow, 2, 3, label="powers")
    assert result.get(timeout=30) == 8
    assert "powers" in said(shell, capsys, "runs --label powers")[0]
    assert said(shell, capsys, f"explain {result.id}")[0].startswith("It succeeded")
    said(shell, capsys, "queue pause default")
    assert [queue.paused for queue in client.queues()] == [True]
    said(shell, capsys, "queue resume default")
    assert [queue.paused for queue in client.queues()] == [False]
    assert client.submit(pow, 2, 2).get(timeout=30) == 4


def test_errors_are_lines(client, shell, capsys) -> None:
    unknown = "0" * 32
    out, err = said(shell, capsys, f"explain {unknown}")
    assert out == ""
    assert err.startswith(f"nbq: the hub has no run or task {unknown!r}")
    assert "No such command 'wat'" in said(shell, capsys, "wat")[1]
    assert said(shell, capsys, "hub") == ("", "nbq hub runs until it is stopped: start it in a terminal\n")


def test_alone_it_lists_what_there_is(client, shell, capsys) -> None:
    assert "Commands:" in said(shell, capsys, "")[0]
    assert said(shell, capsys, "queue --help")[0].startswith("Usage: %nbq queue")
