"""``@nbq.task``: a function that can be called here, or submitted.

A task that another process can import goes by its name; one that lives in ``__main__`` (a notebook, a
script) or in another function goes by value.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar, overload

from nbq import context
from nbq.annotations import annotate
from nbq.canvas import (
    EMPTY,
    MAP,
    STARMAP,
    Canvas,
    Signature,
    bind_registry,
    found_task,
    group,
    keyword,
    positional,
    run_options,
    signature,
)
from nbq.canvas.options import CALL_OPTIONS, OPTION_NAMES, check_names, merge
from nbq.configuration import current_settings
from nbq.context import Actions, current_task
from nbq.current import current_client
from nbq.errors import InvalidSignature, UnknownTask
from nbq.functions import FunctionCache, goes_by_value, named
from nbq.traits import TRAITS, Traits

__all__ = ["Task", "find_task", "known_tasks", "registered", "task"]

P = ParamSpec("P")
R = TypeVar("R")

_registry: dict[str, Task[Any, Any]] = {}
_cache = FunctionCache()


class Task(Traits, Actions, Generic[P, R]):
    """A task: calling it runs the function here.

    A subclass, given as ``base`` to ``nbq.task``, can set the attributes of ``Traits`` and the options of its
    tasks, define hooks, and add what its tasks need.

    Args:
        function: What it runs.
        name: Its name on engines; ``module.function`` unless given.
        bind: Whether the function takes ``nbq.current_task`` as its first argument.
        given: Defaults for ``apply_async``, and attributes of ``Traits``.

    Raises:
        InvalidSignature: There is no such option or attribute, or its value does not fit.
    """

    def __init__(
        self, function: Callable[..., R], name: str | None, bind: bool, given: Mapping[str, Any]
    ) -> None:
        functools.update_wrapper(self, function)
        self.run: Callable[..., R] = function
        self.name = name or f"{function.__module__}.{function.__qualname__}"
        self.bind = bind
        self.options = _inherited(type(self))
        for key, value in given.items():
            if key in TRAITS:
                setattr(self, key, value)
            else:
                self.options[key] = value
        self._signature: inspect.Signature | None = None
        self._positional: range | None = None
        if wrong := sorted(CALL_OPTIONS & self.options.keys()):
            raise InvalidSignature(f"{wrong[0]} belongs to one call, not to a task: use apply_async")
        self.run_options = run_options(self.options)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here; ``current_task.request.called_directly`` is true in it."""
        token = context.begin(self, args, kwargs)
        try:
            value = self.call_in_slot(*args, **kwargs)
        finally:
            context.end(token)
        return self._later(value, args, kwargs) if inspect.iscoroutine(value) else value  # type: ignore[return-value]

    async def _later(self, coroutine: Coroutine[Any, Any, Any], args: Any, kwargs: Any) -> Any:
        token = context.begin(self, args, kwargs)
        try:
            return await coroutine
        finally:
            context.end(token)

    @property
    def call_in_slot(self) -> Callable[..., R]:
        """Return what a slot calls with the arguments of a submitted call."""
        return functools.partial(self.run, current_task) if self.bind else self.run

    @property
    def traits(self) -> dict[str, Any]:
        """The attributes of ``Traits`` that are its own, not its class's."""
        return {name: value for name, value in vars(self).items() if name in TRAITS}

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Check that the function can be called with ``args`` and ``kwargs``.

        Raises:
            InvalidSignature: It cannot; the message says why, as a call here would.
        """
        if not self.typing:
            return
        if self._signature is None:
            self._learn()
        if self._positional is not None and not kwargs and len(args) in self._positional:
            return
        assert self._signature is not None
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidSignature(f"{self.name}{self._signature}: {error}") from None

    def _learn(self) -> None:
        try:
            found = inspect.signature(self.run)
        except (TypeError, ValueError):  # some builtins have no signature: anything goes
            self._signature = inspect.signature(lambda *args, **kwargs: None)
            return
        if self.bind:
            found = found.replace(parameters=list(found.parameters.values())[1:])
        self._signature = found
        kinds = [parameter.kind for parameter in found.parameters.values()]
        if all(kind == inspect.Parameter.POSITIONAL_OR_KEYWORD for kind in kinds):
            required = [p for p in found.parameters.values() if p.default is inspect.Parameter.empty]
            self._positional = range(len(required), len(kinds) + 1)

    def payload(self) -> bytes:
        """Return what an engine needs to find or rebuild the function.

        Raises:
            NotSerializable: It goes by value, and captures something that cannot be serialised.
        """
        if _registry.get(self.name) is self and not goes_by_value(self.run):
            return named(self.name, self.run.__module__)
        return _cache.payload(self)

    def merged(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return this task's options with the ``options`` of a call over them.

        Raises:
            InvalidSignature: There is no such option.
        """
        check_names(options)
        return merge(self.options, options)

    # -------------------------------------------------------------- submitting

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Submit a call with these arguments; returns its ``AsyncResult`` without waiting for anything.

        Raises:
            InvalidSignature: The function takes no such arguments.
            NotSerializable: One of them, or the function, cannot be serialised.
        """
        return current_client().submit_task(self, args, kwargs, {})

    def apply_async(
        self, args: tuple[Any, ...] | list[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Submit a call with options; returns its ``AsyncResult`` without waiting for anything.

        Args:
            args: Positional arguments.
            kwargs: Keyword arguments.
            options: As for ``Signature.apply_async``, over those of the task.

        Raises:
            InvalidSignature: The function takes no such arguments, or an option does not exist or fit.
            NotSerializable: An argument or the function cannot be serialised.
            UnknownQueue: The queue is not declared, and may not be made.
            HubUnreachable: The call does not want to wait for a hub that is away.
        """
        return current_client().submit_task(self, positional(args), keyword(kwargs), options)

    def apply(
        self, args: tuple[Any, ...] | list[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Run a call here, in this process; returns its result, which has ended.

        Args:
            args: Positional arguments.
            kwargs: Keyword arguments.
            options: As for ``apply_async``.

        Raises:
            InvalidSignature: The function takes no such arguments, or an option does not exist or fit.
        """
        return Signature(self, args, kwargs).apply(**options)

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """Return the signature of a call; what it is fed goes before these arguments."""
        return Signature(self, args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """Return the signature of a call that ignores what it is fed."""
        return Signature(self, args, kwargs, immutable=True)

    def signature(
        self, args: tuple[Any, ...] | list[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Signature:
        """Return the signature of a call with options.

        Args:
            args: Positional arguments.
            kwargs: Keyword arguments.
            options: As for ``apply_async``; and ``immutable=True`` for what ``si`` makes.

        Raises:
            InvalidSignature: There is no such option.
        """
        immutable = bool(options.pop("immutable", False))
        return Signature(self, args, kwargs, options, immutable=immutable)

    subtask = signature

    def map(self, items: Iterable[Any]) -> Signature:
        """Return one task that calls this one with each of ``items`` in turn, and gives the list."""
        return Signature(self).map(items)

    def starmap(self, items: Iterable[Iterable[Any]]) -> Signature:
        """Return one task that calls this one with the arguments in each of ``items``."""
        return Signature(self).starmap(items)

    def chunks(self, items: Iterable[Iterable[Any]], n: int) -> group:
        """Return a group of tasks, each of which calls this one with ``n`` of the ``items``."""
        return Signature(self).chunks(items, n)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by name where another process can import it, else by value."""
        if _registry.get(self.name) is self and not goes_by_value(self.run):
            return find_task, (self.name, self.run.__module__)
        return type(self), (self.run, self.name, self.bind, {**self.options, **self.traits})

    def __repr__(self) -> str:
        """Name it."""
        return f"<task {self.name}>"


def _inherited(kind: type[Task[..., Any]]) -> dict[str, Any]:
    """Return the options that the classes of a task set for it."""
    options: dict[str, Any] = {}
    for above in reversed(kind.__mro__):
        if issubclass(above, Task) and above is not Task:
            options |= {name: value for name, value in vars(above).items() if name in OPTION_NAMES}
    return options


@overload
def task(function: Callable[P, R]) -> Task[P, R]: ...
@overload
def task(
    function: None = None,
    *,
    bind: Literal[True],
    name: str | None = None,
    base: type[Task[..., Any]] | None = None,
    **given: Any,
) -> Callable[[Callable[Concatenate[Any, P], R]], Task[P, R]]: ...
@overload
def task(
    function: None = None,
    *,
    name: str | None = None,
    bind: Literal[False] = False,
    base: type[Task[..., Any]] | None = None,
    **given: Any,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(
    function: Callable[..., R] | None = None,
    *,
    name: str | None = None,
    bind: bool = False,
    base: type[Task[..., Any]] | None = None,
    **given: Any,
) -> Task[..., R] | Callable[[Callable[..., R]], Task[..., R]]:
    """Make a function a task; with or without parentheses.

    Args:
        function: The function.
        name: Its name on engines; ``module.function`` unless given.
        bind: Whether it takes ``nbq.current_task`` as its first argument.
        base: The class of the task: a subclass of ``Task``, with hooks and attributes.
        given: Defaults for its calls, as for ``apply_async``; and how it is retried and checked:
            ``max_retries``, ``default_retry_delay``, ``autoretry_for``, ``dont_autoretry_for``,
            ``retry_kwargs``, ``retry_backoff``, ``retry_backoff_max``, ``retry_jitter``, ``throws`` and
            ``typing``, which ``nbq.traits.Traits`` explains.

    Raises:
        InvalidSignature: There is no such option, or its value does not fit.
    """
    kind: type[Task[..., Any]] = Task if base is None else base
    if not (isinstance(kind, type) and Task in kind.__mro__):
        raise InvalidSignature(f"base must be a subclass of nbq.Task, not {base!r}")
    if function is None:
        return lambda later: _make(kind, later, name, bind, given)
    return _make(kind, function, name, bind, given)


def _make(
    kind: type[Task[..., Any]],
    function: Callable[..., R],
    name: str | None,
    bind: bool,
    given: Mapping[str, Any],
) -> Task[..., R]:
    made: Task[..., R] = kind(function, name, bind, given)
    _registry[made.name] = made
    return made


def registered(name: str) -> Task[..., Any] | None:
    """Return the task of a name that is known in this process, or None."""
    return _registry.get(name)


def known_tasks() -> list[str]:
    """Return the names of the tasks that are known in this process."""
    return sorted(_registry)


def find_task(name: str, module: str | None) -> Task[..., Any]:
    """Return the task of a name, importing its module if it is not known yet.

    Without a module, that is what the name itself says before its last dot, if there is such a module.

    Raises:
        UnknownTask: No module that is imported here makes a task of this name; names near ones.
    """
    found = _registry.get(name)
    if found is None and module is not None and module not in sys.modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UnknownTask(
                f"the engine cannot import {module!r}, where task {name!r} is ({error}): install it "
                f"there, or start the engine with --include {module}"
            ) from error
        found = _registry.get(name)
    if found is None and module is None:
        found = _find_by_dots(name)
    if found is None:
        near = difflib.get_close_matches(name, _registry, 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UnknownTask(
            f"the engine knows no task named {name!r}{hint} (start it in the folder of the module that makes "
            "it, or with --include MODULE)"
        )
    annotate(found, current_settings())
    return found


def _find_by_dots(name: str) -> Task[..., Any] | None:
    module = name.rpartition(".")[0]
    if module in sys.modules or not all(part.isidentifier() for part in module.split(".")):
        return None
    try:
        importlib.import_module(module)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        if not absent:
            raise UnknownTask(
                f"the engine cannot import {module!r}, where task {name!r} may be ({error}): install "
                "there what it needs"
            ) from error
    return _registry.get(name)


@task(name=EMPTY)
def _empty(*_fed: Any) -> list[Any]:
    """Return what an empty group is worth."""
    return []


class _Repeating(Task[P, R]):
    """A builtin task that calls another one: the calls that it will make are checked with its own."""

    def check(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Check its own call, and that of each item if the task is known here; raises as it does."""
        super().check(args, kwargs)
        called = signature(kwargs["task"]) if "task" in kwargs else None
        if not isinstance(called, Signature):
            return
        known = found_task(called.ref)
        if not isinstance(known, Task):
            return
        for item in kwargs.get("items", ()):
            fed = () if called.immutable else (item,) if self.name == MAP else tuple(item)
            known.check(fed + called.args, called.kwargs)


@task(name=MAP, base=_Repeating)
def _map(task: Signature | dict[str, Any], items: list[Any]) -> list[Any]:
    """Call a signature with each item."""
    sig = _to_call(task)
    return [sig(item) for item in items]


@task(name=STARMAP, base=_Repeating)
def _starmap(task: Signature | dict[str, Any], items: list[Iterable[Any]]) -> list[Any]:
    """Call a signature with the arguments in each item."""
    sig = _to_call(task)
    return [sig(*item) for item in items]


def _to_call(task: Signature | dict[str, Any]) -> Canvas:
    sig = signature(task)
    if isinstance(sig, Signature) and isinstance(sig.ref, str):
        sig.ref = find_task(sig.ref, None)
    return sig


bind_registry(registered)
