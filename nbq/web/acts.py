"""What a page may have done: one message for each act, checked as it is decoded, and one call of the client.

Nothing here decides whether the page may: that is asked before.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from nbq.client import Client
from nbq.core.timing import Misfire, Overlap
from nbq.web.written import WhenForm, schedule_of

__all__ = ["VERBS", "Act", "perform"]

Id = Annotated[str, Meta(min_length=1, max_length=500)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]


class Cancel(Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="cancel"):
    """Stop a task, or everything of a run."""

    id: Id


class Retry(Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="retry"):
    """Run a failed task again, or what failed of a run."""

    id: Id


class SteerQueue(Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="queue"):
    """Start nothing more of a queue, or again."""

    name: Name
    verb: Literal["pause", "resume"]


class DoSchedule(Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="schedule"):
    """Pause, resume, run now or remove a schedule."""

    name: Name
    verb: Literal["pause", "resume", "run", "remove"]


class EditSchedule(Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="edit"):
    """Let a schedule fire at other times, or by other rules; what it runs stays."""

    name: Name
    when: WhenForm
    misfire: Misfire = "coalesce"
    overlap: Overlap = "allow"
    jitter_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    max_runs: Annotated[int, Meta(ge=1)] | None = None


Act = Cancel | Retry | SteerQueue | DoSchedule | EditSchedule

VERBS = ["cancel", "retry", "queue", "schedule", "edit"]
"""What a page is told that it may do."""

_DONE = {"pause": "paused", "resume": "resumed", "run": "runs now", "remove": "removed"}


def perform(client: Client, act: Act) -> str:
    """Do what a page asks; returns what was done, as a sentence.

    Raises:
        NbqError: The hub did not do it, or what was asked means nothing.
    """
    match act:
        case Cancel():
            return f"{_tasks(client.cancel(act.id))} cancelled"
        case Retry():
            again = client.retry(act.id)
            return f"{_tasks(again.tasks)} tried again"
        case SteerQueue():
            (client.pause if act.verb == "pause" else client.resume)(act.name)
            return f"queue {act.name} {_DONE[act.verb]}"
        case DoSchedule():
            getattr(client.schedules, act.verb)(act.name)
            return f"{act.name} {_DONE[act.verb]}"
        case EditSchedule():
            when = schedule_of(act.when)
            client.schedules.edit(
                act.name, when=when, misfire=act.misfire, overlap=act.overlap, jitter=act.jitter_s,
                max_runs=act.max_runs,
            )  # fmt: skip
            return f"{act.name}: {when.describe()}"


def _tasks(count: int) -> str:
    return f"{count:,} task{'' if count == 1 else 's'}"
