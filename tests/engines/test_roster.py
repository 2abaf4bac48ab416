"""Which slot runs what: never more at a time than there are slots, but for those that wait."""

from __future__ import annotations

from nbq import wire
from nbq.engines.roster import Held, Roster, Run, TakeBack


def roster(slots: int, elements: int, tasks: int = 0) -> Roster:
    """Return a roster whose slots are up, with one lease whose elements take long."""
    made = Roster(slots, tasks)
    args = wire.Block(0, 0, elements, b"x", 1)
    lease = wire.Lease(5, bytes(16), 0, 0, elements, 1, "t", bytes(16), args, False, None, False, 0.5)
    made.held[5] = Held(lease)
    made.ready(5)
    for number in range(slots):
        made.slot_up(number)
    return made


def runs(made: Roster) -> list[tuple[int, int]]:
    """Return slot and element of what was ordered since the last time."""
    found = [(order.slot, order.lo) for order in made.orders if isinstance(order, Run)]
    made.orders.clear()
    return found


def end(made: Roster, slot: int, index: int) -> None:
    """Let the element of a slot end."""
    made.close(5, index, index + 1)
    made.chunk_done(slot)


def test_a_stand_in_runs_while_an_element_waits_and_no_longer() -> None:
    made = roster(1, 4)
    assert (runs(made), made.wanted) == ([(0, 0)], 1)
    made.waits(0, True)
    assert (made.waiting, made.wanted, runs(made)) == (1, 2, [])
    made.slot_up(1)
    assert runs(made) == [(1, 1)]
    made.waits(0, False)
    assert (made.waiting, runs(made)) == (0, [])
    end(made, 1, 1)
    assert runs(made) == []  # the waiter goes on before anything else begins
    end(made, 0, 0)
    assert runs(made) == [(0, 2)]
    assert (made.is_idle(0), made.is_idle(1), made.wanted) == (False, True, 1)


def test_no_stand_in_is_wanted_for_nothing() -> None:
    made = roster(2, 2)
    made.waits(0, True)
    assert made.wanted == 2
    made.waits(1, True)
    assert made.wanted == 2


def test_what_a_waiter_and_others_have_not_started_is_taken_back() -> None:
    made = roster(2, 40)
    made.learn(bytes(16), 0.0001)
    made.orders.clear()
    made.chunk_done(0)
    made.chunk_done(1)
    made.orders.clear()
    made.waits(0, True)
    assert made.orders == [TakeBack(0)]
    made.took_back(0, [])
    made.slot_up(2)
    made.orders.clear()
    made.waits(0, False)
    assert made.orders == [TakeBack(1), TakeBack(2)]


def test_a_slot_that_dies_does_not_wait_any_more() -> None:
    made = roster(1, 2)
    made.waits(0, True)
    made.slot_down(0, 5, 0)
    assert made.waiting == 0


def test_a_process_is_given_so_many_elements_and_no_more() -> None:
    made = roster(1, 9, tasks=3)
    made.learn(bytes(16), 0.0001)
    end(made, 0, 0)
    orders = [order for order in made.orders if isinstance(order, Run)]
    assert (sum(order.hi - order.lo for order in orders), made.is_spent(0)) == (3, True)
    made.close(5, 1, 9)  # so that nothing takes the place of what is given back
    made.took_back(0, [(5, 2, 3)])
    assert not made.is_spent(0)


def test_a_worn_process_is_given_nothing_until_another_has_its_place() -> None:
    made = roster(1, 3)
    runs(made)
    made.wear(0)
    end(made, 0, 0)
    assert (runs(made), made.is_spent(0), made.is_idle(0)) == ([], True, True)
    made.slot_up(0)
    assert (runs(made), made.is_spent(0)) == ([(0, 1)], False)


def test_slots_that_are_too_many_end_what_they_run_and_are_given_nothing() -> None:
    made = roster(3, 5)
    assert runs(made) == [(0, 0), (1, 1), (2, 2)]
    made.resize(1)
    assert (made.count, made.is_spent(0), made.is_spent(1), made.is_spent(2)) == (1, False, True, True)
    end(made, 0, 0)
    end(made, 1, 1)
    assert runs(made) == []  # one still runs in a slot too many, and no more may
    end(made, 2, 2)
    assert runs(made) == [(0, 3)]


def test_what_a_slot_too_many_has_not_started_is_taken_back() -> None:
    made = roster(2, 40)
    made.learn(bytes(16), 0.0001)
    for slot, index in runs(made):
        end(made, slot, index)
    runs(made)
    made.resize(1)
    assert made.orders == [TakeBack(1)]


def test_slots_that_are_needed_again_go_on_and_new_ones_begin_when_they_are_up() -> None:
    made = roster(2, 6)
    runs(made)
    made.resize(1)
    made.resize(3)
    assert [made.is_spent(number) for number in range(3)] == [False] * 3
    end(made, 1, 1)
    assert runs(made) == [(1, 2)]
    made.slot_up(2)
    assert runs(made) == [(2, 3)]
