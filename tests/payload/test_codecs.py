"""Serializers and compressions by name: what comes back, what is refused, and what is never read."""

from __future__ import annotations

import datetime
import enum
import json
import math
import pickle
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbq
from nbq import codecs, compressions, payload
from nbq.errors import ContentDisallowed, IntegrityError, NotSerializable, PayloadTooLarge, SettingsError

KEY = bytes(range(32))
PLACE = payload.origin("result", bytes(16), 0, 0)
SERIALIZERS = ["json", "msgpack", "pickle", "yaml"]
COMPRESSIONS = ["auto", "bzip2", "gzip", "lz4", "none", "zlib", "zstd"]

TEXT = st.text(max_size=8)
JSON_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
)
MINUTES = st.none() | st.integers(-1439, 1439)


def zone(minutes: int | None) -> datetime.timezone | None:
    return None if minutes is None else datetime.timezone(datetime.timedelta(minutes=minutes))


SCALARS = {
    "json": JSON_SCALARS,
    "msgpack": st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
    | TEXT | st.binary(max_size=8),
    "pickle": JSON_SCALARS | st.binary(max_size=8) | st.tuples(st.integers()),
    "yaml": JSON_SCALARS | st.floats(allow_nan=False) | st.binary(max_size=8) | st.dates()
    | st.builds(lambda when, minutes: when.replace(fold=0, tzinfo=zone(minutes)), st.datetimes(), MINUTES),
}  # fmt: skip


def values(serializer: str) -> st.SearchStrategy[Any]:
    keys = TEXT if serializer == "json" else TEXT | st.integers(-(2**63), 2**63)
    return st.recursive(
        SCALARS[serializer],
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=6,
    )


def exact(value: object) -> str:
    """Return a text in which 1, 1.0 and True differ, and the order of a dict does not matter."""
    if isinstance(value, list):
        return f"[{', '.join(map(exact, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(sorted(f'{exact(key)}: {exact(part)}' for key, part in value.items()))}}}"
    return f"{type(value).__name__} {value!r}"


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_values_come_back_as_they_were(serializer: str, compression: str) -> None:
    @settings(max_examples=15, deadline=None, derandomize=True)
    @given(st.lists(values(serializer), max_size=4))
    def check(given_values: list[Any]) -> None:
        encoding = payload.encoding(serializer, compression)
        assert encoding == (serializer, compression)
        elements = [payload.dumps(value, serializer=encoding.serializer) for value in given_values]
        block = payload.seal(
            KEY, PLACE, elements, serializer=encoding.serializer, compression=encoding.compression
        )
        opened = payload.unseal(KEY, PLACE, block, accept={serializer})
        assert opened.serializer == serializer
        assert exact(opened.values(0, opened.count)) == exact(given_values)
        assert exact([opened.value(at) for at in range(opened.count)]) == exact(given_values)

    check()


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_calls_come_back_as_they_were(serializer: str) -> None:
    @settings(max_examples=30, deadline=None, derandomize=True)
    @given(
        st.lists(values(serializer), max_size=3),
        st.dictionaries(TEXT, values(serializer), max_size=2),
        st.dictionaries(TEXT, values(serializer), max_size=2),
    )
    def check(args: list[Any], kwargs: dict[str, Any], headers: dict[str, Any]) -> None:
        element = payload.dump_call(tuple(args), kwargs, headers, serializer=serializer)
        found_args, found_kwargs, found_headers = payload.load_call(bytes(element), serializer)
        assert type(found_args) is tuple
        assert exact([list(found_args), found_kwargs, found_headers]) == exact([args, kwargs, headers])

    check()


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_many_calls_with_headers_are_the_same_as_each_of_them(serializer: str) -> None:
    calls = [(1, "two"), (), ([3],)]
    each = [bytes(payload.dump_call(args, {}, {"h": 1}, serializer=serializer)) for args in calls]
    assert [bytes(e) for e in payload.dump_calls(calls, {"h": 1}, serializer=serializer)] == each
    assert [payload.load_call(element, serializer) for element in each] == [(c, {}, {"h": 1}) for c in calls]


def test_a_tuple_comes_back_as_a_list() -> None:
    found = {
        name: payload.loads(bytes(payload.dumps({"t": (1, (2,))}, serializer=name)), name)
        for name in SERIALIZERS
    }
    plain = {"t": [1, [2]]}
    assert found == {"json": plain, "msgpack": plain, "yaml": plain, "pickle": {"t": (1, (2,))}}


@pytest.mark.parametrize("serializer", SERIALIZERS)
@pytest.mark.parametrize("compression", ["bzip2", "gzip", "lz4", "zlib", "zstd"])
def test_a_large_element_may_be_compressed(serializer: str, compression: str) -> None:
    text = "the same words again " * 10_000
    element = payload.dumps(text, serializer=serializer)
    name, parts = payload.seal_large(
        KEY, PLACE, element, b"extras", serializer=serializer, compression=compression
    )
    data = b"".join(parts)
    opened = payload.unseal(KEY, PLACE, data, accept={serializer})
    assert (opened.value(0), opened.extras, opened.serializer) == (text, b"extras", serializer)
    assert (data[:16].hex(), len(data) < len(text) // 10) == (name, True)


def test_what_pays_leaves_a_large_element_as_it_is() -> None:
    element = payload.dumps("x" * 500_000)
    plain = payload.seal_large(KEY, PLACE, element)
    assert payload.seal_large(KEY, PLACE, element, compression="auto") == plain


def test_gzip_and_zlib_are_two_formats() -> None:
    squeezed = {name: compressions.compress(name, b"abc") for name in ("gzip", "zlib")}
    assert {name: data[:2] for name, data in squeezed.items()} == {"gzip": b"\x1f\x8b", "zlib": b"\x78\x9c"}
    with pytest.raises(IntegrityError, match="cannot be expanded by gzip"):
        compressions.expand("gzip", squeezed["zlib"], 100)


# ------------------------------------------------------------------ what would be changed


class Colour(enum.IntEnum):
    RED = 1


class Name(str):
    __slots__ = ()


Point = namedtuple("Point", "x y")

LATE = datetime.datetime(2030, 10, 27, 1, 30)
LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("args", "kwargs", "serializer", "message"),
    [
        ((1, {2}), {}, "json", "args[1] cannot be serialised as json: set is none of None, bool, dict,"),
        (([0, {"k": b"x"}],), {}, "json", "args[0][1]['k'] cannot be serialised as json: bytes is none of"),
        ((), {"x": {1: 2}}, "json", "kwargs['x'] cannot be serialised as json: the key 1: int is none"),
        ((math.nan,), {}, "json", "args[0] cannot be serialised as json: nan is not a number there"),
        ((), {"x": [-math.inf]}, "json", "kwargs['x'][0] cannot be serialised as json: -inf is not"),
        ((Colour.RED,), {}, "json", "args[0] cannot be serialised as json: Colour is none of"),
        ((Point(1, 2),), {}, "msgpack", "args[0] cannot be serialised as msgpack: Point is none of"),
        ((OrderedDict(),), {}, "yaml", "args[0] cannot be serialised as yaml: OrderedDict is none of"),
        ((Name("n"),), {}, "yaml", "args[0] cannot be serialised as yaml: Name is none of"),
        ((datetime.date(2030, 1, 1),), {}, "json", "args[0] cannot be serialised as json: date is none of"),
        ((LATE.replace(fold=1),), {}, "yaml", "args[0] cannot be serialised as yaml: a time without zone"),
        ((LATE.replace(tzinfo=ZoneInfo("Asia/Tokyo")),), {}, "yaml", "args[0] cannot be serialised as yaml"),
        ((2**64,), {}, "msgpack", "args[0] cannot be serialised as msgpack: an int of more than 64 bits"),
        (({2**70: 1},), {}, "msgpack", "args[0] cannot be serialised as msgpack: the key 118059162071741130"),
        (({(1,): 1},), {}, "yaml", "args[0] cannot be serialised as yaml: the key (1,): tuple is none of"),
        (("\ud800",), {}, "json", "args[0] cannot be serialised as json: 'utf-8' codec can't encode"),
        ((lambda: 0,), {}, "json", "args[0] cannot be serialised as json: function is none of"),
        ((LOOP,), {}, "json", f"args[0]{'[0]' * 100} cannot be serialised as json: it is nested more"),
    ],
)  # fmt: skip
def test_what_would_come_back_changed_is_refused_by_its_path(
    args: tuple[Any, ...], kwargs: dict[str, Any], serializer: str, message: str
) -> None:
    with pytest.raises(NotSerializable) as caught:
        payload.dump_call(args, kwargs, serializer=serializer)
    assert str(caught.value)[: len(message)] == message


def test_headers_are_named_too() -> None:
    with pytest.raises(
        NotSerializable, match=r"^headers\['trace'\]\[0\] cannot be serialised as json: object"
    ):
        payload.dump_call((), {}, {"trace": [object()]}, serializer="json")


@pytest.mark.parametrize("serializer", ["json", "msgpack", "yaml"])
def test_the_limit_holds_for_every_serializer(serializer: str) -> None:
    with pytest.raises(PayloadTooLarge, match=r"^args has [\d,]+ bytes, the limit of one task is 100: "):
        payload.dumps("x" * 200, "args", 100, serializer)


def test_data_as_deep_as_it_may_be_comes_back_from_every_serializer() -> None:
    deep: list[Any] = []
    for _ in range(99):
        deep = [deep]
    for serializer in SERIALIZERS:
        assert payload.loads(bytes(payload.dumps(deep, serializer=serializer)), serializer) == deep


# ------------------------------------------------------------------ what is never read

TOUCHED: list[int] = []


def touch(number: int) -> None:
    TOUCHED.append(number)


class Canary:
    """Is seen when it is unpickled."""

    def __reduce__(self) -> Any:
        return touch, (1,)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_is_not_accepted_is_neither_read_nor_expanded(
    compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    TOUCHED.clear()
    data = payload.seal(KEY, PLACE, [bytes(payload.dumps(Canary()))], compression=compression)
    monkeypatch.setattr(compressions, "expand", lambda *_: TOUCHED.append(2))
    with pytest.raises(ContentDisallowed) as caught:
        payload.unseal(KEY, PLACE, data, accept=frozenset({"json", "yaml"}))
    assert str(caught.value) == (
        "a payload was made by the serializer 'pickle', and accept_content here lists 'json', 'yaml': it was "
        "not read. Add 'pickle' to accept_content if you trust whoever makes such payloads, or submit with "
        "another serializer"
    )
    assert TOUCHED == []
    monkeypatch.undo()
    payload.unseal(KEY, PLACE, data, accept=frozenset({"pickle"})).value(0)
    assert TOUCHED == [1]  # so the canary lives


def test_a_function_by_value_is_not_read_where_pickle_is_not_accepted() -> None:
    pickled = payload.dump_function(lambda: 7)
    assert payload.load_function(pickled, {"pickle"})() == 7
    with pytest.raises(ContentDisallowed, match="a function that goes by value is pickled, and accept"):
        payload.load_function(pickled, {"json"})


@pytest.mark.parametrize(
    ("serializer", "accept", "taken"),
    [
        ("", {"pickle"}, True),
        ("", {"json"}, False),
        ("json", {"json"}, True),
        ("json", {"application/json"}, True),
        ("json", {"application/x-yaml"}, False),
        ("pickle:mine", {"application/x-python-serialize"}, True),
        ("pickle:mine", {"mine", "json"}, False),
        ("unheard-of", {"pickle", "json", ""}, False),
        ("unheard-of", {"unheard-of"}, True),
        ("pickle", set(), False),
        ("pickle", None, True),
    ],
)
def test_accepted_are_names_and_content_types(serializer: str, accept: set[str] | None, taken: bool) -> None:
    if taken:
        payload.check_accepted(serializer, accept)
    else:
        with pytest.raises(ContentDisallowed):
            payload.check_accepted(serializer, accept)


@pytest.mark.parametrize("serializer", ["json", "msgpack", "yaml"])
def test_what_is_no_such_data_is_said(serializer: str) -> None:
    junk = {"json": b"{", "msgpack": b"\xc1", "yaml": b"a: [}"}[serializer]
    with pytest.raises(IntegrityError, match=f"a payload is not the {serializer} that it says: "):
        payload.loads(junk, serializer)
    with pytest.raises(IntegrityError, match=f"a payload of {serializer} holds no arguments of a call"):
        payload.load_call(bytes(payload.dumps([1, 2], serializer=serializer)), serializer)


def test_yaml_makes_no_objects() -> None:
    with pytest.raises(IntegrityError, match="could not determine a constructor"):
        payload.loads(b"!!python/object/apply:os.getcwd []", "yaml")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=60), st.sampled_from(["json", "msgpack", "yaml"]))
def test_whatever_plain_serializers_read_raises_nothing_else(data: bytes, serializer: str) -> None:
    try:
        payload.load_call(data, serializer)
    except IntegrityError as error:
        assert str(error).startswith("a payload ")  # noqa: PT017 - it need not be raised


# ------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("serializer", "compression", "message"),
    [
        ("jsn", "", "no serializer 'jsn' is known here; there are json, msgpack, pickle, yaml; nbq.reg"),
        ("", "gz", "no compression 'gz' is known here; there are auto, bzip2, gzip, lz4, none, zlib, zstd"),
    ],
)  # fmt: skip
def test_a_name_that_is_not_known_is_refused_with_those_that_are(
    serializer: str, compression: str, message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        payload.encoding(serializer, compression)
    assert str(caught.value)[: len(message)] == message
    with pytest.raises(SettingsError, match=f"{serializer or compression}' is known here"):
        payload.seal(KEY, PLACE, [payload.dumps(1, serializer=serializer)], compression=compression)


def test_empty_names_are_pickle_and_none() -> None:
    assert payload.encoding() == payload.Encoding("pickle", "none")
    assert payload.seal(KEY, PLACE, [b"x"], serializer="") == payload.seal(KEY, PLACE, [b"x"])
    assert payload.loads(bytes(payload.dumps([1], serializer="")), "") == [1]


def test_what_an_extra_brings_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    yaml = bytes(payload.dumps([1], serializer="yaml"))
    zstd = payload.seal(KEY, PLACE, [b"x"], compression="zstd")
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    for serializer, compression in (("yaml", ""), ("", "zstd")):
        extra = serializer or compression
        with pytest.raises(
            SettingsError, match=rf"{extra}' needs the package .*: install nbq\[{extra}\] here"
        ):
            payload.encoding(serializer, compression)
    with pytest.raises(ContentDisallowed, match=r"cannot be read here: .* install nbq\[yaml\]"):
        payload.loads(yaml, "yaml")
    with pytest.raises(ContentDisallowed, match=r"cannot be expanded here: .* install nbq\[zstd\]"):
        payload.unseal(KEY, PLACE, zstd)


# ------------------------------------------------------------------ one's own


@pytest.fixture(autouse=True)
def own_names_are_forgotten() -> Iterator[None]:
    """Begin with what nbq brings, whatever other tests have registered; leave the registries as they were."""
    serializers, squeezers = dict(codecs._serializers), dict(compressions._compressions)
    for own in serializers.keys() - codecs._BUILT_IN.keys():
        del codecs._serializers[own]
    for own in squeezers.keys() - compressions._BUILT_IN.keys():
        del compressions._compressions[own]
    yield
    for registry, before in ((codecs._serializers, serializers), (compressions._compressions, squeezers)):
        registry.clear()
        registry.update(before)


def reverse(data: bytes) -> bytes:
    return data[::-1]


def test_a_serializer_of_ones_own() -> None:
    nbq.register_serializer(
        "upper-json", lambda v: json.dumps(v).encode(), json.loads, content_type="text/up"
    )
    element = payload.dump_call((1,), {"k": 2}, serializer="upper-json")
    assert element == b'[[1], {"k": 2}]'
    data = payload.seal(KEY, PLACE, [element], serializer="upper-json", compression="gzip")
    opened = payload.unseal(KEY, PLACE, data, accept={"text/up"})
    assert payload.load_call(opened.element(0), opened.serializer) == ((1,), {"k": 2}, {})
    with pytest.raises(
        NotSerializable, match=r"^args\[1\] cannot be serialised as upper-json: TypeError: Object"
    ):
        payload.dump_call((1, {2}), {}, serializer="upper-json")
    nbq.register_serializer("upper-json", lambda _: "text", json.loads)  # type: ignore[arg-type, return-value]
    with pytest.raises(NotSerializable, match="its dumps returned str, not bytes"):
        payload.dumps(1, serializer="upper-json")


def test_a_compression_of_ones_own_is_of_elements() -> None:
    """A supervisor, where it is not registered, opens the block; only a slot opens elements."""
    nbq.register_compression("mirror", reverse, lambda data, _max_size: reverse(data))
    encoding = payload.encoding("json", "mirror")
    assert encoding == ("json:mirror", "none")
    element = payload.dumps([1, 2], serializer=encoding.serializer)
    assert element == b"]2,1["
    data = payload.seal(KEY, PLACE, [element], serializer=encoding.serializer)
    assert payload.unseal(KEY, PLACE, data, accept={"json"}).value(0) == [1, 2]
    with pytest.raises(ContentDisallowed):
        payload.unseal(KEY, PLACE, data, accept={"mirror"})
    del compressions._compressions["mirror"]
    opened = payload.unseal(KEY, PLACE, data)
    with pytest.raises(ContentDisallowed, match="compressed by 'mirror', which is not registered here: call"):
        opened.value(0)
    with pytest.raises(SettingsError, match="no compression 'mirror' is known here"):
        payload.seal(KEY, PLACE, [b"x"], compression="mirror")


def test_a_compression_of_ones_own_is_bounded() -> None:
    asked: list[int] = []

    def burst(_data: bytes, max_size: int) -> bytes:
        asked.append(max_size)
        return bytes(max_size + 1)

    nbq.register_compression("burst", reverse, burst)
    element = bytes(payload.dumps("x", serializer="json:burst"))
    with pytest.raises(IntegrityError, match="would expand by burst to more than 1,000 bytes"):
        payload.loads(element, "json:burst", 1000)
    assert asked == [1000]
    nbq.register_compression("burst", reverse, lambda data, max_size: 1 // 0)
    with pytest.raises(IntegrityError, match="cannot be expanded by burst: integer division"):
        payload.loads(element, "json:burst")


def test_a_serializer_that_is_not_registered_here_is_said() -> None:
    data = payload.seal(KEY, PLACE, [b"x"], serializer="elsewhere")
    with pytest.raises(
        ContentDisallowed, match="serializer 'elsewhere', which is not registered here: call nbq"
    ):
        payload.unseal(KEY, PLACE, data).value(0)
    with pytest.raises(SettingsError, match="no serializer 'elsewhere' is known here"):
        payload.dumps(1, serializer="elsewhere")


@pytest.mark.parametrize("name", ["", "Json", "a:b", "a/b", "x" * 41, "json", "-a", "a b"])
def test_names_that_cannot_be_registered(name: str) -> None:
    with pytest.raises(SettingsError, match="serializer"):
        nbq.register_serializer(name, pickle.dumps, pickle.loads)


@pytest.mark.parametrize("name", ["", "GZIP", "auto", "none", "zstd", "a:b"])
def test_compressions_that_cannot_be_registered(name: str) -> None:
    with pytest.raises(SettingsError, match="compression"):
        nbq.register_compression(name, reverse, lambda data, _max_size: data)


def test_a_decompress_without_a_bound_cannot_be_registered() -> None:
    with pytest.raises(SettingsError, match=r"cannot be called with \(data, max_size\)"):
        nbq.register_compression("mirror", reverse, reverse)  # type: ignore[arg-type]


def test_content_types_are_those_of_the_serializers() -> None:
    found = {name: each.content_type for name, each in codecs._serializers.items()}
    assert found == {
        "json": "application/json",
        "msgpack": "application/x-msgpack",
        "pickle": "application/x-python-serialize",
        "yaml": "application/x-yaml",
    }
    assert msgspec.json.decode(bytes(payload.dumps({"a": [1]}, serializer="json"))) == {"a": [1]}
