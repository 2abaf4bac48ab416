"""Ids: the text of a run and of an element, and back; and the ids of runs that the hub itself makes.

No other ids are minted here: those are the clients' to choose.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from nbq.core.model import NONE

__all__ = [
    "element_text",
    "fire_salt",
    "list_text",
    "made_id",
    "names_group",
    "parse_id",
    "parse_list_id",
    "run_text",
]

_LIST_ID = re.compile(r"([0-9a-f]{32})-list-(0|[1-9][0-9]{0,9})")
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


def list_text(run: bytes, number: int) -> str:
    """Return the text of the id of a group of a run: of the value of one of its lists."""
    return f"{run.hex()}-list-{number}"


def parse_list_id(text: str) -> tuple[bytes, int] | None:
    """Return run and list that the id of a group names, or None if it is not of such a form."""
    match = _LIST_ID.fullmatch(text)
    return None if match is None else (bytes.fromhex(match[1]), int(match[2]))


def names_group(text: str) -> bool:
    """Return whether an id is that of a group of a run."""
    parsed = parse_id(text)
    return parsed[1] == NONE if parsed is not None else parse_list_id(text) is not None


def made_id(template: bytes, salt: bytes) -> bytes:
    """Return the id of a run that is made from a template (``model.Origin``).

    No client's id can be one: whoever has an id cannot find a template that leads to it.
    """
    return blake2b(template + salt, digest_size=16, person=b"nbq.made").digest()


def fire_salt(fire_s: float) -> bytes:
    """Return the salt for the run of a fire time, in Unix time: its microseconds."""
    return round(fire_s * 1e6).to_bytes(16, "big", signed=True)
