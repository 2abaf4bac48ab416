"""What the engine of a local cluster can be told, and what not: it lives in this process."""

from __future__ import annotations

import pytest

import nbq
from nbq.testing import LocalCluster


@nbq.task
def double(x: int) -> int:
    """Return twice as much."""
    return 2 * x


@pytest.mark.parametrize("verb", ["stop", "restart", "reload"])
def test_it_does_not_end_with_its_process(verb: str) -> None:
    with LocalCluster() as client:
        text = f"^engine '.*' lives inside another process: it cannot {verb} by itself$"
        with pytest.raises(nbq.Refused, match=text) as caught:
            getattr(client, verb)("")
        assert caught.value.code == "order"
        assert double.delay(2).get() == 4


def test_it_has_other_slots() -> None:
    with LocalCluster() as client:
        assert client.scale("", 3, wait=5) == 1
        assert client.slots == 3
        assert client.map(double, range(9)).get() == list(range(0, 18, 2))
        assert client.scale("", 1, wait=5) == 1
        assert client.map(double, range(9)).get() == list(range(0, 18, 2))
        assert client.slots == 1
