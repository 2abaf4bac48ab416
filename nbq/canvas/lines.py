"""Lines: tasks one after another, resolved as far as they decide what may share an array.

A **line** is a task or the tasks of a chain, with the links and errbacks that hang on them. Lines with the
same key differ in nothing but arguments and ids. Nothing here makes nodes; ``plan`` does.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbq.canvas.compose import chain
from nbq.canvas.options import CALL_OPTIONS, Defaults, holds, listed, merge
from nbq.canvas.shapes import NOTHING, Given, Part, check_depth, is_nothing, steps_of
from nbq.canvas.signature import Canvas, Signature, TaskRef, found_task, to_canvas
from nbq.core.model import On
from nbq.errors import InvalidSignature

__all__ = ["Call", "Hanging", "Line", "Lines", "Step"]

Call = tuple[tuple[Any, ...], Mapping[str, Any]]
"""Positional and keyword arguments."""

_ALIKE = CALL_OPTIONS | {"add_to_parent", "retry", "retry_policy"}
"""Options in which calls of one array may differ."""


@dataclass(slots=True)
class Step:
    """One task.

    Args:
        ref: The task, or its name.
        call: Its arguments.
        options: Its options, without those that it has by default.
        key: All but its arguments.
        immutable: Whether it is not fed.
    """

    ref: TaskRef | str
    call: Call
    options: Mapping[str, Any]
    key: tuple[Hashable, ...]
    immutable: bool


@dataclass(frozen=True, slots=True)
class Hanging:
    """A link of step ``last``, or (``On.FAILURE``) an errback of the steps ``first`` to ``last``.

    ``what`` is a canvas if it is no line.
    """

    first: int
    last: int
    on: On
    what: Line | Canvas


@dataclass(slots=True)
class Line:
    """Steps and what hangs on them; ``key`` is None if that is not all lines, so that no array fits."""

    steps: list[Step]
    hanging: Sequence[Hanging]
    key: tuple[Hashable, ...] | None


class Lines:
    """Resolves lines.

    Args:
        defaults: What options calls have beside their own.
    """

    def __init__(self, defaults: Defaults) -> None:
        self._defaults = defaults

    def of(self, canvas: Canvas, given: Given, depth: int) -> Line | None:
        """Return the line that a canvas is, or None if it is none."""
        if isinstance(canvas, Signature):
            if canvas.options or given.options or self._defaults.asks:
                return self.along([(canvas, given)], depth)
            step = self._step(canvas, given)  # nearly all members of large groups
            return Line([step], (), step.key)
        if not isinstance(canvas, chain):
            return None
        steps = steps_of(canvas, given.into(canvas), depth)
        if not steps or not all(isinstance(step, Signature) for step, _ in steps):
            return None
        return self.along(steps, depth)

    def along(self, parts: Sequence[Part], depth: int) -> Line:
        """Return the line of these signatures."""
        steps: list[Step] = []
        hanging: list[Hanging] = []
        guards: list[tuple[Canvas, int]] = []
        for number, (sig, given) in enumerate(parts):
            assert isinstance(sig, Signature)
            step = self._step(sig, given)
            steps.append(step)
            if not step.options and not guards:
                continue
            hanging += self._hang(listed(step.options.get("link")), number, number, On.LINK, depth)
            errbacks = [to_canvas(link, "link_error") for link in listed(step.options.get("link_error"))]
            going_on = [guard for guard in guards if holds(errbacks, guard[0])]
            for errback, first in guards:
                if not holds(errbacks, errback):
                    hanging += self._hang([errback], first, number - 1, On.FAILURE, depth)
            known = [errback for errback, _ in going_on]
            guards = going_on + [(errback, number) for errback in errbacks if not holds(known, errback)]
        for errback, first in guards:
            hanging += self._hang([errback], first, len(steps) - 1, On.FAILURE, depth)
        return Line(steps, hanging, _key(steps, hanging))

    def _hang(self, links: list[Any], first: int, last: int, on: On, depth: int) -> list[Hanging]:
        hanging = []
        for link in [to_canvas(link, "link") for link in links]:
            if not is_nothing(link):
                check_depth(depth + 1)
                hanging.append(Hanging(first, last, on, self.of(link, NOTHING, depth + 1) or link))
        return hanging

    def _step(self, sig: Signature, given: Given) -> Step:
        ref = found_task(sig.ref)
        call = _call(sig, given)
        options, shape = sig.options, ()
        if options or given.options or self._defaults.asks:
            options = merge(options, given.options)
            if self._defaults.asks:
                options = dict(self._defaults.routed(ref, *call, options))
            shape = tuple(sorted([pair for pair in options.items() if pair[0] not in _ALIKE]))
            try:
                hash(shape)
            except TypeError:
                shape = _hashable(sig, shape)
        immutable = sig.immutable or given.blocked
        key = (ref if isinstance(ref, str) else id(ref), immutable, shape)
        return Step(ref, call, options, key, immutable)


def _call(sig: Signature, given: Given) -> Call:
    """Return the arguments of a signature with those that it is given."""
    args, kwargs = sig.args, sig.kwargs
    if not sig.immutable:
        if given.args:
            args = given.args + args
        if given.kwargs:
            kwargs = {**kwargs, **given.kwargs}
    return args, kwargs


def _key(steps: list[Step], hanging: list[Hanging]) -> tuple[Hashable, ...] | None:
    if len(steps) == 1 and not hanging:
        return steps[0].key
    parts: list[Hashable] = [step.key for step in steps]
    for part in hanging:
        if isinstance(part.what, Canvas) or part.what.key is None:
            return None
        parts.append((part.first, part.last, part.on, part.what.key))
    return tuple(parts)


def _hashable(sig: Signature, shape: tuple[Any, ...]) -> tuple[Hashable, ...]:
    """Return options of which one is a dictionary in a form that can be compared and hashed."""
    found = []
    for name, value in shape:
        if name == "headers" and isinstance(value, Mapping):
            alike: Hashable = tuple(sorted((str(header), repr(content)) for header, content in value.items()))
        else:
            alike = value
        found.append((name, alike))
    try:
        hash(tuple(found))
    except TypeError:
        raise InvalidSignature(f"an option of {sig!r} does not fit: {dict(shape)}") from None
    return tuple(found)
