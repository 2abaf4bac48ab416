"""One value to bytes and back: by value or by name, large buffers uncopied, errors that name the place."""

from __future__ import annotations

import functools
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbq import payload
from nbq.errors import NotSerializable, PayloadTooLarge

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=10,
)


class Broken:
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise RuntimeError("never")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(VALUES)
def test_a_value_comes_back_as_it_was(value: object) -> None:
    assert payload.loads(bytes(payload.dumps(value))) == value


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(VALUES, max_size=3), st.dictionaries(st.text(max_size=5), VALUES, max_size=3))
def test_a_call_comes_back_as_it_was(args: list[Any], kwargs: dict[str, Any]) -> None:
    element = payload.dump_call(tuple(args), kwargs)
    assert payload.load_call(bytes(element)) == (tuple(args), kwargs, {})


def test_many_calls_are_the_same_as_each_of_them() -> None:
    by_value = functools.partial(lambda x: x, 1)
    calls: list[tuple[Any, ...]] = [(1,), ("two", [3]), (by_value,), (bytes(100_000),)]
    elements = [bytes(element) for element in payload.dump_calls(calls)]
    assert payload.load_call(elements[0]) == ((1,), {}, {})
    assert payload.load_call(elements[1]) == (("two", [3]), {}, {})
    assert payload.load_call(elements[2])[0][0]() == 1
    assert payload.load_call(elements[3]) == ((bytes(100_000),), {}, {})


def test_a_lambda_goes_by_value() -> None:
    captured = 41
    element = bytes(payload.dumps(lambda: captured + 1))
    assert payload.loads(element)() == 42


def test_what_is_defined_in_main_goes_by_value() -> None:
    source = (
        "import sys, nbq.payload as p\n"
        "class Point:\n"
        "    def __init__(self, x): self.x = x\n"
        "sys.stdout.buffer.write(bytes(p.dumps([Point(7)])))\n"
    )
    element = subprocess.run([sys.executable, "-c", source], capture_output=True, check=True).stdout
    (point,) = payload.loads(element)
    assert (type(point).__name__, type(point).__module__, point.x) == ("Point", "__main__", 7)


def test_a_large_array_is_neither_copied_in_nor_out() -> None:
    array = numpy.arange(100_000)
    element = payload.dumps({"a": array})
    assert isinstance(element, payload.LargeElement)
    views = [part.obj for part in element.parts if isinstance(part, memoryview)]
    assert len(views) == 1
    assert numpy.shares_memory(numpy.frombuffer(views[0], array.dtype), array)
    data = bytes(element)
    loaded = payload.loads(data)["a"]
    assert numpy.array_equal(loaded, array)
    assert numpy.shares_memory(loaded, numpy.frombuffer(data, numpy.uint8))


def test_buffers_lie_on_boundaries_of_64_bytes() -> None:
    arrays = [numpy.arange(n, dtype=numpy.uint8) for n in (65_537, 70_001, 99_999)]
    data = bytes(payload.dumps(arrays))
    whole = numpy.frombuffer(data, numpy.uint8)
    loaded = payload.loads(data)
    start = whole.__array_interface__["data"][0]
    places = [(array.__array_interface__["data"][0] - start) % 64 for array in loaded]
    assert places == [0, 0, 0]
    assert all(numpy.array_equal(a, b) for a, b in zip(arrays, loaded, strict=True))


def test_a_small_array_stays_in_its_pickle() -> None:
    assert isinstance(payload.dumps(numpy.arange(10)), bytes)


def test_an_array_in_fortran_order_comes_back() -> None:
    array = numpy.asfortranarray(numpy.arange(90_000).reshape(300, 300))
    loaded = payload.loads(bytes(payload.dumps(array)))
    assert numpy.array_equal(loaded, array)
    assert loaded.flags.f_contiguous


def _holder(**attributes: Any) -> SimpleNamespace:
    return SimpleNamespace(**attributes)


LOCK = threading.Lock()


@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        ((LOCK,), {}, "args[0]"),
        ((1, _holder(lock=LOCK)), {}, "args[1].lock"),
        ((), {"x": [1, 2, LOCK]}, "kwargs['x'][2]"),
        (({"deep": ({"er": Broken()},)},), {}, "args[0]['deep'][0]['er']"),
        ((lambda: LOCK,), {}, "args[0] global LOCK"),
    ],
    ids=["itself", "attribute", "item", "deep", "captured"],
)
def test_not_serializable_names_the_part(args: tuple[Any, ...], kwargs: dict[str, Any], path: str) -> None:
    with pytest.raises(NotSerializable) as caught:
        payload.dump_call(args, kwargs)
    assert str(caught.value).startswith(f"{path} cannot be serialised: ")


def test_not_serializable_says_what_the_part_is() -> None:
    with pytest.raises(NotSerializable) as caught:
        payload.dumps({"k": Broken()})
    assert str(caught.value) == "value['k'] cannot be serialised: Broken (RuntimeError: never)"
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_the_call_that_cannot_be_serialised_among_many_is_explained() -> None:
    calls = payload.dump_calls([(1,), (2, _holder(lock=LOCK))])
    assert payload.load_call(bytes(next(calls))) == ((1,), {}, {})
    with pytest.raises(NotSerializable, match=r"^args\[1\]\.lock cannot be serialised: lock"):
        next(calls)


def _capturing_nothing_yet() -> Callable[[], object]:
    def function() -> object:
        return later, LOCK

    if LOCK is None:
        later = 1
    return function


def test_a_captured_variable_without_a_value_does_not_hide_the_part_at_fault() -> None:
    with pytest.raises(NotSerializable, match=r"^function .*_capturing_nothing_yet.* global LOCK cannot be"):
        payload.dump_function(_capturing_nothing_yet())


def test_a_value_that_holds_itself_is_explained() -> None:
    loop: list[Any] = [LOCK]
    loop.insert(0, loop)
    with pytest.raises(NotSerializable, match="cannot be serialised: "):
        payload.dumps(loop)


def test_a_value_beyond_the_limit_is_refused() -> None:
    assert len(payload.dumps(bytes(50), limit=100)) <= 100
    with pytest.raises(PayloadTooLarge, match=r"^arguments has 1\d\d bytes, the limit of one task is 100: "):
        payload.dump_call((bytes(100),), {}, limit=100)
    with pytest.raises(PayloadTooLarge):
        payload.dumps(numpy.zeros(100_000), limit=100_000)


def test_an_element_that_is_no_pickle_raises_what_pickle_raises() -> None:
    with pytest.raises(pickle.UnpicklingError):
        payload.loads(b"\x80\x05garbage")
