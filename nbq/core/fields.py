"""What the text of a cron field means: a set of numbers.

Text in, numbers out; a text that means nothing raises ValueError and says how to write it. What days and
times follow from the numbers is ``cron.py``'s.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["DAY", "FIELDS", "HOUR", "MINUTE", "MONTH", "MONTHS", "WEEKDAY", "WEEKDAYS", "Field", "expand"]

WEEKDAYS = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split()
MONTHS = "January February March April May June July August September October November December".split()

_PART = re.compile(r"(?:(?P<all>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>[0-9]{1,4}))?", re.ASCII)


class Field(NamedTuple):
    """One of the five fields: its name, its bounds, and words that stand for its numbers from the lowest."""

    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()


MINUTE = Field("minute", 0, 59)
HOUR = Field("hour", 0, 23)
WEEKDAY = Field("day_of_week", 0, 6, tuple(WEEKDAYS))
DAY = Field("day_of_month", 1, 31)
MONTH = Field("month_of_year", 1, 12, tuple(MONTHS))
FIELDS = (MINUTE, HOUR, WEEKDAY, DAY, MONTH)


def expand(field: Field, text: str, unix: bool = False) -> tuple[int, ...]:
    """Return the numbers that a field's text means, ascending.

    Args:
        field: Which field it is.
        text: ``*``, numbers, names, ranges (which may go round: ``22-2``), ``*`` and ranges perhaps with a
            step (``*/5``), and lists of these.
        unix: Whether 7 is Sunday too.

    Raises:
        ValueError: The text means nothing, and why.
    """
    found: set[int] = set()
    for part in text.split(","):
        found.update(_numbers(field, part.strip(), unix))
    return tuple(sorted(found))


def _numbers(field: Field, part: str, unix: bool) -> list[int]:
    shape = _PART.fullmatch(part)
    if shape is None:
        hint = "; from_string takes such a word" if part.startswith("@") else ""
        raise ValueError(
            f"{field.name}: {part!r} is no '*', number, name or range, and no '*' or range with a step{hint}"
        )
    size = field.high - field.low + 1
    if shape["all"]:
        first, last = field.low, field.high
    else:
        first = _number(field, shape["first"], unix)
        last = first if shape["last"] is None else _number(field, shape["last"], unix)
        if shape["step"] and shape["last"] is None:
            raise ValueError(
                f"{field.name}: {part!r} has a step but no range; write {first}-{field.high}/{shape['step']}"
            )
        if last < first:  # round the end
            last += size
    step = int(shape["step"] or 1)
    if step == 0:
        raise ValueError(f"{field.name}: {part!r} has a step of 0")
    return [field.low + (number - field.low) % size for number in range(first, last + 1, step)]


def _number(field: Field, word: str, unix: bool) -> int:
    if word.isdigit() and len(word) <= 4:
        number = int(word)
        if field.low <= number <= field.high or (unix and field is WEEKDAY and number == 7):
            return number
        sunday = "; Sunday is 0" if field is WEEKDAY else ""
        raise ValueError(f"{field.name}: {number} is not in {field.low}-{field.high}{sunday}")
    for index, name in enumerate(field.words):
        if word.lower() in {name.lower(), name[:3].lower()}:
            return field.low + index
    raise ValueError(f"{field.name}: {word!r} is no number" + (" or name" if field.words else ""))
