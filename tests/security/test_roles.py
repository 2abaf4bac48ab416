"""Roles: each peer can do what its key is for and nothing else, and who breaks the protocol is shown out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbq import hub as module
from nbq import wire
from nbq.core.events import Chosen, Outcome
from nbq.core.timing import Every, ScheduleSpec
from tests.security.loopback import BLOCK, ENGINE, FUNCTION, GRAPH, ROLES, RUN, Memory
from tests.wire.samples import TO_HUB

NAME = "ab" * 16

ONE_OF_EACH: dict[type, Any] = {
    wire.Hello: wire.Hello(wire.PROTOCOL, "client", b"client", b"12345678", {}),
    wire.Ping: wire.Ping(),
    wire.PutFunctions: wire.PutFunctions({bytes(16): b"evil"}),
    wire.Stage: wire.Stage(bytes(16), 0, [BLOCK]),
    wire.Submit: wire.Submit(bytes(16), GRAPH, [BLOCK]),
    wire.Watch: wire.Watch(RUN, {0: 0}),
    wire.Unwatch: wire.Unwatch(RUN),
    wire.Cancel: wire.Cancel(5, RUN),
    wire.Forget: wire.Forget(5, RUN),
    wire.Ask: wire.Ask(5, "cluster"),
    wire.Upload: wire.Upload(NAME, 0, 4, b"evil"),
    wire.Fetch: wire.Fetch(5, NAME, 0),
    wire.Report: wire.Report(5, [Outcome(1, 0, 2)], [b""]),
    wire.GaveBack: wire.GaveBack([(1, 0, 2)]),
    wire.Began: wire.Began([(1, 0)]),
    wire.SlotDied: wire.SlotDied(5, 1, 0, "evil"),
    wire.Beat: wire.Beat([]),
    wire.NeedFunctions: wire.NeedFunctions([FUNCTION]),
    wire.Leaving: wire.Leaving(),
    wire.Note: wire.Note(1, 0, "EVIL", b"evil"),
    wire.Waiting: wire.Waiting(1000),
    wire.Knows: wire.Knows(["evil"]),
    wire.Abort: wire.Abort(5, RUN),
    wire.Save: wire.Save(5, "evil", b"evil"),
    wire.Follow: wire.Follow(5, 0),
    wire.PutSchedule: wire.PutSchedule(5, "evil", bytes(16), ScheduleSpec(Every(1.0)), GRAPH, [BLOCK]),
    wire.ChangeSchedule: wire.ChangeSchedule(5, "nightly", "remove", bytes(16)),
    wire.SteerEngine: wire.SteerEngine(5, "", "drain"),
    wire.Resized: wire.Resized(1000),
    wire.Steer: wire.Steer(5, Chosen(), "cancel", bytes(16)),
    wire.SteerQueue: wire.SteerQueue(5, "default", "pause"),
    wire.SetRate: wire.SetRate(5, "t", 1.0),
}

ALLOWED = {
    "client": {
        wire.Ping, wire.PutFunctions, wire.Stage, wire.Submit, wire.Watch, wire.Unwatch, wire.Cancel,
        wire.Forget, wire.Ask, wire.Upload, wire.Fetch, wire.Leaving, wire.Abort, wire.Save, wire.Follow,
        wire.PutSchedule, wire.ChangeSchedule, wire.SteerEngine, wire.Steer, wire.SteerQueue, wire.SetRate,
    },
    "engine": {
        wire.Ping, wire.Report, wire.GaveBack, wire.Began, wire.SlotDied, wire.Beat, wire.NeedFunctions,
        wire.Upload, wire.Fetch, wire.Leaving, wire.Note, wire.Waiting, wire.Knows,
        wire.Resized,
    },
    "viewer": {wire.Ping, wire.Ask, wire.Follow, wire.Leaving},
}  # fmt: skip
"""Written out once more: whoever changes what a role may do has to change it here as well."""


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path)


def state_of(memory: Memory) -> tuple[Any, ...]:
    """Return all that a message could have changed."""
    hub = memory.hub
    ledger = hub.scheduler.ledger
    runs = {
        run.id: [(bytes(n.state), n.own and n.own.notes) for n in run.nodes] for run in ledger.runs.values()
    }
    return (
        runs,
        {name: (each.number, each.spec, each.state) for name, each in ledger.schedules.items()},
        hub.commits,
        sorted(ledger.leases),
        [(engine.info, engine.waiting) for engine in ledger.fleet.engines.values()],
        dict(memory.store.kept),
        sorted(path.name for path in memory.blobs.folder.iterdir()),
        memory.store.function(bytes(16)),
        hub.stagings.get(RUN) is None and hub.stagings.get(bytes(16)) is None,
        [dict(session.watches) for session in hub.peers],
    )


def test_every_message_of_a_peer_is_tried() -> None:
    assert set(ONE_OF_EACH) == set(TO_HUB)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", [k for k in TO_HUB if k is not wire.Hello], ids=lambda kind: kind.__name__)
def test_exactly_the_allowed_messages_have_an_effect(memory: Memory, role: wire.Role, kind: type) -> None:
    for joining in ROLES:
        memory.join(joining)
    memory.submit()
    before = state_of(memory)
    replies = memory.say(b"\0" + role.encode(), ONE_OF_EACH[kind])
    denied = wire.Denied("role", f"a {role} may not send {kind.__name__}")
    if kind in ALLOWED[role]:
        assert denied not in replies
    else:
        assert replies == [denied]
        assert state_of(memory) == before


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", [k for k in TO_HUB if k is not wire.Hello], ids=lambda kind: kind.__name__)
def test_nothing_is_heard_before_a_hello(memory: Memory, role: wire.Role, kind: type) -> None:
    memory.join("client")
    memory.submit()
    before = state_of(memory)
    replies = memory.say(b"\0stranger", ONE_OF_EACH[kind])
    assert replies == [wire.Denied("session", "say hello first")]
    assert state_of(memory) == before


@pytest.mark.parametrize("kind", [k for k in TO_HUB if k is not wire.Hello], ids=lambda kind: kind.__name__)
def test_a_session_works_for_its_own_connection_only(memory: Memory, kind: type) -> None:
    for joining in ROLES:
        memory.join(joining)
    memory.submit()
    for role in ROLES:
        before = state_of(memory)
        stolen = memory.sessions[b"\0" + role.encode()]
        replies = memory.put(b"\0thief", wire.encode(ONE_OF_EACH[kind], stolen))
        assert replies == [wire.Denied("session", "say hello first")]
        assert state_of(memory) == before


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("claimed", ROLES)
def test_a_key_is_for_its_own_role(memory: Memory, role: wire.Role, claimed: wire.Role) -> None:
    engine = ENGINE if claimed == "engine" else None
    hello = wire.Hello(wire.PROTOCOL, claimed, role.encode(), b"12345678", {}, engine)
    (reply,) = memory.say(b"\0peer", hello)
    if role == claimed:
        assert isinstance(reply, wire.Welcome)
    else:
        text = f"this key is for the role {role}, not {claimed}: use {claimed}.json"
        assert reply == wire.Denied("role", text)
        assert list(memory.hub.peers) == []


def test_an_unknown_key_is_denied(memory: Memory) -> None:
    (reply,) = memory.say(b"\0peer", wire.Hello(wire.PROTOCOL, "client", b"guess", b"12345678", {}))
    assert isinstance(reply, wire.Denied)
    assert reply.code == "key"
    assert list(memory.hub.peers) == []


@pytest.mark.parametrize("protocol", [0, 2, -1, 2**63])
def test_another_protocol_is_denied_with_both_versions(memory: Memory, protocol: int) -> None:
    (reply,) = memory.say(b"\0peer", wire.Hello(protocol, "client", b"client", b"12345678", {"nbq": "9.9"}))
    assert reply == wire.Denied(
        "version",
        f"the hub speaks protocol 1 (nbq 0), you speak {protocol} (nbq 9.9): "
        "install the same nbq on both sides",
    )


@pytest.mark.parametrize("role", ROLES)
def test_a_peer_that_makes_too_many_errors_is_dropped(memory: Memory, role: wire.Role) -> None:
    peer = memory.join(role)
    session = memory.sessions[peer]
    other = memory.join("client", b"\0other")
    for _ in range(module._ERRORS - 1):
        (denied,) = memory.put(peer, session + b"\xc1")
        assert isinstance(denied, wire.Denied)
        assert denied.code == "malformed"
    *_, last = memory.put(peer, session + b"\xc1")
    assert isinstance(last, wire.Denied)
    assert [s.peer for s in memory.hub.peers] == [other]
    assert memory.say(peer, wire.Ping()) == [wire.Denied("session", "say hello first")]
    assert memory.say(other, wire.Ask(1, "runs")) == [wire.Answer(1, 0)]


def test_an_engine_cannot_report_for_another(memory: Memory) -> None:
    memory.join("client")
    owner = memory.join("engine")
    thief = memory.join("engine", b"\0thief")
    memory.submit()
    (lease,) = [
        lease for lease in memory.hub.scheduler.ledger.leases.values() if lease.engine[:7] == b"\0engine"
    ][:1]
    before = memory.hub.scheduler.ledger.left
    outcome = Outcome(lease.token, lease.lo, lease.hi)
    replies = memory.say(thief, wire.Report(1, [outcome], [b""]))
    assert wire.Stale([lease.token]) in replies
    assert memory.hub.scheduler.ledger.left == before
    memory.say(thief, wire.GaveBack([(lease.token, 0, 2)]), wire.Began([(lease.token, 0)]))
    assert lease.token in memory.hub.scheduler.ledger.leases
    assert wire.Taken([1]) in memory.say(owner, wire.Report(1, [outcome], [b""]))
    assert memory.hub.scheduler.ledger.left == before - (lease.hi - lease.lo)


def test_a_report_with_a_missing_block_is_malformed(memory: Memory) -> None:
    peer = memory.join("engine")
    text = "a report with other than one block an outcome"
    assert memory.say(peer, wire.Report(1, [Outcome(1, 0, 1)], [])) == [wire.Denied("malformed", text)]


def test_a_viewer_sees_metadata_and_never_a_payload(memory: Memory) -> None:
    memory.join("client")
    viewer = memory.join("viewer")
    memory.submit()
    asks = [
        wire.Ask(1, "runs"),
        wire.Ask(2, "tasks"),
        wire.Ask(3, "cluster"),
        wire.Ask(4, "find", RUN.hex()),
        wire.Ask(5, "element", run=RUN, node=0, index=1),
    ]
    replies = memory.say(viewer, *asks)
    assert len(replies) == 5
    assert [reply for reply in replies if BLOCK.data in wire.encode(reply)] == []


def test_the_folder_of_blobs_is_named_to_peers_of_this_host_only(memory: Memory) -> None:
    peer = b"\1remote"
    memory.hub._identify = lambda user, token: ("kid", "client")
    frame = wire.encode(wire.Hello(wire.PROTOCOL, "client", b"", b"12345678", {}))
    memory.endpoint.put(peer, frame)
    (arrival,) = memory.endpoint.receive(0.0)
    memory.endpoint._arrivals.append(arrival._replace(user="kid:client"))
    memory.hub.turn(0.0)
    ((_, remote),) = memory.endpoint.sent[peer]
    (local,) = memory.say(b"\0local", wire.Hello(wire.PROTOCOL, "client", b"", b"87654321", {}))
    assert isinstance(remote, wire.Welcome)
    assert isinstance(local, wire.Welcome)
    assert (remote.blobs, local.blobs) == ("", str(memory.blobs.folder))


def test_a_blob_that_is_not_there_is_unknown(memory: Memory) -> None:
    peer = memory.join("client")
    assert memory.say(peer, wire.Fetch(9, NAME, 0)) == [wire.Chunk(9, NAME, 0, 0, b"")]
    (denied,) = memory.say(peer, wire.Fetch(9, "", 0))
    assert denied == wire.Denied("malformed", "not the name of a blob: ''")
    assert memory.say(peer, wire.Upload(NAME, 0, 4, b"data")) == [wire.Uploaded(NAME, 4)]
    assert memory.say(peer, wire.Fetch(9, NAME, 2**64 - 1)) == [wire.Chunk(9, NAME, 2**64 - 1, 4, b"")]
