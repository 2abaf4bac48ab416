"""Why something is where it is: each reason that there can be, as people are told it."""

import re
from pathlib import Path

import pytest

from nbq.core.events import (
    Addition,
    Again,
    Began,
    CancelAsked,
    EngineGone,
    EngineJoined,
    EngineLeaving,
    QueueSteered,
    RateSet,
    SlotDied,
)
from nbq.core.explain import explain
from nbq.core.model import Graph, Nested, On, Slice
from nbq.core.runs import Run
from nbq.core.views import Reason
from tests.core.harness import WALL_S, Rig, blocks_of, done, info, node

ROOT = Path(__file__).resolve().parents[2]
START = "1970-01-12 13:46:40 UTC"
"""The wall time at which a rig begins."""


def why(rig: Rig, run: Run, number: int = 0, index: int = 0) -> list[Reason]:
    return about(rig, f"{run.id.hex()}-{number}-{index}")


def about(rig: Rig, text: str) -> list[Reason]:
    found = explain(rig.scheduler, text, rig.now)
    assert found is not None
    return found


def one(rig: Rig, run: Run, number: int = 0, index: int = 0) -> Reason:
    [found] = why(rig, run, number, index)
    return found


def at(run: Run, number: int = 0, index: int = 0) -> str:
    return f"{run.id.hex()}-{number}-{index}"


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.join()
    return rig


def begun(rig: Rig, run: Run) -> object:
    """Let the first of a run begin; return its grant."""
    grant = next(grant for grant in rig.grants() if grant.run == run.number)
    rig.send(Began(grant.engine, [(grant.token, grant.lo)]))
    return grant


# ------------------------------------------------------------------ what has ended


def test_it_succeeded_or_failed_or_was_revoked_by_itself(rig):
    rig.join("two", 4)
    run = rig.submit(node(size=3))
    for grant in rig.grants():
        for index in range(grant.lo, grant.hi):
            errors = {index: "ValueError: no"} if index else {}
            rig.report(grant, done(grant, index, index + 1, states="SFR"[index], errors=errors))
    engines = [why(rig, run, 0, index)[0].refs[0] for index in range(3)]
    assert set(engines) <= {"one", "two"}
    assert [why(rig, run, 0, index) for index in range(3)] == [
        [Reason("succeeded", f"It succeeded at {START} on engine {engines[0]}.", [engines[0]])],
        [Reason("failed", f"It failed at {START} on engine {engines[1]}: ValueError: no.", [engines[1]])],
        [
            Reason(
                "revoked",
                f"It was revoked at {START} on engine {engines[2]}, by itself: ValueError: no.",
                [engines[2]],
            )
        ],
    ]


def test_the_hub_ended_it(rig):
    cancelled, lost = rig.submit(node()), rig.submit(node(acks_late=False))
    rig.send(CancelAsked(cancelled.id, 0, 0, 1, "not needed"))
    [grant] = rig.grants()
    rig.send(SlotDied(b"one", grant.token, 0, "signal 9"))
    assert one(rig, cancelled) == Reason("revoked", f"It was revoked at {START} (cancelled): not needed.")
    text = (
        f"It failed at {START} (lost): its engine or slot was lost after it was granted, and "
        "acks_late=False means at most once: signal 9."
    )
    assert one(rig, lost) == Reason("failed", text)


def test_it_ended_as_what_it_follows_did(rig):
    run = rig.submit(node("first"), node("second", after_node=0), node("third", after_node=1))
    [grant] = rig.grants()
    rig.report(grant, done(grant, states="F", errors={0: "ValueError: no"}))
    text = f"It failed at {START}, because first ({at(run)}), which it follows, failed: ValueError: no."
    assert one(rig, run, 2) == Reason("inherited", text, [at(run)])
    other = rig.submit(node("first"), node("second", after_node=0))
    rig.send(CancelAsked(other.id, 0, 0, 1, "not needed"))
    text = (
        f"It was revoked at {START}, because first ({at(other)}), which it follows, was revoked: not needed."
    )
    assert one(rig, other, 1) == Reason("inherited", text, [at(other)])


def test_a_link_was_not_called_for(rig):
    run = rig.submit(node(), node("link", after_node=0, on=On.LINK), value=Slice(0, 0, 1))
    [grant] = rig.grants()
    rig.report(grant, done(grant, states="F"))
    assert one(rig, run, 1) == Reason("skipped", "It was not called for: it is a link or errback.")


# ------------------------------------------------------------------ waiting for others


def test_it_waits_for_what_it_follows_and_for_what_that_waits_for(rig):
    specs = [node("first", countdown_s=60.0), node("second", after_node=0), node("third", after_node=1)]
    run = rig.submit(*specs)
    due = "at 1970-01-12 13:47:40 UTC (in 1 min 0 s), by its countdown."
    first = Reason("scheduled", f"first ({at(run)}) is to start {due}")
    assert why(rig, run, 1) == [
        Reason("parent", f"It waits for first ({at(run)}), which is SCHEDULED.", [at(run)]), first,
    ]  # fmt: skip
    assert why(rig, run, 2) == [
        Reason("parent", f"It waits for second ({at(run, 1)}), which is WAITING.", [at(run, 1)]), first,
    ]  # fmt: skip


def test_each_of_an_array_waits_for_its_own(rig):
    run = rig.submit(node("first", 2, ids={1: "mine"}), node("second", 2, after_node=0))
    found = why(rig, run, 1, 1)
    assert found[0] == Reason("parent", "It waits for first (mine), which is QUEUED.", ["mine"])


def test_it_waits_for_a_group_and_says_who_is_missing(rig):
    run = rig.submit(node("part", 6), node("body", after_list=0), lists=([Slice(0, 0, 6)],))
    [grant] = rig.grants()
    rig.report(grant, done(grant, 0, 1))
    rig.tick()
    missing = [f"part ({at(run, 0, index)}) is QUEUED" for index in (1, 2, 3)]
    text = f"1 of its 6 members has ended; {missing[0]}, {missing[1]}, {missing[2]} and 2 more have not."
    refs = [at(run, 0, index) for index in (1, 2, 3)]
    found = why(rig, run, 1)
    assert found[0] == Reason("members", f"It waits for a group: {text}", refs)
    assert [reason.code for reason in found] == ["members", "granted"]
    group = about(rig, f"{run.id.hex()}-list-0")
    assert group == [Reason("members", f"The group: {text}", refs), found[1]]


def test_groups_in_groups_are_looked_into(rig):
    lists = ([Slice(0, 0, 2)], [Nested(0), Slice(1, 0, 1)])
    run = rig.submit(node("a", 2), node("b"), node("body", after_list=1), lists=lists)
    text = f"0 of its 2 members have ended; a ({at(run)}) is QUEUED and b ({at(run, 1)}) is QUEUED."
    assert why(rig, run, 2)[0] == Reason(
        "members", f"It waits for a group: {text}", [at(run), at(run, 1)]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("on", "text"),
    [
        (On.LINK, "is a link, which runs when {} has succeeded"),
        (On.FAILURE, "is an errback, which runs if {} fails"),
    ],
)
def test_a_link_or_errback_waits_to_be_called_for(rig, on, text):
    run = rig.submit(node("a"), node("hook", after_node=0, on=on), value=Slice(0, 0, 1))
    said = text.format(f"a ({at(run)})")
    assert why(rig, run, 1)[0] == Reason("parent", f"It {said}, which is QUEUED.", [at(run)])
    specs = [node("a", 2), node("hook", after_list=0, on=on)]
    run = rig.submit(*specs, lists=([Slice(0, 0, 2)],), value=Nested(0))
    found = why(rig, run, 1)[0]
    assert (found.code, found.text.split(":")[0]) == ("members", f"It {text.format('a group')}")


def test_an_errback_waits_until_it_is_known_whose_failure_it_was(rig):
    errback = node("errback", after_list=0, on=On.FAILURE, given_node=1)
    specs = [node("a"), node("b", countdown_s=9.0), node("c"), errback]
    run = rig.submit(*specs, lists=([Slice(0, 0, 1), Slice(2, 0, 1)],), value=Nested(0))
    grant = next(grant for grant in rig.grants() if grant.node == 0)
    rig.report(grant, done(grant, states="F"))
    gate = f"It waits until it is known whether b ({at(run, 1)}) succeeds, and so whose failure it was."
    found = why(rig, run, 3)
    assert found[0] == Reason("gate", gate, [at(run, 1)])
    assert found[1].text.startswith(f"b ({at(run, 1)}) is to start at ")


def test_it_was_replaced_and_ends_as_that_does(rig):
    run = rig.submit(node("swap"))
    [grant] = rig.grants()
    graph = Graph([node("new", 2), node("last", after_list=0)], [[Slice(0, 0, 2)]], Slice(1, 0, 1))
    addition = Addition(b"s" * 16, graph, blocks_of(graph), True)
    rig.report(grant, done(grant, states=".", additions=[addition]))
    [own, root] = why(rig, run)
    text = "It was replaced by a canvas of 3 tasks, and ends as that does."
    assert own == Reason("replaced", text, [at(run, 2)])
    assert (root.code, root.text.split(" ", 1)[0]) == ("ready", "new")
    rig.work()
    assert one(rig, run) == Reason(
        "succeeded", f"It succeeded at {START}, as what it was replaced by did."
    )  # fmt: skip


def test_what_may_go_on_says_that_the_hub_decides_soon(rig):
    run = rig.submit(node("a"), node("b", after_node=0))
    [grant] = rig.grants()
    rig.report(grant)
    run.nodes[1].state[0] = 0  # as it is between the turns of a long cascade
    assert one(rig, run, 1) == Reason("deciding", "It can go on; the hub is about to decide how.")
    run.nodes[1].state[0] = 3


# ------------------------------------------------------------------ waiting for a time


def test_it_waits_for_its_eta_and_expires(rig):
    run = rig.submit(node(eta_s=WALL_S + 7200.0, expires_s=9000.0))
    assert why(rig, run) == [
        Reason("scheduled", "It is to start at 1970-01-12 15:46:40 UTC (in 2 h 0 min), by its eta."),
        Reason(
            "expires", "It expires at 1970-01-12 16:16:40 UTC (in 2 h 30 min), if it has not started by then."
        ),
    ]


def test_a_countdown_counts_from_what_it_follows(rig):
    run = rig.submit(node("a"), node("b", after_node=0, countdown_s=5.0))
    [grant] = rig.grants(10.0)
    rig.report(grant)
    text = "It is to start at 1970-01-12 13:46:55 UTC (in 5.0 s), by its countdown."
    assert one(rig, run, 1) == Reason("scheduled", text)


def test_it_tries_again_at_a_time_and_says_why(rig):
    run = rig.submit(node())
    [grant] = rig.grants()
    rig.report(grant, done(grant, states="t", again=Again(30.0, text="ValueError: no")))
    text = "It tries again at 1970-01-12 13:47:10 UTC (in 30 s) (retry 1), after: ValueError: no."
    assert one(rig, run) == Reason("retry", text)
    other = rig.submit(node())
    [grant] = rig.grants()
    rig.report(grant, done(grant, states="t", again=Again(30.0, counted=False)))
    text = "It tries again at 1970-01-12 13:47:10 UTC (in 30 s) (the next attempt)."
    assert one(rig, other) == Reason("retry", text)


# ------------------------------------------------------------------ waiting for an engine


def test_its_queue_is_paused(rig):
    run = rig.submit(node())
    rig.send(QueueSteered("default", paused=True))
    assert one(rig, run) == Reason("paused", "It waits because its queue 'default' is paused.", ["default"])


def test_no_engine_serves_its_queue(rig):
    rig.join("two", queues=("a", "b"))
    run = rig.submit(node(queue="far"))
    text = "It waits: no engine serves its queue 'far'; the engines here serve 'a', 'b' and 'default'."
    assert one(rig, run) == Reason("unserved", text, ["a", "b", "default"])
    alone = Rig()
    run = alone.submit(node())
    text = "It waits: no engine serves its queue 'default'; there are no engines."
    assert one(alone, run) == Reason("unserved", text)


def test_the_engines_that_serve_its_queue_are_gone_or_about_to_end(rig):
    rig.join("two")
    run = rig.submit(node())
    rig.send(EngineGone(b"one"))
    rig.send(EngineLeaving(b"two"))
    text = (
        "It waits: of the engines that serve its queue 'default', one is gone and two finishes what it has "
        "and ends."
    )
    assert one(rig, run) == Reason("away", text, ["one", "two"])


def test_no_engine_knows_it(rig):
    run = rig.submit(node("shop.charge", bare_name=True))
    text = "It is known by its name only, and no engine has said that it knows 'shop.charge'."
    assert one(rig, run) == Reason("unknown", text, ["shop.charge"])


def test_its_rate_is_used_up(rig):
    rig.join("two", 8)
    run = rig.submit(node("slow", 4, rate_limit=0.1))
    rig.tick()
    turn = "at 1970-01-12 13:47:10 UTC (in 30 s) or so"
    text = f"It waits for the rate of 'slow', 0.1 a second: its turn is {turn}."
    assert one(rig, run, 0, 3) == Reason("rate", text, ["slow"])


def test_a_rate_that_was_set_live_goes_before_its_own(rig):
    run = rig.submit(node("slow", 3))
    rig.send(RateSet("slow", 0.5))
    rig.tick()
    turn = "at 1970-01-12 13:46:44 UTC (in 4.0 s) or so"
    text = f"It waits for the rate of 'slow', 0.5 a second: its turn is {turn}."
    assert one(rig, run, 0, 2) == Reason("rate", text, ["slow"])


def test_it_is_behind_others_and_all_slots_are_busy(rig):
    first = rig.submit(node("long", 3))
    begun(rig, first)
    run = rig.submit(node("late", 2))
    rig.submit(node("urgent", 5, priority=9))
    assert why(rig, run, 0, 1) == [
        Reason("behind", "It is behind 8 tasks in queue 'default', by priority and age.", ["default"]),
        Reason("busy", "It waits for the slot of one, which is busy.", ["one"]),
    ]
    rig.join("two", 2)
    rig.tick()
    text = "It waits for a slot of one and two: all 3 are busy."
    assert why(rig, run, 0, 1)[1] == Reason("busy", text, ["one", "two"])


def test_of_very_many_before_it_not_all_are_counted(rig, monkeypatch):
    monkeypatch.setattr("nbq.core.explain._LOOKS", 1)
    begun(rig, rig.submit(node("long")))
    rig.submit(node("a", 2))
    run = rig.submit(node("b"))
    text = "It is behind at least 2 tasks in queue 'default', by priority and age."
    assert why(rig, run)[0] == Reason("behind", text, ["default"])


def test_what_has_a_live_rate_waits_for_a_slot_that_is_free(rig):
    quick = rig.submit(node("quick"))
    [grant] = rig.grants()
    rig.report(grant, done(grant, seconds=0.001))  # so short that engines are granted some in advance
    assert quick.left == 0
    begun(rig, rig.submit(node("quick")))
    rig.send(RateSet("quick", 1000.0))
    run = rig.submit(node("quick"))
    rig.tick()
    assert one(rig, run) == Reason("busy", "It waits for the slot of one, which is busy.", ["one"])


def test_those_that_know_it_are_busy():
    rig = Rig()
    knowing = info("one")
    rig.send(EngineJoined(b"one", type(knowing)("one", "host", 1, 1, ["default"], tasks=["charge"]), []))
    rig.join("two")
    begun(rig, rig.submit(node("charge", bare_name=True)))
    run = rig.submit(node("charge", bare_name=True))
    rig.tick()
    text = "It waits for the slot of one, which is busy; nothing else knows 'charge'."
    assert one(rig, run) == Reason("busy", text, ["one"])


def test_it_is_about_to_be_granted(rig):
    run = rig.submit(node())
    assert one(rig, run) == Reason("ready", "It is about to be granted.")


# ------------------------------------------------------------------ at an engine


def test_it_runs_and_in_which_attempt(rig):
    run = rig.submit(node())
    begun(rig, run)
    rig.mono_s += 2.0
    assert one(rig, run) == Reason("running", "It runs on engine one; it was granted 2.0 s ago.", ["one"])
    lease = next(iter(run.leases.values()))
    rig.send(SlotDied(b"one", lease.token, 0, "signal 9"))
    begun(rig, run)
    assert one(rig, run).text == "It runs on engine one, attempt 2; it was granted 0.0 s ago."


def test_it_was_granted_and_waits_behind_what_runs(rig):
    run = rig.submit(node("a", 4))
    [grant] = rig.grants()
    rig.report(grant)  # known to be quick: more is granted ahead
    rig.tick()
    other = rig.submit(node("a", 3))
    rig.tick()
    lease = next(lease for lease in rig.scheduler.ledger.leases.values())
    rig.send(Began(b"one", [(lease.token, lease.lo)]))
    head = f"{at(lease.run, lease.node, lease.lo)}"
    last = why(rig, other, 0, 2)
    text = f"It was granted to engine one 0.0 s ago and waits there for a slot, behind a ({head})."
    assert last == [Reason("granted", text, ["one", head])]
    assert run is not other


def test_its_engine_is_silent_or_gone(rig):
    run = rig.submit(node())
    begun(rig, run)
    rig.mono_s += 5.0
    rig.wall_s += 5.0
    silent = (
        "It is held by engine one, which has not been heard for 5.0 s: if it does not come back, it runs "
        "elsewhere at 1970-01-12 13:46:55 UTC (in 10 s)."
    )
    running = Reason("running", "It runs on engine one; it was granted 5.0 s ago.", ["one"])
    assert why(rig, run) == [Reason("silent", silent, ["one"]), running]
    rig.send(EngineGone(b"one"))
    gone = (
        "It is held by engine one, which is not connected: if it does not come back, it runs elsewhere at "
        "1970-01-12 13:46:46 UTC (in 1.0 s)."
    )
    assert why(rig, run) == [Reason("silent", gone, ["one"]), running]


def test_after_a_restart_it_waits_for_the_report_of_its_engine(rig):
    run = rig.submit(node())
    rig.grants()
    rig.restart()
    run = rig.scheduler.ledger.by_id[run.id]
    text = (
        "It was granted before the hub was started again: if its engine does not report it, it runs anew at "
        "1970-01-12 13:46:55 UTC (in 15 s)."
    )
    assert one(rig, run) == Reason("restarted", text)


# ------------------------------------------------------------------ runs, and what is unknown


def test_a_run_says_how_far_it_is_and_what_its_value_waits_for(rig):
    run = rig.submit(node("a", 2), node("b", 2, after_node=0, countdown_s=5.0), value=Slice(1, 1, 2))
    for grant in rig.grants():
        rig.report(grant)
    rig.work()
    [whole, root] = about(rig, run.id.hex())
    assert whole == Reason("run", "The run: 2 of its 4 tasks have ended (2 SCHEDULED and 2 SUCCESS).")
    assert root.text.startswith(f"b ({at(run, 1, 1)}) is to start at ")
    rig.mono_s += 6.0
    rig.wall_s += 6.0
    rig.work()
    text = "The run: 4 of its 4 tasks have ended (4 SUCCESS)."
    assert about(rig, run.id.hex()) == [Reason("run", text)]


def test_of_separate_calls_the_first_that_has_not_ended_is_explained(rig):
    run = rig.submit(node("a", 2), each=True)
    [grant, *_] = rig.grants()
    rig.report(grant, done(grant, 0, 1))
    [whole, root] = about(rig, run.id.hex())
    assert whole.text == "The run: 1 of its 2 tasks has ended (1 QUEUED and 1 SUCCESS)."
    assert root.text.startswith(f"a ({at(run, 0, 1)}) ")


@pytest.mark.parametrize(
    "text", ["x", "f" * 32, f"{'01' * 16}-0-9", f"{'01' * 16}-list-1", f"{'f' * 32}-list-0"]
)
def test_what_names_nothing_has_no_reasons(rig, text):
    rig.submit(node(size=2), lists=([Slice(0, 0, 2)],), value=Nested(0))
    assert explain(rig.scheduler, text, rig.now) is None


def test_a_chain_of_ten_thousand_is_followed_to_its_end(rig):
    chain = [node("head", countdown_s=60.0)]
    chain += [node("link", after_node=number) for number in range(9_999)]
    run = rig.submit(*chain)
    assert [reason.code for reason in why(rig, run, 9_999)] == ["parent", "scheduled"]


def test_the_guide_lists_every_code():
    used = set(re.findall(r'_Why\(\s*"([a-z]+)"', (ROOT / "nbq/core/explain.py").read_text()))
    used |= {"failed", "revoked"}  # by one variable
    table = (ROOT / "docs/guide/seeing.md").read_text().partition("| code | it |\n|---|---|\n")[2]
    rows = [line.split("|")[1] for line in table.partition("\n\n")[0].splitlines()]
    assert {code for row in rows for code in re.findall("`([a-z]+)`", row)} == used


@pytest.mark.parametrize("countdown_s", [1e12, 1e300])
def test_times_that_no_calendar_has_are_told_all_the_same(rig, countdown_s):
    run = rig.submit(node("a", countdown_s=countdown_s), node("b", after_node=0, expires_at_s=countdown_s))
    rig.tick()
    assert one(rig, run).text.startswith("It is to start at a time beyond the calendar (in ")
    assert why(rig, run, 1)[-1].text.startswith("It expires at a time beyond the calendar (in ")
