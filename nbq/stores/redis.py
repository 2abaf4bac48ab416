"""Results in Redis (or Valkey, KeyDB, …): one key each, which Redis lets expire by itself."""

from __future__ import annotations

from collections.abc import Sequence

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from nbq.stores.base import PATIENCE_S, Backend

__all__ = ["RedisStore", "connect"]

_PREFIX = "nbq:"
_DELETE = 500
"""Keys of one command: Redis serves nobody else meanwhile."""


class RedisStore:
    """A store in Redis.

    Args:
        url: As ``redis.Redis.from_url`` reads it.
    """

    piece_bytes = 32 << 20

    def __init__(self, url: str) -> None:
        # It shall not try again by itself: ResultStore does, and two would multiply.
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=PATIENCE_S,
            socket_connect_timeout=PATIENCE_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )

    def put(self, name: str, data: bytes, expires_s: float | None) -> None:
        """Keep a value."""
        px = None if expires_s is None else max(1, round(expires_s * 1000))
        self._redis.set(_PREFIX + name, data, px=px)

    def get(self, name: str) -> bytes | None:
        """Return a value, or None."""
        value = self._redis.get(_PREFIX + name)
        return value if isinstance(value, bytes) else None

    def delete(self, names: Sequence[str]) -> None:
        """Drop values."""
        for start in range(0, len(names), _DELETE):
            self._redis.delete(*[_PREFIX + name for name in names[start : start + _DELETE]])

    def purge(self) -> None:
        """Do nothing: Redis drops what has expired."""

    def close(self) -> None:
        """Let connections go."""
        self._redis.close()


def connect(url: str) -> Backend:
    """Return the back end of a URL."""
    return RedisStore(url)
