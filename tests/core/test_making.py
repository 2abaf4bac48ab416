"""Runs that the hub makes of a template: copies of blocks, blobs that are shared, one run for each salt."""

import pytest

from nbq.core.actions import Copy, Discard
from nbq.core.events import ForgetAsked, Submitted
from nbq.core.ids import made_id
from nbq.core.model import BlockMeta, Graph, Origin, Slice
from nbq.core.runs import Run
from tests.core.harness import Rig, address, node, shown

SALT = b"s" * 16
BLOB = "b" * 32
BLOCKS = [BlockMeta(0, 0, 1, 10), BlockMeta(0, 1, 1, 99, BLOB)]


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.join()
    rig.send(Submitted(b"t" * 16, "me", Graph([node("a", 2)], value=Slice(0, 0, 1)), BLOCKS[:2]))
    rig.work()
    return rig


def again(rig: Rig, salt: bytes = SALT) -> tuple[Run, list[Copy]]:
    """Make a run of what was submitted; return it, and what is copied for it."""
    first = rig.scheduler.ledger.runs[1]
    origin = Origin(first.id, salt)
    making = rig.scheduler._making
    run = making.make(origin, "you", first.graph, first.blocks, [(1, 0), (1, 1)], rig.now)
    facts, actions = rig.scheduler._decided.take()
    rig.facts += facts
    return run, [action for action in actions if isinstance(action, Copy)]


def test_a_run_is_made_with_copies_of_blocks_and_runs(rig):
    run, copies = again(rig)
    assert (run.id, run.owner, run.origin) == (made_id(b"t" * 16, SALT), "you", Origin(b"t" * 16, SALT))
    assert copies == [Copy(2, 0, 1, 0)]
    assert rig.work() == [(0, 0, 1), (0, 1, 2)]
    assert shown(run) == ["SS"]


def test_the_same_salt_makes_no_second_run(rig):
    run, _ = again(rig)
    assert again(rig) == (run, [])
    assert again(rig, b"x" * 16)[0].number == 3
    rig.work()


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 1, 3)])
def test_a_blob_and_a_function_go_with_the_last_that_names_them(rig, order):
    again(rig)
    again(rig, b"x" * 16)
    rig.work()
    runs = {number: run.id for number, run in rig.scheduler.ledger.runs.items()}
    gone = []
    for number in order:
        actions = rig.send(ForgetAsked(runs[number]))[1]
        gone.append([action for action in actions if isinstance(action, Discard)])
    assert gone == [[], [], [Discard([BLOB], [address("a")])]]


def test_a_made_run_is_recovered_as_it_was(rig):
    again(rig)
    rig.restart()
    rig.join()
    rig.work()
    assert shown(rig.scheduler.ledger.runs[2]) == ["SS"]
