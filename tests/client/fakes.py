"""A link without a hub: replicas are told of ends by the test, and whoever waits must not have to."""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from nbq import payload, wire
from nbq.asking import Asking, M
from nbq.core.facts import End, Ended, Settled
from nbq.core.model import NONE, Graph, Nested, NodeSpec, Slice, State
from nbq.replica import Replica
from nbq.wire import Block

KEY = bytes(payload.KEY_BYTES)
FUNCTION = bytes(16)


def run_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def _no_blobs(block: Block) -> mmap.mmap:
    raise AssertionError(f"nobody asks for blob {block.blob}")


class FakeLink(Asking):
    """What handles use of a link; ``asked`` holds the requests, ``answers`` what is answered to them."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.answers: deque[Any] = deque()
        self.watched: list[tuple[bytes, list[int]]] = []
        self.news: dict[bytes, list[deque[tuple[bytes, int]]]] = {}
        self.calls: list[tuple[Replica, Callable[[], object], Callable[[], object]]] = []
        self.runs: dict[bytes, Replica] = {}

    def run(self, number: int, graph: Graph) -> Replica:
        """Return the replica of a new run."""
        made = self.runs[run_id(number)] = Replica(run_id(number), graph, KEY, _no_blobs)
        made.accepted = True
        return made

    def end(self, replica: Replica, facts: list[End], blocks: list[Block] | None = None) -> None:
        """Let ends come in."""
        replica.add(facts, blocks or [])
        for fact in facts:
            for news in self.news.get(replica.run, []):
                news.append((replica.run, fact.node))
        for call in [call for call in self.calls if call[0] is replica]:
            if call[1]():
                self.calls.remove(call)
                call[2]()

    def graph(self, replica: Replica) -> Graph:
        assert replica.graph is not None
        return replica.graph

    def watch(self, replica: Replica, nodes: list[int]) -> None:
        self.watched.append((replica.run, nodes))

    def complete(self, replica: Replica, nodes: list[int]) -> None:
        self.watch(replica, nodes)

    def follow(self, runs: Iterable[bytes], news: deque[tuple[bytes, int]]) -> None:
        for run in runs:
            self.news.setdefault(run, []).append(news)

    def unfollow(self, runs: Iterable[bytes], news: deque[tuple[bytes, int]]) -> None:
        for run in runs:
            self.news[run] = [other for other in self.news[run] if other is not news]

    def wait(self, replica: Replica, done: Callable[[], object], timeout: float | None) -> bool:
        assert done() or timeout is not None, "this would wait for ever"
        return bool(done())

    def wait_many(self, done: Callable[[], object], timeout: float | None) -> bool:
        assert done() or timeout is not None, "this would wait for ever"
        return bool(done())

    def call_when(self, replica: Replica, done: Callable[[], object], callback: Callable[[], object]) -> None:
        if done():
            callback()
        else:
            self.calls.append((replica, done, callback))

    def accepted(self, replica: Replica) -> None:
        assert replica.accepted

    def known(self, run: bytes, graph: Graph) -> Replica:
        return self.runs[run]

    def ask(self, message: M, timeout: float = 30.0) -> Any:
        self.asked.append(message)
        answer = self.answers.popleft()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def answer(self, message: M) -> wire.Answer:
        found = self.ask(message)
        assert isinstance(found, wire.Answer)
        return found


def spec(size: int = 1, **fields: Any) -> NodeSpec:
    return NodeSpec("t", FUNCTION, size, **fields)


def chain_graph(length: int) -> Graph:
    nodes = [spec(after_node=number - 1, fed=number > 0) for number in range(length)]
    return Graph(nodes, value=Slice(length - 1, 0, 1))


def group_graph(size: int) -> Graph:
    return Graph([spec(size)], [[Slice(0, 0, size)]], Nested(0))


def settled(node: int, lo: int, hi: int, states: bytes = b"", **fields: Any) -> Settled:
    return Settled(1, node, lo, hi, 1, states, NONE, 0, "", 0.0, "e", 0.0, **fields)


def worth(
    replica: Replica, node: int, lo: int, *values: object, children: list[str] | None = None
) -> tuple[list[End], list[Block]]:
    """Return the end of elements with these values, and its block (numbered as the node and element are)."""
    number = node * 1_000_000 + lo
    elements = [payload.dumps(value) for value in values]
    extras = payload.dump_extras(1000.0, [0.5] * len(values), {}, {0: children} if children else {})
    data = payload.seal(KEY, payload.origin("result", replica.run, node, lo), elements, extras)
    n = len(values)
    fact = Settled(
        1, node, lo, lo + n, 1, b"", number, len(data), "", 1001.5, "e1", 0.5, block_lo=lo, block_n=n
    )
    return [fact], [Block(node, lo, n, data, len(data), number=number)]


def failed(replica: Replica, node: int, index: int, error: Exception) -> tuple[list[End], list[Block]]:
    """Return the end of an element that raised, and its block."""
    number = node * 1_000_000 + index
    element = payload.dump_failure(error, "on engine e1, attempt 1")
    data = payload.seal(KEY, payload.origin("result", replica.run, node, index), [element])
    fact = Settled(
        1, node, index, index + 1, 1, bytes([State.FAILURE]), number, len(data), "", 1002.0, "e1", 0.5,
        block_lo=index, block_n=1,
    )  # fmt: skip
    return [fact], [Block(node, index, 1, data, len(data), number=number)]


def revoked(node: int, index: int) -> Ended:
    return Ended(1, node, index, index + 1, State.REVOKED, "cancelled", "cancelled", 1003.0)
