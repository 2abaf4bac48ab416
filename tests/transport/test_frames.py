"""Messages larger than a frame arrive as they were sent; what is begun and never ended is bounded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nbq import frames, wire
from nbq.core.model import Graph, NodeSpec, Slice
from nbq.frames import MESSAGE_LIMIT, Joiner, cut, is_piece
from nbq.transport import Delivery
from tests.transport.places import Place, hello, messages

SESSION = bytes(range(8))
STEPS = 20_000


@pytest.fixture(params=["tcp", "ipc"])
def over(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


def long_chain() -> Graph:
    """Return a canvas whose description is larger than a frame."""
    nodes = [NodeSpec("shop.step", b"f" * 16, after_node=at - 1, fed=at > 0) for at in range(STEPS)]
    return Graph(nodes, value=Slice(STEPS - 1, 0, 1))


def test_large_messages_arrive_whole_and_in_order_in_both_directions(place: Place, over: str) -> None:
    peer = place.peer(place.connection(over=over))
    submit = wire.Submit(b"r" * 16, long_chain(), [])
    assert len(wire.encode(submit)) > wire.FRAME_LIMIT
    peer.send(hello())
    (first,) = place.arrivals()
    sent: list[wire.ToHub] = [submit, wire.Ping(), submit]
    assert all(peer.send(message) for message in sent)
    assert [arrival.message for arrival in place.arrivals(3)] == sent
    back: list[wire.ToPeer] = [wire.Found(1, submit.run, submit.graph, 0.0), wire.Pong(1)]
    assert [place.hub.send(first.peer, SESSION, message) for message in back] == [Delivery.SENT] * 2
    assert messages(peer, 2) == back


@pytest.mark.parametrize("size", [9, wire.FRAME_LIMIT, wire.FRAME_LIMIT + 1, 3 * wire.FRAME_LIMIT])
def test_a_cut_frame_is_joined_again(size: int) -> None:
    frame = SESSION + bytes([0x92]) + bytes(size - 9)
    pieces = cut(frame)
    assert [is_piece(piece) for piece in pieces] == [size > wire.FRAME_LIMIT] * len(pieces)
    assert max(map(len, pieces)) <= wire.FRAME_LIMIT
    if len(pieces) > 1:
        joiner = Joiner()
        *ahead, last = [joiner.join(b"p", piece) for piece in pieces]
        assert ahead == [None] * len(ahead)
        assert last == frame


def test_what_was_begun_is_begun_anew_and_what_does_not_follow_is_ignored() -> None:
    frame = SESSION + bytes(range(256)) * 12_000
    first, second, third = cut(frame)
    joiner = Joiner()
    got = [joiner.join(b"p", piece) for piece in (second, first, third, second, first, second, first, second)]
    assert got == [None] * 8
    assert joiner.join(b"q", third) is None
    assert joiner.join(b"p", third) == frame


@pytest.mark.parametrize("body", [b"\xc1", b"\xc1\0\0\2\0", b"\xc1\0\0\xff\xffrest", b"\xc1\2\0\2\0rest"])
def test_what_cannot_be_a_piece_stays_as_it_is_to_be_refused(body: bytes) -> None:
    assert Joiner().join(b"p", SESSION + body) == SESSION + body


def test_who_never_ends_a_message_holds_a_bounded_part_of_memory() -> None:
    joiner = Joiner()
    first, *_ = cut(SESSION + bytes(MESSAGE_LIMIT // 2))
    for number in range(100):
        joiner.join(number.to_bytes(2, "big"), first)
    assert joiner._size <= frames._TOGETHER_BYTES
    assert sum(len(part) for parts in joiner._begun.values() for part in parts) == joiner._size
