"""What nobody reads any more goes: expired files and rows, and files of writers that died."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest

from nbq.errors import ResultStoreError
from nbq.stores import open_store
from nbq.stores.files import FileStore
from nbq.stores.sql import SqlStore


def name(number: int) -> str:
    return f"{number:032x}"


def in_folder(tmp_path: Path) -> set[str]:
    return {path.name for path in tmp_path.rglob("*") if path.is_file()}


def test_purging_files_goes_through_all_folders(tmp_path: Path) -> None:
    backend = open_store(f"file://{tmp_path}").backend
    assert isinstance(backend, FileStore)
    for number in range(3):
        backend.put(f"{number:02x}".ljust(32, "a"), b"old", -1.0)
        backend.put(f"{number:02x}".ljust(32, "b"), b"new", 60.0)
        backend.put(f"{number:02x}".ljust(32, "c"), b"kept", None)
    for _ in range(256):
        backend.purge()
    assert in_folder(tmp_path) == {f"{n:02x}".ljust(32, letter) for n in range(3) for letter in "bc"}


def test_a_file_that_was_never_renamed_goes_after_a_day(tmp_path: Path) -> None:
    backend = open_store(f"file://{tmp_path}").backend
    backend.put(name(1), b"value", 60.0)
    old, young = (tmp_path / "00" / f"{name(2)}.{number}.part" for number in (1, 2))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 25 * 3600,) * 2)
    for _ in range(256):
        backend.purge()
    assert in_folder(tmp_path) == {name(1), young.name}


def test_a_file_that_cannot_be_finished_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"file://{tmp_path}", delays_s=())
    store.put(name(1), b"first")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nbq.stores.files.os.fsync", full)
    with pytest.raises(ResultStoreError, match="No space left on device"):
        store.put(name(1), b"second")
    assert (in_folder(tmp_path), store.get(name(1))) == ({name(1)}, b"first")


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 7])
def test_a_file_that_is_no_value_is_none(tmp_path: Path, content: bytes) -> None:
    store = open_store(f"file://{tmp_path}")
    store.put(name(1), b"value")
    (tmp_path / "00" / name(1)).write_bytes(content)
    assert store.get(name(1)) is None


def test_purging_rows_leaves_those_that_live(tmp_path: Path) -> None:
    backend = open_store(f"sqlite:///{tmp_path}/results.db").backend
    assert isinstance(backend, SqlStore)
    for number in range(3):
        backend.put(name(number), b"old", -1.0)
    backend.put(name(7), b"new", 60.0)
    backend.put(name(8), b"kept", None)
    backend.purge()
    with sqlite3.connect(tmp_path / "results.db") as database:
        rows = database.execute("SELECT name, data FROM nbq_results ORDER BY name").fetchall()
    database.close()
    assert rows == [(name(7), b"new"), (name(8), b"kept")]
    backend.close()


def test_a_purge_drops_a_thousand_rows_at_most(tmp_path: Path) -> None:
    backend = open_store(f"sqlite:///{tmp_path}/results.db").backend
    backend.put(name(0), b"makes the table", 60.0)
    with sqlite3.connect(tmp_path / "results.db") as database:
        database.executemany(
            "INSERT INTO nbq_results VALUES (?, '', 1.0)", [(name(n),) for n in range(1, 1502)]
        )
    left = []
    for _ in range(3):
        backend.purge()
        left.append(database.execute("SELECT count(*) FROM nbq_results").fetchone()[0])
    database.close()
    assert left == [502, 1, 1]
    backend.close()
