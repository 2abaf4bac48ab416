"""A cluster in virtual time, one of real processes for each module, and no settings from the test before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import nbq
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


@pytest.fixture(scope="module")
def processes() -> Iterator[nbq.Client]:
    """A client of a cluster with two slots, for the tests of one file."""
    with nbq.Cluster(slots=2, include=["tests.conformance.celery.work"]) as client:
        yield client
