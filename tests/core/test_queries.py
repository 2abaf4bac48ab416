"""Queries: what people are shown of runs, elements, engines and queues."""

import pytest

from nbq.core import queries
from nbq.core.events import Began, CancelAsked, EngineGone, EngineLeaving, SlotDied
from nbq.core.model import NONE, State
from nbq.core.runs import Run
from nbq.core.views import ElementView, EngineView, QueueView, RunView
from tests.core.harness import WALL_S, Rig, done, info, node


def mixed() -> tuple[Rig, Run]:
    """Return a rig with one run of which every element is in another state."""
    rig = Rig()
    rig.join(slots=5)
    specs = (node("a", 6, ids={1: "mine"}), node("b", 6, after_node=0), node("c", countdown_s=60.0))
    run = rig.submit(*specs)
    [grant] = rig.grants()
    rig.send(Began(b"one", [(grant.token, 0)]))
    rig.report(grant, done(grant, 1, 2), done(grant, 2, 3, states="F", errors={2: "ValueError: no"}))
    rig.send(CancelAsked(run.id, 0, 3, 4, "not needed"))
    return rig, run


def test_what_is_granted_is_shown_as_queued():
    assert [queries.shown_state(state) for state in State if state != State.SKIPPED] == [
        "WAITING", "SCHEDULED", "RETRY", "QUEUED", "QUEUED", "STARTED", "SUCCESS", "FAILURE", "REVOKED",
    ]  # fmt: skip


def test_states_are_counted_by_shown_name():
    _, run = mixed()
    assert queries.count_states(run.nodes[:1]) == {
        "QUEUED": 2, "STARTED": 1, "SUCCESS": 1, "FAILURE": 1, "REVOKED": 1,
    }  # fmt: skip
    assert queries.count_states(run.nodes) == {
        "WAITING": 3, "SCHEDULED": 1, "QUEUED": 3, "STARTED": 1, "SUCCESS": 1, "FAILURE": 2, "REVOKED": 2,
    }  # fmt: skip


def test_an_id_is_found_in_every_form():
    rig, run = mixed()
    text = run.id.hex()
    assert queries.find(rig.scheduler, text) == (run, NONE, 0)
    assert queries.find(rig.scheduler, f"{text}-1-5") == (run, 1, 5)
    assert queries.find(rig.scheduler, "mine") == (run, 0, 1)


@pytest.mark.parametrize("end", ["-0-6", "-3-0", "-1", "x"])
def test_an_id_of_nothing_is_not_found(end):
    rig, run = mixed()
    assert queries.find(rig.scheduler, run.id.hex() + end) is None
    assert queries.find(rig.scheduler, "f" * 32) is None
    assert queries.find(rig.scheduler, "other") is None


def view(run: Run, number: int, index: int, **fields) -> ElementView:
    basis = {"id": f"{run.id.hex()}-{number}-{index}", "task": "a", "attempt": 1, "at_s": WALL_S}
    about = {**basis, "queue": "default", "inner": number, **fields}
    return ElementView(**about, run=run.id, node=number, index=index)


def test_an_element_shows_how_it_stands_and_why():
    rig, run = mixed()
    fleet = rig.scheduler.ledger.fleet
    assert queries.element(run, 0, 0, fleet) == view(run, 0, 0, state="STARTED", engine="one")
    assert queries.element(run, 0, 1, fleet) == view(run, 0, 1, id="mine", state="SUCCESS", engine="one")
    assert queries.element(run, 0, 2, fleet) == view(
        run, 0, 2, state="FAILURE", engine="one", text="ValueError: no"
    )
    assert queries.element(run, 0, 3, fleet) == view(run, 0, 3, state="REVOKED", text="not needed")
    assert queries.element(run, 0, 4, fleet) == view(run, 0, 4, state="QUEUED", engine="one")


def test_an_element_that_inherited_its_end_shows_the_cause():
    rig, run = mixed()
    fleet = rig.scheduler.ledger.fleet
    assert queries.element(run, 1, 2, fleet) == view(
        run, 1, 2, task="b", state="FAILURE", engine="one", text="ValueError: no"
    )
    assert queries.element(run, 1, 3, fleet) == view(run, 1, 3, task="b", state="REVOKED", text="not needed")


def test_a_queued_element_says_that_no_engine_serves_its_queue():
    rig = Rig()
    run = rig.submit(node("a", queue="special"))
    fleet = rig.scheduler.ledger.fleet
    waiting = view(run, 0, 0, state="QUEUED", queue="special", text="no engine serves queue 'special'")
    assert queries.element(run, 0, 0, fleet) == waiting
    rig.join()
    assert queries.element(run, 0, 0, fleet) == waiting
    rig.join("two", queues=("special",))
    assert queries.element(run, 0, 0, fleet) == view(run, 0, 0, state="QUEUED", queue="special")


def test_an_element_shows_its_attempt():
    rig = Rig()
    rig.join()
    run = rig.submit(node("a"))
    [grant] = rig.grants()
    rig.send(SlotDied(b"one", grant.token, 0, "signal 9"))
    found = queries.element(run, 0, 0, rig.scheduler.ledger.fleet)
    assert found == view(run, 0, 0, state="QUEUED", attempt=2)


def test_tasks_are_listed_newest_run_first_by_name_and_state():
    rig, run = mixed()
    other = rig.submit(node("a", 2, queue="far"))
    scheduler = rig.scheduler

    def listed(name: str, state: str, limit: int) -> list[tuple[bytes, int, int]]:
        return [(row.run, row.node, row.index) for row in queries.tasks(scheduler, name, state, limit)]

    both = [(other.id, 0, 0), (other.id, 0, 1)]
    assert listed("a", "", 5) == [*both, (run.id, 0, 0), (run.id, 0, 1), (run.id, 0, 2)]
    assert listed("", "QUEUED", 9) == [*both, (run.id, 0, 4), (run.id, 0, 5), (run.id, 1, 1)]
    assert listed("", "QUEUED", 3) == [*both, (run.id, 0, 4)]
    assert listed("", "FAILURE", 9) == [(run.id, 0, 2), (run.id, 1, 2)]
    assert listed("c", "SCHEDULED", 9) == [(run.id, 2, 0)]
    assert listed("none", "", 9) == []


def test_runs_are_listed_newest_first_by_name_and_owner():
    rig, run = mixed()
    other = rig.submit(node("z", 2), owner="you")
    counts = queries.count_states(run.nodes)
    one = RunView(run.id, "c", "me", WALL_S, 13, counts, None)
    two = RunView(other.id, "z", "you", WALL_S, 2, {"QUEUED": 2}, None)
    scheduler = rig.scheduler
    assert queries.runs(scheduler, "", "", 9) == [two, one]
    assert queries.runs(scheduler, "", "", 1) == [two]
    assert queries.runs(scheduler, "b", "", 9) == [one]
    assert queries.runs(scheduler, "", "you", 9) == [two]
    assert queries.runs(scheduler, "b", "you", 9) == []


def test_separate_calls_are_listed_one_by_one():
    rig = Rig()
    rig.join()
    run = rig.submit(node("a", 3), each=True)
    [grant] = rig.grants()
    rig.report(grant, done(grant, states="F"))
    row = RunView(run.id, "a", "me", WALL_S, 1, {"QUEUED": 1}, None, 1)
    assert queries.runs(rig.scheduler, "", "", 2) == [
        RunView(run.id, "a", "me", WALL_S, 1, {"FAILURE": 1}, WALL_S, 0),
        row,
    ]


def test_engines_are_shown_with_what_they_hold_and_when_they_were_heard():
    rig = Rig()
    rig.join("b", 2)
    rig.join("a", 2)
    rig.join("c", 1, ("far",))
    rig.submit(node(size=3))
    grant = rig.grants()[0]
    rig.send(Began(grant.engine, [(grant.token, grant.lo)]))
    rig.tick(2.0)
    rig.send(EngineGone(b"b"))
    rig.send(EngineLeaving(b"c"))
    rows = queries.engines(rig.scheduler, rig.now, {b"a": 1000})
    held = {lease.engine: 0 for lease in rig.scheduler.ledger.leases.values()}
    for lease in rig.scheduler.ledger.leases.values():
        held[lease.engine] += lease.hi - lease.lo
    assert rows == [
        EngineView(b"a", info("a", 2), held[b"a"], int(grant.engine == b"a"), "up", 1000, 2.0),
        EngineView(b"b", info("b", 2), held[b"b"], int(grant.engine == b"b"), "gone", 0, 2.0),
        EngineView(b"c", info("c", 1, ("far",)), 0, 0, "draining", 0, 2.0),
    ]
    assert (sum(held.values()), sum(row.running for row in rows)) == (3, 1)


def test_an_engine_that_has_not_reported_since_a_restart_is_not_shown():
    rig = Rig()
    rig.join()
    rig.submit(node())
    rig.grants()
    rig.restart()
    assert queries.engines(rig.scheduler, rig.now, {}) == []


def test_queues_are_shown_with_what_waits_what_runs_and_who_serves():
    rig = Rig()
    rig.join("one", 2, ("default", "spare"))
    rig.submit(node(size=5))
    rig.submit(node(queue="far"))
    rig.tick()
    assert queries.queues(rig.scheduler) == [
        QueueView("default", 3, 2, 1),
        QueueView("far", 1, 0, 0),
        QueueView("spare", 0, 0, 1),
    ]
