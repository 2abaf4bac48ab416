"""Long polls of a hub: answered when there is something, at most twenty times a second, bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbq import followers, wire
from nbq.core.model import NONE
from tests.security.loopback import RUN, Memory

BASE = 1 << 40


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    found = Memory(tmp_path)
    found.join("viewer")
    return found


def follow(memory: Memory, message: wire.Follow, peer: bytes = b"\0viewer") -> list[wire.ToPeer]:
    return memory.say(peer, message)


def happen(memory: Memory, engine: bytes) -> list[wire.ToPeer]:
    """Let an engine join, and return what the viewer is told meanwhile."""
    memory.endpoint.sent.pop(b"\0viewer", None)
    memory.join("engine", engine)
    return told(memory)


def told(memory: Memory) -> list[wire.ToPeer]:
    memory.hub.turn(0.0)
    return [m for _, m in memory.endpoint.sent.pop(b"\0viewer", []) if not isinstance(m, wire.Pong)]


def numbers(replies: list[wire.ToPeer]) -> list[tuple[int, list[int], int]]:
    """Return request, numbers of events, and the number to go on after."""
    return [
        (reply.request, [one.seq - BASE for one in reply.events], reply.last - BASE)
        for reply in replies
        if isinstance(reply, wire.Events)
    ]


def test_a_poll_waits_until_something_happens(memory: Memory) -> None:
    assert follow(memory, wire.Follow(1, NONE)) == []
    assert numbers(happen(memory, b"\0one")) == [(1, [1], 1)]
    assert happen(memory, b"\0two") == []  # it was answered


def test_one_that_does_not_wait_is_answered_at_once(memory: Memory) -> None:
    assert follow(memory, wire.Follow(1, NONE, wait=False)) == [wire.Events(1, [], 0, BASE)]
    happen(memory, b"\0one")
    assert numbers(follow(memory, wire.Follow(2, 0, wait=False))) == [(2, [1], 1)]


def test_what_is_there_is_told_at_once_and_then_twenty_times_a_second(memory: Memory) -> None:
    happen(memory, b"\0one")
    assert numbers(follow(memory, wire.Follow(1, 0))) == [(1, [1], 1)]
    happen(memory, b"\0two")
    assert follow(memory, wire.Follow(2, BASE + 1)) == []
    assert memory.hub._requests.followers.wait_s(memory.now) == pytest.approx(0.05)
    memory.pass_time(0.04)
    assert told(memory) == []
    memory.pass_time(0.011)
    assert numbers(told(memory)) == [(2, [2], 2)]
    assert memory.hub._requests.followers.wait_s(memory.now) == float("inf")


def test_one_that_is_sent_again_is_answered_once(memory: Memory) -> None:
    for _ in range(3):
        follow(memory, wire.Follow(1, NONE))
    assert numbers(happen(memory, b"\0one")) == [(1, [1], 1)]


def test_polls_go_with_their_session(memory: Memory) -> None:
    follow(memory, wire.Follow(1, NONE))
    memory.say(b"\0viewer", wire.Leaving())
    assert happen(memory, b"\0one") == []
    assert memory.hub._requests.followers._followers == {}


def test_only_so_many_polls_of_a_session_wait_and_the_oldest_makes_room(memory: Memory) -> None:
    count = followers._WAITING + 2
    for number in range(1, count + 1):
        follow(memory, wire.Follow(number, NONE))
    answered = [request for request, _, _ in numbers(happen(memory, b"\0one"))]
    assert answered == list(range(3, count + 1))


def test_what_the_filter_leaves_out_is_passed_over_and_told_of_now_and_then(memory: Memory) -> None:
    memory.join("client")
    nothing = wire.EventFilter(queue="elsewhere")
    follow(memory, wire.Follow(1, NONE, nothing))
    for number in range(followers._LOOKED - 1):
        memory.hub.scheduler.chronicle._rare("queue-paused", str(number), "")
    assert told(memory) == []
    memory.hub.scheduler.chronicle._rare("queue-paused", "last", "")
    assert told(memory) == [wire.Events(1, [], 0, BASE + followers._LOOKED)]


def test_an_answer_fits_into_a_message(memory: Memory) -> None:
    for _ in range(5000):
        memory.hub.scheduler.chronicle._rare("queue-paused", "q" * 200, "t" * 500)
    (reply,) = follow(memory, wire.Follow(1, 0, limit=10_000, wait=False))
    assert isinstance(reply, wire.Events)
    assert len(wire.encode(reply)) < wire.FRAME_LIMIT
    assert 100 < len(reply.events) < 5000
    assert reply.last == reply.events[-1].seq


def test_nothing_is_told_before_it_is_committed(memory: Memory) -> None:
    memory.join("client")
    memory.join("engine")
    follow(memory, wire.Follow(1, NONE, wire.EventFilter(["submitted"])))
    commits = memory.hub.commits
    memory.submit()
    assert memory.hub.commits > commits
    (reply,) = [m for _, m in memory.endpoint.sent[b"\0viewer"] if isinstance(m, wire.Events)]
    assert [(one.kind, one.count, one.run) for one in reply.events] == [("submitted", 2, RUN.hex())]
    assert memory.store.facts != []
