"""Blocks: grouping, seals that bind content and place, compression, and what is refused before it is read."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbq import compressions, payload
from nbq.errors import ContentDisallowed, IntegrityError

KEY = bytes(range(32))
RUN = bytes(range(16))
PLACE = payload.origin("result", RUN, 3, 256)


COMPRESSIONS = ["none", "auto", "bzip2", "gzip", "lz4", "zlib", "zstd"]


def elements_of(block: payload.OpenBlock) -> list[bytes]:
    return [bytes(view) for view in block.elements(0, block.count)]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.binary(max_size=200), min_size=1, max_size=50),
    st.binary(max_size=50),
    st.sampled_from(COMPRESSIONS),
)
def test_a_block_is_opened_as_it_was_sealed(elements: list[bytes], extras: bytes, compression: str) -> None:
    data = payload.seal(KEY, PLACE, elements, extras, compression=compression)
    opened = payload.unseal(KEY, PLACE, data)
    assert (elements_of(opened), opened.extras) == (elements, extras)
    assert [bytes(opened.element(i)) for i in range(opened.count)] == elements


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 3 * payload.BLOCK_BYTES // 2), max_size=40))
def test_packing_keeps_order_and_both_bounds(sizes: list[int]) -> None:
    elements = [bytes(size) for size in sizes]
    at = 0
    for lo, group in payload.pack(iter(elements)):
        assert lo == at
        assert group == elements[at : at + len(group)]
        assert len(group) == 1 or sum(map(len, group)) <= payload.BLOCK_BYTES
        at += len(group)
    assert at == len(elements)


def test_packing_fills_blocks_of_256() -> None:
    groups = [(lo, len(group)) for lo, group in payload.pack(b"x" for _ in range(600))]
    assert groups == [(0, 256), (256, 256), (512, 88)]


def test_packing_fills_blocks_of_64_kib_and_leaves_large_elements_alone() -> None:
    half = bytes(payload.BLOCK_BYTES // 2)
    large = bytes(payload.BLOCK_BYTES + 1)
    groups = [(lo, len(group)) for lo, group in payload.pack([half, half, half, large, b"", b""])]
    assert groups == [(0, 2), (2, 1), (3, 1), (4, 2)]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_block_with_any_byte_changed_is_refused(compression: str) -> None:
    data = payload.seal(KEY, PLACE, [b"a" * 40, b"b" * 200], b"extras", compression=compression)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 0x10
        with pytest.raises(IntegrityError):
            payload.unseal(KEY, PLACE, bytes(changed))


def test_a_block_that_is_cut_or_lengthened_is_refused() -> None:
    data = payload.seal(KEY, PLACE, [b"abc"])
    for end in range(len(data)):
        with pytest.raises(IntegrityError):
            payload.unseal(KEY, PLACE, data[:end])
    with pytest.raises(IntegrityError):
        payload.unseal(KEY, PLACE, data + b"\0")


_Kind = Literal["args", "result"]


@pytest.mark.parametrize(
    ("kind", "run", "node", "lo", "function"),
    [
        ("result", RUN, 3, 256, b"f" * 16),
        ("args", bytes(16), 3, 256, b"f" * 16),
        ("args", RUN, 2, 256, b"f" * 16),
        ("args", RUN, 3, 0, b"f" * 16),
        ("args", RUN, 3, 256, b"g" * 16),
        ("args", RUN, 3, 256, b""),
    ],
    ids=["kind", "run", "node", "element", "function", "no function"],
)
def test_a_block_moved_to_another_place_is_refused(
    kind: _Kind, run: bytes, node: int, lo: int, function: bytes
) -> None:
    data = payload.seal(KEY, payload.origin("args", RUN, 3, 256, b"f" * 16), [b"x"])
    assert payload.unseal(KEY, payload.origin("args", RUN, 3, 256, b"f" * 16), data).count == 1
    with pytest.raises(IntegrityError, match="was sealed for another place"):
        payload.unseal(KEY, payload.origin(kind, run, node, lo, function), data)


def test_a_block_sealed_with_another_key_is_refused() -> None:
    with pytest.raises(IntegrityError):
        payload.unseal(KEY, PLACE, payload.seal(bytes(32), PLACE, [b"x"]))


TOUCHED: list[int] = []


def touch(number: int) -> None:
    TOUCHED.append(number)


class Canary:
    """Is seen when it is unpickled."""

    def __reduce__(self) -> Any:
        return touch, (1,)


def test_nothing_is_unpickled_before_the_seal_is_checked() -> None:
    TOUCHED.clear()
    data = bytearray(payload.seal(KEY, PLACE, [bytes(payload.dumps(Canary()))]))
    data[0] ^= 1
    with pytest.raises(IntegrityError):
        payload.unseal(KEY, PLACE, bytes(data)).value(0)
    assert TOUCHED == []
    data[0] ^= 1
    payload.unseal(KEY, PLACE, bytes(data)).value(0)
    assert TOUCHED == [1]  # so the canary lives


@pytest.mark.parametrize(("lo", "hi"), [(-1, 1), (0, 4), (2, 1), (3, 4)])
def test_elements_that_a_block_does_not_have_are_refused(lo: int, hi: int) -> None:
    block = payload.unseal(KEY, PLACE, payload.seal(KEY, PLACE, [b"a", b"b", b"c"]))
    with pytest.raises(IntegrityError, match="a payload of 3 elements was asked for"):
        block.elements(lo, hi)


@pytest.mark.parametrize("index", [-4, -1, 3, 2**40])
def test_an_element_that_a_block_does_not_have_is_refused(index: int) -> None:
    block = payload.unseal(KEY, PLACE, payload.seal(KEY, PLACE, [b"a", b"b", b"c"]))
    with pytest.raises(IntegrityError, match=f"a payload of 3 elements was asked for element {index}"):
        block.element(index)


def test_elements_are_views_of_the_block() -> None:
    data = payload.seal(KEY, PLACE, [b"abc", b"defg"])
    view = payload.unseal(KEY, PLACE, data).element(1)
    assert view.obj is data


def test_a_block_of_one_element_starts_on_a_boundary_of_64_bytes() -> None:
    for count in (1, 2, 7, 256):
        data = payload.seal(KEY, PLACE, [b"x" * 10] * count)
        assert data.index(b"x" * 10) % 64 == 0


def test_compression_is_used_only_where_it_pays() -> None:
    text = [b"the same words again and again " * 50]
    noise = [bytes((i * 7919 * (i + 13)) % 251 for i in range(3000))]
    assert len(payload.seal(KEY, PLACE, text, compression="auto")) < len(text[0]) // 5
    assert payload.seal(KEY, PLACE, [b"tiny"], compression="auto") == payload.seal(KEY, PLACE, [b"tiny"])
    assert (
        elements_of(payload.unseal(KEY, PLACE, payload.seal(KEY, PLACE, noise, compression="auto"))) == noise
    )


def forged(
    count: int,
    lengths: list[int],
    rest: bytes,
    compression: bytes = b"",
    serializer: bytes = b"",
    version: int = 2,
) -> bytes:
    """Return a block with a true seal that no honest peer would make."""
    head = struct.pack(
        f"<BBBBI{len(lengths)}Q", version, len(serializer), len(compression), 0, count, *lengths
    )
    body = head + serializer + compression + rest
    return payload._mac(KEY, PLACE, [body]) + body


SQUEEZED = [name for name in COMPRESSIONS if name not in {"none", "auto"}]


@pytest.mark.parametrize("name", SQUEEZED)
def test_a_bomb_is_refused_by_the_size_that_it_names(name: str) -> None:
    squeezed = compressions.compress(name, bytes(1000))
    bomb = forged(1, [1 << 40], (1 << 40).to_bytes(8, "little") + squeezed, name.encode())
    with pytest.raises(IntegrityError, match=r"would expand to 1,099,511,627,776 bytes"):
        payload.unseal(KEY, PLACE, bomb)


@pytest.mark.parametrize("name", SQUEEZED)
def test_a_bomb_that_understates_its_size_is_refused_without_being_expanded(name: str) -> None:
    size = 64 * 1024 * 1024
    squeezed = compressions.compress(name, bytes(size))
    bomb = forged(1, [size], (1000).to_bytes(8, "little") + squeezed, name.encode())
    tracemalloc.start()
    try:
        with pytest.raises(
            IntegrityError, match=f"cannot be expanded by {name}: it has more than 1,000 bytes"
        ):
            payload.unseal(KEY, PLACE, bomb)
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", SQUEEZED)
@pytest.mark.parametrize("content", [b"", b"short", b"\0" * 99], ids=len)
def test_content_that_is_not_of_the_size_it_says_is_refused(name: str, content: bytes) -> None:
    squeezed = compressions.compress(name, content)
    with pytest.raises(IntegrityError, match="does not expand to the size that it says"):
        payload.unseal(KEY, PLACE, forged(1, [100], (100).to_bytes(8, "little") + squeezed, name.encode()))


@pytest.mark.parametrize("name", SQUEEZED)
def test_content_that_is_cut_or_is_something_else_is_refused(name: str) -> None:
    squeezed = compressions.compress(name, bytes(range(100)))
    for data in (squeezed[:-1], squeezed[: len(squeezed) // 2], b"", b"something else", squeezed + b"more"):
        with pytest.raises(IntegrityError, match="expand"):
            payload.unseal(KEY, PLACE, forged(1, [100], (100).to_bytes(8, "little") + data, name.encode()))


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (forged(1, [1000], b"x" * 10), "shorter than it says"),
        (forged(3, [], b"x" * 10), "shorter than it says"),
        (forged(1, [1], b"x", version=1), "version 1 cannot be read here"),
        (forged(1, [1], b"x", serializer=b"\xff"), "letters that no name has"),
        (forged(1, [1], bytes(9), compression=b"\xff"), "letters that no name has"),
    ],
    ids=["lengths", "count", "version", "serializer", "compression"],
)
def test_a_sealed_block_that_is_wrong_inside_is_refused(block: bytes, reason: str) -> None:
    with pytest.raises(IntegrityError, match=reason):
        payload.unseal(KEY, PLACE, block)


def test_a_compression_that_is_not_known_here_is_said() -> None:
    with pytest.raises(ContentDisallowed, match="was compressed by 'snappy', which is not registered here"):
        payload.unseal(KEY, PLACE, forged(1, [1], bytes(9), b"snappy"))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.binary(max_size=200), st.sampled_from(["", "json", "zz", "a:b"]), st.sampled_from(["", *SQUEEZED, "q"])
)
def test_whatever_is_sealed_raises_nothing_else(rest: bytes, serializer: str, compression: str) -> None:
    """Also with the right seal, which only a peer that holds the key can make."""
    blocks = [rest, payload._mac(KEY, PLACE, [rest]) + rest]
    blocks.append(forged(1, [len(rest)], rest, compression.encode(), serializer.encode()))
    for block in blocks:
        try:
            opened = payload.unseal(KEY, PLACE, block, accept={"pickle", "json"})
            opened.elements(0, opened.count)
        except (IntegrityError, ContentDisallowed):
            continue
        assert opened.serializer in {"pickle", "json"}


def test_extras_come_back() -> None:
    extras = payload.dump_extras(12.5, [0.5, 0.25], {1: ("out", "err")}, {0: ["r1", "r2"]})
    started_s, seconds, output, children = payload.load_extras(extras)
    assert (started_s, list(seconds), output, children) == (
        12.5,
        [0.5, 0.25],
        {1: ("out", "err")},
        {0: ["r1", "r2"]},
    )
    assert payload.load_extras(b"") == (0.0, [], {}, {})
    assert payload.load_extras(payload.dump_extras(1.0, [], {}))[2:] == ({}, {})
