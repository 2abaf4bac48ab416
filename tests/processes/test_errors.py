"""Errors where they belong: at the call when the call is wrong, in the result when the task is, and typed."""

from __future__ import annotations

import json
import mmap
import pickle
import threading
import time
from pathlib import Path

import msgspec
import pytest

import nbq
from nbq import wire
from nbq.payload import ELEMENT_LIMIT
from nbq.settings import Connection, load_connection, write_private
from tests.processes.harness import World, kill
from tests.processes.work import Unfriendly, add, fail, raise_unfriendly, return_lock

AT_ONCE_S = 2.0


def connect_at_once(where: object) -> nbq.HubError:
    """Return the error that connecting raises, well before the timeout."""
    began = time.monotonic()
    with pytest.raises(nbq.HubError) as caught:
        nbq.connect(where, timeout=60)
    assert time.monotonic() - began < AT_ONCE_S * 10
    return caught.value


def changed(world: World, **changes: object) -> Path:
    """Write a copy of the client's connection file with changes; returns its path."""
    found = load_connection(world.data / "default" / "client.json")
    path = world.folder / "changed.json"
    write_private(path, msgspec.json.encode(msgspec.structs.replace(found, path="", **changes)))
    return path


def other_keys(world: World) -> Connection:
    """Return the connection of another hub, whose keys this one does not know."""
    kill(world.hub(name="other"))
    return load_connection(world.data / "other" / "client.json")


# ------------------------------------------------------------------ connecting


def test_a_hub_that_was_never_started_is_unreachable_at_once(world: World) -> None:
    error = connect_at_once("nowhere")
    assert type(error) is nbq.HubUnreachable
    assert str(error).startswith("no hub named 'nowhere' was ever started here")
    assert "nbq hub --name nowhere" in str(error)
    with pytest.raises(nbq.HubUnreachable):
        add.delay(1, 2)  # no client, and no hub called default


def test_a_hub_that_does_not_run_is_unreachable_at_once(world: World) -> None:
    kill(world.hub())
    error = connect_at_once("default")
    assert type(error) is nbq.HubUnreachable
    assert isinstance(error, ConnectionError)


def test_a_wrong_token_is_refused_at_once(world: World) -> None:
    world.hub()
    error = connect_at_once(changed(world, token="0" * 64))
    assert type(error) is nbq.AuthenticationError


@pytest.mark.parametrize("wrong", ["client", "hub"])
def test_a_wrong_key_over_tcp_is_refused_at_once(world: World, wrong: str) -> None:
    world.hub("--bind", "tcp://127.0.0.1:0")
    other = other_keys(world)
    right = json.loads((world.data / "default" / "client.json").read_bytes())
    assert [text.startswith("tcp://127.0.0.1:") for text in right["endpoints"]] == [True]
    far = {"name": "far", "endpoints": right["endpoints"]}
    with nbq.connect(changed(world, **far)) as client:
        assert client.status().hub["name"] == "default"
    keys = (
        {"public_key": other.public_key, "secret_key": other.secret_key}
        if wrong == "client"
        else {"server_key": other.server_key}
    )
    error = connect_at_once(changed(world, **far, **keys))
    assert type(error) is nbq.AuthenticationError


def test_another_protocol_is_named_with_advice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.hub()
    monkeypatch.setattr(wire, "PROTOCOL", 999)
    error = connect_at_once("default")
    assert type(error) is nbq.VersionMismatch
    assert "you speak 999" in str(error)
    assert str(error).endswith("install the same nbq on both sides")


def test_a_second_hub_on_the_same_data_is_refused_with_the_pid_of_the_first(world: World) -> None:
    first = world.hub()
    data = str(world.data / "default")
    for arguments in (["--name", "twin", "--data", data], ["--data", str(world.folder / "else")]):
        second = world.python("-m", "nbq", "hub", *arguments)
        assert second.wait(20) == 3
    lines = [line for line in world.log.read_text().splitlines() if "is in use by the hub with pid" in line]
    assert [f"pid {first.pid}:" in line for line in lines] == [True, True]
    assert f"the data folder {data}" in lines[0]
    assert "the name 'default'" in lines[1]
    assert first.poll() is None


def test_a_viewer_may_look_but_not_submit(world: World) -> None:
    world.hub()
    with nbq.connect(world.data / "default" / "viewer.json") as viewer:
        assert viewer.status().hub["name"] == "default"
        with pytest.raises(nbq.UsageError, match="a viewer key cannot submit"):
            viewer.submit(len, "x")


# ------------------------------------------------------------------ submitting


def test_arguments_that_cannot_be_serialised_are_named(client: nbq.Client) -> None:
    class Holder:
        def __init__(self):
            self.lock = threading.Lock()

    with pytest.raises(nbq.NotSerializable, match=r"args\[1\]\.lock"):
        client.submit(max, 1, Holder())
    with pytest.raises(nbq.NotSerializable, match=r"kwargs\['key'\]"):
        client.submit(max, 1, key=threading.Lock())
    with pytest.raises(nbq.NotSerializable, match=r"args\[0\]"):
        client.map(len, ["ok", threading.Lock()])
    lock = threading.Lock()
    with pytest.raises(nbq.NotSerializable, match="lock"):
        client.submit(lambda: lock)
    assert client.submit(max, 1, 2).get(30) == 2


def test_an_argument_over_the_limit_is_refused_at_the_call(client: nbq.Client) -> None:
    with mmap.mmap(-1, ELEMENT_LIMIT + 1) as memory, memoryview(memory) as view:
        buffer = pickle.PickleBuffer(view)
        with pytest.raises(nbq.PayloadTooLarge, match="arguments has 1,073,"):
            client.submit(len, buffer)
        buffer.release()


def test_a_call_that_the_function_cannot_take_is_refused_at_the_call(client: nbq.Client) -> None:
    with pytest.raises(nbq.InvalidSignature, match="missing a required argument: 'y'"):
        client.submit(add, 1)
    with pytest.raises(nbq.InvalidSignature, match="there is no option 'qeue'"):
        add.apply_async((1, 2), qeue="x")


# ------------------------------------------------------------------ results


def test_an_unknown_task_name_fails_with_near_names(world: World) -> None:
    with nbq.Cluster(slots=1, include=["tests.processes.work"]):
        result = nbq.signature("tests.processes.work.ad", (1, 2)).delay()
        with pytest.raises(nbq.UnknownTask) as caught:
            result.get(30)
        assert str(caught.value).startswith(
            "the engine knows no task named 'tests.processes.work.ad'; did you mean tests.processes.work.add"
        )
        assert "--include MODULE" in str(caught.value)
        assert result.state == "FAILURE"


def test_an_exception_is_the_original_with_where_it_came_from(client: nbq.Client) -> None:
    result = fail.delay("no such luck")
    with pytest.raises(ValueError, match="no such luck") as caught:
        result.get(30)
    cause = caught.value.__cause__
    assert type(cause) is nbq.RemoteTraceback
    assert str(cause).lstrip().startswith("Traceback (most recent call last):\n")
    assert "in fail\n    raise ValueError(text)" in str(cause)
    assert "nbq/engines" not in str(cause)
    assert cause.args[0] == result.traceback
    (note,) = caught.value.__notes__
    engine = client.engines()[0].info
    assert note.startswith(f"in task {result.id}, on engine {engine.name} ({engine.host}, process ")
    assert note.endswith(", attempt 1")


def test_a_result_that_cannot_be_serialised_is_a_failure(client: nbq.Client) -> None:
    with pytest.raises(nbq.NotSerializable, match="result"):
        return_lock.delay().get(30)


def test_an_exception_that_cannot_be_rebuilt_comes_as_its_text(client: nbq.Client) -> None:
    result = raise_unfriendly.delay()
    with pytest.raises(nbq.TaskFailed) as caught:
        result.get(30)
    assert caught.value.args[0] == f"{Unfriendly.__module__}.Unfriendly: salt and pepper"
    assert "in raise_unfriendly" in str(caught.value.__cause__)
    assert caught.value.task_id == result.id


def test_a_result_over_the_limit_is_a_failure(client: nbq.Client) -> None:
    def huge():
        import mmap
        import pickle

        return pickle.PickleBuffer(mmap.mmap(-1, (1 << 30) + 1))

    with pytest.raises(nbq.PayloadTooLarge, match="result has 1,073,"):
        client.submit(huge).get(60)


def test_a_closed_client_says_so(world: World) -> None:
    world.hub()
    client = nbq.connect()
    client.close()
    with pytest.raises(nbq.UsageError, match="closed"):
        client.submit(len, "x")
