"""What a form for a schedule says at first, and that it means the same when it is sent back."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest

import nbq
from nbq.schedules import Schedule
from nbq.web.written import WhenForm, form_of, schedule_of

SCHEDULES = [
    nbq.crontab("*/5", "8-17", day_of_week="mon-fri", tz="Europe/Berlin"),
    nbq.crontab([5, 6], 4, tz="UTC"),
    nbq.crontab(0, 0, day_of_month="1-7", day_of_week="mon", tz="UTC"),
    nbq.crontab.from_string("0 5 1,15 * 0", tz="UTC"),
    nbq.crontab.from_string("@weekly", tz="Asia/Tokyo"),
    nbq.every(1.5, tz="UTC"),
    nbq.every(3600, datetime(2028, 1, 1), tz="Asia/Tokyo"),
    nbq.at(datetime(2131, 2, 28, 8, 30), tz="Asia/Tokyo"),
]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_form_means_what_it_was_made_of(schedule: Schedule) -> None:
    sent = msgspec.json.encode(form_of(schedule._timing))
    assert schedule_of(msgspec.json.decode(sent, type=WhenForm)) == schedule


def test_the_days_of_a_line_keep_their_meaning() -> None:
    line = {"kind": "crontab", "line": "0 5 1 * mon", "tz": "UTC"}
    either = schedule_of(msgspec.convert({**line, "unix": True}, WhenForm))
    both = schedule_of(msgspec.convert({**line, "unix": False}, WhenForm))
    assert (either, both) == (
        nbq.crontab.from_string("0 5 1 * mon", tz="UTC"),
        nbq.crontab(0, 5, "mon", 1, tz="UTC"),
    )
