"""Every clock change from 2020 to 2035 in every zone, zones with the same history once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache

from nbq.zones import zone, zone_names

FIRST, LAST = datetime(2020, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)

Change = tuple[datetime, timedelta, timedelta]
"""The first instant of the new offset, the offset before, and the new one."""


@cache
def histories() -> dict[str, tuple[Change, ...]]:
    """Return the changes of each zone that has some, by the first name of those that share them."""
    found: dict[tuple[timedelta, tuple[Change, ...]], str] = {}
    for name in sorted(zone_names()):
        here = zone(name)
        found.setdefault((_offset(here, FIRST), _changes(here)), name)
    return {name: changes for (_, changes), name in found.items() if changes}


def _changes(here: tzinfo) -> tuple[Change, ...]:
    found = []
    at, before = FIRST, _offset(here, FIRST)
    while at < LAST:
        after = _offset(here, at + _DAY)
        if after != before:
            low, high = at, at + _DAY
            while high - low > _SECOND:
                middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
                if _offset(here, middle) == before:
                    low = middle
                else:
                    high = middle
            found.append((high, before, after))
            before = after
        at += _DAY
    return tuple(found)


def _offset(here: tzinfo, at: datetime) -> timedelta:
    return at.astimezone(here).utcoffset() or timedelta()
