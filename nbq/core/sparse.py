"""What single elements of an array have of their own, in tables beside its flat states. Values only."""

from __future__ import annotations

from nbq.core.facts import Deferred
from nbq.core.model import Nested, Slice
from nbq.core.ready import ReadyRange

__all__ = ["Own", "Replacement"]


class Replacement:
    """What an element was replaced by: a value, and the nodes of the canvas that gives it."""

    __slots__ = ("first", "stop", "value")

    def __init__(self, value: Slice | Nested, first: int, stop: int) -> None:
        self.value = value
        self.first = first
        self.stop = stop


class Own:
    """What single elements of a node have of their own, by index."""

    __slots__ = (
        "args", "deaths", "due", "losses", "moved", "notes", "priorities", "replaced", "retries",
        "stands_for",
    )  # fmt: skip

    def __init__(self) -> None:
        self.deaths: dict[int, int] = {}
        """How often a slot died while it ran an element."""
        self.losses: dict[int, int] = {}
        """How often a lease of an element came to nothing."""
        self.retries: dict[int, int] = {}
        """How often it asked for another attempt."""
        self.due: dict[int, Deferred] = {}
        """When its next attempt is."""
        self.args: dict[int, Deferred] = {}
        """Which block holds its arguments, if others than at first."""
        self.replaced: dict[int, Replacement] = {}
        self.stands_for: dict[int, tuple[int, int]] = {}
        """Node and index of the element that ends as this one does."""
        self.notes: dict[int, tuple[str, bytes]] = {}
        """State and value that it shows while it runs; not durable."""
        self.priorities: dict[int, int] = {}
        """Its priority, if another than that of the node."""
        self.moved: dict[int, ReadyRange] = {}
        """By priority: the range in which elements are queued whose priority was changed. Not durable."""
