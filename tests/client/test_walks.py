"""Walks over what follows what: of any length, each result once, without recursion."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from nbq import current, resultsets, wire
from nbq.core.model import Graph, NodeSpec, On, Slice, State
from nbq.core.views import ElementView
from nbq.errors import PayloadTooLarge, UnknownResult, UsageError, WaitTimeout
from nbq.results import AsyncResult, handle
from nbq.resultsets import GroupResult, ResultSet, result_from_tuple
from tests.client.fakes import FakeLink, chain_graph, failed, group_graph, run_id, settled, spec, worth

LONG = 10_000


class FakeClient:
    def __init__(self, link: Any) -> None:
        self._link = link
        self.closed = False


@pytest.fixture
def link() -> Iterator[Any]:
    made = FakeLink()
    client: Any = FakeClient(made)
    current.entered(client)
    yield made
    current.left(client)


def found(link: Any, number: int) -> wire.Found:
    """Return what a hub answers that is asked for a run."""
    return wire.Found(0, run_id(number), link.runs[run_id(number)].graph, 0.0)


def mixed() -> Graph:
    """Return first | group(a, b) | body, the first with a link and an errback."""
    return Graph(
        [
            spec(),
            spec(2, after_node=0, fed=True),
            spec(after_list=0, fed=True),
            spec(after_node=0, fed=True, on=On.LINK),
            spec(after_node=0, fed=True, on=On.FAILURE),
        ],
        [[Slice(1, 0, 2)]],
        Slice(2, 0, 1),
        before={0: Slice(0, 0, 1)},
    )


def ids(*places: tuple[int, int]) -> list[str]:
    return [f"{run_id(1).hex()}-{node}-{index}" for node, index in places]


@pytest.fixture
def ended(link: Any) -> list[AsyncResult]:
    """Return the results of the nodes of ``mixed``, which has succeeded."""
    replica = link.run(1, mixed())
    for node, values in [(0, (1,)), (1, (2, 3)), (2, (5,)), (3, ("linked",))]:
        link.end(replica, *worth(replica, node, 0, *values))
    link.end(replica, [settled(4, 0, 1, bytes([State.SKIPPED]))])
    return [AsyncResult(link, replica, node, 0) for node in range(5)]


# ------------------------------------------------------------------ chains


def test_a_chain_of_any_length_is_walked_without_recursion(link: Any) -> None:
    replica = link.run(1, chain_graph(LONG))
    for number in range(LONG):
        link.end(replica, *worth(replica, number, 0, number))
    first, last = AsyncResult(link, replica, 0, 0), AsyncResult(link, replica, LONG - 1, 0)
    depth = sys.getrecursionlimit()
    sys.setrecursionlimit(150)
    try:
        described = last.as_tuple()
        listed = last.as_list()
        walked = [one.index for _, one in first.iterdeps()]
        values = [value for _, value in first.collect()]
        leaf = first.get_leaf()
        graph = first.build_graph()
        link.answers.append(wire.Found(0, run_id(1), replica.graph, 0.0, LONG - 1, 0))
        again = result_from_tuple(described)
    finally:
        sys.setrecursionlimit(depth)
    assert listed == [f"{run_id(1).hex()}-{number}-0" for number in reversed(range(LONG))]
    assert (len(walked), values, leaf) == (LONG, list(range(LONG)), LONG - 1)
    assert repr(graph) == "<graph of 10,000 results, 9,999 edges>"
    assert (again, again.parent.parent.id) == (last, listed[2])
    assert [run for run, nodes in link.watched if len(nodes) == LONG] == [run_id(1)] * 4
    steps = 0
    while described is not None:
        (own, described), members = described
        assert (own, members) == (listed[steps], None)
        steps += 1
    assert steps == LONG


def test_what_follows_a_chain_that_has_not_ended_is_not_complete(link: Any) -> None:
    replica = link.run(1, chain_graph(3))
    link.end(replica, *worth(replica, 0, 0, "a"))
    first = AsyncResult(link, replica, 0, 0)

    def element(state: str) -> wire.Answer:
        view = ElementView(first.id, run_id(1), 1, 0, "t", state, 1)
        return wire.Answer(0, 1, elements=[view])

    link.answers.append(element("STARTED"))
    with pytest.raises(WaitTimeout, match=f"{run_id(1).hex()}-1-0 has not ended"):
        list(first.iterdeps())
    link.answers.append(element("PROGRESS"))
    assert [one.id for _, one in first.iterdeps(intermediate=True)] == ids((0, 0), (1, 0))


# ------------------------------------------------------------------ parents and children


def test_results_are_walked_back_to_the_first(ended: list[AsyncResult]) -> None:
    first, _, body, _, _ = ended
    header: Any = body.parent
    assert isinstance(header, GroupResult)
    assert [one.id for one in header] == ids((1, 0), (1, 1))
    assert (header.parent, first.parent) == (first, None)
    assert [member.parent for member in header] == [first, first]
    assert body.as_list() == ids((2, 0), (1, 0), (1, 1), (0, 0))
    assert body.as_tuple() == (
        (body.id, ((header.id, ((first.id, None), None)), [((one.id, None), None) for one in header])),
        None,
    )


def test_a_group_is_one_child_and_links_are_children_once_they_were_called(
    ended: list[AsyncResult],
) -> None:
    first, _, body, called, _ = ended
    header: Any = body.parent
    assert first.children == [header, called]
    assert header.children == header.results
    assert [one.children for one in header] == [[], []]


def test_links_of_what_has_not_ended_are_no_children(link: Any) -> None:
    replica = link.run(1, mixed())
    first = AsyncResult(link, replica, 0, 0)
    view = ElementView(first.id, run_id(1), 0, 0, "t", "STARTED", 1)
    link.answers.extend([wire.Answer(0, 1, elements=[view])] * 3)
    assert [type(one) for one in first.children] == [GroupResult]


def test_all_that_follows_is_met_once_with_its_value(ended: list[AsyncResult]) -> None:
    first, _, body, called, _ = ended
    header: Any = body.parent
    assert list(first.collect()) == [
        (first, 1), (header, [2, 3]), (called, "linked"), (header[0], 2), (header[1], 3), (body, 5),
    ]  # fmt: skip
    assert first.get_leaf() == 5
    graph = first.build_graph()
    assert graph.edges == [
        (first, header), (first, called), (header, header[0]), (header, header[1]), (header, body),
    ]  # fmt: skip
    assert graph.to_dot() == "\n".join(
        [
            "digraph results {",
            f'  r0 [label="t SUCCESS\\n{first.id}"];',
            f'  r1 [label="GroupResult of 2\\n{header.id}"];',
            f'  r2 [label="t SUCCESS\\n{called.id}"];',
            f'  r3 [label="t SUCCESS\\n{header[0].id}"];',
            f'  r4 [label="t SUCCESS\\n{header[1].id}"];',
            f'  r5 [label="t SUCCESS\\n{body.id}"];',
            "  r0 -> r1;",
            "  r0 -> r2;",
            "  r1 -> r3;",
            "  r1 -> r4;",
            "  r1 -> r5;",
            "}",
            "",
        ]
    )


def test_names_are_escaped_in_a_drawing(link: Any) -> None:
    replica = link.run(1, Graph([NodeSpec('say "hi" \\', bytes(16))], value=Slice(0, 0, 1)))
    link.end(replica, *worth(replica, 0, 0, 1))
    one = AsyncResult(link, replica, 0, 0)
    label = one.build_graph().to_dot().splitlines()[1]
    assert label == f'  r0 [label="say \\"hi\\" \\\\ SUCCESS\\n{one.id}"];'


def test_what_a_task_submitted_are_its_children_as_far_as_the_hub_has_them(link: Any) -> None:
    replica = link.run(1, chain_graph(1))
    link.run(2, group_graph(2))
    facts, blocks = worth(replica, 0, 0, "x", children=[run_id(2).hex(), "gone"])
    link.end(replica, facts, blocks)
    one = AsyncResult(link, replica, 0, 0)
    link.answers.extend([found(link, 2), UnknownResult("gone"), UnknownResult("gone")])
    (group,) = one.children
    assert (type(group), group.id) == (GroupResult, run_id(2).hex())
    assert [(message.what, message.text) for message in link.asked] == [
        ("find", run_id(2).hex()), ("find", "gone"), ("saved", "gone"),
    ]  # fmt: skip


def test_collect_raises_what_a_task_raised_unless_told_otherwise(link: Any) -> None:
    replica = link.run(1, chain_graph(1))
    link.end(replica, *failed(replica, 0, 0, KeyError("no")))
    one = AsyncResult(link, replica, 0, 0)
    with pytest.raises(KeyError, match="no"):
        list(one.collect())
    ((again, error),) = one.collect(propagate=False)
    assert (again, repr(error)) == (one, "KeyError('no')")


# ------------------------------------------------------------------ tuples and saved groups


def test_a_group_by_hand_comes_back_from_its_tuple(link: Any) -> None:
    one = AsyncResult(link, link.run(1, chain_graph(1)))
    two = AsyncResult(link, link.run(2, chain_graph(2)), 1)
    whole = handle(link, link.run(3, group_graph(2)))
    made = GroupResult([two, GroupResult([whole], id="inner"), one], id="outer", parent=one)
    described = made.as_tuple()
    assert described == (
        ("outer", ((one.id, None), None)),
        [
            ((two.id, ((two.parent.id, None), None)), None),
            (("inner", None), [((whole.id, None), [((part.id, None), None) for part in whole])]),
            ((one.id, None), None),
        ],
    )
    link.answers.extend([wire.Found(0, run_id(2), chain_graph(2), 0.0, 1, 0), found(link, 3)])
    link.answers.append(wire.Found(0, run_id(1), chain_graph(1), 0.0, 0, 0))
    again = result_from_tuple(described)
    assert (again.id, again.results) == ("outer", [two, made[1], one])
    assert again[1].results == [whole]
    link.answers.append(wire.Found(0, run_id(1), chain_graph(1), 0.0, 0, 0))
    assert (again.parent, again.as_tuple()) == (one, described)


@pytest.mark.parametrize("value", ["text", (1, 2, 3), None, ("id", None)])
def test_what_is_no_such_tuple_is_refused(link: Any, value: Any) -> None:
    with pytest.raises(UsageError, match=r"\(\(id, parent\), members\)"):
        result_from_tuple(value)


def test_a_set_is_saved_as_ids_and_found_again(link: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = link.run(1, Graph([spec(3)], each=True))
    made = ResultSet(
        [*(AsyncResult(link, replica, 0, index) for index in range(3)), ResultSet(id="in")], "set"
    )
    link.answers.append(wire.Answer(0, 1))
    assert made.save() == "set"
    (saved,) = link.asked
    link.asked.clear()
    link.answers.extend([UnknownResult("no set"), wire.Answer(0, saved=saved.data)])
    link.answers.append(wire.Found(0, run_id(1), replica.graph, 0.0, 0, 0))
    again = GroupResult.restore("set")
    assert (again, again.results, type(again)) == (made, made.results, GroupResult)
    assert [message.what for message in link.asked] == ["find", "saved", "find"]
    link.answers.extend([wire.Answer(0, 1), wire.Answer(0, 0)])
    assert (again.delete(), again.delete()) == (True, False)
    assert link.asked[-1] == wire.Save(0, "set", b"")
    monkeypatch.setattr(resultsets, "_SAVED_BYTES", 100)
    with pytest.raises(PayloadTooLarge, match="the limit is 100"):
        made.save()


def test_a_group_of_a_run_is_kept_with_its_run(link: Any) -> None:
    whole = handle(link, link.run(1, group_graph(2)))
    assert (whole.save(), whole.delete(), link.asked) == (run_id(1).hex(), False, [])
    link.answers.append(found(link, 1))
    assert GroupResult.restore(whole.id) == whole
    replica = link.run(2, mixed())
    header = AsyncResult(link, replica, 2, 0).parent
    link.answers.extend([found(link, 2), found(link, 2)])
    assert ResultSet.restore(header.save()).results == header.results
    with pytest.raises(UnknownResult, match="has no group"):
        ResultSet.restore(f"{run_id(2).hex()}-list-7")


def test_what_is_not_saved_or_no_group_cannot_be_restored(link: Any) -> None:
    link.answers.extend([UnknownResult("nothing of this id"), wire.Answer(0)])
    with pytest.raises(UnknownResult, match="nothing of this id"):
        GroupResult.restore("nobody")
    link.run(1, chain_graph(1))
    link.answers.append(wire.Found(0, run_id(1), chain_graph(1), 0.0, 0, 0))
    with pytest.raises(UnknownResult, match="is a task, not a group"):
        GroupResult.restore(f"{run_id(1).hex()}-0-0")
