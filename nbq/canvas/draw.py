"""Drawings of a canvas: lines of text, and a small SVG for notebooks.

A chain runs from left to right, a group from top to bottom; links and errbacks stand below what they
belong to. Long ones are cut short, so that a drawing stays small whatever the canvas; what is shown of it
is escaped.
"""

from __future__ import annotations

from html import escape

from nbq.canvas.compose import chain, chord, group
from nbq.canvas.options import LINKS, listed
from nbq.canvas.signature import Canvas, Signature, to_canvas

__all__ = ["draw_svg", "draw_text"]

_FIRST = 4
_DEEP = 20
_TEXT_LIMIT = 60

_CHAR, _LINE, _GAP, _PAD = 7, 28, 26, 8
"""Pixels: of a character, of a box's height, between boxes of a chain, around boxes of a group."""

_Part = tuple[int, int, str]
"""Width, height and SVG elements of a part whose top left is at 0, 0."""


def draw_text(canvas: Canvas) -> str:
    """Return a drawing as indented lines."""
    lines: list[str] = []
    _draw_lines(canvas, "", "", lines, 0)
    return "\n".join(lines)


def draw_svg(canvas: Canvas) -> str:
    """Return a drawing as one SVG element."""
    width, height, inner = _part(canvas, 0)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + 2}" height="{height + 2}"'
        f' viewBox="-1 -1 {width + 2} {height + 2}" font-family="monospace" font-size="12">'
        f"<title>{escape(_label(canvas))}</title>{inner}</svg>"
    )


def _label(canvas: Canvas) -> str:
    if isinstance(canvas, Signature):
        text = repr(canvas)
    else:
        count = len(canvas.members())
        text = canvas.kind if isinstance(canvas, chord) else f"{canvas.kind} of {count}"
    options = ", ".join(f"{name}={value}" for name, value in canvas.options.items() if name not in LINKS)
    text = f"{text} [{options}]" if options else text
    return text if len(text) <= _TEXT_LIMIT else text[: _TEXT_LIMIT - 1] + "…"


def _shown(canvas: Canvas, depth: int) -> list[Canvas | str]:
    """Return the members to show; a text stands for those that are left out."""
    members = canvas.members()
    if members and depth >= _DEEP:
        return ["…"]
    if len(members) <= _FIRST + 2:
        return list(members)
    return [*members[:_FIRST], f"… {len(members) - _FIRST - 1} more", members[-1]]


def _hanging(canvas: Canvas, depth: int) -> list[tuple[str, Canvas | str]]:
    """Return the links and errbacks to show, each with the word for it."""
    found = [(name, to_canvas(link)) for name in LINKS for link in listed(canvas.options.get(name))]
    if found and depth >= _DEEP:
        return [("", "…")]
    more: list[tuple[str, Canvas | str]] = (
        [("", f"… {len(found) - _FIRST} more")] if len(found) > _FIRST else []
    )
    return [*found[:_FIRST], *more]


def _draw_lines(part: Canvas | str, here: str, below: str, lines: list[str], depth: int) -> None:
    lines.append(here + (part if isinstance(part, str) else _label(part)))
    if isinstance(part, str):
        return
    shown = [("", member) for member in _shown(part, depth)] + _hanging(part, depth)
    for number, (word, member) in enumerate(shown):
        last = number == len(shown) - 1
        first = below + ("└─ " if last else "├─ ") + (f"{word}: " if word else "")
        _draw_lines(member, first, below + ("   " if last else "│  "), lines, depth + 1)


def _part(part: Canvas | str, depth: int) -> _Part:
    if isinstance(part, str):
        width = len(part) * _CHAR + 2 * _PAD
        return width, _LINE, _text(part, width)
    own = _own_part(part, depth)
    hanging = _hanging(part, depth)
    if not hanging:
        return own
    width, height, drawn = own
    for word, link in hanging:
        across, down, inner = _row([_part(name, 0) for name in (word,) if name] + [_part(link, depth + 1)])
        drawn += _at(0, height + _PAD, inner)
        width, height = max(width, across), height + _PAD + down
    return width, height, drawn


def _own_part(part: Canvas, depth: int) -> _Part:
    """Return a part without its links and errbacks."""
    match part:
        case chain() | chord():
            return _row([_part(member, depth + 1) for member in _shown(part, depth)])
        case group():
            return _column([_part(member, depth + 1) for member in _shown(part, depth)])
        case _:
            label = _label(part)
            width = len(label) * _CHAR + 2 * _PAD
            return width, _LINE, _box(width, _LINE, 'fill="#eef4ff" stroke="#4a7ebb"') + _text(label, width)


def _row(parts: list[_Part]) -> _Part:
    height = max((part[1] for part in parts), default=_LINE)
    x, drawn = 0, ""
    for width, own, inner in parts:
        if x:
            middle = height // 2
            arrow = f"M{x - _GAP} {middle}h{_GAP - 2}m-6 -4l6 4l-6 4"
            drawn += f'<path d="{arrow}" fill="none" stroke="#888"/>'
        drawn += _at(x, (height - own) // 2, inner)
        x += width + _GAP
    return max(x - _GAP, _LINE), height, drawn


def _column(parts: list[_Part]) -> _Part:
    width = max((part[0] for part in parts), default=_LINE) + 2 * _PAD
    y, drawn = _PAD, ""
    for _, own, inner in parts:
        drawn += _at(_PAD, y, inner)
        y += own + _PAD
    return width, y, _box(width, y, 'fill="none" stroke="#888" stroke-dasharray="4 3"') + drawn


def _at(x: int, y: int, inner: str) -> str:
    return f'<g transform="translate({x} {y})">{inner}</g>'


def _box(width: int, height: int, style: str) -> str:
    return f'<rect width="{width}" height="{height}" rx="5" {style}/>'


def _text(text: str, width: int) -> str:
    return (
        f'<text x="{width // 2}" y="{_LINE // 2 + 4}" text-anchor="middle" fill="#333">{escape(text)}</text>'
    )
