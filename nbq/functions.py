"""Which bytes a function is: by name for tasks that an engine can import, by value for the rest.

A function by value is pickled once and kept, until anything that went into the pickle has been rebound:
its code, defaults, closure, or a global that it (or a helper that goes by value with it) names. So a cell
that is run again, or a helper that is redefined, is what runs next; and nothing is pickled twice without
need.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import CellType, CodeType, FunctionType
from typing import Any

import msgspec

from nbq import payload
from nbq.traits import TRAITS

__all__ = ["FunctionCache", "by_bare_name", "goes_by_value", "named"]

_WARN_BYTES = 1 << 20
_DEPTH = 20
_KEPT = 1000
_NOTHING = object()
"""Stands for the value of a variable that is not assigned yet."""


def named(name: str, module: str | None) -> bytes:
    """Return the payload of a task that the engine finds by name, importing the module if need be."""
    return msgspec.msgpack.encode(("name", name, module))


def by_bare_name(name: str, data: bytes) -> bool:
    """Return whether a payload is a task's name alone, so that only engines that know it can run it."""
    return data == named(name, None)


def goes_by_value(function: Callable[..., Any]) -> bool:
    """Return whether another process could not import this function by its name."""
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", "<locals>")
    if module in (None, "__main__", "__mp_main__") or "<locals>" in name or "<lambda>" in name:
        return True
    found: Any = sys.modules.get(module)
    if found is None:
        try:
            found = importlib.import_module(module)
        except ImportError:
            return True
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            return True
    return False


class FunctionCache:
    """Payloads of functions by value, kept while they are what would be pickled again."""

    def __init__(self) -> None:
        self._kept: dict[Callable[..., Any], tuple[bytes, list[_Seen]]] = {}

    def payload(self, function: Callable[..., Any]) -> bytes:
        """Return the payload of a function.

        Raises:
            NotSerializable: It captures something that cannot be serialised.
        """
        if not isinstance(_inner(function), FunctionType):
            return _pickled(function)  # an object with state of its own, which nothing here watches
        kept = self._kept.get(function)
        if kept is not None and all(seen() for seen in kept[1]):
            return kept[0]
        data = _pickled(function)
        self._kept[function] = data, list(_watch(function, set(), 0))
        if len(self._kept) > _KEPT:
            del self._kept[next(iter(self._kept))]
        return data

    def clear(self) -> None:
        """Forget everything (a cell starts: values may have been changed in place)."""
        self._kept.clear()


_Seen = Callable[[], bool]


def _pickled(function: Callable[..., Any]) -> bytes:
    data = payload.dump_function(function)
    if len(data) > _WARN_BYTES:
        name, size = _largest(function)
        held = f"; {name} alone has {size:,}" if name else ""
        warnings.warn(
            f"function {getattr(function, '__qualname__', function)!r} has {len(data):,} bytes with what "
            f"it captures{held}: pass large values as arguments, once, or read them in the task",
            stacklevel=6,
        )
    return msgspec.msgpack.encode(("pickle", data))


def _largest(function: Callable[..., Any]) -> tuple[str, int]:
    best = "", 0
    if isinstance(function, FunctionType):
        for name, value in _captured(function):
            try:
                size = len(payload.dumps(value, name))
            except payload.NotSerializable:
                continue
            if size > best[1]:
                best = name, size
    return best


def _captured(function: FunctionType) -> Iterator[tuple[str, Any]]:
    names = function.__code__.co_freevars
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        yield name, _content(cell)
    for name in _globals_named(function.__code__):
        if name in function.__globals__:
            yield name, function.__globals__[name]


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return _NOTHING


def _globals_named(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _globals_named(constant)
    return names


def _inner(function: Any) -> Any:
    """Return what a task runs, or a function itself."""
    return getattr(function, "run", function)


def _watch(function: Any, done: set[int], depth: int) -> Iterator[_Seen]:
    """Yield checks that a function, and what goes by value with it, are still the same objects."""
    task, function = function, _inner(function)
    if task is not function and isinstance(getattr(task, "traits", None), dict) and id(task) not in done:
        done.add(id(task))
        own, traits, absent = vars(task), task.traits, TRAITS - task.traits.keys()
        yield lambda: own.keys().isdisjoint(absent)
        for name, value in traits.items():
            yield lambda name=name, value=value: own.get(name, _NOTHING) is value
        if goes_by_value(type(task)):
            yield from _watch(type(task), done, depth + 1)
    if isinstance(function, type) and id(function) not in done:
        done.add(id(function))
        yield from _watch_class(function, done, depth + 1)
    if not isinstance(function, FunctionType) or id(function) in done or depth > _DEPTH:
        return
    done.add(id(function))
    code, defaults, by_name = function.__code__, function.__defaults__, dict(function.__kwdefaults__ or {})
    if by_name:
        yield lambda: _unchanged(function.__kwdefaults__ or {}, by_name)
    else:
        yield lambda: not function.__kwdefaults__
    yield lambda: function.__code__ is code and function.__defaults__ is defaults
    for value in (*(defaults or ()), *by_name.values()):
        yield from _watch(value, done, depth + 1)
    for cell in function.__closure__ or ():
        value = _content(cell)
        yield lambda cell=cell, value=value: _content(cell) is value
        yield from _watch(value, done, depth + 1)
    names = function.__globals__
    for name in sorted(_globals_named(code)):
        value = names.get(name, _NOTHING)
        yield lambda name=name, value=value: names.get(name, _NOTHING) is value
        if callable(value) and goes_by_value(value):
            yield from _watch(value, done, depth + 1)


def _unchanged(now: Mapping[str, Any], before: dict[str, Any]) -> bool:
    return len(now) == len(before) and all(now.get(n, _NOTHING) is value for n, value in before.items())


def _watch_class(kind: type, done: set[int], depth: int) -> Iterator[_Seen]:
    """Yield the same checks of a class that goes by value, and of its methods."""
    members = dict(vars(kind))
    yield lambda: _unchanged(vars(kind), members)
    for member in members.values():
        yield from _watch(getattr(member, "__func__", getattr(member, "fget", member)), done, depth)
