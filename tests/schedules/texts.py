"""Crontabs as texts, each with what it means, which is not asked of nbq."""

from __future__ import annotations

from random import Random

import nbq
from tests.schedules.oracle import Rule

Fields = tuple[str, str, str, str, str]
"""In the order of Unix: minute, hour, day of month, month, day of week."""

_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_NAMES = {
    3: "jan feb mar apr may jun jul aug sep oct nov dec".split(),
    4: "sun mon tue wed thu fri sat".split(),
}


def crontab(fields: Fields, unix: bool, tz: str) -> nbq.crontab:
    """Return the crontab of five texts."""
    if unix:
        return nbq.crontab.from_string(" ".join(fields), tz=tz)
    minute, hour, day, month, weekday = fields
    return nbq.crontab(minute, hour, day_of_month=day, month_of_year=month, day_of_week=weekday, tz=tz)


def random_crontab(random: Random, unix: bool) -> tuple[Fields, Rule]:
    """Return the fields of a crontab that fires mostly at night, and what they mean."""
    texts, numbers = [], []
    for index in range(5):
        if index >= 2 and random.random() < 0.6:
            text, found = "*", set(range(_BOUNDS[index][0], _BOUNDS[index][1] + 1))
        else:
            parts = [_part(random, index, unix) for _ in range(random.choice([1, 1, 2, 3]))]
            text = ",".join(part for part, _ in parts)
            found = set().union(*(part for _, part in parts))
        texts.append(text)
        numbers.append(frozenset(found))
    minute, hour, day, month, weekday = numbers
    either = unix and "*" not in texts[2] and "*" not in texts[4]
    real = "*" in texts[0] or "*" in texts[1]
    if min(day) > 29 and not either:  # it might never come
        texts[3], month = "*", frozenset(range(1, 13))
    return (texts[0], texts[1], texts[2], texts[3], texts[4]), Rule(
        minute, hour, weekday, day, month, either, real
    )


def _part(random: Random, index: int, unix: bool) -> tuple[str, set[int]]:
    low, high = _BOUNDS[index]
    kind = random.choice(["one", "one", "range", "steps", "star"])
    if kind == "star":
        step = random.choice([2, 3, 5, 7, 20, 90])
        return f"*/{step}", _walk(low, high, low, high, step)
    first, last = random.randint(low, high), random.randint(low, high)
    if index == 1 and random.random() < 0.7:
        first, last = random.randint(0, 4), random.randint(0, 6)  # where clocks change
    if kind == "one":
        return _word(random, index, first, unix), {first}
    start = _word(random, index, first, unix)
    text = f"{start}-{start if first == last else _word(random, index, last, unix)}"  # 0-7 is not 0-0
    if kind == "range":
        return text, _walk(first, last, low, high, 1)
    step = random.choice([1, 2, 3, 4, 10, 25])
    return f"{text}/{step}", _walk(first, last, low, high, step)


def _word(random: Random, index: int, number: int, unix: bool) -> str:
    if index in _NAMES and random.random() < 0.4:
        return random.choice([str.lower, str.title])(_NAMES[index][number - _BOUNDS[index][0]])
    if unix and index == 4 and number == 0:
        return random.choice(["0", "7"])
    return str(number)


def _walk(first: int, last: int, low: int, high: int, step: int) -> set[int]:
    """Go from one number to another, round the end if need be, and note every step-th."""
    found, at, count = set(), first, 0
    while True:
        if count % step == 0:
            found.add(at)
        if at == last:
            return found
        at = low if at == high else at + 1
        count += 1
