"""When a hub tells clients: who asks what has ended is told in the same turn, not at the hub's next beat."""

from __future__ import annotations

from pathlib import Path

from nbq import wire
from nbq.core.events import Outcome
from tests.security.loopback import RUN, Memory


def test_ends_that_are_known_are_told_at_once(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    client, engine = memory.join("client"), memory.join("engine")
    memory.submit()
    leases = list(memory.hub.scheduler.ledger.leases.values())
    outcomes = [Outcome(lease.token, lease.lo, lease.hi) for lease in leases]
    memory.say(engine, wire.Report(1, outcomes, [b""] * len(outcomes)))
    assert memory.hub.scheduler.ledger.left == 0
    memory.endpoint.sent.clear()
    memory.endpoint.put(client, wire.encode(wire.Watch(RUN, {0: 0}), memory.sessions[client]))
    memory.hub.turn(0.0)
    [(_, told)] = memory.endpoint.sent[client]
    assert isinstance(told, wire.Ends)
    assert sum(fact.hi - fact.lo for fact in told.facts) == 2
