"""The page in a browser: what a person sees, opens, changes, and cannot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

import nbq
from nbq.core.timing import Cron
from tests.browser.conftest import Opens
from tests.browser.forwarding import forwarding
from tests.web import work
from tests.web.serving import Web, serving

TABS = ["runs", "tasks", "schedules", "engines", "queues"]


@pytest.fixture
def held(client: nbq.Client, tmp_path: Path) -> Iterator[nbq.AsyncResult]:
    """Give a task that runs until the end of the test."""
    mark = tmp_path / "mark"
    result = work.hold.apply_async((str(mark),), label="held")
    client.flush()
    try:
        yield result
    finally:
        mark.touch()
        result.wait(30)


def test_runs_show_as_they_come_and_end(
    opened: Opens, viewer: Web, client: nbq.Client, tmp_path: Path
) -> None:
    page = opened(viewer)
    expect(page.locator("#link")).to_have_text("live")
    assert "token" not in page.url
    expect(page.locator("#hub-name")).to_have_text(client.connection.name)
    mark = tmp_path / "mark"
    run = client.map(work.hold, [str(mark)] * 5, label="five of them")
    shown = page.locator("#table tbody tr", has_text="five of them")
    expect(shown.locator(".pill")).to_have_text(re.compile("waiting|running"))
    mark.touch()
    assert list(run) == [None] * 5
    expect(shown.locator(".pill")).to_have_text("succeeded")
    expect(shown).to_contain_text("5 / 5")
    expect(page.locator(".chart strong").last).to_have_text("0")
    expect(page.get_by_role("img", name="Throughput: at most")).to_be_visible()


def test_a_failed_task_opens_by_keyboard(opened: Opens, steering: Web, client: nbq.Client) -> None:
    failed = work.broken.apply_async(("ink",), label="to be opened")
    assert failed.wait(30)
    page = opened(steering, "#tasks")
    page.get_by_label("State").select_option("FAILURE")
    page.get_by_label("Label").fill("to be opened")
    expect(page.locator("#table tbody tr")).to_have_count(1)
    link = page.locator("#table tbody tr a")
    link.focus()
    page.keyboard.press("Enter")
    drawer = page.get_by_role("dialog", name=work.broken.name)
    said = re.compile(r"^It failed at .* UTC on engine \S+: ValueError: no ink\.$")
    expect(drawer.get_by_role("alert")).to_have_text(said)
    expect(drawer.locator(".drawer-acts")).to_have_text("Retry")
    expect(drawer.get_by_label("Traceback")).to_contain_text(
        'raise ValueError(f"no {what}")\nValueError: no ink'
    )
    expect(drawer.get_by_label("What it printed")).to_have_text("looking for ink\n")
    expect(drawer.locator("code")).to_have_text(failed.id)
    drawer.get_by_role("button", name="Retry").click()
    expect(page.locator("#said")).to_contain_text("1 task tried again")
    expect(page.locator("#table tbody tr")).to_have_count(2)  # it failed again, in a run of its own
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    expect(page).to_have_url(re.compile("#tasks$"))


def test_a_schedule_is_edited(opened: Opens, steering: Web, client: nbq.Client) -> None:
    client.schedules.add("report", work.add.s(1, 2), nbq.crontab(0, 4, tz="Asia/Shanghai"), overlap="queue")
    try:
        page = opened(steering, "#schedule=report")
        drawer = page.get_by_role("dialog", name="report")
        expect(drawer.locator(".explain")).to_have_text("At 04:00 every day, Asia/Shanghai time.")
        drawer.get_by_role("button", name="Edit").click()
        line, save = drawer.get_by_label("Cron"), drawer.get_by_role("button", name="Save")
        expect(line).to_have_value("0 4 * * *")
        line.fill("61 4 * * *")
        expect(drawer.locator(".sentence")).to_contain_text("61")
        expect(save).to_be_disabled()
        line.fill("*/20 8-18 * * mon-fri")
        sentence = "Every 20 minutes, in hours 08 to 18 on Monday to Friday, Asia/Shanghai time."
        expect(drawer.locator(".sentence")).to_have_text(sentence)
        expect(drawer.locator(".editor .fires li")).to_have_count(5)
        drawer.get_by_label("Finish after so many runs").fill("7")
        save.click()
        expect(page.locator("#said")).to_contain_text(f"report: {sentence}")
        expect(drawer.locator(".explain")).to_have_text(sentence)
        spec = client.schedules.view("report").spec
        assert spec.timing == Cron("*/20", "8-18", "mon-fri", "*", "*", "Asia/Shanghai")
        assert (spec.overlap, spec.misfire, spec.max_runs) == ("queue", "coalesce", 7)
        drawer.get_by_role("button", name="Pause").click()
        expect(drawer.locator(".pill")).to_have_text("paused")
        assert client.schedules.view("report").state.paused
    finally:
        client.schedules.remove("report")


def test_cancel_asks_once_more(opened: Opens, steering: Web, held: nbq.AsyncResult) -> None:
    page = opened(steering)
    shown = page.locator("#table tbody tr", has_text=held.id)
    button = shown.get_by_role("button")
    expect(button).to_have_accessible_name("Cancel held")
    button.click()
    expect(button).to_have_text("Really cancel?")
    assert held.state in ("QUEUED", "STARTED")
    button.click()
    expect(shown.locator(".pill")).to_have_text("cancelled")
    assert held.state == "REVOKED"


def test_a_viewer_cannot_act(opened: Opens, viewer: Web, client: nbq.Client, held: nbq.AsyncResult) -> None:
    client.schedules.add("seen", work.add.s(1, 2), nbq.every(3600))
    try:
        page = opened(viewer)
        expect(page.locator("#about")).to_contain_text("view only")
        for tab in TABS:
            page.locator(f"#tab-{tab}").click()
            expect(page.locator("#table tbody tr").first).to_be_visible()
            expect(page.locator("#table button")).to_have_count(0)
        for hash_ in (f"#task={held.id}", "#schedule=seen"):
            page.goto(page.url.split("#")[0] + hash_)
            expect(page.locator("#drawer-title")).to_be_visible()
            expect(page.locator("#drawer button")).to_have_text(["Close"])
            page.keyboard.press("Escape")
        refused = page.evaluate(
            """async (id) => {
                const headers = {"Content-Type": "application/json"};
                const body = JSON.stringify({do: "cancel", id});
                const answer = await fetch("api/do", {method: "POST", headers, body});
                return [answer.status, (await answer.json()).error];
            }""",
            held.id,
        )
        text = "this page has a viewer's key and can only look: start it with 'nbq web --key client'"
        assert refused == [403, text]
        assert held.state in ("QUEUED", "STARTED")
    finally:
        client.schedules.remove("seen")


def test_what_users_wrote_is_only_text(opened: Opens, steering: Web, client: nbq.Client) -> None:
    name = work.hostile.name
    failed = work.hostile.apply_async(label="<svg onload=document.title='owned'>")
    assert failed.wait(30)
    odd = "</script><script>document.title='owned'</script>"
    client.schedules.add(odd, work.add.s(1, 2), nbq.every(3600))
    try:
        page = opened(steering)
        expect(page.locator("#table")).to_contain_text(name)
        expect(page.locator("#table")).to_contain_text("<svg onload=")
        page.get_by_role("link", name=name).first.click()
        expect(page.get_by_role("alert")).to_contain_text(
            "RuntimeError: <script>document.title='owned'</script>"
        )
        page.keyboard.press("Escape")
        page.locator("#tab-schedules").click()
        page.get_by_role("link", name=odd).click()
        expect(page.locator("#drawer-title")).to_have_text(odd)
        assert page.locator("img[src=x], #drawer svg, #table svg, #table script, #drawer script").count() == 0
        assert page.title() == f"{client.connection.name} · nbq"
        # And if something here did make HTML of text, the browser would refuse.
        with pytest.raises(Exception, match="TrustedHTML"):
            page.evaluate("document.body.innerHTML = '<b>x</b>'")
    finally:
        client.schedules.remove(odd)


def test_without_the_token_there_is_only_where_to_find_it(opened: Opens, viewer: Web) -> None:
    page = opened(viewer, url=f"http://{viewer.netloc}/")
    expect(page.get_by_role("heading")).to_have_text("A token is needed")
    assert page.locator("script").count() == 0


def test_behind_a_proxy_that_hides_its_prefix(opened: Opens, client: nbq.Client, tmp_path: Path) -> None:
    where = ["--hub", client.connection.path, "--key", "client", "--bind", f"unix:{tmp_path / 'web'}"]
    with serving(*where) as web, forwarding(web) as url:
        page = opened(web, url=url)
        expect(page.locator("#link")).to_have_text("live")
        failed = work.broken.apply_async(("paper",), label="proxied")
        assert failed.wait(30)
        page.locator("#table tbody tr", has_text="proxied").get_by_role("link").click()
        expect(page.get_by_label("Traceback")).to_contain_text("ValueError: no paper")
        mark = tmp_path / "mark"
        held = work.hold.delay(str(mark))
        page.keyboard.press("Escape")
        button = page.locator("#table tbody tr", has_text=held.id).get_by_role("button")
        button.click()
        button.click()
        expect(page.locator("#said")).to_contain_text("1 task cancelled")
        assert held.wait(30)
        page.goto("about:blank")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_and_wide_pages_have_all_in_sight(
    opened: Opens, steering: Web, client: nbq.Client, scheme: str
) -> None:
    client.schedules.add("a schedule with a name that goes on for a while", work.add.s(1, 2), nbq.every(3600))
    try:
        page = opened(steering, width=400, color_scheme=scheme)
        for tab in TABS:
            page.locator(f"#tab-{tab}").click()
            expect(page.locator("#table tbody tr").first).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") == 400, tab
        nameless = page.evaluate(
            """[...document.querySelectorAll("button, a, input, select")]
                .filter((one) => !(one.textContent.trim() || one.ariaLabel || one.labels?.length)).length"""
        )
        assert nameless == 0
        assert contrast(page, "body") >= 7
        assert contrast(page, ".tabs a[aria-selected=false]") >= 4.5
    finally:
        client.schedules.remove("a schedule with a name that goes on for a while")


def contrast(page: Page, selector: str) -> float:
    """Return by how much a text stands out from the page (WCAG's ratio)."""
    found = page.evaluate(
        """(selector) => {
            const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map((part) => {
                const value = part / 255;
                return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
            });
            const light = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;
            const text = light(rgb(getComputedStyle(document.querySelector(selector)).color));
            const back = light(rgb(getComputedStyle(document.body).backgroundColor));
            return (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05);
        }""",
        selector,
    )
    return float(found)


def test_tabs_follow_the_arrows(opened: Opens, viewer: Web) -> None:
    page = opened(viewer)
    page.locator("#tab-runs").focus()
    for tab in [*TABS[1:], TABS[0]]:
        page.keyboard.press("ArrowRight")
        expect(page.locator(f"#tab-{tab}")).to_be_focused()
        expect(page.locator(f"#tab-{tab}")).to_have_attribute("aria-selected", "true")
