"""Options: their names, how they merge, and what they mean to the hub."""

import math
from datetime import UTC, datetime, timedelta, timezone, tzinfo

import pytest

from nbq.canvas import OPTION_NAMES, Signature, run_options
from nbq.canvas.options import (
    CALL_OPTIONS,
    ENTRY_OPTIONS,
    EXIT_OPTIONS,
    ClientOptions,
    RetryPolicy,
    _Hooks,
    bind_timezone,
    check_names,
    client_options,
    given_id,
    merge,
)
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
        "acks_late", "add_to_parent", "cancel_grace", "compression", "countdown", "eta", "expires",
        "fail_fast", "headers", "ignore_result", "label", "link", "link_error", "priority", "queue",
        "rate_limit", "result_compression", "result_serializer", "retry", "retry_policy", "serializer",
        "shadow", "soft_time_limit", "task_id", "time_limit",
    ]  # fmt: skip
    assert sorted(ENTRY_OPTIONS) == ["countdown", "eta"]
    assert sorted(EXIT_OPTIONS) == ["link", "task_id"]
    assert sorted(CALL_OPTIONS) == ["link", "link_error", "task_id"]


def test_an_option_that_does_not_exist_is_named_beside_those_that_do():
    with pytest.raises(InvalidSignature) as error:
        check_names({"queue": "a", "prioritty": 3})
    assert str(error.value) == (
        "there is no option 'prioritty'; the options are acks_late, add_to_parent, cancel_grace, compression,"
        " countdown, eta, expires, fail_fast, headers, ignore_result, label, link, link_error, priority,"
        " queue, rate_limit, result_compression, result_serializer, retry, retry_policy, serializer, shadow,"
        " soft_time_limit, task_id, time_limit"
    )


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("exchange", "name the queue that the task is to wait in, as in queue='reports'"),
        ("exchange_type", "name the queue that the task is to wait in, as in queue='reports'"),
        ("routing_key", "name the queue that the task is to wait in, as in queue='reports'"),
        ("delivery_mode", "how durable tasks are is one setting of the hub (durability)"),
        ("group_id", "a group keeps count by itself; no member needs its id"),
        ("chord", "a chord is written chord(header, body) or group(…) | body"),
    ],
)
def test_an_option_of_celery_that_means_nothing_is_refused_with_what_to_write(name, spelling):
    text = refused(**{name: "x"})
    assert text.startswith(f"there is no option {name!r}: ")
    assert spelling in text


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


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> list[tzinfo | None]:
    """Return a list whose only item is the configured zone."""
    configured: list[tzinfo | None] = [None]
    monkeypatch.setattr(_Hooks, "zone", None)
    bind_timezone(lambda: configured[0])
    return configured


@pytest.mark.parametrize("naive", [datetime(2026, 1, 2, 20), "2026-01-02T20:00:00"])
def test_a_time_without_a_zone_is_in_the_configured_one(zone, naive):
    zone[0] = timezone(timedelta(hours=8))
    assert run_options({"eta": naive}) == Options(eta_s=NOON.timestamp())
    assert run_options({"expires": naive}) == Options(expires_at_s=NOON.timestamp())


@pytest.mark.parametrize("name", ["eta", "expires"])
def test_a_time_without_a_zone_is_refused_where_none_is_configured(zone, name, monkeypatch):
    text = (
        f"{name}='2026-01-02T20:00' has no time zone and none is configured: write"
        " datetime(…, tzinfo=ZoneInfo('Europe/Paris')), or set timezone"
    )
    assert refused(**{name: "2026-01-02T20:00"}) == text
    monkeypatch.setattr(_Hooks, "zone", None)
    assert refused(**{name: "2026-01-02T20:00"}) == text
    assert zone == [None]


def test_limits_and_how_a_task_is_run_and_shown():
    given = {
        "time_limit": timedelta(minutes=1), "soft_time_limit": 50, "acks_late": False, "fail_fast": True,
        "shadow": "report", "result_serializer": "json", "result_compression": "zlib", "label": "night shift",
    }  # fmt: skip
    assert run_options(given) == Options(
        time_limit_s=60.0, soft_time_limit_s=50.0, acks_late=False, fail_fast=True, shadow="report",
        result_serializer="json", result_compression="zlib", label="night shift",
    )  # fmt: skip


def test_a_soft_limit_is_not_longer_than_the_limit():
    assert refused(soft_time_limit=5, time_limit=3) == (
        "soft_time_limit (5 s) is longer than time_limit (3 s), so it would never be met"
    )
    assert run_options({"soft_time_limit": 3, "time_limit": 3}).soft_time_limit_s == 3.0


@pytest.mark.parametrize(
    ("rate", "per_s"),
    [
        ("10/s", 10.0),
        ("120/m", 2.0),
        ("36/h", 0.01),
        ("5", 5.0),
        (0.5, 0.5),
        (7, 7.0),
        (0, None),
        ("0/m", None),
    ],
)
def test_a_rate_is_a_number_per_second(rate, per_s):
    assert run_options({"rate_limit": rate}) == Options(rate_limit=per_s)


@pytest.mark.parametrize("rate", ["fast", "10/d", "-1/s", -1, True, math.inf, "1/", [1]])
def test_what_is_no_rate_is_refused(rate):
    assert refused(rate_limit=rate) == (
        f"rate_limit must be a number per second or a text such as '10/s' or '100/m', not {rate!r}"
    )


def test_what_is_the_clients_business_is_kept_from_the_hub():
    given = {
        "serializer": "json", "compression": "zlib", "headers": {"trace": [1]}, "retry": False,
        "retry_policy": {"max_retries": 5, "interval_start": 1}, "add_to_parent": False, "priority": 3,
    }  # fmt: skip
    assert run_options(given) == Options(priority=3)
    assert client_options(given) == ClientOptions(
        "json", "zlib", {"trace": [1]}, False, RetryPolicy(max_retries=5, interval_start=1.0), False
    )
    assert client_options({"priority": 3, "serializer": None}) == ClientOptions()


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("serializer", "", "serializer"),
        ("compression", 5, "compression"),
        ("headers", ["a"], "headers"),
        ("headers", {1: 2}, "key` in `$.headers"),
        ("retry", "yes", "retry"),
        ("retry_policy", {"max_retries": -1}, "retry_policy.max_retries"),
        ("retry_policy", {"tries": 3}, "retry_policy"),
        ("add_to_parent", 1, "add_to_parent"),
    ],
)
def test_what_does_not_fit_the_client_is_refused_with_its_name(name, value, field):
    with pytest.raises(InvalidSignature) as error:
        client_options({name: value})
    assert str(error.value).startswith("an option does not fit: ")
    assert str(error.value).endswith(f"`$.{field}`" if "$" not in field else field + "`")


def test_links_of_several_places_are_added_and_equal_ones_are_one():
    one, two = Signature("a", (1,)), Signature("b")
    assert merge({"link": [one]}, {"link": two}) == {"link": [one, two]}
    assert merge({"link": one}, {"link": [Signature("a", (1,)), two]}) == {"link": [one, two]}
    assert merge({"link_error": [one]}, {"link_error": None}) == {"link_error": [one]}


def test_links_whose_arguments_cannot_be_compared_are_different():
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise ValueError("more than one element is ambiguous")

        __hash__ = None  # type: ignore[assignment]

    one, two = Signature("a", (Odd(),)), Signature("a", (Odd(),))
    assert [link is one for link in merge({"link": [one]}, {"link": [two, one]})["link"]] == [True, False]


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
        ("time_limit", 0, "time_limit_s"),
        ("soft_time_limit", -1, "soft_time_limit_s"),
        ("acks_late", 1, "acks_late"),
        ("fail_fast", "no", "fail_fast"),
        ("shadow", 5, "shadow"),
        ("result_serializer", 5, "result_serializer"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_name(name, value, field):
    text = refused(**{name: value})
    assert text.startswith("an option does not fit: Expected `")
    assert text.endswith(f" - at `$.{field}`")


@pytest.mark.parametrize("value", ["", "x" * 201, 5, "two\nlines", "\x1b[31m", "zero\u200bwidth"])
def test_a_label_is_one_line_of_what_can_be_seen(value):
    assert run_options({"label": "x" * 200}).label == "x" * 200
    assert refused(label=value) == f"label must be a text of 1 to 200 printable characters, not {value!r}"


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
