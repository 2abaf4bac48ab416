"""That each row and each setting of the introduction to Celery has a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.test_celery_table import OLD_NAMES

ROWS = {
    1: "broker", 2: "task", 3: "worker", 4: "apply_async", 5: "delay", 6: "a call", 7: "link", 8: "errbacks",
    9: "eta", 10: "countdown", 11: "expires", 12: "serializer", 13: "custom serializer", 14: "compression",
    15: "custom compression", 16: "execution options", 17: "subtask", 18: "s()", 19: "a subtask is called",
    20: "partials", 21: "by name", 22: "group", 23: "partial group", 24: "chain", 25: "partial chain",
    26: "chord", 27: "group | task", 28: "task | group", 29: "immutable", 30: "parents", 31: "nesting",
}  # fmt: skip

FOLDER = Path(__file__).parent
TESTS = re.findall(
    r"^def test_(\w+)\(", "".join(path.read_text() for path in sorted(FOLDER.glob("test_*.py"))), re.MULTILINE
)


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_a_test(row: int) -> None:
    assert [name for name in TESTS if name.startswith(f"row_{row:02}_")]


@pytest.mark.parametrize("setting", OLD_NAMES)
def test_every_setting_has_a_test_of_its_name(setting: str) -> None:
    assert f"setting_{setting.lower()}" in TESTS


def test_no_test_is_of_a_row_or_setting_that_is_not_listed() -> None:
    rows = {int(name[4:6]) for name in TESTS if name.startswith("row_")}
    known = tuple(f"setting_{name.lower()}" for name in OLD_NAMES)
    others = [name for name in TESTS if name.startswith("setting_") and not name.startswith(known)]
    assert (rows, others) == (set(ROWS), [])
