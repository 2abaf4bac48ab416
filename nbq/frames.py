"""Messages larger than a frame: cut into pieces where they are sent, joined again where they arrive.

Few are: the graph of a canvas with ten thousand shapes, a thousand rows of errors. A **piece** is a frame of
its own: the session token, a byte with which no msgpack begins, the number of the piece, how many there are,
and its part of the message. The pieces of a message follow each other on one connection; whoever cannot send
all of them begins anew, so piece 0 ends whatever was incomplete. What is joined is bounded here.
"""

from __future__ import annotations

import struct
from collections import OrderedDict

from nbq.wire import FRAME_LIMIT, SESSION_BYTES

__all__ = ["MESSAGE_LIMIT", "Joiner", "cut", "is_piece"]

MESSAGE_LIMIT = 16 * 1024 * 1024
"""Bytes of one message, in however many frames."""

_MARK = 0xC1
"""The one byte that msgpack never uses."""
_HEAD = struct.Struct("<BHH")
_PIECE_BYTES = FRAME_LIMIT - SESSION_BYTES - _HEAD.size
_MOST_PIECES = -(-MESSAGE_LIMIT // _PIECE_BYTES)
_TOGETHER_BYTES = 4 * MESSAGE_LIMIT


def cut(frame: bytes) -> list[bytes]:
    """Return the frames that carry a message: the one that it is, or pieces of that."""
    if len(frame) <= FRAME_LIMIT:
        return [frame]
    session, body = frame[:SESSION_BYTES], memoryview(frame)[SESSION_BYTES:]
    starts = range(0, len(body), _PIECE_BYTES)
    return [
        session + _HEAD.pack(_MARK, number, len(starts)) + body[at : at + _PIECE_BYTES]
        for number, at in enumerate(starts)
    ]


def is_piece(frame: bytes) -> bool:
    """Return whether a frame is not a whole message."""
    return frame[SESSION_BYTES : SESSION_BYTES + 1] == b"\xc1"


class Joiner:
    """Puts pieces together. Over four messages' worth, what was begun first is given up."""

    def __init__(self) -> None:
        self._begun: OrderedDict[bytes, list[bytes]] = OrderedDict()
        self._size = 0

    def join(self, peer: bytes, frame: bytes) -> bytes | None:
        """Take in a piece from a peer; returns the frame that was cut once it is whole, else None.

        What cannot be a piece is returned as it is: no message either, as its reader will say.
        """
        body = frame[SESSION_BYTES:]
        if len(body) <= _HEAD.size:
            return frame
        _, number, count = _HEAD.unpack_from(body)
        if not number < count <= _MOST_PIECES:
            return frame
        if number == 0:
            self._drop(peer)
        parts = self._begun.get(peer, [])
        if number != len(parts):
            self._drop(peer)
            return None
        parts.append(body[_HEAD.size :])
        self._begun[peer] = parts
        self._size += len(parts[-1])
        if len(parts) < count:
            while self._size > _TOGETHER_BYTES:
                self._drop(next(iter(self._begun)))
            return None
        self._drop(peer)
        return frame[:SESSION_BYTES] + b"".join(parts)

    def _drop(self, peer: bytes) -> None:
        self._size -= sum(map(len, self._begun.pop(peer, [])))
