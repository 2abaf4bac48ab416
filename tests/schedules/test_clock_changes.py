"""Around clock changes crontabs fire when an oracle says so that looks at the wall clock every minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbq
from nbq.zones import zone
from tests.schedules.changes import histories
from tests.schedules.oracle import DAY, Walk
from tests.schedules.sweep import chosen, differences, sweep, windows
from tests.schedules.texts import crontab, random_crontab

# By half an hour, at midnight, by two hours, west of Greenwich, and one whose offset became another.
ODD = ["Australia/LHI", "Africa/Cairo", "Antarctica/Troll", "America/Santiago", "America/Scoresbysund"]


def test_a_sample_of_all_clock_changes_from_2020_to_2035() -> None:
    tried, found = sweep(Random(4).sample(windows(), 10), each=8, seed=4)
    assert (tried, found) == (10 * 25, [])


@pytest.mark.parametrize("name", ODD)
def test_zones_that_change_their_clocks_in_odd_ways(name: str) -> None:
    changes = histories()[name]
    ahead = next(at for at, before, after in changes if after > before)
    back = next(at for at, before, after in changes if after < before)
    assert [differences((name, at), chosen(), Random(1)) for at in (ahead, back)] == [[], []]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.randoms(use_true_random=False), st.booleans())
def test_random_crontabs_fire_when_the_oracle_says(random: Random, unix: bool) -> None:
    fields, rule = random_crontab(random, unix)
    name = random.choice(["UTC", "Europe/Berlin", "Asia/Shanghai", "Australia/Lord_Howe", "America/New_York"])
    start = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(minutes=random.randrange(16 * 365 * 1440))
    walk = Walk(zone(name), start, start + 2 * DAY)
    expected = walk.fires(rule)
    schedule = crontab(fields, unix, name)
    times = schedule.upcoming(len(expected) + 1, after=start - timedelta(microseconds=1))
    given_ = [at.astimezone(UTC) for at in times]
    assert given_[: len(expected)] == expected
    assert [at for at in given_[len(expected) :] if at <= walk.end] == []


def test_the_histories_are_all_that_change_between_two_days() -> None:
    found = histories()
    assert "Europe/Berlin" not in found  # it shares the history of the first such name
    assert len(found) > 40
    assert sum(map(len, found.values())) > 1000
    changes = found["Africa/Ceuta"]
    assert [at for at, _, _ in changes[:2]] == [
        datetime(2020, 3, 29, 1, tzinfo=UTC), datetime(2020, 10, 25, 1, tzinfo=UTC),
    ]  # fmt: skip
    assert {after - before for _, before, after in changes} == {timedelta(hours=1), timedelta(hours=-1)}


# ------------------------------------------------------------------ the table of the guide, by hand


def times(schedule, day: str, tz: str = "Europe/Berlin") -> list[str]:
    """Return when a schedule fires on a day, as the wall clock shows it, with the offset."""
    start = datetime.fromisoformat(f"{day}T00:00:00").replace(tzinfo=zone(tz))
    shown = schedule.upcoming(200, after=start - timedelta(minutes=1))
    return [f"{at:%H:%M%z}"[:-2] for at in shown if f"{at:%Y-%m-%d}" == day]


def make(minute: str, hour: str) -> nbq.crontab:
    return nbq.crontab(minute, hour, tz="Europe/Berlin")


AHEAD, BACK = "2027-03-28", "2027-10-31"


def test_fixed_times_fire_once() -> None:
    daily = make("30", "2")
    assert times(daily, "2027-03-27") == ["02:30+01"]
    assert times(daily, AHEAD) == ["03:00+02"]  # the end of the gap
    assert times(daily, BACK) == ["02:30+02"]  # the first of the two
    assert times(make("0,30", "2,3"), AHEAD) == ["03:00+02", "03:30+02"]
    assert times(make("0,30", "1-3"), BACK) == [
        "01:00+02", "01:30+02", "02:00+02", "02:30+02", "03:00+01", "03:30+01",
    ]  # fmt: skip


def test_stars_follow_real_time() -> None:
    assert times(make("*/30", "2"), AHEAD) == []
    assert times(make("*/30", "2"), BACK) == ["02:00+02", "02:30+02", "02:00+01", "02:30+01"]
    yearly = nbq.crontab("*/30", 2, day_of_month=31, month_of_year=10, tz="Europe/Berlin")
    assert times(yearly, BACK) == ["02:00+02", "02:30+02", "02:00+01", "02:30+01"]  # the next is in a year
    assert len(times(make("0", "*"), AHEAD)) == 23
    assert len(times(make("0", "*"), BACK)) == 25
