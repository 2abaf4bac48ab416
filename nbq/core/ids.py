"""Ids as people see them: the text of a run and of an element, and back. Nothing is minted here."""

from __future__ import annotations

import re

from nbq.core.model import NONE

__all__ = ["element_text", "parse_id", "run_text"]

_ID = re.compile(r"([0-9a-f]{32})(?:-(0|[1-9][0-9]{0,9})-(0|[1-9][0-9]{0,9}))?")


def run_text(run: bytes) -> str:
    """Return the text of a run id: 32 hexadecimal digits."""
    return run.hex()


def element_text(run: bytes, node: int, index: int) -> str:
    """Return the text of an element's id: the run's, the node's number and the element's."""
    return f"{run.hex()}-{node}-{index}"


def parse_id(text: str) -> tuple[bytes, int, int] | None:
    """Return run, node and index that a text names, or None if it is not of such a form.

    For the id of a run, the node is NONE and the index 0.
    """
    match = _ID.fullmatch(text)
    if match is None:
        return None
    run, node, index = match.groups()
    if node is None:
        return bytes.fromhex(run), NONE, 0
    return bytes.fromhex(run), int(node), int(index)
