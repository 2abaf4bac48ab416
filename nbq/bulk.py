"""Blobs of a peer whose hub is on another host: fetched before they are needed, sent before their report.

A few chunks are under way at a time, so bulk never fills the connection.
"""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

from nbq import wire

__all__ = ["BlobTraffic", "HeldRuns"]

_CHUNK = 1024 * 1024 - 64 * 1024
_WINDOW = 4


class _Fetch:
    def __init__(self, name: str) -> None:
        self.name = name
        self.total = -1
        self.asked = 0
        self.got: dict[int, bytes] = {}
        self.written = 0


class _Upload:
    def __init__(self, name: str, total: int) -> None:
        self.name = name
        self.total = total
        self.sent = 0
        self.stored = -1
        """How far the hub has stored it; -1 until a connection's first answer says so."""


class HeldRuns:
    """Runs that are held back until blobs that they name are with the hub."""

    def __init__(self) -> None:
        self._leaving: set[str] = set()
        self._missing: dict[bytes, set[str]] = {}

    def leaves(self, name: str) -> None:
        """A blob is on its way to the hub."""
        self._leaving.add(name)

    def hold(self, run: bytes, names: set[str]) -> bool:
        """Hold a run back if blobs of these names are on their way; returns whether it is held."""
        missing = names & self._leaving
        if missing:
            self._missing[run] = missing
        return bool(missing)

    def arrived(self, name: str) -> list[bytes]:
        """A blob is with the hub; returns the runs that need not be held any more."""
        self._leaving.discard(name)
        for names in self._missing.values():
            names.discard(name)
        complete = [run for run, names in self._missing.items() if not names]
        for run in complete:
            del self._missing[run]
        return complete


class BlobTraffic:
    """Blobs on their way, one of each direction at a time.

    Args:
        folder: Where blobs are written and read on this side.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arrived: list[str] = []
        self.departed: list[str] = []
        self._fetches: deque[_Fetch] = deque()
        self._uploads: deque[_Upload] = deque()
        self._request = 0

    @property
    def idle(self) -> bool:
        """Return whether nothing is under way, and nothing has come or gone since it was looked at."""
        return not (self._fetches or self._uploads or self.arrived or self.departed)

    def fetch(self, name: str) -> None:
        """Fetch a blob, unless it is here or on its way."""
        if (self.folder / name).exists():
            self.arrived.append(name)
        elif all(fetch.name != name for fetch in self._fetches):
            self._fetches.append(_Fetch(name))

    def upload(self, name: str) -> None:
        """Send a blob that lies in the folder, unless it is on its way."""
        if all(upload.name != name for upload in self._uploads):
            self._uploads.append(_Upload(name, (self.folder / name).stat().st_size))

    def restart(self) -> None:
        """Start again on a new connection."""
        for fetch in self._fetches:
            fetch.asked = fetch.written
            fetch.got.clear()
        for upload in self._uploads:
            upload.sent, upload.stored = 0, -1  # a hub that has started again may have less of it

    def messages(self) -> list[wire.ToHub]:
        """Return what can be sent now."""
        out: list[wire.ToHub] = []
        if self._fetches:
            fetch = self._fetches[0]
            limit = fetch.written + _WINDOW * _CHUNK if fetch.total >= 0 else 1
            while fetch.asked < (fetch.total if fetch.total >= 0 else 1) and fetch.asked < limit:
                self._request += 1
                out.append(wire.Fetch(self._request, fetch.name, fetch.asked))
                fetch.asked += _CHUNK
        if self._uploads:
            upload = self._uploads[0]
            limit = upload.stored + _WINDOW * _CHUNK if upload.stored >= 0 else 1
            with (self.folder / upload.name).open("rb") as file:
                while upload.sent < upload.total and upload.sent < limit:
                    data = os.pread(file.fileno(), _CHUNK, upload.sent)
                    out.append(wire.Upload(upload.name, upload.sent, upload.total, data))
                    upload.sent += len(data)
        return out

    def on_chunk(self, chunk: wire.Chunk) -> None:
        """Take in a chunk of a blob that is being fetched."""
        if not self._fetches or self._fetches[0].name != chunk.name:
            return
        fetch = self._fetches[0]
        if not chunk.total:  # the hub has it no more: whoever opens it will say so
            self._fetches.popleft()
            self.arrived.append(chunk.name)
            return
        fetch.total = chunk.total
        fetch.got[chunk.offset] = chunk.data[:_CHUNK]
        part = self.folder / f"{chunk.name}.part"
        while fetch.written in fetch.got:
            data = fetch.got.pop(fetch.written)
            with part.open("ab" if fetch.written else "wb") as file:
                file.write(data)
            fetch.written += len(data)
        if fetch.written >= fetch.total:
            part.rename(self.folder / chunk.name)
            self._fetches.popleft()
            self.arrived.append(chunk.name)

    def on_uploaded(self, message: wire.Uploaded) -> None:
        """Take in how far the hub has stored a blob."""
        if not self._uploads or self._uploads[0].name != message.name:
            return
        upload = self._uploads[0]
        if upload.stored < 0:
            upload.sent = message.offset
        upload.stored = max(upload.stored, message.offset)
        if upload.stored >= upload.total:
            self._uploads.popleft()
            self.departed.append(message.name)
            (self.folder / message.name).unlink(missing_ok=True)
