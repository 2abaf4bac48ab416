"""What running elements show of themselves, as clients read it."""

from __future__ import annotations

import pytest

from nbq import payload
from nbq.core.model import Graph, NodeSpec
from nbq.errors import ContentDisallowed, IntegrityError
from nbq.replica import Replica

KEY = bytes(range(32))
RUN = b"r" * 16


def replica(*accept: str) -> Replica:
    return Replica(RUN, Graph([NodeSpec("t", b"f" * 16, 4)]), KEY, pytest.fail, frozenset(accept))


def shown(meta: object, serializer: str, index: int = 2) -> bytes:
    element = payload.dumps(meta, serializer=serializer)
    return payload.seal(KEY, payload.origin("note", RUN, 0, index), [element], serializer=serializer)


@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_a_note_is_read_by_what_made_it(serializer: str) -> None:
    assert replica(serializer).note((RUN, 0), 2, shown({"n": [1]}, serializer)) == {"n": [1]}


def test_a_note_that_is_not_accepted_is_not_read() -> None:
    with pytest.raises(ContentDisallowed, match="made by the serializer 'pickle'"):
        replica("json").note((RUN, 0), 2, shown({"n": 1}, "pickle"))


def test_a_note_of_another_element_is_refused() -> None:
    with pytest.raises(IntegrityError):
        replica("json").note((RUN, 0), 2, shown({"n": 1}, "json", index=3))
