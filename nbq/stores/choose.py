"""Which result store a URL means. What a store needs is imported when the first URL of its kind is opened."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points

from nbq.errors import SettingsError
from nbq.stores.base import DELAYS_S, LIMIT, Backend, ResultStore, public, scrub

__all__ = ["GROUP", "open_store"]

GROUP = "nbq.results"
"""The group of entry points by which other packages add stores; an entry's name is the scheme."""

_REDIS = ("redis", "rediss", "unix")
_SQL = ("sqlite", "postgresql", "mysql", "mariadb", "oracle", "mssql")
# The extra that each module of this package needs.
_EXTRAS = {"redis": "redis", "memcached": "memcached", "sql": "sql", "files": "fsspec"}


def open_store(url: str, *, limit: int = LIMIT, delays_s: tuple[float, ...] = DELAYS_S) -> ResultStore:
    """Return the result store that a URL names; it connects when it is first used.

    ``redis://``, ``rediss://`` and ``unix://`` (Redis), ``memcached://host:port,host:port``, any URL of
    SQLAlchemy (``sqlite:///file``, ``postgresql://…``, any other as ``sql+…``), a scheme of the entry points
    ``nbq.results``, and every URL that fsspec knows (``file:///folder``, ``s3://bucket/folder``, …).
    Celery's ``db+…``, ``cache+memcached://`` and ``redis+socket://`` mean the same here.

    Args:
        url: Where the store is.
        limit: The most bytes of a value.
        delays_s: How long to wait before each further try of what failed, in seconds.

    Raises:
        SettingsError: No store has such URLs, the URL is malformed, or a package is not installed.
    """
    scheme, found, rest = url.partition("://")
    if not found or not scheme:
        raise SettingsError("result_backend is no URL: write scheme://place, such as redis://localhost")
    try:
        make, address = _maker(scheme, rest)
        backend = make(address)
    except SettingsError:
        raise
    except Exception as error:  # each library has errors of its own for what it cannot make sense of
        said = scrub(f"{type(error).__name__}: {error}", url)
    else:
        return ResultStore(url, backend, limit=limit, delays_s=delays_s)
    raise SettingsError(f"result_backend = {public(url)} cannot be opened: {said}")


def _maker(scheme: str, rest: str) -> tuple[Callable[[str], Backend], str]:
    """Return what makes the back end, and the URL in the spelling that it reads."""
    url = f"{scheme}://{rest}"
    base = scheme.partition("+")[0]
    if scheme in _REDIS:
        return _own("redis"), url
    if scheme == "redis+socket":
        return _own("redis"), f"unix://{rest}"
    if scheme in ("memcached", "cache+memcached"):
        return _own("memcached"), f"memcached://{rest}"
    if base in ("sql", "db") and base != scheme:
        return _own("sql"), url.partition("+")[2]
    if base in _SQL:
        return _own("sql"), url
    added = entry_points(group=GROUP, name=scheme)
    if added:
        return next(iter(added)).load(), url
    return _own("files"), url


def _own(name: str) -> Callable[[str], Backend]:
    try:
        return import_module(f"nbq.stores.{name}").connect
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
    hint = f"pip install nbq[{_EXTRAS[name]}]"
    raise SettingsError(f"this result_backend needs the package {missing}, which is not installed: {hint}")
