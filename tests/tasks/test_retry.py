"""How attempts end other than by a value: retries, refusals, failures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import nbq
from nbq import payload
from nbq.core.events import Again
from nbq.core.model import Slice, State
from nbq.engines.runner import is_large, large
from nbq.errors import InvalidSignature, MaxRetriesExceededError, NotSerializable, TaskRevoked
from nbq.traits import backoff
from tests.engines.bench import feed_of
from tests.tasks.stage import KEY, RUN, Stage, error, more, state, value


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.close()


@nbq.task(bind=True)
def again(self, **given: Any) -> None:
    self.retry(**given)


@nbq.task(bind=True, max_retries=1, default_retry_delay=7)
def once_more(self, **given: Any) -> None:
    try:
        raise ValueError("boom")
    except ValueError as exc:
        self.retry(exc=exc, **given)


@nbq.task(bind=True, max_retries=None)
def for_ever(self) -> None:
    raise self.retry(countdown=1)


@nbq.task(bind=True)
def goes_on(self, fails: bool = False) -> str:
    self.retry(countdown=2, throw=False)
    if fails:
        raise KeyError("after")
    return "dropped"


@nbq.task(bind=True)
def others(self, *args: Any, **kwargs: Any) -> Any:
    if not self.request.retries:
        self.retry(args=(*args, "new"), kwargs={"k": 1}, countdown=0)
    return args, kwargs, self.request.headers


@nbq.task
def raises(kind: str) -> None:
    if kind == "retry":
        raise nbq.Retry("later", ValueError("why"), 5)
    if kind == "ignore":
        raise nbq.Ignore()
    raise nbq.Reject("not mine", requeue=kind == "requeue")


@nbq.task(
    autoretry_for=(OSError,), dont_autoretry_for=(FileNotFoundError,), retry_backoff=2, retry_jitter=False,
    retry_backoff_max=10, max_retries=5,
)  # fmt: skip
def flaky(kind: type[Exception]) -> None:
    raise kind("flaky")


@nbq.task(autoretry_for=Exception, retry_kwargs={"max_retries": 1, "countdown": 3})
def refused(kind: type[Exception]) -> None:
    raise kind()


@nbq.task(throws=(KeyError,))
def expected(kind: type[Exception]) -> None:
    raise kind("as expected")


def test_a_retry_is_reported_with_its_delay(stage: Stage) -> None:
    results = stage.results(stage.run(again))
    assert (results.states, results.elements, results.again) == (
        bytes([State.RETRY]), [], Again(180.0, None, "retry in 180 s"),
    )  # fmt: skip
    assert more(stage.run(again, kwargs={"countdown": timedelta(minutes=1)})).again == Again(
        60.0, None, "retry in 60 s"
    )
    eta = datetime(2031, 1, 1, tzinfo=UTC)
    found = more(stage.run(again, kwargs={"eta": eta})).again
    assert found == Again(0.0, eta.timestamp(), f"retry at {eta}")


def test_the_reason_and_the_tasks_own_delay_are_used(stage: Stage) -> None:
    assert more(stage.run(once_more)).again == Again(7.0, None, "ValueError: boom")


def test_over_the_limit_the_reason_is_raised(stage: Stage) -> None:
    found = error(stage.run(once_more, retries=1))
    assert (type(found), found.args) == (ValueError, ("boom",))
    assert state(stage.run(once_more, retries=1, kwargs={"max_retries": 2})) == State.RETRY


def test_over_the_limit_without_a_reason_there_is_an_error_of_its_own(stage: Stage) -> None:
    assert state(stage.run(again, retries=2)) == State.RETRY
    found = error(stage.run(again, retries=3, ids={0: "mine"}))
    assert type(found) is MaxRetriesExceededError
    assert str(found) == (
        f"{again.name} asked for one retry more than its max_retries, which is 3 [task mine]"
    )


def test_without_a_limit_there_is_none(stage: Stage) -> None:
    assert more(stage.run(for_ever, retries=10_000)).again == Again(1.0, None, "retry in 1 s")


def test_a_retry_that_is_not_raised_holds_unless_the_task_fails(stage: Stage) -> None:
    assert more(stage.run(goes_on)).again == Again(2.0, None, "retry in 2 s")
    assert type(error(stage.run(goes_on, kwargs={"fails": True}))) is KeyError


def test_other_arguments_become_those_of_the_next_attempt(stage: Stage) -> None:
    feed = feed_of({0: "fed"}, Slice(5, 0, 1))
    ended = stage.run(others, "own", feed=feed, headers={"h": 1})
    results = stage.results(ended)
    assert (state(ended), len(results.elements), results.serializer) == (State.RETRY, 1, "")
    # The hub feeds the next attempt as it did this one; what was fed is among its arguments already.
    ended = stage.again(stage.last_with(retries=1), results.elements[0])
    assert value(ended) == (("fed", "own", "new"), {"k": 1}, {"h": 1})


def test_other_arguments_are_serialised_like_the_first_ones(stage: Stage) -> None:
    results = stage.results(stage.run(others, 1, serializer="json"))
    assert results.serializer == "json"
    assert payload.load_call(results.elements[0], "json") == ((1, "new"), {"k": 1}, {"nbq.whole": True})


def test_arguments_that_cannot_be_serialised_are_a_failure(stage: Stage) -> None:
    def locked() -> None:
        import threading

        nbq.current_task.retry(args=(threading.Lock(),))

    assert type(error(stage.run(locked))) is NotSerializable


def test_large_arguments_become_a_file(stage: Stage) -> None:
    def more_of_it() -> None:
        nbq.current_task.retry(args=(bytes(400_000),))

    ended = stage.run(more_of_it)
    assert is_large(ended[1])
    results = large(KEY, stage.last, 0, ended, 0.1, b"")
    assert (results.states, results.elements, results.again is not None) == (bytes([State.RETRY]), [], True)
    where = payload.origin("args", RUN, 0, 0, stage.last.function)
    block = payload.unseal(KEY, where, payload.map_blob(stage.folder, results.blob))
    assert payload.load_call(block.element(0))[0] == (bytes(400_000),)


def test_a_large_failure_is_one(stage: Stage) -> None:
    stage.run(again)
    results = large(KEY, stage.last, 0, (int(State.FAILURE), bytes(400_000), "ValueError: x", None), 0.1, b"")
    assert (results.states, results.errors) == (bytes([State.FAILURE]), {0: "ValueError: x"})


def test_a_retry_has_no_options(stage: Stage) -> None:
    found = error(stage.run(again, kwargs={"queue": "other"}))
    assert type(found) is InvalidSignature
    assert "its option 'queue' cannot change: replace(signature)" in str(found)
    assert type(error(stage.run(again, kwargs={"eta": "soon"}))) is InvalidSignature


def test_what_a_task_raises_by_hand(stage: Stage) -> None:
    assert more(stage.run(raises, "retry")).again == Again(5.0, None, "ValueError: why")
    found = error(stage.run(raises, "retry", retries=3))
    assert (type(found), found.args) == (ValueError, ("why",))
    ignored = stage.run(raises, "ignore")
    assert (state(ignored), ignored[2], type(error(ignored))) == (State.REVOKED, "ignored", TaskRevoked)
    rejected = stage.run(raises, "reject")
    assert (state(rejected), type(error(rejected)), error(rejected).args) == (
        State.FAILURE, nbq.Reject, ("not mine", False),
    )  # fmt: skip
    requeued = more(stage.run(raises, "requeue")).again
    assert requeued is not None
    assert (requeued.delay_s, requeued.eta_s, requeued.counted) == (0.0, None, False)


@pytest.mark.parametrize(("retries", "delay"), [(0, 2.0), (1, 4.0), (2, 8.0), (3, 10.0), (4, 10.0)])
def test_listed_exceptions_lead_to_retries_by_themselves(stage: Stage, retries: int, delay: float) -> None:
    found = more(stage.run(flaky, ConnectionError, retries=retries)).again
    assert found == Again(delay, None, "ConnectionError: flaky")


def test_after_the_last_retry_the_exception_counts(stage: Stage) -> None:
    found = error(stage.run(flaky, ConnectionError, retries=5))
    assert (type(found), found.args) == (ConnectionError, ("flaky",))
    text = str(found.__cause__)
    assert "in flaky" in text
    assert "nbq/" not in text


def test_exceptions_that_are_left_out_do_not(stage: Stage) -> None:
    assert type(error(stage.run(flaky, FileNotFoundError))) is FileNotFoundError
    assert type(error(stage.run(flaky, KeyError))) is KeyError


def test_the_arguments_of_such_retries(stage: Stage) -> None:
    assert more(stage.run(refused, KeyError)).again == Again(3.0, None, "KeyError")
    assert type(error(stage.run(refused, KeyError, retries=1))) is KeyError
    assert state(stage.run(refused, nbq.Ignore)) == State.REVOKED
    assert type(error(stage.run(refused, nbq.Reject))) is nbq.Reject


def test_an_expected_error_has_no_frames(stage: Stage) -> None:
    assert str(error(stage.run(expected, KeyError)).__cause__) == "\nKeyError: 'as expected'\n"
    assert "in expected" in str(error(stage.run(expected, ValueError)).__cause__)


def test_called_directly_the_original_is_raised() -> None:
    with pytest.raises(ValueError, match="boom"):
        once_more()
    with pytest.raises(nbq.Retry, match="called directly"):
        again()


def test_backoff() -> None:
    assert [backoff(1.0, n, 600.0, False) for n in (0, 1, 5, 9, 10, 10_000)] == [1, 2, 32, 512, 600, 600]
    found = [backoff(1.0, 10, 600.0, True) for _ in range(500)]
    assert (0 <= min(found) < 100, 500 < max(found) <= 600) == (True, True)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("max_retries", -1), ("max_retries", 1.5), ("default_retry_delay", "soon"),
        ("default_retry_delay", float("nan")), ("autoretry_for", ("OSError",)), ("throws", (3,)),
        ("retry_kwargs", [1]), ("retry_backoff", -2), ("retry_backoff_max", True),
    ],
)  # fmt: skip
def test_attributes_that_do_not_fit_are_refused(name: str, wrong: Any) -> None:
    with pytest.raises(InvalidSignature, match=name):
        nbq.task(**{name: wrong})(time.sleep)
