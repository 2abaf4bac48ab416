"""A second opinion: what committed facts say, kept by the plainest means, and whether it may be so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nbq.core import facts as f
from nbq.core.facts import Became, Deferred, End, Ended, Extended, Inherited, Leased, Returned, Settled
from nbq.core.model import NONE, Nested, On, State
from nbq.core.runs import states_of
from tests.simulation.workload import Job, Violation, open_block

if TYPE_CHECKING:
    from tests.simulation.world import World

__all__ = ["Chronicle", "Story"]

Place = tuple[int, int]
"""Node and index of an element."""


class Story:
    """One run: how each element ended, and under which lease it is."""

    def __init__(self, job: Job, number: int, at_s: float) -> None:
        self.job = job
        self.number = number
        self.at_s = at_s
        self.ends: dict[Place, tuple[int, State, End]] = {}
        """Position in the order of ends, state, and fact."""
        self.leased: dict[Place, int] = {}
        self.deaths: dict[Place, int] = {}
        self.retries: dict[Place, int] = {}
        self.replaced: set[Place] = set()
        self.count = 0

    def state(self, place: Place) -> State | None:
        """Return how an element ended, or None."""
        found = self.ends.get(place)
        return found[1] if found is not None else None

    def gate(self, place: Place) -> State | None:
        """Return how what an element is given ended: None if it is given nothing."""
        spec = self.job.nodes[place[0]]
        if spec.given_node == NONE:
            return None
        single = self.job.nodes[spec.given_node].size == 1
        return self.state((spec.given_node, 0 if single else place[1])) or State.WAITING

    def root(self, place: Place) -> Place:
        """Return the element that an ended element's end goes back to."""
        fact = self.ends[place][2]
        while isinstance(fact, Inherited):
            place = fact.cause_node, place[1] if fact.cause_index == NONE else fact.cause_index
            fact = self.ends[place][2]
        return place


class Chronicle:
    """All runs, as committed facts tell of them. Checks each fact against those before it."""

    def __init__(self, world: World) -> None:
        self.stories: dict[int, Story] = {}
        self.by_id: dict[bytes, Story] = {}
        self.forgotten: dict[bytes, Story] = {}
        self.tokens: dict[int, tuple[bytes, int, int]] = {}
        """Engine, run and node of every lease there ever was."""
        self._world = world
        self._dropped: set[int] = set()
        self.paused: set[str] = set()
        """Queues of which nothing may be granted."""

    def take(self, facts: list[f.Fact]) -> None:
        """Take in the facts of one batch."""
        self._dropped = {fact.run for fact in facts if isinstance(fact, f.Forgotten)}
        for fact in facts:
            match fact:
                case f.Accepted():
                    self._accepted(fact)
                case Leased():
                    self._leased(fact)
                case Returned():
                    self._returned(fact)
                case Deferred():
                    self._deferred(fact)
                case Extended():
                    self._extended(fact)
                case Settled() | Ended() | Inherited() | Became():
                    self._ended(fact)
                case f.Forgotten():
                    self._forgotten(fact)
                case f.Steered():
                    self.paused = set(fact.paused)

    def _accepted(self, fact: f.Accepted) -> None:
        if fact.run in self.stories or fact.id in self.by_id:
            raise Violation("accepted once", f"run {fact.run} ({fact.id.hex()}) is accepted twice")
        if fact.origin is not None:
            self._world.made(fact.id, fact.origin, fact.graph)
        story = Story(self._world.jobs[fact.id], fact.run, fact.at_s)
        story.job.begin()
        for index, state in enumerate(fact.begin):
            if state == State.SKIPPED:  # another run has it
                end = Ended(fact.run, 0, index, index + 1, State.SKIPPED, "skipped", "", fact.at_s)
                story.ends[0, index] = 0, State.SKIPPED, end
        self.stories[fact.run] = self.by_id[fact.id] = story

    def _leased(self, fact: Leased) -> None:
        story = self.stories[fact.run]
        if fact.token in self.tokens:
            raise Violation("tokens", f"token {fact.token} is given twice")
        self.tokens[fact.token] = fact.engine, fact.run, fact.node
        if story.job.nodes[fact.node].options.queue in self.paused:
            raise Violation("paused", f"a lease of run {fact.run} is of a queue that is paused")
        for index in range(fact.lo, fact.hi):
            place = fact.node, index
            if place in story.ends:
                raise Violation("one end", f"{place} of run {fact.run} is leased, but has ended")
            if place in story.leased:
                raise Violation("one lease", f"{place} of run {fact.run} is leased twice")
            self._check_may_run(story, place)
            story.leased[place] = fact.token

    def _check_may_run(self, story: Story, place: Place) -> None:
        """What an element follows has become what it has to."""
        on = story.job.nodes[place[0]].on
        states = [story.state(parent) for parent in story.job.parents(*place)]
        if on == On.FAILURE:
            right = State.FAILURE in states and story.gate(place) in (None, State.SUCCESS)
        elif on == On.SETTLED:
            right = None not in states
        else:
            right = all(state == State.SUCCESS for state in states)
        if not right:
            raise Violation("after parents", f"{place} of run {story.number} runs on {states}")

    def _deferred(self, fact: Deferred) -> None:
        story = self.stories[fact.run]
        place = fact.node, fact.index
        if story.leased.pop(place, None) != fact.token:
            raise Violation("fencing", f"{place} of run {fact.run} asks again from a lease it is not in")
        story.retries[place] = story.retries.get(place, 0) + 1
        call = story.job.call(*place)
        if call.does != "again" or story.retries[place] > call.times:
            raise Violation("retries", f"{place} of run {fact.run} asked {story.retries[place]} times")

    def _extended(self, fact: Extended) -> None:
        story = self.stories[fact.run]
        place = fact.node, fact.index
        if story.leased.pop(place, None) != fact.token:
            raise Violation("fencing", f"{place} of run {fact.run} is replaced by a lease it is not in")
        if place in story.replaced or story.job.replacements[fact.scope].owner != place:
            raise Violation("replaced once", f"{place} of run {fact.run} is replaced twice, or by another's")
        story.replaced.add(place)
        story.job.extend(fact.scope)

    def _returned(self, fact: Returned) -> None:
        story = self.stories[fact.run]
        for index in range(fact.lo, fact.hi):
            place = fact.node, index
            if story.leased.pop(place, None) != fact.token:
                raise Violation(
                    "fencing", f"{place} of run {fact.run} is returned by a lease that it is not in"
                )
            if fact.charged:
                story.deaths[place] = story.deaths.get(place, 0) + 1
                if (fact.token, index) not in self._world.slot_deaths:
                    raise Violation(
                        "innocent", f"{place} of run {fact.run} is charged, but no slot died of it"
                    )

    def _ended(self, fact: End) -> None:
        story = self.stories[fact.run]
        states = states_of(fact)
        if len(states) != fact.hi - fact.lo or min(states) < State.SUCCESS:
            raise Violation("ends", f"{fact} has states {states!r}")
        for index in range(fact.lo, fact.hi):
            place = fact.node, index
            state = State(states[index - fact.lo])
            token = story.leased.pop(place, None)
            if place in story.ends:
                raise Violation("one end", f"{place} of run {fact.run} ends twice, as {state.name}")
            if isinstance(fact, Settled):
                self._check_settled(story, place, fact, token, state)
            elif isinstance(fact, Ended):
                self._check_ended(story, place, fact)
            elif isinstance(fact, Became):
                inside = [story.state(inner) for inner in story.job.inside(*place)]
                if token is not None or set(inside) != {State.SUCCESS}:
                    raise Violation(
                        "replaced", f"{place} of run {fact.run} ends, what replaced it is {inside}"
                    )
            else:
                self._check_inherited(story, place, fact, token)
            story.ends[place] = story.count, state, fact
        story.count += 1

    def _check_settled(
        self, story: Story, place: Place, fact: Settled, token: int | None, state: State
    ) -> None:
        if token != fact.token:
            raise Violation(
                "fencing", f"{place} of run {fact.run} is ended by lease {fact.token}, it is in {token}"
            )
        call = story.job.call(*place)
        if call.does == "again" and story.retries.get(place, 0) != call.times:
            raise Violation("retries", f"{place} of run {fact.run} ended before its retries")
        if state != story.job.natural(*place):
            raise Violation("outcome", f"{place} of run {fact.run} ended as {state.name}")
        if fact.block == NONE or fact.run in self._dropped:
            return
        data = self._world.disk.block(fact.run, fact.block)
        elements = open_block(data, *story.job.place(fact.node), fact.block_lo, fact.block_n)
        made, under = msgspec.msgpack.decode(elements[place[1] - fact.block_lo])
        if under != fact.token:
            raise Violation("fencing", f"{place} of run {fact.run} was made under {under}, not {fact.token}")
        if made != (call.text if state == State.FAILURE else story.job.value(*place)):
            raise Violation("value", f"{place} of run {fact.run} has the value {made!r}")

    def _check_ended(self, story: Story, place: Place, fact: Ended) -> None:
        options = story.job.nodes[place[0]].options
        if fact.code == "cancelled":
            inner = place[0] in story.job.scopes
            asked = story.job.cancelled if inner else story.job.cancelled & {place}
            right = fact.state == State.REVOKED and (bool(asked) or self._is_chosen(story, place))
        elif fact.code == "expired":
            right = fact.state == State.REVOKED and (
                (options.expires_s is not None and fact.at_s >= story.at_s + options.expires_s)
                or (options.expires_at_s is not None and fact.at_s >= options.expires_at_s)
            )
        elif fact.code == "skipped":
            right = fact.state == State.SKIPPED and self._may_be_skipped(story, place)
        else:
            right = fact.state == State.FAILURE and fact.code == "lost" and story.deaths.get(place) == 3
        if not right:
            raise Violation("ended why", f"{place} of run {fact.run} ended by {fact}, without a reason")

    def _is_chosen(self, story: Story, place: Place) -> bool:
        """Return whether somebody cancelled elements like this one, or like what it took the place of."""
        spec = story.job.nodes[place[0]]
        return any(
            place[0] in story.job.scopes or one.name == spec.task or one.queue == spec.options.queue
            for one in self._world.chosen
        )

    def _may_be_skipped(self, story: Story, place: Place) -> bool:
        """Return whether a link or errback is not called for (any more)."""
        spec = story.job.nodes[place[0]]
        states = [story.state(parent) for parent in story.job.parents(*place)]
        if State.SKIPPED in states or place in story.job.cancelled or self._is_chosen(story, place):
            return True
        if spec.on == On.LINK:
            return State.FAILURE in states or State.REVOKED in states
        gate = story.gate(place)
        wanted = State.FAILURE in states and gate in (None, State.SUCCESS) and State.REVOKED not in states
        return spec.on == On.FAILURE and not wanted

    def _check_inherited(self, story: Story, place: Place, fact: Inherited, token: int | None) -> None:
        if token is not None:
            raise Violation(
                "after parents", f"{place} of run {fact.run} was leased and then inherits its end"
            )
        spec = story.job.nodes[fact.node]
        cause = fact.cause_node, place[1] if fact.cause_index == NONE else fact.cause_index
        found = story.ends.get(cause)
        if found is None or found[1] in (State.SUCCESS, State.SKIPPED):
            raise Violation(
                "root cause", f"{place} of run {fact.run} is ended by {cause}, which did not fail"
            )
        if place in story.replaced:
            bad = [
                leaf for leaf in story.job.inside(*place) if story.state(leaf) not in (None, State.SUCCESS)
            ]
        elif spec.after_list != NONE:
            leaves = story.job.leaves(Nested(spec.after_list))
            bad = [leaf for leaf in leaves if story.state(leaf) not in (None, State.SUCCESS)]
        else:
            bad = [
                leaf for leaf in story.job.parents(*place) if story.state(leaf) not in (None, State.SUCCESS)
            ]
        if not bad:
            raise Violation("root cause", f"{place} of run {fact.run} inherits, but nothing before it failed")
        first = min(story.ends[leaf][0] for leaf in bad)
        causes = {story.root(leaf) for leaf in bad if story.ends[leaf][0] == first}
        if story.root(cause) not in causes:
            raise Violation("root cause", f"{place} of run {fact.run} names {cause}; it was one of {causes}")
        if fact.state != story.state(story.root(cause)):
            raise Violation("root cause", f"{place} of run {fact.run} ended as {fact.state}, unlike {cause}")

    def _forgotten(self, fact: f.Forgotten) -> None:
        story = self.stories.pop(fact.run)
        del self.by_id[story.job.run]
        self.forgotten[story.job.run] = story
        if len(story.ends) < sum(node.size for node in story.job.nodes):
            raise Violation("acked is kept", f"run {fact.run} is forgotten before it has finished")
