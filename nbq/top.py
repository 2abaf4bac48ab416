"""``nbq top``: a full-screen view of a hub in a terminal, and a few keys to act on what is selected.

Asks the hub once a second, in a thread of its own, and shows what it says. It acts only when a key is pressed
and, where work would be lost, confirmed. Text that users made is never markup.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from msgspec import Struct
from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Label, Sparkline, Static, TabbedContent, TabPane

from nbq.cli.show import escaped, size_text, span_text
from nbq.client import Client
from nbq.core.views import ClusterView, EngineView, QueueView, RunView, ScheduleView
from nbq.errors import NbqError

__all__ = ["Look", "Top", "look"]

_EVERY_S = 1.0
_RATES = 120
_ROWS = 200
_ENDED = ("SUCCESS", "FAILURE", "REVOKED")
_STYLES = {"up": "green", "gone": "red", "draining": "yellow", "paused": "yellow", "failed": "red"}


class Look(Struct, frozen=True):
    """What a hub says of itself at one moment."""

    at_s: float
    cluster: ClusterView
    runs: list[RunView]
    schedules: list[ScheduleView]

    @property
    def ended(self) -> int:
        """Return how many tasks have ended, of those that the hub still knows."""
        return sum(self.cluster.states.get(state, 0) for state in _ENDED)


def look(client: Client) -> Look:
    """Ask a hub for all that is shown; raises as ``Client.status``."""
    return Look(time.monotonic(), client.status(), client.runs(limit=_ROWS), client.schedules.views())


class Top(App[None]):
    """The view.

    Args:
        client: Of the hub that is meant; a viewer's can look, and not act.
    """

    TITLE = "nbq top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: 3; padding: 0 1; }
    #figures { width: 1fr; }
    #rates { width: 40; height: 3; }
    Screen { overflow: hidden; }
    TabbedContent { height: 1fr; }
    TabPane { padding: 0; }
    #said { height: auto; padding: 0 1; color: $warning; }
    DataTable { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("1", "show('runs')", "runs"),
        Binding("2", "show('engines')", "engines"),
        Binding("3", "show('queues')", "queues"),
        Binding("4", "show('schedules')", "schedules"),
        Binding("e", "explain", "explain"),
        Binding("p", "pause", "pause or resume"),
        Binding("c", "cancel", "cancel run"),
        Binding("r", "again", "retry, or run now"),
    ]

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client
        self._rates: deque[float] = deque([0.0] * _RATES, maxlen=_RATES)
        self._seen: Look | None = None

    def compose(self) -> ComposeResult:
        """Lay out head, tables and keys."""
        with Horizontal(id="head"):
            yield Static(id="figures")
            yield Sparkline([0.0], id="rates", summary_function=max)
        yield Label(id="said", markup=False)
        with TabbedContent(initial="runs"):
            for name in _TABLES:
                with TabPane(name.capitalize(), id=name):
                    yield DataTable(id=f"{name}-table", cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        for name, (columns, _) in _TABLES.items():
            self._table(name).add_columns(*columns)
        self._table("runs").focus()
        self._refresh()
        self.set_interval(_EVERY_S, self._refresh)

    # -------------------------------------------------------------- looking

    @work(thread=True, exclusive=True, group="look")
    def _refresh(self) -> None:
        try:
            found = look(self._client)
        except NbqError as error:  # it may come back: what was seen last stays on the screen
            self.call_from_thread(self._say, str(error))
            return
        self.call_from_thread(self.show, found)

    def show(self, found: Look) -> None:
        """Show what a hub says."""
        before, self._seen = self._seen, found
        if before is not None and found.at_s > before.at_s:
            self._rates.append(max(0.0, (found.ended - before.ended) / (found.at_s - before.at_s)))
        else:
            self._say("")
        self.query_one("#figures", Static).update(Text("\n".join(_figures(found, self._rates[-1]))))
        self.query_one("#rates", Sparkline).data = list(self._rates)
        for name, (_, rows) in _TABLES.items():
            self._fill(self._table(name), rows(found))

    def _fill(self, table: DataTable[Text], rows: dict[str, list[object]]) -> None:
        """Show rows by their keys, and leave the cursor on the row where it was."""
        kept = self._selected(table)
        table.clear()
        for key, cells in rows.items():
            table.add_row(*(_cell(value) for value in cells), key=key)
        if kept in rows:
            table.move_cursor(row=table.get_row_index(kept))

    def _say(self, text: str) -> None:
        self.query_one("#said", Label).update(Text(escaped(text)))

    def _table(self, name: str) -> DataTable[Text]:
        return self.query_one(f"#{name}-table", DataTable)

    @property
    def _tab(self) -> str:
        return self.query_one(TabbedContent).active

    @staticmethod
    def _selected(table: DataTable[Text]) -> str:
        if not table.row_count:
            return ""
        return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value or ""

    # -------------------------------------------------------------- keys

    def action_show(self, name: str) -> None:
        """Show a table."""
        self.query_one(TabbedContent).active = name
        self._table(name).focus()

    def action_explain(self) -> None:
        """Say why the selected run is where it is, or what the selected row is."""
        key = self._selected(self._table(self._tab))
        if key and self._tab == "runs":
            self._do(lambda: str(self._client.explain(key)))

    def action_pause(self) -> None:
        """Pause the selected queue or schedule, or let it go on."""
        key, seen = self._selected(self._table(self._tab)), self._seen
        if not key or seen is None:
            return
        if self._tab == "queues":
            paused = any(row.name == key and row.paused for row in seen.cluster.queues)
            act = self._client.resume if paused else self._client.pause
        elif self._tab == "schedules":
            paused = any(row.name == key and row.state.paused for row in seen.schedules)
            act = self._client.schedules.resume if paused else self._client.schedules.pause
        else:
            return
        self._do(lambda: act(key), f"{key} {'goes on' if paused else 'is paused'}")

    def action_cancel(self) -> None:
        """Cancel the selected run, when that is confirmed."""
        key = self._selected(self._table("runs"))
        if key and self._tab == "runs":
            self.push_screen(Sure(f"Cancel {key}?"), lambda yes: self._cancel(key) if yes else None)

    def _cancel(self, key: str) -> None:
        self._do(lambda: f"{self._client.cancel(key):,} tasks of {key} were cancelled")

    def action_again(self) -> None:
        """Retry what failed of the selected run, or run the selected schedule now."""
        key = self._selected(self._table(self._tab))
        if key and self._tab == "runs":
            self._do(lambda: f"{len(self._client.retry(key)):,} runs were made")
        elif key and self._tab == "schedules":
            self._do(lambda: f"{key} runs as {self._client.schedules.run(key).id}")

    @work(thread=True, group="act")
    def _do(self, act: Callable[[], object], said: str = "") -> None:
        """Do something that asks the hub, and say what came of it."""
        try:
            text = act()
        except NbqError as error:
            text, said = error, ""
        self.call_from_thread(self._say, said or str(text))
        self.call_from_thread(self._refresh)


class Sure(ModalScreen[bool]):
    """Asks before something is done that cannot be undone.

    Args:
        question: What would be done.
    """

    CSS = """
    Sure { align: center middle; }
    Sure Label { border: round $warning; padding: 1 2; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "yes"),
        Binding("n,escape", "dismiss(False)", "no"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """Show the question."""
        yield Label(Text(f"{escaped(self._question)}   y / n"))


def _cell(value: object) -> Text:
    text = f"{value:,}" if isinstance(value, int) else escaped(str(value))
    return Text(text, _STYLES.get(text, ""), justify="right" if isinstance(value, int) else "left")


def _figures(found: Look, rate: float) -> list[str]:
    hub, states = found.cluster.hub, found.cluster.states
    slots = sum(row.info.slots for row in found.cluster.engines if row.state == "up")
    running = sum(row.running for row in found.cluster.engines)
    counts = "  ".join(f"{name} {count:,}" for name, count in states.items())
    return [
        f"hub {escaped(str(hub['name']))}   durability {hub['durability']}   "
        f"up {span_text(float(hub['uptime_s']))}",
        f"{rate:,.0f} tasks/s   {running:,} of {slots:,} slots busy   {int(hub['unfinished']):,} unfinished",
        counts,
    ]


def _engines(found: Look) -> dict[str, list[object]]:
    return {row.id.hex(): _engine(row) for row in found.cluster.engines}


def _engine(row: EngineView) -> list[object]:
    memory = size_text(row.rss) if row.rss else ""
    queues = ", ".join(row.info.queues)
    return [row.info.name, row.info.host, row.state, row.info.slots, row.running, row.held, memory, queues]


def _queues(found: Look) -> dict[str, list[object]]:
    return {row.name: _queue(row) for row in found.cluster.queues}


def _queue(row: QueueView) -> list[object]:
    return [row.name, "paused" if row.paused else "", row.queued, row.leased, row.engines]


def _runs(found: Look) -> dict[str, list[object]]:
    now_s = float(found.cluster.hub["time_s"])
    return {_run_id(row): _run(row, now_s) for row in found.runs}


def _run_id(row: RunView) -> str:
    return row.id.hex() if row.index < 0 else f"{row.id.hex()}-0-{row.index}"


def _run(row: RunView, now_s: float) -> list[object]:
    ended = sum(row.states.get(state, 0) for state in _ENDED)
    failed = row.states.get("FAILURE", 0)
    share = f"{ended / row.size:.0%}" if row.size else ""
    state = "failed" if failed else "" if row.finished_s is None else "done"
    age = span_text(max(0.0, now_s - row.at_s))
    return [
        row.task,
        row.label or row.schedule,
        row.size,
        share,
        row.states.get("STARTED", 0),
        failed,
        state,
        age,
    ]


def _schedules(found: Look) -> dict[str, list[object]]:
    now_s = float(found.cluster.hub["time_s"])
    return {row.name: _schedule(row, now_s) for row in found.schedules}


def _schedule(row: ScheduleView, now_s: float) -> list[object]:
    state = "finished" if row.state.finished_s is not None else "paused" if row.state.paused else ""
    following = f"in {span_text(max(0.0, row.next_s - now_s))}" if row.next_s is not None else ""
    last = row.state.history[-1].what if row.state.history else ""
    return [row.name, row.spec.text, state, following, row.state.runs, row.unfinished, last]


Rows = Callable[[Look], dict[str, list[Any]]]
_TABLES: dict[str, tuple[list[str], Rows]] = {
    "runs": (["task", "label", "tasks", "ended", "running", "failed", "state", "age"], _runs),
    "engines": (["engine", "host", "state", "slots", "running", "held", "memory", "queues"], _engines),
    "queues": (["queue", "state", "queued", "leased", "engines"], _queues),
    "schedules": (["schedule", "runs what", "state", "next", "runs", "active", "last"], _schedules),
}
"""Columns, and rows by key: the id of a run or engine, or the name of a queue or schedule."""
