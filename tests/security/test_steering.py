"""Steering over the wire: once for each request, and only of arguments that a client sealed for the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbq import payload, wire
from nbq.core.events import Chosen, Outcome
from nbq.core.ids import made_id
from nbq.core.model import Options, Origin, State
from nbq.engines.sealing import Sealing
from nbq.wire import Block
from tests.security.loopback import ROLES, RUN, Memory

CLIENT, SALT, KEY = b"\0client", b"s" * 16, bytes(range(32))
FUNCTION, OTHER = b"f" * 16, b"another canvas--"


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    memory = Memory(tmp_path)
    for role in ROLES:
        memory.join(role)
    memory.submit()
    (lease,) = memory.hub.scheduler.ledger.leases.values()
    failed = Outcome(lease.token, 0, 2, bytes([State.FAILURE]) * 2, 4)
    memory.say(b"\0engine", wire.Report(1, [failed], [b"gone"]))
    return memory


def test_a_retry_copies_the_blocks_and_is_leased_with_its_origin(memory: Memory) -> None:
    (answer,) = memory.say(CLIENT, wire.Steer(5, Chosen(RUN), "retry", SALT))
    assert isinstance(answer, wire.Answer)
    assert (answer.request, answer.count, len(answer.made)) == (5, 2, 1)
    made = memory.hub.scheduler.ledger.by_id[answer.made[0]]
    assert made.origin is not None
    assert made.id == made_id(RUN, made.origin.salt)
    assert memory.store.blocks[made.number, 0] == b"calls"
    sent = [message for _, message in memory.endpoint.sent[b"\0engine"]]
    (lease,) = [message for message in sent if isinstance(message, wire.Lease)]
    assert (lease.run, lease.args.data, lease.args_place) == (made.id, b"calls", (RUN, 0))


def test_a_demand_that_comes_again_is_done_once(memory: Memory) -> None:
    steer = wire.Steer(5, Chosen(RUN), "retry", SALT)
    replies = memory.say(CLIENT, steer, steer)
    assert [(type(reply), reply.count) for reply in replies] == [(wire.Answer, 2)]  # type: ignore[union-attr]
    (again,) = memory.say(CLIENT, steer)  # the answer was lost
    assert again == replies[0]
    assert len(memory.hub.scheduler.ledger.runs) == 2


def test_who_asked_may_go_away(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbq.core.steering._WORK", 0.01)
    memory.endpoint.put(CLIENT, wire.encode(wire.Steer(5, Chosen(), "retry", SALT), memory.sessions[CLIENT]))
    memory.endpoint.put(CLIENT, wire.encode(wire.Leaving(), memory.sessions[CLIENT]))
    for _ in range(20):
        memory.hub.turn(0.0)
    assert len(memory.hub.scheduler.ledger.runs) == 2
    assert memory.hub._requests._askers == memory.hub._requests._steered == {}


def test_queues_and_rates_are_answered_once_they_are_kept(memory: Memory) -> None:
    pause = wire.SteerQueue(6, "default", "pause")
    assert memory.say(CLIENT, pause, wire.SteerQueue(7, "default", "pause")) == [
        wire.Answer(6, 1),
        wire.Answer(7, 0),
    ]
    assert memory.say(CLIENT, wire.SetRate(8, "t", 2.0)) == [wire.Answer(8, 1)]
    assert memory.say(CLIENT, wire.SteerQueue(9, "default", "resume")) == [wire.Answer(9, 1)]
    unknown = wire.Steer(10, Chosen(b"?" * 16), "cancel", SALT)
    assert memory.say(CLIENT, unknown) == [wire.Rejected("unknown", "no such run", request=10)]


def lease(run: bytes, origin: Origin | None, sealed_for: bytes) -> wire.Lease:
    """Return a lease of a run whose arguments were sealed for another, as a hub may send it."""
    where = payload.origin("args", sealed_for, 0, 0, FUNCTION)
    sealed = payload.seal(KEY, where, [bytes(payload.dump_call((1,), {}))])
    return wire.Lease(
        5, run, 0, 0, 1, 1, "t", FUNCTION, Block(0, 0, 1, sealed, len(sealed)), False, None, False, 0.5,
        options=Options(), origin=origin,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("run", "origin", "opens"),
    [
        (made_id(OTHER, SALT), Origin(OTHER, SALT), True),
        (RUN, None, False),
        (RUN, Origin(OTHER, SALT), False),
        (made_id(OTHER, b"t" * 16), Origin(OTHER, SALT), False),
        (made_id(OTHER, SALT), Origin(OTHER, SALT, node=1), False),
    ],
    ids=["a run made of it", "a run of its own", "a client's run", "another salt", "another node"],
)
def test_a_hub_cannot_pass_off_the_arguments_of_one_canvas_as_those_of_another(
    run: bytes, origin: Origin | None, opens: bool
) -> None:
    work = Sealing(KEY, "e").work(lease(run, origin, OTHER), 0, 1, 1, "")
    assert (work.calls != [b""]) is opens  # what is empty fails in the slot with an IntegrityError
