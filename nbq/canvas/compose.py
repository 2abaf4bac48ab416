"""Groups, chains and chords: signatures put together.

They only hold what they were given; what a shape means is decided by ``plan``. The one exception
is harmless to it: a chain without arguments or options of its own is spliced into a chain around it,
so that ``a | b | c | …`` stays flat however long it gets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from nbq.canvas.signature import Canvas, call_text, to_canvas

__all__ = ["chain", "chord", "group", "join"]

Member = Canvas | Mapping[str, Any]
"""A canvas, or the plain data of one."""

_SHOWN = 6
"""How many members the text of a canvas names."""


class _Members(Canvas):
    """What groups and chains have in common."""

    __slots__ = ("tasks",)

    tasks: list[Canvas]

    def members(self) -> list[Canvas]:
        """Return its signatures."""
        return self.tasks

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**super().to_dict(), "tasks": [task.to_dict() for task in self.tasks]}

    @classmethod
    def _load(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["tasks"])

    def _copy(self) -> Self:
        copy = object.__new__(type(self))
        copy.tasks = [task.clone() for task in self.tasks]
        copy.args = self.args
        copy.immutable = self.immutable
        return copy

    def _data(self) -> tuple[Any, ...]:
        return self.tasks, *super()._data()


class group(_Members):  # noqa: N801 - Celery's name
    """Signatures that run at the same time; its value is the list of their values, in order.

    Args:
        tasks: Signatures, or one iterable of them (a generator is consumed at once).
        options: For every member; ``fail_fast=True`` cancels the others when one has failed.
    """

    __slots__ = ()

    kind = "group"

    def __init__(self, *tasks: Member | Iterable[Member], **options: Any) -> None:
        super().__init__(options=options)
        self.tasks = _collect("a group", tasks)

    def __repr__(self) -> str:
        """Return it as it could be written."""
        return f"group({_listed(self.tasks, ', ')}){_extra(self)}"


class chain(_Members):  # noqa: N801 - Celery's name
    """Signatures that run one after another, each with the value of the one before.

    A group in it feeds the list of its values to what comes next; a group of one member there is
    that member.

    Args:
        tasks: Signatures, or one iterable of them.
        options: For every step, as those of ``apply_async``.
    """

    __slots__ = ()

    kind = "chain"

    def __init__(self, *tasks: Member | Iterable[Member], **options: Any) -> None:
        super().__init__(options=options)
        self.tasks = []
        for task in _collect("a chain", tasks):
            if isinstance(task, chain) and task.bare:
                self.tasks += task.tasks
            else:
                self.tasks.append(task)

    def __repr__(self) -> str:
        """Return it as it could be written."""
        if len(self.tasks) < 2 or not self.bare:
            return f"chain({_listed(self.tasks, ', ')}){_extra(self)}"
        return _listed(self.tasks, " | ")


class chord(Canvas):  # noqa: N801 - Celery's name
    """A group, and a body that runs with the list of its values when all have succeeded.

    Args:
        header: A group, an iterable of signatures, or one signature (a header of one member).
        body: What to run then; may be given later, as in ``chord(header)(body)``.
        propagate: False for a body that runs also when members have failed; their exceptions stand in the
            list, in the places of their values.
        options: For every task, as those of ``apply_async``.
    """

    __slots__ = ("body", "header", "propagate")

    kind = "chord"

    def __init__(
        self,
        header: Member | Iterable[Member],
        body: Member | None = None,
        propagate: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(options=options)
        self.propagate = propagate
        self.header = header if isinstance(header, group) else group(*_collect("a chord", (header,)))
        self.body = None if body is None else to_canvas(body, "the body of a chord")

    def members(self) -> list[Canvas]:
        """Return its header and its body."""
        return [self.header] if self.body is None else [self.header, self.body]

    def set(self, immutable: bool | None = None, propagate: bool | None = None, **options: Any) -> Self:
        """Change it, and return it.

        Args:
            immutable: As for ``Signature.set``.
            propagate: Whether its body runs only if the whole header succeeded.
            options: As for ``Signature.set``.
        """
        if propagate is not None:
            self.propagate = propagate
        return super().set(immutable, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Submit it. Without a body so far, the first argument is the body."""
        if self.body is None and args:
            whole = self.clone()
            whole.body = to_canvas(args[0], "the body of a chord")
            return whole.delay(*args[1:], **kwargs)
        return self.delay(*args, **kwargs)

    def __repr__(self) -> str:
        """Return it as it could be written."""
        more = "" if self.propagate else ", propagate=False"
        return f"chord({_listed(self.header.tasks, ', ', '[]')}, {self.body!r}{more}){_extra(self)}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        body = None if self.body is None else self.body.to_dict()
        own = {"header": self.header.to_dict(), "body": body, "propagate": self.propagate}
        return {**super().to_dict(), **own}

    @classmethod
    def _load(cls, data: Mapping[str, Any]) -> chord:
        return cls(to_canvas(data["header"]), data.get("body"), bool(data.get("propagate", True)))

    def _copy(self) -> Self:
        copy = object.__new__(type(self))
        copy.header = self.header.clone()
        copy.body = None if self.body is None else self.body.clone()
        copy.propagate = self.propagate
        copy.args = self.args
        copy.immutable = self.immutable
        return copy

    def _data(self) -> tuple[Any, ...]:
        return self.header, self.body, self.propagate, *super()._data()


def join(left: object, right: object) -> chain | chord:
    """Return ``left | right``: a chord if the left side is a group, else a chain.

    Only the newcomers are copied: of a chain on the left, the steps are shared.
    """
    left = to_canvas(left, "|")
    new = to_canvas(right, "|").clone()
    if isinstance(left, group):
        return chord(left.clone(), new)
    if isinstance(left, chord) and left.body is None:
        whole = left.clone()
        whole.body = new
        return whole
    joined = chain(left if isinstance(left, chain) and left.bare else left.clone())
    joined.tasks += new.tasks if isinstance(new, chain) and new.bare else [new]
    return joined


def _collect(where: str, tasks: tuple[Any, ...]) -> list[Canvas]:
    if len(tasks) == 1 and isinstance(tasks[0], Iterable) and not isinstance(tasks[0], (str, Mapping)):
        tasks = tuple(tasks[0])
    return [task if isinstance(task, Canvas) else to_canvas(task, where) for task in tasks]


def _listed(tasks: list[Canvas], between: str, around: str = "") -> str:
    shown = [repr(task) for task in tasks[:_SHOWN]]
    if len(tasks) > _SHOWN:
        shown.append(f"… {len(tasks) - _SHOWN} more")
    text = between.join(shown)
    return around[:1] + text + around[1:]


def _extra(canvas: Canvas) -> str:
    return f"({call_text(canvas)})" if canvas.args or canvas.kwargs else ""
