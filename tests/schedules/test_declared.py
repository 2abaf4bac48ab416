"""Declared schedules: Celery's ``beat_schedule``, our own form, and the tables of files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import nbq
from nbq.configuration import reset
from nbq.declared import Declared, declaration, read_declared
from nbq.scheduling import Reconciled
from nbq.testing import ClusterUnderTest
from tests.schedules.test_week import DAYS, START, WEEK
from tests.schedules.work import add, total

NAME = "tests.schedules.work.add"


# ------------------------------------------------------------------ update


def test_the_beat_schedule_of_a_real_application(nbq_cluster: ClusterUnderTest) -> None:
    """Nine entries as Celery has them; each gives the instants of a leap-year week, told by hand."""
    schedules = nbq_cluster.client.schedules
    beat = {
        f"[shop.do.{n}]": {
            "task": NAME,
            "schedule": nbq.crontab(**fields, tz="Asia/Shanghai"),
            "args": (n, 1),
        }
        for n, (fields, _, _) in enumerate(WEEK)
    }
    assert schedules.update(beat) == Reconciled(added=list(beat))
    for n, (_, times, count) in enumerate(WEEK):
        handle = schedules.get(f"[shop.do.{n}]")
        fired = handle.when.upcoming(count, after=START - timedelta(minutes=1))
        assert [at.isoformat() for at in fired] == [
            f"{day}T{time}:00+08:00" for day in DAYS for time in times.split()
        ]
        assert handle.run().get() == n + 1


def test_entries_as_celery_has_them(nbq_cluster: ClusterUnderTest) -> None:
    schedules = nbq_cluster.client.schedules
    began = nbq_cluster.now
    done = schedules.update(
        {
            "seconds": {"task": NAME, "schedule": 30.0, "kwargs": {"x": 1, "y": 2}, "relative": True},
            "delta": {"task": NAME, "schedule": timedelta(minutes=1), "args": [3, 4]},
            "options": {
                "task": NAME, "schedule": nbq.every(10, start=began), "args": (5, 6),
                "options": {"queue": "slow", "expires": 60, "priority": 3},
            },
        }
    )  # fmt: skip
    assert done.added == ["seconds", "delta", "options"]
    assert [schedules.get(name).when for name in done.added[:2]] == [nbq.every(30), nbq.every(60)]
    assert [schedules.run(name).get() for name in done.added] == [3, 7, 11]
    assert schedules.history("options")[0].result.queue == "slow"


def test_what_has_changed_is_changed_and_nothing_twice(nbq_cluster: ClusterUnderTest) -> None:
    schedules = nbq_cluster.client.schedules
    schedules.add("by hand", add.s(1, 1), 3600)
    one: dict[str, Any] = {
        "kept": {"what": nbq.group(add.s(n, n) for n in range(3)) | total.s(), "when": "@daily"},
        "time": {"what": add.s(1, 1), "when": 60},
        "args": {"what": add.s(1, 1), "when": 3600},
        "policy": {"what": add.s(1, 1), "when": 3600},
        "gone": {"what": add.s(1, 1), "when": 3600},
    }
    assert schedules.update(one, source="shop") == Reconciled(added=list(one))
    schedules.run("args").get()
    schedules.pause("args")
    assert schedules.update(one, source="shop") == Reconciled(kept=list(one))
    two = {
        "kept": one["kept"],
        "time": {"what": add.s(1, 1), "when": 120},
        "args": {"what": add.s(2, 2), "when": 3600},
        "policy": {"what": add.s(1, 1), "when": 3600, "overlap": "skip"},
        "new": {"what": add.s(1, 1), "when": 3600},
    }
    assert schedules.update(two, source="shop") == Reconciled(
        added=["new"], changed=["time", "args", "policy"], removed=["gone"], kept=["kept"]
    )
    assert schedules.names() == ["args", "by hand", "kept", "new", "policy", "time"]
    args = schedules.get("args")
    assert (args.state, args.runs, args.run().get()) == ("PAUSED", 1, 4)
    assert schedules.update({}, source="somebody else") == Reconciled()
    assert schedules.update({}, source="shop").removed == ["args", "kept", "new", "policy", "time"]
    assert schedules.names() == ["by hand"]


def test_an_edit_by_hand_lasts_until_it_is_declared_again(nbq_cluster: ClusterUnderTest) -> None:
    schedules = nbq_cluster.client.schedules
    declared = {"report": {"what": add.s(1, 1), "when": 60}}
    schedules.update(declared)
    schedules.edit("report", when=10)
    assert schedules.update(declared).changed == ["report"]
    assert schedules.get("report").when == nbq.every(60)


def test_what_has_passed_is_no_error(nbq_cluster: ClusterUnderTest) -> None:
    schedules = nbq_cluster.client.schedules
    soon = nbq_cluster.now + timedelta(hours=1)
    schedules.update({"once": {"what": add.s(1, 1), "when": nbq.at(soon)}})
    past = {"once": {"what": add.s(1, 1), "when": nbq.at(datetime(2020, 1, 1, tzinfo=UTC))}}
    assert schedules.update(past) == Reconciled(removed=["once"], passed=["once"])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"schedule": 5}, "it needs either 'task' or 'what'"),
        ({"task": NAME}, "it needs either 'schedule' or 'when'"),
        ({"task": NAME, "schedule": 5, "when": 5}, "it needs either 'schedule' or 'when'"),
        ({"task": NAME, "schedule": 5, "relative": False}, "relative=False counts from"),
        ({"task": NAME, "schedule": 5, "arguments": ()}, "there is no 'arguments'"),
        ({"task": NAME, "schedule": 5, "args": "text"}, "args must be a list or tuple"),
        ({"task": NAME, "schedule": 5, "options": {"que": "a"}}, "'que'"),
        ({"task": NAME, "schedule": 5, "options": 7}, "schedule 'wrong'"),
        ({"task": NAME, "schedule": 5, "options": {"queue": 7}}, "an option does not fit"),
        ({"task": NAME, "schedule": 5, "args": (1, 1), "overlap": "maybe"}, "overlap"),
        ({"task": 7, "schedule": 5}, "a schedule takes signatures"),
        ("task", "is a table"),
    ],
)
def test_one_wrong_entry_and_nothing_is_done(nbq_cluster: ClusterUnderTest, entry: Any, message: str) -> None:
    schedules = nbq_cluster.client.schedules
    schedules.update({"there": {"what": add.s(1, 1), "when": 60}})
    with pytest.raises(nbq.InvalidSchedule, match="schedule 'wrong'") as caught:
        schedules.update({"right": {"what": add.s(1, 1), "when": 60}, "wrong": entry})
    assert message in str(caught.value)
    assert schedules.names() == ["there"]


def test_a_name_of_another_source_is_not_taken_over(nbq_cluster: ClusterUnderTest) -> None:
    schedules = nbq_cluster.client.schedules
    schedules.add("hand", add.s(1, 1), 60)
    schedules.update({"shop": {"what": add.s(1, 1), "when": 60}}, source="shop")
    for name, owner in (("hand", "was added by hand"), ("shop", "is declared by 'shop'")):
        with pytest.raises(nbq.InvalidSchedule, match=f"schedule '{name}' {owner}, and 'other' declares it"):
            schedules.update({name: {"what": add.s(2, 2), "when": 60}}, source="other")
    assert schedules.names() == ["hand", "shop"]


# ------------------------------------------------------------------ files


def read(folder: Path, **files: str) -> Declared:
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    return read_declared()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_that_a_file_can_say(folder: Path) -> None:
    found = read(
        folder,
        nbq="""
            [schedules.report]
            task = "shop.report"
            args = [7]
            kwargs = {title = "Sales"}
            options = {queue = "slow"}
            crontab = "50 4,5,15,17 * * *"
            tz = "Asia/Shanghai"
            misfire = "skip"
            overlap = "queue"
            jitter = 5
            max_runs = 9
            start = 2028-01-01T00:00:00
            end = "2028-02-01T00:00:00+08:00"

            [schedules.fields]
            task = "shop.report"
            crontab = {hour = "4,5", minute = 50, day_of_week = ["mon", 2]}

            [schedules.often]
            task = "shop.report"
            every = 30

            [schedules.shifts]
            task = "shop.report"
            every = {seconds = 28800, start = 2028-01-01T06:00:00}
            tz = "Asia/Tokyo"

            [schedules."once only"]
            task = "shop.report"
            at = 2028-03-01T08:00:00
            tz = "Asia/Tokyo"
        """,
    )
    assert (found.source, found.files) == (f"folder {folder}", [folder / "nbq.toml"])
    read_back = {name: declaration(name, entry) for name, entry in found.schedules.items()}
    assert {name: when for name, (_, when, _) in read_back.items()} == {
        "report": nbq.crontab(50, "4,5,15,17", tz="Asia/Shanghai"),
        "fields": nbq.crontab(50, "4,5", day_of_week="mon,tue"),
        "often": nbq.every(30),
        "shifts": nbq.every(28800, start=datetime(2028, 1, 1, 6), tz="Asia/Tokyo"),
        "once only": nbq.at(datetime(2028, 3, 1, 8), tz="Asia/Tokyo"),
    }
    canvas, _, policy = read_back["report"]
    assert canvas == nbq.signature("shop.report", args=(7,), kwargs={"title": "Sales"}, queue="slow")
    assert policy == {
        "misfire": "skip", "overlap": "queue", "jitter": 5, "max_runs": 9,
        "start": datetime(2028, 1, 1), "end": "2028-02-01T00:00:00+08:00",
    }  # fmt: skip


def test_nbq_toml_goes_over_pyproject_and_the_project_has_the_name(folder: Path) -> None:
    entry = '{task = "shop.report", every = %s}'
    found = read(
        folder,
        pyproject=f'[project]\nname = "shop"\n[tool.nbq.schedules]\na = {entry % 1}\nb = {entry % 2}',
        nbq=f"default_queue = 'usual'\n[schedules]\nb = {entry % 3}\nc = {entry % 4}",
    )
    assert found.source == "project shop"
    whens = {name: entry["schedule"] for name, entry in found.schedules.items()}
    assert whens == {"a": nbq.every(1), "b": nbq.every(3), "c": nbq.every(4)}
    try:
        assert nbq.configure().default_queue == "usual"  # the table is no setting
    finally:
        reset()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schedules = 7", "schedules must be a table"),
        ("[schedules]\na = 7", "schedule 'a' is a table, not 7"),
        ("[schedules.a]\ntask = 'x'", "it needs one of crontab, every, at, and has 0"),
        ("[schedules.a]\ntask = 'x'\nevery = 1\nat = 2028-01-01T00:00:00", "and has 2"),
        ("[schedules.a]\nevery = 1", "task must be the name of one"),
        ("[schedules.a]\ntask = 'x'\nevery = 1\ntz = 'Nowhere'", "there is no time zone 'Nowhere'"),
        ("[schedules.a]\ntask = 'x'\ncrontab = '61 * * * *'", "61"),
        ("[schedules.a]\ntask = 'x'\ncrontab = 5", "neither a line of cron nor a table"),
        ("[schedules.a]\ntask = 'x'\ncrontab = {hours = 5}", "crontab has no 'hours'"),
        ("[schedules.a]\ntask = 'x'\nevery = {}", "every needs 'seconds'"),
        ("[schedules.a]\ntask = 'x'\nevery = 'often'", "'often' is no number of seconds"),
        ("[schedules.a]\ntask = 'x'\nat = 'soon'", "at: 'soon' is no date and time"),
        ("[schedules.a]\ntask = 'x'\nevery = 1\nqueue = 'slow'", "there is no 'queue'"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_file_and_entry(folder: Path, text: str, message: str) -> None:
    with pytest.raises(nbq.SettingsError) as caught:
        read(folder, nbq=text)
    assert str(caught.value).startswith(f"{folder / 'nbq.toml'}: schedule")
    assert message in str(caught.value)


def test_without_a_file_there_is_nothing_to_read(folder: Path) -> None:
    with pytest.raises(
        nbq.SettingsError, match=r"there is no pyproject\.toml and no nbq\.toml here or above"
    ):
        read_declared()
    with pytest.raises(nbq.SettingsError, match=r"nbq\.toml cannot be read: No such file"):
        read_declared(folder / "nbq.toml")


@pytest.mark.parametrize("name", ["beat_schedule", "CELERYBEAT_SCHEDULE", "schedules"])
def test_schedules_are_no_setting_and_the_error_says_where_they_go(name: str) -> None:
    with pytest.raises(
        nbq.SettingsError, match=r"client\.schedules\.update\(\.\.\.\), or in a file as \[schedules\]"
    ):
        nbq.configure(**{name: {}})
