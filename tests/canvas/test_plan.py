"""Planning: the exact nodes, lists and value of each shape, options and ids in their places, limits."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from nbq.canvas import (
    EMPTY,
    Canvas,
    ClientOptions,
    Plan,
    RetryPolicy,
    Signature,
    bind_registry,
    chain,
    chord,
    group,
    plan,
    plan_replacement,
    signature,
)
from nbq.canvas.options import _Hooks, bind_defaults
from nbq.canvas.signature import _Hooks as SignatureHooks
from nbq.core.model import NONE, Nested, NodeSpec, Options, Slice
from nbq.errors import InvalidSignature
from tests.canvas.kit import FakeTask, address_of, graph_of, s, si

ONE = Slice(0, 0, 1)


def nodes(planned: Plan) -> list[tuple[str, int, int, int, bool]]:
    """Return task, size, node and list before, and whether it is fed, of each node."""
    graph_of(planned)
    return [(node.task, node.size, node.after_node, node.after_list, node.fed) for node in planned.nodes]


def refused(canvas: Canvas, **options: Any) -> str:
    with pytest.raises(InvalidSignature) as error:
        plan(canvas, **options)
    return str(error.value)


# ------------------------------------------------------------------ shapes


def test_a_signature_is_one_node():
    planned = plan(s("t", 1), (2,))
    assert nodes(planned) == [("t", 1, NONE, NONE, False)]
    assert (planned.lists, planned.value, planned.before) == ([], ONE, {})
    assert planned.nodes[0].calls == [((2, 1), {})]


def test_a_chain_is_a_node_for_each_step():
    planned = plan(s("a") | si("b") | s("c"))
    assert nodes(planned) == [("a", 1, NONE, NONE, False), ("b", 1, 0, NONE, False), ("c", 1, 1, NONE, True)]
    assert (planned.lists, planned.value) == ([], Slice(2, 0, 1))


def test_a_uniform_group_is_one_node():
    planned = plan(group(s("t", k) for k in range(4)))
    assert nodes(planned) == [("t", 4, NONE, NONE, False)]
    assert (planned.lists, planned.value) == ([[Slice(0, 0, 4)]], Nested(0))
    assert planned.nodes[0].calls == [((k,), {}) for k in range(4)]


def test_a_group_is_a_node_for_each_task_and_its_items_keep_their_order():
    planned = plan(group(s("a", 1), s("b", 2), s("a", 3), s("a", 4), s("b", 5)))
    assert nodes(planned) == [("a", 3, NONE, NONE, False), ("b", 2, NONE, NONE, False)]
    assert planned.lists == [[Slice(0, 0, 1), Slice(1, 0, 1), Slice(0, 1, 3), Slice(1, 1, 2)]]


def test_a_group_of_equal_chains_is_an_array_for_each_step():
    planned = plan(group(chain(s("a", k), s("b"), s("c")) for k in range(5)))
    assert nodes(planned) == [("a", 5, NONE, NONE, False), ("b", 5, 0, NONE, True), ("c", 5, 1, NONE, True)]
    assert (planned.lists, planned.value) == ([[Slice(2, 0, 5)]], Nested(0))


def test_options_and_immutability_split_an_array():
    planned = plan(group(s("t"), s("t").set(queue="far"), si("t"), s("t")))
    assert nodes(planned) == [("t", 2, NONE, NONE, False)] + [("t", 1, NONE, NONE, False)] * 2
    assert [node.options for node in planned.nodes] == [Options(), Options(queue="far"), Options()]
    assert planned.lists == [[Slice(0, 0, 1), Slice(1, 0, 1), Slice(2, 0, 1), Slice(0, 1, 2)]]


def test_a_chord_is_its_group_and_its_body():
    planned = plan(chord([s("a", 1), s("a", 2)], s("b")))
    assert nodes(planned) == [("a", 2, NONE, NONE, False), ("b", 1, NONE, 0, True)]
    assert (planned.lists, planned.value) == ([[Slice(0, 0, 2)]], Slice(1, 0, 1))


def test_an_immutable_body_waits_without_being_fed():
    assert nodes(plan(chord([s("a")], si("b")))) == [("a", 1, NONE, NONE, False), ("b", 1, NONE, 0, False)]


def test_a_group_after_a_step_follows_it_as_a_whole():
    planned = plan(s("a") | group(s("b", 1), s("b", 2)) | s("c"))
    assert nodes(planned) == [("a", 1, NONE, NONE, False), ("b", 2, 0, NONE, True), ("c", 1, NONE, 0, True)]
    assert (planned.value, planned.before) == (Slice(2, 0, 1), {0: ONE})


def test_groups_after_groups_follow_the_whole_list():
    planned = plan(chain(group(s("a"), s("a")), group(s("b"), s("b"), s("b")), s("c")))
    assert nodes(planned) == [("a", 2, NONE, NONE, False), ("b", 3, NONE, 0, True), ("c", 1, NONE, 1, True)]
    assert (planned.lists, planned.before) == ([[Slice(0, 0, 2)], [Slice(1, 0, 3)]], {1: Nested(0)})


def test_nested_groups_are_one_list_and_chains_that_end_in_groups_are_lists():
    planned = plan(group(s("a"), group(s("a"), group(s("a"))), chain(s("b"), group(s("c"), s("c")))))
    assert nodes(planned) == [
        ("a", 3, NONE, NONE, False),
        ("b", 1, NONE, NONE, False),
        ("c", 2, 1, NONE, True),
    ]
    assert (planned.lists, planned.value) == ([[Slice(2, 0, 2)], [Slice(0, 0, 3), Nested(0)]], Nested(1))


def test_a_group_of_one_member_in_a_chain_is_that_member_but_not_in_a_chord():
    unrolled = [("a", 1, NONE, NONE, False), ("b", 1, 0, NONE, True)]
    assert nodes(plan(chain(group(s("a")), s("b")))) == unrolled
    assert nodes(plan(s("a") | group(s("b")))) == unrolled
    assert nodes(plan(group(s("a")) | s("b"))) == [("a", 1, NONE, NONE, False), ("b", 1, NONE, 0, True)]


def test_an_empty_group_is_a_node_of_its_own_and_nothing_after_a_group():
    planned = plan(group())
    assert nodes(planned) == [(EMPTY, 1, NONE, NONE, False)]
    assert (planned.lists, planned.value) == ([], ONE)
    assert nodes(plan(chord([], s("b")))) == [(EMPTY, 1, NONE, NONE, False), ("b", 1, 0, NONE, True)]
    assert nodes(plan(s("a") | group() | s("b"))) == [
        ("a", 1, NONE, NONE, False), (EMPTY, 1, 0, NONE, False), ("b", 1, 1, NONE, True),
    ]  # fmt: skip
    assert nodes(plan(chain(group(s("a"), s("a")), group(), group()))) == [("a", 2, NONE, NONE, False)]
    assert nodes(plan(chord([s("a")], group()))) == [("a", 1, NONE, NONE, False)]


def test_empty_chains_are_no_steps():
    assert nodes(plan(chain(s("a"), chain(), s("b")))) == nodes(plan(s("a") | s("b")))
    assert refused(chain(chain())) == "an empty chain has no value and cannot be planned"
    assert refused(group(s("a"), chain())) == "an empty chain has no value; it cannot be a member or a body"
    with pytest.raises(InvalidSignature) as error:
        plan_replacement(chain(chain()))
    assert str(error.value) == "cannot replace with an empty chain: it has no value"
    assert nodes(plan_replacement(s("a") | s("b"))) == nodes(plan(s("a") | s("b")))
    assert refused(chord([s("a")], chain())) == "an empty chain has no value; it cannot be a member or a body"


def test_a_chord_needs_a_body():
    text = "a chord needs a body: chord(header, body) or chord(header)(body)"
    assert refused(chord([s("a")])) == text
    assert refused(group(s("b"), chord([s("a")]))) == text


# ------------------------------------------------------------------ arguments


def test_arguments_reach_what_starts_first_alone():
    planned = plan(chain(chord([s("a"), s("a", 2)], s("b")), s("c")), (1,), {"z": 4})
    assert [node.calls for node in planned.nodes] == [
        [((1,), {"z": 4}), ((1, 2), {"z": 4})],
        [((), {})],
        [((), {})],
    ]


def test_arguments_of_groups_and_chains_are_for_their_members():
    canvas = chain(s("a"), group(s("b", 1), si("b", 2)).clone((9,), {"k": 1}))
    assert [node.calls for node in plan(canvas).nodes] == [[((), {})], [((9, 1), {"k": 1})], [((2,), {})]]


def test_an_immutable_chain_is_not_fed_but_its_steps_are():
    canvas = s("a") | chain(s("b"), s("c")).set(immutable=True)
    planned = plan(canvas, (1,))
    assert nodes(planned) == [("a", 1, NONE, NONE, False), ("b", 1, 0, NONE, False), ("c", 1, 1, NONE, True)]


def test_the_very_same_arguments_are_held_once():
    big = ["x"] * 1000
    planned = plan(group(s("t", big) for _ in range(100)))
    assert (planned.nodes[0].size, planned.nodes[0].shared, planned.nodes[0].calls) == (
        100,
        True,
        [((big,), {})],
    )
    mixed = plan(group(*[s("t", big) for _ in range(3)], s("t", list(big))))
    assert (mixed.nodes[0].shared, mixed.nodes[0].calls) == (False, [((big,), {})] * 4)
    keyed = plan(group(s("t", x=big), s("t", x=big)))
    assert (keyed.nodes[0].shared, len(keyed.nodes[0].calls)) == (False, 2)


def test_a_plan_is_frozen():
    canvas = group(s("t", 1, a=2))
    planned = plan(canvas)
    member = canvas.tasks[0]
    member.set(queue="far")
    member.kwargs["a"] = 9
    canvas.tasks.append(s("t", 3))
    assert [(node.calls, node.options.queue) for node in planned.nodes] == [([((1,), {"a": 2})], "default")]


# ------------------------------------------------------------------ options and ids


def queues(planned: Plan) -> list[tuple[str, str, int]]:
    return [(node.task, node.options.queue, node.options.priority) for node in planned.nodes]


def test_options_apply_to_every_task_and_the_outer_win():
    canvas = chain(s("a").set(priority=1), group(s("b"), s("c").set(queue="own")).set(queue="g"))
    assert queues(plan(canvas)) == [("a", "default", 1), ("b", "g", 0), ("c", "g", 0)]
    assert queues(plan(canvas, queue="call", priority=None)) == [
        ("a", "call", 1),
        ("b", "call", 0),
        ("c", "call", 0),
    ]


def test_options_of_the_task_are_the_basis():
    task = FakeTask("t", queue="task", priority=7)
    assert queues(plan(chain(Signature(task), Signature(task, options={"queue": "sig"})))) == [
        ("t", "task", 7), ("t", "sig", 7),
    ]  # fmt: skip


def test_eta_and_countdown_are_for_what_starts_first():
    canvas = chain(s("a"), group(s("b"), s("c")), s("d").set(countdown=9))
    planned = plan(canvas, countdown=5)
    assert [node.options.countdown_s for node in planned.nodes] == [5.0, None, None, 9.0]
    eta = datetime(2026, 1, 1, tzinfo=UTC)
    planned = plan(chord([s("a"), s("b").set(countdown=3)], s("c")), eta=eta)
    assert [node.options for node in planned.nodes] == [Options(eta_s=eta.timestamp())] * 2 + [Options()]


def test_a_given_id_is_for_what_ends_last():
    assert [node.ids for node in plan(s("a") | s("b"), task_id="x").nodes] == [{}, {0: "x"}]
    assert [node.ids for node in plan(chord([s("a")], s("b")), task_id="x").nodes] == [{}, {0: "x"}]
    assert [node.ids for node in plan(chain(s("a"), group(s("b"))), task_id="x").nodes] == [{}, {0: "x"}]


def test_members_may_have_ids_and_still_are_one_array():
    planned = plan(group(s("t"), s("t").set(task_id="two"), s("t", 3).set(task_id="three")))
    assert [(node.size, node.ids) for node in planned.nodes] == [(3, {1: "two", 2: "three"})]


@pytest.mark.parametrize(
    "canvas",
    [
        group(s("a"), s("b")),
        group(),
        group(group(s("a"))),
        group(chain(s("a"), s("b"))),
        group(chain(s("a"), group(s("b"), s("c")))),
        chain(s("a"), group(s("b"), s("c"))),
        chain(s("a"), group()),
        chord([s("a")], group(s("b"), s("c"))),
    ],
)
def test_a_group_has_no_id_to_be_given(canvas):
    text = "a group has no single task to have a task_id; give one to a member"
    assert refused(canvas, task_id="x") == text
    assert refused(canvas.clone(task_id="x")) == text


def test_ids_must_differ_and_must_be_ids():
    assert (
        refused(group(s("a").set(task_id="x"), s("b").set(task_id="x")))
        == "two tasks have the same task_id 'x'"
    )
    assert refused(s("a"), task_id="") == "task_id must be a text of 1 to 200 characters, not ''"


def test_an_option_of_a_member_that_does_not_fit_is_named():
    assert refused(group(s("a", 1).set(queue=["x"]))) == "an option of a(1) does not fit: {'queue': ['x']}"
    assert refused(s("a"), countdown="soon") == "countdown must be a number of seconds, not 'soon'"
    assert refused(s("a"), colour=1).startswith("there is no option 'colour'")


def test_what_is_the_clients_business_is_beside_the_options():
    canvas = group(
        s("t").set(serializer="json", headers={"a": 1}), s("t").set(serializer="json", headers={"a": 1}),
        s("t").set(serializer="json", headers={"a": True}), s("t").set(compression="zlib", retry=False),
    )  # fmt: skip
    planned = plan(canvas, retry_policy={"max_retries": 1}, add_to_parent=False)
    assert [(node.size, node.serializer, node.compression, node.headers) for node in planned.nodes] == [
        (2, "json", "", {"a": 1}), (1, "json", "", {"a": True}), (1, "", "zlib", None),
    ]  # fmt: skip
    assert [node.options for node in planned.nodes] == [Options()] * 3
    assert planned.client == ClientOptions(retry_policy=RetryPolicy(max_retries=1), add_to_parent=False)


def test_retry_and_its_policy_split_no_array():
    assert len(plan(group(s("t"), s("t").set(retry=False, retry_policy={"max_retries": 2}))).nodes) == 1


def test_limits_and_fail_fast_of_a_group_are_for_every_member():
    planned = plan(group([s("a"), s("a"), s("b")], fail_fast=True, time_limit=5, rate_limit="30/m"))
    assert [node.options for node in planned.nodes] == [
        Options(fail_fast=True, time_limit_s=5.0, rate_limit=0.5)
    ] * 2
    assert refused(s("t").set(soft_time_limit=3), time_limit=2).startswith("soft_time_limit (3 s) is longer")


def test_options_of_the_configuration_lie_below_those_of_signatures(monkeypatch):
    class Configured:
        asks = True

        def basis(self, task: Any) -> Any:
            return {"priority": 1, "queue": "configured", **({} if isinstance(task, str) else task.options)}

        def routed(self, task: Any, args: Any, kwargs: Any, options: Any) -> Any:
            return {"queue": f"q{args[0]}", **options} if args else options

        def finish(self, options: Any) -> Any:
            return {name: value for name, value in options.items() if name != "ignore_result"}

    monkeypatch.setattr(_Hooks, "defaults", None)
    bind_defaults(Configured)
    canvas = group(
        s("t", 1), s("t", 2), s("t", 1), s("t"), s("t", 2).set(queue="own"),
        Signature(FakeTask("u", queue="task", ignore_result=True)),
    )  # fmt: skip
    assert [(node.size, node.options) for node in plan(canvas).nodes] == [
        (2, Options(queue="q1", priority=1)), (1, Options(queue="q2", priority=1)),
        (1, Options(queue="configured", priority=1)), (1, Options(queue="own", priority=1)),
        (1, Options(queue="task", priority=1)),
    ]  # fmt: skip


def test_the_name_of_a_task_that_is_known_here_is_as_good_as_the_task(monkeypatch):
    task = FakeTask("known", queue="own")
    monkeypatch.setattr(SignatureHooks, "lookup", None)
    bind_registry({"known": task}.get)
    planned = plan(group(s("known", 1), Signature(task, (2,)), s("unknown")))
    assert [(node.ref, node.size, node.options.queue) for node in planned.nodes] == [
        (task, 2, "own"), ("unknown", 1, "default"),
    ]  # fmt: skip
    assert [node.bare_name for node in graph_of(planned).nodes] == [False, True]


# ------------------------------------------------------------------ for the wire


def test_the_graph_of_a_plan():
    task = FakeTask("t", queue="q")
    graph = graph_of(
        plan(group(Signature(task, (1,)), Signature(task, (2,), options={"task_id": "x"})) | s("b"))
    )
    assert graph.nodes == [
        NodeSpec("t", address_of("t"), 2, options=Options(queue="q"), ids={1: "x"}, header=0),
        NodeSpec("b", address_of("b"), after_list=0, fed=True, shared=True, bare_name=True),
    ]
    assert (graph.lists, graph.value, graph.each) == ([[Slice(0, 0, 2)]], Slice(1, 0, 1), False)


# ------------------------------------------------------------------ size and limits


def test_ten_thousand_members_are_one_node():
    planned = plan(group(s("t", k) for k in range(10_000)) | s("sum"))
    assert nodes(planned) == [("t", 10_000, NONE, NONE, False), ("sum", 1, NONE, 0, True)]


def test_a_chain_of_ten_thousand_steps_is_planned_without_recursion():
    canvas = chain(s("t", k) for k in range(10_000))
    began = time.perf_counter()
    planned = plan(canvas)
    assert time.perf_counter() - began < 1.0
    assert (len(planned.nodes), planned.value) == (10_000, Slice(9_999, 0, 1))
    assert [node.after_node for node in planned.nodes] == list(range(-1, 9_999))


def test_a_chain_of_a_thousand_chords_stays_flat():
    planned = plan(chain(chord([s("a"), s("a")], s("b")) for _ in range(1000)))
    assert (len(planned.nodes), len(planned.lists)) == (2000, 1000)
    graph_of(planned)


@pytest.mark.parametrize("k", [8, 200])
def test_fans_and_joins_in_a_chain_stay_linear(k):
    canvas: Canvas = s("t")
    for _ in range(k):
        canvas = canvas | group(s("t"), s("t"), s("t")) | s("t")
    planned = plan(canvas, link_error=s("e"))
    tasks = [node for node in planned.nodes if node.task == "t"]
    assert (len(tasks), sum(node.size for node in tasks)) == (2 * k + 1, 4 * k + 1)
    assert (len(planned.lists), len(planned.nodes) - len(tasks)) == (k, 2 * k + 1)
    assert len(json.dumps(canvas.to_dict())) < 120 * (5 * k + 2)
    graph_of(planned)


def test_nothing_recurses_along_a_chain_of_ten_thousand_steps():
    canvas: Canvas = s("t", 0)
    began = time.process_time()
    for k in range(1, 10_000):
        canvas = canvas | s("t", k).on_error(s("e")).set(link=s("l"))
    assert len(plan(canvas.clone(), link=s("end")).nodes) == 20_001
    assert signature(json.loads(json.dumps(canvas.to_dict()))) == canvas
    assert repr(canvas) == "t(0) | t(1) | t(2) | t(3) | t(4) | t(5) | … 9994 more"
    assert time.process_time() - began < 5.0


def nest(depth: int, wrap: Any) -> Canvas:
    canvas: Canvas = s("t")
    for _ in range(depth):
        canvas = wrap(canvas)
    return canvas


@pytest.mark.parametrize(
    "wrap",
    [
        group,
        lambda inner: chain(inner, s("u")).set(queue="q"),
        lambda inner: chord([inner], s("u")),
        lambda inner: chord([s("u")], inner),
        lambda inner: group(s("u"), chain(s("u"), group(s("u"), inner))),
    ],
)
def test_canvases_that_are_nested_too_deep_are_refused(wrap):
    text = "canvases are nested more than 100 deep"
    graph_of(plan(nest(20, wrap)))
    assert refused(nest(120, wrap)) == text


def test_members_belong_to_the_header_that_a_body_joins():
    def headers(canvas: Canvas) -> list[tuple[str, int]]:
        return [(node.task, node.header) for node in plan(canvas).nodes]

    assert headers(chord([s("a")], s("b"))) == [("a", 0), ("b", NONE)]
    assert headers(chain(group(s("a"), s("c")), s("b"))) == [("a", 0), ("c", 0), ("b", NONE)]
    assert headers(chord([s("a")], group())) == [("a", NONE)]
    assert headers(chord([chord([s("a")], group())], s("b"))) == [("a", 1), ("b", NONE)]
