"""Deadlines: two clocks that are never mixed; eta, countdown and expiry, also when a clock is set."""

from nbq.core.deadlines import Deadlines
from nbq.core.events import GaveBack
from nbq.core.facts import Ended
from nbq.core.model import Now, State
from tests.core.harness import MONO_S, WALL_S, Rig, node, shown


def test_engines_are_looked_after_by_the_monotonic_clock():
    deadlines = Deadlines()
    deadlines.watch_engine(20.0, b"b")
    deadlines.watch_engine(10.0, b"a")
    assert list(deadlines.engines(Now(9.9, 1e9))) == []
    assert list(deadlines.engines(Now(10.0, 0.0))) == [b"a"]
    assert list(deadlines.engines(Now(30.0, 0.0))) == [b"b"]
    assert list(deadlines.engines(Now(30.0, 0.0))) == []


def test_an_engine_is_looked_after_once_at_the_earliest_time():
    deadlines = Deadlines()
    deadlines.watch_engine(20.0, b"a")
    deadlines.watch_engine(25.0, b"a")
    deadlines.watch_engine(10.0, b"a")
    assert list(deadlines.engines(Now(30.0, 0.0))) == [b"a"]
    assert deadlines.wait_s(Now(30.0, 0.0)) == 30.0


def test_elements_come_by_their_own_clock():
    deadlines = Deadlines()
    deadlines.at_wall(1000.0, ("due", 1, 0, 0, 1))
    deadlines.at_mono(10.0, ("due", 2, 0, 0, 1))
    assert list(deadlines.elements(Now(9.0, 999.0))) == []
    assert list(deadlines.elements(Now(9.0, 1000.0))) == [("due", 1, 0, 0, 1)]
    assert list(deadlines.elements(Now(10.0, 0.0))) == [("due", 2, 0, 0, 1)]


def test_equal_times_come_in_the_order_in_which_they_were_set():
    deadlines = Deadlines()
    for run in (3, 1, 2):
        deadlines.at_wall(1000.0, ("expire", run, 0, 0, 1))
    assert [what[1] for what in deadlines.elements(Now(0.0, 1000.0))] == [3, 1, 2]


def test_the_wait_is_the_shortest_of_all_and_at_most_half_a_minute():
    deadlines = Deadlines()
    now = Now(100.0, 1000.0)
    assert deadlines.wait_s(now) == 30.0
    deadlines.at_wall(1020.0, ("due", 1, 0, 0, 1))
    assert deadlines.wait_s(now) == 20.0
    deadlines.at_mono(110.0, ("due", 1, 0, 0, 1))
    assert deadlines.wait_s(now) == 10.0
    deadlines.watch_engine(105.0, b"a")
    assert deadlines.wait_s(now) == 5.0
    assert deadlines.wait_s(Now(200.0, 2000.0)) == 0.0


def test_a_countdown_runs_from_acceptance():
    rig = Rig()
    run = rig.submit(node(countdown_s=10.0))
    assert shown(run) == ["c"]
    assert rig.scheduler.wait_s(rig.now) == 10.0
    rig.tick(9.9)
    assert shown(run) == ["c"]
    rig.tick(0.1)
    assert shown(run) == ["q"]


def test_a_countdown_in_a_chain_runs_from_the_end_of_the_step_before():
    rig = Rig()
    rig.join()
    run = rig.submit(node("a"), node("b", after_node=0, fed=True, countdown_s=10.0))
    [grant] = rig.grants()
    rig.tick(5.0)
    rig.report(grant)
    assert shown(run) == ["S", "c"]
    rig.tick(9.0)
    assert shown(run) == ["S", "c"]
    assert [(grant.node, grant.lo, grant.hi) for grant in rig.grants(1.0)] == [(1, 0, 1)]


def test_a_countdown_ignores_the_wall_clock():
    rig = Rig()
    late = rig.submit(node(countdown_s=10.0))
    rig.wall_s += 3600.0
    rig.tick(9.0)
    assert shown(late) == ["c"]
    rig.wall_s -= 7200.0
    rig.tick(1.0)
    assert shown(late) == ["q"]


def test_a_countdown_is_no_longer_when_the_clock_was_set_back_before_it_began():
    rig = Rig()
    rig.join()
    run = rig.submit(node("a", 2), node("b", 2, after_node=0, fed=True, countdown_s=10.0))
    [first] = rig.grants()
    rig.report(first)
    rig.wall_s -= 3600.0
    [second] = rig.grants()
    rig.report(second)
    assert shown(run) == ["SS", "cc"]
    rig.tick(10.0)
    assert shown(run) == ["SS", "lq"]


def test_a_countdown_goes_on_through_a_restart():
    rig = Rig()
    rig.submit(node(countdown_s=10.0))
    rig.tick(4.0)
    rig.restart()
    [run] = rig.scheduler.ledger.runs.values()
    assert shown(run) == ["c"]
    assert rig.scheduler.wait_s(rig.now) == 6.0
    rig.tick(6.0)
    assert shown(run) == ["q"]


def test_an_eta_follows_the_wall_clock():
    rig = Rig()
    run = rig.submit(node(eta_s=WALL_S + 100.0))
    rig.mono_s += 1000.0
    rig.tick()
    assert shown(run) == ["c"]
    rig.wall_s += 100.0
    rig.tick()
    assert shown(run) == ["q"]


def test_an_eta_in_the_past_is_now():
    rig = Rig()
    assert shown(rig.submit(node(eta_s=WALL_S - 1.0))) == ["q"]


def test_of_eta_and_countdown_the_later_counts():
    rig = Rig()
    early = rig.submit(node(eta_s=WALL_S + 5.0, countdown_s=10.0))
    late = rig.submit(node(eta_s=WALL_S + 20.0, countdown_s=10.0))
    rig.tick(10.0)
    assert (shown(early), shown(late)) == (["q"], ["c"])
    rig.tick(10.0)
    assert shown(late) == ["q"]


def test_what_is_scheduled_is_not_granted_before_its_time():
    rig = Rig()
    rig.join()
    rig.submit(node(countdown_s=10.0))
    assert rig.grants() == []
    assert rig.grants(9.9) == []
    assert [grant.run for grant in rig.grants(0.1)] == [1]


def test_what_waits_is_scheduled_or_queued_expires_but_not_what_runs():
    rig = Rig()
    rig.join()
    run = rig.submit(
        node("a", 3, expires_s=6.0),
        node("b", 3, after_node=0, expires_s=6.0),
        node("c", 1, expires_s=6.0, countdown_s=100.0),
    )
    [grant] = rig.grants()
    facts = rig.send_after(6.0)
    at_s = WALL_S + 6.0
    assert facts == [
        Ended(1, 0, 1, 3, State.REVOKED, "expired", "expired", at_s),
        Ended(1, 1, 0, 3, State.REVOKED, "expired", "expired", at_s),
        Ended(1, 2, 0, 1, State.REVOKED, "expired", "expired", at_s),
    ]
    assert shown(run) == ["lRR", "RRR", "R"]
    rig.report(grant)
    assert shown(run) == ["SRR", "RRR", "R"]


def test_what_comes_back_after_its_expiry_has_expired():
    rig = Rig()
    rig.join()
    run = rig.submit(node(expires_s=6.0))
    [grant] = rig.grants()
    rig.tick(6.0)
    assert shown(run) == ["l"]
    rig.send(GaveBack(b"one", grant.token, 0, 1))
    assert shown(run) == ["R"]


def test_expiry_at_an_instant_and_in_seconds_the_earlier_counts():
    rig = Rig()
    one = rig.submit(node(expires_s=60.0, expires_at_s=WALL_S + 30.0))
    two = rig.submit(node(expires_s=20.0, expires_at_s=WALL_S + 30.0))
    rig.tick(20.0)
    assert (shown(one), shown(two)) == (["q"], ["R"])
    rig.tick(10.0)
    assert shown(one) == ["R"]


def test_what_has_expired_already_never_starts():
    rig = Rig()
    assert shown(rig.submit(node(expires_at_s=WALL_S - 1.0))) == ["R"]


def test_expiry_is_watched_after_a_restart():
    rig = Rig()
    rig.submit(node(expires_s=60.0), node("b", after_node=0))
    rig.tick(10.0)
    rig.restart()
    rig.tick(50.0)
    [run] = rig.scheduler.ledger.runs.values()
    assert shown(run) == ["R", "R"]


def test_a_jump_of_the_wall_clock_loses_no_engine():
    rig = Rig()
    rig.join()
    run = rig.submit(node())
    rig.grants()
    for wall_s in (WALL_S + 86_400.0, WALL_S - 86_400.0):
        rig.wall_s = wall_s
        rig.tick()
        assert shown(run) == ["l"]
    assert rig.mono_s == MONO_S
