"""Files between an engine and a hub on another host: what leases need comes, what outcomes name goes first.

An outcome that names a file is reported when the hub has that. What no lease names any more is deleted.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from nbq import wire
from nbq.bulk import BlobTraffic
from nbq.engines.sealing import Ended
from nbq.engines.session import EngineSession

__all__ = ["Courier"]

_YOUNG_S = 60.0


class Courier:
    """The files of an engine.

    Args:
        folder: Where they lie.
        session: Says what is needed.
    """

    def __init__(self, folder: Path, session: EngineSession) -> None:
        self._folder = folder
        self._session = session
        self._traffic = BlobTraffic(folder)
        self._asked: set[str] = set()
        self._pending: dict[str, list[tuple[int, Ended, set[str]]]] = {}
        """By file on its way to the hub: a slot, what is reported of it, and which files that waits for."""

    def restart(self) -> None:
        """Start again on a new connection."""
        self._traffic.restart()

    def receive(self, message: wire.ToPeer) -> None:
        """Take in a message, if it is about files."""
        if isinstance(message, wire.Chunk):
            self._traffic.on_chunk(message)
        elif isinstance(message, wire.Uploaded):
            self._traffic.on_uploaded(message)

    def holds(self, slot: int, ended: Ended) -> bool:
        """Keep what is to be reported until the hub has its files; returns whether there is need to."""
        # A file that is gone was sent before: another element named it, too.
        names = {name for name in ended.blobs if name in self._pending or (self._folder / name).exists()}
        if names:
            self._session.deferred(ended.outcome.token, ended.outcome.lo)
        for name in names:
            self._pending.setdefault(name, []).append((slot, ended, names))
            self._traffic.upload(name)
        return bool(names)

    def move(self) -> list[tuple[int, Ended]]:
        """Send and fetch on; returns what can be reported now, with its slots."""
        session, traffic = self._session, self._traffic
        for name in session.wanted_blobs:
            if name not in self._asked:
                self._asked.add(name)
                traffic.fetch(name)
        session.wanted_blobs.clear()
        for name in traffic.arrived:
            self._asked.discard(name)
            session.provide(name)
            with contextlib.suppress(ValueError):
                session.provide(bytes.fromhex(name))
        traffic.arrived.clear()
        complete: list[tuple[int, Ended]] = []
        for name in traffic.departed:
            for slot, ended, missing in self._pending.pop(name, []):
                missing.discard(name)
                if not missing:
                    complete.append((slot, ended))
        traffic.departed.clear()
        if session.connected:
            session.outbox.extend(traffic.messages())
        return complete

    def sweep(self) -> None:
        """Delete what was fetched for leases that have ended."""
        if not self._session.fetch:
            return
        needed = self._session.named_blobs | self._pending.keys()
        for path in self._folder.iterdir():
            # A young file may be a result that its slot has not reported yet; a part is being fetched.
            if path.name in needed or path.suffix == ".part":
                continue
            if time.time() - path.stat().st_mtime > _YOUNG_S:
                path.unlink()
