"""What the page shows of the hub's views, and that what is sent of a change is what has changed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nbq.core.model import EngineInfo
from nbq.core.views import ClusterView, ElementView, EngineView, QueueView, RunView
from nbq.web import state

RUN = bytes(range(16))


def test_a_run_and_a_call_by_itself() -> None:
    row = {
        "id": RUN.hex(), "one": False, "task": "add", "label": "x", "owner": "key", "at_s": 1.0,
        "began_s": 2.0, "finished_s": None, "size": 3, "states": {"QUEUED": 3}, "schedule": "s",
        "fire_s": 5.0,
    }  # fmt: skip
    view = RunView(RUN, "add", "key", 1.0, 3, {"QUEUED": 3}, None, -1, "x", "s", 5.0, 2.0)
    assert state.run_row(view) == row
    one = RunView(RUN, "add", "key", 1.0, 3, {"QUEUED": 3}, None, 4, "x", "s", 5.0, 2.0)
    assert state.run_row(one) == {**row, "id": f"{RUN.hex()}-0-4", "one": True}


def test_a_task() -> None:
    view = ElementView("id", RUN, 0, 1, "add", "FAILURE", 2, "e", "ValueError: x", 3.0, 1, "q", b"", 0, "l")
    assert state.task_row(view) == {
        "id": "id", "run": RUN.hex(), "task": "add", "label": "l", "state": "FAILURE", "attempt": 2,
        "retries": 1, "engine": "e", "queue": "q", "at_s": 3.0, "text": "ValueError: x",
    }  # fmt: skip


def cluster(time_s: float, ended: int, running: int = 0, queued: int = 0, state_: str = "up") -> ClusterView:
    info = EngineInfo("e", "h", 1, 4, ["q"], "3.13", "0.1")
    engine = EngineView(b"\1\2", info, running + 1, running, state_, 10, 1.0)
    return ClusterView(
        {"time_s": time_s}, [engine], [QueueView("q", queued, running + 1, 1)], {"SUCCESS": ended}
    )


def test_points_have_a_rate_from_the_second_on() -> None:
    first = state.point(cluster(100.0, 50, 2, 7), None, 0)
    assert first == (100.0, None, 7, 3, 4)
    assert state.point(cluster(102.0, 90, 9, 7), first, 50) == (102.0, 20.0, 13, 4, 4)
    assert state.point(cluster(102.0, 10), first, 50)[1] == 0.0  # runs were forgotten
    assert state.point(cluster(100.0, 90), first, 50)[1] is None  # no time has passed
    assert state.point(cluster(102.0, 90, state_="gone"), first, 50)[3:] == (0, 0)


def test_an_engine_that_was_just_heard_is_not_silent() -> None:
    sections = state.cluster_sections(cluster(1.0, 0))
    assert sections["engines"]["rows"]["0102"]["silent_s"] == 0
    assert sections["queues"]["order"] == ["q"]


def test_only_what_has_changed_is_sent() -> None:
    old = {
        "hub": {"a": 1},
        "runs": state.section([{"id": "x", "n": 1}, {"id": "y", "n": 1}]),
        "points": [[1], [2]],
    }
    new = {
        "hub": {"a": 1},
        "runs": state.section([{"id": "x", "n": 2}, {"id": "y", "n": 1}]),
        "points": [[2], [3]],
    }
    assert state.changes(old, new) == {"runs": {"rows": {"x": {"id": "x", "n": 2}}}, "points": [[3]]}
    assert state.changes({}, new) == new
    assert state.changes(new, new) == {}
    fewer = {**new, "runs": state.section([{"id": "y", "n": 1}])}
    assert state.changes(new, fewer) == {"runs": {"rows": {}, "order": ["y"]}}


rows = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 2)).map(
    lambda found: state.section({"id": key, "n": n} for key, n in found.items())
)


def merged(seen: Any, news: Any) -> Any:
    """What the page does (``merged`` in static/api.js)."""
    order = news.get("order", seen.get("order"))
    return {"order": order, "rows": {key: news["rows"].get(key) or seen["rows"][key] for key in order}}


@given(st.lists(rows, min_size=2, max_size=6))
def test_whoever_takes_in_all_changes_has_what_there_is(sections: list[Any]) -> None:
    seen = sections[0]
    for old, new in pairwise(sections):
        news = state.changes({"runs": old}, {"runs": new}).get("runs")
        seen = seen if news is None else merged(seen, news)
        assert seen == new
