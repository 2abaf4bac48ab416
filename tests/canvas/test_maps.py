"""``map``, ``starmap`` and ``chunks``: one task that makes many calls, and groups of such tasks."""

import json
from typing import Any

import pytest

import nbq
from nbq.canvas import MAP, STARMAP, Canvas, Signature, plan
from nbq.errors import InvalidSignature
from nbq.tasks import registered
from tests.canvas.kit import FakeTask, s


@nbq.task(name="tests.canvas.add", queue="sums", priority=3)
def add(x: int, y: int = 100) -> int:
    return x + y


def here(sig: Canvas) -> Any:
    """Run what is one call of a builtin task, as a slot does."""
    [node] = plan(sig).nodes
    task = registered(node.task)
    assert task is not None
    return [task.call_in_slot(*args, **kwargs) for args, kwargs in node.calls]


def test_map_calls_with_each_item():
    assert here(add.map(range(3))) == [[100, 101, 102]]
    assert here(add.s(5).map([1, 2])) == [[6, 7]]
    assert here(add.map([])) == [[]]


def test_starmap_calls_with_the_arguments_in_each_item():
    assert here(add.starmap(zip(range(3), range(3), strict=True))) == [[0, 2, 4]]
    assert here(s("tests.canvas.add").starmap([[1], (2, 3)])) == [[101, 5]]


def test_chunks_is_a_group_of_starmaps():
    made = add.chunks(zip(range(10), range(10), strict=True), 3)
    assert [len(sig.kwargs["items"]) for sig in made.tasks if isinstance(sig, Signature)] == [3, 3, 3, 1]
    assert here(made) == [[0, 2, 4], [6, 8, 10], [12, 14, 16], [18]]
    [node] = plan(made).nodes
    assert (node.task, node.size, node.options.queue, node.options.priority) == (STARMAP, 4, "sums", 3)
    assert here(add.s(1).chunks([[5], [6], [7]], 2)) == [[6, 7], [8]]


def test_they_ignore_what_they_are_fed_and_keep_options_but_no_links():
    sig = add.s().set(queue="far", link=s("l"), task_id="mine").map([1])
    assert (sig.immutable, sig.options) == (True, {"queue": "far", "priority": 3})
    assert (sig.task, sig.kwargs) == (MAP, {"task": add.s(), "items": [1]})
    assert Signature(FakeTask("t", queue="q")).starmap([]).options == {"queue": "q"}


def test_they_come_back_through_json():
    made = add.chunks([[1, 2], [3, 4]], 1)
    again = Canvas.from_dict(json.loads(json.dumps(made.to_dict())))
    assert here(again) == [[3], [7]]


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "3"])
def test_a_chunk_has_at_least_one_item(n):
    with pytest.raises(InvalidSignature) as error:
        add.chunks([(1, 2)], n)
    assert str(error.value) == f"chunks: n, the number of items in one task, must be 1 or more, not {n!r}"
