"""Signatures: a call as plain data, to be made later, elsewhere or as part of something larger.

``Canvas`` is what signatures, groups, chains and chords have in common. Nothing here changes a
shape (``plan`` does) or sends anything (the bound submitter does).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from reprlib import Repr
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

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
    """What a signature may refer to beside a plain name; ``nbq.task.Task`` is one."""

    @property
    def name(self) -> str:
        """The name under which the task is shown, and known to engines."""
        ...

    @property
    def options(self) -> Mapping[str, Any]:
        """The options that the task has unless a signature or call says otherwise."""
        ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task here."""
        ...


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
        return type(self) is type(other) and self._data() == other._data()  # type: ignore[attr-defined]

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data: JSON can hold it if it can hold the arguments."""
        return {
            "args": list(self.args),
            "kwargs": dict(self.kwargs),
            "options": {name: _plain(value) for name, value in self.options.items()},
            "immutable": self.immutable,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Canvas:
        """Return the canvas that ``to_dict`` described."""
        return to_canvas(data)

    def _data(self) -> tuple[Any, ...]:
        return self.args, self.kwargs, self.options, self.immutable

    def _copy(self) -> Self:
        raise NotImplementedError

    def _repr_svg_(self) -> str:
        from nbq.canvas.draw import draw_svg  # draw knows canvases, so they meet here

        return draw_svg(self)
