"""What running elements show of themselves: the latest of each slot, and when it may be sent.

Sans-I/O. Of notes that come faster than they are sent, the last one wins. None is ever waited for.
"""

from __future__ import annotations

from nbq import wire

__all__ = ["Notes"]

_PAUSE_S = 0.05


class _Note:
    __slots__ = ("due", "message", "sent_s")

    def __init__(self) -> None:
        self.message: wire.Note | None = None
        self.due = False
        self.sent_s = float("-inf")


class Notes:
    """The notes of an engine's slots."""

    def __init__(self) -> None:
        self._slots: dict[int, _Note] = {}

    def put(self, slot: int, message: wire.Note) -> None:
        """The element that a slot runs shows something; what it showed before does not count any more."""
        note = self._slots.setdefault(slot, _Note())
        note.message, note.due = message, True

    def ended(self, slot: int, token: int, lo: int, hi: int) -> None:
        """Elements that a slot ran show nothing any more."""
        note = self._slots.get(slot)
        shown = note.message if note is not None else None
        if note is not None and shown is not None and shown.token == token and lo <= shown.index < hi:
            note.message, note.due = None, False

    def gone(self, slot: int) -> None:
        """A slot's process is gone."""
        self._slots.pop(slot, None)

    def again(self) -> None:
        """Let all that is still shown be sent once more: a hub may not have it."""
        for note in self._slots.values():
            note.due = note.message is not None

    def take(self, now_s: float) -> list[wire.Note]:
        """Return what is to be sent now."""
        taken: list[wire.Note] = []
        for note in self._slots.values():
            if note.due and note.message is not None and now_s - note.sent_s >= _PAUSE_S:
                note.due, note.sent_s = False, now_s
                taken.append(note.message)
        return taken
