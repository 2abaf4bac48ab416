"""Results of real work: values, failures, waiting and iterating, what a task printed and how long it took."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import nbq
from tests.processes.harness import World, until
from tests.processes.work import add, block, fail, note, plus, shout, total


@nbq.task
def sleepy(seconds):
    time.sleep(seconds)
    return seconds


# ------------------------------------------------------------------ waiting


def test_get_gives_up_in_time_and_the_task_goes_on(shared: World, client: nbq.Client) -> None:
    result = block.delay(shared.mark("t"), shared.mark("t-gate"), "later")
    shared.marked("t")
    with pytest.raises(nbq.WaitTimeout) as caught:
        result.get(timeout=0.05)
    told, why = str(caught.value).split(". ", 1)
    assert told == f"task {result.id} has not ended after 0.05 s; it goes on"
    assert why.startswith(("It runs on engine ", "It was granted to engine "))  # running shows after a moment
    assert isinstance(caught.value, TimeoutError)
    assert (result.ready(), result.result, result.wait(0.01)) == (False, None, False)
    (shared.marks / "t-gate").touch()
    assert (result.get(30), result.ready(), result.result, result.wait(0)) == ("later", True, "later", True)


def test_a_map_yields_values_in_order_as_they_come(shared: World, client: nbq.Client) -> None:
    gates = [shared.mark(f"m{i}") for i in range(4)]
    result = client.map(block, [shared.mark("m")] * 4, gates, "abcd")
    values = iter(result)
    (shared.marks / "m1").touch()
    (shared.marks / "m0").touch()
    assert (next(values), next(values)) == ("a", "b")
    assert result.waiting() is True
    with pytest.raises(nbq.WaitTimeout, match="2 of 4 tasks"):
        result.get(0.05)
    (shared.marks / "m3").touch()
    (shared.marks / "m2").touch()
    assert list(values) == ["c", "d"]
    assert (len(result), result[3].get(), result[-1].get()) == (4, "d", "d")
    assert (result.waiting(), result.completed_count(), result.successful()) == (False, 4, True)
    with pytest.raises(IndexError):
        result[4]


def test_short_calls_do_not_wait_for_a_long_one_behind_them(shared: World, client: nbq.Client) -> None:
    gate, mark = shared.mark("long-gate"), shared.mark("long")

    def quick_or_long(i):
        if i == 700:
            block.run(mark, gate)
        return i

    assert client.map(quick_or_long, range(700)).get(30) == list(range(700))  # now they count as short
    result = client.map(quick_or_long, range(1000))
    shared.marked("long")
    until(lambda: result.completed_count() == 999, "the end of all short calls", 10)
    (shared.marks / "long-gate").touch()
    assert result.get(30) == list(range(1000))
    assert len(shared.lines("long")) == 1


def test_a_map_of_a_failing_call_yields_up_to_it(client: nbq.Client) -> None:
    result = client.map(lambda i: 12 // (3 - i), range(5))
    values = iter(result)
    assert [next(values) for _ in range(3)] == [4, 6, 12]
    with pytest.raises(ZeroDivisionError):
        next(values)
    with pytest.raises(ZeroDivisionError):
        result.get(30)
    got = result.get(30, propagate=False)
    assert [got[0], got[1], got[2], type(got[3]), got[4]] == [4, 6, 12, ZeroDivisionError, -12]
    assert (result.failed(), result.progress) == (True, {"SUCCESS": 4, "FAILURE": 1})


def test_as_completed_yields_handles_in_the_order_of_their_ends(shared: World, client: nbq.Client) -> None:
    gates = [shared.mark(f"a{i}") for i in range(2)]
    group = nbq.group(block.s(shared.mark("a"), gate, i) for i, gate in enumerate(gates)).delay()
    shared.marked("a", 2)
    ends = group.as_completed(timeout=30)
    (shared.marks / "a1").touch()
    assert next(ends) == group[1]
    (shared.marks / "a0").touch()
    assert [result.get() for result in ends] == [0]
    with pytest.raises(nbq.WaitTimeout):
        list(nbq.group([block.s(shared.mark("z"), shared.mark("never"))]).delay().as_completed(0.05))
    client.cancel_all()


def test_await_works_in_any_event_loop(client: nbq.Client) -> None:
    async def main() -> list[object]:
        one = await add.delay(1, 2)
        many = await nbq.group(add.s(i, i) for i in range(3)).delay()
        mapped = await client.map(add, [1, 2], [3, 4])
        both = await asyncio.gather(add.delay(1, 1), add.delay(2, 2))
        handles = [handle async for handle in nbq.group(add.s(i, i) for i in range(3)).delay()]
        with pytest.raises(ValueError, match="no"):
            await fail.delay("no")
        return [one, many, mapped, both, sorted(handle.get() for handle in handles)]

    assert asyncio.run(main()) == [3, [0, 2, 4], [4, 6], [2, 4], [0, 2, 4]]


def test_a_coroutine_that_stops_waiting_leaves_the_task_alone(shared: World, client: nbq.Client) -> None:
    result = block.delay(shared.mark("co"), shared.mark("co-gate"), "kept")

    async def main() -> str:
        async def wait():
            return await result

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait(), 0.05)
        (shared.marks / "co-gate").touch()
        return await wait()

    assert asyncio.run(main()) == "kept"


def test_then_calls_back_once_with_the_result(client: nbq.Client) -> None:
    called: list[tuple[str, object]] = []
    came = threading.Event()
    result = add.delay(1, 2)

    def callback(ended):
        called.append((ended.id, ended.get(0)))
        came.set()

    assert result.then(callback) is result
    assert came.wait(30)
    result.then(callback)
    assert called == [(result.id, 3)] * 2


# ------------------------------------------------------------------ looking


def test_a_result_knows_its_task(client: nbq.Client) -> None:
    result = add.delay(1, 2)
    assert (result.get(30), result.state, result.status, result.attempts) == (3, "SUCCESS", "SUCCESS", 1)
    assert (result.successful(), result.failed(), result.traceback, result.parent, result.children) == (
        True, False, None, None, [],
    )  # fmt: skip
    again = client.result(result.id)
    assert (again == result, again == result.id, hash(again) == hash(result), again.get(30)) == (
        True,
        True,
        True,
        3,
    )
    assert repr(result) == f"<AsyncResult {result.id} SUCCESS>"


def test_timing_is_of_the_task_itself(client: nbq.Client) -> None:
    before = time.time()
    result = sleepy.delay(0.1)
    assert result.get(30) == 0.1
    timing = result.timing
    assert sorted(timing) == ["seconds", "started"]
    assert before - 0.05 <= timing["started"] <= time.time() - 0.1
    assert 0.1 <= timing["seconds"] <= time.time() - before


def test_what_a_task_prints_is_its_own(client: nbq.Client) -> None:
    result = shout.delay()
    quiet = add.delay(1, 2)
    assert result.get(30) is None
    assert sorted(result.stdout.splitlines()) == ["from a child", "from os.write", "from print"]
    assert result.stderr == "to stderr\n"
    assert quiet.get(30) == 3
    assert (quiet.stdout, quiet.stderr) == ("", "")


def test_a_failed_task_keeps_what_it_printed(client: nbq.Client) -> None:
    def speak():
        print("last words")
        raise KeyError("gone")

    result = client.submit(speak)
    with pytest.raises(KeyError, match="gone"):
        result.get(30)
    assert result.stdout == "last words\n"


def test_an_unknown_id_raises(client: nbq.Client) -> None:
    with pytest.raises(nbq.UnknownResult, match="nobody"):
        client.result("nobody")
    with pytest.raises(KeyError):
        client.result("0" * 32)


def test_forget_drops_values_and_id(client: nbq.Client) -> None:
    result = add.delay(1, 2)
    assert result.get(30) == 3
    result.forget()
    with pytest.raises(nbq.UnknownResult):
        client.result(result.id)


def test_a_run_that_goes_on_cannot_be_forgotten(shared: World, client: nbq.Client) -> None:
    result = block.delay(shared.mark("f"), shared.mark("f-gate"))
    with pytest.raises(nbq.Refused, match="not finished; cancel it first") as caught:
        result.forget()
    assert caught.value.code == "unfinished"
    (shared.marks / "f-gate").touch()
    assert result.get(30) is None


# ------------------------------------------------------------------ canvas


def test_groups_in_groups_are_one_and_chains_that_end_in_groups_nest(client: nbq.Client) -> None:
    inner = nbq.group(plus.s(i) for i in range(1, 3))
    flat = nbq.group([add.s(0, 0), nbq.group([add.s(0, 1), add.s(0, 2)])]).delay()
    assert flat.get(30) == [0, 1, 2]
    result = nbq.group(
        [add.s(0, 0), nbq.chain(add.s(0, 0), inner), nbq.chain(add.s(1, 1), plus.s(y=5))]
    ).delay()
    assert result.get(30) == [0, [1, 2], 7]
    assert [type(member).__name__ for member in result] == ["AsyncResult", "GroupResult", "AsyncResult"]
    assert (result[1].get(), result[1][1].get(), result[1].parent.get(), result[2].parent.get()) == (
        [1, 2],
        2,
        0,
        2,
    )
    assert len(result.results) == 3
    again = client.result(result.id)
    assert again.get(30) == [0, [1, 2], 7]


def test_an_empty_group_is_an_empty_list(client: nbq.Client) -> None:
    assert nbq.group([]).delay().get(30) == []
    assert (nbq.group([]) | total.s()).delay().get(30) == 0


def test_a_chord_that_fails_raises_the_original_from_its_body(shared: World, client: nbq.Client) -> None:
    body = (nbq.group([add.s(1, 1), fail.s("in the header"), add.s(2, 2)]) | total.s()).delay()
    with pytest.raises(ValueError, match="in the header") as caught:
        body.get(30)
    assert "in fail\n" in str(caught.value.__cause__)
    failed = body.parent[1]
    where, why = caught.value.__notes__
    assert where.startswith(f"in task {failed.id}, on engine ")
    assert why == f"task {body.id} did not run because of it"
    until(body.parent.ready, "the siblings' end")
    assert [member.state for member in body.parent] == ["SUCCESS", "FAILURE", "SUCCESS"]
    assert body.state == "FAILURE"


def test_a_chain_that_fails_shows_it_in_every_later_step(shared: World, client: nbq.Client) -> None:
    never = shared.mark("step")
    last = nbq.chain(add.s(1, 1), fail.si("at two"), note.si(never), note.si(never)).delay()
    with pytest.raises(ValueError, match="at two"):
        last.get(30)
    steps = [last.parent.parent.parent, last.parent.parent, last.parent, last]
    assert [step.state for step in steps] == ["SUCCESS", "FAILURE", "FAILURE", "FAILURE"]
    assert steps[0].get() == 2
    assert [child.id for child in steps[0].children] == [steps[1].id]
    errors = [step.get(propagate=False) for step in steps[1:]]
    assert [(type(error), str(error)) for error in errors] == [(ValueError, "at two")] * 3
    assert [len(error.__notes__) for error in errors] == [1, 2, 2]
    assert shared.lines("step") == []


def test_a_large_argument_and_a_large_result_come_back_whole(client: nbq.Client) -> None:
    data = bytes(range(256)) * 20_000
    assert client.submit(lambda value: value[::-1], data).get(30) == data[::-1]
    result = client.map(lambda value: value * 2, [data, b"small", data])
    assert result.get(30) == [data * 2, b"smallsmall", data * 2]
