"""What a task raised, as its caller sees it: the same exception where possible, its text always."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from nbq import payload
from nbq.errors import RemoteTraceback, TaskFailed
from nbq.wire import INLINE_LIMIT


class Picky(Exception):
    """Its constructor wants what pickle does not pass."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{code}: {reason}")


class BrokenText(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class BrokenReduce(Exception):
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise RuntimeError("no pickle")


class BrokenLoad(Exception):
    """Is unpickled as something else."""

    def __reduce__(self) -> Any:
        return str, ("a text",)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Cannot be given a cause or a note."""

    code: int


def raised(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def sent(error: BaseException) -> BaseException:
    return payload.load_failure(payload.dump_failure(error, "on engine e1", 1), "t1")


def throw(error: BaseException) -> BaseException:
    def body() -> None:
        raise error

    return sent(raised(body))


def test_the_original_exception_comes_with_its_remote_traceback() -> None:
    def inner() -> None:
        raise KeyError("k", 5)

    found = sent(raised(inner))
    assert (type(found), found.args) == (KeyError, ("k", 5))
    assert isinstance(found.__cause__, RemoteTraceback)
    text = str(found.__cause__)
    assert "in inner" in text
    assert "in raised" not in text
    assert text.endswith("KeyError: ('k', 5)\n")
    assert found.__notes__ == ["in task t1, on engine e1"]


def test_attributes_and_notes_travel() -> None:
    error = OSError(2, "missing", "/file")
    error.add_note("first note")
    found = throw(error)
    assert isinstance(found, FileNotFoundError)
    assert (found.errno, found.filename) == (2, "/file")
    assert found.__notes__ == ["first note", "in task t1, on engine e1"]


def test_causes_and_contexts_are_in_the_text() -> None:
    def body() -> None:
        try:
            raise ValueError("the root")
        except ValueError as error:
            raise RuntimeError("on top") from error

    text = str(sent(raised(body)).__cause__)
    assert (
        text.index("ValueError: the root") < text.index("direct cause") < text.index("RuntimeError: on top")
    )


def test_a_group_of_exceptions_comes_back_whole() -> None:
    found = throw(ExceptionGroup("both", [ValueError(1), TypeError("two")]))
    assert isinstance(found, ExceptionGroup)
    assert [repr(one) for one in found.exceptions] == ["ValueError(1)", "TypeError('two')"]


def test_an_exception_made_in_a_function_comes_back_by_value() -> None:
    class Local(Exception):
        pass

    found = throw(Local("here"))
    assert (type(found).__name__, found.args) == ("Local", ("here",))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Picky(3, reason="why"), "Picky: 3: why"),
        (BrokenReduce("args"), "BrokenReduce: args"),
        (BrokenLoad("x"), "BrokenLoad: x"),
        (Frozen(7), "Frozen: 7"),
        (ValueError(threading.Lock()), "ValueError: <unlocked"),
        (ValueError("x" * 200_000), "ValueError: xxxxx"),
    ],
    ids=["constructor", "reduce", "other type", "frozen", "argument", "too large"],
)
def test_an_exception_that_cannot_be_rebuilt_is_shown_by_its_text(error: Exception, text: str) -> None:
    found = throw(error)
    assert isinstance(found, TaskFailed)
    assert text in str(found.args[0])
    assert isinstance(found.__cause__, RemoteTraceback)
    assert found.task_id == "t1"
    assert found.__notes__ == ["in task t1, on engine e1"]


def test_an_exception_without_a_text_is_still_reported() -> None:
    found = throw(BrokenText())
    assert type(found) is BrokenText
    assert "BrokenText" in str(found.__cause__)
    assert payload.summary(BrokenText()).endswith("BrokenText: <exception str() failed>")


def test_text_that_is_not_unicode_is_escaped() -> None:
    error = ValueError("bad \ud800 text")
    assert payload.summary(error) == "ValueError: bad \\ud800 text"
    assert "ValueError: bad \\ud800 text" in str(throw(error).__cause__)


@pytest.mark.parametrize("letter", ["x", "é", "漢", "😀"])
def test_a_failure_of_any_length_fits_in_a_message(letter: str) -> None:
    element = payload.dump_failure(raised(lambda: exec("raise ValueError(s)", {"s": letter * 300_000})), "n")
    assert len(element) < INLINE_LIMIT
    text = str(payload.load_failure(element, "t").__cause__)
    assert "Traceback (most recent call last)" in text
    assert text.count("\n...\n") == 1


def test_a_class_that_is_missing_here_is_shown_by_its_text() -> None:
    source = (
        "import sys, types, nbq.payload as p\n"
        "module = types.ModuleType('far_away'); sys.modules['far_away'] = module\n"
        "exec('class Far(Exception): pass', module.__dict__)\n"
        "sys.stdout.buffer.write(p.dump_failure(module.Far('lost'), 'note'))\n"
    )
    element = subprocess.run([sys.executable, "-c", source], capture_output=True, check=True).stdout
    found = payload.load_failure(element, "t9")
    assert (type(found), str(found)) == (TaskFailed, "far_away.Far: lost [task t9]")


@pytest.mark.parametrize(
    "element", [b"", b"\xc1", b"\x90", msgspec.msgpack.encode(["a", "b", "c", b"junk", "d"])]
)
def test_a_failure_that_cannot_be_read_is_still_a_failure(element: bytes) -> None:
    found = payload.load_failure(element, "t1")
    assert isinstance(found, TaskFailed)
    assert found.task_id == "t1"


def test_a_summary_is_one_short_line() -> None:
    assert payload.summary(ValueError("one\ntwo")) == "ValueError: one two"
    assert len(payload.summary(ValueError("x" * 5000))) == 512
    assert payload.summary(SystemExit(3)) == "SystemExit: 3"


# ------------------------------------------------------------------ without pickle

TOUCHED: list[int] = []


def touch(number: int) -> Exception:
    TOUCHED.append(number)
    return ValueError("touched")


class Canary(Exception):
    """Is seen when it is unpickled, but only where this is not the class's own process."""

    def __reduce__(self) -> Any:
        return touch, (1,)


class Coded(Exception):
    """Keeps other arguments than those it is made with."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")


class Outer:
    """Holds an exception class."""

    class Inner(Exception):
        """Within a class."""


def without_pickle(error: BaseException) -> BaseException:
    return payload.load_failure(payload.dump_failure(error, "on engine e1", 0, "json"), "t1", {"json"})


@pytest.mark.parametrize(
    "error",
    [
        KeyError("k", 5),
        ValueError(),
        OSError(2, "missing"),
        Outer.Inner({"a": [1, None]}),
        TaskFailed("x", "t0"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_without_pickle_a_loaded_class_is_made_again_from_plain_arguments(error: Exception) -> None:
    found = without_pickle(error)
    assert (type(found), found.args, str(found)) == (type(error), error.args, str(error))
    assert isinstance(found.__cause__, RemoteTraceback)
    assert found.__notes__ == ["in task t1, on engine e1"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Coded(3), "Coded: code 3"),
        (Picky(3, reason="why"), "Picky: 3: why"),
        (ValueError(b"bytes"), "ValueError: b'bytes'"),
        (ValueError((1, 2)), "ValueError: (1, 2)"),
        (ValueError("x" * 20_000), "ValueError: xxxxx"),
        (SystemExit(3), "SystemExit: 3"),
        (type("Local", (Exception,), {})("gone"), "Local: gone"),
        (BrokenText(), "<exception str() failed>"),
        (Frozen(7), "Frozen: 7"),
    ],
    ids=["arguments", "constructor", "bytes", "tuple", "large", "ending", "not loaded", "text", "frozen"],
)
def test_without_pickle_what_is_not_surely_the_same_is_shown_by_its_text(
    error: BaseException, text: str
) -> None:
    found = without_pickle(error)
    assert isinstance(found, TaskFailed)
    assert text in str(found.args[0])
    assert isinstance(found.__cause__, RemoteTraceback)


def test_an_exception_is_not_unpickled_where_pickle_is_not_accepted() -> None:
    """It is still one that was pickled: whoever accepts pickle gets it by that."""
    TOUCHED.clear()
    kind = f"{__name__}:Canary"
    pickled = pickle.dumps(Canary("x"))
    element = msgspec.msgpack.encode((kind, "Canary: x", "text", pickled, "note", b'["x"]'))
    found = payload.load_failure(element, "t1", {"json"})
    assert (type(found), found.args, TOUCHED) == (Canary, ("x",), [])
    assert type(payload.load_failure(element, "t1", {"pickle"})) is ValueError
    assert TOUCHED == [1]  # so the canary lives


def test_a_failure_of_a_task_with_plain_results_holds_no_pickle() -> None:
    plain = msgspec.msgpack.decode(payload.dump_failure(ValueError("x"), "note", 0, "json"))
    pickled = msgspec.msgpack.decode(payload.dump_failure(ValueError("x"), "note", 0, "pickle:mine"))
    assert (plain[3], plain[5], pickled[3][:1], pickled[5]) == (b"", b'["x"]', b"\x80", b'["x"]')


@pytest.mark.parametrize(
    "kind",
    [
        "antigravity:Error", "builtins:print", "builtins:SystemExit", "builtins:int", "nbq:Cluster",
        "os:path.sep", "builtins:", ":", "", "builtins", "builtins:ValueError.args",
        f"{__name__}:Outer", "sys:modules.antigravity",
    ],
)  # fmt: skip
def test_only_exception_classes_that_are_loaded_are_looked_up(kind: str) -> None:
    before = set(sys.modules)
    element = msgspec.msgpack.encode((kind, "the message", "text", b"", "note", b"[]"))
    found = payload.load_failure(element, "t1", {"json"})
    assert (type(found), found.args[0]) == (TaskFailed, "the message")
    assert set(sys.modules) == before
