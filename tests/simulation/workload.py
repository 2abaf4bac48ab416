"""What is submitted in a simulated world, and what must come of it.

Every element's value is a digest of its function, its argument and the values it is fed, so a value that
was computed of anything else is noticed. Blocks say for which place they were made, as sealed ones do.
"""

from __future__ import annotations

from hashlib import blake2b
from random import Random
from typing import Any

import msgspec
from msgspec.structs import replace

from nbq import wire
from nbq.batch import stage
from nbq.blocks import Block, place
from nbq.core.model import NONE, Graph, Item, Nested, NodeSpec, On, Options, Slice, State

__all__ = ["FUNCTIONS", "Job", "Replacement", "Violation", "make_job", "open_block", "seal"]

QUEUES = ("default", "left", "right")


class Violation(AssertionError):
    """An invariant does not hold; ``name`` says which."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


def address(body: bytes) -> bytes:
    """Return the content address of a function."""
    return blake2b(body, digest_size=16).digest()


SPEEDS: dict[bytes, tuple[float, float]] = {
    b"quick": (0.0001, 0.002),
    b"middling": (0.01, 0.08),
    b"slow": (0.2, 1.0),
}
"""The least and the most seconds that an element of a function runs."""

FUNCTIONS: dict[bytes, bytes] = {address(body): body for body in SPEEDS}


def seal(run: bytes, node: int, lo: int, elements: list[bytes]) -> bytes:
    """Return a block of elements that says where it belongs."""
    return msgspec.msgpack.encode([run, node, lo, elements])


def open_block(data: bytes, run: bytes, node: int, lo: int, n: int) -> list[bytes]:
    """Return the elements of a block, if it was made for this place."""
    found = msgspec.msgpack.decode(data)
    if found[:3] != [run, node, lo] or len(found[3]) != n:
        raise Violation(
            "origin", f"a block of node {found[1]}, {found[2]} is given out as {node}, {lo} ({n})"
        )
    return found[3]


class Call(msgspec.Struct, frozen=True, array_like=True):
    """The argument of an element: a text, what it does, and how often (for replace: by which shape).

    It does one of ok, fail, die, again and replace.
    """

    text: str
    does: str = "ok"
    times: int = 0


class Replacement:
    """The canvas that replaces an element: a task, two tasks in a chain, or a group of two."""

    def __init__(self, run: bytes, node: int, index: int, call: Call) -> None:
        self.owner = node, index
        self.scope = blake2b(run + bytes([node]) + index.to_bytes(4, "big"), digest_size=16).digest()
        body = b"quick"
        spec = NodeSpec(body.decode(), address(body))
        texts = [f"{call.text}/{number}" for number in range(2 if call.times else 1)]
        first = mix(body, texts[0], None)
        self.values: dict[tuple[int, int], Any] = {(0, 0): first}
        """Values by inner node and index."""
        self.value: Any = first
        if call.times == 0:
            self.graph = Graph([spec], value=Slice(0, 0, 1))
        elif call.times == 1:
            self.graph = Graph([spec, replace(spec, after_node=0, fed=True)], value=Slice(1, 0, 1))
            self.value = self.values[1, 0] = mix(body, texts[1], first)
        else:
            self.graph = Graph([replace(spec, size=2)], [[Slice(0, 0, 2)]], Nested(0))
            self.values[0, 1] = mix(body, texts[1], None)
            self.value = [first, self.values[0, 1]]
        self.calls = [[Call(text) for text in texts]] if call.times == 2 else [[Call(text)] for text in texts]
        self.blocks: list[Block] = []
        for number, own in enumerate(self.calls):
            data = seal(
                place(run, 0, self.scope, 0)[0], number, 0, [msgspec.msgpack.encode(one) for one in own]
            )
            self.blocks.append(Block(number, 0, len(own), data, len(data)))


class Job:
    """One run, as its client knows it.

    Args:
        run: Its id.
        graph: Its graph.
        calls: The arguments of each node's elements; one for all when they are shared.
        blocks: The same, in blocks.
    """

    def __init__(self, run: bytes, graph: Graph, calls: list[list[Call]], blocks: list[Block]) -> None:
        self.run = run
        self.graph = graph
        self.calls = calls
        self.blocks = blocks
        self.stages: list[wire.Stage] = []
        self.submit = wire.Submit(run, graph, blocks)
        self.watched = value_nodes(graph)
        self.acked = False
        self.refused = ""
        self.forget_asked = False
        self.cancelled: set[tuple[int, int]] = set()
        """Elements (node, index) that somebody asked to cancel."""
        self.begin()
        self.replacements: dict[bytes, Replacement] = {}
        """All that may be added, by scope."""
        for number, own in enumerate(calls):
            for index in range(graph.nodes[number].size):
                call = own[0 if graph.nodes[number].shared else index]
                if call.does == "replace":
                    made = Replacement(run, number, index, call)
                    self.replacements[made.scope] = made
        self._values: dict[tuple[int, int], Any] = {}

    def again(self, run: bytes, first: int, graph: Graph) -> Job:
        """Return the job of a run that is made of this one, from node ``first`` on."""
        calls = [list(own) for own in self.calls[first : first + len(graph.nodes)]]
        return Job(run, graph, calls, self.blocks)

    def stage(self, rng: Random) -> None:
        """Send some blocks ahead, though they are few."""
        self.stages, self.submit = stage(self.run, self.graph, self.blocks)
        if rng.random() < 0.2:
            at = 0
            while at < len(self.blocks):
                count = rng.randint(1, 3)
                self.stages.append(wire.Stage(self.run, at, self.blocks[at : at + count]))
                at += count
            self.submit = wire.Submit(self.run, self.graph, [], len(self.blocks))

    def call(self, node: int, index: int) -> Call:
        """Return the argument of an element."""
        return self.calls[node][0 if self.nodes[node].shared else index]

    def begin(self) -> None:
        """It is accepted, perhaps again after it was forgotten: nothing was added to it yet."""
        self.nodes = list(self.graph.nodes)
        """All nodes, with those that were added to the run."""
        self.lists = [list(items) for items in self.graph.lists]
        self.scopes: dict[int, tuple[Replacement, int]] = {}
        """By the numbers of added nodes: what they belong to, and their numbers in it."""
        del self.calls[len(self.nodes) :]

    def replacement(self, node: int, index: int) -> Replacement:
        """Return what replaces an element."""
        return next(r for r in self.replacements.values() if r.owner == (node, index))

    def extend(self, scope: bytes) -> None:
        """A canvas was added to the run."""
        made = self.replacements[scope]
        first = len(self.nodes)
        for number, spec in enumerate(made.graph.nodes):
            after = spec.after_node if spec.after_node == NONE else spec.after_node + first
            self.scopes[first + number] = made, number
            self.nodes.append(replace(spec, after_node=after))
            self.calls.append(made.calls[number])
        for items in made.graph.lists:
            self.lists.append([Slice(i.node + first, i.lo, i.hi) for i in items if isinstance(i, Slice)])

    def place(self, node: int) -> tuple[bytes, int]:
        """Return what blocks of a node are sealed for."""
        found = self.scopes.get(node)
        return place(self.run, node, *((b"", 0) if found is None else (found[0].scope, found[1])))

    def inside(self, node: int, index: int) -> list[tuple[int, int]]:
        """Return the elements whose ends are the end of an element that was replaced."""
        made = self.replacement(node, index)
        numbers = {inner: number for number, (of, inner) in self.scopes.items() if of is made}
        value = made.graph.value
        (last,) = made.graph.lists[0] if isinstance(value, Nested) else [value]
        assert isinstance(last, Slice)
        return [(numbers[last.node], at) for at in range(last.lo, last.hi)]

    def parents(self, node: int, index: int) -> list[tuple[int, int]]:
        """Return the elements that an element waits for."""
        spec = self.nodes[node]
        if spec.after_list != NONE:
            return self.leaves(Nested(spec.after_list))
        if spec.after_node != NONE:
            return [(spec.after_node, index if self.nodes[spec.after_node].size > 1 else 0)]
        return []

    def leaves(self, item: Item) -> list[tuple[int, int]]:
        """Return the elements of a slice or list, in order."""
        if isinstance(item, Slice):
            return [(item.node, index) for index in range(item.lo, item.hi)]
        return [leaf for inner in self.lists[item.number] for leaf in self.leaves(inner)]

    def value(self, node: int, index: int) -> Any:
        """Return the value of an element, should it succeed."""
        key = node, index
        if key not in self._values and self.call(node, index).does == "replace":
            self._values[key] = self.replacement(node, index).value
        if key not in self._values:
            spec = self.nodes[node]
            fed = None
            if spec.fed and spec.after_list != NONE:
                fed = self._tree(spec.after_list)
            elif spec.fed:
                fed = self.value(*self.parents(node, index)[0])
            self._values[key] = mix(FUNCTIONS[spec.function], self.call(node, index).text, fed)
        return self._values[key]

    def _tree(self, number: int) -> list[Any]:
        built: list[Any] = []
        for item in self.lists[number]:
            if isinstance(item, Nested):
                built.append(self._tree(item.number))
            else:
                built += [self.value(node, index) for node, index in self.leaves(item)]
        return built

    def natural(self, node: int, index: int) -> State:
        """Return how an element ends if it is run to its end."""
        return State.FAILURE if self.call(node, index).does == "fail" else State.SUCCESS


def mix(body: bytes, text: str, fed: Any) -> str:
    """Return what a function makes of its argument and of what it is fed."""
    return blake2b(msgspec.msgpack.encode([body, text, fed]), digest_size=6).hexdigest()


def value_nodes(graph: Graph) -> list[int]:
    """Return the nodes that the value of a graph is made of."""
    if graph.value is None:
        return [0]
    if isinstance(graph.value, Slice):
        return [graph.value.node]
    found: set[int] = set()
    pending: list[Item] = [graph.value]
    while pending:
        item = pending.pop()
        if isinstance(item, Slice):
            found.add(item.node)
        else:
            pending.extend(graph.lists[item.number])
    return sorted(found)


def make_job(rng: Random, wall_s: float, taken: list[str], largest: int) -> Job:
    """Return a job of a random shape; ``taken`` are ids given so far, and gains those of this one."""
    run = rng.randbytes(16)
    nodes: list[NodeSpec] = []
    lists: list[list[Item]] = []
    if rng.random() < 0.25:
        nodes.append(_node(rng, rng.randint(1, 8), wall_s, taken))
        graph = Graph(nodes, each=True)
    else:
        value = _shape(rng, nodes, lists, wall_s, taken, largest)
        graph = Graph(nodes, lists, value)
    calls = [_calls(rng, run, number, spec) for number, spec in enumerate(graph.nodes)]
    blocks: list[Block] = []
    for number, own in enumerate(calls):
        at = 0
        while at < len(own):
            count = rng.randint(1, len(own) - at)
            data = seal(run, number, at, [msgspec.msgpack.encode(call) for call in own[at : at + count]])
            blocks.append(Block(number, at, count, data, len(data)))
            at += count
    job = Job(run, graph, calls, blocks)
    job.stage(rng)
    return job


def _shape(
    rng: Random, nodes: list[NodeSpec], lists: list[list[Item]], wall_s: float, taken: list[str], largest: int
) -> Item:
    """Add nodes after nodes and lists at random, which makes chains, chords and all that lies between."""
    free_nodes: list[int] = []
    free_lists: list[int] = []
    for _ in range(rng.choice((1, 1, 2, 3, 4, 6))):
        after_node = after_list = NONE
        size = rng.choice((1, 1, 2, 3, rng.randint(1, largest)))
        if lists and rng.random() < 0.6:
            after_list = rng.randrange(len(lists))
        elif nodes and rng.random() < 0.6:
            after_node = rng.randrange(len(nodes))
            if nodes[after_node].size > 1:
                size = nodes[after_node].size
        free_nodes.append(len(nodes))
        nodes.append(_when(rng, _node(rng, size, wall_s, taken, after_node, after_list), nodes))
        if rng.random() < 0.45:
            members = [n for n in free_nodes if rng.random() < 0.7] or [free_nodes[-1]]
            inner = [n for n in free_lists if rng.random() < 0.5]
            items: list[Item] = [Nested(n) for n in inner]
            for number in members:
                cut = rng.randint(0, nodes[number].size)
                items += [Slice(number, a, b) for a, b in ((0, cut), (cut, nodes[number].size)) if a < b]
            rng.shuffle(items)
            free_nodes = [n for n in free_nodes if n not in members]
            free_lists = [n for n in free_lists if n not in inner]
            free_lists.append(len(lists))
            lists.append(items)
    if lists and (rng.random() < 0.5 or not free_nodes):
        return Nested(len(lists) - 1)
    number = free_nodes[-1]
    at = rng.randrange(nodes[number].size)
    return Slice(number, at, at + 1)


def _node(
    rng: Random, size: int, wall_s: float, taken: list[str], after_node: int = NONE, after_list: int = NONE
) -> NodeSpec:
    ids: dict[int, str] = {}
    if rng.random() < 0.1:
        text = rng.choice(taken) if taken and rng.random() < 0.1 else f"given-{len(taken)}"
        taken.append(text)
        ids[rng.randrange(size)] = text
    follows = after_node != NONE or after_list != NONE
    function = rng.choices(list(FUNCTIONS), (6, 3, 1))[0]
    return NodeSpec(
        FUNCTIONS[function].decode(), function, size, after_node, after_list,
        follows and rng.random() < 0.7, rng.random() < 0.2, _options(rng, wall_s), ids,
    )  # fmt: skip


def _when(rng: Random, spec: NodeSpec, nodes: list[NodeSpec]) -> NodeSpec:
    """Return a node, sometimes as a link, an errback or what takes failures as values.

    Which failures those are depends on what happens when, so they are not fed.
    """
    if spec.after_node == spec.after_list or rng.random() < 0.6:
        return spec
    on = rng.choice((On.LINK, On.FAILURE, On.SETTLED))
    if on == On.LINK:
        return replace(spec, on=on)
    gates = [n for n, other in enumerate(nodes) if other.size in (1, spec.size)]
    given = rng.choice(gates) if gates and rng.random() < 0.5 else NONE
    return replace(spec, on=on, fed=False, given_node=given)


def _options(rng: Random, wall_s: float) -> Options:
    def at_times(chance: float, lo: float, hi: float) -> float | None:
        return rng.uniform(lo, hi) if rng.random() < chance else None

    eta_s = at_times(0.05, 0.0, 4.0)
    expires_at_s = at_times(0.03, 0.5, 6.0)
    return Options(
        queue=rng.choices(QUEUES, (6, 1, 1))[0],
        priority=rng.choice((0, 0, 0, 1, -1)),
        eta_s=None if eta_s is None else wall_s + eta_s,
        countdown_s=at_times(0.08, 0.0, 2.0),
        expires_s=at_times(0.04, 0.1, 5.0),
        expires_at_s=None if expires_at_s is None else wall_s + expires_at_s,
        cancel_grace_s=rng.choice((0.0, 0.1, 0.5)),
    )


def _calls(rng: Random, run: bytes, number: int, spec: NodeSpec) -> list[Call]:
    bad = 0.08 if rng.random() < 0.3 else 0.0
    calls: list[Call] = []
    for index in range(1 if spec.shared else spec.size):
        text = f"{run[:3].hex()}-{number}-{index}"
        draw = rng.random()
        if draw < bad:
            calls.append(Call(text, "fail"))
        elif draw < bad + 0.01:
            calls.append(Call(text, "die", rng.choice((1, 2, 3, 9))))
        elif draw < bad + 0.04:
            calls.append(Call(text, "again", rng.choice((1, 1, 2))))
        elif draw < bad + 0.06:
            calls.append(Call(text, "replace", rng.choice((0, 1, 2))))
        else:
            calls.append(Call(text))
    return calls
