"""Hypothesis strategies for messages, derived from their types: whatever a peer may send."""

from __future__ import annotations

import typing
from datetime import UTC
from functools import cache
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from nbq import wire

TO_HUB: tuple[type[msgspec.Struct], ...] = typing.get_args(wire.ToHub)
TO_PEER: tuple[type[msgspec.Struct], ...] = typing.get_args(wire.ToPeer)

_DEPTH = 3


def instances(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Return instances of a message (or any struct) with every field filled in within its bounds."""
    return _struct(kind, 0)


def to_hub() -> st.SearchStrategy[Any]:
    """Return messages of every class that a peer may send."""
    return st.sampled_from(TO_HUB).flatmap(instances)


def to_peer() -> st.SearchStrategy[Any]:
    """Return messages of every class that a hub may send."""
    return st.sampled_from(TO_PEER).flatmap(instances)


@cache
def _struct(kind: type[msgspec.Struct], depth: int) -> st.SearchStrategy[Any]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    fields = {field.name: _value(field.type, depth + 1) for field in info.fields}
    return st.fixed_dictionaries(fields).map(lambda values: kind(**values))


def _value(info: Any, depth: int) -> st.SearchStrategy[Any]:
    match info:
        case inspect.Metadata():
            return _value(info.type, depth)
        case inspect.StructType():
            return st.deferred(lambda: _struct(info.cls, depth))
        case inspect.UnionType():
            types = [one for one in info.types if depth < _DEPTH + 4 or not _nests(one)]
            return st.one_of([_value(one, depth) for one in types])
        case inspect.ListType() | inspect.VarTupleType():
            most = min(3, 3 if info.max_length is None else info.max_length) if depth < _DEPTH + 4 else 0
            return st.lists(_value(info.item_type, depth + 1), max_size=most) if most else st.just([])
        case inspect.TupleType():
            return st.tuples(*(_value(one, depth) for one in info.item_types))
        case inspect.DictType():
            return st.dictionaries(_value(info.key_type, depth), _value(info.value_type, depth), max_size=3)
    return _plain(info)


def _nests(info: Any) -> bool:
    return isinstance(info, inspect.StructType) and any(
        isinstance(field.type, inspect.ListType) for field in info.fields
    )


def _plain(info: Any) -> st.SearchStrategy[Any]:
    match info:
        case inspect.IntType():
            low = -(2**63) if info.ge is None else info.ge
            high = 2**64 - 1 if info.lt is None else info.lt - 1
            return st.integers(low, min(high, high if info.le is None else info.le))
        case inspect.FloatType():
            return st.floats(info.ge, info.le, allow_nan=False)
        case inspect.DateTimeType():
            return st.datetimes(timezones=st.just(UTC))
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.EnumType():
            return st.sampled_from(list(info.cls))
        case inspect.BytesType():
            return st.binary(min_size=info.min_length or 0, max_size=min(info.max_length or 64, 64))
        case inspect.StrType():
            if info.pattern is not None:
                return st.just("") | st.text("0123456789abcdef", min_size=32, max_size=32)
            return st.text(min_size=info.min_length or 0, max_size=min(info.max_length or 40, 40))
    raise AssertionError(f"no strategy for {info}")
