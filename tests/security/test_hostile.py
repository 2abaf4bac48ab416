"""A hub under peers that have a key and say anything at all: it goes on, and serves the honest ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbq import wire
from nbq.core.events import Outcome
from tests.security.loopback import GRAPH, ROLES, RUN, Memory
from tests.wire.samples import TO_HUB, instances, to_hub

_SETTINGS = settings(
    max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


_IDS = st.sampled_from([RUN, bytes(16), bytes(range(1, 17))])


def near(message: Any) -> st.SearchStrategy[Any]:
    """Return messages like one, that name runs which exist and tokens which may."""
    fields = set(message.__struct_fields__)
    changes: dict[str, st.SearchStrategy[Any]] = {}
    if "run" in fields:
        changes["run"] = _IDS
    if "graph" in fields:
        changes["graph"] = st.sampled_from([GRAPH, message.graph])
    return st.fixed_dictionaries(changes).map(lambda values: _replaced(message, values))


def _replaced(message: Any, values: dict[str, Any]) -> Any:
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    return type(message)(**{**fields, **values})


MESSAGES = to_hub().flatmap(near)


def honest(memory: Memory, turn: int) -> None:
    """Let an honest client submit a run and an honest engine be there for it."""
    client = memory.join("client", b"\0honest")
    run = turn.to_bytes(16, "little")
    put = wire.PutFunctions({GRAPH.nodes[0].function: b"code"})
    block = wire.Block(0, 0, 2, b"calls", 5)
    replies = memory.say(client, put, wire.Submit(run, GRAPH, [block]))
    assert wire.Accepted([run]) in replies
    (found,) = [m for m in memory.say(client, wire.Ask(1, "find", run.hex())) if isinstance(m, wire.Found)]
    assert found.run == run


def everybody(folder: Path) -> Memory:
    """Return a hub with a peer of each role, and work."""
    memory = Memory(folder)
    for role in ROLES:
        memory.join(role)
    memory.submit()
    return memory


@pytest.mark.parametrize("role", ROLES)
def test_any_valid_messages_leave_the_hub_serving(tmp_path: Path, role: wire.Role) -> None:
    @_SETTINGS
    @given(st.lists(MESSAGES, min_size=1, max_size=20), st.integers(1, 4))
    def check(messages: list[Any], hello_every: int) -> None:
        memory = everybody(tmp_path)
        for number, message in enumerate(messages):
            if number % hello_every == 0:
                memory.join(role)
            memory.say(b"\0" + role.encode(), message)
            memory.pass_time(0.3)
        honest(memory, 7_000)

    check()


@pytest.mark.parametrize("kind", TO_HUB, ids=lambda kind: kind.__name__)
def test_any_messages_of_a_class_leave_the_hub_serving(tmp_path: Path, kind: Any) -> None:
    @settings(parent=_SETTINGS, max_examples=8)
    @given(st.lists(instances(kind).flatmap(near), min_size=1, max_size=6))
    def check(messages: list[Any]) -> None:
        memory = everybody(tmp_path)
        for role in ROLES:
            memory.say(b"\0" + role.encode(), *messages)
            memory.pass_time(1.0)
        honest(memory, 8_000)

    check()


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=20), st.booleans())
@_SETTINGS
def test_any_bytes_leave_the_hub_serving(folder: Path, frames: list[bytes], known: bool) -> None:
    memory = everybody(folder)
    peer = b"\0client"
    for frame in frames:
        memory.put(peer, (memory.sessions[peer] if known else b"") + frame)
    honest(memory, 9_000)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 1e300])
def test_times_that_cannot_be_are_malformed(folder: Path, seconds: float) -> None:
    memory = everybody(folder)
    token = next(iter(memory.hub.scheduler.ledger.leases))
    report = wire.Report(1, [Outcome(token, 0, 1, seconds=seconds)], [b""])
    (denied,) = memory.say(b"\0engine", report)
    assert isinstance(denied, wire.Denied)
    assert denied.code == "malformed"
    honest(memory, 9_001)
