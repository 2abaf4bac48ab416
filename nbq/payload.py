"""Payloads: values to bytes and back, sealed for the place where they were made.

The only file that unpickles. An **element** is one value (the arguments of one call, one result, one
failure) as bytes of its own. A **block** holds up to 256 elements, or one large one, under one keyed
hash that binds content and origin: ``unseal`` refuses a block that was changed, or moved, before
anything in it is looked at. Clients and engines hold the key; the hub does not.

Block: mac 16 | version, codec, compression, 0: 4 | count u32 | a length u64 for each element | zeros
up to a multiple of 64 | elements | extras. When compressed, what follows the lengths is the raw size
u64 and one lz4 frame.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import pickle
import struct
import traceback
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from types import CellType, FunctionType
from typing import Any, Literal

import cloudpickle
import msgspec

from nbq.errors import IntegrityError, NotSerializable, PayloadTooLarge, RemoteTraceback, TaskFailed

__all__ = [
    "BLOCK_BYTES",
    "BLOCK_ELEMENTS",
    "ELEMENT_LIMIT",
    "KEY_BYTES",
    "Element",
    "LargeElement",
    "OpenBlock",
    "dump_call",
    "dump_calls",
    "dump_extras",
    "dump_failure",
    "dump_function",
    "dumps",
    "load_call",
    "load_extras",
    "load_failure",
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
_VERSION = 1
_PICKLE = 0
_PLAIN, _LZ4 = 0, 1
_ALIGN = 64
_HEAD = struct.Struct("<BBBBI")
_BUFFER_BYTES = 64 * 1024
"""Buffers from this size on are kept out of the pickle, so that they are not copied into it."""
_BUFFERS_TAG = b"\x01"
_TEXT_LIMIT = 64 * 1024
_SUMMARY_LIMIT = 512
_COMPRESS_PAYS = 0.8


class LargeElement:
    """An element in parts, so that its buffers are written without being joined."""

    __slots__ = ("parts", "size")

    def __init__(self, parts: list[bytes | memoryview]) -> None:
        self.parts = parts
        self.size = sum(len(part) for part in parts)

    def __len__(self) -> int:
        """Return its bytes."""
        return self.size

    def __bytes__(self) -> bytes:
        """Return it as one byte string."""
        return b"".join(self.parts)


Element = bytes | LargeElement


# ------------------------------------------------------------------ one value


def dumps(value: object, what: str = "value", limit: int = ELEMENT_LIMIT) -> Element:
    """Serialise one value.

    Args:
        value: Anything that pickle or cloudpickle can serialise. What is defined in ``__main__`` or
            inside a function goes by value.
        what: What the value is called in error messages, such as ``args``.
        limit: The most bytes that it may have.

    Raises:
        NotSerializable: It cannot be serialised; the message names the part that is at fault.
        PayloadTooLarge: It has more bytes than the limit.
    """
    buffers: list[pickle.PickleBuffer] = []
    keep = _keep_large(buffers)
    try:
        data = pickle.dumps(value, 5, buffer_callback=keep)
        by_value = b"__main__" in data
    except Exception:  # whatever user code raises from __reduce__; cloudpickle may still manage
        by_value, data = True, b""
    if by_value:
        buffers.clear()
        try:
            data = cloudpickle.dumps(value, 5, buffer_callback=keep)
        except Exception as error:  # whatever user code raises from __reduce__
            raise NotSerializable(_explain(value, what, error)) from error
    element = data if not buffers else _with_buffers(data, buffers)
    if len(element) > limit:
        raise PayloadTooLarge(
            f"{what} has {len(element):,} bytes, the limit of one task is {limit:,}: "
            "pass a path or a smaller part instead"
        )
    return element


def _keep_large(buffers: list[pickle.PickleBuffer]) -> Callable[[pickle.PickleBuffer], bool]:
    def keep(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < _BUFFER_BYTES:
            return True
        buffers.append(buffer)
        return False

    return keep


def _with_buffers(data: bytes, buffers: list[pickle.PickleBuffer]) -> LargeElement:
    views = [buffer.raw() for buffer in buffers]
    lengths = struct.pack(f"<Q{len(views)}Q", len(data), *(view.nbytes for view in views))
    head = _BUFFERS_TAG + len(views).to_bytes(7, "little") + lengths + data
    parts: list[bytes | memoryview] = [head, bytes(-len(head) % _ALIGN)]
    for view in views:
        parts += [view, bytes(-view.nbytes % _ALIGN)]
    return LargeElement(parts)


def loads(element: bytes | memoryview) -> Any:
    """Return the value of an element; large buffers in it are views, not copies."""
    view = memoryview(element)
    if view[:1] != _BUFFERS_TAG:
        return pickle.loads(view)
    count = int.from_bytes(view[1:8], "little")
    size, *lengths = struct.unpack_from(f"<Q{count}Q", view, 8)
    at = 8 + 8 * (count + 1)
    data = view[at : at + size]
    at += size
    at += -at % _ALIGN
    buffers: list[memoryview] = []
    for length in lengths:
        buffers.append(view[at : at + length])
        at += length + -length % _ALIGN
    return pickle.loads(data, buffers=buffers)


def dump_call(args: tuple[Any, ...], kwargs: dict[str, Any], limit: int = ELEMENT_LIMIT) -> Element:
    """Serialise the arguments of one call. Raises as ``dumps``."""
    try:
        return dumps([args, kwargs] if kwargs else args, "arguments", limit)
    except NotSerializable:
        for place, value in [
            *((f"args[{index}]", value) for index, value in enumerate(args)),
            *((f"kwargs[{name!r}]", value) for name, value in kwargs.items()),
        ]:
            dumps(value, place, limit)
        raise


def dump_calls(calls: Iterable[tuple[Any, ...]]) -> Iterator[Element]:
    """Serialise the positional arguments of many calls. Raises as ``dump_call``."""
    plain = pickle.dumps
    for args in calls:
        try:
            data = plain(args, 5)
        except Exception:  # whatever user code raises from __reduce__; dump_call explains it
            yield dump_call(args, {})
            continue
        if len(data) >= _BUFFER_BYTES or b"__main__" in data:
            yield dump_call(args, {})
        else:
            yield data


def load_call(element: bytes | memoryview) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and keyword arguments of a call."""
    call = loads(element)
    if type(call) is tuple:
        return call, {}
    args, kwargs = call
    return args, kwargs


def _explain(value: object, what: str, error: BaseException) -> str:
    path, part = _deepest(value, what, 0)
    kind = type(part).__qualname__
    return f"{path} cannot be serialised: {kind} ({type(error).__name__}: {str(error)[:200]})"


def _deepest(value: object, path: str, depth: int) -> tuple[str, object]:
    """Return path and value of the smallest part that cannot be serialised."""
    if depth < 8:
        for name, part in _parts(value):
            try:
                cloudpickle.dumps(part)
            except Exception:  # whatever user code raises from __reduce__: this part is at fault
                return _deepest(part, path + name, depth + 1)
    return path, value


def _parts(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        pairs: Iterable[tuple[str, object]] = ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        pairs = ((f"[{index}]", part) for index, part in enumerate(value))
    elif isinstance(value, FunctionType):
        names = value.__code__.co_freevars
        cells = [_cell_value(cell) for cell in value.__closure__ or ()]
        used = [
            (f" global {n}", value.__globals__[n]) for n in value.__code__.co_names if n in value.__globals__
        ]
        pairs = [*((f" captures {n}", part) for n, part in zip(names, cells, strict=True)), *used]
    else:
        pairs = ((f".{name}", part) for name, part in getattr(value, "__dict__", {}).items())
    for count, pair in enumerate(pairs):
        if count == 1000:
            return
        yield pair


def _cell_value(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # the variable is not assigned yet
        return None


# ------------------------------------------------------------------ blocks


def origin(kind: Literal["args", "result"], run: bytes, node: int, lo: int, function: bytes = b"") -> bytes:
    """Return what a block is bound to: the place where it was made, and for arguments the function."""
    return struct.pack("<6s16sQQ", kind.encode(), run, node, lo) + function


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
    key: bytes, place: bytes, elements: Sequence[Element], extras: bytes = b"", *, compress: bool = False
) -> bytes:
    """Return a block of elements, sealed for its place (``origin``)."""
    parts = _block_parts(elements, extras)
    if compress:
        squeezed = _squeeze(parts[2:])
        if squeezed is not None:
            head = _HEAD.pack(_VERSION, _PICKLE, _LZ4, 0, len(elements))
            parts = [head, parts[1], squeezed]
    body = b"".join(parts)
    return _mac(key, place, [body]) + body


def seal_large(
    key: bytes, place: bytes, element: Element, extras: bytes = b""
) -> tuple[str, list[bytes | memoryview]]:
    """Return name and content of the blob that a large element becomes: a block in parts."""
    parts = _block_parts([element], extras)
    mac = _mac(key, place, parts)
    return mac.hex(), [mac, *parts]


def _block_parts(elements: Sequence[Element], extras: bytes) -> list[bytes | memoryview]:
    lengths = array("Q", map(len, elements)).tobytes()
    start = _MAC + _HEAD.size + len(lengths)
    parts: list[bytes | memoryview] = [
        _HEAD.pack(_VERSION, _PICKLE, _PLAIN, 0, len(elements)),
        lengths,
        bytes(-start % _ALIGN),
    ]
    for element in elements:
        if isinstance(element, bytes):
            parts.append(element)
        else:
            parts += element.parts
    parts.append(extras)
    return parts


def _squeeze(parts: list[bytes | memoryview]) -> bytes | None:
    import lz4.frame  # loaded only where compression is asked for

    raw = b"".join(parts)
    squeezed = lz4.frame.compress(raw)
    if len(squeezed) > len(raw) * _COMPRESS_PAYS:
        return None
    return len(raw).to_bytes(8, "little") + squeezed


def _mac(key: bytes, place: bytes, parts: Iterable[bytes | memoryview]) -> bytes:
    digest = hashlib.blake2b(place, digest_size=_MAC, key=key, person=b"nbq.block")
    for part in parts:
        digest.update(part)
    return digest.digest()


class OpenBlock:
    """A block whose seal was found whole."""

    __slots__ = ("_ends", "_view", "count", "extras")

    def __init__(self, view: memoryview, ends: list[int]) -> None:
        self._view = view
        self._ends = ends
        self.count = len(ends) - 1
        self.extras = bytes(view[ends[-1] :])

    def element(self, index: int) -> memoryview:
        """Return one element.

        Raises:
            IntegrityError: The block has no such element.
        """
        if not 0 <= index < self.count:
            raise IntegrityError(f"a payload of {self.count} elements was asked for element {index}")
        return self._view[self._ends[index] : self._ends[index + 1]]

    def elements(self, lo: int, hi: int) -> list[memoryview]:
        """Return elements ``lo`` to ``hi - 1``. Raises as ``element``."""
        if not 0 <= lo <= hi <= self.count:
            raise IntegrityError(f"a payload of {self.count} elements was asked for {lo} to {hi}")
        view, ends = self._view, self._ends
        return [view[ends[index] : ends[index + 1]] for index in range(lo, hi)]


def unseal(
    key: bytes, place: bytes, data: bytes | memoryview | mmap.mmap, limit: int = ELEMENT_LIMIT
) -> OpenBlock:
    """Check a block's seal and open it.

    Raises:
        IntegrityError: It was changed, or made for another place, or with another key.
    """
    view = memoryview(data)
    if len(view) < _MAC + _HEAD.size:
        raise IntegrityError("a payload is cut short")
    if _mac(key, place, [view[_MAC:]]) != view[:_MAC]:
        raise IntegrityError("a payload is not as it was sealed, or was sealed for another place")
    version, codec, compression, _, count = _HEAD.unpack_from(view, _MAC)
    if version != _VERSION or codec != _PICKLE:
        raise IntegrityError(f"a payload of version {version} and codec {codec} cannot be read here")
    start = _MAC + _HEAD.size + 8 * count
    lengths = array("Q", bytes(view[_MAC + _HEAD.size : start]))
    if compression == _LZ4:
        view, at = memoryview(_expand(view[start:], limit)), -start % _ALIGN
    else:
        at = start + -start % _ALIGN
    ends = list(accumulate(lengths, initial=at))
    if ends[-1] > len(view):
        raise IntegrityError("a payload is shorter than it says")
    return OpenBlock(view, ends)


def _expand(view: memoryview, limit: int) -> bytes:
    import lz4.frame  # loaded only where compression is met

    size = int.from_bytes(view[:8], "little")
    if size > limit + BLOCK_BYTES:
        raise IntegrityError(f"a payload would expand to {size:,} bytes; the limit is {limit:,}")
    try:
        raw = lz4.frame.LZ4FrameDecompressor().decompress(view[8:], max_length=size)
    except RuntimeError as error:
        raise IntegrityError(f"a payload cannot be expanded: {error}") from error
    if len(raw) != size:
        raise IntegrityError("a payload does not expand to the size that it says")
    return raw


# ------------------------------------------------------------------ what goes with results


def dump_extras(started_s: float, seconds: Sequence[float], output: dict[int, tuple[str, str]]) -> bytes:
    """Return the extras of an outcome block.

    Args:
        started_s: Unix time at which its first element started.
        seconds: How long each element ran.
        output: Standard output and error of the elements that printed, by place in the block.
    """
    return msgspec.msgpack.encode((started_s, array("f", seconds).tobytes(), output))


def load_extras(extras: bytes) -> tuple[float, Sequence[float], dict[int, tuple[str, str]]]:
    """Return what ``dump_extras`` was given; zeros and nothing for a block without extras."""
    if not extras:
        return 0.0, [], {}
    started_s, packed, output = msgspec.msgpack.decode(
        extras, type=tuple[float, bytes, dict[int, tuple[str, str]]]
    )
    return started_s, array("f", packed), output


# ------------------------------------------------------------------ failures


class _Failure(msgspec.Struct, array_like=True):
    kind: str
    message: str
    text: str
    pickled: bytes
    note: str


def summary(error: BaseException) -> str:
    """Return type and message of an exception in one line of at most 512 characters."""
    try:
        text = traceback.format_exception_only(error)[-1].strip()
    except Exception:  # attributes that no exception should have
        text = type(error).__name__
    text = text.encode(errors="backslashreplace").decode()
    return text.replace("\n", " ")[:_SUMMARY_LIMIT]


def dump_failure(error: BaseException, note: str, skip: int | None = 0) -> bytes:
    """Serialise an exception; always its text, and itself if it survives the round trip.

    Args:
        error: What a task raised.
        note: Where that was, for the person who reads the traceback.
        skip: How many frames of nbq's own to leave out at the outer end of the traceback; None for all.
    """
    frames = None if skip is None else error.__traceback__
    for _ in range(skip or 0):
        frames = frames.tb_next if frames is not None and frames.tb_next is not None else frames
    try:
        text = "".join(traceback.format_exception(type(error), error, frames))
    except Exception:  # a broken __str__ or __repr__ somewhere in the chain
        text = f"{type(error).__qualname__} (its traceback cannot be formatted)"
    raw = text.encode(errors="backslashreplace")
    if len(raw) > _TEXT_LIMIT:
        raw = raw[: _TEXT_LIMIT // 2] + b"\n...\n" + raw[-_TEXT_LIMIT // 2 :]
    text = raw.decode(errors="replace")
    pickled = b""
    try:
        candidate = cloudpickle.dumps(error, 5)
        if len(candidate) <= BLOCK_BYTES and type(pickle.loads(candidate)) is type(error):
            pickled = candidate
    except Exception:  # whatever the exception's own __reduce__ or __init__ raises: send the text
        pickled = b""
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    return msgspec.msgpack.encode(_Failure(kind, summary(error), text, pickled, note))


def load_failure(element: bytes | memoryview, task_id: str) -> Exception:
    """Return the exception of a failed task, with the remote traceback as its cause.

    It is the original exception where that can be rebuilt here, else ``TaskFailed``; so too what would
    end whoever raises it, such as SystemExit. Never raises.
    """
    try:
        failure = msgspec.msgpack.decode(element, type=_Failure)
    except msgspec.DecodeError as error:
        return TaskFailed(f"its failure cannot be read ({error})", task_id)
    found: object = None
    if failure.pickled:
        try:
            found = pickle.loads(failure.pickled)
        except Exception:  # the class is missing here, or its __init__ raises: show the text
            found = None
    note = f"in task {task_id}, {failure.note}"
    if isinstance(found, Exception):
        try:
            return _annotated(found, failure.text, note)
        except Exception:  # a class whose instances cannot be changed: show the text
            found = None
    return _annotated(TaskFailed(failure.message, task_id), failure.text, note)


def _annotated(error: Exception, text: str, note: str) -> Exception:
    error.__cause__ = RemoteTraceback(text)
    error.add_note(note)
    return error


# ------------------------------------------------------------------ functions and blobs


def dump_function(function: Callable[..., Any]) -> bytes:
    """Serialise a function: by value if it lives in ``__main__`` or in another function.

    Raises:
        NotSerializable: It captures something that cannot be serialised; the message names it.
    """
    try:
        return cloudpickle.dumps(function, 5)
    except Exception as error:  # whatever captured objects raise from __reduce__
        name = getattr(function, "__qualname__", repr(function))
        raise NotSerializable(_explain(function, f"function {name}", error)) from error


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
