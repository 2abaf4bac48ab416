"""A hub that goes away, and comes back: the page says so, and goes on."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import Opens
from tests.processes.conftest import world
from tests.processes.harness import World, kill
from tests.web.serving import serving

__all__ = ["world"]


def test_a_lost_hub_is_said_and_found_again(opened: Opens, world: World) -> None:
    hub = world.hub()
    with serving() as web:
        page = opened(web)
        expect(page.locator("#link")).to_have_text("live")
        kill(hub)
        expect(page.locator("#link")).to_contain_text("no answer from the hub for")
        expect(page.locator("#link")).to_have_attribute("data-state", "lost")
        world.hub()
        expect(page.locator("#link")).to_have_text("live")
        page.goto("about:blank")
