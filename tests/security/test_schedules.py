"""The hub takes schedules as it takes runs: functions first, blocks staged or not, each request once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbq import wire
from nbq.core.ids import fire_salt, made_id
from nbq.core.model import Graph, NodeSpec, Origin, Slice
from nbq.core.timing import Every, Fire, ScheduleSpec, ScheduleState
from nbq.core.views import ScheduleView
from nbq.hub import Hub, HubInfo
from tests.security.loopback import FUNCTION, ROLES, Memory

OWN = b"schedule" * 2
GRAPH = Graph([NodeSpec("t", FUNCTION, 4)], value=Slice(0, 0, 1))
BLOCKS = [
    wire.Block(0, 0, 2, b"first", 5),
    wire.Block(0, 2, 1, b"", 9, "ab" * 16),
    wire.Block(0, 3, 1, b"third", 5),
]
SPEC = ScheduleSpec(Every(100.0))
CLIENT = b"\0client"
FUNCTIONS = wire.PutFunctions({FUNCTION: b"code"})


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    memory = Memory(tmp_path)
    for role in ROLES:
        memory.join(role)
    return memory


def put(number: int = 1, **fields: Any) -> wire.PutSchedule:
    given: dict[str, Any] = {"name": "tick", "id": OWN, "spec": SPEC, "graph": GRAPH, "blocks": BLOCKS}
    return wire.PutSchedule(number, **(given | fields))


def stored(memory: Memory, run: int) -> dict[int, bytes]:
    return {number: data for (of, number), data in memory.store.blocks.items() if of == run}


def test_missing_functions_are_asked_for_before_it_is_taken(memory: Memory) -> None:
    assert memory.say(CLIENT, put()) == [wire.NeedFunctions([FUNCTION])]
    assert memory.hub.scheduler.ledger.schedules == {}
    assert memory.say(CLIENT, FUNCTIONS, put()) == [wire.Answer(1, 1)]
    assert memory.say(CLIENT, put(2)) == [wire.Answer(2, 1)]  # sent again


def test_staged_blocks_are_counted_and_kept_under_its_number(memory: Memory) -> None:
    stage = wire.Stage(OWN, 0, BLOCKS[:2])
    assert memory.say(CLIENT, FUNCTIONS, stage) == [wire.Staged(OWN, 2)]
    short = put(blocks=BLOCKS[2:], staged=1)
    assert memory.say(CLIENT, short) == [wire.Staged(OWN, 2)]
    assert memory.say(CLIENT, put(blocks=BLOCKS[2:], staged=2)) == [wire.Answer(1, 1)]
    schedule = memory.hub.scheduler.ledger.schedules["tick"]
    assert schedule.blocks == [block.meta() for block in BLOCKS]
    assert stored(memory, schedule.number) == {0: b"first", 2: b"third"}
    assert memory.hub.stagings.get(OWN) is None


def test_what_was_staged_for_a_refused_one_is_dropped(memory: Memory) -> None:
    memory.say(CLIENT, FUNCTIONS, wire.Stage(OWN, 0, BLOCKS))
    bad = put(blocks=[], staged=3, spec=ScheduleSpec(Every(100.0, tz="Mars/Base")))
    (refused,) = memory.say(CLIENT, bad)
    assert isinstance(refused, wire.Rejected)
    why = "the schedule 'tick' means nothing: there is no time zone 'Mars/Base'"
    assert (refused.code, refused.request, refused.text[: len(why)]) == ("schedule", 1, why)
    assert memory.hub.stagings.get(OWN) is None


def test_a_fire_has_copies_of_its_blocks_and_names_its_origin(memory: Memory) -> None:
    memory.say(CLIENT, FUNCTIONS, put(spec=ScheduleSpec(Every(10.0))))
    fire_s = 1_700_000_010.0
    memory.pass_time(10.0)
    leases = [m for m in memory.say(b"\0engine", wire.Beat([])) if isinstance(m, wire.Lease)]
    run = memory.hub.scheduler.ledger.by_id[made_id(OWN, fire_salt(fire_s))]
    assert stored(memory, run.number) == {0: b"first", 2: b"third"}
    origin = Origin(OWN, fire_salt(fire_s), 0, "tick", fire_s)
    first = leases[0]
    assert (first.run, first.args.data, first.origin, first.args_place) == (
        run.id, b"first", origin, (OWN, 0),
    )  # fmt: skip


def test_run_now_answers_with_the_run_and_makes_it_once(memory: Memory) -> None:
    memory.say(CLIENT, FUNCTIONS, put())
    change = wire.ChangeSchedule(2, "tick", "run", b"s" * 16)
    made = [made_id(OWN, b"s" * 16)]
    assert memory.say(CLIENT, change, change) == [wire.Answer(2, 1, made=made)] * 2
    assert [run.id for run in memory.hub.scheduler.ledger.runs.values()] == made


def test_the_list_has_the_last_fire_and_one_by_name_has_all(memory: Memory) -> None:
    memory.say(CLIENT, FUNCTIONS, put(), put(2, name="a", id=b"another " * 2))
    for number in range(3):
        memory.say(CLIENT, wire.ChangeSchedule(3, "tick", "run", bytes([number]) * 16))
    runs = [run.id for run in memory.hub.scheduler.ledger.runs.values()]
    at_s = 1_700_000_000.0
    fires = [Fire(at_s, at_s, "manual", run) for run in runs]

    def view(name: str, history: list[Fire], active: list[bytes]) -> ScheduleView:
        state = ScheduleState(at_s, runs=len(active), history=history)
        return ScheduleView(name, SPEC, state, "key-client", at_s, at_s + 100, active, len(active))

    rows = [view("a", [], []), view("tick", fires[-1:], runs)]
    viewer = b"\0viewer"
    assert memory.say(viewer, wire.Ask(1, "schedules")) == [wire.Answer(1, 2, schedules=rows)]
    page = wire.Ask(1, "schedules", limit=1, index=1)
    assert memory.say(viewer, page) == [wire.Answer(1, 2, schedules=rows[1:])]
    one = wire.Answer(1, 1, schedules=[view("tick", fires, runs)])
    assert memory.say(viewer, wire.Ask(1, "schedules", "tick")) == [one]
    text = "there is no schedule 'tock': it is mistyped, was removed, or had finished"
    assert memory.say(viewer, wire.Ask(1, "schedules", "tock")) == [wire.Rejected("unknown", text, request=1)]


def test_a_blob_is_deleted_with_the_last_run_that_names_it(memory: Memory) -> None:
    path = memory.blobs.folder / ("ab" * 16)
    path.write_bytes(b"arguments")
    memory.say(CLIENT, FUNCTIONS, put())
    memory.say(CLIENT, wire.ChangeSchedule(2, "tick", "run", b"s" * 16))
    run = made_id(OWN, b"s" * 16)
    memory.say(CLIENT, wire.ChangeSchedule(3, "tick", "remove", b"r" * 16))
    assert path.exists()
    memory.say(CLIENT, wire.Cancel(4, run))
    assert memory.say(CLIENT, wire.Forget(5, run)) == [wire.Answer(5, 1)]
    assert not path.exists()


def test_the_next_hub_keeps_what_schedules_name(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.say(CLIENT, FUNCTIONS, put())
    for name in ("ab" * 16, FUNCTION.hex(), "cd" * 16):
        (memory.blobs.folder / name).write_bytes(b"old")
    monkeypatch.setattr("nbq.blobs._ORPHAN_S", -60.0)
    again(memory)
    assert sorted(path.name for path in memory.blobs.folder.iterdir()) == sorted([FUNCTION.hex(), "ab" * 16])


def again(memory: Memory) -> None:
    """Let another hub recover from the store."""
    info = HubInfo("memory", "none", 1, {"nbq": "0"})
    Hub(memory.endpoint, memory.store, lambda: memory.now, info, memory._identify, memory.blobs)
