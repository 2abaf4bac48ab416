"""What the members and steps of a canvas are, once chains in chains and groups in groups are opened.

With each of them goes what it gets from the canvases around it. Nothing here makes nodes; ``plan`` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nbq.canvas.compose import chain, group
from nbq.canvas.options import ENTRY_OPTIONS, EXIT_OPTIONS, listed, merge
from nbq.canvas.signature import Canvas, to_canvas
from nbq.errors import InvalidSignature

__all__ = ["NOTHING", "Given", "Part", "check_depth", "is_empty", "is_nothing", "members_of", "steps_of"]

_DEPTH_LIMIT = 100
"""How deep canvases may be nested; the hub has the same limit on lists."""


def check_depth(depth: int) -> None:
    """Raise InvalidSignature for what is nested too deep."""
    if depth > _DEPTH_LIMIT:
        raise InvalidSignature(f"canvases are nested more than {_DEPTH_LIMIT} deep")


@dataclass(frozen=True, slots=True)
class Given:
    """What a canvas gets from those around it, and from the call.

    Args:
        args: For what starts first, before its own.
        kwargs: For what starts first, over its own.
        options: Over its own. ENTRY_OPTIONS are for what starts first, EXIT_OPTIONS for what ends last.
        blocked: Whether a canvas around it is immutable, so that what starts first is not fed.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    blocked: bool = False

    def into(self, canvas: Canvas) -> Given:
        """Return what the members of a canvas get, when it gets this."""
        if canvas.bare:
            return self
        options = merge(canvas.options, self.options)
        if canvas.immutable:
            return Given(canvas.args, canvas.kwargs, options, True)
        return Given(self.args + canvas.args, {**canvas.kwargs, **self.kwargs}, options, self.blocked)

    def part(self, first: bool, last: bool) -> Given:
        """Return what a step of a chain gets of this."""
        if first and last:
            return self
        dropped = frozenset() if first else ENTRY_OPTIONS
        if not last:
            dropped |= EXIT_OPTIONS
        options = _without(self.options, dropped)
        if first:
            return self if options is self.options else replace(self, options=options)
        return Given(options=options) if options else NOTHING

    def take(self, name: str) -> tuple[list[Canvas], Given]:
        """Return the links of this name, and what is left without them."""
        if name not in self.options:
            return [], self
        links = [to_canvas(link, name) for link in listed(self.options[name])]
        return links, replace(self, options=_without(self.options, frozenset({name})))


def _without(options: Mapping[str, Any], names: frozenset[str]) -> Mapping[str, Any]:
    if not options or names.isdisjoint(options):
        return options
    return {name: value for name, value in options.items() if name not in names}


NOTHING = Given()

Part = tuple[Canvas, Given]
"""A member or step, and what it gets."""


def is_nothing(canvas: Canvas) -> bool:
    """Return whether a canvas is a chain without any step."""
    return isinstance(canvas, chain) and all(is_nothing(task) for task in canvas.tasks)


def is_empty(canvas: Canvas) -> bool:
    """Return whether a canvas is a group without any member."""
    return isinstance(canvas, group) and all(is_empty(task) for task in canvas.tasks)


def members_of(canvas: group, given: Given, depth: int) -> list[Part]:
    """Return the members of a group, those of groups in it in their places.

    Args:
        canvas: The group.
        given: What each of them gets (``Given.into`` the group).
        depth: How deep it is nested.
    """
    check_depth(depth)
    members: list[Part] = []
    for task in canvas.tasks:
        if not isinstance(task, group):
            members.append((task, given))
            continue
        if "link" in task.options:
            raise InvalidSignature(
                "a group in a group becomes part of it, so there is no list of its own to feed a link with:"
                " link the outer group, or write the inner one as group(…) | callback"
            )
        members += members_of(task, given.into(task), depth + 1)
    return members


def steps_of(canvas: chain, given: Given, depth: int) -> list[Part]:
    """Return the steps of a chain, those of chains in it in their places.

    A group of one member is that member; a larger one is a step, with what it gets as a whole.

    Args:
        canvas: The chain.
        given: What it gets (``Given.into`` the chain).
        depth: How deep it is nested.
    """
    check_depth(depth)
    tasks = [task for task in canvas.tasks if not is_nothing(task)]
    steps: list[Part] = []
    for number, task in enumerate(tasks):
        step, own = task, given.part(number == 0, number == len(tasks) - 1)
        if isinstance(task, group) and _width(task, depth + 1) == 1:
            [(step, own)] = members_of(task, own.into(task), depth + 1)
        if isinstance(step, chain):
            steps += steps_of(step, own.into(step), depth + 1)
        else:
            steps.append((step, own))
    return steps


def _width(canvas: group, depth: int) -> int:
    check_depth(depth)
    return sum([_width(task, depth + 1) if isinstance(task, group) else 1 for task in canvas.tasks])
