"""Servers that all tests of the stores share, and others for those that stop them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.stores import servers
from tests.stores.servers import Server

pytest.register_assert_rewrite("nbq.stores.conformance")


def _served(start: Callable[[], Server]) -> Iterator[Server]:
    server = start()
    try:
        yield server
    finally:
        server.end()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    """Redis, up."""
    yield from _served(servers.redis)


@pytest.fixture(scope="session")
def memcached_server() -> Iterator[Server]:
    """memcached, up."""
    yield from _served(servers.memcached)


@pytest.fixture(scope="session")
def second_memcached() -> Iterator[Server]:
    """Another memcached, up."""
    yield from _served(servers.memcached)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """PostgreSQL, up."""
    yield from _served(servers.postgresql)


@pytest.fixture(
    scope="module",
    params=[servers.redis, servers.memcached, servers.postgresql],
    ids=lambda start: start.__name__,
)
def _one_of_each(request: pytest.FixtureRequest) -> Iterator[Server]:
    yield from _served(request.param)


@pytest.fixture
def own_server(_one_of_each: Server) -> Server:
    """A server that the test may stop, one after another of each kind."""
    if not _one_of_each.running:
        _one_of_each.start()
    return _one_of_each
