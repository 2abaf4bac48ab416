"""Every store passes the same tests, each against the real service."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbq.stores.conformance import StoreConformance
from tests.stores.servers import PASSWORD, Server


class TestRedis(StoreConformance):
    hidden = (PASSWORD,)

    @pytest.fixture(autouse=True)
    def served(self, redis_server: Server) -> None:
        self.url = redis_server.url


class TestRedisOverASocket(StoreConformance):
    hidden = (PASSWORD,)

    @pytest.fixture(autouse=True)
    def served(self, redis_server: Server) -> None:
        self.url = f"unix://:{PASSWORD}@{redis_server.folder}/redis.sock?db=2"


class TestMemcached(StoreConformance):
    @pytest.fixture(autouse=True)
    def served(self, memcached_server: Server) -> None:
        self.url = memcached_server.url


class TestMemcachedOnTwoServers(StoreConformance):
    @pytest.fixture(autouse=True)
    def served(self, memcached_server: Server, second_memcached: Server) -> None:
        self.url = f"{memcached_server.url},{second_memcached.url.removeprefix('memcached://')}"


class TestPostgresql(StoreConformance):
    hidden = (PASSWORD,)

    @pytest.fixture(autouse=True)
    def served(self, postgresql_server: Server) -> None:
        self.url = postgresql_server.url


class TestSqlite(StoreConformance):
    @pytest.fixture(autouse=True)
    def served(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path}/results.db"


class TestFiles(StoreConformance):
    @pytest.fixture(autouse=True)
    def served(self, tmp_path: Path) -> None:
        self.url = f"file://{tmp_path}/results"


class TestMemory(StoreConformance):
    url = "memory://results"
