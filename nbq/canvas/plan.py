"""From a canvas to a flat graph: the only place where shapes are rewritten.

One pass; it recurses into nesting, never along a chain. What it decides (design, section 5):

* members of a group with the same steps (task, options, immutability) are one array for each step;
* a chord is its group as a list, then its body after that list; so is a group followed by anything;
* nested chains are spliced, nested groups unrolled; a chain that ends in a group stays one member;
* a group of one member inside a chain is that member, a chord's header never is; outside a header a
  group of exactly one chain or chord that ends in a group is that chain or chord;
* an empty group is a node of the builtin task ``EMPTY``; right after a group it is nothing.

It never serialises anything and never looks into arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nbq.canvas.compose import chain, chord, group
from nbq.canvas.options import ENTRY_OPTIONS, check_names, given_id, merge, run_options
from nbq.canvas.signature import Canvas, Signature, TaskRef
from nbq.canvas.tree import EMPTY, Tree, parent_of, tree_of
from nbq.core.model import NONE, Graph, Item, Nested, NodeSpec, Options, Slice
from nbq.errors import InvalidSignature

__all__ = ["Plan", "PlannedNode", "is_nothing", "plan"]

_DEPTH_LIMIT = 100
"""How deep canvases may be nested; the hub has the same limit on lists."""

Call = tuple[tuple[Any, ...], Mapping[str, Any]]

_NO_KWARGS: Mapping[str, Any] = {}


@dataclass(slots=True)
class PlannedNode:
    """One array, as ``core.model.NodeSpec``, with its task and arguments instead of their bytes.

    Args:
        ref: The task, or its name.
        options: How to run it.
        calls: The arguments of each element; one call for all of them if ``shared``.
    """

    ref: TaskRef | str
    options: Options
    after_node: int = NONE
    after_list: int = NONE
    fed: bool = False
    size: int = 0
    shared: bool = True
    calls: list[Call] = field(default_factory=list)
    ids: dict[int, str] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """The name of the task."""
        return self.ref if isinstance(self.ref, str) else self.ref.name

    def add(self, call: Call) -> None:
        """Add an element. Calls with the very same objects as arguments are held once."""
        if self.shared and self.size and not _same(call, self.calls[0]):
            self.calls *= self.size
            self.shared = False
        if not self.shared or not self.size:
            self.calls.append(call)
        self.size += 1

    def spec(self, function: bytes) -> NodeSpec:
        """Return it for the wire, with the content address of its function."""
        return NodeSpec(
            task=self.task,
            function=function,
            size=self.size,
            after_node=self.after_node,
            after_list=self.after_list,
            fed=self.fed,
            shared=self.shared,
            options=self.options,
            ids=self.ids,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """A planned canvas.

    Args:
        nodes: In an order in which nothing comes before what it follows.
        lists: Their items, as in ``core.model.Graph``.
        value: The slice of one element or the list that the canvas gives.
        list_after: What the group of each list followed, or None.
    """

    nodes: list[PlannedNode]
    lists: list[list[Item]]
    value: Slice | Nested
    list_after: list[Slice | Nested | None]

    @property
    def tree(self) -> Tree:
        """The result objects that the value is made of."""
        return tree_of(self, self.value)

    def parent(self, of: Slice | Nested) -> Slice | Nested | None:
        """Return what an element (a slice of one) or a list followed: its result's ``parent``."""
        return self.list_after[of.number] if isinstance(of, Nested) else parent_of(self, of)

    def graph(self, address_of: Callable[[TaskRef | str], bytes]) -> Graph:
        """Return it for the wire. ``address_of`` gives the content address of a task's function."""
        nodes = [node.spec(address_of(node.ref)) for node in self.nodes]
        return Graph(nodes, self.lists, self.value)


def plan(
    canvas: Canvas,
    args: tuple[Any, ...] | list[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> Plan:
    """Return the graph of a canvas, called with these arguments and options.

    Args:
        canvas: What to plan; it is not changed, and may be changed afterwards.
        args: Put before the arguments of what starts first.
        kwargs: Merged over the keyword arguments of what starts first.
        options: For every task; ``eta`` and ``countdown`` for what starts first, ``task_id`` for
            what ends last.

    Raises:
        InvalidSignature: The canvas or an option cannot mean anything.
    """
    if is_nothing(canvas):
        raise InvalidSignature("an empty chain has no value and cannot be planned")
    check_names(options)
    given = _Given(tuple(args), dict(kwargs or {}), merge({}, options))
    planner = _Planner()
    value = planner.place(canvas, given, None, 0)
    return Plan(planner.nodes, planner.lists, value, planner.list_after)


def is_nothing(canvas: Canvas) -> bool:
    """Return whether a canvas is a chain without any step."""
    return isinstance(canvas, chain) and all(is_nothing(task) for task in canvas.tasks)


@dataclass(frozen=True, slots=True)
class _Given:
    """What a canvas gets from those around it, and from the call.

    Args:
        args: For what starts first, before its own.
        kwargs: For what starts first, over its own.
        options: Over its own. ENTRY_OPTIONS are for what starts first, ``task_id`` for what ends last.
        blocked: Whether a canvas around it is immutable, so that what starts first is not fed.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    blocked: bool = False

    def into(self, canvas: Canvas) -> _Given:
        """Return what the members of a canvas get, when it gets this."""
        if canvas.bare:
            return self
        options = merge(canvas.options, self.options)
        if canvas.immutable:
            return _Given(canvas.args, canvas.kwargs, options, True)
        return _Given(self.args + canvas.args, {**canvas.kwargs, **self.kwargs}, options, self.blocked)

    def part(self, first: bool, last: bool) -> _Given:
        """Return what a step of a chain gets of this."""
        if first and last:
            return self
        dropped = ENTRY_OPTIONS if not first else frozenset()
        if not last:
            dropped |= {"task_id"}
        options = self.options
        if options and not dropped.isdisjoint(options):
            options = {name: value for name, value in options.items() if name not in dropped}
        if first:
            return self if options is self.options else replace(self, options=options)
        return _Given(options=options) if options else _NOTHING


_NOTHING = _Given()

_Value = Slice | Nested
_Member = tuple[Canvas, _Given]
_Key = tuple[int | str, bool, tuple[tuple[str, Any], ...]]


@dataclass(slots=True)
class _Step:
    """One task of a member, resolved: all but its arguments makes it equal to others."""

    sig: Signature
    given: _Given
    options: dict[str, Any]
    key: _Key


class _Planner:
    """The state of one pass."""

    def __init__(self) -> None:
        self.nodes: list[PlannedNode] = []
        self.lists: list[list[Item]] = []
        self.list_after: list[_Value | None] = []
        self._options: dict[_Key, Options] = {}
        self._ids: set[str] = set()

    def place(self, canvas: Canvas, given: _Given, after: _Value | None, depth: int) -> _Value:
        """Plan a canvas after something; return what its value is."""
        if depth > _DEPTH_LIMIT:
            raise InvalidSignature(f"canvases are nested more than {_DEPTH_LIMIT} deep")
        match canvas:
            case Signature():
                step = self._resolve(canvas, given)
                node = self._open(step, after)
                self._add(step, node)
                return Slice(node, 0, 1)
            case group():
                own = given.into(canvas)
                _refuse_id(own)
                members = _members(canvas, own, depth)
                if len(members) == 1 and isinstance(members[0][0], chain | chord):
                    _refuse_id(members[0][1])
                    value = self.place(*members[0], after, depth + 1)
                    return value if self._is_many(value) else self._list([value], after)
                return self._fan(members, after, depth)
            case chain():
                return self._chain(canvas, given.into(canvas), after, depth)
            case chord():
                return self._chord(canvas, given.into(canvas), after, depth)
            case _:
                raise InvalidSignature(f"{canvas!r} is no signature, group, chain or chord")

    def _chain(self, canvas: chain, given: _Given, after: _Value | None, depth: int) -> _Value:
        value: _Value | None = None
        for step, own in _steps(canvas, given, depth):
            before = after if value is None else value
            if isinstance(step, list):
                _refuse_id(own)
                if not step and isinstance(value, Nested):
                    continue
                value = self._fan(step, before, depth)
            else:
                value = self.place(step, own, before, depth + 1)
        if value is None:
            raise InvalidSignature("an empty chain has no value; it cannot be a member or a body")
        return value

    def _chord(self, canvas: chord, given: _Given, after: _Value | None, depth: int) -> _Value:
        if canvas.body is None:
            raise InvalidSignature("a chord needs a body: chord(header, body) or chord(header)(body)")
        head = given.part(first=True, last=False).into(canvas.header)
        value = self._fan(_members(canvas.header, head, depth), after, depth)
        tail = given.part(first=False, last=True)
        if isinstance(canvas.body, group) and _is_empty(canvas.body):
            return value
        return self.place(canvas.body, tail, value, depth + 1)

    def _fan(self, members: Sequence[_Member], after: _Value | None, depth: int) -> _Value:
        """Plan what runs at the same time; return the list of its values."""
        if not members:
            node = self._open(self._resolve(Signature(EMPTY, immutable=True), _NOTHING), after)
            self.nodes[node].add(((), _NO_KWARGS))
            return Slice(node, 0, 1)
        buckets: dict[tuple[_Key, ...], list[int]] = {}
        items: list[Item] = []
        for canvas, given in members:
            _refuse_id(given)
            steps = self._tasks_of(canvas, given, depth)
            if steps is None:
                items.append(self.place(canvas, given, after, depth + 1))
                continue
            key = tuple([step.key for step in steps])
            nodes = buckets.get(key)
            if nodes is None:
                nodes = buckets[key] = []
                before = after
                for step in steps:
                    nodes.append(self._open(step, before))
                    before = Slice(nodes[-1], 0, 1)
            for step, node in zip(steps, nodes, strict=True):
                self._add(step, node)
            size = self.nodes[nodes[-1]].size
            _extend(items, Slice(nodes[-1], size - 1, size))
        return self._list(items, after)

    def _tasks_of(self, canvas: Canvas, given: _Given, depth: int) -> list[_Step] | None:
        """Return the steps of a member that is a task or a chain of tasks, else None."""
        if isinstance(canvas, Signature):
            return [self._resolve(canvas, given)]
        if not isinstance(canvas, chain):
            return None
        steps = _steps(canvas, given.into(canvas), depth)
        if not steps:
            return None
        resolved: list[_Step] = []
        for step, own in steps:
            if not isinstance(step, Signature):
                return None
            resolved.append(self._resolve(step, own))
        return resolved

    def _resolve(self, sig: Signature, given: _Given) -> _Step:
        ref = sig.ref
        if sig.options or given.options:
            options = merge(sig.options, given.options)
            shape = tuple(sorted([pair for pair in options.items() if pair[0] != "task_id"]))
            try:
                hash(shape)
            except TypeError:
                raise InvalidSignature(f"an option of {sig!r} does not fit: {options}") from None
        else:
            options, shape = sig.options, ()
        immutable = sig.immutable or given.blocked
        return _Step(sig, given, options, (ref if isinstance(ref, str) else id(ref), immutable, shape))

    def _open(self, step: _Step, after: _Value | None) -> int:
        """Start the array of a step; return its number."""
        ref = step.sig.ref
        options = self._options.get(step.key)
        if options is None:
            basis = {} if isinstance(ref, str) else ref.options
            options = self._options[step.key] = run_options(merge(basis, step.options))
        node = PlannedNode(ref, options, fed=after is not None and not step.key[1])
        if isinstance(after, Slice):
            node.after_node = after.node
        elif after is not None:
            node.after_list = after.number
        self.nodes.append(node)
        return len(self.nodes) - 1

    def _add(self, step: _Step, number: int) -> None:
        """Add the call of a step to its array."""
        sig, given, node = step.sig, step.given, self.nodes[number]
        args, kwargs = sig.args, sig.kwargs
        if not sig.immutable:
            if given.args:
                args = given.args + args
            if given.kwargs:
                kwargs = {**kwargs, **given.kwargs}
        if "task_id" in step.options:
            name = given_id(step.options["task_id"])
            if name in self._ids:
                raise InvalidSignature(f"two tasks have the same task_id {name!r}")
            self._ids.add(name)
            node.ids[node.size] = name
        node.add((args, dict(kwargs) if kwargs else _NO_KWARGS))

    def _list(self, items: list[Item], after: _Value | None) -> Nested:
        self.lists.append(items)
        self.list_after.append(after)
        return Nested(len(self.lists) - 1)

    def _is_many(self, value: _Value) -> bool:
        return isinstance(value, Nested) or self.nodes[value.node].ref == EMPTY


def _is_empty(canvas: group) -> bool:
    return all(isinstance(task, group) and _is_empty(task) for task in canvas.tasks)


def _refuse_id(given: _Given) -> None:
    if given.options and "task_id" in given.options:
        raise InvalidSignature("a group has no single task to have a task_id; give one to a member")


def _members(canvas: group, given: _Given, depth: int) -> list[_Member]:
    """Return the members of a group, those of groups in it in their places."""
    if depth > _DEPTH_LIMIT:
        raise InvalidSignature(f"canvases are nested more than {_DEPTH_LIMIT} deep")
    members: list[_Member] = []
    for task in canvas.tasks:
        if isinstance(task, group):
            members += _members(task, given.into(task), depth + 1)
        else:
            members.append((task, given))
    return members


def _steps(canvas: chain, given: _Given, depth: int) -> list[tuple[Canvas | list[_Member], _Given]]:
    """Return the steps of a chain, those of chains in it in their places; a group as its members."""
    if depth > _DEPTH_LIMIT:
        raise InvalidSignature(f"canvases are nested more than {_DEPTH_LIMIT} deep")
    tasks = [task for task in canvas.tasks if not is_nothing(task)]
    steps: list[tuple[Canvas | list[_Member], _Given]] = []
    for number, task in enumerate(tasks):
        own = given.part(number == 0, number == len(tasks) - 1)
        step: Canvas | list[_Member] = task
        if isinstance(task, group):
            own = own.into(task)
            step = _members(task, own, depth + 1)
            if len(step) == 1:
                step, own = step[0]
        if isinstance(step, chain):
            steps += _steps(step, own.into(step), depth + 1)
        else:
            steps.append((step, own))
    return steps


def _extend(items: list[Item], part: Slice) -> None:
    """Add a slice of one element to items, as part of the last one if it continues it."""
    last = items[-1] if items else None
    if isinstance(last, Slice) and last.node == part.node and last.hi == part.lo:
        items[-1] = Slice(part.node, last.lo, part.hi)
    else:
        items.append(part)


def _same(one: Call, other: Call) -> bool:
    """Return whether two calls have the very same objects as arguments."""
    args, others = one[0], other[0]
    if one[1] is not other[1] or len(args) != len(others):
        return False
    return args is others or all(map(_is, args, others))


def _is(one: object, other: object) -> bool:
    return one is other
