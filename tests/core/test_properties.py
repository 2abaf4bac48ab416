"""Random graphs under random events, crashes included: every element ends once, all counters are right."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from nbq.core import events as ev
from nbq.core.actions import Action, Disown, Grant, Interrupt, Recall
from nbq.core.graph import check_graph
from nbq.core.model import NONE, Graph, Item, Nested, NodeSpec, Slice, State
from nbq.core.runs import Run
from tests.core.harness import TERMINAL, Rig, blocks_of, durable, info, node

ENGINES = (b"a", b"b", b"c")
SUCCESS = bytes([State.SUCCESS])


def random_options(random: Random) -> dict:
    options: dict = {"queue": random.choice(["default", "default", "slow"]), "priority": random.randrange(3)}
    if random.random() < 0.1:
        options["countdown_s"] = random.choice([0.0, 2.0, 20.0])
    if random.random() < 0.1:
        options["expires_s"] = random.choice([1.0, 30.0])
    return options


def random_items(random: Random, nodes: list[NodeSpec], loose: list[Item]) -> list[Item]:
    """Take some of what is in no list yet, cut arrays in two and shuffle."""
    items: list[Item] = []
    for item in random.sample(loose, random.randint(1, len(loose))):
        loose.remove(item)
        if isinstance(item, Nested) or nodes[item.node].size == 1 or random.random() < 0.5:
            items.append(item)
        else:
            cut = random.randrange(1, item.hi)
            items += [Slice(item.node, 0, cut), Slice(item.node, cut, item.hi)]
    random.shuffle(items)
    return items


def random_graph(random: Random) -> Graph:
    nodes: list[NodeSpec] = []
    lists: list[list[Item]] = []
    loose: list[Item] = []
    for number in range(random.randint(1, 8)):
        after: dict = {}
        size = random.choice([1, 1, 2, 5])
        if nodes and random.random() < 0.6:
            parent = random.randrange(number)
            after = {"after_node": parent, "fed": random.random() < 0.5}
            size = size if nodes[parent].size == 1 else nodes[parent].size
        elif lists and random.random() < 0.8:
            after = {"after_list": random.randrange(len(lists)), "fed": random.random() < 0.5}
        shared = random.random() < 0.3
        nodes.append(node(random.choice("tuvw"), size, shared=shared, **after, **random_options(random)))
        loose.append(Slice(number, 0, size))
        if random.random() < 0.4:
            lists.append(random_items(random, nodes, loose))
            loose.append(Nested(len(lists) - 1))
    value = Nested(len(lists) - 1) if lists and random.random() < 0.5 else Slice(number, 0, 1)
    return Graph(nodes, lists, value)


def may_run(run: Run, number: int, index: int) -> bool:
    """Return whether all that an element follows has succeeded."""
    spec = run.nodes[number].spec
    if spec.after_list != NONE:
        return succeeded(run, Nested(spec.after_list))
    if spec.after_node == NONE:
        return True
    parent = run.nodes[spec.after_node].state
    return parent[0 if len(parent) == 1 else index] == State.SUCCESS


def succeeded(run: Run, item: Item) -> bool:
    if isinstance(item, Nested):
        return all(succeeded(run, inner) for inner in run.graph.lists[item.number])
    return not run.nodes[item.node].state[item.lo : item.hi].strip(SUCCESS)


class World:
    """A rig, and engines that do at random what engines may do."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.rig = Rig()
        self.grants: list[Grant] = []
        """Everything that was ever granted; engines answer for any of it, also too late."""
        self.ended: dict[tuple[int, int, int], int] = {}

    def step(self) -> None:
        self.random.choice(
            [
                self.submit,
                self.tick,
                self.tick,
                self.report,
                self.report,
                self.report,
                self.began,
                self.give,
                self.die,
                self.join,
                self.gone,
                self.leave,
                self.beat,
                self.cancel,
                self.forget,
                self.jump,
                self.restart,
            ]
        )()
        self.check()

    def check(self) -> None:
        """What has ended stays as it is; the facts alone give the same state."""
        for number, run in self.rig.scheduler.ledger.runs.items():
            for part in run.nodes:
                for index, state in enumerate(part.state):
                    if state in TERMINAL:
                        assert self.ended.setdefault((number, part.number, index), state) == state
        if self.random.random() < 0.2:
            assert durable(self.rig.twin()) == durable(self.rig.scheduler)

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Grant):
                run = self.rig.scheduler.ledger.runs[action.run]
                assert all(may_run(run, action.node, index) for index in range(action.lo, action.hi))
                self.grants.append(action)
            else:
                assert not isinstance(action, Recall) or action.count > 0
                assert not isinstance(action, Interrupt | Disown | Recall) or action.engine in ENGINES

    def some_grant(self) -> tuple[Grant, int, int] | None:
        """Return a grant, seldom an old one, and a range of it."""
        if not self.grants:
            return None
        grant = self.random.choice(self.grants[-6:] if self.random.random() < 0.9 else self.grants)
        lo = self.random.randrange(grant.lo, grant.hi)
        return grant, lo, self.random.randint(lo + 1, grant.hi)

    def submit(self) -> None:
        graph = random_graph(self.random)
        blocks = blocks_of(graph, self.random.choice([1, 2, 256]))
        check_graph(graph, blocks)
        self.rig.send(ev.Submitted(self.random.randbytes(16), "me", graph, blocks))

    def tick(self) -> None:
        self.perform(self.rig.tick(self.random.choice([0.0, 0.0, 0.5, 3.0, 20.0])))

    def report(self) -> None:
        if (some := self.some_grant()) is not None:
            grant, lo, hi = some
            states = bytes(self.random.choices(TERMINAL, (6, 1, 1), k=hi - lo))
            size = self.random.choice([0, 7])
            outcome = ev.Outcome(grant.token, lo, hi, states, size, seconds=self.random.choice([0.0, 1.0]))
            self.rig.send(ev.Reported(grant.engine, [outcome]))

    def began(self) -> None:
        if (some := self.some_grant()) is not None:
            self.rig.send(ev.Began(some[0].engine, [(some[0].token, some[1])]))

    def give(self) -> None:
        if (some := self.some_grant()) is not None:
            grant, lo, hi = some
            self.rig.send(ev.GaveBack(grant.engine, grant.token, lo, hi))

    def die(self) -> None:
        if (some := self.some_grant()) is not None:
            self.rig.send(ev.SlotDied(some[0].engine, some[0].token, some[1], "signal 9"))

    def held(self, engine: bytes) -> list[int]:
        return [grant.token for grant in self.grants if grant.engine == engine and self.random.random() < 0.7]

    def join(self) -> None:
        engine = self.random.choice(ENGINES)
        queues = self.random.choice([("default",), ("slow", "default"), ("slow",)])
        about = info(engine.decode(), self.random.randint(1, 4), queues)
        self.perform(self.rig.send(ev.EngineJoined(engine, about, self.held(engine)))[1])

    def gone(self) -> None:
        self.rig.send(ev.EngineGone(self.random.choice(ENGINES)))

    def leave(self) -> None:
        self.rig.send(ev.EngineLeaving(self.random.choice(ENGINES)))

    def beat(self) -> None:
        engine = self.random.choice(ENGINES)
        self.perform(self.rig.send(ev.Beat(engine, self.held(engine)))[1])

    def cancel(self) -> None:
        if runs := list(self.rig.scheduler.ledger.runs.values()):
            run = self.random.choice(runs)
            number = self.random.randrange(-1, len(run.nodes))
            lo = self.random.randrange(3)
            self.perform(self.rig.send(ev.CancelAsked(run.id, number, lo, lo + self.random.randrange(3)))[1])

    def forget(self) -> None:
        if runs := list(self.rig.scheduler.ledger.runs.values()):
            self.rig.send(ev.ForgetAsked(self.random.choice(runs).id))

    def jump(self) -> None:
        self.rig.wall_s += self.random.choice([-3600.0, -5.0, 5.0, 3600.0])

    def restart(self) -> None:
        self.perform(self.rig.restart())

    def finish(self) -> None:
        """Let a calm world work until nothing is left."""
        for _ in range(3):
            self.rig.tick(3700.0)
        for _ in range(500):
            self.rig.join("z", 4, ("default", "slow"))
            grants = self.rig.grants(1.0)
            self.perform(list(grants))
            for grant in grants:
                self.rig.report(grant)
            self.check()
            if not self.rig.scheduler.ledger.left:
                return
        raise AssertionError(f"{self.rig.scheduler.ledger.left} elements never end")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.integers(5, 60))
def test_every_element_ends_once_whatever_happens(seed: int, steps: int):
    world = World(Random(seed))
    world.submit()
    world.join()
    for _ in range(steps):
        world.step()
    world.finish()
    assert durable(world.rig.twin()) == durable(world.rig.scheduler)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_recovery_from_a_cut_log_is_itself_recovered(seed: int):
    world = World(Random(seed))
    world.submit()
    world.join()
    for _ in range(10):
        world.tick()
        world.report()
    rig = world.rig
    whole = rig.facts
    for cut in range(len(whole) + 1):
        rig.facts = whole[:cut]
        twin = rig.twin()
        facts, actions = twin.recovered(rig.now)
        rig.facts = rig.facts + facts
        assert actions == []
        assert durable(rig.twin()) == durable(twin)
