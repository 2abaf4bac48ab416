"""The hub's answers to questions: from the scheduler's state to messages. Changes nothing."""

from __future__ import annotations

from difflib import get_close_matches

from nbq import wire
from nbq.core import queries
from nbq.core.explain import explain
from nbq.core.model import EngineInfo, Now
from nbq.core.runs import Run
from nbq.core.scheduler import Scheduler
from nbq.core.views import ClusterView

__all__ = ["answer", "cluster", "unfit_order"]


def answer(
    scheduler: Scheduler, ask: wire.Ask, owner: str, now: Now
) -> wire.Answer | wire.Found | wire.Rejected:
    """Return the answer to a question about runs and elements; ``owner`` is the key of who asks."""
    match ask.what:
        case "runs":
            rows, resume = queries.runs(scheduler, _wanted(ask, owner), ask.limit, ask.resume)
            return wire.Answer(ask.request, len(rows), runs=rows, resume=resume)
        case "tasks":
            found, resume = queries.tasks(scheduler, _wanted(ask, owner), ask.limit, ask.resume)
            return wire.Answer(ask.request, len(found), elements=found, resume=resume)
        case "explain":
            reasons = explain(scheduler, ask.text, now)
            return (
                _unknown(ask) if reasons is None else wire.Answer(ask.request, len(reasons), reasons=reasons)
            )
        case "find" | "run":
            place = queries.find(scheduler, ask.text)
            return _unknown(ask) if place is None else _found(ask, *place)
    return _of_run(scheduler, ask) or _unknown(ask)


def _found(ask: wire.Ask, run: Run, node: int, index: int) -> wire.Answer | wire.Found:
    if ask.what == "run":
        return wire.Answer(ask.request, 1, runs=[queries.row(run, node, index)])
    return wire.Found(ask.request, run.id, run.graph, run.at_s, node, index)


def _of_run(scheduler: Scheduler, ask: wire.Ask) -> wire.Answer | None:
    """Return the answer to a question about a run that is named by its id, if there is such a run."""
    run = scheduler.ledger.by_id.get(ask.run)
    if run is None:
        return None
    if ask.what == "nodes":
        return wire.Answer(ask.request, nodes=[queries.count_states([node]) for node in run.nodes])
    if ask.node >= len(run.nodes) or ask.index >= run.nodes[ask.node].spec.size:
        return None
    view = queries.element(run, ask.node, ask.index, scheduler.ledger.fleet)
    return wire.Answer(ask.request, 1, elements=[view], note=queries.note(run, ask.node, ask.index))


def _unknown(ask: wire.Ask) -> wire.Rejected:
    return wire.Rejected(
        "unknown",
        f"the hub has no run or task {ask.text or ask.run.hex()!r}: it is mistyped, of another hub, or was "
        "forgotten (results are kept for result_expires seconds)",
        request=ask.request,
    )


def _wanted(ask: wire.Ask, owner: str) -> queries.Wanted:
    return queries.Wanted(
        ask.text, ask.state, ask.queue, ask.label, ask.since_s, owner if ask.mine else "", ask.run
    )


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
        queries.totals(scheduler),
    )


def unfit_order(
    order: wire.SteerEngine, engines: list[EngineInfo], meant: list[EngineInfo]
) -> wire.Rejected | None:
    """Return why engines cannot be told something, or None.

    Args:
        order: What they are to be told.
        engines: All that are connected.
        meant: Those of the name.
    """
    request = order.request
    if not meant:
        names = sorted({info.name for info in engines})
        near = get_close_matches(order.engine, names, 3, 0.5) or names[:3]
        hint = f"; there is {' and '.join(near)}" if near else "; no engine is connected"
        what = (
            f"no engine named {order.engine!r} is connected" if order.engine else "there is none to be told"
        )
        return wire.Rejected("engine", what + hint, request=request)
    inside = [info.name for info in meant if not info.process]
    if order.verb in ("stop", "restart", "reload") and inside:
        text = f"engine {inside[0]!r} lives inside another process: it cannot {order.verb} by itself"
        return wire.Rejected("order", text, request=request)
    bounds = 1 <= order.least <= order.most and not order.slots
    if order.verb == "scale" and not bounds and (order.least or order.most or not order.slots):
        text = "an engine is scaled to a number of slots, or between two bounds, the lower of them at least 1"
        return wire.Rejected("order", text, request=request)
    return None
