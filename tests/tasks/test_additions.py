"""What running tasks add to their runs, show, and are asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import nbq
from nbq import payload
from nbq.core.model import Nested, Slice, State
from nbq.engines.pipe import Added, Noted
from nbq.errors import InvalidSignature, NotSerializable, PayloadTooLarge, UsageError
from tests.tasks.stage import ID, KEY, RUN, Stage, error, more, state, value


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.close()


@nbq.task
def add(x: int, y: int) -> int:
    return x + y


@nbq.task(bind=True)
def replaced(self, sig: Any, swallow: bool = False) -> str:
    try:
        self.replace(nbq.signature(sig))
    except Exception:
        if swallow:
            return "dropped"
        raise
    return "never"


@nbq.task(bind=True)
def extends(self, how: str = "") -> int:
    self.add_to_chord(add.s(1, 2))
    self.add_to_chord(nbq.group(add.s(3, 4), add.s(5, 6)))
    if how:
        raise ValueError(how)
    return 5


@nbq.task(bind=True)
def shows(self) -> None:
    self.update_state("PROGRESS", {"done": 1})
    self.update_state(meta={"done": 2})


@nbq.task(bind=True)
def asks(self) -> bool:
    return self.is_aborted()


def opened(added: Added) -> list[tuple[Any, ...]]:
    """Return the arguments of all calls of an addition, in order."""
    calls = []
    for block in added.blocks:
        where = payload.origin(
            "args", RUN + added.scope, block.node, block.lo, added.graph.nodes[block.node].function
        )
        found = payload.unseal(KEY, where, block.data)
        calls += [payload.load_call(found.element(index))[0] for index in range(block.n)]
    return calls


def test_a_task_is_replaced_by_another_under_its_id(stage: Stage) -> None:
    results = stage.results(stage.run(replaced, add.s(2, 3).to_dict()))
    assert (results.states, len(results.added)) == (bytes([State.WAITING]), 1)
    added = results.added[0]
    assert (added.replaces, len(added.scope), added.graph.value) == (True, 16, Slice(0, 0, 1))
    assert [(node.task, node.ids) for node in added.graph.nodes] == [(add.name, {0: ID})]
    assert opened(added) == [(2, 3)]
    address = added.graph.nodes[0].function
    assert payload.open_function(KEY, address, added.functions[address])


def test_the_id_goes_to_the_last_task_of_a_chain_and_to_no_group(stage: Stage) -> None:
    chain = more(stage.run(replaced, (add.s(1, 1) | add.s(2)).to_dict(), ids={0: "mine"})).added[0]
    assert [node.ids for node in chain.graph.nodes] == [{}, {0: "mine"}]
    group = more(stage.run(replaced, nbq.group(add.s(1, 1), add.s(2, 2)).to_dict())).added[0]
    assert (group.graph.value, group.graph.nodes[0].ids) == (Nested(0), {})
    assert group.scope != chain.scope


def test_a_replacement_that_the_task_catches_holds(stage: Stage) -> None:
    assert state(stage.run(replaced, add.s(1, 1).to_dict(), True)) == State.WAITING


def test_nothing_cannot_replace(stage: Stage) -> None:
    found = error(stage.run(replaced, nbq.chain().to_dict()))
    assert (type(found), "annot replace with an empty chain" in str(found)) == (InvalidSignature, True)

    def by_a_value() -> None:
        nbq.current_task.replace(5)

    assert type(error(stage.run(by_a_value))) is InvalidSignature


def test_a_replacement_that_cannot_travel_is_a_failure(stage: Stage) -> None:
    def locked() -> None:
        import threading

        nbq.current_task.replace(add.s(threading.Lock(), 1))

    def huge() -> None:
        nbq.current_task.replace(nbq.group(add.s(bytes([n]) * 200_000, 1) for n in range(50)))

    assert type(error(stage.run(locked))) is NotSerializable
    found = error(stage.run(huge))
    assert (type(found), "what a task adds to its run has 10,0" in str(found)) == (PayloadTooLarge, True)


def test_large_arguments_of_a_replacement_are_files(stage: Stage) -> None:
    def large() -> None:
        nbq.current_task.replace(add.s(bytes(400_000), 1))

    added = more(stage.run(large)).added[0]
    assert [(bool(block.blob), block.data) for block in added.blocks] == [(True, b"")]
    assert (stage.folder / added.blocks[0].blob).stat().st_size == added.blocks[0].size


def test_a_header_is_extended_if_its_member_succeeds(stage: Stage) -> None:
    ended = stage.run(extends, header=True)
    assert value(ended) == 5
    assert [(added.replaces, opened(added)) for added in more(ended).added] == [
        (False, [(1, 2)]), (False, [(3, 4), (5, 6)]),
    ]  # fmt: skip
    assert stage.run(extends, "boom", header=True)[3] is None


def test_only_members_of_a_header_can_extend_it(stage: Stage) -> None:
    found = error(stage.run(extends))
    assert (type(found), str(found)) == (
        UsageError, "add_to_chord is for members of a chord's header; this task is none",
    )  # fmt: skip


def test_called_directly_nothing_is_replaced_or_extended() -> None:
    with pytest.raises(UsageError, match="called directly cannot be replaced"):
        replaced(add.s(1, 1))
    with pytest.raises(UsageError, match="add_to_chord is for members"):
        extends()
    assert (shows(), asks()) == (None, False)


def test_states_and_values_are_sent_sealed(stage: Stage) -> None:
    stage.run(shows)
    notes = [note for note in stage.sent if isinstance(note, Noted)]
    where = payload.origin("note", RUN, 0, 0)
    assert [
        (note.token, note.index, note.state, payload.loads(payload.unseal(KEY, where, note.meta).element(0)))
        for note in notes
    ] == [(1, 0, "PROGRESS", {"done": 1}), (1, 0, "PROGRESS", {"done": 2})]


@pytest.mark.parametrize("name", ["SUCCESS", "FAILURE", "REVOKED", "SKIPPED", "", 5, "x" * 101])
def test_a_task_cannot_say_that_it_has_ended(stage: Stage, name: Any) -> None:
    def says() -> None:
        nbq.current_task.update_state(name)

    assert (type(error(stage.run(says))), stage.sent) == (UsageError, [])


def test_what_is_shown_is_bounded(stage: Stage) -> None:
    assert (
        type(error(stage.run(lambda: nbq.current_task.update_state("X", bytes(70_000))))) is PayloadTooLarge
    )


def test_a_task_can_ask_whether_it_is_to_end(stage: Stage) -> None:
    assert value(stage.run(asks)) is False
    stage.aborted = True
    assert value(stage.run(asks)) is True


def test_what_a_task_submits_is_its_child(stage: Stage) -> None:
    from nbq.context import submitted

    def submits() -> int:
        for number in range(10_005):
            submitted(f"id-{number}")
        return 1

    ended = stage.run(submits)
    assert (value(ended), more(ended).children) == (1, [f"id-{number}" for number in range(10_000)])
    assert stage.results(ended).children[0] == "id-0"
    submitted("outside")  # nothing runs: nothing is noted


def test_an_addition_of_a_scope_travels(stage: Stage) -> None:
    """A node of an addition is sealed for the addition, and so are its results and notes."""
    scope = bytes(range(16, 32))
    work = msgspec.structs.replace(stage.work(shows), scope=scope, inner=7)
    stage.again(work, bytes(payload.dump_call((), {})))
    where = payload.origin("note", RUN + scope, 7, 0)
    assert payload.loads(payload.unseal(KEY, where, stage.sent[-1].meta).element(0)) == {"done": 2}
