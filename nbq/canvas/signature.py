"""Signatures: a call as plain data, to be made later, elsewhere or as part of something larger.

``Canvas`` is what signatures, groups, chains and chords have in common. Nothing here changes a
shape (``plan`` does) or sends anything (the bound submitter does).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from reprlib import Repr
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

from nbq.canvas.options import LINKS, check_names, listed, merge
from nbq.errors import InvalidSignature, UnknownTask

if TYPE_CHECKING:
    from nbq.canvas.compose import chain, chord, group
    from nbq.canvas.plan import Plan

__all__ = [
    "Canvas",
    "Signature",
    "TaskRef",
    "bind_applier",
    "bind_registry",
    "bind_submitter",
    "call_text",
    "checked",
    "found_task",
    "keyword",
    "positional",
    "signature",
    "to_canvas",
]


@runtime_checkable
class TaskRef(Protocol):
    """What a signature may refer to beside a plain name; ``nbq.tasks.Task`` is one."""

    @property
    def name(self) -> str:
        """The name under which the task is shown, and known to engines."""
        ...

    @property
    def options(self) -> Mapping[str, Any]:
        """The options that the task has unless a signature or call says otherwise."""
        ...

    __call__: Callable[..., Any]
    """Runs the task here."""


class _Hooks:
    """How canvases reach what they must not import."""

    submit: Callable[[Plan], Any] | None = None
    apply: Callable[[Plan], Any] | None = None
    lookup: Callable[[str], TaskRef | None] | None = None


def bind_submitter(submit: Callable[[Plan], Any]) -> None:
    """Let ``submit`` send the plans of all canvases; what it returns is the result object."""
    _Hooks.submit = staticmethod(submit)


def bind_applier(apply: Callable[[Plan], Any]) -> None:
    """Let ``apply`` run the plans of all canvases in this process; it returns their result objects."""
    _Hooks.apply = apply


def bind_registry(lookup: Callable[[str], TaskRef | None]) -> None:
    """Let ``lookup`` find tasks by name: the name of one that is known here is as good as the task."""
    _Hooks.lookup = staticmethod(lookup)


def found_task(ref: TaskRef | str) -> TaskRef | str:
    """Return the task of a name if it is known here, else the name."""
    if not isinstance(ref, str) or _Hooks.lookup is None:
        return ref
    return _Hooks.lookup(ref) or ref


class Canvas:
    """A signature, group, chain or chord.

    ``args``, ``kwargs`` and ``options`` are partial: those of a call are added to them. For a group
    the arguments are for each member, for a chain or chord for what starts first in it.
    """

    __slots__ = ("args", "immutable", "kwargs", "options")

    kind = ""
    kinds: ClassVar[dict[str, type[Canvas]]] = {}
    """Every sort of canvas, by the word for it in plain data."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    immutable: bool

    def __init__(
        self,
        args: tuple[Any, ...] | list[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        immutable: bool = False,
    ) -> None:
        self.args = positional(args)
        self.kwargs = keyword(kwargs)
        self.options = merge({}, checked(options)) if options else {}
        self.immutable = immutable

    def __init_subclass__(cls) -> None:
        """Make the sort known to ``to_canvas``."""
        if cls.kind:
            cls.kinds[cls.kind] = cls

    @property
    def bare(self) -> bool:
        """Whether it has nothing of its own beside its members."""
        return not (self.args or self.kwargs or self.options or self.immutable)

    @property
    def id(self) -> str | None:
        """The id that it was given for what ends last in it; others are made when it is submitted."""
        return self.options.get("task_id")

    def members(self) -> list[Canvas]:
        """Return the canvases that it is made of, in order."""
        return []

    def clone(
        self,
        args: tuple[Any, ...] | list[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """Return a copy with these arguments before its own and these options over its own."""
        copy = self._copy()
        if not self.immutable:
            copy.args = positional(args) + self.args
            copy.kwargs = {**self.kwargs, **keyword(kwargs)}
        else:
            copy.kwargs = dict(self.kwargs)
        copy.options = merge(self.options, checked(options)) if options else dict(self.options)
        for name in LINKS:
            if name in copy.options:
                copy.options[name] = [to_canvas(link).clone() for link in listed(copy.options[name])]
        return copy

    def replace(
        self,
        args: tuple[Any, ...] | list[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return a copy with these arguments and options in the place of its own; None keeps its own."""
        copy = self.clone()
        if args is not None:
            copy.args = positional(args)
        if kwargs is not None:
            copy.kwargs = keyword(kwargs)
        if options is not None:
            copy.options = merge({}, checked(options))
        return copy

    def set(self, immutable: bool | None = None, **options: Any) -> Self:
        """Change its options (None changes nothing) and return it.

        Args:
            immutable: Whether it ignores results and arguments that would be put before its own.
            options: See ``OPTION_NAMES``; ``link`` and ``link_error`` replace those that it has.
        """
        new = checked(options)
        kept = {name: old for name, old in self.options.items() if name not in LINKS or new.get(name) is None}
        self.options = merge(kept, new)
        if immutable is not None:
            self.immutable = immutable
        return self

    def freeze(self, task_id: str) -> Self:
        """Give what ends last in it the id that its result is to have, and return it."""
        return self.set(task_id=task_id)

    def link(self, callback: Canvas | Mapping[str, Any]) -> Canvas:
        """Run ``callback`` with its value when it has succeeded; return the callback.

        It is no part of the value. For a chain it follows the last step, for a chord the body, for a group
        the list of all values. One that equals another is not added again.
        """
        return self._link("link", callback)

    def link_error(self, errback: Canvas | Mapping[str, Any]) -> Canvas:
        """Run ``errback`` when it has failed for good; return the errback.

        In a chain it is called for the step that failed, in a group for each member that did; in a chord for
        the body, and once if the header failed, however many of its members did.
        """
        return self._link("link_error", errback)

    def on_error(self, errback: Canvas | Mapping[str, Any]) -> Self:
        """Run ``errback`` as ``link_error`` does; return this canvas."""
        self.link_error(errback)
        return self

    def _link(self, name: str, given: Canvas | Mapping[str, Any]) -> Canvas:
        link = to_canvas(given, name)
        if _leads_to(link, self):
            raise InvalidSignature(f"{name}: {_short(link)} would be called by itself; clone() it first")
        self.options = merge(self.options, {name: [link]})
        return link

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Submit it with these arguments before its own; return its result object."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: tuple[Any, ...] | list[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Submit it; return its result object. An empty chain does nothing and returns None.

        Args:
            args: What goes before its own arguments.
            kwargs: What goes over its own.
            options: What goes over its own options (``OPTION_NAMES``; times in seconds, instants as
                datetimes): when (``countdown``, ``eta``, ``expires``), where (``queue``, ``priority``,
                ``rate_limit``), for how long (``time_limit``, ``soft_time_limit``, ``cancel_grace``), what
                follows (``link``, ``link_error``, ``fail_fast``), what is kept (``ignore_result``,
                ``acks_late``), how it is sent (``serializer``, ``compression``, ``result_serializer``,
                ``result_compression``, ``headers``, ``retry``, ``retry_policy``) and what it is called
                (``task_id``, ``shadow``, ``label``, ``add_to_parent``).

        Raises:
            InvalidSignature: A task takes no such arguments, or an option does not exist or fit.
            NotSerializable: An argument or a function cannot be serialised.
            UnknownQueue: A queue is not declared, and may not be made.
            HubUnreachable: The call does not want to wait for a hub that is away.
        """
        return self._plan_for(_Hooks.submit, args, kwargs, options)

    def apply(
        self,
        args: tuple[Any, ...] | list[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Run it here, in this process, as a cluster would; return its result object, which has ended.

        Arguments, options and errors are as for ``apply_async``. Delays pass in virtual time: they take none.
        """
        return self._plan_for(_Hooks.apply, args, kwargs, options)

    def _plan_for(
        self,
        hook: Callable[[Plan], Any] | None,
        args: tuple[Any, ...] | list[Any],
        kwargs: Mapping[str, Any] | None,
        options: dict[str, Any],
    ) -> Any:
        from nbq.canvas.plan import plan  # it knows canvases, so they meet here
        from nbq.canvas.shapes import is_nothing

        if is_nothing(self):
            return None
        planned = plan(self, args, kwargs, **options)
        if hook is None:
            raise InvalidSignature("nothing can be submitted before nbq.client is imported")
        return hook(planned)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Submit it; a Signature runs here instead."""
        return self.delay(*args, **kwargs)

    def __invert__(self) -> Any:
        """Submit it and wait for its value."""
        return self.apply_async().get()

    def __or__(self, other: object) -> chain | chord:
        """Return a canvas that runs ``other`` with the result of this one."""
        from nbq.canvas.compose import join  # compose builds on this module

        return join(self, other)

    def __ror__(self, other: object) -> chain | chord:
        """Refuse a left side that is not a canvas."""
        from nbq.canvas.compose import join

        return join(other, self)

    def __eq__(self, other: object) -> bool:
        """Return whether the other is the same call of the same tasks."""
        if not isinstance(other, Canvas):
            return NotImplemented
        return type(self) is type(other) and self._data() == other._data()

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data: JSON can hold it if it can hold the arguments."""
        return {
            "kind": self.kind,
            "args": [_argument(value) for value in self.args],
            "kwargs": {name: _argument(value) for name, value in self.kwargs.items()},
            "options": {name: _option(name, value) for name, value in self.options.items()},
            "immutable": self.immutable,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Canvas:
        """Return the canvas that ``to_dict`` described."""
        return to_canvas(data)

    @classmethod
    def _load(cls, data: Mapping[str, Any]) -> Canvas:
        raise NotImplementedError

    def _data(self) -> tuple[Any, ...]:
        """What makes two canvases of a sort equal."""
        return self.args, self.kwargs, self.options, self.immutable

    def _copy(self) -> Self:
        raise NotImplementedError

    def _repr_svg_(self) -> str:
        from nbq.canvas.draw import draw_svg  # draw knows canvases, so they meet here

        return draw_svg(self)


class Signature(Canvas):
    """A call of one task, to be made later.

    Args:
        task: The task, or its name.
        args: Positional arguments; those of the call come before them.
        kwargs: Keyword arguments; those of the call win.
        options: See ``OPTION_NAMES``; those of the call win.
        immutable: Whether it ignores what would be put before its arguments.
    """

    __slots__ = ("ref",)

    kind = "task"

    ref: TaskRef | str

    def __init__(
        self,
        task: TaskRef | str,
        args: tuple[Any, ...] | list[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        immutable: bool = False,
    ) -> None:
        if type(task) is str:
            if not task:
                raise InvalidSignature("the name of a task cannot be empty")
        elif not isinstance(getattr(task, "name", None), str) or not callable(task):
            raise InvalidSignature(f"{_short(task)} is not a task; decorate it with @nbq.task")
        self.ref = task
        super().__init__(args, kwargs, options, immutable)

    @property
    def task(self) -> str:
        """The name of the task."""
        return self.ref if isinstance(self.ref, str) else self.ref.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task here with these arguments before its own, and return its value."""
        function = found_task(self.ref)
        if isinstance(function, str):
            raise UnknownTask(f"no task is called {function!r} here; import its module, or use delay()")
        if self.immutable:
            return function(*self.args, **self.kwargs)
        return function(*args, *self.args, **{**self.kwargs, **kwargs})

    def __repr__(self) -> str:
        """Return it as a call."""
        return f"{self.task}({call_text(self)})"

    def map(self, items: Iterable[Any]) -> Signature:
        """Return one task that calls this one with each of ``items`` in turn, and gives the list."""
        from nbq.canvas.maps import map_signature  # it makes signatures, so they meet here

        return map_signature(self, items)

    def starmap(self, items: Iterable[Iterable[Any]]) -> Signature:
        """Return one task that calls this one with the arguments in each of ``items``."""
        from nbq.canvas.maps import starmap_signature

        return starmap_signature(self, items)

    def chunks(self, items: Iterable[Iterable[Any]], n: int) -> group:
        """Return a group of tasks, each of which calls this one with ``n`` of the ``items``."""
        from nbq.canvas.maps import chunks_group

        return chunks_group(self, items, n)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, with the task by name."""
        return {"task": self.task, **super().to_dict()}

    @classmethod
    def _load(cls, data: Mapping[str, Any]) -> Signature:
        return cls(data["task"])

    def _copy(self) -> Self:
        copy = object.__new__(type(self))
        copy.ref = self.ref
        copy.args = self.args
        copy.immutable = self.immutable
        return copy

    def _data(self) -> tuple[Any, ...]:
        return self.task, *super()._data()


def signature(
    task: TaskRef | str | Canvas | Mapping[str, Any],
    args: tuple[Any, ...] | list[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    immutable: bool = False,
    **options: Any,
) -> Canvas:
    """Return a signature of a task, of its name, or of the plain data of a canvas.

    Args:
        task: The task, its name, a canvas or what ``to_dict`` made of one (which are copied).
        args: Positional arguments.
        kwargs: Keyword arguments.
        immutable: Whether it ignores what would be put before its arguments.
        options: See ``OPTION_NAMES``.
    """
    if isinstance(task, (Canvas, Mapping)):
        return to_canvas(task).clone(args, kwargs, **options).set(immutable or None)
    return Signature(task, args, kwargs, options, immutable)


def to_canvas(value: object, where: str = "a canvas") -> Canvas:
    """Return a canvas as it is, or the one that plain data describes.

    Raises:
        InvalidSignature: It is neither; the text has the right spelling.
    """
    if isinstance(value, Canvas):
        return value
    if isinstance(value, Mapping):
        return _from_data(value)
    if isinstance(getattr(value, "name", None), str) and callable(value):
        name = str(getattr(value, "name", "")).rpartition(".")[2]
        raise InvalidSignature(f"{where} takes signatures, not tasks: write {name}.s() for {name}")
    raise InvalidSignature(
        f"{where} takes signatures, not {_short(value)} ({type(value).__name__}): a value is given"
        f" as an argument of one, as in task.s({_short(value)})"
    )


def checked(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return options whose names are known, with their links and errbacks as lists of canvases.

    Raises:
        InvalidSignature: An option does not exist, or a link is no canvas.
    """
    check_names(options)
    if not any(options.get(name) is not None for name in LINKS):
        return options
    copy = dict(options)
    for name in LINKS:
        if copy.get(name) is not None:
            copy[name] = [to_canvas(link, name) for link in listed(copy[name])]
    return copy


def call_text(canvas: Canvas) -> str:
    """Return the arguments of a canvas as they stand in a call, shortened."""
    parts = [_short(value) for value in canvas.args]
    parts += [f"{name}={_short(value)}" for name, value in canvas.kwargs.items()]
    return ", ".join(parts)


def _from_data(data: Mapping[str, Any]) -> Canvas:
    kind = Canvas.kinds.get(data.get("kind", "task"))
    if kind is None:
        raise InvalidSignature(f"no canvas is of kind {data.get('kind')!r}")
    try:
        canvas = kind._load(data)
    except KeyError as error:
        raise InvalidSignature(f"the data of a {kind.kind} lacks {error}") from None
    canvas.args = positional(data.get("args", ()))
    canvas.kwargs = keyword(data.get("kwargs"))
    return canvas.set(bool(data.get("immutable", False)), **data.get("options", {}))


def positional(args: object) -> tuple[Any, ...]:
    """Return positional arguments as a tuple.

    Raises:
        InvalidSignature: They are no list or tuple: a text is one argument, not several.
    """
    if type(args) is tuple:
        return args
    if not isinstance(args, (tuple, list)):
        raise InvalidSignature(f"args must be a list or tuple: write ({_short(args)},)")
    return tuple(args)


def keyword(kwargs: object) -> dict[str, Any]:
    """Return a copy of keyword arguments.

    Raises:
        InvalidSignature: They are no dictionary.
    """
    if kwargs is None:
        return {}
    if not isinstance(kwargs, Mapping):
        raise InvalidSignature(f"kwargs must be a dictionary, not {_short(kwargs)}")
    return dict(kwargs)


def _leads_to(start: Canvas, wanted: Canvas) -> bool:
    """Return whether a canvas is another, or has it among its members or links."""
    pending, seen = [start], set[int]()
    while pending:
        canvas = pending.pop()
        if canvas is wanted:
            return True
        if id(canvas) not in seen:
            seen.add(id(canvas))
            pending += canvas.members()
            pending += [to_canvas(link) for name in LINKS for link in listed(canvas.options.get(name))]
    return False


def _argument(value: object) -> object:
    return value.to_dict() if isinstance(value, Canvas) else value


def _option(name: str, value: object) -> object:
    if name in LINKS:
        return [to_canvas(link).to_dict() for link in listed(value)]
    if isinstance(value, datetime):
        return value.isoformat()
    return value.total_seconds() if isinstance(value, timedelta) else value


_repr = Repr()
_repr.maxstring = _repr.maxother = 40


def _short(value: object) -> str:
    return _repr.repr(value)
