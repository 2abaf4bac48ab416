"""What the fields of a crontab mean, in Celery's way and in Unix's, and what is refused."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

import nbq
from nbq.core.fields import DAY, FIELDS, HOUR, MINUTE, MONTH, WEEKDAY, Field, expand

NEITHER = "is no '*', number, name or range, and no '*' or range with a step"
EVERY_DAY = {"minute": 0, "hour": 0, "tz": "UTC"}


def days(schedule: nbq.crontab, first: str, count: int) -> list[str]:
    """Return the days on which a schedule that fires at midnight fires first."""
    start = datetime.fromisoformat(f"{first}T00:00:00+00:00") - timedelta(minutes=1)
    return [f"{at:%Y-%m-%d}" for at in schedule.upcoming(count, after=start)]


@pytest.mark.parametrize(
    ("field", "text", "numbers"),
    [
        (MINUTE, "7", [7]),
        (MINUTE, "*/20", [0, 20, 40]),
        (MINUTE, "*/90", [0]),
        (MINUTE, "55-5", [0, 1, 2, 3, 4, 5, 55, 56, 57, 58, 59]),
        (MINUTE, "50-10/5", [0, 5, 10, 50, 55]),
        (MINUTE, "1,13,30-32,50-59/4", [1, 13, 30, 31, 32, 50, 54, 58]),
        (MINUTE, "3, 2 ,3", [2, 3]),
        (HOUR, "22-2", [0, 1, 2, 22, 23]),
        (HOUR, "0,8-17/4", [0, 8, 12, 16]),
        (HOUR, "007", [7]),
        (WEEKDAY, "fri-mon", [0, 1, 5, 6]),
        (WEEKDAY, "Monday,SAT", [1, 6]),
        (WEEKDAY, "*/2", [0, 2, 4, 6]),
        (DAY, "*/5", [1, 6, 11, 16, 21, 26, 31]),
        (DAY, "28-3", [1, 2, 3, 28, 29, 30, 31]),
        (MONTH, "*/3", [1, 4, 7, 10]),
        (MONTH, "nov-february", [1, 2, 11, 12]),
    ],
)
def test_a_text_means_numbers(field: Field, text: str, numbers: list[int]) -> None:
    assert list(expand(field, text)) == numbers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("7", [0]), ("5-7", [0, 5, 6]), ("0-7", [0, 1, 2, 3, 4, 5, 6]), ("7-2", [0, 1, 2]),
        ("1-7/2", [0, 1, 3, 5]),
        ("sat-sun", [0, 6]), ("sun-7", [0, 1, 2, 3, 4, 5, 6]), ("*/7", [0]),
    ],
)  # fmt: skip
def test_for_unix_sunday_is_7_too(text: str, numbers: list[int]) -> None:
    assert list(expand(WEEKDAY, text, unix=True)) == numbers


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (7, "7"), ("7", "7"), ([7, 1], "1,7"), ({1, 7}, "7,1"), (range(1, 8, 6), "1,7"), (["1", 7], "1,7"),
        ((n for n in (1, 7)), "1,7"),
    ],
)  # fmt: skip
def test_a_field_is_a_number_a_text_or_several(given: object, written: str) -> None:
    assert nbq.crontab(given, tz="UTC") == nbq.crontab(minute=written, tz="UTC")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"minute": 60}, "minute: 60 is not in 0-59"),
        ({"hour": "24"}, "hour: 24 is not in 0-23"),
        ({"day_of_week": 7}, "day_of_week: 7 is not in 0-6; Sunday is 0"),
        ({"day_of_week": "mond"}, "day_of_week: 'mond' is no number or name"),
        ({"day_of_month": 0}, "day_of_month: 0 is not in 1-31"),
        ({"month_of_year": "mon"}, "month_of_year: 'mon' is no number or name"),
        ({"minute": "x"}, "minute: 'x' is no number"),
        ({"minute": "5/10"}, "minute: '5/10' has a step but no range; write 5-59/10"),
        ({"minute": "*/0"}, "minute: '*/0' has a step of 0"),
        *[
            ({"minute": text}, f"minute: {part!r} {NEITHER}")
            for text, part in [
                ("", ""), ("1,,2", ""), ("-1", "-1"), ("*/", "*/"), ("1-", "1-"), ("* *", "* *"),
                ("0  5", "0  5"),
                ("*/-2", "*/-2"), ("1.5", "1.5"), ("**", "**"), ("1-2-3", "1-2-3"), ("٣", "٣"),
            ]
        ],
        ({"minute": "@daily"}, f"minute: '@daily' {NEITHER}; from_string takes such a word"),
        ({"minute": []}, "minute: [] is no number, text or list of these"),
        ({"minute": True}, "minute: True is no number, text or list of these"),
        ({"minute": 1.0}, "minute: 1.0 is no number, text or list of these"),
        ({"hour": None}, "hour: None is no number, text or list of these"),
        ({"hour": b"1"}, "hour: b'1' is no number, text or list of these"),
        ({"hour": [1, 2.0]}, "hour: [1, 2.0] is no number, text or list of these"),
        ({"tz": "Mars/Olympus"}, "tz: there is no time zone 'Mars/Olympus': write one as in 'Asia/Shanghai'"),
        ({"tz": "../../zones"}, "tz: there is no time zone '../../zones': write one as in 'Asia/Shanghai'"),
        ({"tz": 8}, "tz: it is the name of a zone or a ZoneInfo, not 8"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(nbq.InvalidSchedule) as caught:
        nbq.crontab(**{"tz": "UTC", **fields})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "text", ["", "* * * *", "* * * * * *", "@reboot", "0 0 0 1 *", "60 * * * *", "* * * * 8"]
)
def test_lines_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(nbq.InvalidSchedule):
        nbq.crontab.from_string(text, tz="UTC")


def test_a_line_that_has_no_five_fields_says_what_it_lacks() -> None:
    with pytest.raises(nbq.InvalidSchedule) as caught:
        nbq.crontab.from_string("5 4 *", tz="UTC")
    assert str(caught.value) == (
        "'5 4 *' has 3 fields, not five (minute hour day-of-month month day-of-week), and is none of "
        "@yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly"
    )


@pytest.mark.parametrize(
    ("day", "month"), [("30", "2"), ("30,31", "feb"), ("31", "4,6,9,11"), ("31", "2,nov"), ("30-31", "2")]
)
def test_a_date_that_never_comes_is_refused_at_once(day: str, month: str) -> None:
    longest = 29 if month in {"2", "feb"} else 30
    message = (
        f"day_of_month {day!r} never comes in month_of_year {month!r}; the longest of them has {longest} days"
    )
    for made in (
        lambda: nbq.crontab(day_of_month=day, month_of_year=month, tz="UTC"),
        lambda: nbq.crontab.from_string(f"0 0 {day} {month} *", tz="UTC"),
    ):
        with pytest.raises(nbq.InvalidSchedule) as caught:
            made()
        assert str(caught.value) == message


def test_celery_wants_both_days_and_unix_either() -> None:
    both = nbq.crontab(day_of_month="1-7", day_of_week="mon", **EVERY_DAY)
    assert days(both, "2028-02-01", 3) == ["2028-02-07", "2028-03-06", "2028-04-03"]
    either = nbq.crontab.from_string("0 0 1,15 * mon", tz="UTC")
    assert days(either, "2028-02-01", 5) == [
        "2028-02-01", "2028-02-07", "2028-02-14", "2028-02-15", "2028-02-21",
    ]  # fmt: skip
    starred = nbq.crontab.from_string("0 0 */10 * mon", tz="UTC")  # a star: not given, says cron
    assert days(starred, "2028-02-01", 2) == ["2028-02-21", "2028-05-01"]
    mondays = nbq.crontab.from_string("0 0 30 2 1", tz="UTC")  # 30 February never comes, Mondays do
    assert days(mondays, "2028-02-20", 3) == ["2028-02-21", "2028-02-28", "2029-02-05"]


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("@yearly", "0 0 1 1 *"), ("@annually", "0 0 1 1 *"), ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"), ("@midnight", "0 0 * * *"), ("@Hourly ", "0 * * * *"),
        ("0\t0  * * *\n", "0 0 * * *"),
    ],
)  # fmt: skip
def test_words_and_blanks_of_unix(word: str, line: str) -> None:
    assert nbq.crontab.from_string(word, tz="UTC") == nbq.crontab.from_string(line, tz="UTC")


@pytest.mark.parametrize("weekday", range(7))
def test_a_leap_day_on_a_weekday_is_found_across_a_century_without_one(weekday: int) -> None:
    leaps = [date(year, 2, 29) for year in range(2080, 2140, 4) if year != 2100]
    expected = next(f"{day}" for day in leaps if day.isoweekday() % 7 == weekday)
    schedule = nbq.crontab(day_of_month=29, month_of_year=2, day_of_week=weekday, **EVERY_DAY)
    assert days(schedule, "2080-01-01", 1) == [expected]


def test_what_always_falls_into_the_gap_ends_the_search() -> None:
    """Clocks in Berlin go from 02:00 to 03:00 on the last Sunday of March, and this is when that is."""
    schedule = nbq.crontab("*", 2, day_of_month="25-31", month_of_year=3, day_of_week=0, tz="Europe/Berlin")
    assert schedule.next(datetime(2028, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize("year", [1, 9998, 9999])
def test_the_ends_of_the_calendar(year: int) -> None:
    moment = datetime(year, 12, 31, 23, 59, tzinfo=UTC) if year > 1 else datetime(1, 1, 1, tzinfo=UTC)
    schedules = [nbq.crontab(tz="Asia/Tokyo"), nbq.crontab(0, 0, tz="Asia/Tokyo"), nbq.every(3600, tz="UTC")]
    expected = [None, None, datetime(1, 1, 1, 1, tzinfo=UTC) if year == 1 else None]
    assert [schedule.next(moment) for schedule in schedules] == expected


def test_next_is_later_by_whole_minutes_and_in_its_own_zone() -> None:
    schedule = nbq.crontab(minute="*/10", tz="Asia/Kolkata")
    found = schedule.next(datetime(2028, 1, 1, 0, 0, 0, 1, tzinfo=UTC))
    assert (str(found), str(found.tzinfo)) == ("2028-01-01 05:40:00+05:30", "Asia/Kolkata")
    assert str(schedule.next(found)) == "2028-01-01 05:50:00+05:30"


def test_zones_of_the_past_whose_offsets_have_seconds() -> None:
    schedule = nbq.crontab(minute="*/30", tz="Africa/Monrovia")  # -00:44:30 until 1972
    after = datetime(1971, 12, 31, 12, 0, tzinfo=UTC)
    assert [at.isoformat() for at in schedule.upcoming(2, after)] == [
        "1971-12-31T11:30:00-00:44:30", "1971-12-31T12:00:00-00:44:30",
    ]  # fmt: skip


def test_the_fields_come_in_celerys_order() -> None:
    given = nbq.crontab(1, 2, 3, 4, 5, tz="UTC")
    assert given == nbq.crontab(
        minute=1, hour=2, day_of_week=3, day_of_month=4, month_of_year=5, tz="UTC"
    )  # fmt: skip
    assert [field.name for field in FIELDS] == [
        "minute", "hour", "day_of_week", "day_of_month", "month_of_year",
    ]  # fmt: skip
