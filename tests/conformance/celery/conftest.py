"""A cluster in virtual time, and nothing of the test before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nbq import configuration
from nbq.testing import nbq_cluster
from tests.conformance.celery import work

__all__ = ["nbq_cluster"]


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Forget what tasks noted, and what a test configured."""
    work.called.clear()
    work.coded.clear()
    configuration.reset()
    yield
    configuration.reset()
