"""The fixture for users, and a clean slate for what tasks note."""

from __future__ import annotations

import pytest

from nbq.testing import nbq_cluster
from tests.local import work

__all__ = ["nbq_cluster"]


@pytest.fixture(autouse=True)
def clean() -> None:
    work.seen.clear()
