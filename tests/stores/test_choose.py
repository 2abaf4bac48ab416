"""Which store a URL means, and what is said of one that means none."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from nbq.errors import SettingsError
from nbq.stores import open_store
from nbq.stores.base import public

SECRET = "s3cr3t"

KINDS = {
    "redis://localhost": "redis.RedisStore",
    "rediss://:pw@localhost:6380/0": "redis.RedisStore",
    "unix:///run/redis.sock?db=1": "redis.RedisStore",
    "redis+socket:///run/redis.sock": "redis.RedisStore",
    "memcached://localhost": "memcached.MemcachedStore",
    "memcached://one:1,two:2": "memcached.MemcachedStore",
    "memcached:///run/memcached.sock": "memcached.MemcachedStore",
    "memcached://[::1]:1,[::1]": "memcached.MemcachedStore",
    "cache+memcached://127.0.0.1:11211/": "memcached.MemcachedStore",
    "sqlite:///results.db": "sql.SqlStore",
    "sql+sqlite:///results.db": "sql.SqlStore",
    "db+sqlite:///results.db": "sql.SqlStore",
    "postgresql://u:p@host/base": "sql.SqlStore",
    "postgresql+psycopg://u:p@host/base": "sql.SqlStore",
    "file:///results": "files.FileStore",
    "memory://results": "files.FileStore",
}


@pytest.mark.parametrize("url", KINDS)
def test_a_scheme_means_a_store(url: str) -> None:
    store = open_store(url)
    kind = type(store.backend)
    assert f"{kind.__module__}.{kind.__name__}" == f"nbq.stores.{KINDS[url]}"
    store.close()


@pytest.mark.parametrize(
    ("url", "said"),
    {
        "redis": "result_backend is no URL: write scheme://place, such as redis://localhost",
        "": "result_backend is no URL: write scheme://place, such as redis://localhost",
        "mongodb://me:s3cr3t@host": "result_backend = mongodb://…: no store has such URLs; an entry point "
        "nbq.results can add one",
        "redis://:s3cr3t@host:port/0": "result_backend = redis://host:port/0 cannot be opened: ValueError: "
        "Port could not be cast to integer value as 'port'",
        "memcached://me:s3cr3t@host": "memcached:// takes servers alone: no user, no password, no options",
        "memcached://host:eleven": "'host:eleven' is no server of memcached: write "
        "memcached://host:port,host:port",
        "sql+nothing://me:s3cr3t@host": "result_backend = sql+nothing://host cannot be opened: "
        "NoSuchModuleError: Can't load plugin: sqlalchemy.dialects:nothing",
        "mysql://me:s3cr3t@host/base": "mysql needs the package MySQLdb: pip install MySQLdb",
        "sql+": "result_backend is no URL: write scheme://place, such as redis://localhost",
        "file://here": "file://here is no folder that all processes agree on: write file:///and/the/path",
        "file:///": "file:// needs a folder or bucket after it",
        "s3://bucket/folder": "result_backend = s3://…: Install s3fs to access S3",
    }.items(),
    ids=lambda text: text[:12],
)
def test_what_means_no_store_is_said_without_its_password(url: str, said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        open_store(url)
    assert (str(raised.value), SECRET in said) == (said, False)


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("redis://localhost", "redis", "redis"),
        ("memcached://localhost", "pymemcache", "memcached"),
        ("sqlite:///x", "sqlalchemy", "sql"),
        ("file:///x", "fsspec", "fsspec"),
    ],
)
def test_a_missing_package_is_said_with_the_extra_that_brings_it(url: str, package: str, extra: str) -> None:
    program = f"""
import sys
sys.modules[{package!r}] = None
from nbq.errors import SettingsError
from nbq.stores import open_store
try:
    open_store({url!r})
except SettingsError as error:
    print(error, error.__cause__, error.__context__)
"""
    assert _python(program) == (
        f"this result_backend needs the package {package}, which is not installed: pip install nbq[{extra}] "
        "None None\n"
    )


def test_a_missing_driver_is_said_with_the_extra_that_brings_it() -> None:
    program = """
import sys
sys.modules["psycopg"] = None
from nbq.stores import open_store
try:
    open_store("postgresql://me:s3cr3t@host/base")
except ValueError as error:
    print(error)
"""
    assert _python(program) == "postgresql+psycopg needs the package psycopg: pip install nbq[postgresql]\n"


def test_nothing_is_imported_before_a_url_asks_for_it() -> None:
    program = """
import sys
import nbq.stores
print({"redis", "pymemcache", "sqlalchemy", "fsspec", "psycopg"} & set(sys.modules))
nbq.stores.open_store("memcached://localhost")
print({"redis", "pymemcache", "sqlalchemy", "fsspec", "psycopg"} & set(sys.modules))
"""
    assert _python(program) == "set()\n{'pymemcache'}\n"


def test_an_entry_point_adds_a_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    added = EntryPoint("mine", "nbq.stores.files:connect", "nbq.results")

    def points(*, group: str, name: str) -> EntryPoints:
        return EntryPoints([added]).select(group=group, name=name)

    monkeypatch.setattr("nbq.stores.choose.entry_points", points)
    monkeypatch.setattr("nbq.stores.files.connect", lambda url: (url, "a back end"))
    assert open_store("mine://me:s3cr3t@host").backend == ("mine://me:s3cr3t@host", "a back end")


def test_a_folder_is_made_when_the_first_value_comes(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/a/b?auto_mkdir=false")
    assert list(tmp_path.iterdir()) == []
    store.put("0" * 32, b"value")
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("0" * 32)] == [Path("a/b/00", "0" * 32)]


PUBLIC = {
    "redis://localhost:6379/0": "redis://localhost:6379/0",
    "redis://:pw@host/0?password=pw": "redis://host/0",
    "redis://me:p@ss/w?rd#@host/0": "redis://host/0",
    "sql+postgresql+psycopg://me:pw@[::1]:5432/base?sslpassword=pw": "sql+postgresql+psycopg://[::1]:5432/base",
    "unix://:pw@/run/redis.sock?db=1": "unix:///run/redis.sock",
    "file:///data/me@home/results": "file:///data/me@home/results",
    "s3://bucket/folder?secret=pw": "s3://bucket/folder",
}


@pytest.mark.parametrize("url", PUBLIC)
def test_what_everybody_may_see_of_a_url(url: str) -> None:
    assert public(url) == PUBLIC[url]


def _python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout
