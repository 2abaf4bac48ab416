"""Looks at the hub once a second while somebody watches, in one thread, and tells all who do.

Each watcher is sent the difference between what it has seen and what there is now, so a slow one misses
steps and holds up nobody. While nobody watches, nothing is asked.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from nbq import wire
from nbq.core.views import ClusterView
from nbq.errors import HubBusy, NbqError
from nbq.web import acts, state
from nbq.web.contact import Contact

__all__ = ["TaskFilter", "Watch", "Watcher"]

State = Literal["", "WAITING", "SCHEDULED", "RETRY", "QUEUED", "STARTED", "SUCCESS", "FAILURE", "REVOKED"]
Word = Annotated[str, Meta(max_length=200)]

_EVERY_S = 1.0
_SILENT_S = 3.0
"""After so long without news, watchers are told that there is none."""
_WATCHERS = 64
_ROWS = 100
_SCHEDULES = 200


class TaskFilter(Struct, frozen=True):
    """Which tasks a watcher wants to see; empty words hold for all."""

    state: State = ""
    name: Word = ""
    queue: Word = ""
    label: Word = ""


class Watcher:
    """One open page.

    Args:
        filter_: The tasks that it shows.
    """

    def __init__(self, filter_: TaskFilter) -> None:
        self.filter = filter_
        self.news = asyncio.Event()
        self.closed = False
        self.seen: state.Picture = {}

    def close(self) -> None:
        """Let its iteration end."""
        self.closed = True
        self.news.set()


class Watch:
    """What there is to see of a hub.

    Args:
        contact: The connection to it.
        loop: The loop of those who watch.
    """

    def __init__(self, contact: Contact, loop: asyncio.AbstractEventLoop) -> None:
        self._contact = contact
        self._loop = loop
        self._watchers: set[Watcher] = set()
        self._wanted = threading.Condition()
        self._filters: list[TaskFilter] = []
        self._ended = False
        self._points: list[state.Point] = []
        self._finished = 0
        self.picture: state.Picture = {}
        self.tasks: dict[TaskFilter, dict[str, Any]] = {}
        self.trouble = ""
        self.heard_s = time.monotonic()
        self._thread = threading.Thread(target=self._serve, name="nbq-web-watch", daemon=True)
        self._thread.start()

    # -------------------------------------------------------------- those who watch (in the loop)

    async def watch(self, watcher: Watcher) -> AsyncIterator[state.Picture]:
        """Yield what is new for a watcher, until it is closed.

        Raises:
            HubBusy: Too many watch already.
        """
        if len(self._watchers) >= _WATCHERS:
            raise HubBusy(f"{_WATCHERS} pages are open already: close one")
        self._watchers.add(watcher)
        self._note_filters()
        try:
            while not watcher.closed:
                news = self._news(watcher)
                if news:
                    yield news
                watcher.news.clear()
                try:
                    await asyncio.wait_for(watcher.news.wait(), _SILENT_S)
                except TimeoutError:
                    yield {"silent_s": round(time.monotonic() - self.heard_s)}
        finally:
            self._watchers.discard(watcher)
            self._note_filters()

    def _news(self, watcher: Watcher) -> state.Picture:
        now = {**self.picture, "trouble": self.trouble}
        if watcher.filter in self.tasks:
            now["tasks"] = self.tasks[watcher.filter]
        found = state.changes(watcher.seen, now)
        watcher.seen = now
        return found

    def _note_filters(self) -> None:
        with self._wanted:
            self._filters = list(dict.fromkeys(watcher.filter for watcher in self._watchers))
            self._wanted.notify_all()

    def _publish(self, picture: state.Picture, tasks: dict[TaskFilter, Any], trouble: str) -> None:
        self.trouble = trouble
        if not trouble:
            self.picture, self.tasks = picture, tasks
            self.heard_s = time.monotonic()
        for watcher in self._watchers:
            watcher.news.set()

    @property
    def idle(self) -> bool:
        """Whether nobody watches, so that nothing is asked."""
        return not self._filters

    # -------------------------------------------------------------- the thread

    def look_now(self) -> None:
        """Look at once, since something was changed."""
        with self._wanted:
            self._wanted.notify_all()

    def close(self) -> None:
        """End the thread, and all who watch."""
        with self._wanted:
            self._ended = True
            self._wanted.notify_all()
        for watcher in self._watchers:
            watcher.close()

    def _serve(self) -> None:
        while True:
            with self._wanted:
                self._wanted.wait_for(lambda: self._filters or self._ended)
                if self._ended:
                    return
                filters = list(self._filters)
            self._look(filters)
            with self._wanted:
                self._wanted.wait(_EVERY_S)

    def _look(self, filters: list[TaskFilter]) -> None:
        trouble, picture, tasks = "", {}, {}
        try:
            picture = self._take(self._contact.client.status())
            tasks = {filter_: self._tasks(filter_) for filter_ in filters}
        except NbqError as error:
            trouble = str(error)
            self._contact.renew(error)
        if not self._ended:
            self._loop.call_soon_threadsafe(self._publish, picture, tasks, trouble)

    def _take(self, cluster: ClusterView) -> state.Picture:
        client = self._contact.client
        self._add_point(cluster)
        return {
            **state.cluster_sections(cluster),
            "may_act": self._contact.may_act,
            "can": acts.VERBS if self._contact.may_act else [],
            "runs": state.section(map(state.run_row, client.runs(limit=_ROWS))),
            "schedules": self._schedules(),
            "points": self._points,
        }

    def _add_point(self, cluster: ClusterView) -> None:
        before = self._points[-1] if self._points else None
        point = state.point(cluster, before, self._finished)
        if before is None or point.at_s - before.at_s >= _EVERY_S / 2:  # so soon, a rate would be a guess
            self._points = [*self._points, point][-state.POINTS :]
            self._finished = state.ended(cluster)

    def _schedules(self) -> dict[str, Any]:
        # Not client.schedules: there may be ten thousand, and the page shows the first.
        answer = self._contact.client._link.answer(wire.Ask(0, "schedules", limit=_SCHEDULES))
        return state.section(map(state.schedule_row, answer.schedules))

    def _tasks(self, wanted: TaskFilter) -> dict[str, Any]:
        client = self._contact.client
        rows = client.tasks(wanted.name, wanted.state, _ROWS, queue=wanted.queue, label=wanted.label)
        return state.section(map(state.task_row, rows))
