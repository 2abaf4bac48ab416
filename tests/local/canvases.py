"""Random canvases on a cluster in this process: what comes of them is what ``judge`` says.

    python -m tests.local.canvases --seeds 3000 [--first 0] [--faults]

A seed that fails is printed, and leads to the same canvas and the same steps when it is given as ``--first``.
"""

from __future__ import annotations

import argparse
from collections import Counter
from random import Random

from nbq import signals
from nbq.canvas import EMPTY, Canvas, Signature, chain, chord, group
from nbq.canvas.shapes import is_nothing
from nbq.core.model import State
from nbq.core.queries import shown_state
from nbq.local import LocalCluster
from nbq.testing import ClusterUnderTest
from tests.conformance.canvas.interpreter import failures, unrolled
from tests.conformance.canvas.tasks import become, fail, show
from tests.local.judge import Judge, plain
from tests.local.work import add_members, again_with, auto, give_up, mark, marked, stubborn

DEPTH = 5
TASKS = 200


class Maker:
    """Makes canvases of at most so many tasks together."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.left = self.rng.choice((10, 40, TASKS))
        self._hanging = self.rng.choice((0.0, 0.1, 0.3))
        self._names = 0

    def dressed(self, depth: int) -> Canvas:
        """Return a canvas with links and errbacks."""
        canvas = self._canvas(depth)
        self._dress(canvas, False)
        return canvas

    def _canvas(self, depth: int) -> Canvas:
        kind = self.rng.choice(("task", "group", "chain", "chord", "settled", "or")) if depth else "task"
        if kind == "task" or self.left < 2:
            return self._signature(depth)
        if kind == "or":
            return self._canvas(depth - 1) | self._canvas(depth - 1)
        parts = [self._canvas(depth - 1) for _ in range(min(self.rng.randint(0, 4), self.left))]
        if kind == "group":
            return group(parts)
        if kind == "chain":
            return chain(parts) if parts else self._signature(depth)
        return chord(parts, self._canvas(depth - 1), propagate=kind == "chord")

    def _signature(self, depth: int) -> Signature:
        self.left -= 1
        rng = self.rng
        draw, number = rng.random(), rng.randrange(10**6)
        if draw < 0.07:
            return rng.choice((fail.si(number), give_up.si(number)))
        if draw < 0.17:
            retried = rng.choice((stubborn, auto))
            return rng.choice((retried.si(rng.randint(0, 3), number), again_with.s(number)))
        if draw < 0.23 and depth:
            return become.si(self.dressed(depth - 1).to_dict())
        if draw < 0.31 and depth:
            return add_members.s([self.dressed(depth - 1).to_dict() for _ in range(rng.randint(0, 2))])
        args = [rng.randrange(3) for _ in range(rng.randint(0, 2))]
        return show.signature(args, immutable=rng.random() < 0.4)

    def _dress(self, canvas: Canvas, in_group: bool) -> None:
        """Let links and errbacks hang on a canvas and its parts."""
        if not is_nothing(canvas) and (
            not isinstance(canvas, group) or (unrolled(canvas, ()) and not in_group)
        ):
            if self.rng.random() < self._hanging:
                canvas.link(self._callback())
            if self.rng.random() < self._hanging:
                canvas.link_error(self._errback())
        for part in canvas.members():
            self._dress(part, isinstance(canvas, group))

    def _name(self) -> str:
        self._names += 1
        return f"name {self._names}"

    def _callback(self) -> Canvas:
        first = mark.s(self._name())
        draw = self.rng.random()
        if draw < 0.1:
            return first | mark.s(self._name())
        if draw < 0.2:
            return fail.si(0).on_error(self._errback())
        return first if draw < 0.3 else group(first, mark.si(self._name()))

    def _errback(self) -> Canvas:
        return mark.si(self._name())


class Unsteady(LocalCluster):
    """A cluster in which it is random who goes on next, and how much of what was said is heard at a time."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        super().__init__(slots=rng.randint(1, 3))

    def exchange(self) -> bool:
        """Let some hear some of what there is; returns whether there was anything."""
        before = self.loopback.count
        for link in list(self._links):
            link.turn()
        heard = self.loopback.inbox
        if heard and self._rng.random() < 0.7:
            until = self._rng.randint(1, len(heard))
            self.loopback.inbox = heard[:until]
            self.hub.turn(0.0)
            self.loopback.inbox[:0] = heard[until:]
            self._unsettled = 1
        for engine in self._rng.sample(self.engines, len(self.engines)):
            if engine.has_news and self._rng.random() < 0.7:
                engine.turn()
        waiting = bool(self.loopback.inbox) or any(engine.has_news for engine in self.engines)
        return self.loopback.count > before or waiting

    def finish(self, run: bytes) -> None:
        """Let a run come to its end; it may not have been heard of yet."""
        while run not in self.hub.scheduler.ledger.by_id:
            self.exchange()
        super().finish(run)


class Shaken(ClusterUnderTest):
    """A cluster that loses slots and engines while tasks run, each task at most once."""

    def __init__(self, seed: int) -> None:
        self._rng = Random(seed)
        self.cluster = Unsteady(self._rng)
        self.calls = []
        self._often = self._rng.choice((0.02, 0.1, 0.3))
        self._harmed: set[str] = set()

    def shake(self, event: signals.TaskPrerun | signals.TaskPostrun) -> None:
        """Lose something, perhaps: before a task has done anything, or when it has done all."""
        if self._rng.random() > self._often or event.task_id in self._harmed:
            return
        self._harmed.add(event.task_id)
        match self._rng.randrange(4):
            case 0:
                self.lose_engine()
            case 1:
                self.add_engine(self._rng.randint(1, 2))
            case _:
                self.lose_slot()


def check(under_test: ClusterUnderTest, seed: int, *, often: bool = False) -> None:
    """Run the canvas of a seed, and compare what comes of it.

    Args:
        under_test: Where it runs.
        seed: Which canvas.
        often: Whether tasks may be run more often than once, since something is lost.
    """
    canvas = Maker(seed).dressed(DEPTH)
    judge = Judge()
    expected = judge.evaluate(canvas).value
    bad = failures(expected)
    marked.clear()
    ran = under_test.run(canvas)
    if bad:
        assert ran.error in bad, f"seed {seed}: {ran.error!r} is none of {bad}"
        assert ran.value is None, f"seed {seed}"
    else:
        assert ran.error is None, f"seed {seed}: {ran.error!r}"
        assert plain(expected) == ran.value, f"seed {seed}"
    calls = Counter({name: len(set(ids) if often else ids) for name, ids in marked.items()})
    assert calls == judge.told, f"seed {seed}: links and errbacks were called otherwise"
    _check_hub(under_test, judge, seed)
    assert (ran.result.failed(), ran.result.successful()) == (bool(bad), not bad), f"seed {seed}"


def _check_hub(under_test: ClusterUnderTest, judge: Judge, seed: int) -> None:
    """Compare the states of all tasks, and find nothing that is left over."""
    scheduler = under_test.cluster.hub.scheduler
    run = scheduler.ledger.by_id[under_test.client._local_link.latest]
    states = Counter(
        shown_state(state)
        for node in run.nodes
        for state in node.state
        if node.spec.task != EMPTY and state != State.SKIPPED
    )
    assert states == judge.states, f"seed {seed}: tasks ended otherwise"
    queued = {queue.name: queue.queued for queue in scheduler.queues.values() if queue.queued}
    assert (scheduler.ledger.left, run.left, run.leases, queued) == (0, 0, {}, {}), f"seed {seed}"


def check_shaken(seed: int) -> None:
    """Run the canvas of a seed where slots and engines are lost."""
    under_test = Shaken(seed)
    moments = (signals.task_prerun, signals.task_postrun)
    for moment in moments:
        moment.connect(under_test.shake)
    try:
        with under_test.cluster:
            check(under_test, seed, often=True)
    finally:
        for moment in moments:
            moment.disconnect(under_test.shake)


def main() -> None:
    """Check as many seeds as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--faults", action="store_true", help="lose slots and engines")
    asked = parser.parse_args()
    failed: list[int] = []
    for seed in range(asked.first, asked.first + asked.seeds):
        try:
            if asked.faults:
                check_shaken(seed)
            else:
                under_test = ClusterUnderTest(slots=2)
                with under_test.cluster:
                    check(under_test, seed)
        except Exception as error:  # whatever it is, the other seeds are wanted too
            failed.append(seed)
            print(f"seed {seed}: {type(error).__name__}: {str(error)[:1000]}", flush=True)
    print(f"{asked.seeds} seeds, {len(failed)} failed: {failed}")
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
