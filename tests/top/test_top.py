"""`nbq top`, driven by its keys against a real hub."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot

import nbq
from nbq.top import Top
from tests.top import work

DEADLINE_S = 20


@pytest.fixture(scope="module")
def client():
    with nbq.Cluster(slots=1) as client:
        yield client


def drive(client: nbq.Client, steps: Callable[[Top, Pilot[Any]], Awaitable[None]]) -> None:
    """Run the view in a terminal of 120 by 40 that is not shown, and take these steps in it."""

    async def run() -> None:
        app = Top(client)
        async with app.run_test(size=(120, 40)) as pilot:
            await steps(app, pilot)

    asyncio.run(run())


async def until(pilot: Pilot[Any], holds: Callable[[], object], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end, what
        await pilot.pause(0.02)


def rows(app: Top, name: str) -> list[list[str]]:
    table = app.query_one(f"#{name}-table")
    return [[cell.plain for cell in table.get_row_at(at)] for at in range(table.row_count)]


def said(app: Top) -> str:
    return str(app.query_one("#said").render())


def test_runs_engines_and_queues_are_shown(client: nbq.Client) -> None:
    results = client.map(work.add, range(1234), range(1234), label="sums")
    results.get(timeout=30)

    async def steps(app: Top, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: rows(app, "runs"), "a run is shown")
        row = next(row for row in rows(app, "runs") if row[1] == "sums")
        assert row[:7] == ["tests.top.work.add", "sums", "1,234", "100%", "0", "0", "done"]
        (engine,) = rows(app, "engines")
        assert engine[2:4] == ["up", "1"]
        assert [row[0] for row in rows(app, "queues")] == ["default"]
        figures = str(app.query_one("#figures").render())
        assert "of 1 slots busy" in figures
        assert app.query_one("#head").region.y == 0  # nothing pushes it out of sight
        assert app.query_one("#runs-table").region.bottom == 39
        assert "SUCCESS 1,234" in figures
        await pilot.press("2")
        assert app.focused is app.query_one("#engines-table")

    drive(client, steps)
    results.forget()


def test_a_failed_run_is_explained_and_its_text_is_no_markup(client: nbq.Client) -> None:
    result = work.fail.delay()
    with pytest.raises(ValueError, match="no"):
        result.get(timeout=30)

    async def steps(app: Top, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: any(row[6] == "failed" for row in rows(app, "runs")), "it failed")
        await pilot.press("e")
        await until(pilot, lambda: "way" in said(app), "it is explained")
        assert r"[bold]no[/bold] \x1b[31mway" in said(app)

    drive(client, steps)
    result.forget()


def test_a_run_is_cancelled_once_that_is_confirmed(client: nbq.Client, tmp_path) -> None:
    result = work.wait_for.delay(str(tmp_path / "never"))

    async def steps(app: Top, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: rows(app, "runs"), "it is shown")
        await pilot.press("c", "n")
        await pilot.press("c", "y")
        await until(pilot, lambda: "1 tasks of" in said(app), "it is cancelled")

    drive(client, steps)
    with pytest.raises(nbq.TaskRevoked):
        result.get(timeout=30)
    result.forget()


def test_a_failed_run_is_retried(client: nbq.Client) -> None:
    result = work.fail.delay()
    result.wait(timeout=30)

    async def steps(app: Top, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: rows(app, "runs"), "it is shown")
        await pilot.press("r")
        await until(pilot, lambda: said(app) == "1 runs were made", "it is retried")
        await until(pilot, lambda: [row[6] for row in rows(app, "runs")] == ["failed"] * 2, "and fails again")

    drive(client, steps)
    for row in client.runs():
        client.result(row.id.hex()).forget()


def test_queues_and_schedules_are_paused_and_go_on(client: nbq.Client) -> None:
    client.schedules.add("sums", work.add.s(1, 2), nbq.every(3600))

    async def steps(app: Top, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: rows(app, "schedules"), "it is shown")
        for key, name in (("3", "queues"), ("4", "schedules")):
            place = 1 if name == "queues" else 2
            await pilot.press(key, "p")
            await until(pilot, lambda p=place, n=name: rows(app, n)[0][p] == "paused", f"{name} is paused")
            await pilot.press("p")
            await until(pilot, lambda p=place, n=name: rows(app, n)[0][p] == "", f"{name} goes on")
        await pilot.press("r")
        await until(pilot, lambda: rows(app, "schedules")[0][4] == "1", "it ran")

    drive(client, steps)
    client.schedules.remove("sums")
    for row in client.runs():
        result = client.result(row.id.hex())
        result.get(timeout=30)
        result.forget()


def test_a_hub_that_is_gone_is_said(client: nbq.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps(app: Top, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: rows(app, "engines"), "it is shown")

        def gone() -> None:
            raise nbq.HubUnreachable("the hub did not answer")

        monkeypatch.setattr(client, "status", gone)
        await until(pilot, lambda: said(app) == "the hub did not answer", "it is said")
        assert rows(app, "engines")

    drive(client, steps)
