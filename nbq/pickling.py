"""Pickle: values, functions and exceptions to bytes and back. The only module that unpickles.

To unpickle is to run what the maker of the bytes wants, so it is done only to what a peer with the payload
key has sealed, and only where ``accept_content`` lists pickle; both are checked before anything comes here.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Iterable, Iterator
from types import CellType, FunctionType
from typing import Any

import cloudpickle

from nbq.errors import NotSerializable

__all__ = ["Element", "LargeElement", "dump", "dump_by_value", "dump_function", "dump_many", "load"]

_ALIGN = 64
_BUFFER_BYTES = 64 * 1024
"""Buffers from this size on are kept out of the pickle, so that they are not copied into it."""
_BUFFERS_TAG = b"\x01"


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


def dump(value: object, what: str) -> Element:
    """Pickle a value; what is defined in ``__main__`` or inside a function goes by value.

    Raises:
        NotSerializable: It cannot be pickled; the message names the part that is at fault.
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
    return data if not buffers else _with_buffers(data, buffers)


def dump_many(
    values: Iterable[tuple[Any, ...]], slowly: Callable[[tuple[Any, ...]], Element]
) -> Iterator[Element]:
    """Pickle many small values quickly; those for which more has to be done go through ``slowly``."""
    plain = pickle.dumps
    for value in values:
        try:
            data = plain(value, 5)
        except Exception:  # whatever user code raises from __reduce__; the slow way explains it
            yield slowly(value)
            continue
        if len(data) >= _BUFFER_BYTES or b"__main__" in data:
            yield slowly(value)
        else:
            yield data


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


def load(element: bytes | memoryview) -> Any:
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


def dump_by_value(value: object) -> bytes:
    """Pickle a value, what it names by value where that cannot be imported. Raises whatever it raises."""
    return cloudpickle.dumps(value, 5)


def dump_function(function: Callable[..., Any]) -> bytes:
    """Serialise a function: by value if it lives in ``__main__`` or in another function.

    Raises:
        NotSerializable: It captures something that cannot be serialised; the message names it.
    """
    try:
        return dump_by_value(function)
    except Exception as error:  # whatever captured objects raise from __reduce__
        name = getattr(function, "__qualname__", repr(function))
        raise NotSerializable(_explain(function, f"function {name}", error)) from error


# ------------------------------------------------------------------ what is at fault


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
