"""Points 55 to 67 of the canvas: failures, errbacks, replacement and results."""

import pytest

from nbq.canvas import Canvas, Signature, chain, chord, group, plan
from nbq.core.model import On
from tests.conformance.canvas.tasks import (
    ExpectedError,
    add,
    become,
    become_add_to_all,
    each_plus,
    fail,
    grow,
    i,
    log,
    note,
    told_all,
    told_id,
    tsum,
)

SUM = tsum.s()
OK, BAD = i.si(1), fail.si("F")
FAILED = f"{fail.name}[0]"


def r(canvas: Canvas) -> Signature:
    """Return a task that is replaced by a canvas, whatever it is fed."""
    return become.si(canvas.to_dict())


def fails(ran) -> None:
    assert ran.state == "FAILURE"
    with pytest.raises(ExpectedError, match="F"):
        ran.get()


# ------------------------------------------------------------------ failures


def test_point_55_a_failed_header_fails_the_body_with_the_original_exception(run):
    ran = run(chord([OK, BAD], note.s()))
    fails(ran)
    assert (ran.states, log) == (["SUCCESS", "FAILURE", "FAILURE"], [])


def test_point_55_a_body_may_take_the_exceptions(run):
    assert run(chord([OK, BAD, OK], i.s(), propagate=False)).get() == [1, ExpectedError("F"), 1]
    assert run((group(OK, BAD) | i.s()).set(propagate=False)).get() == [1, ExpectedError("F")]
    nested = chord([OK, chain(OK, group(OK, BAD)), BAD | i.s()], i.s(), propagate=False)
    assert run(nested).get() == [1, [1, ExpectedError("F")], ExpectedError("F")]
    fails(run(chain(BAD, chord([i.s(), i.s()], i.s(), propagate=False))))


@pytest.mark.parametrize(
    "canvas",
    [
        chord([OK, OK], BAD),
        chord([BAD | OK, OK], SUM),
        chord([OK | BAD, OK], SUM),
        chord([OK, OK], chain(BAD, OK)),
        chord([OK, OK], chain(OK, BAD)),
        chord([group(OK, BAD)], SUM),
        chord([OK, OK], group(OK, BAD)),
        chord([OK, OK], chord([OK, BAD], SUM)),
        chord([OK, OK], chord([OK, OK], BAD)),
        chord([chord([OK, BAD], SUM), OK], SUM),
        chain(chain(group(OK, BAD), i.s()), i.s()),
        group(OK, chord([BAD], SUM)),
    ],
)
def test_point_56_a_failure_anywhere_is_the_failure_of_the_whole(run, canvas):
    fails(run(canvas))


@pytest.mark.parametrize(
    "canvas",
    [
        chain(group(OK, chain(BAD, group(i.si(2), i.si(3)), i.si(4))), i.s()),
        add.s(1, 1) | BAD | group(add.s(1), add.s(1)),
        add.s(1, 1) | add.s(1) | group(add.s(1), BAD),
    ],
)
def test_point_57_what_hangs_in_celery_fails(run, canvas):
    ran = run(canvas)
    fails(ran)
    assert set(ran.states) <= {"SUCCESS", "FAILURE"}


def test_point_58_links_and_errbacks_of_a_chord(run):
    assert (run(chord([OK, OK], SUM), link=note.s()).get(), log) == (2, [("note", 2)])
    log.clear()
    fails(run(chord([BAD] * 42, SUM.clone(task_id="the body")).on_error(told_id.s())))
    assert log == [("told_id", "the body")]
    log.clear()
    fails(run(chord([OK, OK], group([BAD] * 42)).on_error(told_id.s())))
    assert log == [("told_id", f"{fail.name}[{k}]") for k in range(42)]
    log.clear()
    fails(run(chord([OK, OK], chain(i.s(), BAD, i.s())).on_error(told_id.s())))
    assert log == [("told_id", FAILED)]


def test_point_59_an_errback_of_the_header_itself_is_called_for_each_member(run):
    canvas = (group([BAD] * 3).on_error(told_id.s()) | SUM.clone(task_id="the body")).on_error(told_id.s())
    fails(run(canvas))
    assert sorted(log) == sorted(
        [("told_id", f"{fail.name}[{k}]") for k in range(3)] + [("told_id", "the body")]
    )
    log.clear()
    nested = chord([chord([BAD, OK], SUM), OK], SUM.clone(task_id="the body")).on_error(told_id.s())
    fails(run(nested))
    assert log == [("told_id", "the body")]


def test_point_60_the_styles_of_errbacks(run):
    fails(run(BAD.clone().set(link_error=[told_id.s(), told_all.s(), note.si("own")])))
    assert log == [("told_id", FAILED), ("told_all", FAILED, ExpectedError("F")), ("note", "own")]
    planned = plan(BAD, link_error=told_id.s())
    assert [(node.on, planned.value.node) for node in planned.nodes] == [(On.SUCCESS, 0), (On.FAILURE, 0)]


# ------------------------------------------------------------------ replacement


@pytest.mark.parametrize(
    ("canvas", "value"),
    [
        (chain(r(i.si(42)), i.s()), 42),
        (chain(i.s(0), r(i.si(42)), i.s()), 42),
        (chain(i.s(0), r(i.si(42))), 42),
        (group(i.s(42), r(i.si(1337)), i.s(31337)), [42, 1337, 31337]),
        (chord([i.s(42), r(i.si(1337))], i.s()), [42, 1337]),
        (chord([i.s(42)], r(i.si(1337))), 1337),
        (chain(r(add.s(1, 1) | add.s(1)), add.s(1)), 4),
    ],
)
def test_point_61_a_replaced_task_keeps_its_place_and_its_links(run, canvas, value):
    assert (run(canvas, link=note.s()).get(), log) == (value, [("note", value)])


def test_point_62_inner_and_outer_links_and_errbacks_are_called(run):
    inner = add.si("Hello ", "there ").set(link=note.s("inner"))
    canvas = chain(i.s("x"), r(inner).set(link=note.s("outer")), add.s("world"))
    assert run(canvas).get() == "Hello there world"
    assert log == [("note", "Hello there ", "inner"), ("note", "Hello there ", "outer")]
    log.clear()
    fails(run(r(BAD.clone().set(link_error=note.si("inner"))).set(link_error=note.si("outer"))))
    assert log == [("note", "inner"), ("note", "outer")]


def test_point_63_a_replacement_ends_before_what_it_replaces(run):
    second = r(note.si("In/Out C")).set(link=note.si("Out B"))
    first = r(note.si("In B") | second).set(link=note.si("Out A"))
    run(note.si("In A") | first).get()
    assert log == [("note", text) for text in ("In A", "In B", "In/Out C", "Out B", "Out A")]


def test_point_64_a_task_that_is_replaced_by_a_group_gives_the_list(run):
    members = [become_add_to_all.s([2, 1], 1), become_add_to_all.s([4, 3], 1)] * 10
    assert run(group(members)).get() == [[3, 2], [5, 4]] * 10
    assert run(become_add_to_all.s([1, 2], 1) | each_plus.s(10)).get() == [12, 13]
    inner = chord([add.si(1, 2), add.si(3, 4)], tsum.s())
    assert run(chord([r(inner), r(inner | add.s(9))], i.s())).get() == [10, 19]


def test_point_65_a_member_may_add_members_to_its_chord(run):
    more = [add.si(0, k).to_dict() for k in (5, 6, 7)]
    assert sorted(run(chord([grow.s(0, *more)], i.s())).get()) == [0, 5, 6, 7]
    added = chord([add.si(4, 4), add.si(5, 5)], tsum.s()).to_dict()
    assert run(chord([grow.s(0, added)], i.s())).get() == [0, 18]


# ------------------------------------------------------------------ results


def test_point_66_failures_and_values_of_a_set_of_results(run):
    ran = run(group(fail.s("F"), i.s(1)))
    assert ran.values == [ExpectedError("F"), 1]
    assert ran.states == ["FAILURE", "SUCCESS"]


def test_point_67_an_errback_leaves_the_exception_as_it_is(run):
    ran = run(fail.s("F"), link_error=told_all.s())
    assert ran.of().value == ExpectedError("F")
    assert log == [("told_all", FAILED, ExpectedError("F"))]
