"""``apply()`` gives what a cluster gives: the same plan, the same hub, the same handles."""

from __future__ import annotations

import gc
import time
import weakref

import pytest

import nbq
from nbq import chain, chord, group
from nbq.local import LocalCluster
from tests.local.work import about, add, depth, fail, flaky, into, later, note, say, seen, swap, told, total


def test_a_call_has_ended_when_it_returns() -> None:
    result = add.apply((2,), {"y": 3})
    assert (result.state, result.get(), result.traceback, result.parent, result.children) == (
        "SUCCESS", 5, None, None, [],
    )  # fmt: skip


def test_a_failure_is_raised_by_get_and_has_its_traceback() -> None:
    result = fail.apply(("no",))
    assert (result.state, repr(result.get(propagate=False))) == ("FAILURE", "ValueError('no')")
    assert "in fail" in result.traceback
    with pytest.raises(ValueError, match="no"):
        result.get()


@pytest.mark.parametrize(
    ("canvas", "args", "kwargs", "value"),
    [
        (chain(add.s(4) | add.s(8)), (4,), {}, 16),
        (chain(add.s(), add.s(8), add.s(10)), (), {"x": 1, "y": 1}, 20),
        (group(add.s(1, 2) | group(add.s(1), add.s(2))), (), {}, [4, 5]),
        (chain(chord([add.s(1), add.s(2)], total.s()), add.s(1)), (1,), {}, 6),
        (chord([fail.s("a"), add.s(1, 1)], note.s(), propagate=False) | note.si(1), (), {}, (1,)),
        (swap.s(1) | add.s(1000), (), {}, 1102),
        (group(swap.s(1), add.s(1, 1)), (), {}, [102, 2]),
        (chord([into.s(1), into.s(2)], total.s()), (), {}, 26),
        (later.s(7), (), {}, 7),
    ],
)
def test_canvases(canvas, args, kwargs, value) -> None:
    assert canvas.apply(args, kwargs).get() == value


def test_handles_of_a_chain_lead_to_its_beginning() -> None:
    result = (add.s(1, 1) | add.s(2) | fail.s()).apply()
    assert [result.state, result.parent.state, result.parent.parent.get()] == ["FAILURE", "SUCCESS", 2]
    assert result.parent.parent.parent is None
    assert result.parent.parent.children == [result.parent]


def test_links_and_errbacks_have_run_too() -> None:
    add.apply((1, 2), link=note.s(5))
    failed = fail.apply(("no",), link_error=told.s())
    assert seen == [(3, 5), (failed.id, "ValueError('no')")]


def test_delays_of_retries_take_no_time() -> None:
    began = time.perf_counter()
    assert flaky.apply((3,)).get() == 3
    assert add.apply((1, 1), countdown=365 * 24 * 3600).get() == 2
    assert time.perf_counter() - began < 5
    with pytest.raises(nbq.MaxRetriesExceededError):
        flaky.apply((4,)).get()


def test_a_task_knows_that_it_runs_here() -> None:
    assert about.apply().get() == (True, 0, "local-1")


def test_what_is_printed_is_kept_and_seen(capsys) -> None:
    result = say.apply(("hi",))
    assert (result.stdout, result.stderr) == ("hi\n", "HI\n")
    assert capsys.readouterr() == ("hi\n", "HI\n")


def test_a_task_may_apply_and_submit_others() -> None:
    assert add.apply((add.apply((1, 1)).get(), depth.apply((0,)).get())).get() == 2


def test_a_canvas_lives_as_long_as_its_handle() -> None:
    result = add.apply((1, 1))
    cluster = weakref.ref(result._link._cluster)
    folder = cluster().folder
    assert folder.exists()
    del result
    gc.collect()
    assert (cluster(), folder.exists()) == (None, False)


def test_large_values_pass_through_files() -> None:
    assert len((note.s(b"x" * 600_000) | note.s(b"y" * 600_000)).apply().get()[0][0]) == 600_000


def test_200_tasks_are_done_at_once() -> None:
    (add.s(0, 0) | add.s(1)).apply()
    began = time.process_time()
    assert chain(add.s(0, 1), *[add.s(1)] * 199).apply().get() == 200
    assert time.process_time() - began < 1  # it takes 0.05 s on a machine that has nothing else to do


def test_the_same_submits_lead_to_the_same_steps() -> None:
    def steps() -> list[object]:
        seen.clear()
        with LocalCluster(slots=3):
            header = [note.s(i) if i % 3 else add.si(i, 1) | note.s() for i in range(40)]
            chord(header, note.s()).delay().get()
        return list(seen)

    assert steps() == steps()
