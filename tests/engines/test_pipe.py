"""The pipe between supervisor and slot: frames survive any cut, and a full socket loses nothing."""

from __future__ import annotations

import socket

import pytest

from nbq.engines import pipe
from nbq.engines.pipe import Finished, Hello, Pipe, Results

MESSAGES = [Hello(7), Results(1, 0, 1, b"", [b"x" * 1000], 0.5, [0.1], {}, {0: ("o", "e")}), Finished(3)]


@pytest.mark.parametrize("step", [1, 3, 4, 5, 1000])
def test_messages_survive_any_cut(step: int) -> None:
    ours, theirs = socket.socketpair()
    sender = Pipe(theirs)
    for message in MESSAGES:
        sender.send(message)
    theirs.close()
    sent = b"".join(iter(lambda: ours.recv(4096), b""))
    ours.close()
    ours, theirs = socket.socketpair()
    receiver, found = Pipe(ours), []
    for at in range(0, len(sent), step):
        theirs.send(sent[at : at + step])
        assert receiver.read()
        found.extend(receiver.from_slot())
    theirs.close()
    assert not receiver.read()
    assert found == MESSAGES
    ours.close()


def test_a_full_socket_loses_nothing_and_keeps_the_order() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    sender, receiver, found = Pipe(ours), Pipe(theirs), []
    sent = [pipe.FunctionBody(bytes([n]), bytes(100_000), "") for n in range(50)]
    for message in sent:
        sender.send(message)
    assert not sender.flush()
    while len(found) < len(sent):
        sender.flush()
        assert receiver.read()
        found.extend(receiver.to_slot())
    assert found == sent
    assert sender.flush()
    ours.close()
    theirs.close()


def test_the_page_is_seen_through_every_mapping() -> None:
    handle, mapping = pipe.make_page()
    first, second = pipe.open_page(handle), pipe.open_page(handle)
    first[pipe.POSITION] = 2**63
    assert list(second) == [2**63] + [0] * (len(second) - 1)
    first.release()
    second.release()
    mapping.close()
