"""Groups and sets know when their own members have ended, in whatever order, and look at nothing twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nbq import wire
from nbq.canvas.tree import Branch
from nbq.core.model import Graph, Nested, Slice
from nbq.ends import Ends
from nbq.errors import TaskRevoked, UnknownResult, UsageError, WaitTimeout
from nbq.members import Members, first_bad
from nbq.results import AsyncResult, handle
from nbq.resultsets import GroupResult, ResultSet
from tests.client.fakes import (
    FakeLink,
    chain_graph,
    failed,
    group_graph,
    revoked,
    run_id,
    settled,
    spec,
    worth,
)


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


def separate(link: Any, count: int) -> list[AsyncResult]:
    """Return handles of so many runs of one task each."""
    return [AsyncResult(link, link.run(number, chain_graph(1))) for number in range(count)]


def test_members_that_end_in_any_order_are_all_waited_for_and_no_others(link: Any) -> None:
    replica = link.run(1, Graph([spec(4)]))
    whole = [(replica, Slice(0, 0, 2)), (replica, Slice(0, 2, 4))]
    with Ends(link, whole) as all_of_it, Ends(link, whole[:1]) as part:
        seen = [(all_of_it.left, all_of_it.ended(), first_bad(whole), part.ended())]
        for lo in (2, 0, 1):
            link.end(replica, [settled(0, lo, lo + 1)])
            seen.append((all_of_it.left, all_of_it.ended(), first_bad(whole), part.ended()))
        link.end(replica, [revoked(0, 3)])
        seen.append((all_of_it.left, all_of_it.ended(), first_bad(whole), part.ended()))
        assert (all_of_it.bad, part.bad) == (True, False)
    assert [(ended, bad, own) for _, ended, bad, own in seen] == [
        (False, None, False),
        (False, None, False),
        (False, None, False),
        (False, None, True),
        (True, (replica, 0, 3), True),
    ]
    assert link.news == {replica.run: []}


@pytest.mark.parametrize("count", [100, 10_000])
def test_a_wait_looks_at_each_of_many_runs_once_before_and_once_after(
    link: Any, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    take = Ends._take
    monkeypatch.setattr(Ends, "_take", lambda self, *args: (looks.append(1), take(self, *args)))
    results = ResultSet(separate(link, count))
    with Ends(link, results._members.parts()) as waiting:
        for result in reversed(results.results):
            assert not waiting.settled()
            link.end(result._replica, [settled(0, 0, 1)])
        assert waiting.settled()
    assert len(looks) == 2 * count


def test_separate_calls_of_one_batch_are_one_part(link: Any) -> None:
    replica = link.run(1, Graph([spec(1000)], each=True))
    results = ResultSet([AsyncResult(link, replica, 0, index) for index in (*range(500), *range(700, 900))])
    assert results._members.parts() == [(replica, Slice(0, 0, 500)), (replica, Slice(0, 700, 900))]
    with Ends(link, results._members.parts(), keep=True) as waiting:
        link.end(replica, [settled(0, 400, 800)])
        assert (waiting.stirred(), waiting.left) == (True, 500)
        assert [entry[1:] for entry in waiting.fresh] == [(0, 400, 500), (0, 700, 800)]


def test_what_stirs_in_another_node_of_a_run_makes_all_of_it_looked_at(link: Any) -> None:
    replica = link.run(1, Graph([spec(), spec()]))
    with Ends(link, [(replica, Slice(0, 0, 1))]) as waiting:
        replica.node(0).add(settled(0, 0, 1))  # a replaced element ends when what it became has ended
        link.end(replica, [settled(1, 0, 1)])
        assert waiting.ended()


def test_a_run_that_the_hub_does_not_have_ends_the_wait(link: Any) -> None:
    results = ResultSet(separate(link, 3))
    results[1]._replica.error = UnknownResult("gone")
    for call in (lambda: results.get(0), lambda: results.wait(0), lambda: list(results.as_completed(0))):
        with pytest.raises(UnknownResult, match="gone"):
            call()


def test_a_set_gives_values_or_the_first_failure_in_order(link: Any) -> None:
    one, two, three = results = separate(link, 3)
    both = ResultSet(results)
    link.end(three._replica, *failed(three._replica, 0, 0, KeyError("three")))
    with pytest.raises(KeyError, match="three"):
        both.get(0)
    with pytest.raises(WaitTimeout, match=r"2 of 3 tasks of [-0-9a-f]{36} have not ended"):
        both.get(0, propagate=False)
    link.end(two._replica, *failed(two._replica, 0, 0, ValueError("two")))
    link.end(one._replica, *worth(one._replica, 0, 0, 1))
    with pytest.raises(ValueError, match="two"):
        both.get(0)
    called: list[tuple[str, object]] = []
    got = both.join(0, propagate=False, callback=lambda *args: called.append(args))
    assert [repr(value) for value in got] == ["1", "ValueError('two')", "KeyError('three')"]
    assert [(own, repr(value)) for own, value in called] == [
        (result.id, repr(value)) for result, value in zip(results, got, strict=True)
    ]
    assert (both.completed_count(), both.ready(), both.failed(), both.successful(), both.waiting()) == (
        1, True, True, False, False,
    )  # fmt: skip


def test_what_is_not_known_is_asked_for_once_a_run_and_waited_for(link: Any) -> None:
    replica = link.run(1, Graph([spec(3)], each=True))
    results = ResultSet(AsyncResult(link, replica, 0, index) for index in range(3))
    link.answers.append(wire.Answer(0, nodes=[{"QUEUED": 3}]))
    assert results.ready() is False
    link.end(replica, *worth(replica, 0, 0, "a", "b"))
    link.answers.append(wire.Answer(0, nodes=[{"SUCCESS": 2, "STARTED": 1}]))
    assert results.completed_count() == 2
    link.end(replica, [revoked(0, 2)])
    assert (results.ready(), results.failed(), results.completed_count()) == (True, False, 2)
    with pytest.raises(TaskRevoked):
        results.get(0)
    assert [message.what for message in link.asked] == ["nodes", "nodes"]


def test_members_come_and_go(link: Any) -> None:
    one, two, three = separate(link, 3)
    results = ResultSet([one])
    results.add(two)
    results.add(one)
    results.update([two, three])
    assert (len(results), results.results, results[1], list(results)) == (
        3, [one, two, three], two, [one, two, three],
    )  # fmt: skip
    results.remove(two)
    results.discard(two)
    results.discard(three.id)
    assert results.results == [one]
    with pytest.raises(KeyError):
        results.remove(two)
    results.clear()
    assert (results.results, results.get(), results.ready(), results.completed_count()) == ([], [], True, 0)
    assert list(results.as_completed()) == []


def test_what_cannot_be_a_member_is_refused(link: Any) -> None:
    own = ResultSet(separate(link, 1))
    with pytest.raises(UsageError, match="cannot hold 'abc'"):
        own.add("abc")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="two clients"):
        own.add(separate(FakeLink(), 1)[0])
    with pytest.raises(UsageError, match="in a circle"):
        own.add(own)
    with pytest.raises(UsageError, match="results come first"):
        GroupResult("an-id", separate(link, 1))  # type: ignore[arg-type]
    deep: ResultSet = own
    for _ in range(99):
        deep = ResultSet([deep])
    with pytest.raises(UsageError, match="100 deep"):
        ResultSet([deep])
    group = handle(link, link.run(9, group_graph(2)))
    with pytest.raises(UsageError, match="is what it is"):
        group.add(own[0])


def test_groups_in_sets_give_lists(link: Any) -> None:
    (one,) = separate(link, 1)
    replica = link.run(7, group_graph(2))
    results = ResultSet([one, handle(link, replica), ResultSet()])
    link.end(one._replica, *worth(one._replica, 0, 0, 1))
    link.end(replica, *worth(replica, 0, 0, 2, 3))
    assert results.get(0) == [1, [2, 3], []]
    assert [result.id for result in results.as_completed(0)] == [
        one.id, f"{run_id(7).hex()}-0-0", f"{run_id(7).hex()}-0-1",
    ]  # fmt: skip
    assert list(results.iter_native(0)) == [
        (result.id, {"task_id": result.id, "status": "SUCCESS", "result": value, "traceback": None})
        for result, value in [(one, 1), (results[1][0], 2), (results[1][1], 3)]
    ]


def test_one_failure_ends_what_awaits_many_and_all_ends_call_then_once(link: Any) -> None:
    one, two, three = separate(link, 3)
    results = ResultSet([one, two, three])
    called: list[object] = []

    async def main() -> None:
        async def wait() -> None:
            await results

        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        results.then(called.append)
        results.then(lambda _: called.append("not"), on_error=lambda _: called.append("bad"))
        link.end(two._replica, *failed(two._replica, 0, 0, ValueError("two")))
        with pytest.raises(ValueError, match="two"):
            await waiting
        link.end(one._replica, *worth(one._replica, 0, 0, 1))
        assert called == []
        link.end(three._replica, *worth(three._replica, 0, 0, 3))

    asyncio.run(main())
    assert called == [results, "bad"]
    assert link.calls == []


def test_parts_of_a_run_have_ids_of_their_own(link: Any) -> None:
    graph = Graph([spec(2), spec(after_list=0, fed=True)], [[Slice(0, 0, 2)]], Slice(1, 0, 1), before={})
    replica = link.run(1, graph)
    header = handle(link, replica).parent
    assert (header.id, header.parent) == (f"{run_id(1).hex()}-list-0", None)
    whole = handle(link, link.run(2, group_graph(2)))
    assert (whole.id, repr(whole)) == (run_id(2).hex(), f"<GroupResult {run_id(2).hex()} of 2>")
    assert whole == GroupResult.of(Members(link, whole._members.replica, Branch(0, [Slice(0, 0, 2)], [0, 2])))
    assert whole == run_id(2).hex() != header


def test_cancelling_a_set_asks_once_for_neighbours_and_for_whole_runs(link: Any) -> None:
    replica = link.run(1, Graph([spec(10)], each=True))
    chain = link.run(2, chain_graph(3))
    members = [AsyncResult(link, replica, 0, index) for index in (3, 4, 5)]
    results = ResultSet([*members, AsyncResult(link, chain, 2, 0), handle(link, link.run(3, group_graph(2)))])
    link.answers.extend(wire.Answer(0, count) for count in (2, 3, 3))
    assert results.revoke(terminate=True, signal="KILL") == 8
    assert link.asked == [
        wire.Cancel(0, run_id(3)),
        wire.Cancel(0, run_id(1), 0, 3, 6),
        wire.Cancel(0, run_id(2)),
    ]


def test_a_nested_value_of_a_run_is_a_list_in_a_list(link: Any) -> None:
    graph = Graph([spec(2), spec()], [[Slice(0, 0, 2)], [Nested(0), Slice(1, 0, 1)]], Nested(1))
    replica = link.run(1, graph)
    result = handle(link, replica)
    link.end(replica, *worth(replica, 0, 0, 1, 2))
    link.end(replica, *worth(replica, 1, 0, 3))
    assert (result.get(0), result[0].get(0), result[1].get(0)) == ([[1, 2], 3], [1, 2], 3)
