"""What Prometheus is told of a hub: its state now, as text. Asks nothing itself.

Names of tasks are no labels: anybody can make as many of them as they like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from nbq.core.views import ClusterView, EngineView, QueueView
from nbq.errors import UsageError

__all__ = ["CONTENT_TYPE", "exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_STATES = ("WAITING", "SCHEDULED", "RETRY", "QUEUED", "STARTED", "SUCCESS", "FAILURE", "REVOKED")
_HUB = {
    "uptime_s": ("nbq_hub_uptime_seconds", "Seconds since the hub started."),
    "runs": ("nbq_hub_runs", "Runs that the hub keeps."),
    "unfinished": ("nbq_hub_unfinished_tasks", "Tasks that have not ended."),
    "bytes": ("nbq_hub_result_bytes", "Bytes of the results and arguments of runs that have ended."),
    "clients": ("nbq_hub_clients", "Clients that are connected."),
}

_QUEUE: list[tuple[str, str, Callable[[QueueView], float]]] = [
    ("nbq_queue_queued", "Tasks that wait in a queue.", lambda row: row.queued),
    ("nbq_queue_granted", "Tasks of a queue that engines have.", lambda row: row.leased),
    ("nbq_queue_engines", "Engines that serve a queue.", lambda row: row.engines),
    ("nbq_queue_paused", "Whether a queue is paused.", lambda row: row.paused),
]
_ENGINE: list[tuple[str, str, Callable[[EngineView], float]]] = [
    ("nbq_engine_up", "Whether an engine is there and takes work.", lambda row: row.state == "up"),
    ("nbq_engine_slots", "Slots of an engine.", lambda row: row.info.slots),
    ("nbq_engine_running", "Tasks that run on an engine.", lambda row: row.running),
    ("nbq_engine_resident_bytes", "Memory of an engine with its slots.", lambda row: row.rss),
]
_Family = tuple[str, str, list[tuple[list[str], float]], list[str]]
"""Name, help, rows of labels' values and value, labels."""


def exposition(view: ClusterView | None) -> bytes:
    """Return the state of a hub in Prometheus' text format; of one that does not answer, that it does not.

    Raises:
        UsageError: The package prometheus-client is missing.
    """
    try:
        from prometheus_client import CollectorRegistry, generate_latest  # only where it is asked for
        from prometheus_client.core import GaugeMetricFamily, Metric
        from prometheus_client.registry import Collector
    except ImportError:
        raise UsageError("metrics need the package prometheus-client: pip install 'nbq[metrics]'") from None

    def gauge(name: str, text: str, rows: Iterable[tuple[list[str], float]], labels: list[str]) -> Metric:
        family = GaugeMetricFamily(name, text, labels=labels)
        for values, value in rows:
            family.add_metric(values, value)
        return family

    class Once(Collector):
        def collect(self) -> Iterator[Metric]:
            yield gauge("nbq_hub_up", "Whether the hub answers.", [([], float(view is not None))], [])
            if view is not None:
                for name, text, rows, labels in _families(view):
                    yield gauge(name, text, rows, labels)

    registry = CollectorRegistry()
    registry.register(Once())
    return generate_latest(registry)


def _families(view: ClusterView) -> Iterator[_Family]:
    """Yield what there is to tell."""
    for key, (name, text) in _HUB.items():
        yield name, text, [([], float(view.hub[key]))], []
    states = [([state], float(view.states.get(state, 0))) for state in _STATES]
    yield "nbq_tasks", "Tasks of the runs that the hub keeps, by state.", states, ["state"]
    for name, text, value in _QUEUE:
        yield name, text, [([row.name], float(value(row))) for row in view.queues], ["queue"]
    for name, text, value in _ENGINE:
        rows = [([row.info.name, row.info.host], float(value(row))) for row in view.engines]
        yield name, text, rows, ["engine", "host"]
