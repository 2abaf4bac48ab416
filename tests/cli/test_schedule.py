"""``nbq schedule``: each command as text and as JSON, and its exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import nbq as library
from nbq.cli import main
from tests.cli import shop
from tests.cli.command import Ran

EVIL = "evil\x1b[31m[red]\nname"


@pytest.fixture(scope="module")
def client() -> Iterator[library.Client]:
    with library.Cluster(slots=1) as client:
        yield client


@pytest.fixture(autouse=True)
def hub(client: library.Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NBQ_HUB", client.connection.path)
    yield
    for handle in client.schedules:
        handle.remove()


Schedule = Callable[..., Ran]


@pytest.fixture
def schedule(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Schedule:
    """Return what runs ``nbq schedule`` in this process, which is quicker than one for each."""

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["nbq", "schedule", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return Ran(int(ended.value.code or 0), *capsys.readouterr())

    return run


def test_add_show_and_list(schedule: Schedule, client: library.Client) -> None:
    done = schedule(
        "add", "report", "tests.cli.shop.given", "--cron", "50 4,5 * * *", "--tz", "Asia/Shanghai",
        "--args", "[7]", "--kwargs", '{"title": "Sales"}', "--options", '{"queue": "slow"}',
        "--overlap", "skip", "--misfire", "all", "--jitter", "5", "--max-runs", "9",
        "--start", "2040-01-01T00:00", "--end", "2041-01-01T00:00", "--json",
    )  # fmt: skip
    expected = {
        "name": "report", "state": "ACTIVE", "what": "tests.cli.shop.given",
        "when": "At 04:50 and 05:50 every day, Asia/Shanghai time.",
        "timing": {
            "kind": "crontab", "minute": "50", "hour": "4,5", "day_of_week": "*", "day_of_month": "*",
            "month_of_year": "*", "tz": "Asia/Shanghai", "unix": True,
        },
        "runs": 0, "active": [], "waiting": [], "misfire": "all", "overlap": "skip",
        "jitter_s": 5.0, "start": "2040-01-01T00:00:00+08:00", "end": "2041-01-01T00:00:00+08:00",
        "max_runs": 9, "source": "", "owner": done.json["owner"],
    }  # fmt: skip
    row = done.json
    assert row.pop("next").startswith("2040-01-01T04:50:0")
    assert (done.code, row) == (0, expected)
    shown = schedule("show", "report", "--json").json
    assert (shown.pop("next")[:16], shown) == ("2040-01-01T04:50", expected)
    assert [each["name"] for each in schedule("--json").json["schedules"]] == ["report"]
    text = schedule("show", "report").out
    assert "when      At 04:50 and 05:50 every day, Asia/Shanghai time.\n" in text
    listed = schedule()
    assert listed.out.splitlines()[0].split() == ["name", "state", "what", "when", "next", "runs"]
    assert listed.out.splitlines()[1].startswith("report  ACTIVE  tests.cli.shop.given  At 04:50")
    assert schedule("list").out == listed.out
    upcoming = schedule("upcoming", "report", "-n", "2", "--json").json
    assert upcoming == {"upcoming": ["2040-01-01T04:50:00+08:00", "2040-01-01T05:50:00+08:00"]}


def test_run_and_history(schedule: Schedule, client: library.Client) -> None:
    assert schedule("add", "add", shop.add.name, "--every", "3600", "--args", "[1, 2]").code == 0
    run_id = schedule("run", "add", "--json").json["id"]
    assert client.result(run_id).get(60) == 3
    (row,) = schedule("history", "add", "--json").json["history"]
    assert (row["outcome"], row["run"], row["first_missed"]) == ("manual", run_id.split("-")[0], None)
    assert schedule("history", "add").out.splitlines()[1].split()[1] == "manual"
    assert schedule("run", "add").out.strip().endswith("-0-0")


def test_pause_resume_edit_and_remove(schedule: Schedule) -> None:
    schedule("add", "report", "shop.report", "--at", "2040-01-01T08:00", "--tz", "Asia/Tokyo")
    assert schedule("pause", "report", "--json").json["state"] == "PAUSED"
    assert schedule("resume", "report").out == (
        "'report' resumed: Once, on Sunday, 2040-01-01 at 08:00:00, Asia/Tokyo time.; "
        "next 2040-01-01T08:00:00+09:00\n"
    )
    edited = schedule("edit", "report", "--every", "60", "--overlap", "queue", "--json").json
    assert (edited["timing"]["kind"], edited["overlap"], edited["state"]) == ("every", "queue", "ACTIVE")
    edited = schedule("edit", "report", "--task", shop.given.name, "--args", "[1]", "--json").json
    assert (edited["what"], edited["timing"]["seconds"]) == (shop.given.name, 60)
    assert schedule("remove", "report", "--json").json == {"removed": "report"}
    assert schedule("list", "--json").json == {"schedules": []}


def test_apply(
    schedule: Schedule, client: library.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "nbq.toml"
    file.write_text('[schedules.report]\ntask = "shop.report"\nevery = 60\n')
    done = schedule("apply", "--file", str(file), "--json").json
    assert done == {"added": ["report"], "changed": [], "removed": [], "kept": [], "passed": []}
    assert schedule("apply").out == f"schedules of 'folder {tmp_path}': 1 kept\n"
    other = schedule("apply", "--file", str(file), "--source", "other")
    assert (other.code, other.err) == (
        2,
        f"nbq: {file}: schedule 'report' is declared by 'folder {tmp_path}', and 'other' declares it too: "
        "remove it, or rename one\n",
    )
    file.write_text("[schedules.report]\nevery = 60\n")
    wrong = schedule("apply")
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err.startswith(f"nbq: {file}: schedule 'report': task must be the name of one")
    assert client.schedules.names() == ["report"]


def test_text_from_users_is_escaped(schedule: Schedule, client: library.Client) -> None:
    client.schedules.add(EVIL, library.signature(EVIL), 3600)
    for done in (schedule(), schedule("show", EVIL), schedule("pause", EVIL), schedule("remove", EVIL)):
        assert (done.code, done.err) == (0, "")
        assert "\x1b" not in done.out
        assert r"evil\x1b[31m[red]\nname" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "x", "t"], "say when: --cron, --every or --at"),
        (["add", "x", "t", "--every", "5", "--cron", "* * * * *"], "--cron and --every are two schedules"),
        (["add", "x", "t", "--cron", "* * *"], "has 3 fields"),
        (["add", "x", "t", "--every", "5", "--args", "7"], "'7' is no list"),
        (["add", "x", "t", "--every", "5", "--kwargs", "{"], "'{' is not JSON"),
        (["add", "x", "t", "--every", "5", "--start", "soon"], "start: 'soon' is no date and time"),
        (["edit", "x"], "say what to change"),
        (["edit", "x", "--tz", "UTC"], "--tz belongs to --cron, --every or --at"),
        (["edit", "x", "--args", "[1]"], "--args, --kwargs and --options belong to --task"),
        (["--hub", "x", "list"], "--hub and --json go after 'list'"),
        *(([verb, "x"], "the hub has no schedule 'x'") for verb in
          ("show", "history", "upcoming", "pause", "resume", "run", "remove")),
        (["edit", "x", "--every", "5"], "the hub has no schedule 'x'"),
    ],
)  # fmt: skip
def test_what_is_wrong(schedule: Schedule, arguments: list[str], message: str) -> None:
    done = schedule(*arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_what_the_hub_refuses(schedule: Schedule, client: library.Client) -> None:
    client.schedules.add("report", shop.add.signature((1, 1), countdown=3600), 3600, overlap="skip")
    again = schedule("add", "report", "shop.report", "--every", "5", "--json")
    assert (again.code, again.json["error"]["type"]) == (3, "Refused")
    assert schedule("add", "report", shop.add.name, "--every", "5", "--replace", "--overlap", "skip",
                    "--args", "[1, 1]", "--options", '{"countdown": 3600}').code == 0  # fmt: skip
    schedule("run", "report")
    refused = schedule("run", "report")
    assert (refused.code, "its overlap is 'skip'" in refused.err) == (3, True)
    viewer = str(Path(client.connection.path).with_name("viewer.json"))
    for verb in ("pause", "resume", "run", "remove"):
        assert schedule(verb, "report", "--hub", viewer).code == 3
    assert schedule("show", "report", "--hub", viewer).code == 0
    client.cancel_all()
