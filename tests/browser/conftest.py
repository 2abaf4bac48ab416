"""A real browser, and the pages that it looks at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.web.conftest import client, steering, viewer
from tests.web.serving import Web

__all__ = ["client", "steering", "viewer"]

PATIENCE_MS = 20_000

Opens = Callable[..., Page]


@pytest.fixture(scope="module")  # while it is there, this thread has a running loop
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None and os.geteuid():
        pytest.skip("there is no chromium, and only root can install it: apt install chromium")
    assert path is not None, "dev.py test installs chromium"
    expect.set_options(timeout=PATIENCE_MS)
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=root)
        yield found
        found.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opens]:
    """Open pages as whoever has the address; nothing on them may fail, beside what a test expects."""
    errors: list[str] = []
    contexts = []

    def opens(web: Web, hash_: str = "", width: int = 1280, url: str = "", **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 860}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url or web.url)
        if hash_:
            page.goto(page.url.split("#")[0] + hash_)
        return page

    yield opens
    for context in contexts:
        context.close()
    assert errors == []
