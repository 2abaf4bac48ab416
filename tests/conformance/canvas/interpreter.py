"""What a canvas gives, evaluated without any graph: a value, or the exceptions that it may end with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbq.canvas import Canvas, Signature, chain, chord, group

Call = Callable[[str, tuple[Any, ...], dict[str, Any]], Any]
Prefix = tuple[Any, ...]


@dataclass(frozen=True)
class Failed:
    """Ended without a value, with one of these exceptions."""

    allowed: frozenset[Any]


class Many(list[Any]):
    """The values of a group, failed ones in their places."""


def failures(value: Any) -> frozenset[Any]:
    if isinstance(value, Many):
        return frozenset().union(*map(failures, value))
    return value.allowed if isinstance(value, Failed) else frozenset()


def evaluate(
    canvas: Canvas, call: Call, prefix: Prefix = (), broken: frozenset[Any] = frozenset(), so_far: Any = None
) -> Any:
    """Return the value of a canvas that follows ``prefix``.

    ``broken`` is what failed before it, ``so_far`` the value of the chain in which it is a chain.
    """
    mine = own(canvas, prefix)
    match canvas:
        case Signature():
            return Failed(broken) if broken else call(canvas.task, mine, canvas.kwargs)
        case group():
            members = unrolled(canvas, mine)
            values = fan(members, call, broken)
            alone = (
                isinstance(values, Many) and len(members) == 1 and isinstance(members[0][0], chain | chord)
            )
            return values[0] if alone and isinstance(values[0], Many) else values
        case chord(header=header, body=body):
            members = unrolled(header, own(header, mine))
            values = fan(members, call, broken)
            if isinstance(body, group) and not unrolled(body, ()):
                return values
            bad = (failures(values) if canvas.propagate else frozenset()) | broken
            return evaluate(body, call, (values,), bad) if body else None
        case chain(tasks=steps):
            value, given = so_far, mine
            for step in [step for step in steps if not isinstance(step, chain) or step.tasks]:
                members = unrolled(step, own(step, given)) if isinstance(step, group) else [(step, given)]
                if members or not isinstance(value, Many):
                    alone, with_ = members[0] if len(members) == 1 else (step, given)
                    value = evaluate(alone, call, with_, broken, value)
                given, broken = (value,), failures(value)
            return value
    raise AssertionError(canvas)


def fan(members: list[tuple[Canvas, Prefix]], call: Call, broken: frozenset[Any]) -> Many | Failed:
    values = Many(evaluate(member, call, given, broken) for member, given in members)
    return values if values or not broken else Failed(broken)


def own(canvas: Canvas, prefix: Prefix) -> Prefix:
    return canvas.args if canvas.immutable else prefix + canvas.args


def unrolled(canvas: group, given: Prefix) -> list[tuple[Canvas, Prefix]]:
    """Return the members of a group, those of groups in it in their places, and what each is given."""
    parts = [unrolled(t, own(t, given)) if isinstance(t, group) else [(t, given)] for t in canvas.tasks]
    return [member for part in parts for member in part]
