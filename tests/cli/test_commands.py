"""The commands against a real hub and engine: all that they print, and their exit codes."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbq as library
from nbq.client import Client
from nbq.version import __version__, versions
from tests.cli import shop
from tests.cli.command import COMMAND, DEADLINE_S, Ran, nbq, plain
from tests.processes.harness import until

GONE = ": it is mistyped, of another hub, or was forgotten (results are kept for result_expires seconds)"
"""Why an id may be unknown."""

HOSTILE = "evil\x1b[31m[red]\nname"
UNSERVED = "It waits: no engine serves its queue 'nobody-serves-this'; the engines here serve 'default'."
IDLE = ["--queue", "nobody-serves-this"]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with library.Cluster(slots=1) as client:
        yield client


@pytest.fixture
def hub(client: Client, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let commands mean this hub; returns its data folder."""
    monkeypatch.setenv("NBQ_HUB", client.connection.path)
    return Path(client.connection.path).parent


def remote_traceback(function: str) -> str:
    source = Path(shop.__file__).read_text().splitlines()
    number = next(n for n, line in enumerate(source, 1) if line.startswith(f"def {function}(")) + 1
    return (
        f'Traceback (most recent call last):\n  File "{shop.__file__}", line {number}, in {function}\n'
        f"    {source[number - 1].strip()}\nValueError: no ink\n"
    )


# ------------------------------------------------------------------ call


def test_call_prints_the_value_as_python_writes_it(hub: Path) -> None:
    assert nbq("call", "tests.cli.shop.add", "--", "-2", "5") == Ran(0, "3\n", "")


def test_call_reads_json_and_else_text(hub: Path) -> None:
    args = ["1.5", "null", '["a", {"b": true}]', "text", '"7"', "--kw", "name=x=y", "--kw", "n=3"]
    value = ((1.5, None, ["a", {"b": True}], "text", "7"), {"name": "x=y", "n": 3})
    assert nbq("call", "tests.cli.shop.given", *args) == Ran(0, f"{value!r}\n", "")


def test_call_of_a_task_that_fails(hub: Path) -> None:
    assert nbq("call", "tests.cli.shop.broken", "ink") == Ran(1, "", remote_traceback("broken"))


def test_call_of_a_task_that_nobody_knows(client: Client, hub: Path) -> None:
    ran = nbq("call", "nowhere.to_be_found", "--json")
    assert (ran.code, ran.json["state"], ran.json["error"]["type"]) == (1, "FAILURE", "UnknownTask")
    again = library.signature("nowhere.to_be_found").apply_async()
    assert again.wait(DEADLINE_S)
    assert again.traceback == ran.json["traceback"]


def test_call_that_takes_too_long_goes_on(client: Client, hub: Path) -> None:
    options = [*IDLE, "--task-id", "slow", "--timeout", "0.2"]
    assert nbq("call", "tests.cli.shop.add", "1", "2", *options) == Ran(
        1, "", f"nbq: task slow has not ended after 0.2 s; it goes on. {UNSERVED}\n"
    )
    assert client.result("slow").state == "QUEUED"
    assert client.cancel("slow") == 1


def test_call_passes_its_options_on(client: Client, hub: Path) -> None:
    options = ["--no-wait", "--task-id", "later", "--countdown", "600", "--priority", "3"]
    assert nbq("call", "tests.cli.shop.add", "1", "2", *options) == Ran(0, "later\n", "")
    assert client.result("later").state == "SCHEDULED"
    assert client.cancel("later") == 1
    ran = nbq("call", "tests.cli.shop.add", "1", "2", *IDLE, "--expires", "0.1", "--json")
    assert (ran.code, ran.json["state"], ran.json["error"]["type"]) == (1, "REVOKED", "TaskRevoked")


def test_call_with_what_cannot_be_an_option(hub: Path) -> None:
    ran = nbq("call", "tests.cli.shop.add", "--priority", "5000", "--json")
    assert (ran.code, ran.json["error"]["type"]) == (2, "InvalidSignature")
    ran = nbq("call", "tests.cli.shop.add", "--kw", "3=x")
    assert (ran.code, ran.err.splitlines()[-1]) == (
        2,
        "Error: Invalid value for --kw: '3=x' is not NAME=VALUE",
    )


def test_ctrl_c_leaves_the_task_and_says_how_to_stop_it(client: Client, hub: Path) -> None:
    command = [*COMMAND, "call", "tests.cli.shop.add", "1", "2", *IDLE, "--task-id", "left"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: [row for row in client.tasks(state="QUEUED") if row.id == "left"])
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out, err.strip()) == (
        130,
        "",
        "nbq: task left goes on; 'nbq cancel left' stops it",
    )
    assert client.cancel("left") == 1


# ------------------------------------------------------------------ result


def test_result_in_text_and_json(client: Client, hub: Path) -> None:
    done = library.signature("tests.cli.shop.given", ["é", (1, 2)]).apply_async()
    value = (("é", (1, 2)), {})
    assert done.get(DEADLINE_S) == value
    assert nbq("result", done.id) == Ran(0, f"{value!r}\n", "")
    report = nbq("result", done.id, "--json").json
    assert (report.pop("started_s"), report.pop("seconds")) == tuple(done.timing.values())
    assert report == {
        "id": done.id, "state": "SUCCESS", "value": [["é", [1, 2]], {}], "repr": repr(value),
        "error": None, "traceback": None, "stdout": "", "stderr": "",
    }  # fmt: skip


def test_result_of_a_failure(client: Client, hub: Path) -> None:
    done = library.signature("tests.cli.shop.broken", ["ink"]).apply_async()
    assert done.wait(DEADLINE_S)
    assert nbq("result", done.id, "--no-traceback") == Ran(1, "", "ValueError: no ink\n")
    ran = nbq("result", done.id, "--json")
    assert (ran.code, ran.json["state"], ran.json["error"], ran.json["traceback"]) == (
        1,
        "FAILURE",
        {"type": "ValueError", "message": "no ink"},
        remote_traceback("broken"),
    )


def test_result_shows_what_was_printed_without_letting_it_act(client: Client, hub: Path) -> None:
    done = library.signature("tests.cli.shop.talk", ["a\tb\x1b[2J\rc\nd"]).apply_async()
    assert done.wait(DEADLINE_S)
    assert nbq("result", done.id, "--stdout") == Ran(0, "a\tb\\x1b[2J\\rc\nd\n", "")
    assert nbq("result", done.id, "--stderr") == Ran(0, "aside\n", "")
    quiet = library.signature(HOSTILE).apply_async()
    assert nbq("result", quiet.id, "--wait", "60") == Ran(0, "'quiet\\x1b[31m'\n", "")


def test_result_of_a_run_of_several_tasks(client: Client, hub: Path) -> None:
    done = client.map(shop.add, range(3), range(3))
    assert nbq("result", done.id, "--wait", "60") == Ran(0, "[0, 2, 4]\n", "")
    assert nbq("result", done.id, "--stdout") == Ran(
        2, "", f"nbq: {done.id} is a run of several tasks: name the one whose output is meant\n"
    )
    failed = client.map(shop.broken, ["ink", "pen"])
    assert nbq("result", failed.id, "--wait", "60", "--no-traceback") == Ran(1, "", "ValueError: no ink\n")


def test_result_that_cannot_be_rebuilt_here(client: Client, hub: Path) -> None:
    assert nbq("call", "tests.cli.shop.odd") == Ran(
        1,
        "",
        "ValueError: the value cannot be rebuilt here (invalid literal for int() with base 10: 'odd'): "
        "run this where its modules are, or name their folder in PYTHONPATH\n",
    )


def test_result_of_what_has_not_ended(client: Client, hub: Path) -> None:
    library.signature("tests.cli.shop.add", [1, 2], queue=IDLE[1], task_id="open").apply_async()
    client.flush()
    assert nbq("result", "open") == Ran(
        1, "", "nbq: task open has not ended: --wait 60 waits a minute for it\n"
    )
    assert nbq("result", "open", "--wait", "0.1", "--json").json == {
        "error": {
            "type": "WaitTimeout",
            "message": f"task open has not ended after 0.1 s; it goes on. {UNSERVED}",
        }
    }
    assert client.cancel("open") == 1


def test_result_of_what_the_hub_does_not_know(hub: Path) -> None:
    text = f"nbq: the hub has no run or task 'no\\nsuch'{GONE}\n"
    assert nbq("result", "no\nsuch") == Ran(1, "", text)


# ------------------------------------------------------------------ cancel


def test_cancel_by_id_says_how_many_and_which_are_unknown(client: Client, hub: Path) -> None:
    ids = ["one", "two", "three"]
    for task_id in ids:
        library.signature("tests.cli.shop.add", [1, 2], queue=IDLE[1], task_id=task_id).apply_async()
    client.flush()
    assert nbq("cancel", "one", "two") == Ran(0, "2 tasks stopped\n", "")
    ran = nbq("cancel", "two", "nobody", "three")
    assert ran == Ran(1, "1 task stopped\n", "nbq: the hub has no run or task 'nobody'\n")
    assert [client.result(task_id).state for task_id in ids] == ["REVOKED"] * 3


def test_cancel_all_asks_first(client: Client, hub: Path) -> None:
    for _ in range(2):
        library.signature("tests.cli.shop.add", [1, 2], queue=IDLE[1]).apply_async()
    client.flush()
    ran = nbq("cancel", "--all")
    assert (ran.code, ran.err.splitlines()[-1]) == (
        2,
        "Error: this asks first, and there is nobody to ask: add --yes",
    )
    assert nbq("cancel", "--all", "--yes", "--json").json == {"stopped": 2, "unknown": []}
    ran = nbq("cancel")
    assert (ran.code, ran.err.splitlines()[-1]) == (
        2,
        "Error: name the tasks by their ids, or say --label, --name, --queue or --run, or --all",
    )


# ------------------------------------------------------------------ status and tasks


def test_status_json(client: Client, hub: Path) -> None:
    found = nbq("status", "--json", "--hub", client.connection.name).json
    view = client.status()
    [engine], [queue] = view.engines, [row for row in view.queues if row.name == "default"]
    for name in ("uptime_s", "time_s"):
        assert found["hub"].pop(name) <= view.hub.pop(name)
    assert found["hub"].pop("commits") <= view.hub.pop("commits")
    assert found["hub"] == {**view.hub, "clients": 2, "protocol": 1}
    [row] = found["engines"]
    assert (row.pop("rss") >= 0, 0 <= row.pop("heard_s") < DEADLINE_S) == (True, True)
    assert row == {
        "name": engine.info.name, "host": engine.info.host, "pid": engine.info.pid, "slots": 1,
        "least": 0, "most": 0, "queues": ["default"], "running": 0, "held": 0, "state": "up",
        "python": versions()["python"], "nbq": __version__,
    }  # fmt: skip
    waiting = {"queued": queue.queued, "leased": 0, "scheduled": queue.scheduled}
    assert {"name": "default", **waiting, "engines": 1, "paused": False} in found["queues"]
    assert found["tasks"] == view.states


def test_status_in_text(client: Client, hub: Path) -> None:
    shown = re.sub(r"(?<![\w.])\d+([.,]\d+)*( (B|kB|MB|min \d+ s|s)\b)?", "#", plain(nbq("status").out))
    host = client.engines()[0].info.host
    head = f"""hub 'CLUSTER' (pid #): durability process, up #, epoch #, clients #
nbq #, protocol #, Python #, cloudpickle #
# runs kept (#), # tasks unfinished

engine  host  slots  running  held  state  memory  last heard
CLUSTER-engine  {host}  #  #  #  up  """
    assert shown.startswith(head)
    assert "\nqueue  queued  leased  scheduled  engines\ndefault  #  #  #  #\n" in shown


def test_tasks_in_text_and_json_escape_what_users_wrote(client: Client, hub: Path) -> None:
    done = library.signature(HOSTILE, task_id="odd\x9b1m").apply_async()
    assert done.wait(DEADLINE_S)
    ran = nbq("tasks", "--name", HOSTILE, "--limit", "1")
    assert (ran.code, plain(ran.out), ran.err) == (
        0,
        "id  task  state  attempt  engine  when  text\n"
        "odd\\x9b1m  evil\\x1b[31m[red]\\nname  SUCCESS  1  CLUSTER-engine  WHEN\n",
        "",
    )
    ran = nbq("tasks", "--name", HOSTILE, "--limit", "1", "--json")
    [row] = ran.json["tasks"]
    assert row.pop("at_s") == pytest.approx(time.time(), abs=DEADLINE_S)
    assert row == {
        "id": "odd\x9b1m", "run": done.run_id, "task": HOSTILE, "state": "SUCCESS", "attempt": 1,
        "engine": client.engines()[0].info.name, "queue": "default", "label": "", "text": "",
    }  # fmt: skip
    assert ran.out.isascii()


def test_tasks_by_state_show_why_they_failed(client: Client, hub: Path) -> None:
    done = client.submit(shop.broken, "luck")
    assert done.wait(DEADLINE_S)
    rows = nbq("tasks", "--state", "failure", "--name", "tests.cli.shop.broken", "--json").json["tasks"]
    assert (rows[0]["id"], rows[0]["text"]) == (done.id, "ValueError: no luck")
    assert {row["state"] for row in rows} == {"FAILURE"}
    ran = nbq("tasks", "--state", "PENDING", "--json")
    assert (ran.code, ran.json["error"]["type"]) == (2, "BadParameter")


def test_tasks_and_runs_by_what_they_are(client: Client, hub: Path) -> None:
    told = library.signature("tests.cli.shop.add", (1, 2), label="by hand").apply_async()
    mapped = client.map(shop.add, [1, 2], [3, 4], label="by hand")
    assert (told.get(DEADLINE_S), mapped.get(DEADLINE_S)) == (3, [4, 6])
    filters = ["--label", "by hand", "--queue", "default", "--name", "tests.cli.shop.add", "--since", "1h"]
    found = nbq("tasks", *filters, "--json").json["tasks"]
    assert [row["id"] for row in found] == [*(one.id for one in mapped.results), told.id]
    assert {(row["label"], row["queue"]) for row in found} == {("by hand", "default")}
    assert nbq("tasks", *filters, "--since", "0", "--json").json == {"tasks": []}
    ran = nbq("tasks", "--since", "soon")
    assert (ran.code, ran.err.splitlines()[-1]) == (
        2, "Error: Invalid value for '--since': 'soon' is neither a time ago (90s, 10m, 2h, 3d) nor a date",
    )  # fmt: skip
    whole, single = nbq("runs", *filters, "--state", "success", "--mine", "--json").json["runs"]
    began = [row.pop("at_s") <= row.pop("began_s") <= row.pop("finished_s") for row in (whole, single)]
    basis = {"task": "tests.cli.shop.add", "label": "by hand", "owner": single["owner"], "schedule": ""}
    assert whole == {**basis, "id": mapped.id, "size": 2, "states": {"SUCCESS": 2}, "fire_s": None}
    assert single == {**basis, "id": told.id, "size": 1, "states": {"SUCCESS": 1}, "fire_s": None}
    assert began == [True, True]
    assert plain(nbq("runs", *filters, "--since", "2020-01-31", "--limit", "1").out) == (
        "id  task  label  ended  states  submitted\n"
        "RUN  tests.cli.shop.add  by hand  2 of 2  2 SUCCESS  WHEN\n"
    )


def test_explain_says_why_in_sentences(client: Client, hub: Path) -> None:
    waits = library.signature("tests.cli.shop.add", (1, 2), queue="nobody-serves-this").apply_async()
    client.flush()
    assert nbq("explain", waits.id) == Ran(0, f"{UNSERVED}\n", "")
    reason = {"code": "unserved", "text": UNSERVED, "refs": ["default"]}
    assert nbq("explain", waits.id, "--json").json == {"id": waits.id, "reasons": [reason]}
    assert nbq("explain", waits.id, "--hub", str(hub / "viewer.json")).code == 0
    assert client.cancel(waits) == 1
    follows = library.chain(library.signature(HOSTILE, countdown=600), shop.add.s(1)).delay()
    client.flush()
    assert "evil\\x1b[31m[red]\\nname" in nbq("explain", follows.id).out
    assert client.cancel(follows.run_id) == 2
    assert nbq("explain", "nothing") == Ran(1, "", f"nbq: the hub has no run or task 'nothing'{GONE}\n")


def test_on_a_terminal_user_text_is_no_markup(client: Client, hub: Path) -> None:
    done = library.signature(HOSTILE).apply_async()
    assert done.wait(DEADLINE_S)
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "200", "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [*COMMAND, "tasks", "--name", HOSTILE], stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:
        pass  # how Linux says that the other side of a terminal was closed
    finally:
        os.close(ours)
    assert process.wait(DEADLINE_S) == 0
    assert b"evil\\x1b[31m[red]\\nname" in shown
    assert b"\x1b[32mSUCCESS" in shown


# ------------------------------------------------------------------ who may, and where


def test_a_viewer_may_look_and_no_more(client: Client, hub: Path) -> None:
    viewer = ["--hub", str(hub / "viewer.json")]
    assert nbq("status", *viewer, "--json").json["hub"]["name"] == client.connection.name
    assert nbq("tasks", *viewer).code == 0
    refusals = {"result x": "read values", "call x": "submit", "cancel x": "cancel"}
    for command, act in refusals.items():
        text = f"nbq: a viewer key cannot {act}: use client.json\n"
        assert nbq(*command.split(), *viewer) == Ran(3, "", text)


def test_keys_are_added_and_revoked_while_the_hub_runs(hub: Path, tmp_path: Path) -> None:
    before = nbq("key", "list", "--json").json["keys"]
    assert [(row["role"], row["name"]) for row in before] == [(r, r) for r in ("client", "engine", "viewer")]
    path = tmp_path / "alice.json"
    made = nbq("key", "add", "alice", "--role", "viewer", "--out", str(path), "--json").json
    assert made == {"kid": made["kid"], "role": "viewer", "name": "alice", "file": str(path)}
    assert nbq("status", "--hub", str(path)).code == 0
    ran = nbq("key", "add", "eve", "--out", str(tmp_path / "none" / "eve.json"), "--json")
    assert (ran.code, ran.json["error"]["type"]) == (1, "FileError")
    ran = nbq("key", "add", "alice", "--out", str(path))
    assert ran == Ran(2, "", f"nbq: {path} exists already\n")
    assert plain(nbq("key", "list").out).splitlines()[-1] == f"{made['kid']}  viewer  alice  WHEN"
    revoked = nbq("key", "revoke", made["kid"], "--json").json
    assert revoked == {"kid": made["kid"], "role": "viewer", "name": "alice"}
    ran = nbq("status", "--hub", str(path), "--json")
    assert (ran.code, ran.json["error"]["type"]) == (3, "AuthenticationError")


def test_an_added_client_key_can_submit(hub: Path, tmp_path: Path) -> None:
    path = tmp_path / "bob.json"
    assert nbq("key", "add", "bob", cwd=tmp_path).code == 0
    assert nbq("call", "tests.cli.shop.add", "1", "2", "--hub", str(path)) == Ran(0, "3\n", "")


def test_a_hub_that_is_not_there() -> None:
    ran = nbq("status", "--hub", "nowhere")
    assert (ran.code, ran.out, ran.err.count("\n")) == (3, "", 1)
    assert ran.err.startswith("nbq: no hub named 'nowhere' was ever started here (")


def test_a_hub_that_has_gone(tmp_path: Path, hub: Path) -> None:
    path = tmp_path / "client.json"
    path.write_text((hub / "client.json").read_text().replace('"name":"', '"name":"gone-'))
    path.chmod(0o600)
    ran = nbq("status", "--hub", str(path), "--json")
    assert (ran.code, ran.json["error"]["type"]) == (3, "HubUnreachable")


def test_doctor_finds_nothing_wrong_with_a_hub_that_runs(hub: Path) -> None:
    ran = nbq("doctor", "--json")
    assert (ran.code, ran.json["ok"]) == (0, True)
    assert [check["what"] for check in ran.json["checks"]] == [
        "versions", "packages", "sqlite", "open files", "runtime folder", "data folder", "file system",
        "data folder", "temporary folder", "connection file", "hub", "clocks", "hub's version", "engine",
    ]  # fmt: skip
