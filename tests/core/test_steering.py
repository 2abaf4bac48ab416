"""Steering: queues that are paused, rates that are set, and what is done with many elements at once."""

import pytest

from nbq.core.actions import Copy, Discard, Done, Grant, Recall, Reject
from nbq.core.events import (
    Again,
    Began,
    CancelAsked,
    Chosen,
    ForgetAsked,
    GaveBack,
    QueueSteered,
    RateSet,
    Reported,
    Steering,
)
from nbq.core.facts import Accepted, Ended, Forgotten, Reprioritised, Steered
from nbq.core.ids import made_id
from nbq.core.model import BlockMeta, Graph, Nested, On, Slice, State
from nbq.core.scheduler import Limits
from tests.core.harness import WALL_S, Rig, done, node, shown

S1 = b"1" * 16
S2 = b"2" * 16


# ------------------------------------------------------------------ queues


def test_a_paused_queue_grants_nothing_until_it_is_resumed_and_others_go_on():
    rig = Rig()
    rig.join(slots=9, queues=("default", "slow"))
    assert rig.send(QueueSteered("slow", True)) == ([Steered(0, ["slow"], {})], [])
    assert rig.send(QueueSteered("slow", True)) == ([], [])
    rig.submit(node(size=2, queue="slow"))
    rig.submit(node())
    assert [(grant.run, grant.lo, grant.hi) for grant in rig.grants()] == [(2, 0, 1)]
    rig.restart()
    rig.join(slots=9, queues=("default", "slow"))
    assert [grant.run for grant in rig.grants()] == [2]
    assert rig.send(QueueSteered("slow", False)) == ([Steered(0, [], {})], [])
    assert [(grant.run, grant.lo, grant.hi) for grant in rig.grants()] == [(1, 0, 2)]


def test_what_has_not_started_of_a_paused_queue_is_asked_back_for_a_second():
    rig = Rig()
    rig.join(slots=2)
    run = rig.submit(node(size=2))
    [grant] = rig.grants()
    rig.send(Began(b"one", [(grant.token, 0)]))
    rig.send(QueueSteered("default", True))
    assert rig.tick() == [Recall(b"one", 2)]
    assert rig.tick(0.05) == []
    assert rig.tick(0.05) == [Recall(b"one", 2)]
    rig.send(GaveBack(b"one", grant.token, 1, 2))
    assert (rig.tick(0.1), shown(run)) == ([], ["rq"])
    assert rig.tick(1.0) == []
    assert rig.scheduler.wait_s(rig.now) > 1.0
    rig.send(QueueSteered("default", False))
    assert [(grant.lo, grant.hi) for grant in rig.grants()] == [(1, 2)]


def test_so_many_queues_can_be_paused_and_so_many_rates_be_set(monkeypatch):
    monkeypatch.setattr("nbq.core.steering._NAMES", 1)
    rig = Rig()
    rig.send(QueueSteered("a", True))
    refused = Reject("busy", "1 queues are paused already: undo some first")
    assert rig.send(QueueSteered("b", True)) == ([], [refused])
    rig.send(RateSet("a", 1.0))
    assert rig.send(RateSet("b", 1.0)) == ([], [Reject("busy", "1 rates are set already: undo some first")])
    assert rig.send(RateSet("a", None)) == ([Steered(0, ["a"], {"a": None})], [])


# ------------------------------------------------------------------ rates


def starts(rig: Rig, seconds: int) -> list[int]:
    """Return how many elements were granted in each second."""
    return [sum(g.hi - g.lo for _ in range(20) for g in rig.grants(0.05)) for _ in range(seconds)]


def test_a_rate_that_is_set_counts_more_than_that_of_the_task_and_survives_a_restart():
    rig = Rig()
    rig.join(slots=1000)
    rig.submit(node("slow", 100, rate_limit=1.0))
    assert starts(rig, 2) == [1, 1]
    assert rig.send(RateSet("slow", 10.0)) == ([Steered(0, [], {"slow": 10.0})], [])
    assert starts(rig, 2) == [10, 10]
    rig.restart()
    rig.join(slots=1000)
    assert starts(rig, 2) == [10, 10]
    assert rig.send(RateSet("slow", 1.0, own=True)) == ([Steered(0, [], {})], [])
    assert starts(rig, 3)[1:] == [1, 1]


def test_a_rate_that_is_lifted_lets_all_go_that_waited_for_it():
    rig = Rig()
    rig.join(slots=10_000)
    runs = [rig.submit(node("slow", rate_limit=0.001)) for _ in range(50)]
    rig.grants()
    assert rig.grants(10.0) == []
    rig.send(RateSet("slow", None))
    assert [grant.run for grant in rig.grants()] == [run.number for run in runs[1:]]


def test_a_task_without_a_rate_can_be_given_one():
    rig = Rig()
    rig.join(slots=1000)
    rig.send(RateSet("quick", 2.0))
    rig.submit(node("quick", 10))
    assert starts(rig, 2) == [2, 2]
    rig.send(RateSet("quick", None, own=True))
    assert sum(grant.hi - grant.lo for grant in rig.grants()) == 6


# ------------------------------------------------------------------ priorities


def order(rig: Rig) -> list[tuple[int, int, int]]:
    """Return run and range of all that is granted, one after the other."""
    found = []
    while grants := rig.grants():
        for grant in grants:
            found.append((grant.run, grant.lo, grant.hi))
            rig.report(grant)
    return found


def test_a_priority_counts_at_once_for_what_is_queued_and_after_a_restart():
    rig = Rig()
    rig.submit(node("a"))
    rig.submit(node("b", 2))
    rig.submit(node("c"))
    assert rig.steer("priority", name="c", priority=5) == Done(1, 1, [])
    assert rig.steer("priority", name="a", priority=-5) == Done(2, 1, [])
    assert rig.facts[-2:] == [Reprioritised(3, 0, 5), Reprioritised(1, 0, -5)]
    rig.restart()
    rig.join()
    assert order(rig) == [(3, 0, 1), (2, 0, 1), (2, 1, 2), (1, 0, 1)]


def test_a_priority_that_goes_up_and_down_queues_nothing_twice():
    rig = Rig()
    rig.submit(node("a", 3))
    rig.submit(node("b"))
    for priority in (7, -1, 3, 7, 2, -4, 1):
        rig.steer("priority", name="a", priority=priority)
    levels = rig.scheduler.queues["default"]._levels
    counts = {level: len(ranges) for level, ranges in levels.items() if ranges}
    for priority in (7, -1, 3, 7, 2, -4, 1) * 5:
        rig.steer("priority", name="a", priority=priority)
    assert {level: len(ranges) for level, ranges in levels.items() if ranges} == counts
    rig.join()
    assert order(rig) == [(1, 0, 1), (1, 1, 3), (2, 0, 1)]
    rig = Rig()
    rig.submit(node("a", 3))
    rig.submit(node("b"))
    rig.steer("priority", name="a", priority=7)
    rig.steer("priority", name="a", priority=-7)
    rig.join()
    assert order(rig) == [(2, 0, 1), (1, 0, 1), (1, 1, 3)]


def test_one_of_separate_calls_gets_a_priority_of_its_own():
    rig = Rig()
    run = rig.submit(node("a", 4), each=True)
    assert rig.steer("priority", run=run.id, node=0, lo=2, hi=3, priority=9).count == 1
    rig.steer("priority", run=run.id, node=0, lo=0, hi=1, priority=-9)
    assert rig.facts[-2:] == [Reprioritised(1, 0, 9, 2), Reprioritised(1, 0, -9, 0)]
    rig.restart()
    rig.join()
    assert order(rig) == [(1, 2, 3), (1, 1, 2), (1, 3, 4), (1, 0, 1)]
    rig = Rig()
    other = rig.submit(node("a", 2), each=True)
    rig.steer("priority", run=other.id, node=0, lo=1, hi=2, priority=9)
    rig.steer("priority", run=other.id, priority=1)
    assert other.nodes[0].by_priority(0, 2) == [(1, 0, 2)]
    rig.join()
    assert order(rig) == [(1, 0, 1), (1, 1, 2)]


def test_what_waits_for_its_rate_changes_its_priority_too():
    rig = Rig()
    rig.join(slots=100)
    for name in ("x", "y", "z"):
        rig.submit(node("slow", shadow=name, rate_limit=1.0))
    assert [grant.run for grant in rig.grants()] == [1]
    rig.steer("priority", name="z", priority=3)
    assert [[g.run for g in rig.grants(1.0)] for _ in range(2)] == [[3], [2]]


def test_what_was_given_back_is_queued_at_its_priority_of_now():
    rig = Rig()
    rig.join(slots=2)
    rig.submit(node("a", 2))
    [grant] = rig.grants()
    rig.submit(node("b"))
    rig.steer("priority", name="a", priority=-1)
    rig.send(GaveBack(b"one", grant.token, 0, 2))
    assert [(g.run, g.lo, g.hi) for g in rig.grants()] == [(2, 0, 1), (1, 0, 1)]


# ------------------------------------------------------------------ cancelling many


def test_many_are_cancelled_by_name_queue_label_and_state():
    rig = Rig()
    runs = [
        rig.submit(node("a", 2, label="x")),
        rig.submit(node("a", 2, queue="slow"), node("b", 2, after_node=0)),
        rig.submit(node("b", shadow="c", label="x")),
        rig.submit(node("a", countdown_s=9.0)),
    ]
    assert rig.steer("cancel", name="c", label="y").count == 0
    assert rig.steer("cancel", name="c").count == 1
    assert rig.steer("cancel", label="x").count == 2
    assert rig.steer("cancel", queue="slow").count == 2
    assert [shown(run) for run in runs] == [["RR"], ["RR", "RR"], ["R"], ["c"]]
    assert rig.steer("cancel", states=[State.QUEUED]).count == 0
    assert rig.steer("cancel", states=[State.SCHEDULED]).count == 1
    assert rig.steer("cancel") == Done(rig.ticket, 0, [])


def test_a_purge_takes_what_is_granted_and_not_seen_running():
    rig = Rig()
    rig.join(slots=3)
    run = rig.submit(node(size=5))
    [grant] = rig.grants()
    rig.send(Began(b"one", [(grant.token, 1)]))
    assert rig.steer("cancel", queue="default", states=[State.QUEUED]).count == 4
    assert shown(run) == ["RrRRR"]


def test_what_follows_is_cancelled_itself_and_counted():
    rig = Rig()
    run = rig.submit(node("a", 2), node("b", after_list=0, fed=True), lists=([Slice(0, 0, 2)],))
    assert rig.steer("cancel", run=run.id).count == 3
    text = "cancelled"
    assert rig.facts[-2:] == [
        Ended(1, 1, 0, 1, State.REVOKED, "cancelled", text, WALL_S),
        Ended(1, 0, 0, 2, State.REVOKED, "cancelled", text, WALL_S),
    ]


def test_it_is_done_in_turns_of_a_bounded_size_and_new_work_is_not_caught(monkeypatch):
    monkeypatch.setattr("nbq.core.steering._WORK", 10.0)
    rig = Rig()
    for _ in range(50):
        rig.submit(node(size=2))
    rig.submit(node(size=3000))
    rig.send(Steering(1, Chosen(), "cancel"))
    seen = [rig.tick_all()]
    late = rig.submit(node(), owner="late")
    while not any(isinstance(action, Done) for action in seen[-1][1]):
        assert rig.scheduler.wait_s(rig.now) == 0.0
        seen.append(rig.tick_all())
    assert [action for _, actions in seen for action in actions] == [Done(1, 3100, [])]
    assert max(len(facts) for facts, _ in seen) <= 10
    assert len(seen) > 10
    assert shown(late) == ["q"]
    assert rig.steer("cancel", before_s=late.at_s).count == 0
    assert rig.steer("cancel", before_s=late.at_s + 1).count == 1


def test_several_things_are_done_side_by_side(monkeypatch):
    monkeypatch.setattr("nbq.core.steering._WORK", 10.0)
    rig = Rig()
    for _ in range(50):
        rig.submit(node("a"))
    rig.submit(node("b"))
    rig.send(Steering(1, Chosen(name="a"), "cancel"))
    rig.send(Steering(2, Chosen(name="b"), "cancel"))
    tickets = [a.ticket for _ in range(30) for a in rig.tick() if isinstance(a, Done)]
    assert tickets == [2, 1]


def test_a_run_that_is_not_known_and_too_many_demands_are_refused(monkeypatch):
    rig = Rig()
    unknown = Steering(1, Chosen(run=b"?" * 16), "cancel")
    assert rig.send(unknown) == ([], [Reject("unknown", "no such run")])
    monkeypatch.setattr("nbq.core.steering._JOBS", 1)
    rig.send(Steering(1, Chosen(), "cancel"))
    text = "the hub does 1 such things already; ask again later"
    assert rig.send(Steering(2, Chosen(), "cancel")) == ([], [Reject("busy", text)])


# ------------------------------------------------------------------ trying again


def rerun(rig: Rig, **fields: object) -> tuple[list[Accepted], list[Copy], Done]:
    """Have failed ones tried again; return the runs that were made, the copies, and what came of it."""
    before = len(rig.facts)
    rig.ticket += 1
    salt = fields.pop("salt", S1)
    rig.send(Steering(rig.ticket, Chosen(**fields), "retry", salt, "you"))  # type: ignore[arg-type]
    copies: list[Copy] = []
    for _ in range(1000):
        actions = rig.tick()
        copies += [action for action in actions if isinstance(action, Copy)]
        ended = [action for action in actions if isinstance(action, Done)]
        if ended:
            made = [fact for fact in rig.facts[before:] if isinstance(fact, Accepted)]
            assert [fact.id for fact in made] == ended[0].runs
            return made, copies, ended[0]
    raise AssertionError("it is never done")


def failed(rig: Rig, *nodes, states: str, **fields):
    """Submit a graph whose first node ends so, and leave no engine behind."""
    rig.join(slots=10_000)
    run = rig.submit(*nodes, **fields)
    rig.finish(states)
    rig.send(CancelAsked(b"?" * 16))
    engine = rig.scheduler.ledger.fleet.engines[b"one"]
    engine.leaving = True
    rig.scheduler.ledger.fleet.note(engine)
    return run


def test_the_failed_ones_of_a_map_are_tried_again_alone_in_their_places():
    rig = Rig()
    lists = ([Slice(0, 0, 8)],)
    run = failed(rig, node("a", 8, label="l"), states="SFSFFSSS", lists=lists, value=Nested(0), most=2)
    [made], copies, ended = rerun(rig, label="l")
    assert ended == Done(1, 3, [made.id])
    assert (made.owner, made.begin) == ("you", b"\t\0\t\0\0")
    assert made.id == made_id(run.id, made.origin.salt)
    assert (made.origin.template, made.origin.node, made.origin.salt[:8]) == (run.id, 0, S1[:8])
    spec = node("a", 5, label="l")
    assert made.graph == Graph([spec], [[Slice(0, 1, 2), Slice(0, 3, 5)]], Nested(0))
    assert made.blocks == [BlockMeta(0, 0, 2, 10), BlockMeta(0, 2, 2, 10), BlockMeta(0, 4, 2, 10)]
    assert copies == [Copy(2, place, 1, place) for place in range(3)]
    again = rig.scheduler.ledger.by_id[made.id]
    assert (shown(again), again.left, again.skipped) == (["-q-qq"], 3, 2)
    rig.restart()
    again = rig.scheduler.ledger.by_id[made.id]
    rig.join(slots=9)
    rig.finish()
    assert (shown(again), again.lists[0].left) == (["-S-SS"], 0)
    assert shown(rig.scheduler.ledger.by_id[run.id]) == ["SFSFFSSS"]


def test_one_separate_call_is_tried_again_as_a_task_of_its_own():
    rig = Rig()
    options = {"countdown_s": 5.0, "eta_s": WALL_S + 1, "expires_at_s": WALL_S + 6, "expires_s": 60.0}
    run = failed(rig, node("a", 3, ids={1: "own"}, priority=4), states="FFF", each=True, most=1)
    [made], copies, _ = rerun(rig, run=run.id, node=0, lo=1, hi=2)
    assert made.graph == Graph([node("a", 2, priority=4)], [], Slice(0, 1, 2))
    assert (made.blocks, copies) == ([BlockMeta(0, 1, 1, 10)], [Copy(2, 0, 1, 1)])
    other = rig.submit(node("a", **options))
    rig.send_after(5.5)
    rig.send(CancelAsked(other.id))
    rig.send_after(5.0)
    [made], _, _ = rerun(rig, run=other.id, states=[State.REVOKED])
    assert made.graph.nodes == [node("a", expires_s=60.0)]


def test_what_is_part_of_something_else_is_tried_again_with_all_of_it_from_the_first():
    rig = Rig()
    chord = (node("a", 2), node("b", after_list=0, fed=True, countdown_s=3.0))
    run = failed(rig, *chord, states="SF", lists=([Slice(0, 0, 2)],))
    assert shown(run) == ["SF", "F"]
    [made], copies, ended = rerun(rig, states=[State.FAILURE])
    assert ended.count == 2
    assert made.graph == run.planned
    assert (made.blocks, made.begin) == (run.blocks, b"")
    assert copies == [Copy(2, 0, 1, 0), Copy(2, 1, 1, 1)]
    rig.join(slots=9)
    assert rig.work() == [(0, 0, 2)]


def test_a_canvas_that_still_runs_is_not_tried_again_as_a_whole():
    rig = Rig()
    rig.join(slots=2)
    run = rig.submit(
        node("a", 2), node("e", 2, after_node=0, on=On.FAILURE, queue="other"),
        lists=([Slice(0, 0, 2)],), value=Nested(0),
    )  # fmt: skip
    [grant] = rig.grants()
    rig.report(grant, done(grant, 0, 1, "F"))
    assert rerun(rig) == ([], [], Done(1, 0, []))
    rig.report(grant, done(grant, 1, 2, "S"))
    rig.send(CancelAsked(run.id))
    assert len(rerun(rig)[0]) == 1


def test_what_was_tried_again_is_meant_no_more_unless_it_is_named():
    rig = Rig()
    run = failed(rig, node("a", 2), states="FF", lists=([Slice(0, 0, 2)],), value=Nested(0))
    [first], _, _ = rerun(rig, name="a")
    assert rerun(rig, name="a", salt=S2)[0] == []
    rig.join(slots=9)
    [grant] = rig.grants()
    rig.report(grant, done(grant, states="SF"))
    [second], _, ended = rerun(rig, name="a", salt=S2)
    assert (ended.count, second.begin, second.origin.template) == (1, b"\t\0", run.id)
    assert second.id != first.id
    [third], _, _ = rerun(rig, run=run.id, salt=b"3" * 16)
    assert third.begin == b"\0\0"


def test_a_demand_that_comes_again_makes_nothing_twice():
    rig = Rig()
    failed(rig, node("a", 2), states="FS", lists=([Slice(0, 0, 2)],), value=Nested(0))
    first, _, ended = rerun(rig)
    rig.steer("cancel")
    assert len(first) == 1
    rig.restart()
    assert rig.steer("retry", salt=S1) == Done(3, 1, ended.runs)
    assert rig.steer("retry", salt=S1, run=rig.scheduler.ledger.runs[1].id) == Done(4, 1, ended.runs)
    assert [run.number for run in rig.scheduler.ledger.runs.values()] == [1, 2]


def test_new_arguments_of_a_retry_and_what_took_its_place_are_not_tried_again():
    rig = Rig()
    rig.join()
    run = rig.submit(node("a"))
    [grant] = rig.grants()
    again = done(grant, states="t", size=7, again=Again())
    rig.send(Reported(b"one", [again]))
    [grant] = rig.grants()
    rig.report(grant, done(grant, states="F"))
    [made], copies, _ = rerun(rig, run=run.id)
    assert (made.blocks, copies) == (run.blocks, [Copy(2, 0, 1, 0)])


def test_a_run_that_is_forgotten_meanwhile_is_not_tried_again(monkeypatch):
    monkeypatch.setattr("nbq.core.steering._WORK", 1.0)
    monkeypatch.setattr("nbq.core.steering._BYTES", 10.0)
    rig = Rig()
    run = failed(rig, node("a", 6), states="FFFFFF", lists=([Slice(0, 0, 6)],), value=Nested(0), most=1)
    rig.send(Steering(1, Chosen(), "retry", S1))
    assert [action for action in rig.tick() if isinstance(action, Copy)] == [Copy(2, 0, 1, 0)]
    assert rig.send(ForgetAsked(run.id)) == ([Forgotten(1)], [Discard([], list(run.functions))])
    assert [action for _ in range(3) for action in rig.tick()] == [Discard([], [], 2), Done(1, 0, [])]


def test_very_large_runs_are_looked_through_in_several_turns(monkeypatch):
    monkeypatch.setattr("nbq.core.steering._WORK", 1.0)
    monkeypatch.setattr("nbq.core.steering._SCAN", 1.0)
    rig = Rig()
    for _ in range(3):
        failed(rig, node("a", 6), states="SSSSSS", lists=([Slice(0, 0, 6)],), value=Nested(0))
    rig.send(Steering(1, Chosen(name="a"), "retry", S1))
    assert [rig.tick() for _ in range(4)] == [[], [], [], [Done(1, 0, [])]]


def test_a_full_hub_says_what_it_has_not_tried_again():
    rig = Rig(Limits(elements=3))
    failed(rig, node("a", 2), states="FF", lists=([Slice(0, 0, 2)],), value=Nested(0))
    rig.submit(node("b", 2))
    text = "the hub is full: 0 of the tasks are tried again, the others are not"
    assert rig.steer("retry", salt=S1) == Done(1, 0, [], text)


@pytest.mark.parametrize("shared", [False, True])
def test_very_many_ranges_are_tried_again_in_several_runs(monkeypatch, shared):
    monkeypatch.setattr("nbq.core.steering._SLICES", 2)
    rig = Rig()
    failed(
        rig, node("a", 8, shared=shared), states="FSFSFSFS",
        lists=([Slice(0, 0, 8)],), value=Nested(0), most=4,
    )  # fmt: skip
    made, copies, ended = rerun(rig)
    assert [fact.begin for fact in made] == [b"\0\t\0", b"\t\t\t\t\0\t\0"]
    assert ended.count == 4
    blocks = [[0], [0]] if shared else [[0], [1]]
    assert [[copy.of_block for copy in copies if copy.run == fact.run] for fact in made] == blocks
    rig.join(slots=99)
    grants = [action for action in rig.tick() if isinstance(action, Grant)]
    assert sum(grant.hi - grant.lo for grant in grants) == 4
