"""The hub's folder of blobs: blocks and functions too large for messages, one file each.

A blob's name is the keyed hash of its content (``payload``), so a file is written once and never
changed. Peers on the hub's host write and map the files themselves; others send and fetch chunks.
Contents are never looked at here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from nbq.errors import ProtocolError

__all__ = ["CHUNK_BYTES", "BlobFolder"]

CHUNK_BYTES = 1024 * 1024
"""Bytes of a blob in one message."""

_NAME_LENGTH = 32
_LIMIT = (1 << 30) + (1 << 20)
"""The largest element of a task, with its head and what the task printed."""
_ORPHAN_S = 7 * 24 * 3600.0


class BlobFolder:
    """Blobs by name.

    Args:
        folder: Where the files lie; made with mode 0700.
        limit: The largest blob in bytes.
    """

    def __init__(self, folder: Path, limit: int = _LIMIT) -> None:
        self.folder = folder
        self.limit = limit
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, name: str, offset: int, total: int, data: bytes) -> int:
        """Store a chunk that follows what is stored, and return how far the blob is stored.

        A chunk that does not follow (sent again, or before another that was lost) changes nothing.

        Raises:
            ProtocolError: The name or the sizes cannot be those of a blob.
        """
        path = self._path(name)
        if total > self.limit or offset + len(data) > total:
            raise ProtocolError(f"a blob of {total} bytes (limit {self.limit}), {len(data)} at {offset}")
        if path.exists():
            return path.stat().st_size
        part = path.with_suffix(".part")
        handle = os.open(part, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            stored = os.fstat(handle).st_size
            if stored == offset:
                stored += os.write(handle, data)
        finally:
            os.close(handle)
        if stored == total:
            part.rename(path)
        return stored

    def read(self, name: str, offset: int) -> tuple[int, bytes] | None:
        """Return the size of a blob and its chunk at an offset, or None if there is no such blob."""
        try:
            with self._path(name).open("rb") as file:
                total = os.fstat(file.fileno()).st_size
                file.seek(min(offset, total))
                return total, file.read(CHUNK_BYTES)
        except FileNotFoundError:
            return None

    def exists(self, name: str) -> bool:
        """Return whether a blob is stored as a whole."""
        return self._path(name).exists()

    def discard(self, names: Iterable[str]) -> None:
        """Delete blobs; those that are gone already do not matter."""
        for name in names:
            self._path(name).unlink(missing_ok=True)

    def keep_only(self, names: set[str]) -> None:
        """Delete old files that are not one of these blobs (at a hub's start).

        A young one may be of a submit or of a report that was not acknowledged and comes again.
        """
        oldest_s = time.time() - _ORPHAN_S
        for path in self.folder.iterdir():
            if path.name not in names and path.stat().st_mtime < oldest_s:
                path.unlink()

    def _path(self, name: str) -> Path:
        if len(name) != _NAME_LENGTH or not set(name) <= set("0123456789abcdef"):
            raise ProtocolError(f"not the name of a blob: {name[:80]!r}")
        return self.folder / name
