"""What a page may have done: one message for each act, checked as it is decoded, and one call of the client.

Nothing here decides whether the page may: that is asked before.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from nbq.client import Client

__all__ = ["VERBS", "Act", "perform"]

Id = Annotated[str, Meta(min_length=1, max_length=500)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]


class Cancel(Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="cancel"):
    """Stop a task, or everything of a run."""

    id: Id


Act = Cancel

VERBS = ["cancel"]


def perform(client: Client, act: Act) -> str:
    """Do what a page asks; returns what was done, as a sentence.

    Raises:
        NbqError: The hub did not do it.
    """
    match act:
        case Cancel():
            return f"{_tasks(client.cancel(act.id))} cancelled"


def _tasks(count: int) -> str:
    return f"{count:,} task{'' if count == 1 else 's'}"
