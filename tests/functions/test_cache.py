"""Functions by value: pickled once, and again as soon as anything that went into the pickle was rebound."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from nbq import payload
from nbq.errors import NotSerializable
from nbq.functions import FunctionCache, goes_by_value, named

KEPT = 1000


def notebook(*cells: str) -> dict[str, Any]:
    """Return the namespace of a notebook after these cells."""
    space: dict[str, Any] = {"__name__": "__main__"}
    run(space, *cells)
    return space


def run(space: dict[str, Any], *cells: str) -> None:
    for cell in cells:
        exec(cell, space)


def value_of(data: bytes, *args: Any) -> Any:
    """Return what an engine gets when it calls a payload."""
    kind, pickled = msgspec.msgpack.decode(data)
    assert kind == "pickle"
    return payload.loads(pickled)(*args)


@pytest.fixture
def pickled(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return a list of the functions that are pickled, as that happens."""
    seen: list[object] = []
    dump = payload.dump_function

    def dump_function(function: Callable[..., Any]) -> bytes:
        seen.append(function)
        return dump(function)

    monkeypatch.setattr(payload, "dump_function", dump_function)
    return seen


def test_an_unchanged_function_is_pickled_once(pickled: list[object]) -> None:
    space = notebook("k = [1]\ndef helper(): return k\ndef f(x=2, *, y=3): return x + y + helper()[0]")
    cache = FunctionCache()
    first = cache.payload(space["f"])
    assert [cache.payload(space["f"]) is first for _ in range(5)] == [True] * 5
    assert pickled == [space["f"]]
    assert value_of(first) == 6


CELLS = "k = 1\ndef deep(): return k\ndef helper(): return deep()\ndef f(): return helper()"

CHANGES = {
    "a global": (CELLS, "k = 5"),
    "a helper": (CELLS, "def helper(): return 5"),
    "a helper of a helper": (CELLS, "def deep(): return 5"),
    "the code": (CELLS, "f.__code__ = (lambda: 5).__code__"),
    "a default": ("def f(x=1): return x", "f.__defaults__ = (5,)"),
    "a keyword default": ("def f(*, x=1): return x", "f.__kwdefaults__ = {'x': 5}"),
    "a keyword default in place": ("def f(*, x=1): return x", "f.__kwdefaults__['x'] = 5"),
    "a captured variable": (
        "def make():\n  x = 1\n  def f(): return x\n  def put(y):\n    nonlocal x\n    x = y\n"
        "  return f, put\nf, put = make()",
        "put(5)",
    ),
    "a captured variable that had no value": (
        "def make():\n  def f():\n    try: return x\n    except NameError: return 1\n"
        "  def put(y):\n    nonlocal x\n    x = y\n  if False: x = 0\n  return f, put\nf, put = make()",
        "put(5)",
    ),
    "a global that did not exist": (
        "def f():\n  try: return later\n  except NameError: return 1",
        "later = 5",
    ),
    "a global that is deleted": ("k = 1\ndef f():\n  try: return k\n  except NameError: return 5", "del k"),
    "a global named in an inner function": ("k = 1\ndef f():\n  return (lambda: k)()", "k = 5"),
    "what a default function names": ("k = 1\ndef g(): return k\ndef f(g=g): return g()", "k = 5"),
    "what a wrapped function names": (
        "import functools\nk = 1\ndef plain(g):\n  @functools.wraps(g)\n  def w(): return g()\n  return w\n"
        "@plain\ndef f(): return k",
        "k = 5",
    ),
    "what a method names": ("k = 1\nclass A:\n  def go(self): return k\ndef f(): return A().go()", "k = 5"),
    "what a static method names": (
        "k = 1\nclass A:\n  @staticmethod\n  def go(): return k\ndef f(): return A.go()",
        "k = 5",
    ),
    "a method": (
        "class A:\n  def go(self): return 1\ndef f(): return A().go()",
        "A.go = lambda self: 5",
    ),
    "a class": ("class A: x = 1\ndef f(): return A.x", "class A: x = 5"),
}


@pytest.mark.parametrize(("before", "change"), CHANGES.values(), ids=CHANGES.keys())
def test_the_new_code_runs_after_a_change(before: str, change: str) -> None:
    space = notebook(before)
    function, cache = space["f"], FunctionCache()
    assert function() == 1
    first = cache.payload(function)
    assert cache.payload(function) is first
    run(space, change)
    assert function() == 5
    second = cache.payload(function)
    assert second != first
    assert value_of(second) == 5


def test_a_change_elsewhere_pickles_nothing_again(pickled: list[object]) -> None:
    space = notebook(CELLS, "other = 1")
    cache = FunctionCache()
    first = cache.payload(space["f"])
    run(space, "other = 2\ndef unrelated(): return 3")
    assert cache.payload(space["f"]) is first
    assert len(pickled) == 1


def test_a_value_changed_in_place_is_seen_when_a_cell_starts() -> None:
    space = notebook("k = [1]\ndef f(): return k[0]")
    cache = FunctionCache()
    assert value_of(cache.payload(space["f"])) == 1
    run(space, "k[0] = 5")
    cache.clear()
    assert value_of(cache.payload(space["f"])) == 5


def test_a_recursive_function_and_its_partner_can_be_watched() -> None:
    space = notebook("def odd(n): return n != 0 and even(n - 1)\ndef even(n): return n == 0 or odd(n - 1)")
    cache = FunctionCache()
    assert value_of(cache.payload(space["odd"]), 7) is True
    run(space, "def even(n): return 'new'")
    assert value_of(cache.payload(space["odd"]), 7) == "new"


class Adder:
    """A callable with state."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, x: int) -> int:
        """Add."""
        return x + self.n


def test_an_object_that_is_called_is_pickled_as_it_is_now() -> None:
    adder, cache = Adder(1), FunctionCache()
    assert value_of(cache.payload(adder), 10) == 11
    adder.n = 5
    assert value_of(cache.payload(adder), 10) == 15


def test_a_partial_follows_what_it_names() -> None:
    space = notebook("k = 1\ndef g(x): return x + k")
    part, cache = functools.partial(space["g"], 10), FunctionCache()
    assert value_of(cache.payload(part)) == 11
    run(space, "k = 5")
    assert value_of(cache.payload(part)) == 15


def test_a_method_of_an_object_follows_the_object() -> None:
    adder, cache = Adder(1), FunctionCache()
    assert value_of(cache.payload(adder.__call__), 1) == 2
    adder.n = 2
    assert value_of(cache.payload(adder.__call__), 1) == 3


def test_the_cache_is_bounded() -> None:
    cache = FunctionCache()
    functions = [eval(f"lambda: {n}") for n in range(KEPT + 5)]
    for function in functions:
        cache.payload(function)
    assert list(cache._kept) == functions[5:]


def test_a_large_capture_warns_with_its_name() -> None:
    table = bytes(2 << 20)
    small = [1]

    def function() -> int:
        return len(table) + len(small)

    size = r"2,097,\d+"
    name = r"'test_a_large_capture_warns_with_its_name\.<locals>\.function'"
    with pytest.warns(UserWarning, match=rf"^function {name} has {size} bytes .*; table alone has {size}: "):
        FunctionCache().payload(function)


def test_a_large_global_warns_with_its_name() -> None:
    space = notebook("weights = bytes(2 << 20)\ndef f(): return len(weights)")
    with pytest.warns(UserWarning, match=r"function 'f' has 2,097,\d+ bytes .*; weights alone has 2,097,"):
        FunctionCache().payload(space["f"])


def test_a_capture_below_a_mebibyte_does_not_warn() -> None:
    space = notebook("weights = bytes((1 << 20) - 4096)\ndef f(): return len(weights)")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FunctionCache().payload(space["f"])


def test_a_capture_that_cannot_be_serialised_is_named() -> None:
    space = notebook("import threading\nlock = threading.Lock()\ndef f():\n  with lock: pass")
    with pytest.raises(NotSerializable, match=r"^function f global lock cannot be serialised: lock"):
        FunctionCache().payload(space["f"])


def test_what_can_be_imported_goes_by_name() -> None:
    assert not goes_by_value(json.dumps)
    assert not goes_by_value(Adder)
    assert not goes_by_value(Adder.__call__)
    assert not goes_by_value(len)


def test_what_cannot_be_imported_goes_by_value() -> None:
    def local() -> None: ...

    gone = type(local)(local.__code__, {}, "gone")
    gone.__module__ = "no_such_module"
    renamed = type(local)(local.__code__, {}, "renamed")
    renamed.__module__, renamed.__qualname__ = "json", "no_such_name"
    for function in (local, lambda: 1, notebook("def f(): pass")["f"], gone, renamed):
        assert goes_by_value(function)


def test_what_a_script_defines_goes_by_value() -> None:
    source = (
        "import sys\nfrom nbq.functions import FunctionCache\nk = 40\ndef f(x): return x + k\n"
        "sys.stdout.buffer.write(FunctionCache().payload(f))\n"
    )
    data = subprocess.run([sys.executable, "-c", source], capture_output=True, check=True).stdout
    assert value_of(data, 2) == 42


def test_a_named_task_is_its_name_and_module() -> None:
    assert msgspec.msgpack.decode(named("tasks.add", "tasks")) == ["name", "tasks.add", "tasks"]
    assert msgspec.msgpack.decode(named("add", None)) == ["name", "add", None]
