"""Time zones by name: the one place that they come from.

The data is that of the package ``tzdata``, which is pinned with all else that nbq installs; zone files of
the system are never read, so that a hub, its engines and its clients agree on every instant whatever their
hosts have. Nothing here knows what the zone of this machine is.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import tzdata

__all__ = ["offset_name", "zone", "zone_name", "zone_names"]

_DATA = Path(tzdata.__file__).parent
_OFFSET = re.compile(r"UTC([+-])([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


class Zone(ZoneInfo):
    """A zone of the pinned data; unlike others that were read from a file it can be pickled, by its name."""

    def __reduce__(self) -> tuple[object, tuple[str]]:  # type: ignore[override]
        return zone, (self.key,)


@cache
def zone_names() -> frozenset[str]:
    """Return the names of all zones, as in ``Asia/Shanghai``."""
    return frozenset((_DATA / "zones").read_text("utf-8").split())


@cache
def _pinned(name: str) -> Zone:
    with (_DATA / "zoneinfo" / name).open("rb") as data:
        return Zone.from_file(data, key=name)


def zone(name: str) -> tzinfo:
    """Return the time zone of a name: an IANA name, ``UTC`` or ``UTC+08:00``.

    Raises:
        ValueError: There is no such zone.
    """
    if name == "UTC":
        return UTC
    offset = _OFFSET.fullmatch(name)
    if offset is not None:
        sign, hours, minutes = offset.groups()
        length = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-length if sign == "-" else length)
    if name not in zone_names():  # before it becomes the name of a file
        raise ValueError(f"there is no time zone {name!r}: write one as in 'Asia/Shanghai'")
    return _pinned(name)


def zone_name(given: str | tzinfo) -> str:
    """Return the name of a zone that is given by its name or as an object: a ``ZoneInfo``, or a fixed offset.

    Raises:
        ValueError: There is no such zone, or it has no name.
    """
    key = getattr(given, "key", None)  # a ZoneInfo's name
    if isinstance(given, tzinfo):
        given = key if isinstance(key, str) else str(given)
    if not isinstance(given, str):
        raise ValueError(f"it is the name of a zone or a ZoneInfo, not {given!r}")
    zone(given)
    return given


def offset_name(moment: datetime) -> str:
    """Return the name of the fixed offset that an aware datetime has, in whole minutes."""
    minutes = round((moment.utcoffset() or timedelta()) / timedelta(minutes=1))
    return (
        f"UTC{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
        if minutes
        else "UTC"
    )
