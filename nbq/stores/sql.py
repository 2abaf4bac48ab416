"""Results in a SQL database, through SQLAlchemy Core: one table, made if it is missing.

Statements are those that every database has. No value and no URL ever gets into a text of an error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine, make_url

from nbq.errors import SettingsError
from nbq.stores.base import PATIENCE_S, Backend

__all__ = ["SqlStore", "connect"]

_AT_ONCE = 200
_PURGED = 1000
# What says in each driver how long to wait for the server.
_OPTIONS = {
    "pysqlite": {"timeout": PATIENCE_S},
    "psycopg": {"connect_timeout": round(PATIENCE_S), "tcp_user_timeout": round(PATIENCE_S * 1000)},
    "psycopg2": {"connect_timeout": round(PATIENCE_S), "tcp_user_timeout": round(PATIENCE_S * 1000)},
    "pymysql": {"connect_timeout": round(PATIENCE_S)},
    "mysqldb": {"connect_timeout": round(PATIENCE_S)},
}

_TABLE = sa.Table(
    "nbq_results",
    sa.MetaData(),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("data", sa.LargeBinary(2**32 - 1), nullable=False),  # MySQL takes a type by the length
    sa.Column("expires", sa.Double, nullable=True, index=True),
)


class SqlStore:
    """A store in a table ``nbq_results`` of a database.

    Args:
        engine: The database.
    """

    piece_bytes = 8 << 20

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._made = False
        self._lock = threading.Lock()

    def put(self, name: str, data: bytes, expires_s: float | None) -> None:
        """Keep a value: two that put the same name at once may collide, and one of them tries again."""
        expires = None if expires_s is None else time.time() + expires_s
        with self._database().begin() as connection:
            connection.execute(_TABLE.delete().where(_TABLE.c.name == name))
            connection.execute(_TABLE.insert().values(name=name, data=data, expires=expires))

    def get(self, name: str) -> bytes | None:
        """Return a value, or None."""
        query = sa.select(_TABLE.c.data).where(_TABLE.c.name == name, ~_expired())
        with self._database().connect() as connection:
            found = connection.execute(query).scalar()
        return None if found is None else bytes(found)

    def delete(self, names: Sequence[str]) -> None:
        """Drop values."""
        self._delete(names, sa.true())

    def purge(self) -> None:
        """Drop values that have expired; not every database can delete with a limit, so they are listed."""
        query = sa.select(_TABLE.c.name).where(_expired()).limit(_PURGED)
        with self._database().connect() as connection:
            names = connection.execute(query).scalars().all()
        self._delete(names, _expired())  # it may have been put again meanwhile

    def close(self) -> None:
        """Let connections go."""
        self._engine.dispose()

    def _delete(self, names: Sequence[str], those: sa.ColumnElement[bool]) -> None:
        for start in range(0, len(names), _AT_ONCE):
            some = _TABLE.c.name.in_(names[start : start + _AT_ONCE])
            with self._database().begin() as connection:
                connection.execute(_TABLE.delete().where(some, those))

    def _database(self) -> Engine:
        with self._lock:
            if not self._made:
                _TABLE.metadata.create_all(self._engine)
                self._made = True
        return self._engine


def _expired() -> sa.ColumnElement[bool]:
    return _TABLE.c.expires.is_not(None) & (_TABLE.c.expires <= time.time())


def connect(url: str) -> Backend:
    """Return the back end of a URL.

    Raises:
        SettingsError: The URL is malformed, or its driver is not installed.
    """
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    try:
        return SqlStore(_engine(parsed))
    except ModuleNotFoundError as error:
        missing = error.name
    hint = "nbq[postgresql]" if parsed.drivername == "postgresql+psycopg" else missing
    raise SettingsError(f"{parsed.drivername} needs the package {missing}: pip install {hint}")


def _engine(url: URL) -> Engine:
    # A connection that the server has closed meanwhile is noticed before it is used.
    waits = _OPTIONS.get(url.get_dialect().driver, {})
    return sa.create_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=True,
        connect_args={key: value for key, value in waits.items() if key not in url.query},
    )
