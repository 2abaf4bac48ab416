"""Signatures: a call as plain data, to be made later, elsewhere or as part of something larger.

``Canvas`` is what signatures, groups, chains and chords have in common. Nothing here changes a
shape (``plan`` does) or sends anything (the bound submitter does).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from reprlib import Repr
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

from nbq.canvas.options import check_names, merge
from nbq.errors import InvalidSignature, UnknownTask

if TYPE_CHECKING:
    from nbq.canvas.compose import chain, chord
    from nbq.canvas.plan import Plan

__all__ = [
    "Canvas",
    "Signature",
    "TaskRef",
    "bind_registry",
    "bind_submitter",
    "call_text",
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
    lookup: Callable[[str], Callable[..., Any] | None] | None = None


def bind_submitter(submit: Callable[[Plan], Any]) -> None:
    """Let ``submit`` send the plans of all canvases; what it returns is the result object."""
    _Hooks.submit = submit


def bind_registry(lookup: Callable[[str], Callable[..., Any] | None]) -> None:
    """Let ``lookup`` find tasks by name, so that a signature by name can be run here."""
    _Hooks.lookup = lookup


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
        self.args = _positional(args)
        self.kwargs = dict(kwargs) if kwargs else {}
        self.options = {}
        self.immutable = immutable
        if options:
            check_names(options)
            self.options = merge({}, options)

    def __init_subclass__(cls) -> None:
        """Make the sort known to ``to_canvas``."""
        if cls.kind:
            cls.kinds[cls.kind] = cls

    @property
    def bare(self) -> bool:
        """Whether it has nothing of its own beside its members."""
        return not (self.args or self.kwargs or self.options or self.immutable)

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
            copy.args = _positional(args) + self.args
            copy.kwargs = {**self.kwargs, **kwargs} if kwargs else dict(self.kwargs)
        else:
            copy.kwargs = dict(self.kwargs)
        if options:
            check_names(options)
        copy.options = merge(self.options, options)
        return copy

    def set(self, immutable: bool | None = None, **options: Any) -> Self:
        """Change its options (None changes nothing) and return it.

        Args:
            immutable: Whether it ignores results and arguments that would be put before its own.
            options: See ``OPTION_NAMES``.
        """
        check_names(options)
        self.options = merge(self.options, options)
        if immutable is not None:
            self.immutable = immutable
        return self

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Submit it with these arguments before its own; return its result object."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: tuple[Any, ...] | list[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Submit it with these arguments before its own; return its result object.

        An empty chain does nothing and returns None.
        """
        from nbq.canvas.plan import is_nothing, plan  # plan knows canvases, so they meet here

        if is_nothing(self):
            return None
        planned = plan(self, args, kwargs, **options)
        if _Hooks.submit is None:
            raise InvalidSignature("nothing can be submitted before nbq.client is imported")
        return _Hooks.submit(planned)

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
            "args": list(self.args),
            "kwargs": dict(self.kwargs),
            "options": {name: _plain(value) for name, value in self.options.items()},
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
        function: Callable[..., Any] | None
        if isinstance(self.ref, str):
            function = _Hooks.lookup(self.ref) if _Hooks.lookup else None
            if function is None:
                raise UnknownTask(f"no task is called {self.ref!r} here; import its module, or use delay()")
        else:
            function = self.ref
        if self.immutable:
            return function(*self.args, **self.kwargs)
        return function(*args, *self.args, **{**self.kwargs, **kwargs})

    def __repr__(self) -> str:
        """Return it as a call."""
        return f"{self.task}({call_text(self)})"

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
        return to_canvas(task).clone(args, kwargs).set(immutable or None, **options)
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
    canvas.args = _positional(data.get("args", ()))
    canvas.kwargs = dict(data.get("kwargs", {}))
    return canvas.set(bool(data.get("immutable", False)), **data.get("options", {}))


def _positional(args: object) -> tuple[Any, ...]:
    if type(args) is tuple:
        return args
    if not isinstance(args, (tuple, list)):
        raise InvalidSignature(f"args must be a list or tuple: write ({_short(args)},)")
    return tuple(args)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.total_seconds() if isinstance(value, timedelta) else value


_repr = Repr()
_repr.maxstring = _repr.maxother = 40


def _short(value: object) -> str:
    return _repr.repr(value)
