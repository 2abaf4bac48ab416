"""Payloads: values to bytes and back, sealed for the place where they were made.

An **element** is one value (the arguments of one call, one result, one failure) as bytes of its own. A
**block** holds up to 256 elements, or one large one, under one keyed hash that binds content and origin:
``unseal`` refuses a block that was changed, or moved, or made by a serializer that is not accepted, before
anything in it is looked at. Clients and engines hold the key; the hub does not.

Block: mac 16 | version, bytes of the serializer's and of the compression's name, 0: 4 | count u32 | a
length u64 for each element | the two names, empty for pickle and none | zeros up to a multiple of 64 |
elements | extras. When compressed, what follows the names is the raw size u64 and the compressed rest.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import msgspec

from nbq import codecs, compressions, pickling
from nbq.codecs import PICKLE, Encoding, check_accepted, encoding
from nbq.errors import (
    ContentDisallowed,
    IntegrityError,
    NotSerializable,
    PayloadTooLarge,
    SettingsError,
)
from nbq.failures import dump_failure, load_failure, summary
from nbq.pickling import Element, LargeElement, dump_function

__all__ = [
    "BLOCK_BYTES",
    "BLOCK_ELEMENTS",
    "ELEMENT_LIMIT",
    "KEY_BYTES",
    "Element",
    "Encoding",
    "LargeElement",
    "OpenBlock",
    "check_accepted",
    "dump_call",
    "dump_calls",
    "dump_extras",
    "dump_failure",
    "dump_function",
    "dumps",
    "encoding",
    "fingerprint",
    "load_call",
    "load_extras",
    "load_failure",
    "load_function",
    "loads",
    "map_blob",
    "open_function",
    "origin",
    "pack",
    "seal",
    "seal_function",
    "seal_large",
    "summary",
    "unseal",
    "write_blob",
]

KEY_BYTES = 32
BLOCK_ELEMENTS = 256
BLOCK_BYTES = 64 * 1024
ELEMENT_LIMIT = 1 << 30
"""Bytes of one element, unless told otherwise."""

_MAC = 16
_VERSION = 2
_ALIGN = 64
_HEAD = struct.Struct("<BBBBI")
_COMPRESS_PAYS = 0.8
_PICKLE = (PICKLE, "")
_EXTRAS_BYTES = 1 << 20
"""What a block may have beside one element of the most bytes that it may have."""

Call = tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]
"""Positional arguments, keyword arguments, headers."""


# ------------------------------------------------------------------ values and calls


def dumps(
    value: object, what: str = "value", limit: int = ELEMENT_LIMIT, serializer: str = PICKLE
) -> Element:
    """Serialise one value.

    Args:
        value: For pickle, anything that pickle or cloudpickle can serialise: what is defined in
            ``__main__`` or inside a function goes by value. For the others, plain data.
        what: What the value is called in error messages, such as ``args``.
        limit: The most bytes that it may have.
        serializer: That of an ``encoding``; empty for pickle.

    Raises:
        NotSerializable: It cannot be serialised; the message names the part that is at fault.
        PayloadTooLarge: It has more bytes than the limit.
        SettingsError: The serializer is not known here.
    """
    plain = serializer in _PICKLE
    element = pickling.dump(value, what) if plain else codecs.encode(value, what, serializer)
    if len(element) > limit:
        raise PayloadTooLarge(
            f"{what} has {len(element):,} bytes, the limit of one task is {limit:,}: "
            "pass a path or a smaller part instead"
        )
    return element


def loads(element: bytes | memoryview, serializer: str = PICKLE, limit: int = ELEMENT_LIMIT) -> Any:
    """Return the value of an element; for pickle, large buffers in it are views, not copies.

    Args:
        element: What ``dumps`` returned.
        serializer: What it was made with; empty for pickle. What may be read is for the
            caller to check (``unseal``, ``check_accepted``).
        limit: The most bytes that it may have when it is expanded.

    Raises:
        ContentDisallowed: The serializer is not known here.
        IntegrityError: It is not what the serializer makes. (Pickle raises what it raises.)
    """
    if serializer in _PICKLE:
        return pickling.load(element)
    return codecs.decode(element, serializer, limit)


def dump_call(
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    headers: Mapping[str, Any] | None = None,
    limit: int = ELEMENT_LIMIT,
    serializer: str = PICKLE,
) -> Element:
    """Serialise the arguments and headers of one call. Raises as ``dumps``."""
    call: object = args
    if headers:
        call = [args, dict(kwargs), dict(headers)]
    elif kwargs or serializer not in _PICKLE or type(args) is not tuple:
        call = [args, dict(kwargs)]
    try:
        return dumps(call, "arguments", limit, serializer)
    except NotSerializable:
        for place, value in [
            *((f"args[{index}]", value) for index, value in enumerate(args)),
            *((f"kwargs[{name!r}]", value) for name, value in kwargs.items()),
            *((f"headers[{name!r}]", value) for name, value in (headers or {}).items()),
        ]:
            dumps(value, place, limit, serializer)
        raise


def dump_calls(
    calls: Iterable[tuple[Any, ...]],
    headers: Mapping[str, Any] | None = None,
    limit: int = ELEMENT_LIMIT,
    serializer: str = PICKLE,
) -> Iterator[Element]:
    """Serialise the positional arguments of many calls. Raises as ``dump_call``."""
    if serializer in _PICKLE and not headers:
        return pickling.dump_many(calls, lambda args: dump_call(args, {}, limit=limit))
    return (dump_call(args, {}, headers, limit, serializer) for args in calls)


def load_call(element: bytes | memoryview, serializer: str = PICKLE, limit: int = ELEMENT_LIMIT) -> Call:
    """Return positional arguments, keyword arguments and headers of a call. Raises as ``loads``."""
    if serializer in _PICKLE:
        call = pickling.load(element)
        if type(call) is tuple:
            return call, {}, {}
    else:
        call = codecs.decode(element, serializer, limit)
    match call:
        case [list() | tuple() as args, dict() as kwargs]:
            return tuple(args), kwargs, {}
        case [list() | tuple() as args, dict() as kwargs, dict() as headers]:
            return tuple(args), kwargs, headers
    raise IntegrityError(f"a payload of {serializer or PICKLE} holds no arguments of a call")


# ------------------------------------------------------------------ blocks


def origin(
    kind: Literal["args", "result", "note"], run: bytes, node: int, lo: int, function: bytes = b""
) -> bytes:
    """Return what a block is bound to: the place where it was made, and for arguments the function."""
    return struct.pack(f"<6s{len(run)}sQQ", kind.encode(), run, node, lo) + function


def pack(elements: Iterable[Element]) -> Iterator[tuple[int, list[Element]]]:
    """Group elements into blocks; yields the number of the first element, and the elements.

    A block has at most 256 elements and 64 KiB; a larger element is a block alone.
    """
    block: list[Element] = []
    lo = size = 0
    for element in elements:
        length = len(element)
        if block and (len(block) == BLOCK_ELEMENTS or size + length > BLOCK_BYTES):
            yield lo, block
            lo += len(block)
            block, size = [], 0
        block.append(element)
        size += length
    if block:
        yield lo, block


def seal(
    key: bytes,
    place: bytes,
    elements: Sequence[Element],
    extras: bytes = b"",
    *,
    serializer: str = PICKLE,
    compression: str = "none",
) -> bytes:
    """Return a block of elements, sealed for its place (``origin``).

    Args:
        key: The payload key.
        place: What it is bound to.
        elements: At most 256, all made with ``serializer``; failures may stand among them.
        extras: What else goes with them.
        serializer: That of an ``encoding``; empty for pickle.
        compression: A built-in one, ``none``, or ``auto`` for lz4 where it pays.

    Raises:
        SettingsError: The compression is none of these, or what it needs is not installed.
    """
    body = b"".join(_block_parts(elements, extras, serializer, compression))
    return _mac(key, place, [body]) + body


def block_name(block: bytes) -> str:
    """Return the name of a sealed block, as that of a blob: its seal."""
    return block[:_MAC].hex()


def seal_large(
    key: bytes,
    place: bytes,
    element: Element,
    extras: bytes = b"",
    *,
    serializer: str = PICKLE,
    compression: str = "none",
) -> tuple[str, list[bytes | memoryview]]:
    """Return name and content of the blob that a large element becomes: a block in parts.

    With ``auto`` it is not compressed, so that its buffers are written, and mapped, without being copied.
    Args and errors else as for ``seal``.
    """
    parts = _block_parts([element], extras, serializer, "none" if compression == "auto" else compression)
    mac = _mac(key, place, parts)
    return mac.hex(), [mac, *parts]


def _block_parts(
    elements: Sequence[Element], extras: bytes, serializer: str, compression: str
) -> list[bytes | memoryview]:
    lengths = array("Q", map(len, elements)).tobytes()
    content: list[bytes | memoryview] = []
    for element in elements:
        if isinstance(element, bytes):
            content.append(element)
        else:
            content += element.parts
    content.append(extras)
    squeezed = None
    if compression != "none":
        compression, squeezed = _squeeze(content, compression)
    coder = b"" if serializer == PICKLE else serializer.encode()
    squeezer = compression.encode() if squeezed is not None else b""
    head = _HEAD.pack(_VERSION, len(coder), len(squeezer), 0, len(elements))
    if squeezed is not None:
        return [head, lengths, coder, squeezer, squeezed]
    start = _MAC + _HEAD.size + len(lengths) + len(coder)
    return [head, lengths, coder, bytes(-start % _ALIGN), *content]


def _squeeze(content: list[bytes | memoryview], compression: str) -> tuple[str, bytes | None]:
    """Return which compression is used, and what it makes; None if it does not pay."""
    if compression not in compressions.OF_BLOCKS:
        compressions.check(compression)
        raise SettingsError(f"{compression!r} compresses elements, not blocks: see nbq.codecs.encoding")
    raw = b"".join(content)
    name = "lz4" if compression == "auto" else compression
    squeezed = compressions.compress(name, raw)
    if compression == "auto" and len(squeezed) > len(raw) * _COMPRESS_PAYS:
        return name, None
    return name, len(raw).to_bytes(8, "little") + squeezed


def _mac(key: bytes, place: bytes, parts: Iterable[bytes | memoryview]) -> bytes:
    digest = hashlib.blake2b(place, digest_size=_MAC, key=key, person=b"nbq.block")
    for part in parts:
        digest.update(part)
    return digest.digest()


class OpenBlock:
    """A block whose seal was found whole."""

    __slots__ = ("_ends", "_view", "count", "extras", "serializer")

    def __init__(self, view: memoryview, ends: list[int], serializer: str = PICKLE) -> None:
        self._view = view
        self._ends = ends
        self.count = len(ends) - 1
        self.extras = bytes(view[ends[-1] :])
        self.serializer = serializer
        """What made its elements, for ``loads``."""

    def element(self, index: int) -> memoryview:
        """Return one element.

        Raises:
            IntegrityError: The block has no such element.
        """
        if not 0 <= index < self.count:
            raise IntegrityError(f"a payload of {self.count} elements was asked for element {index}")
        return self._view[self._ends[index] : self._ends[index + 1]]

    def value(self, index: int) -> Any:
        """Return the value of one element. Raises as ``element`` and ``loads``."""
        return loads(self.element(index), self.serializer)

    def values(self, lo: int, hi: int) -> list[Any]:
        """Return the values of elements ``lo`` to ``hi - 1``. Raises as ``element`` and ``loads``."""
        if self.serializer == PICKLE:
            return list(map(pickling.load, self.elements(lo, hi)))
        return [loads(view, self.serializer) for view in self.elements(lo, hi)]

    def elements(self, lo: int, hi: int) -> list[memoryview]:
        """Return elements ``lo`` to ``hi - 1``. Raises as ``element``."""
        if not 0 <= lo <= hi <= self.count:
            raise IntegrityError(f"a payload of {self.count} elements was asked for {lo} to {hi}")
        view, ends = self._view, self._ends
        return [view[ends[index] : ends[index + 1]] for index in range(lo, hi)]


def unseal(
    key: bytes,
    place: bytes,
    data: bytes | memoryview | mmap.mmap,
    limit: int = ELEMENT_LIMIT,
    accept: Collection[str] | None = None,
) -> OpenBlock:
    """Check a block's seal and open it; nothing in it is expanded before all else is in order.

    Args:
        key: The payload key.
        place: What it has to be bound to (``origin``).
        data: The block.
        limit: The most bytes that an element may have when it is expanded.
        accept: Names and content types of the serializers that may be read (``accept_content``); None
            for all, where no value of it will be read.

    Raises:
        IntegrityError: It was changed, or made for another place, or with another key.
        ContentDisallowed: Its serializer is not accepted, or its compression is not known here.
    """
    view = memoryview(data)
    if len(view) < _MAC + _HEAD.size:
        raise IntegrityError("a payload is cut short")
    if _mac(key, place, [view[_MAC:]]) != view[:_MAC]:
        raise IntegrityError("a payload is not as it was sealed, or was sealed for another place")
    version, coded, squeezed, _, count = _HEAD.unpack_from(view, _MAC)
    if version != _VERSION:
        raise IntegrityError(f"a payload of version {version} cannot be read here, only {_VERSION}")
    start = _MAC + _HEAD.size + 8 * count
    if start + coded + squeezed > len(view):
        raise IntegrityError("a payload is shorter than it says")
    lengths = array("Q", bytes(view[_MAC + _HEAD.size : start]))
    serializer = _name(view[start : start + coded]) if coded else PICKLE
    check_accepted(serializer, accept)
    start += coded + squeezed
    if squeezed:
        at = 0
        view = memoryview(_expand(_name(view[start - squeezed : start]), view[start:], limit))
    else:
        at = start + -start % _ALIGN
    ends = list(accumulate(lengths, initial=at))
    if ends[-1] > len(view):
        raise IntegrityError("a payload is shorter than it says")
    return OpenBlock(view, ends, serializer)


def _name(view: memoryview) -> str:
    try:
        return bytes(view).decode("ascii")
    except UnicodeDecodeError:
        raise IntegrityError("a payload names what made it in letters that no name has") from None


def _expand(compression: str, view: memoryview, limit: int) -> bytes:
    size = int.from_bytes(view[:8], "little")
    if size > limit + _EXTRAS_BYTES:
        raise IntegrityError(f"a payload would expand to {size:,} bytes; the limit is {limit:,}")
    raw = compressions.expand(compression, view[8:], size)
    if len(raw) != size:
        raise IntegrityError("a payload does not expand to the size that it says")
    return raw


# ------------------------------------------------------------------ what goes with results


def dump_extras(
    started_s: float,
    seconds: Sequence[float],
    output: dict[int, tuple[str, str]],
    children: Mapping[int, list[str]] | None = None,
) -> bytes:
    """Return the extras of an outcome block.

    Args:
        started_s: Unix time at which its first element started.
        seconds: How long each element ran.
        output: Standard output and error of the elements that printed, by place in the block.
        children: Ids of the runs that an element submitted, by place in the block.
    """
    return msgspec.msgpack.encode((started_s, array("f", seconds).tobytes(), output, children or {}))


def load_extras(
    extras: bytes,
) -> tuple[float, Sequence[float], dict[int, tuple[str, str]], dict[int, list[str]]]:
    """Return what ``dump_extras`` was given; zeros and nothing for a block without extras."""
    if not extras:
        return 0.0, [], {}, {}
    started_s, packed, output, children = msgspec.msgpack.decode(
        extras, type=tuple[float, bytes, dict[int, tuple[str, str]], dict[int, list[str]]]
    )
    return started_s, array("f", packed), output, children


# ------------------------------------------------------------------ functions and blobs


def load_function(pickled: bytes, accept: Collection[str] | None = None) -> Any:
    """Return a function that came by value, from ``dump_function``.

    Raises:
        ContentDisallowed: Pickle is not accepted here, so only tasks that go by name can run.
        Exception: Whatever unpickling raises.
    """
    try:
        check_accepted(PICKLE, accept)
    except ContentDisallowed:
        raise ContentDisallowed(
            "a function that goes by value is pickled, and accept_content here does not list 'pickle': it "
            "was not read. Put the task in a module that engines can import, or add 'pickle' there"
        ) from None
    return pickling.load(pickled)


def fingerprint(key: bytes, data: bytes) -> str:
    """Return what differs if data does, and tells nothing of it to whoever lacks the key."""
    return hashlib.blake2b(data, digest_size=16, key=key, person=b"nbq.print").hexdigest()


def seal_function(key: bytes, payload: bytes) -> tuple[bytes, bytes]:
    """Return the content address of a function's payload, which is its seal, and the payload."""
    return hashlib.blake2b(payload, digest_size=16, key=key, person=b"nbq.function").digest(), payload


def open_function(key: bytes, address: bytes, payload: bytes) -> bytes:
    """Check a function's payload against its address and return it.

    Raises:
        IntegrityError: It is another payload, or was sealed with another key.
    """
    if seal_function(key, payload)[0] != address:
        raise IntegrityError("a function is not the one that was submitted")
    return payload


def write_blob(folder: Path, name: str, parts: Iterable[bytes | memoryview]) -> None:
    """Write a blob as a whole: under another name first, so that no reader meets a part of it."""
    path = folder / name
    if path.exists():
        return
    part = folder / f"{name}.{os.getpid()}.tmp"
    handle = os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb", buffering=0) as file:
        for chunk in parts:
            view = memoryview(chunk).cast("B")
            while view:
                view = view[file.write(view) :]
    part.rename(path)


def map_blob(folder: Path, name: str) -> mmap.mmap:
    """Return the content of a blob, mapped and not read.

    Raises:
        IntegrityError: It is not there, or empty.
    """
    try:
        with (folder / name).open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"the file of a large payload cannot be read: {error}") from error
