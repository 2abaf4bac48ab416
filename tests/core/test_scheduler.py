"""The scheduler: what is taken, granted in which order, and how outcomes are recorded."""

import pytest

from nbq.core.actions import Discard, Disown, Grant, Keep, Recall, Reject
from nbq.core.events import ForgetAsked, Outcome, Reported, SlotDied, Submitted
from nbq.core.facts import Accepted, Ended, Forgotten, Leased, Returned, Settled
from nbq.core.model import NONE, BlockMeta, Graph, Nested, NodeSpec, Slice, State
from nbq.core.scheduler import Limits
from tests.core.harness import WALL_S, Rig, address, blocks_of, done, node, shown, token

ONE = Slice(0, 0, 1)


def submitted(*nodes: NodeSpec, run: bytes = b"r" * 16, **fields) -> Submitted:
    graph = Graph(list(nodes), value=ONE)
    return Submitted(run, "me", graph, fields.pop("blocks", None) or blocks_of(graph), **fields)


# ------------------------------------------------------------------ what is taken


def test_a_submit_is_accepted_with_its_blocks_and_queued():
    rig = Rig()
    event = submitted(node(size=300))
    facts, actions = rig.send(event)
    assert facts == [Accepted(1, b"r" * 16, "me", WALL_S, event.graph, event.blocks)]
    assert actions == [Keep(1, 0, 0), Keep(1, 1, 1)]
    assert shown(rig.scheduler.ledger.runs[1]) == ["q" * 300]
    assert rig.scheduler.ledger.weight == 20


def test_blocks_that_are_staged_or_in_files_are_not_kept_again():
    rig = Rig()
    number = rig.scheduler.reserve()
    blob = "0" * 32
    blocks = [
        BlockMeta(0, 0, 1, 9),
        BlockMeta(0, 1, 1, 9),
        BlockMeta(0, 2, 1, 9, blob),
        BlockMeta(0, 3, 1, 9),
    ]
    facts, actions = rig.send(submitted(node(size=4), blocks=blocks, number=number, staged=1))
    assert [type(fact) for fact in facts] == [Accepted]
    assert actions == [Keep(number, 1, 0), Keep(number, 3, 2)]
    assert rig.scheduler.reserve() == number + 1


def test_a_submit_that_is_sent_again_changes_nothing():
    rig = Rig()
    rig.send(submitted(node()))
    assert rig.send(submitted(node())) == ([], [])


def test_a_hub_that_holds_too_much_refuses_more():
    rig = Rig(Limits(elements=10))
    rig.join()
    rig.send(submitted(node(size=10)))
    text = "the hub holds 10 unfinished tasks; submit again later"
    assert rig.send(submitted(node(), run=b"s" * 16)) == ([], [Reject("busy", text)])
    [grant] = rig.grants()
    rig.report(grant)
    facts, _ = rig.send(submitted(node(), run=b"s" * 16))
    assert [type(fact) for fact in facts] == [Accepted]


def test_a_graph_that_cannot_run_is_refused_with_its_fault():
    text = "node 0 follows node 0, which is not before it"
    assert Rig().send(submitted(node(after_node=0))) == ([], [Reject("graph", text)])


def test_a_given_id_is_taken_once():
    rig = Rig()
    text = "a task with the id 'mine' exists already"
    rig.send(submitted(node(size=2, ids={1: "mine"})))
    assert rig.scheduler.ledger.given == {"mine": (1, 0, 1)}
    assert rig.send(submitted(node(ids={0: "mine"}), run=b"s" * 16)) == ([], [Reject("task_id", text)])
    twice = submitted(node(ids={0: "other"}), node(ids={0: "other"}), run=b"s" * 16)
    assert rig.send(twice) == ([], [Reject("task_id", "the same task id is given twice")])
    assert rig.scheduler.ledger.given == {"mine": (1, 0, 1)}


# ------------------------------------------------------------------ granting


def test_a_grant_is_a_lease_fact_and_an_action():
    rig = Rig()
    rig.join()
    rig.submit(node())
    facts, actions = rig.tick_all()
    assert facts == [Leased(1, 0, 0, 1, token(1), b"one")]
    assert actions == [Grant(b"one", 1, 0, 0, 1, token(1), 1)]


def test_nothing_is_granted_without_an_engine_or_twice():
    rig = Rig()
    rig.submit(node())
    assert rig.tick() == []
    rig.join(slots=4)
    assert [grant.lo for grant in rig.grants()] == [0]
    assert rig.tick() == []


def test_runs_are_granted_in_the_order_of_acceptance():
    rig = Rig()
    rig.join()
    for _ in range(3):
        rig.submit(node(size=2))
    order = []
    while grants := rig.grants():
        for grant in grants:
            order.append((grant.run, grant.lo))
            rig.report(grant, done(grant, seconds=1.0))
    assert order == [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]


def test_a_higher_priority_is_granted_first_and_does_not_interrupt():
    rig = Rig()
    rig.join()
    rig.submit(node(size=2, priority=0))
    [first] = rig.grants()
    rig.submit(node(priority=5))
    rig.submit(node(priority=-5))
    order = [(first.run, first.lo)]
    grants = [first]
    while grants:
        [grant] = grants
        rig.report(grant, done(grant, seconds=1.0))
        grants = rig.grants()
        order += [(grant.run, grant.lo) for grant in grants]
    assert order == [(1, 0), (2, 0), (1, 1), (3, 0)]


def test_an_engine_gets_work_of_its_queues_alone():
    rig = Rig()
    rig.submit(node(queue="fast"))
    rig.submit(node(queue="slow"))
    rig.join("a", 4, ("fast",))
    assert [(grant.engine, grant.run) for grant in rig.grants()] == [(b"a", 1)]
    rig.join("b", 4, ("slow", "fast"))
    assert [(grant.engine, grant.run) for grant in rig.grants()] == [(b"b", 2)]


def test_a_lease_stays_within_one_block_of_arguments():
    rig = Rig()
    rig.join(slots=100)
    rig.submit(node(size=60), most=25)
    assert [(grant.lo, grant.hi) for grant in rig.grants()] == [(0, 25), (25, 50), (50, 60)]


def test_a_lease_of_shared_arguments_has_at_most_256_elements():
    rig = Rig()
    rig.join(slots=600)
    rig.submit(node(size=600, shared=True))
    assert [(grant.lo, grant.hi) for grant in rig.grants()] == [(0, 256), (256, 512), (512, 600)]


# ------------------------------------------------------------------ outcomes


def granted(size: int = 1, **fields) -> tuple[Rig, Grant]:
    """Return a rig whose engine holds all elements of one array."""
    rig = Rig()
    rig.join(slots=size)
    rig.submit(node(size=size, **fields))
    [grant] = rig.grants()
    return rig, grant


def test_a_success_is_settled_with_its_block():
    rig, grant = granted(3)
    facts, actions = rig.report(grant, done(grant, size=50, seconds=0.3))
    assert facts == [
        Settled(1, 0, 0, 3, grant.token, b"", 1, 50, "", WALL_S, "one", pytest.approx(0.3), {}, 0, 3)
    ]
    assert actions == [Keep(1, 1, 0)]
    run = rig.scheduler.ledger.runs[1]
    assert (shown(run), run.left, run.finished_s, run.weight, run.next_block) == (["SSS"], 0, WALL_S, 60, 2)
    assert rig.scheduler.ledger.leases == {}


def test_outcomes_may_be_partial_mixed_and_out_of_order():
    rig, grant = granted(6)
    late = done(grant, 4, 6, states="FR", errors={4: "boom"})
    early = done(grant, 0, 2)
    facts, actions = rig.report(grant, late, early)
    assert [(fact.lo, fact.hi, fact.states, fact.block, fact.block_lo, fact.block_n) for fact in facts] == [
        (4, 6, bytes([State.FAILURE, State.REVOKED]), 1, 4, 2),
        (0, 2, b"", 2, 0, 2),
    ]
    assert facts[0].errors == {4: "boom"}
    assert actions == [Keep(1, 1, 0), Keep(1, 2, 1)]
    assert shown(rig.scheduler.ledger.runs[1]) == ["SSllFR"]


def test_an_outcome_in_a_file_is_not_kept_and_one_without_bytes_has_no_block():
    rig, grant = granted(2)
    facts, actions = rig.report(grant, done(grant, 0, 1, blob="a" * 32), done(grant, 1, 2, size=0))
    assert [(fact.block, fact.size, fact.blob) for fact in facts] == [(1, 5, "a" * 32), (NONE, 0, "")]
    assert actions == []


def test_an_ignored_result_ends_without_a_block():
    rig, grant = granted(1, ignore_result=True)
    facts, actions = rig.report(grant, done(grant, size=0))
    assert [(fact.block, fact.size) for fact in facts] == [(NONE, 0)]
    assert actions == []
    assert rig.scheduler.ledger.weight == 10


def test_what_an_outcome_says_of_elements_that_have_ended_is_dropped():
    rig, grant = granted(4)
    rig.report(grant, done(grant, 1, 2, states="F"))
    facts, actions = rig.report(grant, done(grant, size=80, seconds=0.4))
    assert [(fact.lo, fact.hi, fact.block, fact.block_lo, fact.block_n) for fact in facts] == [
        (0, 1, 2, 0, 4),
        (2, 4, 2, 0, 4),
    ]
    assert [fact.seconds for fact in facts] == [pytest.approx(0.1), pytest.approx(0.2)]
    assert actions == [Keep(1, 2, 0)]
    run = rig.scheduler.ledger.runs[1]
    assert (shown(run), run.weight) == (["SFSS"], 10 + 5 + 80)


@pytest.mark.parametrize(
    "bad",
    [
        Outcome(token(1), 0, 4, bytes([State.SUCCESS, State.SUCCESS])),
        Outcome(token(1), 0, 4, bytes([State.SUCCESS, State.QUEUED, State.SUCCESS, State.SUCCESS]), 5),
        Outcome(token(1), 2, 2),
        Outcome(token(1), 3, 1),
        Outcome(token(1), 4, 9, b"", 5),
    ],
)
def test_an_outcome_that_cannot_be_is_dropped_whole(bad):
    rig, grant = granted(4)
    rig.report(grant, done(grant, 1, 2))
    assert rig.report(grant, bad) == ([], [])
    assert shown(rig.scheduler.ledger.runs[1]) == ["lSll"]


def test_an_outcome_of_a_lease_that_is_lost_is_discarded():
    rig, grant = granted(2)
    rig.join("one", held=())
    rig.join("two", 2)
    assert rig.report(grant) == ([], [Disown(b"one", [grant.token])])
    assert shown(rig.scheduler.ledger.runs[1]) == ["qq"]


def test_nobody_reports_for_another_engine():
    rig, grant = granted(1)
    rig.join("two")
    facts, actions = rig.send(Reported(b"two", [done(grant)]))
    assert (facts, actions) == ([], [Disown(b"two", [grant.token])])
    assert shown(rig.scheduler.ledger.runs[1]) == ["l"]


# ------------------------------------------------------------------ dying slots


def test_a_slot_that_dies_charges_its_element_alone():
    rig, grant = granted(3)
    facts, actions = rig.send(SlotDied(b"one", grant.token, 1, "signal 9"))
    assert facts == [Returned(1, 0, 1, 2, grant.token, True, "signal 9")]
    assert actions == []
    run = rig.scheduler.ledger.runs[1]
    assert (shown(run), run.nodes[0].sparse.deaths) == (["lql"], {1: 1})
    [again] = rig.grants()
    assert (again.lo, again.hi, again.attempt) == (1, 2, 2)


def test_a_task_is_failed_at_its_third_dying_slot_with_the_evidence():
    rig, grant = granted(2)
    for death in (1, 2):
        rig.send(SlotDied(b"one", grant.token, 0, f"signal {death}"))
        [grant] = rig.grants()
    facts, _ = rig.send(SlotDied(b"one", grant.token, 0, "signal 9, 800 MiB"))
    assert facts == [
        Returned(1, 0, 0, 1, grant.token, True, "signal 9, 800 MiB"),
        Ended(
            1, 0, 0, 1, State.FAILURE, "lost",
            "it started in 3 slots that died; the last: signal 9, 800 MiB", WALL_S,
        ),
    ]  # fmt: skip
    run = rig.scheduler.ledger.runs[1]
    assert (shown(run), run.nodes[0].sparse.deaths) == (["Fl"], {0: 3})


def test_a_lost_engine_charges_nobody():
    rig, _ = granted(2)
    for _ in range(4):
        rig.join("one", 2, held=())
        assert [(grant.lo, grant.hi, grant.attempt) for grant in rig.grants()] == [(0, 2, 1)]
    assert rig.scheduler.ledger.runs[1].nodes[0].own is None


def test_a_death_under_a_stale_lease_is_disowned_and_of_an_ended_element_ignored():
    rig, grant = granted(2)
    rig.report(grant, done(grant, 0, 1))
    assert rig.send(SlotDied(b"one", grant.token, 0, "late")) == ([], [])
    rig.report(grant, done(grant, 1, 2))
    assert rig.send(SlotDied(b"one", grant.token, 1, "late")) == ([], [Disown(b"one", [grant.token])])


# ------------------------------------------------------------------ forgetting


def test_a_finished_run_is_forgotten_with_its_blobs():
    rig = Rig()
    rig.join()
    run = rig.submit(node(ids={0: "mine"}))
    [grant] = rig.grants()
    rig.report(grant, done(grant, blob="a" * 32))
    assert rig.send(ForgetAsked(run.id)) == ([Forgotten(1)], [Discard(["a" * 32], [address("work")])])
    ledger = rig.scheduler.ledger
    assert (ledger.runs, ledger.by_id, ledger.given, ledger.weight) == ({}, {}, {}, 0)
    assert rig.send(ForgetAsked(run.id)) == ([], [Reject("unknown", "no such run")])


def test_an_unfinished_run_is_not_forgotten():
    rig = Rig()
    run = rig.submit(node())
    text = "the run has not finished; cancel it first"
    assert rig.send(ForgetAsked(run.id)) == ([], [Reject("unfinished", text)])


def test_finished_runs_are_kept_for_their_time():
    rig = Rig(Limits(retention_s=100.0))
    rig.join()
    rig.submit(node())
    rig.work()
    rig.tick(60.0)
    rig.join()
    rig.submit(node())
    rig.work()
    rig.submit(node(queue="none"))
    assert rig.send_after(40.0) == []
    assert rig.send_after(1.0) == [Forgotten(1)]
    assert rig.send_after(100.0) == [Forgotten(2)]
    assert list(rig.scheduler.ledger.runs) == [3]


def test_the_oldest_finished_runs_make_room_once_they_could_be_fetched():
    rig = Rig(Limits(retention_bytes=20, retention_least_s=60.0))
    rig.join()
    for _ in range(3):
        rig.submit(node())
        rig.work()
        rig.tick(10.0)
    rig.submit(node(size=30, queue="none"), most=1)
    assert (rig.scheduler.ledger.weight, rig.scheduler.ledger.kept) == (345, 45)
    assert rig.send_after(30.0) == []
    assert rig.send_after(1.0) == [Forgotten(1)]
    assert rig.send_after(10.0) == [Forgotten(2)]
    assert rig.send_after(10.0) == []
    assert (list(rig.scheduler.ledger.runs), rig.scheduler.ledger.kept) == ([3, 4], 15)


def test_retention_works_in_slices():
    rig = Rig(Limits(retention_s=10.0))
    rig.join(slots=1)
    for _ in range(100):
        rig.submit(node())
    rig.work(200)
    assert [len(rig.send_after(after_s)) for after_s in (11.0, 0.0, 0.0)] == [64, 36, 0]


def test_a_batch_of_separate_calls_is_one_array():
    rig = Rig()
    rig.join(slots=4)
    run = rig.submit(node(size=4, ids={2: "mine"}), each=True)
    assert [(grant.lo, grant.hi) for grant in rig.grants()] == [(0, 4)]
    assert (run.graph.value, run.nodes[0].spec.function) == (None, address("work"))


def test_recalls_come_after_grants():
    rig = Rig()
    rig.join("busy")
    rig.submit(node(size=8))
    [grant] = rig.grants()
    rig.report(grant, done(grant, seconds=0.001))
    rig.grants()
    rig.join("idle")
    rig.submit(node("other", 1, queue="default"), value=Slice(0, 0, 1))
    assert not any(isinstance(action, Recall) for action in rig.tick())


def test_the_value_of_a_run_may_be_a_list():
    rig = Rig()
    rig.join(slots=4)
    run = rig.submit(node(size=4), lists=([Slice(0, 0, 4)],), value=Nested(0))
    rig.work()
    assert (shown(run), run.lists[0].left) == (["SSSS"], 0)


def test_a_long_cascade_is_cut_into_turns_and_ends_all_the_same():
    rig = Rig()
    rig.join()
    steps = [node(), *(node(after_node=number, fed=True) for number in range(4999))]
    rig.submit(*steps)
    [grant] = rig.grants()
    facts, _ = rig.report(grant, done(grant, states="F"))
    cut = [len(facts)]
    while rig.scheduler.wait_s(rig.now) == 0:
        cut.append(len(rig.tick_all()[0]))
    assert cut == [1001, 2000, 1999]
    run = rig.scheduler.ledger.runs[1]
    assert (run.left, run.bad, {part.state[0] for part in run.nodes}) == (0, 5000, {State.FAILURE})
    assert {fact.cause_node for part in run.nodes[1:] for fact in part.ends} == {0}


def test_a_hub_that_dies_in_the_middle_of_a_cascade_finishes_it():
    rig = Rig()
    rig.join()
    rig.submit(node(), *(node(after_node=number, fed=True) for number in range(2999)))
    [grant] = rig.grants()
    rig.report(grant, done(grant, states="F"))
    assert rig.scheduler.ledger.left == 1999
    rig.restart()
    while rig.scheduler.wait_s(rig.now) == 0:
        rig.tick()
    assert rig.scheduler.ledger.left == 0
