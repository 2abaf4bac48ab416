"""Results in memcached: one item for each piece, of under a megabyte. What it has no room for it drops."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from hashlib import blake2b

from pymemcache.client.base import PooledClient

from nbq.errors import SettingsError
from nbq.stores.base import PATIENCE_S, Backend

__all__ = ["MemcachedStore", "connect"]

_PREFIX = b"nbq:"
_PORT = 11211
_LONGEST_S = 30 * 24 * 3600
"""A longer time to live is read by memcached as a date."""


class MemcachedStore:
    """A store in memcached servers: each name has its one server, whichever order they are given in.

    Args:
        servers: ``host``, ``host:port``, ``[ipv6]:port`` or the path of a socket, each.
    """

    piece_bytes = 1_000_000
    """Under the 1 MiB that an item may have as memcached is delivered, with its key and head."""

    def __init__(self, servers: Sequence[str]) -> None:
        self._clients = {
            server: PooledClient(
                _address(server), connect_timeout=PATIENCE_S, timeout=PATIENCE_S, no_delay=True,
                key_prefix=_PREFIX, default_noreply=False, max_pool_size=8,
            )
            for server in servers
        }  # fmt: skip

    def put(self, name: str, data: bytes, expires_s: float | None) -> None:
        """Keep a value."""
        seconds = 0 if expires_s is None else max(1, math.ceil(expires_s))
        until = math.ceil(time.time()) + seconds if seconds > _LONGEST_S else seconds
        if not self._client(name).set(name, data, expire=until):
            raise OSError("memcached did not store the item")

    def get(self, name: str) -> bytes | None:
        """Return a value, or None."""
        return self._client(name).get(name)

    def delete(self, names: Sequence[str]) -> None:
        """Drop values."""
        for name in names:
            self._client(name).delete(name)

    def purge(self) -> None:
        """Do nothing: memcached drops what has expired."""

    def close(self) -> None:
        """Let connections go."""
        for client in self._clients.values():
            client.close()

    def _client(self, name: str) -> PooledClient:
        """Return the server of a name: one server more moves few names."""
        if len(self._clients) == 1:
            return next(iter(self._clients.values()))
        best = max(self._clients, key=lambda server: blake2b(f"{server} {name}".encode()).digest())
        return self._clients[best]


def _address(server: str) -> tuple[str, int] | str:
    if server.startswith("/"):
        return server
    host, found, port = server.rpartition(":")
    if not found or port.endswith("]"):  # no port, and perhaps an address of IPv6
        host, port = server, str(_PORT)
    if not host or not port.isdigit():
        raise SettingsError(f"{server!r} is no server of memcached: write memcached://host:port,host:port")
    return host.strip("[]"), int(port)


def connect(url: str) -> Backend:
    """Return the back end of a URL: servers with commas between them."""
    rest = url.partition("://")[2]
    if "@" in rest or "?" in rest:
        raise SettingsError("memcached:// takes servers alone: no user, no password, no options")
    return MemcachedStore([server for server in rest.rstrip("/").split(",") if server] or ["localhost"])
