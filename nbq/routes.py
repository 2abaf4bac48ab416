"""Which options a call has beside its own: of its task, of the routes that fit it, and of the settings.

What a call says goes before what its task says, that before what a route says, and that before the
settings. Nothing is sent here, and no option is given a meaning (``canvas.options`` does).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from fnmatch import translate
from typing import Any, NamedTuple

from nbq.annotations import annotate, load_object
from nbq.canvas import TaskRef
from nbq.canvas.options import ClientOptions, check_names, client_options, merge, run_options
from nbq.configuration import Settings
from nbq.core.model import Options
from nbq.errors import InvalidSignature, SettingsError, UnknownQueue

__all__ = ["NOTHING_SAID", "Router", "Way"]

_KNOWN = 10_000
_DIRECT = ".dq"
_BUILTIN = "nbq."
"""What the names of the tasks of nbq itself begin with; no user's function is asked about them."""
_UNSET = Settings()
_DEFAULTS = {
    "default_queue": "queue",
    "ignore_result": "ignore_result",
    "time_limit": "time_limit",
    "soft_time_limit": "soft_time_limit",
    "cancel_grace": "cancel_grace",
    "task_serializer": "serializer",
    "compression": "compression",
    "result_serializer": "result_serializer",
    "result_compression": "result_compression",
    "retry_policy": "retry_policy",
}
"""Options that settings give to all calls, by setting."""

Route = Callable[..., Any]

NOTHING_SAID = client_options({})
"""What concerns the client of a call that says nothing of that sort: always this very object."""


class Way(NamedTuple):
    """How a call goes: what the hub is told of it, and what is the client's business alone."""

    options: Options
    client: ClientOptions


class _Table:
    """Options by exact name, then by pattern, in the order of the table."""

    def __init__(self, table: Mapping[str, Mapping[str, Any]]) -> None:
        self._exact = table
        self._patterns = [
            (re.compile(name[3:] if name.startswith("re:") else translate(name)), options)
            for name, options in table.items()
            if name.startswith("re:") or any(sign in name for sign in "*?[")
        ]

    def options(self, name: str) -> Mapping[str, Any] | None:
        found = self._exact.get(name)
        if found is not None:
            return found
        return next((options for pattern, options in self._patterns if pattern.match(name)), None)


class Router:
    """The routes, queues and defaults of some settings.

    Args:
        settings: The settings.

    Raises:
        SettingsError: A router that is named cannot be imported, or a route has an unknown option.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._entries: list[_Table | Route] = []
        for entry in settings.routes:
            if isinstance(entry, Mapping):
                for name, options in entry.items():
                    _check(options, f"the route of {name!r}")
                self._entries.append(_Table(entry))
            else:
                self._entries.append(load_object(entry, "routes") if isinstance(entry, str) else entry)
        self._defaults = {
            option: value
            for name, option in _DEFAULTS.items()
            if (value := getattr(settings, name)) != getattr(_UNSET, name)
        }
        self.asks = any(not isinstance(entry, _Table) for entry in self._entries)
        """Whether functions are among the routes, so that arguments may decide."""
        self._known: dict[TaskRef | str, tuple[Mapping[str, Any], bool]] = {}
        self.ways: dict[TaskRef | str, Way] = {}
        """How calls that say nothing go, by task, as far as that is known."""
        self._queues = {settings.default_queue, *settings.queues}

    def basis(self, task: TaskRef | str) -> Mapping[str, Any]:
        """Return the options of all calls of a task."""
        return self._learn(_known_here(task))[0]

    def routed(
        self,
        task: TaskRef | str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> Mapping[str, Any]:
        """Return the options of one call: its own, over what the functions among the routes say of it.

        Args:
            task: The task, or its name.
            args: Of the call, as far as they are known.
            kwargs: Likewise.
            options: What the call itself says.
        """
        task = _known_here(task)
        return options if not self._learn(task)[1] else self._route(task, args, kwargs, options)

    def _route(
        self,
        task: TaskRef | str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> Mapping[str, Any]:
        name = task if isinstance(task, str) else task.name
        own = {} if isinstance(task, str) else task.options
        found = self._ask(name, args, kwargs, merge(own, options), task)
        found = {option: value for option, value in found.items() if option not in own}
        return merge(found, options) if found else options

    def finish(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return options without what the settings switch off."""
        if self.settings.disable_rate_limits:
            options.pop("rate_limit", None)
        return options

    def way(
        self,
        task: TaskRef | str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> Way:
        """Return how one call goes.

        Raises:
            InvalidSignature: An option does not exist or does not fit.
            UnknownQueue: See ``check_queue``.
        """
        if not options:
            way = self.ways.get(task)
            if way is not None:
                return way
        else:
            check_names(options)
        basis, asks = self._learn(task)
        routed = self._route(task, args, kwargs, options) if asks else options
        resolved = self.finish(merge(basis, routed))
        way = Way(run_options(resolved), client_options(resolved))
        self.check_queue(way.options.queue)
        if not (options or asks):
            self.ways[task] = way
        return way

    def check_queue(self, queue: str) -> None:
        """Check that calls may go to a queue.

        Raises:
            UnknownQueue: It is not declared, and ``create_missing_queues`` is off.
        """
        settings = self.settings
        if settings.create_missing_queues or queue in self._queues:
            return
        if settings.worker_direct and queue.endswith(_DIRECT):
            return
        near = difflib.get_close_matches(queue, self._queues, 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UnknownQueue(
            f"queue {queue!r} is not declared, and create_missing_queues is off{hint} (the setting 'queues' "
            f"declares {', '.join(sorted(self._queues))})"
        )

    def _learn(self, task: TaskRef | str) -> tuple[Mapping[str, Any], bool]:
        known = self._known.get(task)
        if known is not None:
            return known
        if len(self._known) >= _KNOWN:
            self._known.clear()
            self.ways.clear()
        own: Mapping[str, Any] = {}
        if isinstance(task, str):
            name = task
        else:
            annotate(task, self.settings)
            name, own = task.name, task.options
        found: Mapping[str, Any] = {}
        asks = False
        for entry in self._entries:
            if not isinstance(entry, _Table):
                asks = not name.startswith(_BUILTIN)
                break
            fits = entry.options(name)
            if fits is not None:
                found = fits
                break
        known = merge(merge(self._defaults, found), own), asks
        self._known[task] = known
        return known

    def _ask(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: Mapping[str, Any],
        task: TaskRef | str,
    ) -> Mapping[str, Any]:  # fmt: skip
        """Return what the first route that says something of a call says."""
        for entry in self._entries:
            if isinstance(entry, _Table):
                found: Any = entry.options(name)
            else:
                shown = None if isinstance(task, str) else task
                found = entry(name, args, dict(kwargs), dict(options), task=shown)
                if isinstance(found, str):
                    return {"queue": found}
                if found is not None:
                    _check(found, f"what the router {getattr(entry, '__qualname__', entry)} returned")
            if found:
                return found
        return {}


def _known_here(task: TaskRef | str) -> TaskRef | str:
    """Return the task of a name, if this process has it."""
    from nbq.tasks import registered  # tasks submit through current, which knows this module

    return (registered(task) or task) if isinstance(task, str) else task


def _check(options: object, what: str) -> None:
    if not isinstance(options, Mapping):
        raise SettingsError(f"{what} is no queue and no table of options: {options!r}")
    try:
        check_names(options)
    except InvalidSignature as error:
        raise SettingsError(f"{what}: {error}") from None
