"""Ids: the text of runs and elements, and back."""

import pytest

from nbq.core.ids import element_text, parse_id, run_text
from nbq.core.model import NONE

RUN = bytes(range(16))


def test_run_text_is_hexadecimal_and_comes_back():
    assert run_text(RUN) == "000102030405060708090a0b0c0d0e0f"
    assert parse_id(run_text(RUN)) == (RUN, NONE, 0)


def test_element_text_names_node_and_index_and_comes_back():
    assert element_text(RUN, 3, 41) == "000102030405060708090a0b0c0d0e0f-3-41"
    assert parse_id(element_text(RUN, 3, 41)) == (RUN, 3, 41)
    assert parse_id(element_text(RUN, 0, 2_147_483_647)) == (RUN, 0, 2_147_483_647)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mine",
        "0" * 31,
        "0" * 33,
        "0" * 31 + "G",
        ("0" * 31 + "a").upper(),
        "0" * 32 + "-1",
        "0" * 32 + "-1-",
        "0" * 32 + "--1-1",
        "0" * 32 + "-1-1-1",
        "0" * 32 + "-1-12345678901",
        "0" * 32 + "-1-1\n",
        "0" * 32 + "-01-1",
        "0" * 32 + "-1-٣",
    ],
)
def test_any_other_text_is_no_id(text):
    assert parse_id(text) is None
