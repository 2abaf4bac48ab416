"""The fixture ``run``: runs a canvas and gives what the tests ask of its result."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conformance.canvas.executor import Ran, execute
from tests.conformance.canvas.tasks import log


@pytest.fixture
def run() -> Callable[..., Ran]:
    """Return a function from a canvas, arguments and options to what became of it."""
    log.clear()
    return execute
