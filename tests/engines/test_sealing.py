"""What a supervisor makes of leases and of what slots send: no field is lost, every block has its place."""

from __future__ import annotations

import pytest

from nbq import payload, wire
from nbq.core.events import Addition, Again, Outcome
from nbq.core.model import BlockMeta, Graph, NodeSpec, On, Options, State
from nbq.engines import pipe
from nbq.engines.sealing import Ended, Sealing
from nbq.errors import TimeLimitExceeded
from nbq.wire import Block, Kin

KEY = bytes(range(32))
RUN, SCOPE, FUNCTION = b"r" * 16, b"s" * 16, b"f" * 16
OPTIONS = Options(priority=3, time_limit_s=2.5, result_compression="gzip")
PLACES = {"of the run": (b"", 0, RUN, 7), "added": (SCOPE, 2, RUN + SCOPE, 2)}
place = pytest.mark.parametrize(("scope", "inner", "run", "node"), PLACES.values(), ids=PLACES)


def lease(scope: bytes = b"", inner: int = 0, data: bytes = b"", **changes: object) -> wire.Lease:
    args = Block(7, 10, 4, data, len(data))
    values = {
        "token": 5, "run": RUN, "node": 7, "lo": 10, "hi": 14, "attempt": 2, "task": "shop.pay",
        "function": FUNCTION, "args": args, "shared": False, "feed": None, "ignore_result": False,
        "cancel_grace_s": 0.5, "ids": {11: "mine"}, "retries": 1, "scope": scope, "inner": inner,
        "options": OPTIONS, "parent": Kin(3), "root": Kin(0, 0), "on": On.FAILURE, "told": "it",
        "header": True, "at_s": 99.0,
    }  # fmt: skip
    return wire.Lease(**{**values, **changes})  # type: ignore[arg-type]


def results(count: int = 1, **changes: object) -> pipe.Results:
    elements = [b"value %d" % number for number in range(count)]
    made = pipe.Results(5, 11, 11 + count, b"", elements, 50.0, [0.5] * count, {}, {})
    return made if not changes else pipe.Results(**{**_fields(made), **changes})  # type: ignore[arg-type]


def _fields(made: pipe.Results) -> dict[str, object]:
    return {name: getattr(made, name) for name in made.__struct_fields__}


@place
def test_work_has_all_that_the_lease_says(scope: bytes, inner: int, run: bytes, node: int) -> None:
    calls = [bytes(payload.dump_call((number,), {})) for number in range(4)]
    sealed = payload.seal(KEY, payload.origin("args", run, node, 10, FUNCTION), calls, serializer="json")
    work = Sealing(KEY, "e").work(lease(scope, inner, sealed), 11, 13, 40, "/blobs")
    assert work == pipe.Work(
        40, 5, RUN, 7, 11, 13, 2, "shop.pay", FUNCTION, calls[1:3], False, "", "/blobs", False, {11: "mine"},
        1, scope, inner, OPTIONS, Kin(3), Kin(0, 0), On.FAILURE, "it", True, 99.0, "json", "",
    )  # fmt: skip
    assert work.place == (run, node)


def test_arguments_that_were_sealed_for_another_place_are_not_given_to_a_slot() -> None:
    sealed = payload.seal(KEY, payload.origin("args", RUN, 7, 10, FUNCTION), [b"1"] * 4)
    assert Sealing(KEY, "e").work(lease(SCOPE, 2, sealed), 10, 12, 1, "").calls == [b"", b""]


@place
def test_results_are_sealed_for_the_place_of_the_lease(
    scope: bytes, inner: int, run: bytes, node: int
) -> None:
    sent = results(2, serializer="json", compression="gzip", children=["child"], output={1: ("out", "err")})
    ended = Sealing(KEY, "e").ended(lease(scope, inner), sent, far=False)
    block = payload.unseal(KEY, payload.origin("result", run, node, 11), ended.block)
    assert [bytes(block.element(index)) for index in range(2)] == sent.elements
    assert block.serializer == "json"
    assert payload.load_extras(block.extras)[2:] == ({1: ("out", "err")}, {0: ["child"]})
    assert ended == Ended(Outcome(5, 11, 13, size=len(ended.block), seconds=1.0), ended.block)


def test_the_new_arguments_of_a_retry_are_sealed_as_arguments() -> None:
    again = Again(1.5, text="later")
    sent = results(states=bytes([State.RETRY]), again=again)
    ended = Sealing(KEY, "e").ended(lease(SCOPE, 2), sent, far=False)
    block = payload.unseal(KEY, payload.origin("args", RUN + SCOPE, 2, 11, FUNCTION), ended.block)
    assert bytes(block.element(0)) == b"value 0"
    states = bytes([State.RETRY])
    assert ended.outcome == Outcome(5, 11, 12, states, len(ended.block), "", 0.5, again=again)
    bare = Sealing(KEY, "e").ended(
        lease(), results(states=bytes([State.RETRY]), again=again, elements=[]), far=False
    )
    assert bare == Ended(Outcome(5, 11, 12, bytes([State.RETRY]), seconds=0.5, again=again), b"")


def test_what_is_added_is_named_and_its_files_are_sent_first() -> None:
    graph = Graph([NodeSpec("t", FUNCTION, 3)])
    blocks = [Block(0, 0, 1, b"abc", 3), Block(0, 1, 2, b"", 900_000, "aa" * 16)]
    functions = {FUNCTION: b"code", b"g" * 16: b""}
    states = bytes([State.WAITING])
    sent = results(states=states, elements=[], added=[pipe.Added(SCOPE, graph, blocks, True, functions)])
    metas = [BlockMeta(0, 0, 1, 3), BlockMeta(0, 1, 2, 900_000, "aa" * 16)]
    outcome = Outcome(5, 11, 12, states, seconds=0.5, additions=[Addition(SCOPE, graph, metas, True)])
    near = Ended(outcome, b"", [b"abc"], functions, [])
    assert Sealing(KEY, "e").ended(lease(), sent, far=False) == near
    far = Ended(outcome, b"", [b"abc"], functions, ["aa" * 16, (b"g" * 16).hex()])
    assert Sealing(KEY, "e").ended(lease(), sent, far=True) == far


@pytest.mark.parametrize(("store", "blobs"), [("", ["bb" * 16]), ("redis", [])])
def test_a_file_is_sent_and_what_a_store_has_is_not(store: str, blobs: list[str]) -> None:
    sent = results(elements=[], blob="bb" * 16, size=900, store=store)
    outcome = Outcome(5, 11, 12, b"", 900, "bb" * 16, 0.5, store=store)
    assert Sealing(KEY, "e").ended(lease(), sent, far=True) == Ended(outcome, b"", blobs=blobs)


@place
def test_a_task_that_ran_too_long_has_failed(scope: bytes, inner: int, run: bytes, node: int) -> None:
    ended = Sealing(KEY, "e").limited(lease(scope, inner), 11, 50.0, 2.75)
    block = payload.unseal(KEY, payload.origin("result", run, node, 11), ended.block)
    error = payload.load_failure(block.element(0), "mine")
    text = "shop.pay was stopped after 2.75 s; its time_limit is 2.5 s [task mine]"
    assert (type(error), str(error)) == (TimeLimitExceeded, text)
    assert error.__notes__ == ["in task mine, on engine e, attempt 2"]
    started_s, seconds, *_ = payload.load_extras(block.extras)
    assert (started_s, list(seconds)) == (50.0, [2.75])
    line = f"nbq.errors.TimeLimitExceeded: {text}"
    states = bytes([State.FAILURE])
    assert ended == Ended(Outcome(5, 11, 12, states, len(ended.block), "", 2.75, {11: line}), ended.block)
