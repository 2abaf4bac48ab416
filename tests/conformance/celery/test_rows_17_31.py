"""Rows 17 to 31 of what the introduction to Celery names: its canvas, each example as it stands there."""

from __future__ import annotations

import json
from typing import Any

import pytest

import nbq
from nbq import AsyncResult, GroupResult, Signature, chain, chord, group, signature
from nbq.testing import ClusterUnderTest
from tests.conformance.celery.work import (
    about,
    add,
    calls_a_group,
    fail,
    filtered,
    kinds,
    mul,
    same,
    upload,
    xsum,
)

pytestmark = pytest.mark.usefixtures("nbq_cluster")


# ------------------------------------------------------------------ signatures


def test_row_17_subtask() -> None:
    subtask = add.subtask((2, 2), countdown=10)
    assert (repr(subtask), subtask.options) == ("tasks.add(2, 2)", {"countdown": 10})
    assert subtask == add.signature((2, 2), countdown=10)
    assert subtask.delay().get() == 4


def test_row_17_the_options_of_a_subtask_hold(nbq_cluster: ClusterUnderTest) -> None:
    result = add.subtask((2, 2), countdown=10).delay()
    nbq_cluster.advance(9)
    assert result.state == "SCHEDULED"
    nbq_cluster.advance(2)
    assert result.state == "SUCCESS"


def test_row_18_star_arguments() -> None:
    assert (add.s(2, 2), add.s(2, y=3)) == (add.subtask((2, 2)), add.subtask((2,), {"y": 3}))
    assert (add.s(2, 2).options, add.s(2, 2).set(countdown=1).options) == ({}, {"countdown": 1})


def test_row_19_a_signature_is_called_like_a_task() -> None:
    sig = add.s(2, 2)
    assert (sig.delay().get(), sig.apply_async(countdown=1).get(), sig()) == (4, 4, 4)


def test_row_20_partials() -> None:
    partial = add.s(2)
    assert (partial.delay(8).get(), partial(8), kinds.s("b").delay(1).get()) == (10, 10, ["int", "str"])
    assert add.s(2, y=1).delay(y=3).get() == 5
    assert (
        about.s().set(priority=1, queue="a").apply_async(priority=2).get().items()
        >= {"priority": 2, "queue": "a"}.items()
    )


def test_row_21_by_name_without_an_import() -> None:
    sig = signature("tasks.add", args=(2, 2), countdown=10)
    assert (sig.delay().get(), sig.options, repr(sig)) == (4, {"countdown": 10}, "tasks.add(2, 2)")
    unknown = signature("billing.pay", args=(2,), kwargs={"to": "me"})
    for one in (sig, unknown):
        data = json.loads(json.dumps(one.to_dict()))
        assert {"task", "args", "kwargs", "options", "immutable"} <= data.keys()
        assert signature(data) == one
    celery = {
        "task": "tasks.add",
        "args": [2, 2],
        "kwargs": {},
        "options": {},
        "subtask_type": None,
        "immutable": True,
    }
    assert signature(celery) == add.si(2, 2)
    assert isinstance(signature(celery), Signature)


# ------------------------------------------------------------------ groups and chains


def test_row_22_a_group_gives_values_in_order() -> None:
    assert group(add.s(i, i) for i in range(10))().get() == [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]


def test_row_23_a_partial_group() -> None:
    g = group(add.s(i) for i in range(10))
    assert g(10).get() == [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]


def test_row_24_a_chain_feeds_each_task_the_value_before() -> None:
    assert chain(add.s(4, 4) | mul.s(8))().get() == 64
    assert (add.s(4, 4) | mul.s(8))().get() == 64
    result = (add.s(4, 4) | mul.s(8))()
    assert isinstance(result, AsyncResult)
    assert (result.name, result.parent.name) == ("tasks.mul", "tasks.add")


@pytest.mark.parametrize("eager", [False, True])
def test_row_25_a_partial_chain(eager: bool) -> None:
    nbq.configure(always_eager=eager)
    g = chain(add.s(4) | mul.s(8))
    assert g(4).get() == 64


def test_row_26_a_chord() -> None:
    assert chord((add.s(i, i) for i in range(10)), xsum.s())().get() == 90
    assert chord(add.s(i, i) for i in range(10))(xsum.s()).get() == 90
    assert chord([add.s(2, 2), add.s(4, 4)])(same.s()).get() == [4, 8]


def test_row_27_a_group_before_a_task_is_a_chord() -> None:
    canvas = group(add.s(i, i) for i in range(10)) | xsum.s()
    assert isinstance(canvas, chord)
    assert canvas().get() == 90


def test_row_28_a_task_before_a_group_feeds_each_member() -> None:
    kinds_of = ("thumbnail", "grey")
    canvas = upload.s("a.png") | group(filtered.s(kind) for kind in kinds_of)
    result = canvas.apply_async()
    assert isinstance(result, GroupResult)
    assert result.get() == ["uploaded a.png, thumbnail", "uploaded a.png, grey"]
    assert result.parent.get() == "uploaded a.png"


def test_row_29_an_immutable_signature_takes_no_value() -> None:
    subtask = add.subtask((2, 2), immutable=True)
    assert (subtask == add.si(2, 2), (add.s(5, 5) | subtask)().get(), subtask.delay(99).get()) == (True, 4, 4)
    assert add.si(2, 2).set(countdown=10).options == {"countdown": 10}


def test_row_30_parents_lead_back_to_the_first_task() -> None:
    result = (add.si(2, 2) | add.si(4, 4) | add.si(8, 8))()
    assert (result.get(), result.parent.get(), result.parent.parent.get()) == (16, 8, 4)
    assert result.parent.parent.parent is None


def test_row_30_the_example_of_the_introduction_says_what_is_wrong_with_it() -> None:
    with pytest.raises(TypeError, match=r"tasks\.add\(x, y\): too many positional arguments"):
        (add.si(2, 2) | add.si(4, 4) | add.s(8, 8))()


@pytest.mark.parametrize(
    ("canvas", "value"),
    [
        (group(add.s(1, 1) | mul.s(3), chord([add.s(1, 1), add.s(2, 2)], xsum.s())), [6, 6]),
        (chain(group(add.s(1, 1), add.s(2, 2)), xsum.s(), add.s(4)), 10),
        (chord([chain(add.s(1, 1), mul.s(4)), group(add.s(1, 1), add.s(2, 2)) | xsum.s()], xsum.s()), 14),
        (chord([add.s(1, 1)], chord([xsum.s(), xsum.s()], xsum.s())), 4),
    ],
)
def test_row_31_everything_nests_in_everything(canvas: Any, value: Any) -> None:
    assert canvas().get() == value
    assert signature(json.loads(json.dumps(canvas.to_dict())))().get() == value


# ------------------------------------------------------------------ where Celery's own behaviour is worse


def test_what_hangs_in_celery_fails() -> None:
    with pytest.raises(ValueError, match="boom"):
        (add.s(1, 1) | fail.si() | group(add.s(1), add.s(1)))().get(timeout=60)


def test_the_data_of_a_canvas_grows_with_its_tasks() -> None:
    """And not with a power of them, as the data of Celery's nested chords does."""

    def size(k: int) -> tuple[int, int]:
        canvas = same.s([1])
        for _ in range(k):
            canvas = canvas | group(same.s(), same.s(), same.s()) | same.s()
        return len(json.dumps(canvas.to_dict())), 1 + 4 * k

    (small, few), (large, many) = size(2), size(32)
    assert large / many < 1.5 * small / few


def test_a_group_that_a_task_calls_is_one_of_its_children() -> None:
    result = calls_a_group.delay()
    assert [(child.id, child.get()) for child in result.get() and result.children] == [
        (result.get(), [0, 2, 4])
    ]
