"""The hub's answers to questions: from the scheduler's state to messages. Changes nothing."""

from __future__ import annotations

from nbq import wire
from nbq.core import queries
from nbq.core.model import Now
from nbq.core.scheduler import Scheduler
from nbq.core.views import ClusterView

__all__ = ["answer", "cluster"]


def answer(scheduler: Scheduler, ask: wire.Ask, owner: str) -> wire.Answer | wire.Found | wire.Rejected:
    """Return the answer to a question about runs and elements; ``owner`` is the key of who asks."""
    unknown = wire.Rejected(
        "unknown",
        f"the hub has no run or task {ask.text or ask.run.hex()!r}: it is mistyped, of another hub, or was "
        "forgotten (results are kept for result_expires seconds)",
        request=ask.request,
    )
    match ask.what:
        case "runs":
            rows = queries.runs(scheduler, ask.text, owner if ask.mine else "", ask.limit)
            return wire.Answer(ask.request, len(rows), runs=rows)
        case "tasks":
            found = queries.tasks(scheduler, ask.text, ask.state, ask.limit)
            return wire.Answer(ask.request, len(found), elements=found)
        case "find":
            place = queries.find(scheduler, ask.text)
            if place is None:
                return unknown
            run, node, index = place
            return wire.Found(ask.request, run.id, run.graph, run.at_s, node, index)
    known = scheduler.ledger.by_id.get(ask.run)
    if known is None:
        return unknown
    if ask.what == "nodes":
        return wire.Answer(ask.request, nodes=[queries.count_states([node]) for node in known.nodes])
    if ask.node >= len(known.nodes) or ask.index >= known.nodes[ask.node].spec.size:
        return unknown
    view = queries.element(known, ask.node, ask.index, scheduler.ledger.fleet)
    shown = queries.note(known, ask.node, ask.index)
    return wire.Answer(ask.request, 1, elements=[view], note=shown)


def cluster(
    scheduler: Scheduler, about: dict[str, str | int | float], rss: dict[bytes, int], now: Now
) -> ClusterView:
    """Return the whole hub for people.

    Args:
        scheduler: The hub's.
        about: What the hub says of itself.
        rss: Resident memory of engines in bytes, by their ids.
        now: The time.
    """
    ledger = scheduler.ledger
    counts = {"runs": len(ledger.runs), "unfinished": ledger.left, "bytes": ledger.weight}
    return ClusterView(
        {**about, **counts},
        queries.engines(scheduler, now, rss),
        queries.queues(scheduler),
        queries.totals(ledger),
    )
