"""The stream of events against a real hub: what it says, filters, replay, gaps, restarts, and its end."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import nbq
from nbq.errors import UnknownResult, UsageError
from nbq.eventstream import Event
from tests.processes.harness import World, kill, until
from tests.processes.work import slow_add


def fail() -> None:
    raise ValueError("no")


def double(x: int) -> int:
    return 2 * x


def odd(x: int) -> None:
    if x % 2:
        raise ValueError(x)


def brief(event: Event) -> tuple[str, str, int, str]:
    return event.kind, event.task, event.count, event.text


def test_a_stream_says_what_happens_from_now_on(client: nbq.Client) -> None:
    client.submit(double, 0).get()
    with client.events(kinds=["submitted", "failed"], timeout=5.0) as stream:
        result = client.submit(fail)
        with pytest.raises(ValueError, match="no"):
            result.get()
        found = [next(stream), next(stream)]
        assert [brief(event) for event in found] == [
            ("submitted", "fail", 1, ""),
            ("failed", "fail", 1, "ValueError: no"),
        ]
        assert {event.id for event in found} == {result.id}
        assert found[0].seq < found[1].seq == stream.last
        assert 0 <= time.time() - found[1].at.timestamp() < 60
        assert (stream.missed, stream.restarts) == (0, 0)
    assert list(stream) == []  # it is closed


def test_a_stream_begins_after_a_number_and_ends_with_what_there_is(client: nbq.Client) -> None:
    before = client.events().last
    results = [client.submit(double, 1), client.submit(fail)]
    with pytest.raises(ValueError, match="no"):
        [result.get() for result in results]
    everything = list(client.events(before, timeout=0))
    assert list(client.events(everything[1].seq, timeout=0)) == everything[2:]
    assert list(client.events(everything[-1].seq, timeout=0)) == []
    assert list(client.events(0, timeout=0))[-len(everything) :] == everything


def test_filters_choose_by_kind_task_queue_label_and_run(client: nbq.Client) -> None:
    before = client.events().last
    named = slow_add.apply_async((1, 1), task_id="given", label="mine")
    other = client.map(double, range(3))
    assert (named.get(), other.get()) == (2, [0, 2, 4])

    def told(kinds: object = ("submitted", "succeeded"), **fields: object) -> list[tuple[str, str]]:
        events = client.events(before, kinds, timeout=0, **fields)  # type: ignore[arg-type]
        return [(event.kind, event.task) for event in events]

    mine = [("submitted", slow_add.name), ("succeeded", slow_add.name)]
    assert told(label="mine") == told(task=slow_add.name) == told(run=named) == told(run="given") == mine
    assert told(run=other, kinds="submitted") == [("submitted", "double")]
    assert told(run=other[0].id, kinds=["submitted", "failed"]) == [("submitted", "double")]
    assert told(queue="elsewhere") == []
    with pytest.raises(UsageError, match="no events of kind 'sucess', but: submitted, started"):
        client.events(kinds="sucess")
    with pytest.raises(UnknownResult):
        client.events(run="never-was")
    with pytest.raises(UsageError, match="not negative"):
        client.events(-1)


def test_async_streams_wait_and_time_out(client: nbq.Client) -> None:
    async def follow() -> list[str]:
        seen: list[str] = []
        async with client.events(kinds=["started", "succeeded"]) as stream:
            result = client.submit(time.sleep, 0.2)
            async for event in stream:
                assert event.id == result.id
                seen.append(event.kind)
                if event.kind == "succeeded":
                    break
        async for event in client.events(timeout=0.1):
            seen.append(event.kind)
        return seen

    assert asyncio.run(follow()) == ["started", "succeeded"]


def test_a_stream_that_waits_can_be_closed_by_another_thread(client: nbq.Client) -> None:
    stream = client.events()
    seen: list[list[Event]] = []
    reader = threading.Thread(target=lambda: seen.append(list(stream)))
    reader.start()
    until(lambda: stream._posted is not None, "the wait")
    stream.close()
    reader.join(10)
    assert seen == [[]]


def test_a_slow_reader_is_told_exactly_what_it_missed(client: nbq.Client) -> None:
    stream = client.events(timeout=0)
    begin = stream.last
    client.submit(double, 0).get()
    assert next(stream).seq == begin + 1
    client.map(odd, range(11_000)).wait()
    last = client.events().last
    seen = list(stream)
    assert last > begin + 11_000  # each end differs from that before
    assert [event.seq for event in seen if event.seq > last - 10_000] == list(range(last - 9_999, last + 1))
    assert stream.missed == last - begin - 1 - len(seen) > 0
    assert stream.last == last


def test_a_stream_goes_on_with_the_next_life_of_its_hub(world: World) -> None:
    hub = world.hub()
    with nbq.connect() as client:
        stream = client.events(kinds="submitted")
        client.submit(double, 1)
        assert next(stream).task == "double"
        first = stream.last
        seen: list[Event] = []
        reader = threading.Thread(target=lambda: seen.append(next(stream)))
        reader.start()
        until(lambda: stream._posted is not None, "the wait")
        kill(hub)
        world.hub()
        client.submit(fail)
        reader.join(30)
        assert [event.task for event in seen] == ["fail"]
        assert (stream.restarts, stream.missed) == (1, 0)
        assert stream.last >> 40 > first >> 40
        client.cancel_all()


def test_ctrl_c_leaves_a_stream_that_waits(client: nbq.Client) -> None:
    program = (
        "import nbq, sys\n"
        "with nbq.connect(sys.argv[1]) as client:\n"
        "    stream = client.events()\n"
        "    try:\n"
        "        print('waits', flush=True)\n"
        "        next(stream)\n"
        "    except KeyboardInterrupt:\n"
        "        print('left', client.slots)\n"
    )
    command = [sys.executable, "-c", program, client.connection.path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "waits\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[0] == "left 2\n"
    assert process.returncode == 0


def test_a_viewer_may_follow(client: nbq.Client) -> None:
    with nbq.connect(Path(client.connection.path).with_name("viewer.json")) as viewer:
        stream = viewer.events(kinds="succeeded")
        result = client.submit(double, 4)
        assert next(stream).id == result.id
