"""The encoding of messages: what is written is read back, and what is no message raises ProtocolError."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nbq import operations, wire
from nbq.core.model import Graph, Many, NodeSpec, Slice
from nbq.errors import ProtocolError
from tests.wire.samples import TO_HUB, TO_PEER, instances, to_hub, to_peer

SESSION = bytes(range(8))
RUN = bytes(range(16))


def tag(kind: type[msgspec.Struct]) -> int:
    number = kind.__struct_config__.tag
    assert isinstance(number, int)
    return number


def raw(*fields: Any) -> bytes:
    return wire.NO_SESSION + msgspec.msgpack.encode(list(fields))


@pytest.mark.parametrize("kind", TO_HUB, ids=lambda kind: kind.__name__)
def test_every_message_of_a_peer_is_read_as_it_was_written(kind: type[msgspec.Struct]) -> None:
    @settings(max_examples=20, deadline=None, derandomize=True)
    @given(instances(kind))
    def check(message: Any) -> None:
        assert wire.decode_to_hub(wire.encode(message, SESSION)) == (SESSION, message)

    check()


@pytest.mark.parametrize("kind", TO_PEER, ids=lambda kind: kind.__name__)
def test_every_message_of_a_hub_is_read_as_it_was_written(kind: type[msgspec.Struct]) -> None:
    @settings(max_examples=20, deadline=None, derandomize=True)
    @given(instances(kind))
    def check(message: Any) -> None:
        assert wire.decode_to_peer(wire.encode(message, SESSION)) == (SESSION, message)

    check()


def test_the_unions_hold_every_message_class() -> None:
    tagged = {
        kind
        for kind in vars(wire).values()
        if inspect.isclass(kind)
        and issubclass(kind, msgspec.Struct)
        and kind.__module__ in (wire.__name__, operations.__name__)
        and kind.__struct_config__.tag is not None
    }
    assert tagged == set(TO_HUB) | set(TO_PEER)
    assert set(TO_HUB) & set(TO_PEER) == {wire.NeedFunctions}


def test_tags_are_distinct_and_say_the_direction() -> None:
    assert len({tag(kind) for kind in TO_HUB}) == len(TO_HUB)
    assert len({tag(kind) for kind in TO_PEER}) == len(TO_PEER)
    assert {kind for kind in TO_HUB if tag(kind) >= 100} == set()
    assert {kind for kind in TO_PEER if tag(kind) < 100} == {wire.NeedFunctions}


def test_every_message_is_an_array_that_starts_with_its_tag() -> None:
    assert wire.encode(wire.Ping(), SESSION) == SESSION + b"\x91\x02"
    assert wire.encode(wire.Fetch(7, "ab" * 16, 3)) == raw(12, 7, "ab" * 16, 3)


def test_a_session_defaults_to_none() -> None:
    assert wire.decode_to_hub(wire.encode(wire.Ping())) == (bytes(8), wire.Ping())


@pytest.mark.parametrize("kind", [*TO_HUB, *TO_PEER], ids=lambda kind: kind.__name__)
def test_fields_that_a_later_version_added_are_ignored(kind: type[msgspec.Struct]) -> None:
    @settings(max_examples=3, deadline=None, derandomize=True)
    @given(instances(kind))
    def check(message: Any) -> None:
        fields = msgspec.msgpack.decode(msgspec.msgpack.encode(message))
        longer = raw(*fields, {"new": [1, 2.5, None]}, b"more")
        decode = wire.decode_to_hub if kind in TO_HUB else wire.decode_to_peer
        assert decode(longer) == (wire.NO_SESSION, message)

    check()


def test_fields_with_defaults_may_be_left_out() -> None:
    short = raw(1, wire.PROTOCOL, "viewer", b"", b"12345678", {})
    assert wire.decode_to_hub(short)[1] == wire.Hello(wire.PROTOCOL, "viewer", b"", b"12345678", {})
    assert wire.decode_to_hub(raw(10, 5, "cluster"))[1] == wire.Ask(5, "cluster")


GRAPH = Graph([NodeSpec("t", RUN)], value=Slice(0, 0, 1))
BLOCK = wire.Block(0, 0, 1, b"x", 1)

SPEC = {"task": "t", "function": RUN}
ENGINE = {"name": "e", "host": "h", "pid": 1, "slots": 1, "queues": []}

REFUSED = {
    "nothing": b"",
    "a session alone": SESSION,
    "half a session": SESSION[:5],
    "no array": wire.NO_SESSION + msgspec.msgpack.encode({"type": 2}),
    "an empty array": raw(),
    "an unknown tag": raw(99),
    "a tag of the other direction": raw(103, 1),
    "a tag that is no number": raw("Ping"),
    "bytes behind the message": wire.encode(wire.Ping()) + b"\x00",
    "an opcode that does not exist": wire.NO_SESSION + b"\x92\x02\xc1",
    "text that is not UTF-8": raw(10, 1, "find", "?~?").replace(b"?~?", b"\xff~\xff"),
    "an array longer than the frame": wire.NO_SESSION + b"\x93\x11\xdd\xff\xff\xff\xff",
    "a map longer than the frame": wire.NO_SESSION + b"\x92\x03\xdf\xff\xff\xff\xff",
    "bytes longer than the frame": wire.NO_SESSION + b"\x95\x0b\xa0\x00\x00\xc6\xff\xff\xff\xff",
    "nesting without end": wire.NO_SESSION + b"\x92\x02" + b"\x91" * 100_000,
    "nesting that is well formed": wire.NO_SESSION + b"\x92\x02" + b"\x91" * 50_000 + b"\x00",
    "a missing field": raw(7),
    "a string for bytes": raw(7, "0123456789abcdef"),
    "a run id that is too short": raw(7, RUN[:15]),
    "a run id that is too long": raw(7, RUN + b"x"),
    "a fraction for a number": raw(8, 1.5, RUN),
    "a negative index": raw(8, 1, RUN, 0, -1, 2),
    "a node below NONE": raw(8, 1, RUN, -2),
    "an index of 2**31": raw(8, 1, RUN, 2**31),
    "a role that does not exist": raw(1, 1, "admin", b"", b"12345678", {}),
    "an id that is too short": raw(1, 1, "client", b"", b"1234567", {}),
    "a token that is too long": raw(1, 1, "client", b"x" * 65, b"12345678", {}),
    "a question that does not exist": raw(10, 1, "secrets"),
    "more rows than allowed": raw(10, 1, "runs", "", 1001),
    "a text that is too long": raw(10, 1, "runs", "x" * 1025),
    "a blob name with a path": raw(12, 1, "../../etc/passwd", 0),
    "a blob name in capitals": raw(12, 1, "AB" * 16, 0),
    "a blob name that is too short": raw(12, 1, "ab", 0),
    "a blob name with a line end": raw(12, 1, "ab" * 16 + "\n", 0),
    "an outcome whose blob is a path": raw(13, 1, [[5, 0, 1, b"", 9, "../x"]], [b""]),
    "an offset below zero": raw(12, 1, "ab" * 16, -1),
    "a block of no elements": raw(4, RUN, 0, [[0, 0, 0, b"", 0]]),
    "a function address that is too short": raw(3, {b"short": b""}),
    "a graph without a function": raw(5, RUN, {"nodes": [{"task": "t"}]}, []),
    "a graph as a list": raw(5, RUN, [[]], []),
    "options out of bounds": raw(5, RUN, {"nodes": [{**SPEC, "options": {"priority": 1001}}]}, []),
    "an engine without slots": raw(1, 1, "engine", b"", b"12345678", {}, {**ENGINE, "slots": 0}),
}  # fmt: skip


@pytest.mark.parametrize("frame", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_message_to_a_hub_raises_protocol_error(frame: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^not a message to a hub: "):
        wire.decode_to_hub(frame)


def test_what_is_no_message_from_a_hub_raises_protocol_error() -> None:
    with pytest.raises(ProtocolError, match=r"^not a message from a hub: .*\$\[0\]"):
        wire.decode_to_peer(wire.encode(wire.Report(1, [], []))[:8] + b"\x92\xc0\x01")
    with pytest.raises(ProtocolError, match=r"^not a message from a hub: "):
        wire.decode_to_peer(wire.encode(wire.Ping()))


def test_a_value_nested_beyond_all_reason_raises_protocol_error() -> None:
    value: Slice | Many = Slice(0, 0, 1)
    for _ in range(600):
        value = Many([value])
    lease = wire.Lease(
        1, RUN, 0, 0, 1, 1, "t", RUN, BLOCK, False, wire.Feed(False, Slice(9, 9, 9), []), False, 0.5
    )
    plain = wire.encode(lease)
    cut = msgspec.msgpack.encode(Slice(9, 9, 9))
    nested = b"\x92\xa1m\x91" * 600 + msgspec.msgpack.encode(Slice(0, 0, 1))
    assert plain.count(cut) == 1
    with pytest.raises(ProtocolError, match="recursion"):
        wire.decode_to_peer(plain.replace(cut, nested))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=200))
@example(b"\x00" * 8 + b"\x91\x02")
def test_no_bytes_make_a_decoder_raise_anything_else(frame: bytes) -> None:
    for decode in (wire.decode_to_hub, wire.decode_to_peer):
        try:
            session, message = decode(frame)
        except ProtocolError:
            continue
        assert session == frame[:8]
        assert decode(wire.encode(message, session)) == (session, message)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.one_of(to_hub(), to_peer()), st.data())
def test_a_damaged_message_is_a_message_or_a_protocol_error(message: Any, data: st.DataObject) -> None:
    frame = bytearray(wire.encode(message, SESSION))
    for _ in range(data.draw(st.integers(1, 4), "changes")):
        at = data.draw(st.integers(0, len(frame) - 1), "at")
        match data.draw(st.sampled_from(["set", "cut", "double", "insert"]), "how"):
            case "set":
                frame[at] = data.draw(st.integers(0, 255), "byte")
            case "cut":
                del frame[at : at + data.draw(st.integers(1, 8), "count")]
            case "double":
                frame[at:at] = frame[at : at + 16]
            case _:
                frame[at:at] = data.draw(st.binary(min_size=1, max_size=9), "bytes")
        if not frame:
            break
    for decode in (wire.decode_to_hub, wire.decode_to_peer):
        try:
            found = decode(bytes(frame))
        except ProtocolError:
            continue
        assert decode(wire.encode(found[1], found[0])) == found


@settings(max_examples=50, deadline=None, derandomize=True)
@given(to_hub())
def test_a_message_cut_anywhere_raises_protocol_error(message: Any) -> None:
    frame = wire.encode(message)
    for end in range(len(frame)):
        with pytest.raises(ProtocolError):
            wire.decode_to_hub(frame[:end])


def test_the_meta_of_a_block_is_all_but_its_bytes() -> None:
    block = wire.Block(3, 256, 10, b"", 70_000, "ab" * 16, 5, 256, 260)
    meta = block.meta()
    assert (meta.node, meta.lo, meta.n, meta.size, meta.blob) == (3, 256, 10, 70_000, "ab" * 16)
