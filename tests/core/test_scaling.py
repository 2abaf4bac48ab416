"""Engines that have bounds grow with the work that waits, and shrink when slots have been idle for long."""

from __future__ import annotations

from msgspec.structs import replace

from nbq.core.actions import Recall, Resize
from nbq.core.events import Beat, EngineJoined, EngineLeaving, EngineResized, Outcome, QueueSteered, Reported
from tests.core.harness import Rig, done, info, node, shown


def join(
    rig: Rig, name: str, slots: int, least: int, most: int, queues: tuple[str, ...] = ("default",)
) -> None:
    rig.send(EngineJoined(name.encode(), replace(info(name, slots, queues), least=least, most=most), []))


def learned(rig: Rig, seconds: float) -> None:
    """Let the hub know how long a task runs."""
    rig.submit(node())
    [grant] = rig.grants()
    rig.report(grant, done(grant, seconds=seconds))


def resized(rig: Rig, after_s: float, every_s: float = 0.25) -> list[tuple[float, str, int]]:
    """Let time pass, with an engine that obeys at once: when each was told how many slots it is to have."""
    found = []
    began_s = rig.mono_s
    while rig.mono_s < began_s + after_s:
        for engine in rig.scheduler.ledger.fleet.engines.values():
            rig.send(Beat(engine.id, list(engine.leases)))
        for action in rig.tick(every_s):
            if isinstance(action, Resize):
                found.append((rig.mono_s - began_s, action.engine.decode(), action.slots))
                bounds = action.least, action.most
                rig.send(EngineResized(action.engine, action.slots, *bounds))
    return found


def test_it_doubles_while_work_waits_and_goes_no_further_than_the_work_or_its_bound() -> None:
    rig = Rig()
    join(rig, "e", 1, 1, 8)
    rig.submit(node(size=7))
    assert resized(rig, 5.0) == [(0.75, "e", 2), (1.5, "e", 4), (2.25, "e", 7)]
    rig.submit(node(size=100))
    assert resized(rig, 5.0) == [(0.75, "e", 8)]


def test_work_that_is_soon_taken_is_not_worth_a_slot() -> None:
    rig = Rig()
    join(rig, "e", 1, 1, 8)
    for _ in range(20):
        rig.submit(node(size=2))
        grants = rig.grants(0.25)
        while grants:
            for grant in grants:
                rig.report(grant, done(grant, seconds=0.1))
            grants = rig.grants()
    assert rig.scheduler.ledger.fleet.engines[b"e"].info == replace(info("e"), least=1, most=8)


def test_slots_that_idle_are_given_up_by_halves_down_to_the_lower_bound() -> None:
    rig = Rig()
    join(rig, "e", 8, 1, 8)
    assert resized(rig, 200.0, 1.0) == [(31.0, "e", 4), (62.0, "e", 2), (93.0, "e", 1)]


def test_what_is_used_now_and_then_is_kept() -> None:
    rig = Rig()
    join(rig, "e", 4, 1, 4)
    for _ in range(10):
        rig.submit(node(size=4))
        grants = rig.grants()
        assert resized(rig, 1.0) == []  # busy at least once in thirty seconds
        for grant in grants:
            rig.report(grant, done(grant, seconds=4.0))
        assert resized(rig, 20.0) == []
    rig.submit(node(size=3))
    rig.grants()
    assert resized(rig, 100.0, 1.0) == [(11.0, "e", 3)]  # one was idle for long enough before


def test_a_load_that_comes_and_goes_changes_it_once() -> None:
    rig = Rig()
    join(rig, "e", 1, 1, 4)
    changes = []
    for _ in range(10):  # three tasks of five seconds every ten
        run = rig.submit(node(size=3))
        changes += resized(rig, 5.0)
        for lease in list(run.leases.values()):
            rig.send(Reported(b"e", [Outcome(lease.token, lease.lo, lease.hi, size=5, seconds=5.0)]))
        changes += resized(rig, 5.0)
        assert shown(run) == ["SSS"]
    assert changes == [(0.75, "e", 2), (1.5, "e", 3)]


def test_engines_share_what_waits_in_the_order_of_their_ids_and_each_serves_its_queues() -> None:
    rig = Rig()
    join(rig, "a", 2, 1, 8)
    join(rig, "b", 2, 1, 8)
    join(rig, "c", 2, 1, 8, ("other",))
    rig.join("fixed", 2)
    rig.submit(node(size=9))  # six of them run
    assert resized(rig, 1.0) == [(0.75, "a", 4), (0.75, "b", 3)]


def test_what_is_over_its_rate_needs_no_slots() -> None:
    rig = Rig()
    join(rig, "e", 2, 1, 8)
    rig.submit(node(size=50, rate_limit=0.1))
    assert resized(rig, 15.0) == []


def test_what_is_paused_needs_no_slots_until_it_goes_on() -> None:
    rig = Rig()
    join(rig, "e", 1, 1, 8)
    rig.send(QueueSteered("default", paused=True))
    rig.submit(node(size=3))
    assert resized(rig, 5.0) == []
    rig.send(QueueSteered("default", paused=False))
    assert resized(rig, 5.0) == [(0.75, "e", 2), (1.5, "e", 3)]


def test_bounds_that_are_set_later_hold_at_once_and_none_means_as_it_is() -> None:
    rig = Rig()
    rig.join("e", 6)
    rig.submit(node(size=50))
    assert resized(rig, 60.0) == []
    rig.send(EngineResized(b"e", 6, 1, 4))
    assert resized(rig, 1.0) == [(0.25, "e", 4)]
    rig.send(EngineResized(b"e", 2))
    assert resized(rig, 60.0) == []
    assert rig.scheduler.ledger.fleet.engines[b"e"].info == info("e", 2)


def test_a_demand_that_is_not_followed_is_repeated_after_a_while() -> None:
    rig = Rig()
    join(rig, "e", 1, 1, 2)
    rig.submit(node(size=3))
    asked_s = []
    for number in range(1, 45):
        asked_s += [number / 4 for action in rig.tick(0.25) if action == Resize(b"e", 2, 1, 2)]
    assert asked_s == [0.75, 5.75, 10.75]


def test_an_engine_that_leaves_is_let_go() -> None:
    rig = Rig()
    join(rig, "e", 1, 1, 8)
    rig.submit(node(size=9))
    rig.tick(0.25)
    rig.send(EngineLeaving(b"e"))
    assert resized(rig, 5.0) == []


def test_the_hub_wakes_to_look_while_something_waits() -> None:
    rig = Rig()
    join(rig, "e", 1, 1, 8)
    rig.tick(0.25)
    assert rig.scheduler.wait_s(rig.now) > 10
    rig.submit(node(size=9))
    rig.tick(0.25)
    assert rig.scheduler.wait_s(rig.now) == 0.25


def test_an_engine_that_has_become_smaller_gives_back_what_it_would_not_be_granted() -> None:
    rig = Rig()
    rig.join("e", 8)
    learned(rig, 0.001)
    rig.submit(node(size=1000))
    assert sum(grant.hi - grant.lo for grant in rig.grants()) == 400
    assert rig.send(EngineResized(b"e", 2)) == ([], [Recall(b"e", 300)])
    assert rig.send(EngineResized(b"e", 8)) == ([], [])
    assert rig.send(EngineResized(b"who", 8)) == ([], [])
