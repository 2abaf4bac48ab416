"""``nbq cancel``, ``retry``, ``priority``, ``queue`` and ``rate``: as text and JSON, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

import nbq as library
from nbq.cli import main
from tests.cli.command import Ran

EVIL = "evil\x1b[31m"
UNSERVED = "nobody-serves-this"

Nbq = Callable[..., Ran]


@pytest.fixture(scope="module")
def client() -> Iterator[library.Client]:
    with library.Cluster(slots=1) as client:
        yield client


@pytest.fixture
def nbq(client: library.Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Nbq:
    """Return what runs a command in this process, which is quicker than one for each."""
    monkeypatch.setenv("NBQ_HUB", client.connection.path)

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["nbq", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return Ran(int(ended.value.code or 0), *capsys.readouterr())

    return run


def waiting(label: str, count: int = 1, **options: object) -> list[library.AsyncResult]:
    task = library.signature("tests.cli.shop.add", [1, 2])
    given = {"queue": UNSERVED, "label": label, **options}
    return [task.apply_async(**given) for _ in range(count)]


def broken(label: str) -> library.AsyncResult:
    result = library.signature("tests.cli.shop.broken", ["ink"]).apply_async(label=label)
    assert result.wait(30)
    return result


def test_cancel_by_what_tasks_have_in_common(client: library.Client, nbq: Nbq) -> None:
    results = [*waiting("red", 2), *waiting("other")]
    client.flush()
    asks = nbq("cancel", "--label", "red")
    assert (asks.code, asks.err.splitlines()[-1]) == (
        2,
        "Error: this asks first, and there is nobody to ask: add --yes",
    )
    assert nbq("cancel", "--label", "red", "--state", "started", "--yes").out == "0 tasks stopped\n"
    done = nbq("cancel", "--label", "red", "--state", "queued", "--yes", "--json")
    assert done.json == {"stopped": 2, "unknown": []}
    assert nbq("cancel", "--run", results[2].run_id, "--yes").out == "1 task stopped\n"
    assert {result.state for result in results} == {"REVOKED"}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("cancel --all --label x", "--all means everything: leave out the rest"),
        (
            "cancel x --label y",
            "name the tasks by their ids, or say --label, --name, --queue or --run, or --all",
        ),
        ("retry", "name the tasks by their ids, or say --label, --name, --queue or --run"),
        ("retry x --state FAILURE", "--state goes with --label, --name, --queue or --run, not with ids"),
        ("priority 1001 x", "Invalid value for 'PRIORITY': 1001 is not in the range -1000<=x<=1000."),
        ("retry --label x", "this asks first, and there is nobody to ask: add --yes"),
        ("priority 3 --label x", "this asks first, and there is nobody to ask: add --yes"),
        ("queue purge x", "this asks first, and there is nobody to ask: add --yes"),
    ],
)
def test_what_is_not_clear_is_refused(nbq: Nbq, line: str, text: str) -> None:
    ran = nbq(*line.split())
    assert (ran.code, ran.err.splitlines()[-1]) == (2, f"Error: {text}")


def test_a_terminal_is_asked(nbq: Nbq, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda text, **_: asked.append(text))
    assert nbq("cancel", "--label", EVIL, "--state", "QUEUED").code == 0
    assert nbq("queue", "purge", EVIL).code == 0
    shown = "evil\\x1b[31m"
    assert asked == [
        f"Stop all tasks with label {shown} in state QUEUED?",
        f"Cancel all that waits in queue {shown}?",
    ]


def test_retry_prints_the_new_runs(client: library.Client, nbq: Nbq) -> None:
    result = broken("pink")
    done = nbq("retry", result.id, "--json").json
    [run] = done.pop("runs")
    assert done == {"retried": 1, "unknown": [], "left": []}
    assert client.result(run).wait(30)
    ran = nbq("retry", "--label", "pink", "--yes")
    assert (ran.code, ran.err) == (0, "nbq: 1 task tried again\n")
    again = client.result(ran.out.strip())
    assert again.wait(30)
    waits = waiting("red")[0]
    client.flush()
    ran = nbq("retry", "no\nbody", waits.id)
    assert ran == Ran(
        1,
        "",
        "nbq: 0 tasks tried again\n"
        f"nbq: {waits.id} has not failed, or its canvas still runs\n"
        "nbq: the hub has no run or task 'no\\nbody'\n",
    )
    assert waits.cancel()


def test_priority(client: library.Client, nbq: Nbq) -> None:
    results = waiting("blue", 3)
    client.flush()
    assert nbq("priority", "9", results[1].id, "nobody") == Ran(
        1, "1 task with priority 9\n", "nbq: the hub has no run or task 'nobody'\n"
    )
    assert nbq("priority", "--label", "blue", "--yes", "--json", "--", "-5").json == {
        "changed": 3, "unknown": [],
    }  # fmt: skip
    assert client.cancel(label="blue") == 3


def test_queues(client: library.Client, nbq: Nbq) -> None:
    results = waiting("green", 2)
    client.flush()
    assert nbq("queue", "pause", UNSERVED).out == f"queue {UNSERVED} is paused\n"
    assert nbq("queue", "pause", UNSERVED, "--json").json == {
        "queue": UNSERVED, "paused": True, "changed": False,
    }  # fmt: skip
    rows = {row["name"]: row for row in nbq("queue", "list", "--json").json["queues"]}
    assert rows[UNSERVED] == {
        "name": UNSERVED, "queued": 2, "scheduled": 0, "leased": 0, "engines": 0, "paused": True,
    }  # fmt: skip
    assert f"{UNSERVED}       2          0        0        0  paused\n" in nbq("queue", "list").out
    assert nbq("queue", "purge", UNSERVED, "--yes", "--json").json == {"queue": UNSERVED, "stopped": 2}
    assert nbq("queue", "resume", UNSERVED).out == f"queue {UNSERVED} is not paused\n"
    assert nbq("queue", "resume", UNSERVED).out == f"queue {UNSERVED} is not paused already\n"
    assert {result.state for result in results} == {"REVOKED"}


def test_rates(nbq: Nbq) -> None:
    name = "tests.cli.shop.add"
    assert nbq("rate", name, "10/m").out == f"{name} starts at most 10/m\n"
    assert nbq("rate", name, "0.5", "--json").json == {"task": name, "rate": "0.5", "changed": True}
    assert nbq("rate", name, "none").out == f"{name} has no limit\n"
    assert nbq("rate", name, "own").out == f"{name} has the limit that each call has of its own\n"
    ran = nbq("rate", name, "often")
    assert (ran.code, ran.err) == (
        2,
        "nbq: rate_limit must be a number per second or a text such as '10/s' or '100/m', not 'often'\n",
    )
