"""What leaves the client: a canvas that no message can carry is refused where it is submitted."""

from __future__ import annotations

import pytest

from nbq.batch import stage
from nbq.core.model import Graph, NodeSpec, Slice
from nbq.errors import PayloadTooLarge


def chain(steps: int, name: str) -> Graph:
    nodes = [NodeSpec(name, b"f" * 16, after_node=at - 1, fed=at > 0) for at in range(steps)]
    return Graph(nodes, value=Slice(steps - 1, 0, 1))


def test_a_canvas_of_ten_thousand_different_tasks_is_one_submit() -> None:
    graph = chain(10_000, "n" * 400)
    stages, submit = stage(b"r" * 16, graph, [])
    assert (stages, submit.graph) == ([], graph)


def test_a_canvas_too_large_for_a_message_is_refused_at_once() -> None:
    with pytest.raises(PayloadTooLarge, match=r"40,000 different tasks takes .* submit it in parts"):
        stage(b"r" * 16, chain(40_000, "n" * 400), [])
