"""Why an element, group or run is where it is: reasons, the most important first. Changes nothing.

An element that waits for others waits, in the end, for one that does not: that one is explained
too, however long the way is. What could be much to look at is looked at up to a bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from msgspec import Struct

from nbq.core.facts import Became, Ended, Inherited, Settled
from nbq.core.fleet import HORIZON_S, Engine
from nbq.core.following import due_s, expiry_s
from nbq.core.ids import element_text, parse_list_id
from nbq.core.model import NONE, Item, Nested, NodeSpec, Now, On, Slice, State
from nbq.core.queries import count_states, find, shown_state, shown_task
from nbq.core.runs import Node, Run
from nbq.core.scheduler import Scheduler
from nbq.core.views import Reason
from nbq.core.words import instant_text, joined, span_text

__all__ = ["explain"]

_NAMED = 3
"""So many of several tasks or engines are named."""
_LOOKS = 5_000
"""Ranges before an element in its queue."""
_ITEMS = 50_000
"""Of a list, with those of the lists in it."""
_STEPS = 50_000
"""From an element to the one before it in a chain."""
_TURNS = 1000
"""From a chain to the group that it waits for, and on."""
_SILENT_S = 3.0
"""An engine says something every second."""
_LIVING = [state for state in State if state < State.SUCCESS]


class _Place(Struct, frozen=True):
    """An element."""

    run: Run
    node: Node
    index: int

    @property
    def id(self) -> str:
        return self.node.spec.ids.get(self.index) or element_text(self.run.id, self.node.number, self.index)

    @property
    def name(self) -> str:
        return f"{shown_task(self.node.spec)} ({self.id})"

    @property
    def state(self) -> State:
        return State(self.node.state[self.index])


class _Why(Struct, frozen=True):
    """A reason without its subject, and the element that is behind it, if it is another."""

    code: str
    predicate: str
    refs: list[str] = []
    behind: _Place | None = None


def explain(scheduler: Scheduler, text: str, now: Now) -> list[Reason] | None:
    """Return why what an id names is where it is, the most important first; None if it names nothing.

    Args:
        scheduler: The hub's.
        text: The id of a task, a run, or a group of a run.
        now: The time.
    """
    listed = parse_list_id(text)
    if listed is not None:
        run = scheduler.ledger.by_id.get(listed[0])
        if run is None or listed[1] >= len(run.lists):
            return None
        return _Explainer(scheduler, now).group(run, listed[1])
    found = find(scheduler, text)
    if found is None:
        return None
    run, node, index = found
    explainer = _Explainer(scheduler, now)
    return explainer.whole(run) if node == NONE else explainer.element(_Place(run, run.nodes[node], index))


class _Explainer:
    """Explains at one moment."""

    def __init__(self, scheduler: Scheduler, now: Now) -> None:
        self._scheduler = scheduler
        self._ledger = scheduler.ledger
        self._fleet = scheduler.ledger.fleet
        self._now = now

    # -------------------------------------------------------------- what is asked about

    def element(self, place: _Place) -> list[Reason]:
        """Return why an element is where it is."""
        whys = self._of(place)
        reasons = [_reason("It", why) for why in whys]
        reasons += self._root(whys[0].behind)
        expires_s = expiry_s(place.run, place.node.spec)
        if expires_s is not None and place.state < State.LEASED and not self._replaced(place):
            predicate = f"expires {self._at(expires_s)}, if it has not started by then"
            reasons.append(_reason("It", _Why("expires", predicate)))
        return reasons

    def whole(self, run: Run) -> list[Reason]:
        """Return how far a run is, and what its value waits for."""
        reasons = [_reason("The run:", _Why("run", _progress(count_states(run.nodes))))]
        value = run.graph.value
        first = self._first(run, value) if value is not None else None
        if first is None and run.left:
            opened = (_first_open(node, 0, node.spec.size) for node in run.nodes)
            places = (_Place(run, run.nodes[n], at) for n, at in enumerate(opened) if at != NONE)
            first = next(places, None)
        return reasons + self._root(first)

    def group(self, run: Run, number: int) -> list[Reason]:
        """Return how far a group of a run is, and what it waits for."""
        predicate, refs, first = self._members(run, number)
        return [_reason("The group:", _Why("members", predicate, refs)), *self._root(first)]

    def _root(self, place: _Place | None) -> list[Reason]:
        """Return why the element is where it is that another, in the end, waits for."""
        if place is None:
            return []
        place = _first_in_chain(place)
        whys = self._of(place)
        for _ in range(_TURNS):
            behind = whys[0].behind
            if behind is None:
                break
            place = _first_in_chain(behind)
            whys = self._of(place)
        return [_reason(place.name, why) for why in whys]

    # -------------------------------------------------------------- by state

    def _of(self, place: _Place) -> list[_Why]:
        match place.state:
            case State.WAITING:
                return [self._waiting(place)]
            case State.SCHEDULED:
                at_s = due_s(place.run, place.node, place.index)
                by = "eta" if place.node.spec.options.eta_s == at_s else "countdown"
                return [_Why("scheduled", f"is to start {self._at(at_s)}, by its {by}")]
            case State.RETRY:
                return [self._retry(place)]
            case State.QUEUED:
                return self._queued(place)
            case State.LEASED | State.STARTED:
                return self._held(place)
            case _:
                return [self._ended(place)]

    def _ended(self, place: _Place) -> _Why:
        if place.state == State.SKIPPED:
            return _Why("skipped", "was not called for: it is a link or errback")
        fact = next(place.node.covering(place.index, place.index + 1))
        at = f"at {instant_text(fact.at_s)}" if fact.at_s else "with it"
        if isinstance(fact, Inherited):
            return self._inherited(place, at)
        if isinstance(fact, Became):
            return _Why("succeeded", f"succeeded {at}, as what it was replaced by did")
        if isinstance(fact, Ended):
            word = "failed" if place.state == State.FAILURE else "revoked"
            verb = "failed" if word == "failed" else "was revoked"
            return _Why(word, f"{verb} {at} ({fact.code}): {fact.text}")
        error = fact.errors.get(place.index, "")
        on = f"{at} on engine {fact.engine}"
        if place.state == State.SUCCESS:
            return _Why("succeeded", f"succeeded {on}", [fact.engine])
        if place.state == State.FAILURE:
            return _Why("failed", f"failed {on}{error and f': {error}'}", [fact.engine])
        return _Why("revoked", f"was revoked {on}, by itself{error and f': {error}'}", [fact.engine])

    def _inherited(self, place: _Place, at: str) -> _Why:
        verb = "failed" if place.state == State.FAILURE else "was revoked"
        found = place.run.root_cause(place.node.number, place.index)
        assert found is not None
        node, index, fact = found
        cause = _Place(place.run, place.run.nodes[node], index)
        text = fact.errors.get(index, "") if isinstance(fact, Settled) else ""
        text = fact.text if isinstance(fact, Ended) else text
        return _Why(
            "inherited", f"{verb} {at}, because {cause.name}, which it follows, {verb}{text and f': {text}'}",
            [cause.id],
        )  # fmt: skip

    def _retry(self, place: _Place) -> _Why:
        assert place.node.own is not None
        due = place.node.own.due[place.index]
        count = place.node.retries(place.index)
        which = f"retry {count}" if due.counted else "the next attempt"
        text = f", after: {due.text}" if due.text else ""
        return _Why(
            "retry", f"tries again {self._at(due_s(place.run, place.node, place.index))} ({which}){text}"
        )

    # -------------------------------------------------------------- waiting for others

    def _replaced(self, place: _Place) -> bool:
        own = place.node.own
        return own is not None and place.index in own.replaced

    def _waiting(self, place: _Place) -> _Why:
        run, node, spec = place.run, place.node, place.node.spec
        if self._replaced(place):
            replacement = node.sparse.replaced[place.index]
            size = sum(part.spec.size for part in run.nodes[replacement.first : replacement.stop])
            first = self._first(run, replacement.value)
            predicate = f"was replaced by a canvas of {_tasks(size)}, and ends as that does"
            return _Why("replaced", predicate, [] if first is None else [first.id], first)
        if spec.after_list != NONE and self._awaits_list(run, spec):
            predicate, refs, first = self._members(run, spec.after_list)
            return _Why(
                "members", f"{_aside(spec, 'a group') or 'waits for a group'}: {predicate}", refs, first
            )
        if spec.after_node != NONE:
            before = run.nodes[spec.after_node]
            parent = _Place(run, before, 0 if before.spec.size == 1 else place.index)
            if parent.state < State.SUCCESS:
                predicate = _aside(spec, parent.name) or f"waits for {parent.name}"
                return _Why(
                    "parent", f"{predicate}, which is {shown_state(parent.state)}", [parent.id], parent
                )
        gate = self._gate(place)
        if gate is not None:
            predicate = f"waits until it is known whether {gate.name} succeeds, and so whose failure it was"
            return _Why("gate", predicate, [gate.id], gate)
        return _Why("deciding", "can go on; the hub is about to decide how")

    def _awaits_list(self, run: Run, spec: NodeSpec) -> bool:
        members = run.lists[spec.after_list]
        return members.left > 0 and (members.cause is None or spec.on == On.SETTLED)

    def _gate(self, place: _Place) -> _Place | None:
        """Return the element that has to end for it to be known whose failure it was."""
        run, spec = place.run, place.node.spec
        if spec.given_list != NONE and run.lists[spec.given_list].left:
            return self._first(run, Nested(spec.given_list))
        if spec.given_node == NONE:
            return None
        before = run.nodes[spec.given_node]
        gate = _Place(run, before, 0 if before.spec.size == 1 else place.index)
        return gate if gate.state < State.SUCCESS else None

    def _members(self, run: Run, number: int) -> tuple[str, list[str], _Place | None]:
        """Return how far a list is, the ids of some members that are missing, and the first of these."""
        items = run.graph.lists[number]
        size = run.lists[number].size
        ended = size - run.lists[number].left
        missing = list(islice(self._missing(run, items), _NAMED))
        text = f"{ended:,} of its {size:,} members {'has' if ended == 1 else 'have'} ended"
        if missing:
            names = [f"{place.name} is {shown_state(place.state)}" for place in missing]
            more = size - ended - len(missing)
            text += f"; {joined([*names, f'{more:,} more have not'] if more > 0 else names)}"
        return text, [place.id for place in missing], missing[0] if missing else None

    def _missing(self, run: Run, items: list[Item]) -> Iterator[_Place]:
        """Yield for each member that has not ended the first element that has not."""
        for item in islice(items, _ITEMS):
            if isinstance(item, Nested):
                place = self._first(run, item)
                if place is not None:
                    yield place
                continue
            node, at = run.nodes[item.node], item.lo
            while (at := _first_open(node, at, item.hi)) != NONE:
                yield _Place(run, node, at)
                at += 1

    def _first(self, run: Run, item: Slice | Nested) -> _Place | None:
        """Return the first element of an item that has not ended."""
        pending: list[Iterator[Item]] = [iter([item])]
        for _ in range(_ITEMS):
            if not pending:
                return None
            inner = next(pending[-1], None)
            if inner is None:
                pending.pop()
            elif isinstance(inner, Slice):
                at = _first_open(run.nodes[inner.node], inner.lo, inner.hi)
                if at != NONE:
                    return _Place(run, run.nodes[inner.node], at)
            elif run.lists[inner.number].left:
                pending.append(iter(run.graph.lists[inner.number]))
        return None

    # -------------------------------------------------------------- waiting for engines

    def _queued(self, place: _Place) -> list[_Why]:
        spec = place.node.spec
        queue = spec.options.queue
        found: list[_Why] = []
        if queue in self._ledger.paused:
            found.append(_Why("paused", f"waits because its queue {queue!r} is paused", [queue]))
        there = [engine for engine in self._fleet.engines.values() if engine.info is not None]
        here = [engine for engine in there if engine.info is not None and queue in engine.info.queues]
        serving = [engine for engine in here if engine.slots]
        if not serving:
            return [*found, self._unserved(queue, there, here)]
        rate = self._rated(place)
        if rate is not None:
            found.append(rate)
        knowing = [engine for engine in serving if engine.knows(spec.task)]
        if spec.bare_name and not knowing:
            predicate = f"is known by its name only, and no engine has said that it knows {spec.task!r}"
            found.append(_Why("unknown", predicate, [spec.task]))
        if found:
            return found
        return self._in_turn(place, knowing if spec.bare_name else serving)

    def _unserved(self, queue: str, there: list[Engine], here: list[Engine]) -> _Why:
        if here:
            states = [f"{_name(e)} {'is gone' if e.gone else 'finishes what it has and ends'}" for e in here]
            text = f"waits: of the engines that serve its queue {queue!r}, {joined(states[:_NAMED])}"
            return _Why("away", text, [_name(engine) for engine in here])
        queues = sorted({name for engine in there if engine.info is not None for name in engine.info.queues})
        names = [repr(name) for name in queues[:_NAMED]]
        text = f"the engines here serve {joined(names)}" if names else "there are no engines"
        return _Why("unserved", f"waits: no engine serves its queue {queue!r}; {text}", queues)

    def _rated(self, place: _Place) -> _Why | None:
        task = place.node.spec.task
        per_s = self._ledger.rate(place.node.spec)
        held = self._scheduler.held_back(place.run, place.node, place.index, self._now)
        if per_s is None or held is None:
            return None
        at = self._at(self._now.wall_s + held[0] + held[1] / per_s)
        return _Why(
            "rate", f"waits for the rate of {task!r}, {per_s:g} a second: its turn is {at} or so", [task]
        )

    def _in_turn(self, place: _Place, engines: list[Engine]) -> list[_Why]:
        """Return why one that could be granted is not."""
        spec = place.node.spec
        queue = self._scheduler.queues[spec.options.queue]
        ahead, all_seen = self._ahead(place)
        found: list[_Why] = []
        if ahead or not all_seen:
            count = f"{'' if all_seen else 'at least '}{_tasks(ahead)}"
            text = f"is behind {count} in queue {queue.name!r}, by priority and age"
            found.append(_Why("behind", text, [queue.name]))
        cost_s = self._fleet.cost_s(spec.function)
        room_s = max(cost_s, HORIZON_S) if self._ledger.rate(spec) else cost_s
        if all(engine.room(room_s) <= 0 for engine in engines):
            slots = sum(engine.slots for engine in engines)
            names = joined([_name(engine) for engine in engines[:_NAMED]])
            what = f"the slot of {names}, which is" if slots == 1 else f"a slot of {names}: all {slots:,} are"
            only = f"; nothing else knows {spec.task!r}" if spec.bare_name else ""
            text = f"waits for {what} busy{only}"
            found.append(_Why("busy", text, [_name(engine) for engine in engines]))
        return found or [_Why("ready", "is about to be granted")]

    def _ahead(self, place: _Place) -> tuple[int, bool]:
        """Return how many elements are before one in its queue, and whether all were looked at."""
        queue = self._scheduler.queues[place.node.spec.options.queue]
        count = 0
        for _, item in islice(queue.ranges(), _LOOKS):
            run = self._ledger.runs.get(item.run)
            if run is None:
                continue
            node, hi = run.nodes[item.node], item.hi
            mine = node is place.node and run is place.run and item.lo <= place.index < item.hi
            count += node.state.count(State.QUEUED, item.lo, place.index if mine else hi)
            if mine:
                return count, True
        return count, False

    def _held(self, place: _Place) -> list[_Why]:
        held = place.run.held(place.node, place.index, place.index + 1)
        lease = next(lease for lease in held if lease.covers(place.index, place.index + 1))
        engine = self._fleet.engines[lease.engine]
        ends_s = self._now.wall_s + max(0.0, engine.deadline_s - self._now.mono_s)
        if engine.info is None:
            text = (
                "was granted before the hub was started again: if its engine does not report it, it runs anew"
            )
            return [_Why("restarted", f"{text} {self._at(ends_s)}")]
        name = _name(engine)
        silent_s = self._now.mono_s - engine.heard_s
        away: list[_Why] = []
        if engine.gone or silent_s > _SILENT_S:
            how = "is not connected" if engine.gone else f"has not been heard for {span_text(silent_s)}"
            text = f"is held by engine {name}, which {how}: if it does not come back, it runs elsewhere"
            away.append(_Why("silent", f"{text} {self._at(ends_s)}", [name]))
        since_s = max(0.0, self._now.mono_s - lease.at_s)
        if place.state == State.STARTED:
            attempt = place.node.started(place.index)
            nth = f", attempt {attempt}" if attempt > 1 else ""
            text = f"runs on engine {name}{nth}; it was granted {span_text(since_s)} ago"
            return [*away, _Why("running", text, [name])]
        return [*away, self._granted(engine, since_s)]

    def _granted(self, engine: Engine, since_s: float) -> _Why:
        running: list[_Place] = []
        for lease in engine.leases.values():
            node = lease.run.nodes[lease.node]
            at = node.state.find(State.STARTED, lease.lo, lease.hi)
            if at >= 0 and len(running) < _NAMED and lease.covers(at, at + 1):
                running.append(_Place(lease.run, node, at))
        behind = f", behind {joined([place.name for place in running])}" if running else ""
        since = span_text(since_s)
        text = f"was granted to engine {_name(engine)} {since} ago and waits there for a slot{behind}"
        return _Why("granted", text, [_name(engine), *(place.id for place in running)])

    def _at(self, at_s: float) -> str:
        left_s = at_s - self._now.wall_s
        return (
            f"at {instant_text(at_s)} (in {span_text(left_s)})"
            if left_s > 0
            else f"at {instant_text(at_s)} (now)"
        )


# ------------------------------------------------------------------ words


def _reason(subject: str, why: _Why) -> Reason:
    return Reason(why.code, f"{subject} {why.predicate}.", why.refs)


def _progress(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    ended = sum(counts.get(state.name, 0) for state in State if state >= State.SUCCESS)
    states = joined([f"{count:,} {name}" for name, count in counts.items()])
    return f"{ended:,} of its {_tasks(total)} {'has' if ended == 1 else 'have'} ended ({states})"


def _aside(spec: NodeSpec, what: str) -> str:
    """Return what a link or errback waits for; nothing for what is neither."""
    if spec.on == On.LINK:
        return f"is a link, which runs when {what} has succeeded"
    if spec.on == On.FAILURE:
        return f"is an errback, which runs if {what} fails"
    return ""


def _tasks(count: int) -> str:
    return f"{count:,} task{'' if count == 1 else 's'}"


def _name(engine: Engine) -> str:
    return engine.info.name if engine.info is not None else engine.id.hex()


def _first_in_chain(place: _Place) -> _Place:
    """Return the element that one waits for, that one waits for, and so on, as far as each follows one."""
    run, node, index = place.run, place.node, place.index
    for _ in range(_STEPS):
        after = node.spec.after_node
        if node.state[index] != State.WAITING or after == NONE:
            break
        if node.own is not None and index in node.own.replaced:
            break
        before = run.nodes[after]
        at = 0 if before.spec.size == 1 else index
        if before.state[at] >= State.SUCCESS:
            break
        node, index = before, at
    return _Place(run, node, index)


def _first_open(node: Node, lo: int, hi: int) -> int:
    """Return the first element of a range that has not ended, or NONE."""
    if hi - lo == 1:
        return lo if node.state[lo] < State.SUCCESS else NONE
    if not node.left:
        return NONE
    return min((at for state in _LIVING if (at := node.state.find(state, lo, hi)) >= 0), default=NONE)
