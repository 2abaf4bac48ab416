"""Runs: chains, groups and chords, how they succeed, and how a failure reaches all that follows."""

from nbq.core.facts import Accepted, Inherited, Settled
from nbq.core.model import NONE, BlockMeta, Graph, Many, Nested, Slice, State
from nbq.core.runs import Lease, Node, Run, spans
from tests.core.harness import WALL_S, Rig, done, letters, node, shown, token


def chord(header: int, body: str = "sum") -> tuple[Rig, Run]:
    rig = Rig()
    rig.join(slots=header)
    run = rig.submit(node("a", header), node(body, after_list=0, fed=True), lists=([Slice(0, 0, header)],))
    return rig, run


# ------------------------------------------------------------------ states, leases


def test_spans_are_the_maximal_ranges_of_one_state():
    state = bytearray(b"\0\3\3\0\3" + b"\3" * 3000 + b"\0")
    assert list(spans(state, 0, len(state), 3)) == [(1, 3), (4, 3005)]
    assert list(spans(state, 2, 6, 3)) == [(2, 3), (4, 6)]
    assert list(spans(state, 0, len(state), 7)) == []
    assert list(spans(state, 3, 3, 0)) == []
    assert list(spans(bytes(5000), 100, 4900, 0)) == [(100, 4900)]


def test_a_lease_knows_which_of_its_elements_are_open():
    run = Run(Accepted(1, b"r" * 16, "", 0.0, Graph([node(size=20)], value=Slice(0, 0, 1)), []))
    lease = Lease(run, 0, 10, 16, 1, b"e")
    assert lease.close(12, 14) == 2
    assert lease.close(0, 13) == 2
    assert (list(lease.ranges(0, 99)), list(lease.ranges(15, 99))) == ([(14, 16)], [(15, 16)])
    assert [lease.covers(14, 16), lease.covers(13, 15), lease.covers(14, 17), lease.covers(15, 15)] == [
        True, False, False, False,
    ]  # fmt: skip
    assert (lease.close(16, 40), lease.close(14, 16), lease.open) == (0, 2, 0)


def test_the_leases_that_may_have_elements_of_a_range_are_found_without_a_look_at_all():
    graph = Graph([node("a", 40), node("b", 40)], value=Slice(0, 0, 1))
    run = Run(Accepted(1, b"r" * 16, "", 0.0, graph, []))
    first, second = run.nodes
    places = [(0, 0, 10), (0, 20, 21), (1, 5, 30), (0, 10, 20), (0, 3, 5)]
    leases = [Lease(run, at, lo, hi, number, b"e") for number, (at, lo, hi) in enumerate(places)]
    for lease in leases:
        run.hold(lease)

    def found(part: Node, lo: int, hi: int) -> list[int]:
        return [lease.token for lease in run.held(part, lo, hi)]

    assert (found(first, 0, 40), found(second, 0, 40)) == ([0, 4, 3, 1], [2])
    assert (found(first, 9, 10), found(first, 4, 11), found(first, 21, 40)) == ([0], [0, 4, 3], [])
    assert (found(second, 29, 30), found(second, 30, 31), found(second, 0, 5)) == ([2], [], [])
    for lease in leases:
        run.release(lease)
    assert (run.leases, first.held, second.held, found(first, 0, 40)) == ({}, None, None, [])


def test_the_argument_block_of_an_element_is_found():
    graph = Graph([node(size=5), node(size=9, shared=True)], value=Slice(0, 0, 1))
    blocks = [BlockMeta(0, 0, 2, 1), BlockMeta(1, 0, 1, 1), BlockMeta(0, 2, 3, 1)]
    one, two = Run(Accepted(1, b"r" * 16, "", 0.0, graph, blocks)).nodes
    assert [one.args_block(index) for index in range(5)] == [(0, 0, 2)] * 2 + [(2, 2, 5)] * 3
    assert [two.args_block(index) for index in (0, 8)] == [(1, 0, 9)] * 2


# ------------------------------------------------------------------ success


def test_a_chain_runs_step_by_step():
    rig = Rig()
    rig.join()
    run = rig.submit(*[node(f"t{step}", after_node=step - 1, fed=step > 0) for step in range(5)])
    assert shown(run) == ["q", ".", ".", ".", "."]
    assert rig.work() == [(step, 0, 1) for step in range(5)]
    assert (shown(run), run.left, run.finished_s) == (["S"] * 5, 0, WALL_S)


def test_an_array_after_an_array_goes_on_element_by_element():
    rig = Rig()
    rig.join(slots=3)
    run = rig.submit(node("a", 3), node("b", 3, after_node=0, fed=True))
    [grant] = rig.grants()
    rig.report(grant, done(grant, 1, 2))
    assert shown(run) == ["lSl", ".q."]
    rig.report(grant, done(grant, 2, 3))
    assert shown(run) == ["lSS", ".qq"]
    assert (run.feed(1, 1, 3), run.feed(0, 0, 3)) == ((True, Slice(0, 1, 3)), None)


def test_all_elements_follow_a_single_one():
    rig = Rig()
    rig.join(slots=3)
    run = rig.submit(node("a"), node("b", 3, after_node=0, fed=True))
    [grant] = rig.grants()
    rig.report(grant)
    assert shown(run) == ["S", "qqq"]
    assert run.feed(1, 1, 3) == (False, Slice(0, 0, 1))


def test_what_is_not_fed_waits_all_the_same():
    rig = Rig()
    run = rig.submit(node("a"), node("b", after_node=0))
    assert (shown(run), run.feed(1, 0, 1)) == (["q", "."], None)


def test_a_chord_body_starts_once_when_the_last_member_has_ended():
    rig, run = chord(4)
    [grant] = rig.grants()
    for index in (2, 0, 3):
        rig.report(grant, done(grant, index, index + 1))
        assert shown(run)[1] == "."
    rig.report(grant, done(grant, 1, 2))
    assert shown(run) == ["SSSS", "q"]
    rig.report(grant)
    assert rig.work() == [(1, 0, 1)]
    assert run.feed(1, 0, 1) == (False, Many([Slice(0, 0, 4)]))


def test_a_list_of_lists_ends_with_its_last_list():
    rig = Rig()
    rig.join(slots=10)
    lists = ([Slice(0, 0, 2)], [Slice(1, 0, 1), Nested(0)], [Nested(1), Slice(2, 0, 1)])
    run = rig.submit(node("a", 2), node("b"), node("c"), node("d", after_list=2, fed=True), lists=lists)
    grants = {grant.node: grant for grant in rig.grants()}
    assert [part.left for part in run.lists] == [2, 2, 2]
    rig.report(grants[2])
    rig.report(grants[0])
    assert ([part.left for part in run.lists], shown(run)[3]) == ([0, 1, 1], ".")
    rig.report(grants[1])
    assert ([part.left for part in run.lists], shown(run)[3]) == ([0, 0, 0], "q")
    assert run.tree(Nested(2)) == Many([Many([Slice(1, 0, 1), Many([Slice(0, 0, 2)])]), Slice(2, 0, 1)])


def test_a_group_may_follow_a_group():
    rig = Rig()
    rig.join(slots=3)
    run = rig.submit(node("a", 2), node("b", 3, after_list=0, fed=True), lists=([Slice(0, 0, 2)],))
    assert rig.work() == [(0, 0, 2), (1, 0, 3)]
    assert run.left == 0


def test_a_failed_chain_of_ten_thousand_steps_ends_in_a_few_turns():
    rig = Rig()
    specs = [node("a")]
    specs += [node("b", after_node=step) for step in range(9_999)]
    run = rig.submit(*specs)
    rig.join()
    [grant] = rig.grants()
    rig.report(grant, done(grant, states="F"))
    while rig.scheduler.wait_s(rig.now) == 0:
        rig.tick()
    assert (run.left, shown(run)[-1]) == (0, "F")
    assert run.root_cause(9_999, 0) == (0, 0, run.nodes[0].ends[0])


# ------------------------------------------------------------------ failure


def inherited(
    node_: int, lo: int, hi: int, cause: int, index: int = NONE, state: State = State.FAILURE
) -> Inherited:
    return Inherited(1, node_, lo, hi, state, cause, index, WALL_S)


def test_a_failed_step_ends_all_that_follow_with_its_own_failure():
    rig = Rig()
    rig.join()
    run = rig.submit(node("a"), node("b", after_node=0), node("c", after_node=1), node("d", 2, after_node=2))
    [grant] = rig.grants()
    facts, _ = rig.report(grant, done(grant, states="F", errors={0: "boom"}))
    assert facts[1:] == [inherited(1, 0, 1, 0, 0), inherited(2, 0, 1, 0, 0), inherited(3, 0, 2, 0, 0)]
    assert shown(run) == ["F", "F", "F", "FF"]
    found = run.root_cause(3, 1)
    assert found is not None
    assert found == (0, 0, facts[0])


def test_failures_in_arrays_stay_in_their_own_chains():
    rig = Rig()
    rig.join(slots=6)
    run = rig.submit(node("a", 6), node("b", 6, after_node=0), node("c", 6, after_node=1))
    [grant] = rig.grants()
    facts, _ = rig.report(grant, done(grant, states="SFFSRS"))
    assert facts[1:] == [
        inherited(1, 1, 3, 0),
        inherited(1, 4, 5, 0, state=State.REVOKED),
        inherited(2, 1, 3, 0),
        inherited(2, 4, 5, 0, state=State.REVOKED),
    ]
    assert shown(run) == ["SFFSRS", "qFFqRq", ".FF.R."]
    assert run.root_cause(2, 2) == (0, 2, facts[0])


def test_a_chord_fails_at_once_with_its_first_failure_and_siblings_run_on():
    rig, run = chord(4)
    [grant] = rig.grants()
    facts, _ = rig.report(grant, done(grant, 2, 3, states="F"))
    assert facts[1:] == [inherited(1, 0, 1, 0, 2)]
    assert shown(run) == ["llFl", "F"]
    facts, _ = rig.report(grant, done(grant, 0, 2, states="FS"))
    assert [type(fact) for fact in facts] == [Settled]
    rig.report(grant, done(grant, 3, 4))
    assert (shown(run), run.lists[0].cause) == (["FSFS", "F"], (0, 2, State.FAILURE))


def test_a_failure_deep_in_lists_reaches_every_body_around_it_at_once():
    rig = Rig()
    rig.join(slots=10)
    lists = ([Slice(0, 0, 2)], [Nested(0), Slice(1, 0, 1)], [Nested(1), Slice(2, 0, 1)])
    run = rig.submit(node("a", 2), node("b"), node("c"), node("d", after_list=2, fed=True), lists=lists)
    grants = {grant.node: grant for grant in rig.grants()}
    facts, _ = rig.report(grants[0], done(grants[0], 1, 2, states="F"))
    assert facts[1:] == [inherited(3, 0, 1, 0, 1)]
    assert [part.cause for part in run.lists] == [(0, 1, State.FAILURE)] * 3
    rig.report(grants[0], done(grants[0], 0, 1))
    rig.report(grants[1], done(grants[1], states="F"))
    rig.report(grants[2])
    assert [(part.left, part.cause) for part in run.lists] == [(0, (0, 1, State.FAILURE))] * 3


def test_a_failure_before_a_chord_reaches_header_and_body():
    rig = Rig()
    rig.join()
    specs = (node("a"), node("b", 3, after_node=0), node("c", 3, after_node=1), node("d", after_list=0))
    run = rig.submit(*specs, node("e", 2, after_node=3), lists=([Slice(2, 0, 3)],))
    [grant] = rig.grants()
    facts, _ = rig.report(grant, done(grant, states="F"))
    assert facts[1:] == [
        inherited(1, 0, 3, 0, 0),
        inherited(2, 0, 3, 0, 0),
        inherited(3, 0, 1, 0, 0),
        inherited(4, 0, 2, 0, 0),
    ]
    assert (run.left, shown(run)) == (0, ["F", "FFF", "FFF", "F", "FF"])


def test_a_failed_chain_in_a_header_names_the_element_that_failed():
    rig = Rig()
    rig.join(slots=3)
    specs = (node("a", 3), node("b", 3, after_node=0), node("c", after_list=0))
    run = rig.submit(*specs, lists=([Slice(1, 0, 3)],))
    [grant] = rig.grants()
    facts, _ = rig.report(grant, done(grant, 1, 2, states="F"))
    assert facts[1:] == [inherited(1, 1, 2, 0), inherited(2, 0, 1, 0, 1)]
    assert run.root_cause(2, 0) == (0, 1, facts[0])


def test_what_has_not_ended_has_no_cause():
    rig, run = chord(2)
    assert run.root_cause(1, 0) is None
    [grant] = rig.grants()
    facts, _ = rig.report(grant, done(grant, 1, 2))
    assert (run.root_cause(0, 0), run.root_cause(0, 1)) == (None, (0, 1, facts[0]))


def test_the_ends_of_a_value_come_in_its_order():
    rig = Rig()
    rig.join(slots=5)
    lists = ([Slice(0, 0, 1), Slice(1, 0, 1), Slice(0, 1, 3)],)
    run = rig.submit(node("a", 3), node("b"), lists=lists, value=Nested(0))
    first, second = rig.grants()
    rig.report(first, done(first, 1, 3), done(first, 0, 1))
    rig.report(second)
    ends = [(fact.node, fact.lo, fact.hi) for fact in run.ends_of(run.tree(Nested(0)))]
    assert ends == [(0, 0, 1), (1, 0, 1), (0, 1, 3)]
    assert list(run.nodes[0].covering(1, 2)) == [run.nodes[0].ends[0]]


def test_blobs_of_arguments_and_results_are_listed():
    rig = Rig()
    rig.join(slots=2)
    run = rig.submit(node("a", 2), lists=([Slice(0, 0, 2)],), value=Nested(0))
    [grant] = rig.grants()
    rig.report(grant, done(grant, 0, 1, blob="b" * 32), done(grant, 1, 2))
    assert run.blobs() == ["b" * 32]
    graph = Graph([node()], value=Slice(0, 0, 1))
    other = Run(Accepted(9, b"x" * 16, "", 0.0, graph, [BlockMeta(0, 0, 1, 9, "a" * 32)]))
    assert (other.blobs(), letters(other.nodes[0].state), grant.token) == (["a" * 32], ".", token(1))
