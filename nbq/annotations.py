"""Options and attributes of tasks that settings change, without touching the code of the tasks.

Tables by task name (``*`` for all, which goes first) or objects with ``annotate(task)`` that return such a
table or None. An option's name changes the option; any other name changes the attribute of the task, which
must have it; ``@name`` replaces the attribute by what the given function makes of it.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

from nbq.canvas.options import OPTION_NAMES, merge, run_options
from nbq.configuration import Settings
from nbq.errors import InvalidSignature, SettingsError
from nbq.traits import TRAITS, checked

__all__ = ["annotate", "load_object"]

_ABSENT = object()
_FIXED = {"name", "run", "options", "run_options"}


class _Done:
    """What was done to a task."""

    def __init__(self, annotations: tuple[Any, ...]) -> None:
        self.annotations = annotations
        self.options: dict[str, Any] | None = None
        """The options before, if they were changed."""
        self.attributes: dict[str, Any] = {}
        """The task's own attributes before, by name; those that its class has instead are absent."""


_done: WeakKeyDictionary[Any, _Done] = WeakKeyDictionary()


def annotate(task: Any, settings: Settings) -> None:
    """Give a task what settings say of it, in place of what other settings have said.

    Args:
        task: An ``nbq.tasks.Task``.
        settings: The settings.

    Raises:
        SettingsError: An annotation does not fit the task.
    """
    done = _done.get(task)
    if done is None:
        if not settings.annotations:
            return
    elif done.annotations is settings.annotations:
        return
    else:
        _undo(task, done)
    done = _done[task] = _Done(settings.annotations)
    options: dict[str, Any] = {}
    for name, value in _said(task, settings):
        if name in OPTION_NAMES:
            options[name] = value
            continue
        try:
            _set(task, name, value, done)
        except InvalidSignature as error:
            raise SettingsError(f"annotations of task {task.name}: {error}") from None
    if not options:
        return
    if "task_id" in options:
        raise SettingsError(f"annotations of task {task.name}: task_id belongs to one call")
    changed = merge(task.options, options)
    try:
        run_options(changed)
    except InvalidSignature as error:
        raise SettingsError(f"annotations of task {task.name}: {error}") from None
    done.options, task.options = task.options, changed


def _said(task: Any, settings: Settings) -> Iterator[tuple[str, Any]]:
    """Yield the names and values that are meant for a task."""
    for given in settings.annotations:
        entry = load_object(given, "annotations") if isinstance(given, str) else given
        if not isinstance(entry, Mapping):
            yield from (entry.annotate(task) or {}).items()
            continue
        for name in ("*", task.name):
            yield from entry.get(name, {}).items()


def _set(task: Any, name: str, value: Any, done: _Done) -> None:
    """Set an attribute; a function in the place of a method becomes one."""
    wraps = name.startswith("@")
    name = name.removeprefix("@")
    before = getattr(task, name, _ABSENT)
    if name in _FIXED or name.startswith("_") or before is _ABSENT:
        names = {*OPTION_NAMES, *dir(task)} - _FIXED
        known = sorted(known for known in names if not known.startswith("_"))
        near = difflib.get_close_matches(name, known, 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise SettingsError(f"annotations of task {task.name}: it has no {name!r} that can be set{hint}")
    done.attributes.setdefault(name, vars(task).get(name, _ABSENT))
    if wraps:
        value = value(before)
    elif name in TRAITS:
        value = checked(name, value)
    elif isinstance(value, FunctionType) and isinstance(before, MethodType):
        value = MethodType(value, task)
    setattr(task, name, value)


def _undo(task: Any, done: _Done) -> None:
    if done.options is not None:
        task.options = done.options
    for name, value in done.attributes.items():
        if value is _ABSENT:
            delattr(task, name)
        else:
            setattr(task, name, value)


def load_object(path: str, setting: str) -> Any:
    """Return what ``module:name`` names.

    Raises:
        SettingsError: There is no such thing.
    """
    module, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"{setting}: {path!r} cannot be loaded: {error}") from error
    return found
