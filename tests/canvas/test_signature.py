"""Signatures: plain data, partial arguments and options, and what is not one."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nbq.canvas import Canvas, Signature, bind_registry, bind_submitter, chain, chord, group, signature
from nbq.canvas.signature import _Hooks
from nbq.errors import InvalidSignature, UnknownTask
from tests.canvas.kit import FakeTask, execute, s, si


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the plans that are submitted, each of which gives its position."""
    plans: list[Any] = []
    monkeypatch.setattr(_Hooks, "submit", None)

    def submit(planned: Any) -> int:
        plans.append(planned)
        return len(plans) - 1

    bind_submitter(submit)
    return plans


# ------------------------------------------------------------------ arguments


def test_arguments_of_a_call_come_before_and_keywords_win():
    assert execute(Signature("foo", (1, 2), {"a": 33}), 3, 4, b=66) == (
        "foo",
        (3, 4, 1, 2),
        ("a", 33),
        ("b", 66),
    )
    assert execute(s("add", 1, y=5), y=7) == 8
    assert execute(s("mul", 3), 9) == 27


def test_an_immutable_signature_ignores_arguments_but_not_options():
    sig = si("add", 2, 2)
    assert execute(sig, 99, z=1) == 4
    copy = sig.clone((99,), {"z": 1}, queue="far")
    assert (copy.args, copy.kwargs, copy.options, copy.immutable) == ((2, 2), {}, {"queue": "far"}, True)


def test_calling_a_signature_runs_the_task_here():
    task = FakeTask("here")
    assert Signature(task, (1, 2), {"a": 33})(3, 4, b=66) == ("here", (3, 4, 1, 2), {"a": 33, "b": 66})
    assert Signature(task, (1,), {"a": 1}, immutable=True)(9, a=2) == ("here", (1,), {"a": 1})


def test_a_name_is_looked_up_when_it_is_called_here(monkeypatch):
    monkeypatch.setattr(_Hooks, "lookup", None)
    bind_registry({"known": FakeTask("known")}.get)
    assert s("known", 1)() == ("known", (1,), {})
    with pytest.raises(UnknownTask) as error:
        s("unknown")()
    assert str(error.value) == "no task is called 'unknown' here; import its module, or use delay()"


# ------------------------------------------------------------------ copies and changes


def test_clone_copies_and_adds():
    sig = s("t", 3, a=1).set(queue="q", countdown=5)
    copy = sig.clone((1, 2), {"a": 2, "b": 3}, priority=4, queue=None)
    assert (copy.args, copy.kwargs) == ((1, 2, 3), {"a": 2, "b": 3})
    assert copy.options == {"queue": "q", "countdown": 5, "priority": 4}
    assert (sig.args, sig.kwargs, sig.options) == ((3,), {"a": 1}, {"queue": "q", "countdown": 5})
    copy.kwargs["c"] = copy.options["priority"] = 9
    assert (sig.kwargs, sig.options) == ({"a": 1}, {"queue": "q", "countdown": 5})


@pytest.mark.parametrize("make", [group, chain, lambda *tasks: chord(list(tasks[:1]), tasks[1])])
def test_clones_of_larger_canvases_share_no_member(make):
    canvas = make(s("a"), s("b"))
    copy = canvas.clone()
    assert copy == canvas
    for member in copy.members():
        member.set(priority=9)
    assert copy != canvas
    assert canvas == make(s("a"), s("b"))


def test_set_changes_the_signature_and_returns_it():
    sig = s("t", 1)
    assert sig.set(priority=3, eta=None) is sig
    assert sig.set(immutable=True) is sig
    assert (sig.options, sig.immutable) == ({"priority": 3}, True)
    assert sig.set(priority=None, immutable=None).options == {"priority": 3}
    assert sig.immutable is True
    assert sig.set(immutable=False).immutable is False


def test_an_unknown_option_is_refused_everywhere():
    for change in (
        lambda: s("t").set(colour="red"),
        lambda: s("t").clone(colour="red"),
        lambda: signature("t", colour="red"),
        lambda: s("t").apply_async(colour="red"),
        lambda: group(s("t")).set(colour="red"),
    ):
        with pytest.raises(InvalidSignature, match="there is no option 'colour'; the options are"):
            change()


def test_signature_makes_one_of_a_task_a_name_a_canvas_or_data():
    task = FakeTask("mod.t")
    assert signature(task, (1,), {"a": 2}, queue="q") == Signature("mod.t", (1,), {"a": 2}, {"queue": "q"})
    sig = s("t", 2)
    again = signature(sig, (1,), immutable=True)
    assert again == Signature("t", (1, 2), immutable=True)
    assert sig == s("t", 2)
    assert signature(sig.to_dict(), (1,)) == s("t", 1, 2)
    assert signature(si("t", 2)).immutable is True


# ------------------------------------------------------------------ equality and data


def test_equal_is_the_same_call_of_the_same_tasks():
    assert s("t", 1) == Signature(FakeTask("t"), [1])
    different = [s("t", 2), s("u", 1), s("t", 1, a=1), si("t", 1), s("t", 1).set(queue="q"), chain(s("t", 1))]
    assert [other == s("t", 1) for other in different] == [False] * 6
    assert (s("t") == "t", group(s("t")) == chain(s("t"))) == (False, False)


def test_a_signature_cannot_be_hashed_since_it_can_be_changed():
    with pytest.raises(TypeError):
        hash(s("t"))


def test_plain_data_of_a_signature():
    sig = s("t", 1, a=2).set(priority=3, immutable=True)
    assert sig.to_dict() == {
        "task": "t",
        "kind": "task",
        "args": [1],
        "kwargs": {"a": 2},
        "options": {"priority": 3},
        "immutable": True,
    }


def test_plain_data_of_larger_canvases():
    leaf = {"task": "a", "kind": "task", "args": [], "kwargs": {}, "options": {}, "immutable": False}
    bare = {"args": [], "kwargs": {}, "options": {}, "immutable": False}
    assert group(s("a")).to_dict() == {"kind": "group", **bare, "tasks": [leaf]}
    assert chain(s("a")).to_dict() == {"kind": "chain", **bare, "tasks": [leaf]}
    assert chord([s("a")], s("a")).to_dict() == {
        "kind": "chord", **bare, "header": {"kind": "group", **bare, "tasks": [leaf]}, "body": leaf,
        "propagate": True,
    }  # fmt: skip
    assert chord([s("a")]).to_dict()["body"] is None


def make(kind: str, one: Canvas, two: Canvas) -> Canvas:
    return {"chain": chain(one, two), "group": group(one, two), "chord": chord([one], two)}[kind]


@pytest.mark.parametrize("inner", ["chain", "group", "chord"])
@pytest.mark.parametrize("outer", ["chain", "group", "chord"])
def test_every_pair_of_canvases_comes_back_through_json(outer, inner):
    part = make(inner, s("a", 1).set(queue="q"), si("b", x=[1, {"y": None}])).clone((7,))
    canvas = make(outer, part, s("c")).set(countdown=3)
    text = json.dumps(canvas.to_dict())
    again = Canvas.from_dict(json.loads(text))
    assert again == canvas
    assert json.dumps(again.to_dict()) == text


def test_times_in_options_become_text_and_seconds():
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    data = s("t").set(eta=noon, expires=timedelta(minutes=2)).to_dict()
    assert data["options"] == {"eta": "2026-01-02T12:00:00+00:00", "expires": 120.0}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"kind": "ring"}, "no canvas is of kind 'ring'"),
        ({}, "the data of a task lacks 'task'"),
        ({"kind": "group"}, "the data of a group lacks 'tasks'"),
        ({"kind": "chord"}, "the data of a chord lacks 'header'"),
        ({"task": "t", "args": 5}, "args must be a list or tuple: write (5,)"),
    ],
)
def test_data_that_is_no_canvas_is_refused(data, text):
    with pytest.raises(InvalidSignature) as error:
        Canvas.from_dict(data)
    assert str(error.value) == text


# ------------------------------------------------------------------ what is not a signature


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: Signature(""), "the name of a task cannot be empty"),
        (lambda: Signature(5), "5 is not a task; decorate it with @nbq.task"),
        (lambda: Signature("t", 5), "args must be a list or tuple: write (5,)"),
        (lambda: Signature("t", "ab"), "args must be a list or tuple: write ('ab',)"),
        (lambda: s("t").clone("ab"), "args must be a list or tuple: write ('ab',)"),
        (
            lambda: s("t") | 10,
            "| takes signatures, not 10 (int): a value is given as an argument of one, as in task.s(10)",
        ),
        (
            lambda: 10 | s("t"),
            "| takes signatures, not 10 (int): a value is given as an argument of one, as in task.s(10)",
        ),
        (
            lambda: s("t") | None,
            "| takes signatures, not None (NoneType): a value is given as an argument of one,"
            " as in task.s(None)",
        ),
        (
            lambda: group(s("t")) | 5,
            "| takes signatures, not 5 (int): a value is given as an argument of one, as in task.s(5)",
        ),
        (
            lambda: chain(5),
            "a chain takes signatures, not 5 (int): a value is given as an argument of one, as in task.s(5)",
        ),
        (lambda: chain(FakeTask("mod.t")), "a chain takes signatures, not tasks: write t.s() for t"),
        (lambda: s("a") | FakeTask("mod.t"), "| takes signatures, not tasks: write t.s() for t"),
        (lambda: group([s("a"), FakeTask("t")]), "a group takes signatures, not tasks: write t.s() for t"),
        (lambda: chord([FakeTask("t")], s("a")), "a chord takes signatures, not tasks: write t.s() for t"),
        (
            lambda: chord([s("a")], "b"),
            "the body of a chord takes signatures, not 'b' (str): a value is given as an argument of one,"
            " as in task.s('b')",
        ),
    ],
)
def test_the_wrong_thing_is_refused_with_the_right_spelling(build, text):
    with pytest.raises(InvalidSignature) as error:
        build()
    assert isinstance(error.value, TypeError)
    assert str(error.value) == text


def test_a_large_value_is_shortened_in_the_text():
    with pytest.raises(InvalidSignature) as error:
        _ = s("t") | list(range(10_000))
    assert len(str(error.value)) < 250


# ------------------------------------------------------------------ submitting


def test_delay_and_apply_async_submit_a_plan(submitted):
    assert s("t", 2).delay(1, a=3) == 0
    assert chain(s("a"), s("b"))(5) == 1
    assert group(s("t")).apply_async((1,), queue="q") == 2
    one, two, three = submitted
    assert [(node.task, node.calls) for node in one.nodes] == [("t", [((1, 2), {"a": 3})])]
    assert [(node.task, node.calls) for node in two.nodes] == [("a", [((5,), {})]), ("b", [((), {})])]
    assert [(node.calls, node.options.queue) for node in three.nodes] == [([((1,), {})], "q")]


def test_an_empty_chain_does_nothing(submitted):
    assert chain()() is None
    assert chain(chain(), chain()).delay(1) is None
    assert submitted == []


def test_a_chord_without_a_body_takes_it_when_called(submitted):
    canvas = chord([s("a")])
    canvas(s("b"))
    assert canvas.body is None
    [planned] = submitted
    assert [node.task for node in planned.nodes] == ["a", "b"]


@pytest.mark.usefixtures("submitted")
def test_inversion_submits_and_gets():
    class Result:
        def get(self) -> str:
            return "value"

    bind_submitter(lambda planned: Result())
    assert ~s("t") == "value"


def test_nothing_is_submitted_before_there_is_a_client(monkeypatch):
    monkeypatch.setattr(_Hooks, "submit", None)
    with pytest.raises(InvalidSignature) as error:
        s("t").delay()
    assert str(error.value) == "nothing can be submitted before nbq.client is imported"


def test_a_signature_reads_as_a_call():
    assert repr(s("add", 1, "x", y=[2])) == "add(1, 'x', y=[2])"
    assert len(repr(s("t", "x" * 10_000, list(range(10_000))))) < 120
