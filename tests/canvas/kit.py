"""What the tests of the canvas share: signatures, an executor of planned graphs, and the meaning of a canvas.

``run`` executes a plan node by node. ``meaning`` evaluates the canvas itself, without any graph. Both
take functions by name; a name without one stands for a call that is its own value: (name, arguments).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from nbq.canvas import EMPTY, Canvas, Plan, Signature, TaskRef, chain, chord, group, plan
from nbq.core.graph import check_graph
from nbq.core.model import NONE, BlockMeta, Graph, Item, Nested, Slice

Functions = dict[str, Callable[..., Any]]

ARITHMETIC: Functions = {
    "i": lambda x: x,
    "add": lambda x, y, z=0: x + y + z,
    "mul": lambda x, y: x * y,
    "tsum": sum,
    "xsum": lambda xs: sum(xsum(x) for x in xs),
    "count": len,
    "all": lambda xs, n, z=0: [x + n + z for x in xs],
}


def xsum(value: Any) -> Any:
    return sum(map(xsum, value)) if isinstance(value, list) else value


def s(task: str, *args: Any, **kwargs: Any) -> Signature:
    return Signature(task, args, kwargs)


def si(task: str, *args: Any, **kwargs: Any) -> Signature:
    return Signature(task, args, kwargs, immutable=True)


class FakeTask:
    """A task as the canvas sees one."""

    def __init__(self, name: str = "mod.work", **options: Any) -> None:
        self.name = name
        self.options = options

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.name, args, kwargs


def address_of(ref: TaskRef | str) -> bytes:
    name = ref if isinstance(ref, str) else ref.name
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


def graph_of(planned: Plan) -> Graph:
    """Return the graph of a plan, after the hub's own check of it."""
    graph = planned.graph(address_of)
    blocks = [BlockMeta(number, 0, len(node.calls), 1) for number, node in enumerate(planned.nodes)]
    check_graph(graph, blocks)
    return graph


def call(functions: Functions, name: str, args: tuple[Any, ...], kwargs: Any) -> Any:
    if name == EMPTY:
        return []
    if name in functions:
        return functions[name](*args, **kwargs)
    return (name, args, *sorted(kwargs.items()))


def run(planned: Plan, functions: Functions = ARITHMETIC) -> Any:
    """Return the value of a plan."""
    graph_of(planned)
    values: list[list[Any]] = []

    def value(item: Item) -> list[Any]:
        if isinstance(item, Slice):
            return values[item.node][item.lo : item.hi]
        return [[inner for part in planned.lists[item.number] for inner in value(part)]]

    for node in planned.nodes:
        ended = []
        for index in range(node.size):
            args, kwargs = node.calls[0 if node.shared else index]
            if node.fed and node.after_list != NONE:
                args = (*value(Nested(node.after_list)), *args)
            elif node.fed:
                parent = values[node.after_node]
                args = (parent[0 if len(parent) == 1 else index], *args)
            ended.append(call(functions, node.task, args, kwargs))
        values.append(ended)
    [result] = value(planned.value)
    return result


def execute(canvas: Canvas, *args: Any, **kwargs: Any) -> Any:
    """Plan a canvas with arguments, run the plan, and return its value."""
    return run(plan(canvas, args, kwargs))


# ------------------------------------------------------------------ the meaning of a canvas


class Many(list[Any]):
    """The value of a group, which is more than a list that a task returned."""


Prefix = tuple[Any, ...]
Own = Callable[[Prefix], Prefix]
Step = tuple[Canvas | list[tuple[Canvas, Own]], Own]


def meaning(canvas: Canvas, prefix: Prefix = (), functions: Functions = ARITHMETIC) -> Any:
    """Return the value of a canvas that is called with ``prefix``."""
    mine = own(canvas)(prefix)
    match canvas:
        case Signature():
            return call(functions, canvas.task, plain(mine), canvas.kwargs)
        case group():
            members = unrolled(canvas, lambda given: given)
            if len(members) == 1 and isinstance(members[0][0], chain | chord):
                value = meaning(members[0][0], members[0][1](mine), functions)
                return value if isinstance(value, Many) else Many([value])
            return Many(meaning(member, inner(mine), functions) for member, inner in members)
        case chord():
            header = unrolled(canvas.header, own(canvas.header))
            values = Many(meaning(member, inner(mine), functions) for member, inner in header)
            assert canvas.body is not None
            if isinstance(canvas.body, group) and not unrolled(canvas.body, own(canvas.body)):
                return values
            return meaning(canvas.body, (values,), functions)
        case chain():
            return follow(spliced(canvas, lambda given: given), mine, functions)
    raise AssertionError(canvas)


def own(canvas: Canvas) -> Own:
    """Return what a canvas makes of what is put before its arguments."""
    if canvas.immutable:
        return lambda _: canvas.args
    return lambda given: given + canvas.args


def unrolled(canvas: group, outer: Own) -> list[tuple[Canvas, Own]]:
    """Return the members of a group, those of groups in it in their places."""
    members: list[tuple[Canvas, Own]] = []
    for task in canvas.tasks:
        if isinstance(task, group):
            members += unrolled(task, joined(outer, own(task)))
        else:
            members.append((task, outer))
    return members


def spliced(canvas: chain, outer: Own) -> list[Step]:
    """Return the steps of a chain, those of chains in it in their places."""
    steps: list[Step] = []
    for task in canvas.tasks:
        enter: Own = outer if not steps else lambda given: given
        step: Canvas | list[tuple[Canvas, Own]] = task
        if isinstance(task, group):
            step = unrolled(task, joined(enter, own(task)))
            if len(step) == 1:
                step, enter = step[0]
        if isinstance(step, chain):
            steps += spliced(step, joined(enter, own(step)))
        else:
            steps.append((step, enter))
    return steps


def follow(steps: list[Step], given: Prefix, functions: Functions) -> Any:
    value: Any = None
    for number, (step, enter) in enumerate(steps):
        prefix = given if number == 0 else (value,)
        if isinstance(step, Canvas):
            value = meaning(step, enter(prefix), functions)
        elif step or not (number and isinstance(value, Many)):
            value = Many(meaning(member, inner(prefix), functions) for member, inner in step)
    return value


def plain(value: Any) -> Any:
    """Return a value as a task gets it."""
    if isinstance(value, Many):
        return [plain(inner) for inner in value]
    return tuple(plain(inner) for inner in value) if isinstance(value, tuple) else value


def joined(first: Own, then: Own) -> Own:
    return lambda given: then(first(given))
