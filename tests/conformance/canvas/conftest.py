"""The fixture ``run``: runs a canvas and gives what the tests ask of its result.

Each test runs twice: on the plan alone, and on a whole cluster inside this process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance.canvas import executor, local
from tests.conformance.canvas.tasks import log


@pytest.fixture(params=[executor.execute, local.execute], ids=["plan", "cluster"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return a function from a canvas, arguments and options to what became of it."""
    log.clear()
    return request.param
