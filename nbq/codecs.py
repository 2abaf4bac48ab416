"""Serializers by name: pickle, json, msgpack, yaml, and those that users register.

All but pickle take plain data only, and refuse what would come back as something else: an enum that would
be a number, a NaN that would be null, a key that would be a text. The one exception is that a tuple comes
back as a list. Nothing here unpickles; that is ``pickling``'s.

A serializer's name may be followed by ``:compression``, where each element is compressed with one of the
user's own (``compressions``): an engine's supervisor runs no user code, so it opens blocks, and only
clients and slots open elements.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from nbq import compressions, pickling
from nbq.errors import ContentDisallowed, IntegrityError, NotSerializable, SettingsError

__all__ = [
    "PICKLE",
    "Encoding",
    "check_accepted",
    "decode",
    "encode",
    "encoding",
    "is_pickle",
    "register_serializer",
]

PICKLE = "pickle"
_DEPTH = 100
"""How deep plain data may be nested: no reader runs out of stack, and what holds itself is found."""


class Encoding(NamedTuple):
    """How values become blocks: what ``encoding`` makes of what a user chose."""

    serializer: str = PICKLE
    """Of each element; ``serializer:compression`` where that compression is the user's own."""
    compression: str = "none"
    """Of a whole block: a built-in one, ``none``, or ``auto`` for lz4 where it pays."""


@dataclass(frozen=True, slots=True)
class _Serializer:
    """Args: its two functions, and another name for ``accept_content``.

    ``dumps`` is given the value and what it is called in error messages.
    """

    dumps: Callable[[Any, str], pickling.Element]
    loads: Callable[[bytes | memoryview], Any]
    content_type: str


@dataclass(frozen=True, slots=True)
class _Plain:
    """What plain data is to a format: types that come back as they are, and those of keys."""

    name: str
    scalars: frozenset[type]
    keys: frozenset[type]
    long: bool = True
    """Whether integers may have more than 64 bits."""
    nan: bool = True
    """Whether there are NaN and infinities."""


_SCALARS = frozenset({type(None), bool, int, float, str})
_JSON = _Plain("json", _SCALARS, frozenset({str}), nan=False)
_MSGPACK = _Plain("msgpack", _SCALARS | {bytes}, _SCALARS | {bytes}, long=False)
_YAML = _Plain(
    "yaml",
    _SCALARS | {bytes, datetime.date, datetime.datetime},
    _SCALARS | {bytes, datetime.date, datetime.datetime},
)


def _fault(plain: _Plain, value: Any, path: str, depth: int = 0) -> str:
    """Return why a value would not come back as it is, with the path of the part; "" if it would."""
    kind = type(value)
    if kind in plain.scalars:
        reason = _scalar_fault(plain, value)
        return f"{path} cannot be serialised as {plain.name}: {reason}" if reason else ""
    if depth == _DEPTH:
        return f"{path} cannot be serialised as {plain.name}: it is nested more than {_DEPTH} deep"
    if kind is list or kind is tuple:
        for index, part in enumerate(value):
            if fault := _fault(plain, part, f"{path}[{index}]", depth + 1):
                return fault
        return ""
    if kind is dict:
        for key, part in value.items():
            reason = _scalar_fault(plain, key) if type(key) in plain.keys else _no(plain, key, "a key")
            if reason:
                return f"{path} cannot be serialised as {plain.name}: the key {key!r:.100}: {reason}"
            if fault := _fault(plain, part, f"{path}[{key!r}]", depth + 1):
                return fault
        return ""
    return f"{path} cannot be serialised as {plain.name}: {_no(plain, value, 'a value')}"


def _no(plain: _Plain, value: object, role: str) -> str:
    kinds = plain.keys if role == "a key" else plain.scalars | {list, tuple, dict}
    names = ", ".join(sorted("None" if kind is type(None) else kind.__name__ for kind in kinds))
    name = type(value).__qualname__
    return f"{name} is none of {names}; convert it, or use serializer='pickle'"


def _scalar_fault(plain: _Plain, value: object) -> str:
    if type(value) is int and not plain.long and not -(2**63) <= value < 2**64:
        return "an int of more than 64 bits"
    if type(value) is float and not plain.nan and not math.isfinite(value):
        return f"{value} is not a number there"
    if type(value) is datetime.datetime and (value.fold or not _is_fixed(value.tzinfo)):
        return "a time without zone, in UTC or at another fixed offset of minutes is kept, others are not"
    return ""


def _is_fixed(zone: datetime.tzinfo | None) -> bool:
    if zone is None:
        return True
    return type(zone) is datetime.timezone and not zone.utcoffset(None) % datetime.timedelta(minutes=1)


def _checked(plain: _Plain, write: Callable[[Any], bytes]) -> Callable[[Any, str], bytes]:
    def dumps(value: Any, what: str) -> bytes:
        fault = _fault(plain, value, what)
        if fault:
            raise NotSerializable(fault)
        try:
            return write(value)
        except (ValueError, OverflowError, RecursionError) as error:  # such as half of a surrogate pair
            raise NotSerializable(f"{what} cannot be serialised as {plain.name}: {error}") from error

    return dumps


def _read(name: str, read: Callable[[bytes | memoryview], Any]) -> Callable[[bytes | memoryview], Any]:
    def loads(data: bytes | memoryview) -> Any:
        try:
            return read(data)
        except ContentDisallowed:
            raise
        except (ValueError, msgspec.DecodeError, RecursionError) as error:
            raise IntegrityError(f"a payload is not the {name} that it says: {error}") from error

    return loads


def _yaml() -> Any:
    try:
        import yaml  # an extra, loaded only where it is asked for
    except ImportError:
        raise SettingsError(
            "the serializer 'yaml' needs the package PyYAML: install nbq[yaml] here and where engines run"
        ) from None
    return yaml


def _yaml_dump(value: Any) -> bytes:
    return _yaml().safe_dump(value, encoding="utf-8")


def _yaml_load(data: bytes | memoryview) -> Any:
    try:
        yaml = _yaml()
    except SettingsError as error:
        raise ContentDisallowed(f"a payload cannot be read here: {error}") from None
    try:
        return yaml.safe_load(bytes(data))
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


_BUILT_IN = {
    PICKLE: _Serializer(pickling.dump, pickling.load, "application/x-python-serialize"),
    "json": _Serializer(
        _checked(_JSON, msgspec.json.encode), _read("json", msgspec.json.decode), "application/json"
    ),
    "msgpack": _Serializer(
        _checked(_MSGPACK, msgspec.msgpack.encode),
        _read("msgpack", msgspec.msgpack.decode),
        "application/x-msgpack",
    ),
    "yaml": _Serializer(_checked(_YAML, _yaml_dump), _read("yaml", _yaml_load), "application/x-yaml"),
}
_serializers = dict(_BUILT_IN)


def register_serializer(
    name: str, dumps: Callable[[Any], bytes], loads: Callable[[bytes], Any], *, content_type: str = ""
) -> None:
    """Make a serializer known by a name, in this process.

    Clients and engines both have to do it: put the call in a module that engines import. The same name
    may be registered again, and then means the new functions.

    Args:
        name: Lower-case letters, digits and ``_.+-``, at most 40.
        dumps: From a value to bytes. For a call the value is ``[args, kwargs]`` or
            ``[args, kwargs, headers]``: a list and dicts.
        loads: From bytes to the value.
        content_type: Another name by which ``accept_content`` may list it, such as ``application/cbor``.

    Raises:
        SettingsError: The name cannot be used.
    """
    compressions.check_name("serializer", name, frozenset(_BUILT_IN))

    def write(value: Any, what: str) -> bytes:
        try:
            data = dumps(value)
        except Exception as error:  # whatever user code raises
            text = f"{what} cannot be serialised as {name}: {type(error).__name__}: {str(error)[:200]}"
            raise NotSerializable(text) from error
        if not isinstance(data, bytes):
            text = (
                f"{what} cannot be serialised as {name}: its dumps returned {type(data).__name__}, not bytes"
            )
            raise NotSerializable(text)
        return data

    _serializers[name] = _Serializer(write, lambda data: loads(bytes(data)), content_type)


def encoding(serializer: str = "", compression: str = "") -> Encoding:
    """Check what a user chose; returns how values become blocks.

    Args:
        serializer: A name; empty for pickle.
        compression: A name, ``auto`` or ``none``; empty for none.

    Raises:
        SettingsError: There is no such serializer or compression here, or what it needs is missing.
    """
    if serializer not in _serializers and serializer:
        known = ", ".join(sorted(_serializers))
        raise SettingsError(
            f"no serializer {serializer!r} is known here; there are {known}; "
            "nbq.register_serializer(name, dumps, loads) makes another"
        )
    if serializer == "yaml":
        _yaml()
    compressions.check(compression or "none")
    if not compression or compression in compressions.OF_BLOCKS:
        return Encoding(serializer or PICKLE, compression or "none")
    return Encoding(f"{serializer or PICKLE}:{compression}")


def is_pickle(coded: str) -> bool:
    """Return whether a serializer is pickle, compressed or not."""
    return not coded or coded.partition(":")[0] == PICKLE


def check_accepted(coded: str, accept: Collection[str] | None) -> None:
    """Check that what a serializer made may be read here.

    Args:
        coded: The serializer of an element or block; empty for pickle.
        accept: Names and content types of serializers that may be read (``accept_content``); None for all.

    Raises:
        ContentDisallowed: It is not.
    """
    if accept is None:
        return
    name = coded.partition(":")[0] or PICKLE
    found = _serializers.get(name)
    if name in accept or (found is not None and found.content_type and found.content_type in accept):
        return
    listed = ", ".join(map(repr, sorted(accept))) or "nothing"
    raise ContentDisallowed(
        f"a payload was made by the serializer {name!r}, and accept_content here lists {listed}: it was not "
        f"read. Add {name!r} to accept_content if you trust whoever makes such payloads, or submit with "
        "another serializer"
    )


def encode(value: Any, what: str, coded: str) -> pickling.Element:
    """Serialise a value.

    Raises:
        NotSerializable: It cannot be serialised; the message names the part that is at fault.
        SettingsError: There is no such serializer or compression here.
    """
    name, _, compression = coded.partition(":")
    found = _serializers.get(name or PICKLE)
    if found is None:
        encoding(name)
        raise AssertionError(name)
    element = found.dumps(value, what)
    return compressions.compress(compression, bytes(element)) if compression else element


def decode(element: bytes | memoryview, coded: str, limit: int) -> Any:
    """Return the value of an element.

    Raises:
        ContentDisallowed: Its serializer or compression is not known here.
        IntegrityError: It is not what its serializer makes, or would have more bytes than the limit.
    """
    name, _, compression = coded.partition(":")
    found = _serializers.get(name or PICKLE)
    if found is None:
        raise ContentDisallowed(
            f"a payload was made by the serializer {name!r}, which is not registered here: call "
            "nbq.register_serializer in a module that this process imports (for an engine: --include MODULE)"
        )
    return found.loads(compressions.expand(compression, element, limit) if compression else element)
