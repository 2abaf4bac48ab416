"""Nine schedules of a real application, in one week with a 29 February, by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

import nbq

SHANGHAI = timezone(timedelta(hours=8))
START, END = datetime(2028, 2, 26, tzinfo=SHANGHAI), datetime(2028, 3, 4, tzinfo=SHANGHAI)
DAYS = ["2028-02-26", "2028-02-27", "2028-02-28", "2028-02-29", "2028-03-01", "2028-03-02", "2028-03-03"]

WEEK = [
    ({"hour": "4,5,15,17", "minute": 50}, "04:50 05:50 15:50 17:50", 28),
    ({"hour": "5", "minute": 0}, "05:00", 7),
    ({"hour": 10, "minute": 0}, "10:00", 7),
    ({"hour": 1, "minute": 0}, "01:00", 7),
    (
        {"hour": "8,9,10,11,14,15,16,17,18,19,20,21,22", "minute": 0},
        "08:00 09:00 10:00 11:00 14:00 15:00 16:00 17:00 18:00 19:00 20:00 21:00 22:00",
        91,
    ),
    ({"hour": "5,10,14,18,22", "minute": 20}, "05:20 10:20 14:20 18:20 22:20", 35),
    ({"hour": "3", "minute": 20}, "03:20", 7),
    ({"hour": "3", "minute": 30}, "03:30", 7),
    ({"hour": 12, "minute": 10}, "12:10", 7),
]


@pytest.mark.parametrize(("fields", "times", "count"), WEEK)
def test_a_week_in_shanghai(fields: dict, times: str, count: int) -> None:
    schedule = nbq.crontab(**fields, tz="Asia/Shanghai")
    fired = schedule.upcoming(count + 1, after=START - timedelta(minutes=1))
    assert [at.isoformat() for at in fired[:-1]] == [
        f"{day}T{time}:00+08:00" for day in DAYS for time in times.split()
    ]
    assert fired[-1] >= END


def test_the_leap_day_in_utc() -> None:
    """All that the nine fire on 29 February in Shanghai, which begins at 16:00 of the 28th in UTC."""
    start = datetime(2028, 2, 28, 16, tzinfo=UTC)
    fired = sorted(
        f"{at.astimezone(UTC):%m-%d %H:%M}"
        for fields, _, _ in WEEK
        for at in nbq.crontab(**fields, tz="Asia/Shanghai").upcoming(20, after=start - timedelta(minutes=1))
        if at < start + timedelta(days=1)
    )
    assert fired == [
        "02-28 17:00", "02-28 19:20", "02-28 19:30", "02-28 20:50", "02-28 21:00", "02-28 21:20",
        "02-28 21:50", "02-29 00:00", "02-29 01:00", "02-29 02:00", "02-29 02:00", "02-29 02:20",
        "02-29 03:00", "02-29 04:10", "02-29 06:00", "02-29 06:20", "02-29 07:00", "02-29 07:50",
        "02-29 08:00", "02-29 09:00", "02-29 09:50", "02-29 10:00", "02-29 10:20", "02-29 11:00",
        "02-29 12:00", "02-29 13:00", "02-29 14:00", "02-29 14:20",
    ]  # fmt: skip
