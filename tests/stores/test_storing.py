"""What a slot puts into the store, what it leaves alone, and what becomes of what is not taken."""

from __future__ import annotations

import pytest

from nbq import payload
from nbq.core.events import Again
from nbq.core.model import Options, State
from nbq.engines.pipe import Results, Work
from nbq.engines.storing import Storing
from nbq.errors import NbqError, ResultStoreError, SettingsError
from nbq.stores import ResultStore

KEY = bytes(payload.KEY_BYTES)
RUN = bytes(range(16))
SUCCESS, FAILURE = int(State.SUCCESS), int(State.FAILURE)


class Memory:
    """A back end and a used store at once; ``error`` is what it says to each put."""

    piece_bytes = 1 << 20

    def __init__(self, error: NbqError | None = None) -> None:
        self.kept: dict[str, tuple[bytes, float | None]] = {}
        self.error = error

    def opened(self) -> ResultStore:
        return ResultStore("mine://me:pw@host", self)

    def put(self, name: str, data: bytes, expires_s: float | None) -> None:
        if self.error is not None:
            raise self.error
        self.kept[name] = data, expires_s


def work(*, attempt: int = 1, ignore_result: bool = False, **options: object) -> Work:
    return Work(
        1, 7, RUN, 3, 10, 12, attempt, "t", bytes(16), [], False, "", "", ignore_result, {},
        options=Options(**options),
    )  # fmt: skip


def results(states: bytes = b"", **fields: object) -> Results:
    elements = [payload.dumps(value) for value in ("one", "two")]
    printed = {1: ("out", "err")}
    return Results(7, 10, 12, states, elements, 1000.0, [0.5, 0.25], {}, printed, **fields)


def test_values_are_stored_under_their_seal_with_all_that_goes_with_them() -> None:
    memory = Memory()
    [sent] = Storing(KEY, memory, 60.0, "on e").stored(work(), results(bytes([SUCCESS, FAILURE])))
    [(name, (data, expires_s))] = memory.kept.items()
    assert sent == Results(
        7,
        10,
        12,
        bytes([SUCCESS, FAILURE]),
        [],
        1000.0,
        [0.5, 0.25],
        {},
        {},
        name,
        len(data),
        store="mine://host",
    )
    opened = payload.unseal(KEY, payload.origin("result", RUN, 3, 10), data)
    assert ([opened.value(0), opened.value(1)], expires_s) == (["one", "two"], 60.0)
    assert payload.load_extras(opened.extras)[2] == {1: ("out", "err")}


@pytest.mark.parametrize(
    ("what", "sent"),
    [
        (work(), results(bytes([State.RETRY]), again=Again(1.0))),
        (work(), results(bytes([State.WAITING]))),
        (work(ignore_result=True), results()),
    ],
    ids=["arguments of a retry", "another canvas", "ignored"],
)
def test_what_is_no_value_is_left_alone(what: Work, sent: Results) -> None:
    memory = Memory()
    assert (Storing(KEY, memory, 60.0, "on e").stored(what, sent), memory.kept) == ([sent], {})


def test_the_failure_of_an_ignored_result_is_stored() -> None:
    memory = Memory()
    Storing(KEY, memory, 60.0, "on e").stored(work(ignore_result=True), results(bytes([FAILURE, FAILURE])))
    assert len(memory.kept) == 1


@pytest.mark.parametrize(("attempt", "delay_s"), [(1, 1.0), (2, 2.0), (4, 8.0), (7, 64.0), (5000, 64.0)])
def test_what_is_not_taken_runs_again_later_each_time_and_not_on_its_account(
    attempt: int, delay_s: float
) -> None:
    storing = Storing(KEY, Memory(ResultStoreError("it is down")), 60.0, "on e")
    again = Again(delay_s, None, "nbq.errors.ResultStoreError: it is down", counted=False)
    retry = bytes([State.RETRY])
    assert storing.stored(work(attempt=attempt), results()) == [
        Results(7, 10, 11, retry, [], 1000.0, [0.5], {}, {}, again=again),
        Results(7, 11, 12, retry, [], 1000.0, [0.25], {}, {}, again=again),
    ]


@pytest.mark.parametrize(
    ("error", "options"),
    [(ResultStoreError("it is down"), {"acks_late": False}), (SettingsError("no such thing"), {})],
    ids=["may start once", "will never be taken"],
)
def test_what_may_not_run_again_fails_with_the_reason(error: NbqError, options: dict[str, bool]) -> None:
    [sent] = Storing(KEY, Memory(error), 60.0, "on e").stored(work(**options), results())
    text = f"nbq.errors.{type(error).__name__}: {error}"
    assert (sent.states, sent.errors, sent.serializer) == (bytes([FAILURE, FAILURE]), {10: text}, "json")
    rebuilt = payload.load_failure(sent.elements[1], "the task")
    assert (type(rebuilt), str(rebuilt)) == (type(error), str(error))
