"""What a canvas gives, how its tasks end, and how often each of its links and errbacks is called.

As the interpreter of the conformance tests, without any graph, but for all that may hang on canvases and
for what tasks add to them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from nbq.canvas import Canvas, Signature, chain, chord, group, signature
from nbq.canvas.shapes import is_nothing
from tests.conformance.canvas.interpreter import Failed, Many, Prefix, failures, own, unrolled
from tests.conformance.canvas.tasks import ExpectedError, become, fail
from tests.local.work import add_members, again_with, auto, give_up, mark, stubborn

Broken = frozenset[Any]


class Grown(Many):
    """The values of a header; those that were added to it follow in any order."""

    sure = 0


class Ended(NamedTuple):
    """The value of a canvas, and how often an errback that hangs on it is called."""

    value: Any
    errors: int


class Allowed:
    """An exception in the place of a value: equal to each of those that it may be."""

    def __init__(self, allowed: Broken) -> None:
        self.allowed = allowed

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BaseException) and other in self.allowed

    __hash__ = None  # type: ignore[assignment]


class AnyOrder(list[Any]):
    """A list whose first items have their places, and its others any."""

    def __init__(self, items: list[Any], sure: int) -> None:
        super().__init__(items)
        self.sure = sure

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list) or len(self) != len(other):
            return False
        first = list(self[: self.sure]) == list(other[: self.sure])
        return first and _match(list(self[self.sure :]), list(other[self.sure :]))

    __hash__ = None  # type: ignore[assignment]


def _match(items: list[Any], others: list[Any]) -> bool:
    """Return whether each item equals another one of the others."""
    return not items or any(
        items[0] == other and _match(items[1:], others[:place] + others[place + 1 :])
        for place, other in enumerate(others)
    )


def plain(value: Any) -> Any:
    """Return a value as a task gets it, exceptions in their places."""
    if isinstance(value, Grown):
        return AnyOrder([plain(inner) for inner in value], value.sure)
    if isinstance(value, Many):
        return [plain(inner) for inner in value]
    return Allowed(value.allowed) if isinstance(value, Failed) else value


class Judge:
    """Evaluates canvases."""

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()
        """How often what hangs on canvases is called, by name."""
        self.states: Counter[str] = Counter()
        """How many tasks end how."""
        self._added: list[list[Any] | None] = [None]
        """By header, from the outermost in: what its members added. None outside of any."""

    def evaluate(
        self, canvas: Canvas, prefix: Prefix = (), broken: Broken = frozenset(), so_far: Any = None,
        followed: bool = False,
    ) -> Ended:  # fmt: skip
        """Return how a canvas ends that follows ``prefix``.

        Args:
            canvas: The canvas.
            prefix: What is put before its arguments.
            broken: What failed before it.
            so_far: The value of the chain in which it is a chain.
            followed: Whether it is a chain in a chain, or a group, and something follows it.
        """
        mine = own(canvas, prefix)
        match canvas:
            case Signature():
                ended = self._signature(canvas, mine, broken)
            case group():
                ended = self._group(canvas, mine, broken, followed)
            case chord():
                ended = self._chord(canvas, mine, broken)
            case chain():
                ended = self._chain(canvas, mine, broken, so_far, followed)
            case _:
                raise AssertionError(canvas)
        self._hang(canvas, ended, broken)
        return ended

    def _hang(self, canvas: Canvas, ended: Ended, broken: Broken) -> None:
        """Call what hangs on a canvas."""
        self._added.append(None)
        for link in canvas.options.get("link", []):
            if not broken and not failures(ended.value):
                self.evaluate(link, (ended.value,))
        for errback in canvas.options.get("link_error", []):
            for _ in range(ended.errors):
                self.evaluate(errback)
        self._added.pop()

    def _signature(self, canvas: Signature, mine: Prefix, broken: Broken) -> Ended:
        value = Failed(broken) if broken else self._call(canvas.task, [plain(arg) for arg in mine])
        failed = isinstance(value, Failed)
        self.states["FAILURE" if failed else "SUCCESS"] += 1
        return Ended(value, int(failed and not broken))

    def _call(self, name: str, args: list[Any]) -> Any:
        """Return what a task gives."""
        if name == become.name:
            value = self.evaluate(signature(args[0])).value
            return Failed(failures(value)) if failures(value) else plain(value)
        if name == add_members.name:
            if self._added[-1] is not None:
                self._added[-1] += [self.evaluate(signature(data)).value for data in args[-1]]
            return len(args)
        if name in (fail.name, give_up.name):
            return Failed(frozenset([ExpectedError(args[-1])]))
        if name == mark.name:
            self.told[args[-1]] += 1
            return args[-1]
        if name in (stubborn.name, auto.name):
            return args[1:]
        return ["again", args[-1]] if name == again_with.name else [args, {}]

    def _group(self, canvas: group, mine: Prefix, broken: Broken, header: bool) -> Ended:
        members = unrolled(canvas, mine)
        if header:
            return self._header(members, broken)
        ends = [self.evaluate(member, given, broken) for member, given in members]
        values: Any = Many(end.value for end in ends)
        if not members and broken:
            return Ended(Failed(broken), 0)
        alone = len(members) == 1 and isinstance(members[0][0], chain | chord)
        if alone and isinstance(values[0], Many):
            values = values[0]
        return Ended(values, sum(end.errors for end in ends))

    def _header(self, members: list[tuple[Canvas, Prefix]], broken: Broken, joins: bool = True) -> Ended:
        """Return how a header ends; its errors are those of its members. They add some if a body joins it."""
        added: list[Any] = []
        self._added.append(added if joins else self._added[-1])
        ends = [self.evaluate(member, given, broken) for member, given in members]
        self._added.pop()
        values = Grown([end.value for end in ends] + added)
        values.sure = len(ends)
        if not members and broken:
            return Ended(Failed(broken), 0)
        return Ended(values, sum(end.errors for end in ends))

    def _chord(self, canvas: chord, mine: Prefix, broken: Broken) -> Ended:
        assert canvas.body is not None
        joins = not isinstance(canvas.body, group) or bool(unrolled(canvas.body, ()))
        members = unrolled(canvas.header, own(canvas.header, mine))
        header = self._header(members, broken, joins)
        self._hang(canvas.header, header, broken)
        bad = failures(header.value)
        errors = int(bool(members and bad and not broken))
        if not joins:
            self._hang(canvas.body, header, broken)
            return Ended(header.value, errors)
        if not canvas.propagate:
            errors, bad = 0, broken
        body = self.evaluate(canvas.body, (header.value,), bad | broken)
        return Ended(body.value, errors + body.errors)

    def _chain(self, canvas: chain, given: Prefix, broken: Broken, value: Any, followed: bool) -> Ended:
        steps = [step for step in canvas.tasks if not is_nothing(step)]
        full = [n for n, step in enumerate(steps) if not isinstance(step, group) or unrolled(step, ())]
        errors = 0
        for number, step in enumerate(steps):
            follows = followed or number < max(full, default=-1)
            members = unrolled(step, own(step, given)) if isinstance(step, group) else [(step, given)]
            if len(members) == 1:
                alone, with_ = members[0]
                ended = self.evaluate(alone, with_, broken, value, follows and isinstance(alone, chain))
                if alone is not step:
                    self._hang(step, ended, broken)
            elif members or not isinstance(value, Many):
                ended = self.evaluate(step, given, broken, followed=follows and bool(members))
                if follows:  # once for the list, not for each member
                    ended = Ended(ended.value, int(bool(failures(ended.value)) and not broken))
            else:
                ended = Ended(value, 0)
                self._hang(step, ended, frozenset())
            value = ended.value
            errors += ended.errors
            given, broken = (value,), failures(value)
        return Ended(value, errors)
