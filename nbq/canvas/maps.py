"""One task that makes many calls of another: ``map``, ``starmap``, and groups of them, ``chunks``.

They are calls of builtin tasks (``nbq.tasks`` has their functions), with the signature to call as an
argument. Iterables are consumed when the signature is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nbq.canvas.compose import group
from nbq.canvas.options import CALL_OPTIONS, merge
from nbq.canvas.signature import Signature
from nbq.errors import InvalidSignature

__all__ = ["MAP", "STARMAP", "chunks_group", "map_signature", "starmap_signature"]

MAP = "nbq.map"
"""The builtin task that calls a signature with each item of a list."""

STARMAP = "nbq.starmap"
"""The builtin task that calls a signature with the arguments in each item of a list."""


def map_signature(sig: Signature, items: Iterable[Any]) -> Signature:
    """Return one task that calls ``sig`` with each item, and gives the list of what comes of it."""
    return _repeated(MAP, sig, list(items))


def starmap_signature(sig: Signature, items: Iterable[Iterable[Any]]) -> Signature:
    """Return one task that calls ``sig`` with the arguments in each item, and gives the list."""
    return _repeated(STARMAP, sig, [tuple(item) for item in items])


def chunks_group(sig: Signature, items: Iterable[Iterable[Any]], n: int) -> group:
    """Return a group of starmaps of at most ``n`` items each.

    Raises:
        InvalidSignature: ``n`` is no whole number from 1.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InvalidSignature(f"chunks: n, the number of items in one task, must be 1 or more, not {n!r}")
    every = [tuple(item) for item in items]
    return group(_repeated(STARMAP, sig, every[lo : lo + n]) for lo in range(0, len(every), n))


def _repeated(task: str, sig: Signature, items: list[Any]) -> Signature:
    basis = {} if isinstance(sig.ref, str) else sig.ref.options
    options = merge(basis, {name: value for name, value in sig.options.items() if name not in CALL_OPTIONS})
    called = sig.replace(options={})
    return Signature(task, (), {"task": called, "items": items}, options, immutable=True)
