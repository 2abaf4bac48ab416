"""Blobs on their way: one that the hub has no more does not hold up the others, one is sent once."""

from __future__ import annotations

from pathlib import Path

from nbq import wire
from nbq.bulk import BlobTraffic

GONE, THERE = "a" * 32, "b" * 32


def test_a_blob_that_is_gone_ends_its_fetch_and_lets_the_next_begin(tmp_path: Path) -> None:
    traffic = BlobTraffic(tmp_path)
    traffic.fetch(GONE)
    traffic.fetch(THERE)
    assert traffic.messages() == [wire.Fetch(1, GONE, 0)]
    traffic.on_chunk(wire.Chunk(1, GONE, 0, 0, b""))
    assert traffic.messages() == [wire.Fetch(2, THERE, 0)]
    traffic.on_chunk(wire.Chunk(2, THERE, 0, 3, b"abc"))
    assert traffic.arrived == [GONE, THERE]
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(THERE, b"abc")]


def test_a_blob_that_is_on_its_way_is_not_sent_twice(tmp_path: Path) -> None:
    (tmp_path / THERE).write_bytes(b"abc")
    traffic = BlobTraffic(tmp_path)
    traffic.upload(THERE)
    traffic.upload(THERE)
    assert traffic.messages() == [wire.Upload(THERE, 0, 3, b"abc")]
    traffic.on_uploaded(wire.Uploaded(THERE, 3))
    assert (traffic.departed, traffic.messages(), traffic.idle) == ([THERE], [], False)
