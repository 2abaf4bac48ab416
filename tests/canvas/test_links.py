"""Links and errbacks: how they are given, and the nodes that they become beside the value."""

import json
from typing import Any

import pytest

from nbq.canvas import Canvas, Signature, chain, chord, group, plan, signature
from nbq.core.model import NONE, Nested, On, Slice
from nbq.errors import InvalidSignature
from tests.canvas.kit import graph_of, s, si

L, E = s("link"), s("err")


def hanging(canvas: Canvas, **options: Any) -> list[tuple[str, int, Any, str, Any]]:
    """Return task, size, what it follows, on what, and (of errbacks) what must have succeeded."""
    planned = plan(canvas, **options)
    graph_of(planned)
    found = []
    for node in planned.nodes:
        after = f"list {node.after_list}" if node.after_list != NONE else node.after_node
        given = f"list {node.given_list}" if node.given_list != NONE else node.given_node
        if node.on in (On.LINK, On.FAILURE):
            found.append((node.task, node.size, after, node.on.name, given))
    return found


# ------------------------------------------------------------------ how they are given


def test_link_and_link_error_return_the_callback_and_on_error_the_signature():
    sig = s("t")
    assert sig.link(L) is L
    assert sig.link_error(E) is E
    assert sig.on_error(s("other")) is sig
    assert sig.options == {"link": [L], "link_error": [E, s("other")]}


def test_an_equal_link_is_not_added_again():
    sig = s("t")
    sig.link(L)
    sig.link(s("link"))
    sig.link(s("link", 1))
    assert sig.options == {"link": [s("link"), s("link", 1)]}


@pytest.mark.parametrize("given", [L, [L], (L,), L.to_dict(), [L.to_dict()]])
def test_links_are_given_as_one_or_several_and_as_canvases_or_data(given):
    wanted = hanging(s("t"), link=[L])
    assert Signature("t", options={"link": given}) == Signature("t", options={"link": [L]})
    made = [s("t").set(link=given), signature("t", link=given), s("t").clone(link=given)]
    assert [hanging(sig) for sig in made] == [wanted] * 3
    assert hanging(s("t"), link=given) == wanted
    raw = s("t")
    raw.options["link"] = given
    assert hanging(raw) == wanted
    assert raw.to_dict() == made[0].to_dict()


def test_set_replaces_links_and_a_call_adds_them():
    sig = s("t").set(link=L)
    assert sig.clone(link=s("other")).options["link"] == [L, s("other")]
    assert [found[0] for found in hanging(sig, link=s("other"))] == ["link", "other"]
    assert sig.set(priority=3).options == {"link": [L], "priority": 3}
    assert sig.set(link=s("other")).options["link"] == [s("other")]
    assert sig.set(link=[]).options["link"] == []
    assert hanging(sig) == []


def test_a_clone_shares_no_link_and_a_callback_that_was_linked_is_shared():
    sig, callback = s("t"), s("link")
    sig.link(callback).link(s("then"))
    copy = sig.clone()
    assert copy == sig
    callback.set(priority=9)
    assert copy.options["link"][0].options == {"link": [s("then")]}
    assert sig.options["link"][0].options == {"link": [s("then")], "priority": 9}


def test_replace_gives_a_copy_with_other_arguments_and_options():
    sig = s("t", 1, a=2).set(priority=3, immutable=True)
    assert sig.replace() == sig
    assert sig.replace(args=[5]) == si("t", 5, a=2).set(priority=3)
    assert sig.replace(kwargs={}) == si("t", 1).set(priority=3)
    assert sig.replace(options={"link": L}) == si("t", 1, a=2).set(link=L)
    assert sig == si("t", 1, a=2).set(priority=3)


def test_freeze_gives_what_ends_last_its_id():
    canvas = chain(s("a"), s("b"))
    assert canvas.id is None
    assert canvas.freeze("mine") is canvas
    assert canvas.id == "mine"
    assert [node.ids for node in plan(canvas).nodes] == [{}, {0: "mine"}]


def test_links_at_every_depth_come_back_through_json():
    deep = chain(s("a").set(link=chord([s("b").on_error(group(E))], L)), s("c")).set(
        link_error=[E, s("x", 1)]
    )
    canvas = group(deep, chord([deep], s("d"), propagate=False)).set(link=deep.clone())
    text = json.dumps(canvas.to_dict())
    again = signature(json.loads(text))
    assert again == canvas
    assert json.dumps(again.to_dict()) == text
    assert graph_of(plan(again)) == graph_of(plan(canvas))


def test_a_canvas_as_an_argument_is_plain_data_too():
    assert s("t", L, then=E).to_dict()["args"] == [L.to_dict()]
    assert s("t", L, then=E).to_dict()["kwargs"] == {"then": E.to_dict()}


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (
            lambda: s("t").link(5),
            "link takes signatures, not 5 (int): a value is given as an argument of one, as in task.s(5)",
        ),
        (
            lambda: s("t").set(link_error=[L, 5]),
            "link_error takes signatures, not 5 (int): a value is given as an argument of one, as in"
            " task.s(5)",
        ),
        (
            lambda: group(s("a"), group(s("b"), s("c")).set(link=L)).delay(),
            "a group in a group becomes part of it, so there is no list of its own to feed a link with: link"
            " the outer group, or write the inner one as group(…) | callback",
        ),
    ],
)
def test_what_cannot_be_linked_is_refused(build, text):
    with pytest.raises(InvalidSignature) as error:
        build()
    assert str(error.value) == text


def test_nothing_can_be_its_own_callback():
    sig, callback = s("t"), s("c")
    with pytest.raises(InvalidSignature, match=r"link: t\(\) would be called by itself; clone\(\) it first"):
        sig.link(sig)
    sig.link(chain(s("x"), callback))
    with pytest.raises(InvalidSignature, match=r"link_error: t\(\) would be called by itself"):
        callback.link_error(sig)
    sig.link(sig.clone())
    assert len(sig.options["link"]) == 2


# ------------------------------------------------------------------ what they follow


def test_of_a_task_they_follow_it():
    assert hanging(s("t").set(link=[L, s("m")], link_error=E)) == [
        ("link", 1, 0, "LINK", NONE), ("m", 1, 0, "LINK", NONE), ("err", 1, 0, "FAILURE", NONE),
    ]  # fmt: skip
    planned = plan(s("t").set(link=[L, si("m", 1)], link_error=si("err")))
    assert [(node.fed, node.calls) for node in planned.nodes[1:]] == [
        (True, [((), {})]), (False, [((1,), {})]), (False, [((), {})]),
    ]  # fmt: skip
    assert planned.value == Slice(0, 0, 1)


def test_of_a_step_an_errback_is_for_its_own_failure():
    assert hanging(s("a") | s("b").on_error(E) | s("c")) == [("err", 1, 1, "FAILURE", 0)]
    assert hanging(group(s("a"), s("z")) | s("b").on_error(E)) == [("err", 1, 2, "FAILURE", "list 0")]


def test_of_a_chain_the_link_follows_the_last_step_and_one_errback_is_for_all_steps():
    steps = chain(s("a"), s("b"), s("c")).set(link=L, link_error=E)
    assert hanging(steps) == [("link", 1, 2, "LINK", NONE), ("err", 1, 2, "FAILURE", NONE)]
    assert hanging(s("z") | steps | s("y")) == [("link", 1, 3, "LINK", NONE), ("err", 1, 3, "FAILURE", 0)]
    assert hanging(chain(s("a"), s("b")), link=L, link_error=E) == [
        ("link", 1, 1, "LINK", NONE), ("err", 1, 1, "FAILURE", NONE),
    ]  # fmt: skip


def test_steps_with_an_equal_errback_have_one():
    assert hanging(chain(s("f", k).on_error(s("err")) for k in range(42))) == [
        ("err", 1, 41, "FAILURE", NONE)
    ]
    both = chain(s("a").on_error(E), s("b").on_error(s("err")).on_error(s("x")), s("c"))
    assert hanging(both) == [("err", 1, 1, "FAILURE", NONE), ("x", 1, 1, "FAILURE", 0)]
    assert hanging(both, link_error=E) == [("x", 1, 1, "FAILURE", 0), ("err", 1, 2, "FAILURE", NONE)]


def test_a_link_runs_for_every_step_that_has_one():
    assert len(hanging(chain(s("i").set(link=L) for _ in range(42)))) == 42


def test_of_uniform_members_they_are_arrays():
    members = [s("a", k).set(link=s("link", k) | s("m"), link_error=s("err", k)) for k in range(5)]
    planned = plan(group(members))
    assert hanging(group(members)) == [("link", 5, 0, "LINK", NONE), ("err", 5, 0, "FAILURE", NONE)]
    assert [(node.task, node.size, node.after_node) for node in planned.nodes] == [
        ("a", 5, NONE), ("link", 5, 0), ("m", 5, 1), ("err", 5, 0),
    ]  # fmt: skip
    assert planned.nodes[1].calls == [((k,), {}) for k in range(5)]
    chains = group(chain(s("a", k), s("b").on_error(E), s("c")).set(link=L) for k in range(5))
    assert hanging(chains) == [("link", 5, 2, "LINK", NONE), ("err", 5, 1, "FAILURE", 0)]


def test_members_with_other_links_are_other_arrays():
    planned = plan(group(s("a"), s("a").set(link=L), s("a").set(link=s("m")), s("a").set(link=L)))
    assert [(node.task, node.size) for node in planned.nodes] == [
        ("a", 1), ("a", 2), ("link", 2), ("a", 1), ("m", 1),
    ]  # fmt: skip
    assert planned.lists == [[Slice(0, 0, 1), Slice(1, 0, 1), Slice(3, 0, 1), Slice(1, 1, 2)]]


def test_a_link_that_is_a_group_makes_nodes_of_one_element():
    planned = plan(group(s("a", k).set(link=group(s("x"), s("x"))) for k in range(2)))
    assert [(node.task, node.size, node.after_node, node.on.name) for node in planned.nodes] == [
        ("a", 1, NONE, "SUCCESS"), ("x", 2, 0, "LINK"), ("a", 1, NONE, "SUCCESS"), ("x", 2, 2, "LINK"),
    ]  # fmt: skip
    assert planned.lists[2] == [Slice(0, 0, 1), Slice(2, 0, 1)]
    assert planned.value == Nested(2)


def test_the_link_of_a_group_gets_the_list_once():
    canvas = group(s("a", k) for k in range(3))
    canvas.link(L)
    assert hanging(canvas) == [("link", 1, "list 0", "LINK", NONE)]
    assert hanging(canvas | s("b")) == [("link", 1, "list 0", "LINK", NONE)]
    assert hanging(chain(s("z"), canvas)) == [("link", 1, "list 0", "LINK", NONE)]
    assert hanging(group(), link=L) == [("link", 1, 0, "LINK", NONE)]
    assert hanging(chain(canvas, group().set(link=s("m")))) == [
        ("link", 1, "list 0", "LINK", NONE), ("m", 1, "list 0", "LINK", NONE),
    ]  # fmt: skip
    assert hanging(chain(group(s("a")).set(link=L), s("b"))) == [("link", 1, 0, "LINK", NONE)]


def test_the_errback_of_a_group_is_for_every_member():
    assert hanging(group(s("a", k) for k in range(3)).on_error(E)) == [("err", 3, 0, "FAILURE", NONE)]
    nested = group(s("a"), group(s("a")), s("b") | group(s("c"), s("c"))).on_error(E)
    assert hanging(nested) == [
        ("err", 2, 0, "FAILURE", NONE), ("err", 1, 2, "FAILURE", NONE), ("err", 2, 4, "FAILURE", 2),
    ]  # fmt: skip


def test_the_link_of_a_chord_follows_its_body():
    assert hanging(chord([s("a"), s("a")], s("b")).set(link=L)) == [("link", 1, 1, "LINK", NONE)]
    assert hanging(chord([s("a")], group(s("b"), s("b"))), link=L) == [("link", 1, "list 1", "LINK", NONE)]
    assert hanging(chord([s("a"), s("a")], group()), link=L) == [("link", 1, "list 0", "LINK", NONE)]


@pytest.mark.parametrize(
    "canvas",
    [
        chord([s("a", k) for k in range(42)], s("b")).on_error(E),
        (group(s("a", k) for k in range(42)) | s("b")).on_error(E),
        chain(group(s("a", k) for k in range(42)), s("b")).on_error(E),
    ],
)
def test_the_errback_of_a_chord_is_for_its_body_and_once_for_its_header(canvas):
    assert hanging(canvas) == [("err", 1, 1, "FAILURE", "list 0"), ("err", 1, "list 0", "FAILURE", NONE)]
    assert [node.told for node in plan(canvas).nodes] == [NONE, NONE, NONE, 1]


def test_the_errback_of_a_chord_whose_body_is_more_than_a_task():
    header = [s("a"), s("a")]
    many = plan(chord(header, group(s("b", k) for k in range(42))).on_error(E))
    assert [(node.task, node.size, node.told) for node in many.nodes] == [
        ("a", 2, NONE), ("b", 42, NONE), ("err", 42, NONE), ("err", 1, 1),
    ]  # fmt: skip
    steps = chord(header, chain(s("b"), s("c"))).on_error(E)
    assert hanging(steps) == [("err", 1, 2, "FAILURE", "list 0"), ("err", 1, "list 0", "FAILURE", NONE)]
    assert plan(steps).nodes[4].told == 2


def test_the_errback_of_a_header_itself_is_for_its_members():
    canvas = group(s("a"), s("a")).on_error(E) | s("b")
    assert hanging(canvas) == [("err", 2, 0, "FAILURE", NONE)]


def test_the_errback_of_a_chain_with_groups_in_it():
    canvas = chain(s("a"), s("b"), group(s("c"), s("c")), s("d"), group(s("e"), s("e"))).on_error(E)
    assert hanging(canvas) == [
        ("err", 1, 1, "FAILURE", NONE),
        ("err", 1, 4, "FAILURE", "list 0"),
        ("err", 1, "list 0", "FAILURE", 1),
        ("err", 2, 7, "FAILURE", 4),
    ]
    assert [node.told for node in plan(canvas).nodes if node.told != NONE] == [4]


def test_a_body_that_takes_exceptions_follows_what_has_settled():
    made = [
        chord([s("a"), s("a")], s("b"), propagate=False),
        chord([s("a"), s("a")], s("b")).set(propagate=False),
        (group(s("a"), s("a")) | s("b")).set(propagate=False),
    ]
    for canvas in made:
        nodes = plan(s("z") | canvas.on_error(E)).nodes
        assert [(node.task, node.on, node.after_list, node.given_node) for node in nodes] == [
            ("z", On.SUCCESS, NONE, NONE),
            ("a", On.SUCCESS, NONE, NONE),
            ("b", On.SETTLED, 0, 0),
            ("err", On.FAILURE, NONE, 0),
        ]
        assert repr(canvas).startswith("chord([a(), a()], b(), propagate=False)")
    assert made[0] != chord([s("a"), s("a")], s("b")).on_error(E)


def test_links_of_links_and_errbacks_of_errbacks():
    canvas = s("t").set(link=s("l").set(link=s("m"), link_error=s("x")), link_error=s("e").on_error(s("y")))
    assert hanging(canvas) == [
        ("l", 1, 0, "LINK", NONE),
        ("m", 1, 1, "LINK", NONE),
        ("x", 1, 1, "FAILURE", NONE),
        ("e", 1, 0, "FAILURE", NONE),
        ("y", 1, 4, "FAILURE", NONE),
    ]


def test_an_empty_chain_as_a_link_is_nothing():
    assert hanging(s("t").set(link=[chain(), L], link_error=chain())) == [("link", 1, 0, "LINK", NONE)]
    assert hanging(group(s("t"), s("t")).set(link=chain())) == []


def test_links_get_no_options_of_what_they_belong_to():
    planned = plan(s("t").set(link=L, link_error=E), queue="far", priority=5)
    assert [node.options.queue for node in planned.nodes] == ["far", "default", "default"]


def test_links_that_are_nested_too_deep_are_refused():
    sig = s("t")
    for _ in range(120):
        sig = s("t").set(link=sig)
    with pytest.raises(InvalidSignature, match="canvases are nested more than 100 deep"):
        plan(sig)


# ------------------------------------------------------------------ headers


def test_nodes_know_the_list_of_their_innermost_chord_header():
    canvas = chord(
        [chord([s("a"), s("a").set(link=L)], s("b")), s("c") | group(s("d"), s("d")), s("e").on_error(E)],
        s("f"),
    )
    planned = plan(canvas)
    assert {node.task: node.header for node in planned.nodes} == {
        "a": 0, "link": NONE, "b": 2, "c": 2, "d": 2, "e": 2, "err": NONE, "f": NONE,
    }  # fmt: skip
    assert [Nested(1)] == [item for item in planned.lists[2] if isinstance(item, Nested)]


def test_a_group_that_is_the_value_is_no_header():
    assert [node.header for node in plan(group(s("a"), s("b"))).nodes] == [NONE, NONE]
    assert [node.header for node in plan(chain(s("a"), group(s("b"), s("b")), group())).nodes] == [NONE, NONE]
    assert [node.header for node in plan(group(s("a"), s("b")) | group(s("c"))).nodes] == [0, 0, NONE]
