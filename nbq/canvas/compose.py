"""Groups, chains and chords: plain constructors, and ``|``.

A chain holds its steps flat: a chain put into a chain becomes its steps. ``|`` and the constructors never
change what they are given; they share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from nbq.canvas.signature import Canvas, Signature
from nbq.errors import InvalidSignature

__all__ = ["Chain", "Chord", "Group", "chain", "chord", "group", "join"]


class Group(Canvas):
    """Signatures to run side by side; the value is the list of theirs, in order."""

    def __init__(self, members: list[Canvas], options: dict[str, Any] | None = None) -> None:
        self.members = members
        self.options = options or {}

    def clone(self) -> Group:
        """Return a copy with copies of the members."""
        return Group([member.clone() for member in self.members], dict(self.options))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Submit it, with further arguments for every member."""
        return self.delay(*args, **kwargs)

    def __or__(self, other: object) -> Canvas:
        """Return the chord of this and the other."""
        return join(self, other)

    def __len__(self) -> int:
        """Return the number of members."""
        return len(self.members)

    def __iter__(self) -> Iterator[Canvas]:
        """Iterate over the members."""
        return iter(self.members)

    def __repr__(self) -> str:
        """Show the first members."""
        shown = ", ".join(map(repr, self.members[:4]))
        more = f", … {len(self.members) - 4} more" if len(self.members) > 4 else ""
        return f"group({shown}{more})"


class Chain(Canvas):
    """Steps to run one after another; each is fed the value of the one before."""

    def __init__(self, steps: list[Canvas], options: dict[str, Any] | None = None) -> None:
        self.steps = steps
        self.options = options or {}

    def clone(self) -> Chain:
        """Return a copy with copies of the steps."""
        return Chain([step.clone() for step in self.steps], dict(self.options))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Submit it, with further arguments for the first step; None if there are no steps."""
        return self.delay(*args, **kwargs) if self.steps else None

    def __or__(self, other: object) -> Canvas:
        """Return this with one more step."""
        return join(self, other)

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.steps)

    def __repr__(self) -> str:
        """Show the first steps."""
        shown = " | ".join(map(repr, self.steps[:4]))
        more = f" | … {len(self.steps) - 4} more" if len(self.steps) > 4 else ""
        return f"chain({shown}{more})"


class Chord(Canvas):
    """A group, then a body that is fed the list of its values."""

    def __init__(self, header: Group, body: Canvas, options: dict[str, Any] | None = None) -> None:
        self.header = header
        self.body = body
        self.options = options or {}

    def clone(self) -> Chord:
        """Return a copy with copies of header and body."""
        return Chord(self.header.clone(), self.body.clone(), dict(self.options))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Submit it, with further arguments for every member of the header."""
        return self.delay(*args, **kwargs)

    def __or__(self, other: object) -> Canvas:
        """Return the chain of this and the other."""
        return join(self, other)

    def __repr__(self) -> str:
        """Show header and body."""
        return f"chord({self.header!r}, {self.body!r})"


def _canvas(value: object, where: str) -> Canvas:
    if isinstance(value, Canvas):
        return value
    hint = " (write task.s(...))" if callable(value) else ""
    raise InvalidSignature(f"{where} must be a signature, group, chain or chord, not {value!r}{hint}")


def group(*members: Canvas | Iterable[Canvas]) -> Group:
    """Return the group of some signatures, or of an iterable of them.

    Raises:
        InvalidSignature: A member is not a canvas.
    """
    if len(members) == 1 and not isinstance(members[0], Signature | Chain | Chord):
        first = members[0]
        if isinstance(first, Group):
            return Group(list(first.members), dict(first.options))
        if not isinstance(first, Iterable):
            raise InvalidSignature(f"a group needs signatures, not {first!r}")
        return Group([_canvas(m, f"member {k} of a group") for k, m in enumerate(first)])
    return Group([_canvas(m, f"member {k} of a group") for k, m in enumerate(members)])


def chain(*steps: Canvas | Iterable[Canvas]) -> Chain:
    """Return the chain of some signatures, or of an iterable of them.

    A group of one member stands for that member. A group followed by anything is a chord.

    Raises:
        InvalidSignature: A step is not a canvas.
    """
    given: Iterable[object] = steps
    if len(steps) == 1 and not isinstance(steps[0], Canvas):
        given = steps[0]
    flat: list[Canvas] = []
    for number, step in enumerate(given):
        _append(flat, _canvas(step, f"step {number} of a chain"))
    return Chain(flat)


def _append(steps: list[Canvas], step: Canvas) -> None:
    if isinstance(step, Chain) and not step.options:
        steps.extend(step.steps)
    elif isinstance(step, Group) and len(step.members) == 1 and not step.options:
        _append(steps, step.members[0])
    else:
        steps.append(step)


def chord(header: Canvas | Iterable[Canvas], body: Canvas | None = None) -> Any:
    """Return the chord of a header and a body; without a body, a function that takes it.

    The header is a group, an iterable of signatures, or any other canvas as its only member.

    Raises:
        InvalidSignature: A member or the body is not a canvas.
    """
    if isinstance(header, Group):
        members = header
    elif isinstance(header, Canvas):
        members = Group([header])
    else:
        members = group(header)
    if body is None:
        return lambda later: chord(members, later).delay()
    return Chord(members, _canvas(body, "the body of a chord"))


def join(left: Canvas, right: object) -> Canvas:
    """Return ``left | right``.

    Raises:
        InvalidSignature: The right side is not a canvas.
    """
    if not isinstance(right, Canvas):
        hint = " (write task.s(...))" if callable(right) else ""
        raise InvalidSignature(
            f"{left!r} | {right!r}: the right side must be a signature, group, chain or chord{hint}"
        )
    if isinstance(left, Group):
        return Chord(left, right) if not isinstance(right, Chain) else _chord_then(left, right)
    steps = list(left.steps) if isinstance(left, Chain) and not left.options else [left]
    _append(steps, right)
    return Chain(steps)


def _chord_then(left: Group, right: Chain) -> Canvas:
    if not right.steps or right.options:
        return Chord(left, right)
    return Chain([Chord(left, right.steps[0]), *right.steps[1:]])
