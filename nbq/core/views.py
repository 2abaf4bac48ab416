"""Views: what the hub shows people of its runs, elements, engines and queues.

Values only, made when somebody asks; nothing here is state.
"""

from __future__ import annotations

from msgspec import Struct

from nbq.core.model import EngineInfo

__all__ = ["ClusterView", "ElementView", "EngineView", "QueueView", "RunView"]


class RunView(Struct, frozen=True, array_like=True):
    """A run, for people: counts of elements by state name."""

    id: bytes
    task: str
    owner: str
    at_s: float
    size: int
    states: dict[str, int]
    finished_s: float | None = None
    index: int = -1
    """The element that this row is about, when the run is a batch of separate calls."""


class EngineView(Struct, frozen=True, array_like=True):
    """An engine, for people."""

    id: bytes
    info: EngineInfo
    held: int
    running: int
    state: str
    rss: int
    beat_s: float
    """Seconds since it was last heard."""


class QueueView(Struct, frozen=True, array_like=True):
    """A queue, for people."""

    name: str
    queued: int
    leased: int
    engines: int


class ElementView(Struct, frozen=True, array_like=True):
    """One element, for people."""

    id: str
    run: bytes
    node: int
    index: int
    task: str
    state: str
    attempt: int
    engine: str = ""
    text: str = ""
    at_s: float = 0.0
    retries: int = 0
    queue: str = ""
    scope: bytes = b""
    """What its blocks are sealed for beside the run, if it belongs to an addition."""
    inner: int = 0


class ClusterView(Struct, frozen=True, array_like=True):
    """The hub, for people. ``hub`` holds name, pid, durability, uptime, counts and sizes."""

    hub: dict[str, str | int | float]
    engines: list[EngineView]
    queues: list[QueueView]
    states: dict[str, int]
