"""What a task raised, as bytes and back: always as text, and as the exception itself where that may be.

An exception is pickled only where its task's result is, and unpickled only where ``accept_content`` lists
pickle. Otherwise it is made again by its class and plain arguments, if that class is loaded here already:
no name that a payload holds is ever imported. Failures stand among values, in an encoding of their own.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Collection
from typing import Any

import msgspec

from nbq import codecs, pickling
from nbq.errors import ContentDisallowed, RemoteTraceback, TaskFailed

__all__ = ["dump_failure", "load_failure", "summary"]

_TEXT_LIMIT = 64 * 1024
_PICKLE_LIMIT = 64 * 1024
_ARGS_LIMIT = 16 * 1024
_SUMMARY_LIMIT = 512


class _Failure(msgspec.Struct, array_like=True):
    kind: str
    """Module and name of the class, with a colon between them."""
    message: str
    text: str
    pickled: bytes
    note: str
    args: bytes = b""
    """What the exception was made with, as JSON; empty if that is not plain data."""


def summary(error: BaseException) -> str:
    """Return type and message of an exception in one line of at most 512 characters."""
    try:
        text = traceback.format_exception_only(error)[-1].strip()
    except Exception:  # attributes that no exception should have
        text = type(error).__name__
    text = text.encode(errors="backslashreplace").decode()
    return text.replace("\n", " ")[:_SUMMARY_LIMIT]


def dump_failure(error: BaseException, note: str, skip: int | None = 0, coded: str = codecs.PICKLE) -> bytes:
    """Serialise an exception; always its text, and itself if it survives the round trip.

    Args:
        error: What a task raised.
        note: Where that was, for the person who reads the traceback.
        skip: How many frames of nbq's own to leave out at the outer end of the traceback; None for all.
        coded: The serializer of the task's result: the exception is pickled if that is pickle.
    """
    kind = f"{type(error).__module__}:{type(error).__qualname__}"
    by_pickle = codecs.is_pickle(coded)
    pickled = _pickled(error) if by_pickle else b""
    args = _plain_args(error) if pickled or not by_pickle else b""
    return msgspec.msgpack.encode(_Failure(kind, summary(error), _text(error, skip), pickled, note, args))


def _text(error: BaseException, skip: int | None) -> str:
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
    return raw.decode(errors="replace")


def _pickled(error: BaseException) -> bytes:
    try:
        candidate = pickling.dump_by_value(error)
        if len(candidate) <= _PICKLE_LIMIT and type(pickling.load(candidate)) is type(error):
            return candidate
    except Exception:  # whatever the exception's own __reduce__ or __init__ raises: send the text
        return b""
    return b""


def _plain_args(error: BaseException) -> bytes:
    try:
        data = bytes(codecs.encode(list(error.args), "args", "json"))
        again = type(error)(*msgspec.json.decode(data))
        return data if len(data) <= _ARGS_LIMIT and str(again) == str(error) else b""
    except Exception:  # args that are not plain, or a class whose __init__ takes others: send the text
        return b""


def load_failure(
    element: bytes | memoryview, task_id: str, accept: Collection[str] | None = None
) -> Exception:
    """Return the exception of a failed task, with the remote traceback as its cause.

    It is the original exception where that can be rebuilt here, else ``TaskFailed``; so too what would
    end whoever raises it, such as SystemExit. Never raises.

    Args:
        element: What ``dump_failure`` returned.
        task_id: The task that failed.
        accept: Names and content types of the serializers that may be read here; None for all.
    """
    try:
        failure = msgspec.msgpack.decode(element, type=_Failure)
    except msgspec.DecodeError as error:
        return TaskFailed(f"its failure cannot be read ({error})", task_id)
    note = f"in task {task_id}, {failure.note}"
    found = _rebuilt(failure, accept)
    if isinstance(found, Exception):
        try:
            return _annotated(found, failure.text, note)
        except Exception:  # a class whose instances cannot be changed: show the text
            found = None
    return _annotated(TaskFailed(failure.message, task_id), failure.text, note)


def _rebuilt(failure: _Failure, accept: Collection[str] | None) -> object:
    try:
        if failure.pickled:
            codecs.check_accepted(codecs.PICKLE, accept)
            return pickling.load(failure.pickled)
    except ContentDisallowed:
        pass
    except Exception:  # the class is missing here, or its __init__ raises
        return None
    kind = _loaded_class(failure.kind)
    if kind is None or not failure.args:
        return None
    try:
        return kind(*msgspec.json.decode(failure.args, type=list[Any]))
    except Exception:  # user code: it was made with other arguments than those it kept
        return None


def _loaded_class(path: str) -> type[Exception] | None:
    """Return an exception class that this process has loaded already; looking for it runs no code."""
    module, _, names = path.partition(":")
    found: Any = sys.modules.get(module)
    for name in names.split("."):
        found = vars(found).get(name) if isinstance(found, (type, type(sys))) else None
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def _annotated(error: Exception, text: str, note: str) -> Exception:
    error.__cause__ = RemoteTraceback(text)
    error.add_note(note)
    return error
