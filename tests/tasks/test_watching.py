"""Hooks of tasks, signals, coroutines that are interrupted, and tasks that go by value with all they have."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nbq
from nbq import payload, signals
from nbq.core.model import Options, State
from nbq.engines.coroutines import Coroutines
from nbq.engines.runner import Halted
from nbq.errors import InvalidSignature, SoftTimeLimitExceeded
from nbq.signals import (
    Signal,
    SlotEvent,
    TaskFailure,
    TaskPostrun,
    TaskPrerun,
    TaskPublish,
    TaskRetry,
    TaskRevoked,
    TaskSuccess,
)
from tests.tasks.stage import ID, Stage, error, state, value

seen: list[Any] = []


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    seen.clear()
    made = Stage(tmp_path)
    yield made
    made.close()


class Watched(nbq.Task):
    """Says what it is told."""

    max_retries = 1
    priority = 4

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        seen.append(("before_start", task_id, args, kwargs, self.request.id))

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        seen.append(("on_success", retval, task_id, args, kwargs))

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        seen.append(("on_failure", repr(exc), task_id, args, kwargs, "in watched" in str(einfo)))

    def on_retry(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        seen.append(("on_retry", repr(exc), task_id, args, kwargs, einfo.type.__name__))

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        seen.append(("after_return", status, repr(retval), einfo is not None))

    def on_replace(self, sig: Any) -> None:
        seen.append(("on_replace", str(sig)))


@nbq.task(base=Watched, bind=True)
def watched(self, how: str = "") -> str:
    if how == "retry":
        raise self.retry(exc=ValueError("why"))
    if how == "replace":
        self.replace(self.s("other"))
    if how == "ignore":
        raise nbq.Ignore
    if how:
        raise ValueError(how)
    return "done"


class Broken(nbq.Task):
    def on_success(self, *_: Any) -> None:
        raise RuntimeError("from the hook")


@nbq.task(base=Broken)
def harmless() -> int:
    return 1


def test_hooks_of_a_success(stage: Stage) -> None:
    assert value(stage.run(watched)) == "done"
    assert seen == [
        ("before_start", ID, (), {}, ID),
        ("on_success", "done", ID, (), {}),
        ("after_return", "SUCCESS", "'done'", False),
    ]


def test_hooks_of_a_failure(stage: Stage) -> None:
    assert str(error(stage.run(watched, "boom"))) == "boom"
    assert seen[1:] == [
        ("on_failure", "ValueError('boom')", ID, ("boom",), {}, True),
        ("after_return", "FAILURE", "ValueError('boom')", True),
    ]


def test_hooks_of_a_retry_and_of_the_end_of_retries(stage: Stage) -> None:
    assert state(stage.run(watched, "retry")) == State.RETRY
    assert state(stage.run(watched, "retry", retries=1)) == State.FAILURE
    assert [entry[:2] for entry in seen] == [
        ("before_start", ID), ("on_retry", "ValueError('why')"), ("after_return", "RETRY"),
        ("before_start", ID), ("on_failure", "ValueError('why')"), ("after_return", "FAILURE"),
    ]  # fmt: skip


def test_hooks_of_a_replacement_and_of_an_ignored_task(stage: Stage) -> None:
    assert state(stage.run(watched, "replace")) == State.WAITING
    assert state(stage.run(watched, "ignore")) == State.REVOKED
    assert [entry[0] for entry in seen] == ["before_start", "on_replace", "before_start"]


def test_what_a_hook_raises_is_printed_and_changes_nothing(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert value(stage.run(harmless)) == 1
    text = capsys.readouterr().err
    assert "nbq: Broken.on_success raised:" in text
    assert "RuntimeError: from the hook" in text


def test_a_base_class_sets_attributes_and_options() -> None:
    assert (watched.max_retries, watched.options, watched.run_options.priority) == (1, {"priority": 4}, 4)
    own = nbq.task(base=Watched, max_retries=3, priority=5)(len)
    assert (own.max_retries, own.options) == (3, {"priority": 5})
    with pytest.raises(InvalidSignature, match=r"base must be a subclass of nbq\.Task, not <class 'int'>"):
        nbq.task(base=int)(len)  # type: ignore[arg-type]


def test_a_task_takes_its_attributes_along_when_it_goes_by_value() -> None:
    @nbq.task(bind=True, base=Watched, max_retries=8, throws=KeyError)
    def local(self) -> None: ...

    kind, given = local.__reduce__()
    made = kind(*given)
    assert (type(made), made.traits, made.options) == (Watched, local.traits, {"priority": 4})
    assert made.traits == {"max_retries": 8, "throws": (KeyError,)}
    before = local.payload()
    local.max_retries = 9
    assert local.payload() != before
    with pytest.raises(InvalidSignature, match="max_retries"):
        local.max_retries = "many"  # type: ignore[assignment]


def test_a_class_that_goes_by_value_is_sent_again_when_it_changes() -> None:
    class Local(nbq.Task):
        def on_success(self, *_: Any) -> None: ...

    task = nbq.task(base=Local)(lambda: 1)
    before = task.payload()
    assert task.payload() is before
    Local.on_success = lambda self, *_: print("changed")  # type: ignore[method-assign]
    assert task.payload() != before


def test_a_task_that_is_not_checked_is_not() -> None:
    with pytest.raises(InvalidSignature):
        nbq.task(lambda x: x).check((), {})
    nbq.task(typing=False)(lambda x: x).check((), {})


# ---------------------------------------------------------------- signals


@contextlib.contextmanager
def listening(*names: str, sender: object = None) -> Iterator[None]:
    found: list[Signal[Any]] = [getattr(signals, name) for name in names]
    for one in found:
        one.connect(seen.append, sender=sender)
    try:
        yield
    finally:
        assert all(one.disconnect(seen.append, sender=sender) for one in found)


ALL = ["task_prerun", "task_postrun", "task_success", "task_failure", "task_retry", "task_revoked"]


@nbq.task(bind=True)
def quiet(self, how: str = "") -> str:
    return watched.run(self, how)


def test_signals_of_attempts(stage: Stage) -> None:
    with listening(*ALL):
        stage.run(quiet)
        stage.run(quiet, "boom")
        stage.run(quiet, "retry")
        stage.run(quiet, "ignore")
    name = quiet.name
    assert seen[:3] == [
        TaskPrerun(name, ID, (), {}),
        TaskSuccess(name, ID, "done"),
        TaskPostrun(name, ID, (), {}, "done", "SUCCESS"),
    ]
    failure, after = seen[4:6]
    assert isinstance(failure, TaskFailure)
    assert (failure.sender, failure.task_id, failure.args, failure.einfo.exception) == (
        name, ID, ("boom",), failure.exception,
    )  # fmt: skip
    assert (str(failure.exception), after.state, after.retval) == ("boom", "FAILURE", failure.exception)
    retry = seen[7]
    assert isinstance(retry, TaskRetry)
    assert (retry.sender, retry.task_id, repr(retry.reason)) == (name, ID, "ValueError('why')")
    assert seen[10] == TaskRevoked(name, ID, False)
    seen.clear()
    stage.run(quiet)
    assert (seen, signals.task_prerun in signals.watched) == ([], False)


def test_a_sender_is_a_task_or_a_name(stage: Stage) -> None:
    with listening("task_success", sender=quiet), listening("task_prerun", sender="another"):
        stage.run(quiet)
        stage.run(lambda: 1)
    assert seen == [TaskSuccess(quiet.name, ID, "done")]
    with pytest.raises(TypeError, match="a sender is a task"):
        signals.task_success.connect(print, sender=5)


def test_a_task_that_is_stopped_is_revoked(stage: Stage) -> None:
    def stop() -> None:
        raise Halted

    with listening("task_revoked"), pytest.raises(Halted):
        stage.run(stop)
    assert seen == [TaskRevoked("plain", ID, True)]


def test_a_callback_that_raises_changes_nothing(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    @signals.task_prerun.connect
    def broken(event: TaskPrerun) -> None:
        raise RuntimeError(event.task_id)

    try:
        assert value(stage.run(quiet)) == "done"
    finally:
        assert signals.task_prerun.disconnect(broken)
    assert not signals.task_prerun.disconnect(broken)
    text = capsys.readouterr().err
    assert "nbq: a callback of task_prerun raised:" in text
    assert f"RuntimeError: {ID}" in text


def test_a_callback_is_told_once_and_late_ones_of_what_lasts() -> None:
    signal: Signal[SlotEvent] = Signal("starts", lasting=True)
    told: list[SlotEvent] = []
    signal.connect(told.append)
    signal.connect(told.append)
    event = SlotEvent("here", os.getpid())
    signal.send(event)
    late: list[SlotEvent] = []
    signal.connect()(late.append)
    assert (told, late) == ([event], [event])
    with pytest.raises(TypeError, match="starts tells callables, not 5"):
        signal.connect(5)  # type: ignore[call-overload]


def test_calls_and_canvases_are_told_when_they_are_submitted() -> None:
    from nbq import publishing
    from nbq.canvas import plan

    run = bytes(16)
    planned = plan(nbq.group(quiet.s("a"), quiet.s("b").set(task_id="mine")))
    with listening("before_task_publish", "after_task_publish"):
        publishing.before_call("t", (1,), {"k": 2}, Options())
        publishing.before_plan(planned)
        publishing.after_plan(planned, run)
    name = quiet.name
    assert seen[-5:] == [
        TaskPublish("t", (1,), {"k": 2}, Options()),
        TaskPublish(name, ("a",), {}, Options()),
        TaskPublish(name, ("b",), {}, Options()),
        TaskPublish(name, ("a",), {}, Options(), f"{run.hex()}-0-0"),
        TaskPublish(name, ("b",), {}, Options(), "mine"),
    ]


# ---------------------------------------------------------------- coroutines


def test_an_interrupt_is_raised_where_a_coroutine_waits() -> None:
    coroutines = Coroutines()

    async def work() -> str:
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: coroutines.interrupt(SoftTimeLimitExceeded()))
        try:
            await asyncio.sleep(60)
        except SoftTimeLimitExceeded:
            await asyncio.sleep(0)
            return "in order"
        return "not at all"

    assert coroutines.run(work()) == "in order"


def test_an_interrupt_that_is_not_caught_ends_the_coroutine_and_what_it_started() -> None:
    coroutines = Coroutines()
    ended: list[str] = []

    async def part() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("part")

    async def work() -> None:
        asyncio.get_running_loop().call_later(0.01, lambda: coroutines.interrupt(Halted()))
        try:
            await asyncio.gather(part(), part())
        finally:
            ended.append("work")

    with pytest.raises(Halted):
        coroutines.run(work())
    assert sorted(ended) == ["part", "part", "work"]


def test_an_interrupt_in_the_middle_of_a_step_is_raised_there() -> None:
    coroutines = Coroutines()

    async def work() -> str:
        await asyncio.sleep(0)
        try:
            coroutines.interrupt(SoftTimeLimitExceeded())
        except SoftTimeLimitExceeded:
            return "at once"
        return "not at all"

    assert coroutines.run(work()) == "at once"
    with pytest.raises(SoftTimeLimitExceeded):
        coroutines.interrupt(SoftTimeLimitExceeded())


def test_a_cancelled_await_stays_cancelled() -> None:
    async def work() -> str:
        task = asyncio.ensure_future(asyncio.sleep(60))
        asyncio.get_running_loop().call_soon(task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return "cancelled"
        return "slept"

    assert Coroutines().run(work()) == "cancelled"


def test_the_traceback_of_a_coroutine_starts_in_it(stage: Stage) -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError("async")

    text = str(error(stage.run(fails)).__cause__)
    assert text.splitlines()[2].endswith("in fails")
    assert "asyncio" not in text.replace("asyncio.sleep", "")


def test_a_coroutine_that_exits_is_a_failure(stage: Stage) -> None:
    async def leaves() -> None:
        sys.exit(3)

    assert state(stage.run(leaves)) == State.FAILURE


# ---------------------------------------------------------------- values that are handles


def test_a_signature_can_be_a_value(stage: Stage) -> None:
    sig = value(stage.run(lambda: quiet.s(1) | quiet.s(2)))
    assert sig == quiet.s(1) | quiet.s(2)
    assert pickle.loads(pickle.dumps(sig)) == sig
    assert payload.loads(bytes(payload.dumps(quiet))) is quiet
