"""The schedules of a hub, as ``client.schedules``: to add, see, steer and remove them, and to reconcile them.

The hub keeps them and makes their runs; here they are planned, sealed, checked and shown. Nothing here waits
for a fire time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Struct

from nbq import current, payload, wire
from nbq.batch import PlannedRun
from nbq.canvas import Canvas, Plan
from nbq.canvas import plan as plan_canvas
from nbq.core.timing import Misfire, Overlap, ScheduleSpec
from nbq.core.views import ScheduleView
from nbq.declared import When, canvas_of, declaration, instant_s, schedule_of
from nbq.errors import InvalidSchedule, Refused, UnknownResult, UnknownSchedule, UsageError
from nbq.schedulehandle import Fired, ScheduleHandle, moment, table
from nbq.schedules import Schedule

if TYPE_CHECKING:
    from nbq.client import Client

__all__ = ["Reconciled", "Schedules"]

_KEEP: Any = object()
"""What an edit leaves as it is."""
_ROWS = 1000
_TASKS_SHOWN = 3
_TEXT = 1000


class Reconciled(Struct, frozen=True):
    """What an update did, by the names of schedules.

    Attributes:
        added: There was none of this name.
        changed: It was declared otherwise before; how far it has come is kept.
        removed: It is declared no more.
        kept: It is as it is declared.
        passed: It would never fire: all of its fire times have passed. There is none of it.
    """

    added: list[str] = []
    changed: list[str] = []
    removed: list[str] = []
    kept: list[str] = []
    passed: list[str] = []


class Schedules:
    """The schedules of a hub; iterating gives their handles, by name.

    Args:
        client: The client.
    """

    def __init__(self, client: Client) -> None:
        self.client = client

    def add(
        self,
        name: str,
        what: Any,
        when: When,
        *,
        misfire: Misfire = "coalesce",
        overlap: Overlap = "allow",
        jitter: float | timedelta = 0,
        start: datetime | None = None,
        end: datetime | None = None,
        max_runs: int | None = None,
        replace: bool = False,
    ) -> ScheduleHandle:
        """Add a schedule, and return its handle once the hub has it.

        Args:
            name: Its name on the hub, 1 to 200 characters.
            what: A task, a signature or any canvas; or a plain function.
            when: ``nbq.crontab``, ``nbq.every`` or ``nbq.at``; a text stands for ``crontab.from_string``, a
                number or timedelta for ``every``, a datetime for ``at``.
            misfire: What becomes of fire times that passed while nobody could fire: ``coalesce`` runs the
                latest, ``skip`` none, ``all`` each of them, up to 1,000 in a row.
            overlap: What becomes of a fire time at which a run has not ended: ``allow`` runs it, ``skip``
                does not, ``queue`` lets it wait, ``cancel_previous`` cancels what runs.
            jitter: A run starts up to so many seconds after its fire time, up to a day.
            start: No fire time before this; without a zone, in that of ``when``.
            end: No fire time after this.
            max_runs: It is finished after so many runs.
            replace: Whether a schedule of this name becomes this one; how far it has come is kept.

        Raises:
            InvalidSchedule: It means nothing, never fires, or gives an id or a fixed ``eta`` to a task.
            InvalidSignature: The canvas means nothing.
            NotSerializable: An argument or function cannot be serialised.
            Refused: There is one of this name.
        """
        policy = {
            "misfire": misfire, "overlap": overlap, "jitter": jitter, "start": start, "end": end,
            "max_runs": max_runs,
        }  # fmt: skip
        plan, planned = self._planned(name, canvas_of(what))
        spec = _spec(name, schedule_of(when), policy, _text(plan))
        self._put(name, spec, planned, replace)
        return self.get(name)

    def edit(
        self,
        name: str,
        *,
        what: Any = _KEEP,
        when: When = _KEEP,
        misfire: Misfire = _KEEP,
        overlap: Overlap = _KEEP,
        jitter: float | timedelta = _KEEP,
        start: datetime | None = _KEEP,
        end: datetime | None = _KEEP,
        max_runs: int | None = _KEEP,
    ) -> ScheduleHandle:
        """Change what is given of a schedule; the rest, its runs and history stay. Arguments as for ``add``.

        Raises:
            UnknownSchedule: There is none of this name.
        """
        before = self.view(name).spec
        planned, text = None, before.text
        if what is not _KEEP:
            plan, planned = self._planned(name, canvas_of(what))
            text = _text(plan)
        policy: dict[str, Any] = {
            "misfire": before.misfire, "overlap": before.overlap, "jitter": before.jitter_s,
            "start": before.start_s, "end": before.end_s, "max_runs": before.max_runs,
        }  # fmt: skip
        given = {
            "misfire": misfire, "overlap": overlap, "jitter": jitter, "start": start, "end": end,
            "max_runs": max_runs,
        }  # fmt: skip
        policy |= {key: value for key, value in given.items() if value is not _KEEP}
        timing = Schedule.of(before.timing) if when is _KEEP else schedule_of(when)
        spec = _spec(name, timing, policy, text, before.source)  # no digest: it is not what was declared
        self._put(name, spec, planned, replace=True)
        return self.get(name)

    # -------------------------------------------------------------- seeing

    def views(self) -> list[ScheduleView]:
        """Return what the hub says of its schedules, by name, without their histories."""
        found: list[ScheduleView] = []
        while True:
            answer = self.client._link.answer(wire.Ask(0, "schedules", limit=_ROWS, index=len(found)))
            found += answer.schedules
            if not answer.schedules or len(found) >= answer.count:
                return found

    def view(self, name: str) -> ScheduleView:
        """Return all that the hub says of a schedule. Raises UnknownSchedule."""
        _check_name(name)
        try:
            return self.client._link.answer(wire.Ask(0, "schedules", name)).schedules[0]
        except UnknownResult:
            raise _unknown(name) from None

    def get(self, name: str) -> ScheduleHandle:
        """Return the handle of a schedule.

        Raises:
            UnknownSchedule: There is none of this name.
        """
        return ScheduleHandle(self, self.view(name))

    def names(self) -> list[str]:
        """Return the names of all schedules."""
        return [view.name for view in self.views()]

    def history(self, name: str) -> list[Fired]:
        """Return what became of the last fire times of a schedule, the newest last. Raises as ``get``."""
        return self.get(name).history

    def upcoming(self, name: str, n: int = 5) -> list[datetime]:
        """Return the next times at which a schedule fires (of a paused one: would fire), in its own zone.

        Args:
            name: The schedule.
            n: How many at most: it may end.

        Raises:
            UnknownSchedule: There is none of this name.
        """
        view = self.view(name)
        spec, state = view.spec, view.state
        if state.finished_s is not None:
            return []
        if spec.max_runs is not None:
            n = min(n, spec.max_runs - state.runs)
        after = moment(state.cursor_s, "UTC")
        if state.paused:
            after = max(after, datetime.now(UTC))
        if spec.start_s is not None:
            after = max(after, _before(spec.start_s))
        times = Schedule.of(spec.timing).upcoming(n, after)
        return times if spec.end_s is None else [at for at in times if at.timestamp() <= spec.end_s]

    def __iter__(self) -> Iterator[ScheduleHandle]:
        """Yield the handles of all schedules, by name."""
        return (ScheduleHandle(self, view) for view in self.views())

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.views())

    def __contains__(self, name: object) -> bool:
        """Return whether there is a schedule of this name."""
        try:
            return isinstance(name, str) and bool(self.view(name))
        except UnknownSchedule:
            return False

    def __bool__(self) -> bool:
        """Be true: this is the place of schedules, also where there are none."""
        return True

    def __repr__(self) -> str:
        """Name the hub."""
        return f"<schedules of hub {self.client.connection.name!r}>"

    def _repr_html_(self) -> str:
        return table(self.views())

    # -------------------------------------------------------------- steering

    def pause(self, name: str) -> None:
        """Let a schedule fire no more until ``resume``. Raises UnknownSchedule."""
        self._change(name, "pause")

    def resume(self, name: str) -> None:
        """Let a schedule fire again; while it was paused it missed nothing. Raises UnknownSchedule."""
        self._change(name, "resume")

    def remove(self, name: str) -> None:
        """Remove a schedule; runs of it go on, and are kept. Raises UnknownSchedule."""
        self._change(name, "remove")

    def run(self, name: str) -> Any:
        """Run a schedule now, beside its fire times; now is the fire time of that run.

        Returns:
            The handle of the run; None if it waits for the end of another (overlap ``queue``).

        Raises:
            UnknownSchedule: There is none of this name.
            Refused: Another run of it has not ended (overlap ``skip``), or it has had all its runs.
        """
        made = self._change(name, "run")
        try:
            return self.client.result(made[0].hex())
        except UnknownResult:
            return None

    def _change(self, name: str, verb: Literal["pause", "resume", "remove", "run"]) -> list[bytes]:
        link = self.client._link
        _check_name(name)
        try:
            return link.answer(wire.ChangeSchedule(0, name, verb, link.mint.run())).made
        except UnknownResult:
            raise _unknown(name) from None

    # -------------------------------------------------------------- reconciling

    def update(self, schedules: Mapping[str, Mapping[str, Any]], source: str = "update") -> Reconciled:
        """Make the schedules of a source what is declared: add, change and remove what differs.

        A schedule that has not changed is left alone, so that this may be called at every start. One that is
        changed keeps its runs, its history and whether it is paused.

        Args:
            schedules: By name, arguments of ``add``; or as in Celery's ``beat_schedule``: ``task``,
                ``schedule``, ``args``, ``kwargs``, ``options``.
            source: Who declares them; those of others are never touched.

        Raises:
            InvalidSchedule: A declaration means nothing, or a name belongs to another source. Nothing was
                changed.
        """
        wanted: dict[str, tuple[ScheduleSpec, PlannedRun]] = {}
        for name, entry in schedules.items():
            what, when, policy = declaration(name, entry)
            try:
                plan, planned = self._planned(name, what)
            except InvalidSchedule:
                raise
            except UsageError as error:
                raise InvalidSchedule(f"schedule {name!r}: {error}") from None
            spec = _spec(name, when, policy, _text(plan), source)
            digest = self.client._link.sealer.fingerprint(_content(spec, plan, planned))
            wanted[name] = msgspec.structs.replace(spec, digest=digest), planned
        there = {view.name: view.spec for view in self.views()}
        for name in wanted:
            if name in there and there[name].source != source:
                owner = (
                    f"is declared by {there[name].source!r}" if there[name].source else "was added by hand"
                )
                raise InvalidSchedule(
                    f"schedule {name!r} {owner}, and {source!r} declares it too: remove it, or rename one"
                )
        done = Reconciled([], [], [], [], [])
        for name, (spec, planned) in wanted.items():
            if name in there and there[name].digest == spec.digest:
                done.kept.append(name)
            elif not _fires(spec):
                done.passed.append(name)
            else:
                self._put(name, spec, planned, replace=True)
                (done.changed if name in there else done.added).append(name)
        for name, spec in there.items():
            if spec.source == source and (name not in wanted or name in done.passed):
                self._change(name, "remove")
                done.removed.append(name)
        return done

    # -------------------------------------------------------------- planning

    def _planned(self, name: str, canvas: Canvas) -> tuple[Plan, PlannedRun]:
        _check_name(name)
        current.entered(self.client)  # its routes and defaults are meant, whatever client is current
        try:
            plan = plan_canvas(canvas)
        finally:
            current.left(self.client)
        for node in plan.nodes:
            if node.ids:
                raise InvalidSchedule(
                    f"schedule {name!r}: {node.task} has the task_id {next(iter(node.ids.values()))!r}, and "
                    "every run of a schedule needs ids of its own: leave it out"
                )
            if node.options.eta_s is not None or node.options.expires_at_s is not None:
                raise InvalidSchedule(
                    f"schedule {name!r}: {node.task} has a fixed eta or expires, the same for every run: "
                    "give countdown or expires in seconds, which count from the start of each run"
                )
        return plan, self.client.seal(plan)

    def _put(self, name: str, spec: ScheduleSpec, planned: PlannedRun | None, replace: bool) -> None:
        link = self.client._link
        own = link.mint.run() if planned is None else planned.run
        try:
            link.ask(wire.PutSchedule(0, name, own, spec, None, [], replace=replace), planned=planned)
        except Refused as error:
            if error.code != "schedule":
                raise
            raise InvalidSchedule(str(error)) from None
        except UnknownResult:  # it is edited, and was removed meanwhile
            raise _unknown(name) from None


def _spec(name: str, when: Schedule, policy: Mapping[str, Any], text: str, source: str = "") -> ScheduleSpec:
    """Return a schedule for the hub, without its canvas.

    Raises:
        InvalidSchedule: A policy does not exist or fit.
    """
    jitter = policy.get("jitter", 0.0)
    fields = {
        "timing": msgspec.to_builtins(when.timing),
        "misfire": policy.get("misfire", "coalesce"),
        "overlap": policy.get("overlap", "allow"),
        "jitter_s": jitter.total_seconds() if isinstance(jitter, timedelta) else jitter,
        "start_s": instant_s(name, "start", policy.get("start"), when.tz),
        "end_s": instant_s(name, "end", policy.get("end"), when.tz),
        "max_runs": policy.get("max_runs"),
        "text": text,
        "source": source,
    }
    try:
        spec = msgspec.convert(fields, ScheduleSpec)
    except msgspec.ValidationError as error:
        raise InvalidSchedule(f"schedule {name!r}: {error}") from None
    if spec.start_s is not None and spec.end_s is not None and spec.start_s > spec.end_s:
        raise InvalidSchedule(f"schedule {name!r}: its end is before its start")
    return spec


def _fires(spec: ScheduleSpec) -> bool:
    """Return whether a schedule has a fire time from now on."""
    after = datetime.now(UTC) if spec.start_s is None else max(datetime.now(UTC), _before(spec.start_s))
    first = Schedule.of(spec.timing).next(after)
    return first is not None and (spec.end_s is None or first.timestamp() <= spec.end_s)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not 1 <= len(name) <= 200:
        raise InvalidSchedule(f"the name of a schedule is a text of 1 to 200 characters, not {name!r}")


def _content(spec: ScheduleSpec, plan: Plan, planned: PlannedRun) -> bytes:
    """Return a hash of all that was declared."""
    mark = blake2b(msgspec.msgpack.encode((spec, planned.graph)))
    for node in plan.nodes:
        for args, kwargs in node.calls:
            call = payload.dump_call(args, kwargs, node.headers, serializer=node.serializer or payload.PICKLE)
            mark.update(bytes(call))
    return mark.digest()


def _text(plan: Plan) -> str:
    """Return the tasks of a canvas, for people; never its arguments, which are not for all who look."""
    tasks = list(dict.fromkeys(node.task for node in plan.nodes))
    more = f" and {len(tasks) - _TASKS_SHOWN} more" if len(tasks) > _TASKS_SHOWN else ""
    return (", ".join(tasks[:_TASKS_SHOWN]) + more)[:_TEXT]


def _unknown(name: str) -> UnknownSchedule:
    return UnknownSchedule(f"the hub has no schedule {name!r}: client.schedules.names() lists them")


def _before(at_s: float) -> datetime:
    """Return the last instant before one that counts."""
    return moment(at_s, "UTC") - timedelta(microseconds=1)
