"""Points 1 to 25 of the canvas: signatures and chains."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from nbq.canvas import Canvas, Leaf, Signature, chain, chord, group, plan, signature
from nbq.canvas.signature import _Hooks
from nbq.core.model import Slice
from nbq.errors import InvalidSignature, Reject, TaskRevoked
from tests.conformance.canvas.executor import Ran
from tests.conformance.canvas.tasks import (
    ExpectedError,
    add,
    become,
    call_signature,
    describe,
    each_plus,
    fail,
    i,
    ignore,
    log,
    mul,
    note,
    reject,
    show,
    told_id,
    tsum,
)

# ------------------------------------------------------------------ signatures


def test_point_01_arguments_of_a_call_come_first(run):
    assert run(show.s(3, k=1), (9,)).get() == [[9, 3], {"k": 1}]
    assert run(show.signature((1, 2), {"a": 33}), (3, 4), {"b": 66}).get() == [
        [3, 4, 1, 2],
        {"a": 33, "b": 66},
    ]


def test_point_02_new_keywords_and_options_win_and_none_is_ignored(run):
    assert run(add.s(1, y=5), (), {"y": 7}).get() == 8
    sig = add.s(1, 2).set(priority=5)
    assert [plan(sig, priority=priority).nodes[0].options.priority for priority in (None, 0, 9)] == [5, 0, 9]


def test_point_03_an_immutable_signature_takes_options_but_no_arguments(run):
    assert run(add.si(2, 2), (99,)).get() == 4
    assert plan(add.si(2, 2), (99,), queue="far").nodes[0].options.queue == "far"


def test_point_04_a_group_counts_by_itself_so_that_no_id_of_it_can_be_merged_away():
    with pytest.raises(InvalidSignature, match="no option 'group_id': a group keeps count by itself"):
        add.s(1, 1).set(group_id="x")
    planned = plan(group(add.s(1, 1), add.s(2, 2)) | tsum.s(), queue="far", priority=3)
    assert [node.header for node in planned.nodes] == [0, -1]


def test_point_05_links_are_lists_without_doubles(run):
    sig, callback = add.s(1, 1), note.s()
    assert sig.link(callback) is callback
    sig.link(note.s())
    assert sig.link_error(told_id.s()) == told_id.s()
    assert sig.on_error(told_id.s()) is sig
    assert (sig.options["link"], sig.options["link_error"]) == ([note.s()], [told_id.s()])
    assert (run(sig).get(), log) == (2, [("note", 2)])


def test_point_06_operands_are_not_changed_and_clones_are_deep():
    one, two = add.s(1).set(link=note.s()), add.s(2)
    before = one.to_dict(), two.to_dict()
    _ = one | two, chain(one, two), group(one, two) | one
    assert (one.to_dict(), two.to_dict()) == before
    for canvas in (group(one, two), chain(one, two), chord([one], two)):
        copy = canvas.clone()
        for member in copy.members():
            member.set(priority=9)
            member.options["link"] = []
        assert canvas != copy
    assert (one.to_dict(), two.to_dict()) == before


@pytest.mark.parametrize("outer", ["chain", "group", "chord"])
@pytest.mark.parametrize("inner", ["chain", "group", "chord"])
def test_point_07_json_rebuilds_signatures_at_every_depth(run, outer, inner):
    def make(kind: str, one: Canvas, two: Canvas) -> Canvas:
        return {"chain": chain(one, two), "group": group(one, two), "chord": chord([one], two)}[kind]

    canvas = make(outer, make(inner, i.si(1), i.si(2)), i.si(3).set(link=note.s()))
    again = signature(json.loads(json.dumps(canvas.to_dict())))
    assert again == canvas
    assert run(again).get() == run(canvas).get()
    assert run(describe.s(4) | call_signature.s()).get() == 5


def test_point_08_a_name_without_code_can_be_sent_and_links_may_be_data(run):
    planned = plan(signature("not.registered", (1,)))
    assert [(node.ref, node.calls) for node in planned.nodes] == [("not.registered", [((1,), {})])]
    assert planned.graph(lambda ref: b"0" * 16).nodes[0].bare_name is True
    sig = signature(add.name, (1, 1))
    sig.options["link"] = json.loads(json.dumps(note.s().to_dict()))
    assert (run(sig).get(), log) == (2, [("note", 2)])


@pytest.mark.parametrize(
    "build",
    [
        lambda: add.s(1) | 10,
        lambda: add.s(1) | None,
        lambda: 10 | add.s(1),
        lambda: group(add.s(1)) | 5,
        lambda: chord([add.s(1)], add.s(1)) | "x",
        lambda: chain(5),
        lambda: group([add.s(1), 5]),
        lambda: add.s(1) | add,
    ],
)
def test_point_09_what_is_no_signature_is_refused_at_once(build):
    with pytest.raises(TypeError, match=r"takes signatures, not "):
        build()


def test_point_10_a_call_runs_here_and_the_inversion_submits(monkeypatch):
    assert add.s(2)(3) == 5
    assert add.si(2, 2)(9) == 4

    class Result:
        def get(self) -> str:
            return "value"

    monkeypatch.setattr(_Hooks, "submit", lambda planned: Result())
    assert ~add.s(2, 2) == "value"


# ------------------------------------------------------------------ chains


@pytest.mark.parametrize(
    ("canvas", "value"),
    [
        (add.s(4, 4) | add.s(8) | add.s(16), 32),
        (chain(add.s(3, 4)), 7),
        (chain([chain(i.s(42))]), 42),
        (chain() | add.s(1, 1) | add.s(1), 3),
    ],
)
def test_point_11_chains_of_any_length(run, canvas, value):
    assert run(canvas).get() == value


def test_point_11_the_only_step_has_no_parent(run):
    assert [ended.value for ended in run(chain(add.s(3, 4))).parents()] == [7]


def test_point_12_an_empty_chain_gives_nothing_and_replaces_nothing(run):
    assert chain()() is None
    with pytest.raises(InvalidSignature, match="cannot replace with an empty chain"):
        run(become.s(chain().to_dict())).get()


def test_point_13_nested_chains_are_spliced():
    steps = [add.s(k) for k in range(4)]
    assert chain(steps[0], chain(*steps[1:])) == chain(*steps)
    assert chain(*steps[:2]) | chain(*steps[2:]) == chain(*steps)


def test_point_14_arguments_of_a_chain(run):
    assert run(chain(add.s(4) | mul.s(8)), (4,)).get() == 64


def test_point_15_arguments_reach_the_first_step_only(run):
    assert run(chain(add.s(), add.s(8), add.s(10)), (), {"x": 1, "y": 1}).get() == 20
    assert run(chain(show.s(), show.s()), (1,), {"a": 2}).get() == [[[[1], {"a": 2}]], {}]


def test_point_16_the_result_is_the_last_step_and_has_the_id_that_was_given(run):
    canvas = chain(add.s(1, 1), add.s(1), add.s(1))
    assert plan(canvas).tree == Leaf(2, 0)
    assert canvas.freeze("my-id").id == "my-id"
    assert [node.ids for node in plan(canvas).nodes] == [{}, {}, {0: "my-id"}]
    ran: Ran = run(canvas)
    assert [ended.value for ended in ran.parents()] == [4, 3, 2]
    assert ran.of().id == "my-id"


def test_point_17_each_step_follows_the_one_before():
    planned = plan(chain(add.s(1, 1), add.s(1), add.s(1)))
    assert [planned.parent(Slice(k, 0, 1)) for k in range(3)] == [None, Slice(0, 0, 1), Slice(1, 0, 1)]


def test_point_18_a_link_is_for_the_last_step_and_an_errback_for_every_one(run):
    assert (run(chain(i.s(1), add.s(1)), link=note.s()).get(), log) == (2, [("note", 2)])
    for failing in range(3):
        log.clear()
        steps = [fail.s() if k == failing else i.s(1) if k == 0 else add.s(1) for k in range(3)]
        ran = run(chain(steps), link=note.s(), link_error=told_id.s())
        assert (ran.state, log) == ("FAILURE", [("told_id", f"{fail.name}[0]")])


def test_point_19_links_of_inner_chains_stay_where_they_are(run):
    inner = chain(i.si("a"), add.s("b"))
    inner.link(note.s())
    inner.link_error(told_id.s())
    assert (run(chain(inner, add.s("c"))).get(), log) == ("abc", [("note", "ab")])
    log.clear()
    assert run(chain(inner, fail.s())).state == "FAILURE"
    assert log == [("note", "ab")]
    log.clear()
    assert run(chain(fail.s(), inner)).state == "FAILURE"
    assert log == []


def test_point_20_links_of_42_steps_run_42_times_and_their_errback_once(run):
    assert run(chain(i.s(1), *[i.s().set(link=note.s()) for _ in range(42)])).get() == 1
    assert log == [("note", 1)] * 42
    log.clear()
    ran = run(chain(fail.s().on_error(told_id.s()) for _ in range(42)))
    assert (ran.state, log) == ("FAILURE", [("told_id", f"{fail.name}[0]")])


def test_point_21_a_failure_is_that_of_everything_after_it(run):
    ran = run(chain(i.s(1), fail.s(), i.s(), i.s()))
    assert [ended.state for ended in ran.parents()] == ["FAILURE", "FAILURE", "FAILURE", "SUCCESS"]
    assert {ended.value for ended in ran.parents()[:3]} == {ExpectedError(1)}
    with pytest.raises(ExpectedError):
        ran.get()


def test_point_22_what_follows_an_ignored_or_rejected_task_does_not_run_and_get_says_so(run):
    for task, state, error in ((ignore, "REVOKED", TaskRevoked), (reject, "FAILURE", Reject)):
        log.clear()
        ran = run(chain(task.s(), note.s()))
        assert (ran.states, log) == ([state, state], [])
        with pytest.raises(error):
            ran.get()


def test_point_23_each_step_has_its_own_priority():
    planned = plan(chain(i.s(1).set(priority=3), i.s().set(priority=5)))
    assert [node.options.priority for node in planned.nodes] == [3, 5]


def test_point_24_an_eta_is_for_what_starts_first(run):
    eta = datetime(2030, 1, 1, tzinfo=UTC)
    canvas = chain(group(add.s(1, 2), add.s(3, 4)), tsum.s()).on_error(told_id.s())
    assert (run(canvas).get(), log) == (10, [])
    etas: list[Any] = [node.options.eta_s for node in plan(canvas, eta=eta).nodes]
    assert etas == [eta.timestamp(), None, None, None]


def test_point_25_a_long_chain_is_flat(run):
    canvas = chain(i.s(0), *[add.s(1) for _ in range(10_000)])
    ran = run(canvas)
    assert (ran.get(), len(ran.parents())) == (10_000, 10_001)
    assert len(canvas.tasks) == 10_001
    assert isinstance(canvas.tasks[0], Signature)
    assert run(each_plus.s([1], 1)).get() == [2]
