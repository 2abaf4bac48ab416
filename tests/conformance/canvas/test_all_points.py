"""That each of the 67 points has a test."""

from __future__ import annotations

import re
from pathlib import Path


def test_every_point_has_a_test() -> None:
    folder = Path(__file__).parent
    text = "".join(path.read_text() for path in sorted(folder.glob("test_points_*.py")))
    found = {int(number) for number in re.findall(r"^def test_point_(\d\d)_", text, re.MULTILINE)}
    assert found == set(range(1, 68))
