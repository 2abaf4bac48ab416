"""The server over HTTP: who is let in, what it tells, what it does."""

from __future__ import annotations

import asyncio
import re
import stat
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

import nbq
from nbq.core.timing import Every
from nbq.core.views import ClusterView
from nbq.web.contact import Contact
from nbq.web.serve import WebOptions, run_web
from nbq.web.watch import TaskFilter, Watch, Watcher
from tests.cli.command import nbq as command
from tests.web import work
from tests.web.serving import DEADLINE_S, Web, serving

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
PATHS = [
    "",
    "static/page.js",
    "metrics",
    "api/live",
    "api/task?id=x",
    "api/run?id=x",
    "api/do",
    "nothing",
    "healthz",
]


def own(web: Web) -> str:
    return f"http://{web.netloc}"


# ------------------------------------------------------------------ who is let in


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", PATHS[:-1])
def test_nothing_is_told_without_the_token(viewer: Web, path: str, method: str) -> None:
    answer = viewer.bare(path, method)
    assert answer.status == 401
    assert viewer.bare(path, method, headers={"Authorization": "token wrong"}).status == 401
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
    wrong = {"Cookie": f"nbq-00000000={viewer.token}"}
    assert viewer.bare(path, method, headers=wrong).status == 401


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", PATHS)
def test_another_host_and_another_origin_are_refused(viewer: Web, path: str, method: str) -> None:
    for wrong in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        assert viewer.ask(path, method, **wrong).status == 403


def test_a_refusal_says_what_to_do(viewer: Web, steering: Web) -> None:
    assert viewer.ask("healthz", Host="evil.example:1").json == {
        "error": "this server is not called 'evil.example': start it with --allow-host evil.example"
    }
    assert steering.ask("healthz", Host="hub.example.org").json == {"ok": True}
    assert viewer.ask("nothing").json == {"error": "there is nothing here"}
    assert viewer.ask("metrics", "DELETE").json == {"error": "nothing here is asked for in this way"}
    assert b"A token is needed" in viewer.bare("").body


def test_the_token_in_the_address_becomes_a_cookie(viewer: Web) -> None:
    assert viewer.bare("?token=wrong").status == 401
    entered = viewer.bare(f"?token={viewer.token}")
    assert (entered.status, entered.headers["Location"]) == (302, "./")
    cookie = entered.headers["Set-Cookie"]
    assert re.fullmatch(r"nbq-[0-9a-f]{8}=[0-9a-f]{64}; HttpOnly; SameSite=Lax", cookie)
    page = viewer.bare(headers={"Cookie": cookie.split(";")[0]}, path="")
    assert (page.status, b'<script type="module" src="static/page.js">' in page.body) == (200, True)
    assert page.headers["Cache-Control"] == "no-store"


def test_health_needs_no_token(viewer: Web) -> None:
    answer = viewer.bare("healthz")
    assert (answer.status, answer.json) == (200, {"ok": True})


def test_pages_and_their_parts_come_from_here_alone() -> None:
    folder = Path(nbq.__file__).parent / "web" / "static"
    named = re.compile(
        r"https?://(?!www\.w3\.org/2000/svg)|(?:src|href)=\"/|innerHTML|insertAdjacentHTML|eval\("
    )
    assert [path.name for path in folder.iterdir() if named.search(path.read_text())] == []


# ------------------------------------------------------------------ what is done


def test_a_viewer_changes_nothing(viewer: Web, client: nbq.Client, tmp_path: Path) -> None:
    held = work.hold.delay(str(tmp_path / "mark"))
    client.flush()
    refused = viewer.ask("api/do", "POST", {"do": "cancel", "id": held.id})
    text = "this page has a viewer's key and can only look: start it with 'nbq web --key client'"
    assert (refused.status, refused.json) == (403, {"error": text})
    (tmp_path / "mark").touch()
    assert held.get(DEADLINE_S) is None


def test_a_client_key_cancels(steering: Web, client: nbq.Client, tmp_path: Path) -> None:
    held = work.hold.delay(str(tmp_path / "mark"))
    client.flush()
    done = steering.ask("api/do", "POST", {"do": "cancel", "id": held.id})
    assert (done.status, done.json) == (200, {"done": "1 task cancelled"})
    with pytest.raises(nbq.TaskRevoked):
        held.get(DEADLINE_S)


def test_a_client_key_tries_again_and_pauses(steering: Web, client: nbq.Client) -> None:
    failed = client.map(work.broken, ["glue", "tape"])
    assert failed.wait(DEADLINE_S)
    before = {view.id for view in client.runs(limit=1000)}
    assert steering.ask("api/do", "POST", {"do": "retry", "id": failed.id}).json == {
        "done": "2 tasks tried again"
    }
    (made,) = [view for view in client.runs(limit=1000) if view.id not in before]
    assert client.result(made.id.hex()).wait(DEADLINE_S)
    for verb, paused in (("pause", True), ("resume", False)):
        act = {"do": "queue", "name": "default", "verb": verb}
        assert steering.ask("api/do", "POST", act).json == {"done": f"queue default {verb}d"}
        assert [queue.paused for queue in client.queues() if queue.name == "default"] == [paused]


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (415, None, {}),
        (400, {"do": "destroy"}, {}),
        (400, {"do": "cancel", "id": ""}, {}),
        (400, {"do": "cancel", "id": "x", "more": 1}, {}),
        (404, {"do": "cancel", "id": "x"}, {}),
        (403, {"do": "cancel", "id": "x"}, {"Origin": "http://localhost:1"}),
    ],
)
def test_what_cannot_be_done_is_said(steering: Web, status: int, body: Any, headers: dict[str, str]) -> None:
    answer = steering.ask("api/do", "POST", body, **headers)
    assert (answer.status, list(answer.json)) == (status, ["error"])


def test_a_browser_has_to_say_where_its_page_is_from(steering: Web) -> None:
    cookie = steering.bare(f"?token={steering.token}").headers["Set-Cookie"].split(";")[0]
    body = {"do": "cancel", "id": "no-such-task"}
    assert steering.bare("api/do", "POST", body, {"Cookie": cookie}).json == {
        "error": "a request that changes something has to say its Origin"
    }
    for origin in (own(steering), "https://hub.example.org"):
        assert steering.bare("api/do", "POST", body, {"Cookie": cookie, "Origin": origin}).status == 404


# ------------------------------------------------------------------ what is told


def test_all_there_is_and_then_what_is_new(viewer: Web, client: nbq.Client) -> None:
    with viewer.live("?state=FAILURE") as told:
        first = next(told)
        assert first == {"trouble": ""} or first["may_act"] is False
        seen: dict[str, Any] = {}
        seen.update(first)
        while "runs" not in seen:
            seen.update(next(told))
        assert (seen["can"], seen["hub"]["name"]) == ([], client.connection.name)
        failed = work.broken.delay("ink")
        assert failed.wait(DEADLINE_S)
        rows: dict[str, Any] = {}
        while failed.id not in rows:
            rows.update(next(told).get("tasks", {}).get("rows", {}))
        assert rows[failed.id]["text"] == "ValueError: no ink"


def test_nothing_is_asked_while_nobody_looks(client: nbq.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    contact = Contact(client.connection.path, "client")
    asked: list[float] = []
    real = contact.client.status

    def counted() -> ClusterView:
        asked.append(time.monotonic())
        return real()

    monkeypatch.setattr(contact.client, "status", counted)
    monkeypatch.setattr("nbq.web.watch._EVERY_S", 0.001)

    async def open_and_close_a_page() -> None:
        watch = Watch(contact, asyncio.get_running_loop())
        try:
            assert (asked, watch.idle) == ([], True)
            watcher = Watcher(TaskFilter())
            async for _news in watch.watch(watcher):
                if len(asked) > 2:
                    watcher.close()
            assert watch.idle
            before = len(asked)
            for _ in range(20):
                client.status()  # a page that is open asks once in each
            assert len(asked) - before <= 1  # what was under way
        finally:
            watch.close()

    try:
        asyncio.run(open_and_close_a_page())
    finally:
        contact.close()


def test_a_failed_task_has_its_traceback_for_a_client_key_alone(
    viewer: Web, steering: Web, client: nbq.Client
) -> None:
    failed = work.broken.delay("paper")
    assert failed.wait(DEADLINE_S)
    shown = steering.ask(f"api/task?id={failed.id}").json
    assert shown["traceback"].startswith("Traceback (most recent call last):\n")
    assert shown["traceback"].endswith("ValueError: no paper\n")
    assert shown["explain"].endswith(f"on engine {shown['engine']}: ValueError: no paper.")
    assert (shown["stdout"], shown["stderr"], shown["attempt"]) == ("looking for paper\n", "", 1)
    seen = viewer.ask(f"api/task?id={failed.id}").json
    assert {key: seen[key] for key in ("task", "state", "text", "sealed")} == {
        "task": work.broken.name, "state": "FAILURE", "text": "ValueError: no paper",
        "sealed": "Its traceback and its output are sealed: a viewer's key cannot read them.",
    }  # fmt: skip
    assert "traceback" not in seen
    assert viewer.ask("api/task?id=nothing").status == 404


def test_prometheus_is_told(viewer: Web, client: nbq.Client) -> None:
    told = viewer.ask("metrics")
    assert told.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"\nnbq_hub_up 1.0\n" in told.body
    bearer = {"Authorization": f"Bearer {viewer.token}"}
    assert viewer.bare("metrics", headers=bearer).status == 200


# ------------------------------------------------------------------ where it is


def test_under_a_prefix(client: nbq.Client) -> None:
    with serving("--hub", client.connection.path, "--base-url", "/team/nbq") as web:
        assert web.base == "/team/nbq/"
        assert web.ask("healthz").json == {"ok": True}
        assert web.ask("static/page.js").status == 200
        web.base = "/"
        assert web.ask("healthz").status == 404


def test_a_socket_is_its_owners_alone(client: nbq.Client, tmp_path: Path) -> None:
    path = tmp_path / "web"
    with serving("--hub", client.connection.path, "--key", "client", "--bind", f"unix:{path}") as web:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert web.token == ""
        proxied = {"Host": "jupyter.example.org", "Authorization": "token of-jupyter"}
        assert web.bare("/healthz", headers=proxied).json == {"ok": True}
        body = {"do": "cancel", "id": "no-such-task"}
        assert web.bare("/api/do", "POST", body, proxied).status == 403
        for origin, status in (("https://jupyter.example.org", 404), ("https://evil.example", 403)):
            assert web.bare("/api/do", "POST", body, {**proxied, "Origin": origin}).status == status


def test_a_token_can_be_kept(client: nbq.Client, tmp_path: Path) -> None:
    path = tmp_path / "token"
    for _ in range(2):
        with serving("--hub", client.connection.path, "--token-file", str(path)) as web:
            assert path.read_text() == f"{web.token}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for wrong in ("", "short", "\N{SNOWMAN}" * 20):
        path.write_text(wrong)
        with pytest.raises(nbq.SettingsError, match="holds no token of 16 characters or more"):
            run_web(WebOptions(client.connection.path, token_file=str(path)))
    path.chmod(0o644)
    with pytest.raises(nbq.SettingsError, match="is open to other users"):
        run_web(WebOptions(client.connection.path, token_file=str(path)))


def test_the_command_says_what_cannot_be(client: nbq.Client) -> None:
    refused = command("web", "--hub", client.connection.path, "--bind", "192.0.2.1:0")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("nbq: cannot listen at 192.0.2.1:0: ")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"bind": "nowhere"}, nbq.SettingsError, "'nowhere' is no address: write HOST:PORT, or unix:PATH"),
        ({"bind": "127.0.0.1:99999"}, nbq.SettingsError, "is no address"),
        ({"where": "no-such-hub"}, nbq.HubUnreachable, "no hub named 'no-such-hub' was ever started here"),
    ],
)
def test_what_cannot_be_served_is_said(
    client: nbq.Client, options: dict[str, str], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=re.escape(text)):
        run_web(WebOptions(**{"where": client.connection.path, **options}))


def test_a_viewers_file_steers_nothing(client: nbq.Client) -> None:
    path = Path(client.connection.path).with_name("viewer.json")
    with pytest.raises(nbq.Refused, match="is a viewer's: it can only look"):
        run_web(WebOptions(str(path), "client"))


def test_a_run_has_its_tasks_those_that_failed_first(viewer: Web, client: nbq.Client) -> None:
    run = client.map(work.broken, ["a", "b"], label="two")
    assert run.wait(DEADLINE_S)
    shown = viewer.ask(f"api/run?id={run.id}").json
    assert (shown["label"], shown["states"], shown["tasks_are"]) == (
        "two",
        {"FAILURE": 2},
        "Its failed tasks",
    )
    assert [task["text"] for task in shown["tasks"]] == ["ValueError: no a", "ValueError: no b"]
    assert shown["explain"] == ""
    idle = work.add.apply_async((1, 2), queue="nobody-serves-this")
    client.flush()
    shown = viewer.ask(f"api/run?id={idle.run_id}").json
    assert "no engine serves its queue 'nobody-serves-this'" in shown["explain"]
    client.cancel(idle.run_id)


# ------------------------------------------------------------------ schedules


def test_a_schedule_is_shown_and_changed(steering: Web, viewer: Web, client: nbq.Client) -> None:
    client.schedules.add("report", work.add.s(1, 2), nbq.crontab(0, 4, tz="Asia/Shanghai"), overlap="queue")
    try:
        shown = viewer.ask("api/schedule?id=report").json
        form = {"kind": "crontab", "line": "0 4 * * *", "tz": "Asia/Shanghai", "unix": False}
        assert (shown["form"], shown["overlap"], shown["misfire"], shown["history"]) == (
            form,
            "queue",
            "coalesce",
            [],
        )
        assert [at["text"][-12:] for at in shown["upcoming"]] == ["04:00:00 CST"] * 8
        edit = {
            "do": "edit",
            "name": "report",
            "when": {"kind": "every", "seconds": 90, "tz": "UTC"},
            "max_runs": 3,
        }
        assert steering.ask("api/do", "POST", edit).json == {
            "done": "report: Every 1 minute 30 seconds, counted from 1970 in UTC."
        }
        spec = client.schedules.view("report").spec
        assert (spec.timing, spec.max_runs, spec.overlap) == (Every(90.0), 3, "allow")
        for verb, done in (("pause", "paused"), ("resume", "resumed"), ("run", "runs now")):
            act = {"do": "schedule", "name": "report", "verb": verb}
            assert steering.ask("api/do", "POST", act).json == {"done": f"report {done}"}
        (fire,) = viewer.ask("api/schedule?id=report").json["history"]
        assert fire["what"] == "manual"
        assert client.result(fire["run"]).get(DEADLINE_S) == 3
        assert viewer.ask("api/do", "POST", edit).status == 403
    finally:
        act = {"do": "schedule", "name": "report", "verb": "remove"}
        assert steering.ask("api/do", "POST", act).json == {"done": "report removed"}
    assert viewer.ask("api/schedule?id=report").status == 404
    assert steering.ask("api/do", "POST", edit).status == 404


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ('{"kind": "crontab", "line": "61 * * * *"}', "61"),
        ('{"kind": "crontab", "line": "* * *"}', "'* * *' has 3 fields, not five"),
        ('{"kind": "crontab", "line": "* * * * *", "tz": "Moon/Base"}', "there is no time zone 'Moon/Base'"),
        ('{"kind": "every", "seconds": 0}', "every 0.0 seconds"),
        ('{"kind": "at", "when": "soon"}', "'soon' is no moment"),
        ('{"kind": "at", "when": "2001-01-01T00:00"}', "its only time is over"),
        ('{"kind": "sometimes"}', "Invalid value 'sometimes'"),
        ("{", "Input data was truncated"),
    ],
)
def test_what_is_written_wrong_is_said(viewer: Web, form: str, text: str) -> None:
    answer = viewer.ask("api/when?" + urlencode({"form": form}))
    assert (answer.status, text in answer.json["error"]) == (400, True), answer.json


def test_what_is_written_right_is_said(viewer: Web) -> None:
    form = '{"kind": "at", "when": "2131-04-24T17:00", "tz": "Asia/Shanghai"}'
    assert viewer.ask("api/when?" + urlencode({"form": form})).json == {
        "sentence": "Once, on Tuesday, 2131-04-24 at 17:00:00, Asia/Shanghai time.",
        "next": [
            {"at_s": datetime(2131, 4, 24, 9, tzinfo=UTC).timestamp(), "text": "Tue 2131-04-24 17:00:00 CST"}
        ],
    }
