"""Options: their names, how they merge, and what they mean to the hub."""

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest

from nbq.canvas import OPTION_NAMES, run_options
from nbq.canvas.options import ENTRY_OPTIONS, check_names, given_id, merge
from nbq.core.model import Options
from nbq.errors import InvalidSignature

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def refused(**options: object) -> str:
    with pytest.raises(InvalidSignature) as error:
        run_options(options)
    assert isinstance(error.value, TypeError)
    return str(error.value)


def test_the_names_of_options():
    assert sorted(OPTION_NAMES) == [
        "cancel_grace", "countdown", "eta", "expires", "ignore_result", "priority", "queue", "task_id",
    ]  # fmt: skip
    assert sorted(ENTRY_OPTIONS) == ["countdown", "eta"]


def test_an_option_that_does_not_exist_is_named_beside_those_that_do():
    with pytest.raises(InvalidSignature) as error:
        check_names({"queue": "a", "prioritty": 3})
    assert str(error.value) == (
        "there is no option 'prioritty'; the options are cancel_grace, countdown, eta, expires,"
        " ignore_result, priority, queue, task_id"
    )


@pytest.mark.parametrize(
    ("old", "new", "merged"),
    [
        ({}, {}, {}),
        ({"priority": 5}, {"priority": None}, {"priority": 5}),
        ({"priority": 5}, {"priority": 0}, {"priority": 0}),
        ({"queue": "a", "priority": 1}, {"queue": "b"}, {"queue": "b", "priority": 1}),
        ({"eta": NOON}, {"countdown": 5}, {"countdown": 5}),
        ({"countdown": 5}, {"eta": NOON}, {"eta": NOON}),
        ({"countdown": 5}, {"countdown": 0}, {"countdown": 0}),
        ({"countdown": 5}, {"eta": None}, {"countdown": 5}),
        ({"countdown": 5}, {"eta": NOON, "countdown": None}, {"eta": NOON}),
        ({}, {"eta": NOON, "countdown": 5}, {"eta": NOON, "countdown": 5}),
        ({}, {"countdown": 5, "eta": NOON}, {"eta": NOON, "countdown": 5}),
    ],
)
def test_new_options_win_and_none_leaves_the_old(old, new, merged):
    before = dict(old)
    assert merge(old, new) == merged
    assert old == before


def test_no_options_are_the_defaults():
    assert run_options({}) == Options()
    assert run_options({"queue": None, "task_id": "mine"}) == Options()


def test_options_mean_seconds_and_instants_to_the_hub():
    assert run_options(
        {
            "queue": "q",
            "priority": -3,
            "ignore_result": True,
            "cancel_grace": 2,
            "countdown": timedelta(minutes=1),
        }
    ) == Options(queue="q", priority=-3, ignore_result=True, cancel_grace_s=2.0, countdown_s=60.0)
    assert run_options({"expires": 30}) == Options(expires_s=30.0)
    assert run_options({"expires": timedelta(hours=1)}) == Options(expires_s=3600.0)


def test_instants_are_in_their_own_time_zone():
    assert run_options({"eta": NOON, "expires": NOON}) == Options(
        eta_s=NOON.timestamp(), expires_at_s=NOON.timestamp()
    )
    there = NOON.astimezone(timezone(timedelta(hours=8)))
    assert run_options({"eta": there}) == Options(eta_s=NOON.timestamp())
    assert run_options({"eta": "2026-01-02T12:00:00+00:00"}) == Options(eta_s=NOON.timestamp())
    naive = NOON.astimezone().replace(tzinfo=None)
    assert run_options({"expires": naive}) == Options(expires_at_s=NOON.timestamp())


def test_eta_and_countdown_exclude_each_other():
    text = "eta and countdown say the same thing; give one of them"
    assert refused(eta=NOON, countdown=3) == text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"eta": 5}, "eta must be a datetime, not 5; for seconds use countdown"),
        ({"eta": "noon"}, "eta='noon' is not an ISO date and time"),
        ({"expires": "soon"}, "expires='soon' is not an ISO date and time"),
        ({"countdown": "5"}, "countdown must be a number of seconds, not '5'"),
        ({"countdown": True}, "countdown must be a number of seconds, not True"),
        ({"expires": math.nan}, "expires must be a number of seconds, not nan"),
        ({"cancel_grace": math.inf}, "cancel_grace must be a number of seconds, not inf"),
    ],
)
def test_a_time_that_is_none_is_refused(options, text):
    assert refused(**options) == text


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("queue", "", "queue"),
        ("queue", 5, "queue"),
        ("priority", 1001, "priority"),
        ("priority", "high", "priority"),
        ("ignore_result", 1, "ignore_result"),
        ("cancel_grace", -1, "cancel_grace_s"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_name(name, value, field):
    text = refused(**{name: value})
    assert text.startswith("an option does not fit: Expected `")
    assert text.endswith(f" - at `$.{field}`")


@pytest.mark.parametrize("name", ["x", "a task", "x" * 200])
def test_a_given_id_is_a_short_text(name):
    assert given_id(name) == name


@pytest.mark.parametrize("name", ["", "x" * 201, 5, b"x"])
def test_what_cannot_be_an_id_is_refused(name):
    with pytest.raises(InvalidSignature) as error:
        given_id(name)
    assert str(error.value) == f"task_id must be a text of 1 to 200 characters, not {name!r}"


@pytest.mark.parametrize("name", ["0" * 32, "0" * 32 + "-1-2"])
def test_an_id_that_nbq_could_make_is_refused(name):
    with pytest.raises(InvalidSignature) as error:
        given_id(name)
    assert str(error.value) == f"task_id {name!r} looks like an id that nbq makes; choose another"
