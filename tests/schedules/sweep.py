"""Crontabs against the oracle, three days around clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

from nbq.zones import zone
from tests.schedules.changes import histories
from tests.schedules.oracle import DAY, MINUTE, Rule, Walk
from tests.schedules.texts import Fields, crontab, random_crontab

Window = tuple[str, datetime]
"""A zone, and the instant of a clock change in it."""

Case = tuple[Fields, bool, Rule]
"""Texts, whether they are read as Unix does, and what they mean."""

_ALL = (range(60), range(24), range(7), range(1, 32), range(1, 13))


def chosen() -> list[Case]:
    """Return crontabs that fire where clocks change: every shape of minutes and hours."""

    def case(
        minute: str, hour: str, minutes: set[int], hours: set[int], weekdays: set[int] | None = None
    ) -> Case:
        every = [frozenset(numbers) for numbers in _ALL]
        found = [frozenset(numbers) for numbers in (minutes or _ALL[0], hours or _ALL[1])]
        weekday = "*" if weekdays is None else ",".join(map(str, sorted(weekdays)))
        days = every[2] if weekdays is None else frozenset(weekdays)
        real = "*" in minute or "*" in hour
        rule = Rule(found[0], found[1], days, every[3], every[4], either=False, real=real)
        return (minute, hour, "*", "*", weekday), False, rule

    quarters, night = {0, 15, 30, 45}, {0, 1, 2, 3, 4}
    return [
        case("*", "*", set(), set()),
        case("*/15", "*", quarters, set()),
        case("0,15,30,45", "*", quarters, set()),
        case("59", "*/3", {59}, set(range(0, 24, 3))),
        case("*/15", "2", quarters, {2}),
        case("*", "0-4", set(), night),
        case("0,15,30,45", "0-4", quarters, night),
        case("0-59", "1-3", set(), {1, 2, 3}),
        case("0", "0", {0}, {0}),
        case("59", "23", {59}, {23}),
        case("30", "2", {30}, {2}),
        case("0", "3", {0}, {3}),
        case("1", "3", {1}, {3}),
        case("20", "22-2", {20}, {22, 23, 0, 1, 2}),
        case("30", "2", {30}, {2}, {0}),
        case("*/20", "0-2", {0, 20, 40}, {0, 1, 2}, {0}),
        case("*/10", "22-2", {0, 10, 20, 30, 40, 50}, {22, 23, 0, 1, 2}, {0, 6}),
    ]


def windows() -> list[Window]:
    """Return every clock change of every history."""
    return [(name, at) for name, changes in histories().items() for at, _, _ in changes]


def differences(window: Window, cases: list[Case], random: Random) -> list[str]:
    """Return what nbq gives otherwise than the oracle, around one clock change."""
    name, change = window
    walk = Walk(zone(name), change - 3 * DAY, change + 3 * DAY)
    found = []
    for fields, unix, rule in cases:
        schedule = crontab(fields, unix, name)
        expected = walk.fires(rule)
        times = schedule.upcoming(len(expected) + 1, after=walk.start - timedelta(microseconds=1))
        given = [at.astimezone(UTC) for at in times]
        if given[: len(expected)] != expected or (given[len(expected) :] and given[-1] <= walk.end):
            found.append(f"{schedule!r} around {change}: {_first_difference(expected, given)}")
        for after in _instants(change, random):
            later = [at for at in expected if at > after]
            following = schedule.next(after)
            if later and (following is None or following.astimezone(UTC) != later[0]):
                found.append(f"{schedule!r} after {after}: {following}, not {later[0]}")
    return found


def _instants(change: datetime, random: Random) -> list[datetime]:
    """Return instants to begin from: at the change, just before and after it, and anywhere near it."""
    near = [change + timedelta(seconds=random.uniform(-4, 4) * 3600) for _ in range(4)]
    tick = timedelta(microseconds=1)
    return [change - MINUTE, change - tick, change, change + tick, change + MINUTE, *near]


def _first_difference(expected: list[datetime], given: list[datetime]) -> str:
    for one, other in zip(expected, given, strict=False):
        if one != other:
            return f"{other}, not {one}"
    return f"{len(given)} times, not {len(expected)}"


def sweep(chances: list[Window], each: int, seed: int) -> tuple[int, list[str]]:
    """Try the chosen crontabs and some random ones around clock changes.

    Args:
        chances: The clock changes.
        each: How many random crontabs to try at each.
        seed: Of the random ones.

    Returns:
        How many crontabs were tried, and all differences.
    """
    tried, found = 0, []
    for name, at in chances:
        random = Random(f"{seed} {name} {at}")
        cases = chosen()
        for number in range(each):
            unix = number % 2 == 1
            fields, rule = random_crontab(random, unix)
            cases.append((fields, unix, rule))
        tried += len(cases)
        found += differences((name, at), cases, random)
    return tried, found
