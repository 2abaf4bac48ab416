"""A notebook on a schedule: it runs, early when asked, is kept, fails by cell, is retried, and stops."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

import nbq
from tests.notebooks.kit import cell, double, write
from tests.processes.harness import until


def story(client: nbq.Client, folder: Path, period_s: float) -> None:
    """Tell it, with a fire time every so many seconds."""
    patience_s = 60 + 4 * period_s
    broken = folder / "broken"
    path = write(
        folder, cell("fire_time = None", "parameters"), "1",
        f"import os; assert not os.path.exists({str(broken)!r}), 'broken'", "fire_time",
    )  # fmt: skip
    before = datetime.now(UTC)
    schedule = client.schedules.add(
        "report", nbq.notebook(path, retries=1, retry_delay=0.01), nbq.every(period_s), overlap="skip"
    )
    early = schedule.run().get(patience_s)
    assert before <= datetime.fromisoformat(early.value) <= datetime.now(UTC)
    assert schedule.history[0].outcome == "manual"

    def runs() -> list:
        return [one for one in schedule.history if one.outcome == "run"]

    until(runs, "a fire time", patience_s)
    first = runs()[0]
    kept = client.result(first.run_id).get(patience_s)
    assert datetime.fromisoformat(kept.value) == first.fire_time
    assert repr(kept.value) in kept.html.replace("&#39;", "'")
    broken.touch()
    row = until(lambda: client.runs("nbq.notebook", state="FAILURE"), "a failure", patience_s)[0]
    failed = client.result(row.id.hex())
    with pytest.raises(
        nbq.NotebookFailed, match=r"failed in cell 4 of 5 \(`import os; assert not "
    ) as caught:
        failed.get(patience_s)
    fire_time = datetime.fromtimestamp(row.fire_s, UTC).isoformat()
    assert (row.schedule, failed.retries) == ("report", 1)
    assert caught.value.notebook["cells"][1]["source"] == ["# Parameters\n", f"fire_time = '{fire_time}'"]
    schedule.remove()
    with pytest.raises(nbq.UnknownSchedule):
        client.schedules.get("report")
    until(
        lambda: all(run.finished_s is not None for run in client.runs("nbq.notebook")),
        "the last run",
        patience_s,
    )
    count = len(client.runs("nbq.notebook"))
    behind = client.schedules.add("behind", double.s(1), nbq.every(period_s))
    until(lambda: len(behind.history) > 1, "two fire times of another", patience_s)
    behind.remove()
    until(lambda: all(run.finished_s is not None for run in client.runs()), "its runs", patience_s)
    assert len(client.runs("nbq.notebook")) == count


def test_a_notebook_on_a_schedule(client: nbq.Client, tmp_path: Path) -> None:
    story(client, tmp_path, 1)
