"""Lists, lengths and instants of time in words. Pure: data in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

__all__ = ["instant_text", "joined", "span_text"]


def joined(parts: Sequence[str]) -> str:
    """Return parts as a list in words: ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def span_text(seconds: float) -> str:
    """Return a length of time for people: ``3 h 2 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def instant_text(at_s: float) -> str:
    """Return a Unix time for people, in UTC; also one that lies beyond the calendar's end."""
    try:
        return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError):
        return "a time beyond the calendar"
