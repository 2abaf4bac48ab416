"""What groups of results are made of: members of one run, or handles that were picked by hand.

Both say the same of themselves: how many there are, which elements they stand for, what those are worth.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from nbq.canvas.tree import EMPTY, Branch, Empty
from nbq.core.ids import element_text, list_text, run_text
from nbq.core.model import NONE, Nested, Slice, State
from nbq.core.queries import shown_state
from nbq.ends import Ends, Part
from nbq.errors import UsageError
from nbq.replica import Replica
from nbq.results import ENDED, AsyncResult, handle

if TYPE_CHECKING:
    from nbq.link import Link
    from nbq.resultsets import ResultSet

__all__ = ["DEPTH_LIMIT", "Members", "Picked", "first_bad", "is_task", "missing_text"]

DEPTH_LIMIT = 100
"""How deep sets may be nested in each other."""

_SUCCESS = int(State.SUCCESS)
_ASK_S = 30.0


class Members:
    """The members of a group of a run; each handle is made when it is asked for.

    Args:
        link: The client's connection.
        replica: What the client knows of the run.
        tree: The results of the group.
    """

    def __init__(self, link: Link, replica: Replica, tree: Branch | Empty) -> None:
        self.link = link
        self.replica = replica
        self.tree = tree
        self._slices = list(_slices(tree))

    @property
    def id(self) -> str:
        """Return the id of the run if this is its value, else one of this part of it."""
        value = self.link.graph(self.replica).value
        if isinstance(self.tree, Empty):
            whole = isinstance(value, Slice) and value.node == self.tree.node
            return run_text(self.replica.run) if whole else element_text(self.replica.run, self.tree.node, 0)
        if value == Nested(self.tree.number):
            return run_text(self.replica.run)
        return list_text(self.replica.run, self.tree.number)

    def __len__(self) -> int:
        """Return the number of members."""
        return 0 if isinstance(self.tree, Empty) else len(self.tree)

    def __getitem__(self, place: int) -> Any:
        """Return the handle of a member."""
        if isinstance(self.tree, Empty):
            raise IndexError(f"no member {place} of 0")
        return handle(self.link, self.replica, self.tree[place])

    def __iter__(self) -> Iterator[Any]:
        """Yield the handle of each member."""
        return (self[place] for place in range(len(self)))

    def parts(self) -> list[Part]:
        """Return the elements that the members stand for."""
        return [(self.replica, part) for part in self._slices]

    def values(self) -> list[Any]:
        """Return what all are worth, once they have ended."""
        return self._values(self.tree)

    def _values(self, tree: Branch | Empty) -> list[Any]:
        if isinstance(tree, Empty):
            return self._values_of(Slice(tree.node, 0, 1))[0]
        out: list[Any] = []
        for part in tree.parts:
            if isinstance(part, Slice):
                out += self._values_of(part)
            else:
                out.append(self._values(part))
        return out

    def _values_of(self, part: Slice) -> list[Any]:
        if not self.replica.node(part.node).bad:
            return self.replica.values(part.node, part.lo, part.hi)
        return [
            AsyncResult(self.link, self.replica, part.node, index).get(0, propagate=False)
            for index in range(part.lo, part.hi)
        ]

    def states(self) -> dict[str, int]:
        """Return how many elements are in each state, as the hub has it now."""
        nodes = sorted({part.node for part in self._slices})
        if any(self.replica.node(number).left for number in nodes):
            return self.link.counts(self.replica, nodes)
        return _known_states(self.parts())

    def cancel(self) -> int:
        """Stop every task that has not ended (of the value of a run: everything); returns how many."""
        value = self.link.graph(self.replica).value
        if isinstance(self.tree, Branch) and value == Nested(self.tree.number):
            return self.link.cancel(self.replica, NONE, 0, 0)
        return sum(self.link.cancel(self.replica, part.node, part.lo, part.hi) for part in self._slices)


def _slices(tree: Branch | Empty) -> Iterator[Slice]:
    if isinstance(tree, Empty):
        yield Slice(tree.node, 0, 1)
        return
    for part in tree.parts:
        if isinstance(part, Slice):
            yield part
        else:
            yield from _slices(part)


class Picked:
    """Handles that were picked by hand, each once, in the order in which they came; of one client."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self._results: dict[AsyncResult | ResultSet, None] = {}
        self._places: list[AsyncResult | ResultSet] | None = []
        """The same as a list; None when that is to be made again."""

    def add(self, result: AsyncResult | ResultSet) -> None:
        """Take in a handle, unless it is here.

        Raises:
            UsageError: It is no handle, or of another client.
        """
        if isinstance(result, AsyncResult):
            link: Link | None = result._link
        elif isinstance(found := getattr(result, "_members", None), Members | Picked):
            link = found.link
            if found is self or (isinstance(found, Picked) and found.depth() >= DEPTH_LIMIT):
                raise UsageError(f"results are nested in a circle, or more than {DEPTH_LIMIT} deep")
        else:
            raise UsageError(
                f"a set of results cannot hold {result!r}: it takes AsyncResults and GroupResults"
            )
        if self.link is not None and link is not None and link is not self.link:
            raise UsageError("results of two clients cannot be waited for together: use client.result(id)")
        self.link = self.link or link
        if result not in self._results:
            self._results[result] = None
            if self._places is not None:
                self._places.append(result)

    def remove(self, result: AsyncResult | ResultSet | str) -> bool:
        """Take out a handle, by itself or its id; returns whether it was here."""
        found = (
            next((one for one in self._results if one == result), None) if isinstance(result, str) else result
        )
        if found is None or found not in self._results:
            return False
        del self._results[found]
        self._places = None
        return True

    def clear(self) -> None:
        """Take out all."""
        self._results.clear()
        self._places = []
        self.link = None

    def depth(self) -> int:
        """Return how deep sets are nested in this one."""
        inner = [one._members for one in self._results if not isinstance(one, AsyncResult)]
        return 1 + max((one.depth() if isinstance(one, Picked) else 1 for one in inner), default=0)

    @property
    def places(self) -> list[Any]:
        """Return the handles."""
        if self._places is None:
            self._places = list(self._results)
        return self._places

    def __len__(self) -> int:
        """Return the number of members."""
        return len(self._results)

    def __getitem__(self, place: int) -> Any:
        """Return a member."""
        return self.places[place]

    def __iter__(self) -> Iterator[Any]:
        """Yield each member."""
        return iter(self.places)

    def parts(self) -> list[Part]:
        """Return the elements that the members stand for, neighbours together."""
        found: list[Part] = []
        for one in self.places:
            if not isinstance(one, AsyncResult):
                found += one._members.parts()
                continue
            if found and found[-1][0] is one._replica:
                replica, last = found[-1]
                if last.node == one.node and last.hi == one.index:
                    found[-1] = replica, Slice(one.node, last.lo, last.hi + 1)
                    continue
            found.append((one._replica, Slice(one.node, one.index, one.index + 1)))
        return found

    def values(self) -> list[Any]:
        """Return what all are worth, once they have ended."""
        return [
            one.get(0, propagate=False) if isinstance(one, AsyncResult) else one._members.values()
            for one in self.places
        ]

    def states(self) -> dict[str, int]:
        """Return how many elements are in each state; QUEUED stands for all that have not ended."""
        parts = self.parts()
        nodes: dict[bytes, set[int]] = {}
        for replica, part in parts:
            nodes.setdefault(replica.run, set()).add(part.node)
        with Ends(self.link, parts) as ends:
            for run, replica in ends.replicas.items():
                if self.link is not None and not ends.over(run):
                    _catch_up(self.link, replica, nodes[run])
        return _known_states(parts)

    def cancel(self) -> int:
        """Stop every task that has not ended; returns how many."""
        count = 0
        for one in self.places:
            if not isinstance(one, AsyncResult):
                count += one._members.cancel()
        single = Picked()
        for one in self.places:
            if isinstance(one, AsyncResult):
                single.add(one)
        for replica, part in single.parts():
            assert self.link is not None
            if self.link.graph(replica).value == part:
                count += self.link.cancel(replica, NONE, 0, 0)
            else:
                count += self.link.cancel(replica, part.node, part.lo, part.hi)
        return count


def _catch_up(link: Link, replica: Replica, nodes: set[int]) -> None:
    """Wait until as many ends of nodes are known here as the hub has now."""
    rows = link.rows(replica)
    ended = {number: sum(rows[number].get(name, 0) for name in ENDED) for number in nodes}

    def known() -> bool:
        found = {number: replica.node(number) for number in nodes}
        return all(len(node.state) - node.left >= ended[number] for number, node in found.items())

    link.wait(replica, known, _ASK_S)


def _known_states(parts: Iterable[Part]) -> dict[str, int]:
    """Return how many elements are known to be in each state; what is not known to have ended is QUEUED."""
    counts: dict[str, int] = {}
    for replica, part in parts:
        state = replica.node(part.node).state
        for value in (0, *range(_SUCCESS, len(State))):
            count = state.count(value, part.lo, part.hi)
            if count:
                name = shown_state(value) if value else State.QUEUED.name
                counts[name] = counts.get(name, 0) + count
    return counts


def first_bad(parts: Iterable[Part]) -> tuple[Replica, int, int] | None:
    """Return the first element, in their order, that is known not to have succeeded."""
    for replica, part in parts:
        node = replica.node(part.node)
        if node.bad:
            rest = node.state[part.lo : part.hi].lstrip(bytes((0, _SUCCESS)))
            if rest:
                return replica, part.node, part.hi - len(rest)
    return None


def missing_text(members: Members | Picked, own: str, left: int, waited_s: float | None) -> str:
    """Return what to say of members that have not ended: how many, and why the first has not."""
    parts = members.parts()
    text = f"{left} of {sum(part.hi - part.lo for _, part in parts)} tasks of {own} have not ended"
    for replica, part in parts:
        at = replica.node(part.node).state.find(0, part.lo, part.hi)
        if at >= 0 and members.link is not None:
            first = replica.id_of(part.node, at)
            why = members.link.why(first, waited_s)
            return f"{text}; the first is {first}{why}" if why else text
    return text


def is_task(replica: Replica, node: int) -> bool:
    """Return whether a node is work, and does not stand for a group without members."""
    return replica.graph is None or replica.graph.nodes[node].task != EMPTY
