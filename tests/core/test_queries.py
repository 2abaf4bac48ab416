"""Queries: what people are shown of runs, elements, engines and queues."""

import pytest

from nbq.core import queries
from nbq.core.events import Began, CancelAsked, EngineGone, EngineLeaving, ForgetAsked, SlotDied
from nbq.core.model import NONE, Origin, State
from nbq.core.queries import Wanted
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
        rows, resume = queries.tasks(scheduler, Wanted(name, state), limit, [])
        assert resume == []
        return [(row.run, row.node, row.index) for row in rows]

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
    one = RunView(run.id, "c", "me", WALL_S, 13, counts, None, began_s=WALL_S)
    two = RunView(other.id, "z", "you", WALL_S, 2, {"QUEUED": 2}, None)
    scheduler = rig.scheduler
    assert queries.runs(scheduler, Wanted(), 9, []) == ([two, one], [])
    assert queries.runs(scheduler, Wanted(), 1, []) == ([two], [])
    assert queries.runs(scheduler, Wanted("b"), 9, []) == ([one], [])
    assert queries.runs(scheduler, Wanted(owner="you"), 9, []) == ([two], [])
    assert queries.runs(scheduler, Wanted("b", owner="you"), 9, []) == ([], [])


def test_separate_calls_are_listed_one_by_one():
    rig = Rig()
    rig.join()
    run = rig.submit(node("a", 3), each=True)
    [grant] = rig.grants()
    rig.report(grant, done(grant, states="F"))
    row = RunView(run.id, "a", "me", WALL_S, 1, {"QUEUED": 1}, None, 1)
    failed = RunView(run.id, "a", "me", WALL_S, 1, {"FAILURE": 1}, WALL_S, 0, began_s=WALL_S)
    assert queries.runs(rig.scheduler, Wanted(), 2, []) == ([failed, row], [])
    assert queries.runs(rig.scheduler, Wanted(state="QUEUED"), 1, []) == ([row], [])


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


def test_a_queue_counts_what_is_to_be_queued_at_a_time():
    rig = Rig()
    run = rig.submit(node(size=2, countdown_s=5.0, queue="far"), node(eta_s=WALL_S + 9.0, queue="far"))
    assert queries.queues(rig.scheduler) == [QueueView("far", 0, 0, 0, scheduled=3)]
    rig.tick(6.0)
    assert queries.queues(rig.scheduler) == [QueueView("far", 2, 0, 0, scheduled=1)]
    rig.send(CancelAsked(run.id))
    assert queries.queues(rig.scheduler) == [QueueView("far", 0, 0, 0)]


def several() -> tuple[Rig, list[Run]]:
    """Return a rig with three runs: labelled, of another queue, and of separate calls."""
    rig = Rig()
    rig.join(slots=2)
    one = rig.submit(node("a", 2, label="red"), node("b", 2, after_node=0))
    rig.work()
    rig.mono_s += 10.0
    rig.wall_s += 10.0
    two = rig.submit(node("a", queue="far", label="blue"))
    three = rig.submit(node("a", 3, label="red", queue="far"), each=True)
    return rig, [one, two, three]


def places(rig: Rig, **wanted) -> list[tuple[bytes, int, int]]:
    rows, resume = queries.tasks(rig.scheduler, Wanted(**wanted), 9, [])
    assert resume == []
    return [(row.run, row.node, row.index) for row in rows]


def test_tasks_are_listed_by_queue_label_run_and_time():
    rig, [one, two, three] = several()
    of_three = [(three.id, 0, index) for index in range(3)]
    of_one = [(one.id, 0, 0), (one.id, 0, 1)]
    assert places(rig, label="red") == [*of_three, *of_one]
    assert places(rig, label="red", queue="far") == of_three
    assert places(rig, queue="far") == [*of_three, (two.id, 0, 0)]
    assert places(rig, label="red", state="SUCCESS") == of_one
    assert places(rig, since_s=WALL_S + 1.0, name="a") == [*of_three, (two.id, 0, 0)]
    assert places(rig, since_s=WALL_S, state="SUCCESS", name="b") == [(one.id, 1, 0), (one.id, 1, 1)]
    assert places(rig, run=one.id, name="a") == of_one
    assert places(rig, run=b"?" * 16) == []
    assert queries.element(three, 0, 1, rig.scheduler.ledger.fleet).label == "red"


def test_runs_are_listed_by_queue_label_state_and_time():
    rig, [one, two, three] = several()

    def listed(**wanted) -> list[tuple[bytes, int]]:
        rows, resume = queries.runs(rig.scheduler, Wanted(**wanted), 9, [])
        assert resume == []
        return [(row.id, row.index) for row in rows]

    calls = [(three.id, index) for index in range(3)]
    assert listed(label="red") == [*calls, (one.id, NONE)]
    assert listed(queue="far", label="blue") == [(two.id, NONE)]
    assert listed(state="QUEUED") == [*calls, (two.id, NONE)]
    assert listed(state="SUCCESS") == [(one.id, NONE)]
    assert listed(since_s=WALL_S + 1.0, name="a") == [*calls, (two.id, NONE)]


def test_a_long_search_is_cut_and_goes_on_where_it_stopped(monkeypatch):
    rig, _ = several()
    whole, _ = queries.tasks(rig.scheduler, Wanted(), 99, [])
    rows, _ = queries.runs(rig.scheduler, Wanted(), 99, [])
    monkeypatch.setattr(queries, "_LOOKS", 2)

    def all_of(ask, wanted: Wanted) -> list:
        asked = 1
        found, resume = ask(rig.scheduler, wanted, 99, [])
        while resume:
            more, resume = ask(rig.scheduler, wanted, 99, resume)
            found += more
            asked += 1
            assert asked < 20
        assert asked > 1
        return found

    assert all_of(queries.tasks, Wanted()) == whole
    assert all_of(queries.runs, Wanted()) == rows
    assert all_of(queries.tasks, Wanted(since_s=WALL_S + 60.0)) == []


def test_a_search_goes_on_though_the_run_where_it_stopped_is_gone():
    rig, [one, two, _] = several()
    rows, _ = queries.tasks(rig.scheduler, Wanted(), 99, [two.number, 0])
    of_one = [(one.id, 0), (one.id, 0), (one.id, 1), (one.id, 1)]
    assert [(row.run, row.node) for row in rows] == [(two.id, 0), *of_one]
    rig.send(CancelAsked(two.id))
    rig.send(ForgetAsked(two.id))
    assert queries.tasks(rig.scheduler, Wanted(), 99, [two.number, 0])[0] == rows[1:]


def test_the_row_of_a_run_counts_all_of_it_and_that_of_a_call_itself():
    rig, [one, _, three] = several()
    rig.join("far", queues=("far",))
    assert (
        queries.row(one, NONE, 0)
        == queries.row(one, 0, 1)
        == RunView(one.id, "b", "me", WALL_S, 4, {"SUCCESS": 4}, WALL_S, began_s=WALL_S)
    )
    assert queries.row(three, 0, 2).began_s == 0.0
    grant = next(grant for grant in rig.grants() if (grant.run, grant.lo) == (three.number, 0))
    rig.report(grant, done(grant, 0, 1))
    basis = {"id": three.id, "task": "a", "owner": "me", "at_s": WALL_S + 10.0, "label": "red"}
    began = {"began_s": WALL_S + 10.0}
    assert queries.row(three, NONE, 0) == RunView(
        **basis, size=3, states={"QUEUED": 2, "SUCCESS": 1}, **began
    )
    call = RunView(**basis, size=1, states={"SUCCESS": 1}, finished_s=WALL_S + 10.0, index=0, **began)
    assert queries.row(three, 0, 0) == call
    assert queries.row(three, 0, 2) == RunView(**basis, size=1, states={"QUEUED": 1}, index=2, **began)
    rig.send(ForgetAsked(three.id, 0, 1))
    assert queries.row(three, NONE, 0) == RunView(**basis, size=2, states={"QUEUED": 2}, **began)


def test_when_a_run_began_is_found_again_after_a_restart():
    rig = Rig()
    rig.join(slots=2)
    run = rig.submit(node(size=2))
    waiting = rig.submit(node(queue="far"))
    [grant] = rig.grants(5.0)
    rig.wall_s += 3.0
    rig.report(grant, done(grant, 0, 1, seconds=2.0))
    rig.restart()
    runs = rig.scheduler.ledger.by_id
    assert [queries.whole(runs[one.id]).began_s for one in (run, waiting)] == [WALL_S + 6.0, 0.0]


def test_all_tasks_are_counted_by_state_without_looking_at_them():
    rig, run = mixed()
    rig.submit(node("a", 3, queue="far"))
    rig.tick()
    every = [part for one in rig.scheduler.ledger.runs.values() for part in one.nodes]
    assert run.left
    assert queries.totals(rig.scheduler) == queries.count_states(every)


def test_the_row_of_a_run_that_a_schedule_made_names_it():
    rig = Rig()
    run = rig.submit(node("a"))
    run.origin = Origin(b"t" * 16, b"s" * 16, 0, "nightly", WALL_S + 60.0)
    row = RunView(
        run.id, "a", "me", WALL_S, 1, {"QUEUED": 1}, schedule="nightly", fire_s=WALL_S + 60.0
    )  # fmt: skip
    assert queries.whole(run) == row
    assert row.text == run.id.hex()
