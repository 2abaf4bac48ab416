"""Schedules as values: compared, hashed, printed, pickled, as plain data, and in words."""

from __future__ import annotations

import copy
import datetime as dt
import json
import pickle
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

import nbq
from nbq.configuration import configure, reset
from nbq.schedules import Schedule
from nbq.zones import zone

EAST = timezone(timedelta(hours=5, minutes=30))
DESCRIBED = [
    (nbq.crontab(tz="UTC"), "Every minute, UTC time."),
    (nbq.crontab(0, tz="UTC"), "Every hour, on the hour, UTC time."),
    (nbq.crontab("*/15", tz="UTC"), "Every 15 minutes, UTC time."),
    (nbq.crontab([5, 6, 7, 20], tz="UTC"), "At minutes 5 to 7 and 20 past the hour, UTC time."),
    (nbq.crontab("*/5", "8-17", day_of_week="mon-fri", tz="UTC"),
     "Every 5 minutes, in hours 08 to 17 on Monday to Friday, UTC time."),
    (nbq.crontab("*", 2, tz="UTC"), "Every minute, in hour 02, UTC time."),
    (nbq.crontab(59, "*/3", tz="UTC"), "At minute 59 past the hour, in every third hour from 00, UTC time."),
    (nbq.crontab(50, "4,5,15,17", tz="Asia/Shanghai"),
     "At 04:50, 05:50, 15:50 and 17:50 every day, Asia/Shanghai time."),
    (nbq.crontab(0, "8,9,10,11,14,15,16,17,18,19,20,21,22", tz="Asia/Shanghai"),
     "On the hour, in hours 08 to 11 and 14 to 22, Asia/Shanghai time."),
    (nbq.crontab(0, 0, day_of_month="1-7", day_of_week="mon", tz="Europe/Berlin"),
     "At 00:00 on Monday, if it is one of days 1 to 7 of the month, Europe/Berlin time."),
    (nbq.crontab(0, 12, month_of_year="1,7", day_of_month=1, tz="UTC"),
     "At 12:00 on day 1 of the month in January and July, UTC time."),
    (nbq.crontab(0, 12, month_of_year="jun-aug", tz="UTC"),
     "At 12:00 every day in June to August, UTC time."),
    (nbq.crontab.from_string("0 5 1,15 * 0", tz="UTC"),
     "At 05:00 on days 1 and 15 of the month and also on every Sunday, UTC time."),
    (nbq.crontab.from_string("0 5 1 * 0-6", tz="UTC"), "At 05:00 every day, UTC time."),
    (nbq.crontab.from_string("0 5 1-31 * 1", tz="Asia/Tokyo"), "At 05:00 every day, Asia/Tokyo time."),
    (nbq.crontab.from_string("@weekly", tz="UTC"), "At 00:00 on Sunday, UTC time."),
    (nbq.every(30, tz="UTC"), "Every 30 seconds, counted from 1970 in UTC."),
    (nbq.every(1.5, tz="UTC"), "Every 1.5 seconds, counted from 1970 in UTC."),
    (nbq.every(timedelta(days=1, hours=2, seconds=1), datetime(2028, 1, 1), tz="Asia/Tokyo"),
     "Every 1 day 2 hours 1 second from 2028-01-01 00:00:00, Asia/Tokyo time."),
    (nbq.at(datetime(2028, 2, 29, 8, 30), tz="Asia/Tokyo"),
     "Once, on Tuesday, 2028-02-29 at 08:30:00, Asia/Tokyo time."),
]  # fmt: skip
SCHEDULES = [schedule for schedule, _ in DESCRIBED] + [
    nbq.every(0.1, tz=EAST),
    nbq.at(datetime(2028, 2, 29, 8, 30, 1, 999999, tzinfo=EAST)),
]


@pytest.mark.parametrize(("schedule", "sentence"), DESCRIBED)
def test_a_schedule_in_words(schedule: Schedule, sentence: str) -> None:
    assert schedule.describe() == sentence


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_there_and_back(schedule: Schedule) -> None:
    plain = json.loads(json.dumps(schedule.to_dict()))
    others = [
        Schedule.from_dict(plain),
        pickle.loads(pickle.dumps(schedule)),
        copy.deepcopy(schedule),
        eval(repr(schedule), {"nbq": nbq, "datetime": dt}),
    ]
    after = datetime(2028, 1, 1, tzinfo=UTC)
    for other in others:
        assert (type(other), other, hash(other), repr(other)) == (
            type(schedule), schedule, hash(schedule), repr(schedule),
        )  # fmt: skip
        assert other.upcoming(3, after) == schedule.upcoming(3, after)


def test_all_of_them_are_different() -> None:
    assert len(set(SCHEDULES)) == len(SCHEDULES)


def test_plain_data() -> None:
    assert nbq.crontab(0, [4, 5], day_of_week="mon", tz="Asia/Shanghai").to_dict() == {
        "kind": "crontab", "minute": "0", "hour": "4,5", "day_of_week": "mon", "day_of_month": "*",
        "month_of_year": "*", "tz": "Asia/Shanghai", "unix": False,
    }  # fmt: skip
    start = datetime(2028, 1, 1, tzinfo=timezone(timedelta(hours=9)))
    assert nbq.every(30, start, tz="Asia/Tokyo").to_dict() == {
        "kind": "every", "seconds": 30.0, "start": "2027-12-31T15:00:00Z", "tz": "Asia/Tokyo",
    }  # fmt: skip
    assert nbq.at(start, tz="UTC").to_dict() == {"kind": "at", "when": "2027-12-31T15:00:00Z", "tz": "UTC"}


def test_what_is_left_out_of_plain_data_is_what_is_left_out_of_the_call() -> None:
    assert Schedule.from_dict({"kind": "crontab", "minute": "5"}) == nbq.crontab(5, tz="UTC")
    assert Schedule.from_dict({"kind": "every", "seconds": 5}) == nbq.every(5, tz="UTC")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "this is no schedule: Object missing required field `kind`"),
        ({"kind": "solar"}, "this is no schedule: Invalid value 'solar' - at `$.kind`"),
        ({"kind": "crontab", "minute": 5}, "this is no schedule: Expected `str`, got `int` - at `$.minute`"),
        ({"kind": "crontab", "minute": "5" * 2000},
         "this is no schedule: Expected `str` of length <= 1024 - at `$.minute`"),
        ({"kind": "crontab", "minute": "61"}, "minute: 61 is not in 0-59"),
        ({"kind": "crontab", "tz": "Mars"}, "there is no time zone 'Mars': write one as in 'Asia/Shanghai'"),
        ({"kind": "every", "seconds": 0},
         "every 0.0 seconds: it has to be between 0.1 s and a hundred years"),
        ({"kind": "at", "when": "2028-01-01T00:00:00"},
         "this is no schedule: Expected `datetime` with a timezone component - at `$.when`"),
    ],
)  # fmt: skip
def test_data_of_no_schedule_is_refused(data: dict, message: str) -> None:
    with pytest.raises(nbq.InvalidSchedule) as caught:
        Schedule.from_dict(data)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (nbq.crontab(0, [2], day_of_week="mon", tz="UTC"), nbq.crontab("0", 2, day_of_week=1, tz=UTC), True),
        (nbq.crontab(0, 2, tz="UTC"), nbq.crontab.from_string("0 2 * * *", tz="UTC"), True),
        (nbq.crontab(0, tz="UTC"), nbq.crontab(0, tz=UTC), True),
        (nbq.crontab(0, tz="Asia/Tokyo"), nbq.crontab(0, tz=ZoneInfo("Asia/Tokyo")), True),
        (nbq.crontab(0, tz="Asia/Tokyo"), nbq.crontab(0, tz="UTC"), False),
        (nbq.crontab("0-59", 2, tz="UTC"), nbq.crontab("*", 2, tz="UTC"), False),  # where clocks change
        (nbq.every(60, tz="UTC"), nbq.every(timedelta(minutes=1), tz="UTC"), True),
        (nbq.every(0.1 + 0.2, tz="UTC"), nbq.every(0.3, tz="UTC"), True),
        (nbq.every(60, tz="UTC"), nbq.every(60, datetime(1970, 1, 1), tz="UTC"), False),  # with a first
        (nbq.at(datetime(2028, 1, 1, 9), tz="Asia/Tokyo"), nbq.at(datetime(2028, 1, 1, tzinfo=UTC)), False),
        (nbq.every(60, tz="UTC"), 60, False),
    ],
)  # fmt: skip
def test_schedules_are_equal_if_they_mean_the_same(one: Schedule, other: object, equal: bool) -> None:
    assert (one == other, one != other) == (equal, not equal)
    assert (hash(one) == hash(other)) == equal


# ------------------------------------------------------------------ every and at


def test_every_is_counted_from_1970_or_its_start() -> None:
    after = datetime(2028, 1, 1, 0, 0, 7, tzinfo=UTC)
    assert [at.second for at in nbq.every(15, tz="UTC").upcoming(5, after)] == [15, 30, 45, 0, 15]
    start = datetime(2028, 1, 2, 0, 0, 1, tzinfo=UTC)
    begun = nbq.every(15, start, tz="UTC")
    assert begun.upcoming(2, after) == [start, start + timedelta(seconds=15)]
    assert begun.next(start) == start + timedelta(seconds=15)
    assert begun.next(start - timedelta(microseconds=1)) == start


def test_every_goes_by_real_time() -> None:
    hourly = nbq.every(3600, tz="Europe/Berlin").upcoming(4, datetime(2027, 3, 27, 23, 30, tzinfo=UTC))
    assert [at.hour for at in hourly] == [1, 3, 4, 5]


@pytest.mark.parametrize(
    "seconds", [0, -1, 0.09, float("nan"), float("inf"), 4e9, True, "30", None, timedelta(0)]
)
def test_a_distance_has_bounds(seconds: object) -> None:
    with pytest.raises(nbq.InvalidSchedule):
        nbq.every(seconds, tz="UTC")


def test_at_fires_once() -> None:
    when = datetime(2028, 2, 29, 8, tzinfo=ZoneInfo("Asia/Tokyo"))
    once = nbq.at(when)
    assert (once.tz, once.upcoming(5, datetime(2028, 1, 1, tzinfo=UTC)), once.next(when)) == (
        "Asia/Tokyo", [when], None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wall", "instant"),
    [
        (datetime(2027, 3, 28, 2, 30), datetime(2027, 3, 28, 1, tzinfo=UTC)),  # the end of the gap
        (datetime(2027, 3, 28, 2, 30, fold=1), datetime(2027, 3, 28, 1, tzinfo=UTC)),
        (datetime(2027, 10, 31, 2, 30), datetime(2027, 10, 31, 0, 30, tzinfo=UTC)),  # the first of two
        (datetime(2027, 10, 31, 2, 30, fold=1), datetime(2027, 10, 31, 1, 30, tzinfo=UTC)),
    ],
)
def test_a_wall_time_where_clocks_change(wall: datetime, instant: datetime) -> None:
    assert nbq.at(wall, tz="Europe/Berlin") == nbq.at(instant, tz="Europe/Berlin")


@pytest.mark.parametrize("given", ["2028-01-01", dt.date(2028, 1, 1), None])
def test_at_takes_datetimes_only(given: object) -> None:
    with pytest.raises(nbq.InvalidSchedule):
        nbq.at(given)


# ------------------------------------------------------------------ zones and instants


def test_an_instant_needs_a_zone() -> None:
    for asked in (nbq.crontab(tz="UTC").next, lambda after: nbq.every(1, tz="UTC").upcoming(1, after)):
        with pytest.raises(nbq.InvalidSchedule) as caught:
            asked(datetime(2028, 1, 1))
        assert str(caught.value) == (
            "datetime.datetime(2028, 1, 1, 0, 0) has no zone; give it one, as in datetime.now(UTC)"
        )


def test_upcoming_begins_now() -> None:
    before = datetime.now(UTC)
    [found] = nbq.every(0.1, tz="UTC").upcoming(1)
    assert before < found <= datetime.now(UTC) + timedelta(seconds=0.1)


def test_without_a_zone_it_is_that_of_the_settings_or_utc(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    reset()
    try:
        assert nbq.crontab().tz == "UTC"
        configure(timezone="Asia/Shanghai")
        assert [nbq.crontab().tz, nbq.every(1).tz, nbq.at(datetime(2028, 1, 1)).tz] == ["Asia/Shanghai"] * 3
        assert nbq.at(datetime(2028, 1, 1, tzinfo=UTC)).tz == "UTC"
    finally:
        reset()


def test_times_can_be_pickled_and_name_their_zone() -> None:
    [found] = nbq.crontab(tz="Europe/Berlin").upcoming(1)
    again = pickle.loads(pickle.dumps(found))
    assert (again, again.tzinfo) == (found, zone("Europe/Berlin"))
    assert again.tzinfo is found.tzinfo


def test_zones_are_those_of_the_pinned_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even with a system whose files say otherwise: here the path has no zone at all."""
    import zoneinfo

    from nbq import zones

    before = zoneinfo.TZPATH
    zones._pinned.cache_clear()
    zoneinfo.reset_tzpath(())
    try:
        assert datetime(2028, 7, 1, tzinfo=zone("Europe/Berlin")).utcoffset() == timedelta(hours=2)
    finally:
        zoneinfo.reset_tzpath(before)
