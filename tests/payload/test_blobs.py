"""Blobs: large elements and functions as files that are named by their seal, and the hub's folder of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy
import pytest

from nbq import payload
from nbq.blobs import CHUNK_BYTES, BlobFolder
from nbq.errors import IntegrityError, ProtocolError

KEY = bytes(range(32))
PLACE = payload.origin("result", bytes(16), 0, 7)
NAME = "0123456789abcdef" * 2


def test_a_large_element_becomes_a_blob_and_comes_back_mapped(tmp_path: Path) -> None:
    array = numpy.arange(200_000)
    name, parts = payload.seal_large(KEY, PLACE, payload.dumps(array), b"extras")
    payload.write_blob(tmp_path, name, parts)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    mapped = payload.map_blob(tmp_path, name)
    block = payload.unseal(KEY, PLACE, mapped)
    loaded = payload.loads(block.element(0))
    assert (block.count, block.extras, numpy.array_equal(loaded, array)) == (1, b"extras", True)
    assert numpy.shares_memory(loaded, numpy.frombuffer(mapped, numpy.uint8))


def test_a_blob_is_named_by_its_seal(tmp_path: Path) -> None:
    name, parts = payload.seal_large(KEY, PLACE, b"x" * 100)
    assert name == b"".join(parts)[:16].hex()


def test_a_blob_moved_to_another_place_is_refused(tmp_path: Path) -> None:
    name, parts = payload.seal_large(KEY, PLACE, b"x" * 100)
    payload.write_blob(tmp_path, name, parts)
    with pytest.raises(IntegrityError):
        payload.unseal(KEY, payload.origin("result", bytes(16), 0, 8), payload.map_blob(tmp_path, name))


def test_a_blob_is_written_once_and_is_private(tmp_path: Path) -> None:
    payload.write_blob(tmp_path, NAME, [b"first"])
    payload.write_blob(tmp_path, NAME, [b"second"])
    assert (tmp_path / NAME).read_bytes() == b"first"
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


def test_a_function_is_addressed_by_its_content_and_key() -> None:
    address, data = payload.seal_function(KEY, b"code")
    assert payload.open_function(KEY, address, data) == b"code"
    assert (
        len({address, payload.seal_function(KEY, b"c0de")[0], payload.seal_function(bytes(32), b"code")[0]})
        == 3
    )
    with pytest.raises(IntegrityError):
        payload.open_function(KEY, address, b"c0de")
    with pytest.raises(IntegrityError):
        payload.open_function(bytes(32), address, b"code")


def test_the_folder_is_private(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path / "blobs")
    folder.write(NAME, 0, 2, b"ab")
    assert folder.folder.stat().st_mode & 0o777 == 0o700
    assert (folder.folder / NAME).stat().st_mode & 0o777 == 0o600


def test_chunks_become_a_blob_once_all_are_there(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path)
    assert folder.write(NAME, 0, 6, b"abc") == 3
    assert (folder.exists(NAME), folder.read(NAME, 0)) == (False, None)
    assert folder.write(NAME, 3, 6, b"def") == 6
    assert folder.read(NAME, 0) == (6, b"abcdef")
    assert folder.read(NAME, 4) == (6, b"ef")


def test_a_chunk_that_does_not_follow_changes_nothing(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path)
    assert folder.write(NAME, 3, 6, b"def") == 0
    assert folder.write(NAME, 0, 6, b"abc") == 3
    assert folder.write(NAME, 0, 6, b"abc") == 3
    assert folder.write(NAME, 3, 6, b"def") == 6
    assert folder.write(NAME, 0, 6, b"xxx") == 6
    assert folder.read(NAME, 0) == (6, b"abcdef")


def test_a_blob_is_read_in_chunks_and_never_beyond_its_end(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path)
    content = bytes(range(256)) * 4096 + b"tail"
    payload.write_blob(tmp_path, NAME, [content])
    assert folder.read(NAME, 0) == (len(content), content[:CHUNK_BYTES])
    assert folder.read(NAME, CHUNK_BYTES) == (len(content), b"tail")
    assert folder.read(NAME, len(content)) == (len(content), b"")
    assert folder.read(NAME, 2**64 - 1) == (len(content), b"")


@pytest.mark.parametrize(
    "name", ["", "ab", "../../../../etc/passwd", "A" * 32, "g" * 32, "a" * 31 + "\n", NAME + "0"]
)
def test_what_cannot_be_the_name_of_a_blob_is_refused(tmp_path: Path, name: str) -> None:
    folder = BlobFolder(tmp_path / "blobs")
    for attempt in (
        lambda: folder.write(name, 0, 1, b"x"),
        lambda: folder.read(name, 0),
        lambda: folder.exists(name),
        lambda: folder.discard([name]),
    ):
        with pytest.raises(ProtocolError, match="not the name of a blob"):
            attempt()
    assert [path.name for path in tmp_path.iterdir()] == ["blobs"]


@pytest.mark.parametrize(("offset", "total", "data"), [(0, 101, b"x"), (0, 2, b"abc"), (2, 3, b"ab")])
def test_sizes_that_cannot_be_are_refused(tmp_path: Path, offset: int, total: int, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        BlobFolder(tmp_path, limit=100).write(NAME, offset, total, data)
    assert list(tmp_path.iterdir()) == []


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path / "blobs")
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    (folder.folder / f"{NAME}.part").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        folder.write(NAME, 0, 3, b"abc")
    assert victim.read_bytes() == b"untouched"


def test_what_no_run_names_for_long_is_deleted_at_a_start(tmp_path: Path) -> None:
    """What is younger may belong to a report or a submit that comes again."""
    folder = BlobFolder(tmp_path)
    other, young = "f" * 32, "e" * 32
    for name in (NAME, other, f"{other}.part", f"{NAME}.123.tmp"):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / young).write_bytes(b"x")
    folder.keep_only({NAME})
    assert {path.name for path in tmp_path.iterdir()} == {NAME, young}
    folder.discard([NAME, other, young])
    assert list(tmp_path.iterdir()) == []
