"""A cluster with one slot, and its page: for viewers and for those who steer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import nbq
from tests.web.serving import Web, serving


@pytest.fixture(scope="module")
def client() -> Iterator[nbq.Client]:
    with nbq.Cluster(slots=1) as client:
        yield client


@pytest.fixture(scope="module")
def viewer(client: nbq.Client) -> Iterator[Web]:
    path = Path(client.connection.path)
    with serving("--hub", str(path.with_name("viewer.json"))) as web:
        yield web


@pytest.fixture(scope="module")
def steering(client: nbq.Client) -> Iterator[Web]:
    with serving(
        "--hub", client.connection.path, "--key", "client", "--allow-host", "hub.example.org"
    ) as web:
        yield web
