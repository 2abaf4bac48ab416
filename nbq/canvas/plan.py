"""From a canvas to a flat graph: the only place where shapes are rewritten.

One pass; it recurses into nesting, never along a chain. What it decides (design, section 5):

* members of a group with the same steps (task, options, immutability, links) are one array for each step;
* a chord is its group as a list, then its body after that list; so is a group followed by anything;
* nested chains are spliced, nested groups unrolled; a chain that ends in a group stays one member;
* a group of one member inside a chain is that member, a chord's header never is; outside a header a
  group of exactly one chain or chord that ends in a group is that chain or chord;
* an empty group is a node of the builtin task ``EMPTY``; right after a group it is nothing;
* links and errbacks are nodes outside the value. Steps of a chain that share an errback have one, after
  the last of them; a chord has one after its header list beside those of its body.

It never serialises anything and never looks into arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nbq.canvas.compose import chain, chord, group
from nbq.canvas.lines import Call, Line, Lines, Step
from nbq.canvas.options import ClientOptions, client_options, current_defaults, given_id, merge, run_options
from nbq.canvas.shapes import NOTHING, Given, Part, check_depth, is_empty, is_nothing, members_of, steps_of
from nbq.canvas.signature import Canvas, Signature, TaskRef, checked, keyword, positional
from nbq.canvas.tree import EMPTY, Tree, parent_of, tree_of
from nbq.core.model import NONE, Graph, Item, Nested, NodeSpec, On, Options, Slice
from nbq.errors import InvalidSignature

__all__ = ["Plan", "PlannedNode", "plan", "plan_replacement"]

_NO_KWARGS: Mapping[str, Any] = {}


@dataclass(slots=True)
class PlannedNode:
    """One array, as ``core.model.NodeSpec``, with its task and arguments instead of their bytes.

    Args:
        ref: The task, or its name.
        options: How to run it.
        client: How its calls are sent.
        calls: The arguments of each element; one call for all of them if ``shared``.
    """

    ref: TaskRef | str
    options: Options
    client: ClientOptions
    after_node: int = NONE
    after_list: int = NONE
    fed: bool = False
    size: int = 0
    shared: bool = True
    calls: list[Call] = field(default_factory=list)
    ids: dict[int, str] = field(default_factory=dict)
    on: On = On.SUCCESS
    given_node: int = NONE
    given_list: int = NONE
    told: int = NONE
    header: int = NONE

    @property
    def task(self) -> str:
        """The name of the task."""
        return self.ref if isinstance(self.ref, str) else self.ref.name

    @property
    def serializer(self) -> str:
        """How its arguments are to be serialised; empty for the configured way."""
        return self.client.serializer or ""

    @property
    def compression(self) -> str:
        """How its arguments are to be compressed; empty for the configured way."""
        return self.client.compression or ""

    @property
    def headers(self) -> dict[str, Any] | None:
        """What travels with its calls for the task to read."""
        return self.client.headers

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
            on=self.on,
            given_node=self.given_node,
            given_list=self.given_list,
            told=self.told,
            header=self.header,
            bare_name=isinstance(self.ref, str),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """A planned canvas.

    Args:
        nodes: In an order in which nothing comes before what it follows.
        lists: Their items, as in ``core.model.Graph``.
        value: The slice of one element or the list that the canvas gives.
        before: By list: what its group followed, if anything.
        client: How the canvas as a whole is to be sent.
    """

    nodes: list[PlannedNode]
    lists: list[list[Item]]
    value: Slice | Nested
    before: dict[int, Slice | Nested]
    client: ClientOptions

    @property
    def tree(self) -> Tree:
        """The result objects that the value is made of."""
        return tree_of(self, self.value)

    def parent(self, of: Slice | Nested) -> Slice | Nested | None:
        """Return what an element (a slice of one) or a list followed: its result's ``parent``."""
        return parent_of(self, of)

    def graph(self, address_of: Callable[[TaskRef | str], bytes]) -> Graph:
        """Return it for the wire. ``address_of`` gives the content address of a task's function."""
        nodes = [node.spec(address_of(node.ref)) for node in self.nodes]
        return Graph(nodes, self.lists, self.value, before=self.before)


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
        options: For every task; ``eta`` and ``countdown`` for what starts first, ``task_id`` and ``link``
            for what ends last.

    Raises:
        InvalidSignature: The canvas or an option cannot mean anything.
    """
    if is_nothing(canvas):
        raise InvalidSignature("an empty chain has no value and cannot be planned")
    given = Given(positional(args), keyword(kwargs), merge({}, checked(options)))
    planner = _Planner()
    value = planner.place(canvas, given, _START, 0)
    for node in planner.nodes:
        if node.header != NONE:
            node.header = planner.headers[node.header]
    sending = client_options(merge(canvas.options, options))
    return Plan(planner.nodes, planner.lists, value, planner.before, sending)


def plan_replacement(canvas: Canvas) -> Plan:
    """Return the graph of what a running task is to be replaced by.

    Raises:
        InvalidSignature: As for ``plan``; or it is empty.
    """
    if is_nothing(canvas):
        raise InvalidSignature("cannot replace with an empty chain: it has no value")
    return plan(canvas)


_Value = Slice | Nested


@dataclass(frozen=True, slots=True)
class _After:
    """What the entries of a canvas follow.

    Args:
        value: A slice of one element (of an array: element by element), or a list.
        on: What has to become of it.
        given: For FAILURE and SETTLED: what the guarded part itself followed.
        told: As in ``core.model.NodeSpec``.
    """

    value: _Value | None = None
    on: On = On.SUCCESS
    given: _Value | None = None
    told: int = NONE

    @property
    def gate(self) -> _Value | None:
        """What has succeeded whenever an entry fails by itself; None if it can fail in no other way."""
        if self.on is On.SUCCESS:
            return self.value
        return self.given if self.on is On.SETTLED else None


_START = _After()


@dataclass(slots=True)
class _Opened:
    """The arrays of a line, and those of the lines that hang on it (None for a canvas that is no line)."""

    nodes: list[int]
    hanging: list[_Opened | None]


class _Planner:
    """The state of one pass. A node's header is numbered by ``headers`` until all lists have a number."""

    def __init__(self) -> None:
        self.nodes: list[PlannedNode] = []
        self.lists: list[list[Item]] = []
        self.before: dict[int, _Value] = {}
        self.headers: list[int] = []
        self._header = NONE
        self._defaults = current_defaults()
        self._lines = Lines(self._defaults)
        self._options: dict[Hashable, tuple[Options, ClientOptions]] = {}
        self._ids: set[str] = set()

    # -------------------------------------------------------------- canvases

    def place(self, canvas: Canvas, given: Given, after: _After, depth: int) -> _Value:
        """Plan a canvas after something; return what its value is."""
        check_depth(depth)
        match canvas:
            case Signature():
                return self._run(self._lines.along([(canvas, given)], depth), after, depth)
            case group():
                return self._group(canvas, given.into(canvas), after, depth)
            case chain():
                return self._chain(canvas, given.into(canvas), after, depth)
            case chord():
                return self._chord(canvas, given.into(canvas), after, depth)
            case _:
                raise InvalidSignature(f"{canvas!r} is no signature, group, chain or chord")

    def _group(self, canvas: group, given: Given, after: _After, depth: int) -> _Value:
        _refuse_id(given)
        links, own = given.take("link")
        members = members_of(canvas, own, depth)
        if len(members) == 1 and isinstance(members[0][0], chain | chord):
            _refuse_id(members[0][1])
            value = self.place(*members[0], after, depth + 1)
            if not self._is_many(value):
                value = self._list([value], after)
        else:
            value = self._fan(members, after, depth)
        self._attach(links, _After(value, On.LINK), depth)
        return value

    def _chain(self, canvas: chain, given: Given, after: _After, depth: int) -> _Value:
        steps = steps_of(canvas, given, depth)
        last = max([number for number, step in enumerate(steps) if not is_empty(step[0])], default=-1)
        value: _Value | None = None
        waiting: tuple[list[Canvas], _After] | None = None  # errbacks of a header, until it has a body
        at = 0
        while at < len(steps):
            step, own = steps[at]
            if isinstance(value, Nested) and isinstance(step, group) and is_empty(step):
                self._attach(own.into(step).take("link")[0], _After(value, On.LINK), depth)
                at += 1
                continue
            first, upto, errbacks = len(self.nodes), at + 1, []
            if isinstance(step, Signature):
                while upto < len(steps) and isinstance(steps[upto][0], Signature):
                    upto += 1
                value = self._run(self._lines.along(steps[at:upto], depth), after, depth)
            elif isinstance(step, group):
                if at < last:
                    errbacks, own = own.take("link_error")
                value = self._header_of(step, own, after, depth, at < last)
            else:
                value = self.place(step, own, after, depth + 1)
            if waiting:
                self._attach(waiting[0], replace(waiting[1], told=first), depth)
            waiting = (errbacks, _After(value, On.FAILURE, after.gate)) if errbacks else None
            after, at = _After(value), upto
        if value is None:
            raise InvalidSignature("an empty chain has no value; it cannot be a member or a body")
        return value

    def _chord(self, canvas: chord, given: Given, after: _After, depth: int) -> _Value:
        if canvas.body is None:
            raise InvalidSignature("a chord needs a body: chord(header, body) or chord(header)(body)")
        errbacks, head = given.part(first=True, last=False).take("link_error")
        joins = not is_empty(canvas.body)  # without a body there is nothing that members could be added for
        header = value = self._header_of(canvas.header, head, after, depth, joins)
        tail = given.part(first=False, last=True)
        if is_empty(canvas.body):
            own = tail.into(canvas.body)
            _refuse_id(own)
            self._attach(own.take("link")[0], _After(value, On.LINK), depth)
        elif canvas.propagate:
            value = self.place(canvas.body, tail, _After(header), depth + 1)
        else:
            value = self.place(canvas.body, tail, _After(header, On.SETTLED, after.gate), depth + 1)
        if isinstance(header, Nested) and (canvas.propagate or value is header):
            guard = _After(header, On.FAILURE, after.gate, self._first(value))
            self._attach(errbacks, guard, depth)
        return value

    def _header_of(self, canvas: group, given: Given, after: _After, depth: int, header: bool) -> _Value:
        """Plan a group that something may follow; return the list of its values."""
        own = given.into(canvas)
        _refuse_id(own)
        links, own = own.take("link")
        outer = self._header
        if header:
            self._header = len(self.headers)
            self.headers.append(NONE)
        value = self._fan(members_of(canvas, own, depth), after, depth)
        if header and isinstance(value, Nested):
            self.headers[self._header] = value.number
        self._header = outer
        self._attach(links, _After(value, On.LINK), depth)
        return value

    def _fan(self, members: Sequence[Part], after: _After, depth: int) -> _Value:
        """Plan what runs at the same time; return the list of its values."""
        if not members:
            return self._run(self._lines.along([(_EMPTY_SIG, NOTHING)], depth), after, depth)
        buckets: dict[Hashable, _Opened] = {}
        items: list[Item] = []
        for canvas, given in members:
            _refuse_id(given)
            line = self._lines.of(canvas, given, depth)
            if line is None:
                items.append(self.place(canvas, given, after, depth + 1))
                continue
            if line.key is None:
                items.append(self._run(line, after, depth))
                continue
            opened = buckets.get(line.key)
            if opened is None:
                opened = buckets[line.key] = self._open_line(line, after, depth)
            self._add_line(line, opened)
            size = self.nodes[opened.nodes[-1]].size
            _extend(items, Slice(opened.nodes[-1], size - 1, size))
        return self._list(items, after)

    def _attach(self, links: list[Canvas], after: _After, depth: int) -> None:
        """Plan links or errbacks: outside of the value, and of every header."""
        outer, self._header = self._header, NONE
        for link in links:
            if not is_nothing(link):
                self.place(link, NOTHING, after, depth + 1)
        self._header = outer

    # -------------------------------------------------------------- lines

    def _run(self, line: Line, after: _After, depth: int) -> Slice:
        """Plan a line of which there is one."""
        opened = self._open_line(line, after, depth)
        self._add_line(line, opened)
        return Slice(opened.nodes[-1], 0, 1)

    def _open_line(self, line: Line, after: _After, depth: int) -> _Opened:
        """Start the arrays of a line and of what hangs on it."""
        nodes: list[int] = []
        before = after
        for step in line.steps:
            nodes.append(self._open(step, before))
            before = _After(Slice(nodes[-1], 0, 1))
        opened = _Opened(nodes, [])
        outer, self._header = self._header, NONE
        for part in line.hanging:
            gate = after.gate if part.first == 0 else Slice(nodes[part.first - 1], 0, 1)
            follow = _After(Slice(nodes[part.last], 0, 1), part.on, gate if part.on is On.FAILURE else None)
            if isinstance(part.what, Line):
                opened.hanging.append(self._open_line(part.what, follow, depth + 1))
            else:
                self.place(part.what, NOTHING, follow, depth + 1)
                opened.hanging.append(None)
        self._header = outer
        return opened

    def _add_line(self, line: Line, opened: _Opened) -> None:
        """Add one element to each array of a line and of what hangs on it."""
        for step, node in zip(line.steps, opened.nodes, strict=True):
            self._add(step, node)
        for part, arrays in zip(line.hanging, opened.hanging, strict=True):
            if arrays is not None:
                assert isinstance(part.what, Line)
                self._add_line(part.what, arrays)

    def _open(self, step: Step, after: _After) -> int:
        """Start the array of a step; return its number."""
        known = self._options.get(step.key)
        if known is None:
            given = self._defaults.finish(merge(self._defaults.basis(step.ref), step.options))
            known = self._options[step.key] = run_options(given), client_options(given)
        fed = after.value is not None and not step.immutable
        node = PlannedNode(step.ref, *known, fed=fed, on=after.on, header=self._header)
        node.after_node, node.after_list = _numbers(after.value)
        node.given_node, node.given_list = _numbers(after.given)
        if node.after_list != NONE:
            node.told = after.told
        self.nodes.append(node)
        return len(self.nodes) - 1

    def _add(self, step: Step, number: int) -> None:
        """Add the call of a step to its array."""
        node = self.nodes[number]
        if "task_id" in step.options:
            name = given_id(step.options["task_id"])
            if name in self._ids:
                raise InvalidSignature(f"two tasks have the same task_id {name!r}")
            self._ids.add(name)
            node.ids[node.size] = name
        args, kwargs = step.call
        node.add((args, dict(kwargs) if kwargs else _NO_KWARGS))

    # -------------------------------------------------------------- values

    def _list(self, items: list[Item], after: _After) -> Nested:
        if after.value is not None:
            self.before[len(self.lists)] = after.value
        self.lists.append(items)
        return Nested(len(self.lists) - 1)

    def _is_many(self, value: _Value) -> bool:
        return isinstance(value, Nested) or self.nodes[value.node].task == EMPTY

    def _first(self, value: _Value) -> int:
        """Return the node of the first element of a value."""
        while isinstance(value, Nested):
            value = self.lists[value.number][0]
        return value.node


_EMPTY_SIG = Signature(EMPTY, immutable=True)


def _refuse_id(given: Given) -> None:
    if given.options and "task_id" in given.options:
        raise InvalidSignature("a group has no single task to have a task_id; give one to a member")


def _numbers(value: _Value | None) -> tuple[int, int]:
    """Return a value as the numbers of a node and a list, one of which is NONE."""
    if value is None:
        return NONE, NONE
    return (value.node, NONE) if isinstance(value, Slice) else (NONE, value.number)


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
