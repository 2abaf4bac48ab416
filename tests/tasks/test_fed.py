"""What elements are fed: failures for errbacks and in places of values, and what replaced elements became."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import nbq
from nbq import payload
from nbq.blocks import Alias, Block, Failed, Feed
from nbq.core.model import Many, On, Slice
from nbq.errors import IntegrityError, TaskFailed, TaskLost, TaskRevoked
from nbq.request import Request
from tests.engines.bench import feed_of
from tests.tasks.stage import KEY, RUN, Stage, error, value


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.close()


@nbq.task
def whole(*args: Any) -> Any:
    return [(str(arg), type(arg).__name__) if isinstance(arg, Exception) else arg for arg in args]


@nbq.task
def by_id(task_id: str) -> str:
    return task_id


@nbq.task
def by_id_and_own(task_id: str, own: str) -> tuple[str, str]:
    return task_id, own


@nbq.task
def by_request(request: Request, exc: Exception, traceback: str, own: str = "none") -> tuple[Any, ...]:
    return request, type(exc).__name__, str(exc), "in text" in traceback, own


@nbq.task(bind=True)
def bound(self, *args: Any) -> tuple[Any, ...]:
    return args


def failure(index: int = 0, error: BaseException | None = None) -> Block:
    """Return the block of a failed element of node 5."""
    element = payload.dump_failure(error or ValueError("boom"), "in text")
    data = payload.seal(KEY, payload.origin("result", RUN, 5, index), [element])
    return Block(5, index, 1, data, len(data), "", index, index, index + 1)


SCALAR = Feed(False, Slice(5, 0, 1), [failure()], failed=[Failed(5, 0, 1, 5)])
FAILED = f"{RUN.hex()}-5-0"


def test_an_errback_of_one_argument_gets_the_id(stage: Stage) -> None:
    assert value(stage.run(by_id, feed=SCALAR, on=On.FAILURE)) == FAILED
    assert value(stage.run(by_id_and_own, "mine", feed=SCALAR, on=On.FAILURE)) == (FAILED, "mine")


def test_an_errback_of_three_gets_request_exception_and_traceback(stage: Stage) -> None:
    found = value(stage.run(by_request, feed=SCALAR, on=On.FAILURE))
    assert found == (Request(id=FAILED), "ValueError", "boom", False, "none")
    assert value(stage.run(by_request, "mine", feed=SCALAR, on=On.FAILURE))[4] == "mine"


def test_a_bound_errback_gets_the_id(stage: Stage) -> None:
    assert value(stage.run(bound, feed=SCALAR, on=On.FAILURE)) == (FAILED,)


def test_an_errback_is_told_the_id_that_the_hub_says(stage: Stage) -> None:
    assert value(stage.run(by_id, feed=SCALAR, on=On.FAILURE, told="the-body")) == "the-body"
    named = msgspec.structs.replace(SCALAR, failed=[Failed(5, 0, 1, 5, id="given")])
    assert value(stage.run(by_id, feed=named, on=On.FAILURE)) == "given"


def test_an_immutable_errback_gets_its_own_arguments(stage: Stage) -> None:
    assert value(stage.run(by_id, "own", on=On.FAILURE)) == "own"


def test_each_errback_is_told_of_its_own_task(stage: Stage) -> None:
    failed = [Failed(5, 0, 1, 5), Failed(5, 1, 2, 5, 1, "lost", "its slots died")]
    feed = Feed(True, Slice(5, 0, 2), [failure()], failed=failed)
    work = stage.work(whole, on=On.FAILURE, hi=2)
    call = bytes(payload.dump_call((), {}))
    from nbq.engines.pipe import Feeding

    stage.runner.add_feed(Feeding(work.token, RUN, feed, ""))
    work = msgspec.structs.replace(work, calls=[call, call])
    stage.runner.prepare(work)
    found = [value(stage.runner.run(work, index, call)) for index in range(2)]
    request = [(Request(id=f"{RUN.hex()}-5-{index}")) for index in range(2)]
    assert [(got[0], got[1][1]) for got in found] == [(request[0], "ValueError"), (request[1], "TaskLost")]


def test_an_errback_after_a_list_is_told_of_the_first_failure(stage: Stage) -> None:
    failed = [Failed(5, 2, 3, 5), Failed(5, 0, 1, 5)]
    feed = Feed(False, Many([Slice(5, 0, 3)]), [failure(2, KeyError("second")), failure()], failed=failed)
    found = value(stage.run(by_request, feed=feed, on=On.FAILURE))
    assert (found[0], found[1]) == (Request(id=f"{RUN.hex()}-5-2"), "KeyError")


def test_a_failure_that_was_inherited_is_told_of_where_it_began(stage: Stage) -> None:
    feed = Feed(False, Slice(6, 3, 4), [failure(1)], failed=[Failed(6, 3, 4, 5, 1)])
    found = value(stage.run(by_request, feed=feed, on=On.FAILURE))
    assert (found[0], found[1]) == (Request(id=f"{RUN.hex()}-5-1"), "ValueError")


def test_a_failure_that_is_missing_is_said_to_be(stage: Stage) -> None:
    feed = Feed(False, Slice(5, 0, 1), [], failed=[Failed(5, 0, 1, 5)])
    found = error(stage.run(by_id, feed=feed, on=On.FAILURE))
    assert (type(found), str(found)) == (IntegrityError, "the hub sent no failure of element 0 of node 5")
    none = msgspec.structs.replace(feed, failed=[])
    assert str(error(stage.run(by_id, feed=none, on=On.FAILURE))) == "the hub sent no failure for an errback"


def test_exceptions_stand_in_the_places_of_values(stage: Stage) -> None:
    feed = feed_of({0: "a", 2: "c", 3: "d"}, Many([Slice(5, 0, 3), Many([Slice(5, 3, 5)])]))
    feed = msgspec.structs.replace(
        feed, blocks=[*feed.blocks, failure(1)],
        failed=[Failed(5, 1, 2, 5), Failed(5, 4, 5, 4, 0, "cancelled", "cancelled")],
    )  # fmt: skip

    @nbq.task
    def look(items: list[Any]) -> list[Any]:
        return [type(one).__name__ if isinstance(one, Exception) else one for one in [*items, *items[3]]]

    found = stage.run(look.run, feed=feed, on=On.SETTLED)
    built = value(found)
    assert built[:3] == ["a", "ValueError", "c"]
    assert built[4:] == ["d", TaskRevoked.__name__]


def test_a_replaced_element_has_the_value_of_what_it_became(stage: Stage) -> None:
    feed = feed_of({0: "a", 7: "x", 8: "y"}, Many([Slice(5, 0, 4)]))
    became = [
        Alias(5, 1, Slice(5, 7, 8)), Alias(5, 2, Many([Slice(5, 7, 9)])), Alias(5, 3, Slice(6, 0, 1)),
        Alias(6, 0, Slice(5, 8, 9)),
    ]  # fmt: skip
    feed = msgspec.structs.replace(feed, became=became)
    assert value(stage.run(whole, feed=feed)) == [["a", "x", ["x", "y"], "y"]]


def test_a_failed_replacement_is_one_exception(stage: Stage) -> None:
    feed = Feed(
        False, Many([Slice(5, 0, 1)]), [failure(7)], failed=[Failed(5, 0, 1, 5, 7)],
        became=[Alias(5, 0, Many([Slice(5, 7, 9)]))],
    )  # fmt: skip
    found = stage.run(lambda items: [type(one).__name__ for one in items], feed=feed, on=On.SETTLED)
    assert value(found) == ["ValueError"]


def test_replacements_without_end_are_refused(stage: Stage) -> None:
    there, back = Slice(6, 0, 1), Slice(5, 0, 1)
    for became in ([Alias(5, 0, there), Alias(6, 0, back)], [Alias(5, 0, Many([back]))]):
        found = error(stage.run(whole, feed=Feed(False, Slice(5, 0, 1), [], became=became)))
        assert (type(found), "is replaced without end" in str(found)) == (IntegrityError, True)


def test_a_task_may_have_been_replaced_very_often(stage: Stage) -> None:
    became = [Alias(5 + n, 0, Slice(6 + n, 0, 1)) for n in range(5000)]
    data = payload.seal(KEY, payload.origin("result", RUN, 5005, 0), [payload.dumps("end")])
    blocks = [Block(5005, 0, 1, data, len(data), "", 0, 0, 1)]
    assert value(stage.run(whole, feed=Feed(False, Slice(5, 0, 1), blocks, became=became))) == ["end"]


def test_values_of_additions_are_opened_for_their_scope(stage: Stage) -> None:
    scope = bytes(range(16, 32))
    data = payload.seal(KEY, payload.origin("result", RUN + scope, 2, 0), [payload.dumps("of a scope")])
    block = Block(9, 0, 1, data, len(data), "", 0, 0, 1, scope, 2)
    assert value(stage.run(whole, feed=Feed(False, Slice(9, 0, 1), [block]))) == ["of a scope"]
    other = payload.seal(KEY, payload.origin("result", bytes(16) + scope, 2, 0), [payload.dumps("swapped")])
    for moved in ({"inner": 3}, {"scope": bytes(16)}, {"data": other}):  # the last is of another run
        feed = Feed(False, Slice(9, 0, 1), [msgspec.structs.replace(block, **moved)])
        assert type(error(stage.run(whole, feed=feed))) is IntegrityError


def test_how_the_hub_ended_a_task_has_a_type(stage: Stage) -> None:
    for code, kind in [
        ("lost", TaskLost),
        ("refused", TaskFailed),
        ("cancelled", TaskRevoked),
        ("expired", TaskRevoked),
    ]:
        feed = Feed(False, Slice(5, 0, 1), [], failed=[Failed(5, 0, 1, 5, 0, code, "text")])
        found = value(stage.run(by_request, feed=feed, on=On.FAILURE))
        assert found[1:3] == (kind.__name__, f"text [task {FAILED}]")
