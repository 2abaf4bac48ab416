"""The journal: facts and blocks of a hub in one SQLite file, committed a turn at a time.

One exclusive connection, used by one thread. A turn's facts, blocks and functions are one
transaction. The rows of a run lie together (the row number is the run's number, then a count), so
that to forget a run is to delete a range. A fact that is a whole state (``facts.PLACES``) takes the place
of the one before; nothing else is ever changed. Recovery reads facts back in the order in which each run
met them. It never looks inside a block, and never decides anything.

Layout: ``facts(id, body)`` and ``blocks(id, body)`` with ``id = run << 28 | count``;
``functions(address, body)``; ``saved(id, body)``, which are no facts of a run; ``meta(key, value)``.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from nbq.core.facts import PLACES, Fact, Forgotten, ScheduleRemoved
from nbq.core.model import NONE
from nbq.errors import StoreError
from nbq.settings import Durability

__all__ = ["Batch", "Journal", "Store"]

_FORMAT = 1
_COUNT_BITS = 28
_CACHE_BYTES = 64 * 1024 * 1024
_CHECKPOINT_PAGES = 4000
_NETWORK_FILESYSTEMS = frozenset(
    "nfs nfs4 cifs smb3 smbfs lustre gpfs beegfs afs ceph glusterfs fuse.sshfs 9p".split()
)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS blocks (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS functions (address BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS saved (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
"""


class Batch:
    """What one turn adds to the store.

    Attributes:
        facts: In the order in which they were decided.
        blocks: Bytes, by the numbers of run and block.
        functions: By content address.
        dropped: Runs whose stored blocks belong to nothing (a submit that was not accepted).
        orphans: Functions that no run names any more.
        saved: What clients keep under ids of their own; empty to delete it.
    """

    __slots__ = ("blocks", "dropped", "facts", "functions", "orphans", "saved")

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.blocks: dict[tuple[int, int], bytes] = {}
        self.functions: dict[bytes, bytes] = {}
        self.dropped: list[int] = []
        self.orphans: list[bytes] = []
        self.saved: dict[str, bytes] = {}

    def __bool__(self) -> bool:
        """Return whether there is anything to commit."""
        some = self.facts or self.blocks or self.functions or self.dropped or self.orphans or self.saved
        return bool(some)


class Store(Protocol):
    """What a hub needs of its store; the journal, or a simulated one."""

    store_id: bytes
    epoch: int

    def recover(self) -> Iterator[Fact]:
        """Yield all committed facts, each run's in order."""
        ...

    def commit(self, batch: Batch) -> None:
        """Store a batch as a whole or not at all. Raises StoreError."""
        ...

    def block(self, run: int, number: int) -> bytes:
        """Return a block that was committed. Raises StoreError."""
        ...

    def function(self, address: bytes) -> bytes | None:
        """Return a function that was committed, or None."""
        ...

    def addresses(self) -> list[bytes]:
        """Return the addresses of all functions that were committed."""
        ...

    def saved(self, name: str) -> bytes | None:
        """Return what a client keeps under an id, or None."""
        ...

    def saved_count(self) -> int:
        """Return how much clients keep under ids."""
        ...


class Journal:
    """A store in one SQLite file (WAL; for durability ``none``, a file that starts empty).

    Args:
        folder: The hub's data folder; the journal is ``journal.sqlite`` in it.
        durability: ``disk`` syncs every commit; ``process`` survives the death of the process;
            ``none`` keeps nothing for the next start.

    Raises:
        StoreError: The folder is on a network file system, or the file is not a journal, is of
            another format, or is in use.
    """

    def __init__(self, folder: Path, durability: Durability) -> None:
        _refuse_network_filesystem(folder)
        self.path = folder / "journal.sqlite"
        self.durability = durability
        self._rows: dict[int, int] = {}
        self._cache: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._cached = 0
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(list[Fact])
        if durability == "none":
            for name in folder.glob("journal.sqlite*"):
                name.unlink()
        with contextlib.ExitStack() as undo:
            try:
                db = sqlite3.connect(self.path, isolation_level=None, timeout=0, cached_statements=64)
                self._db = undo.enter_context(contextlib.closing(db))
                self._configure(db)
                self.store_id, self.epoch = self._begin_epoch()
            except sqlite3.Error as error:
                busy = getattr(error, "sqlite_errorname", "") == "SQLITE_BUSY"
                why = "another process has it open" if busy else error
                raise StoreError(f"cannot use the journal {self.path}: {why}") from error
            undo.pop_all()

    def _configure(self, db: sqlite3.Connection) -> None:
        self.path.chmod(0o600)
        levels = {"none": ("MEMORY", "OFF"), "process": ("WAL", "NORMAL"), "disk": ("WAL", "FULL")}
        mode, synchronous = levels[self.durability]
        for pragma in (
            "locking_mode = EXCLUSIVE",
            f"journal_mode = {mode}",
            # The epoch is committed with a sync at every level but none (design, section 6).
            f"synchronous = {'OFF' if self.durability == 'none' else 'FULL'}",
            f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
            "trusted_schema = OFF",
            "cell_size_check = ON",
            "cache_size = -16384",
        ):
            db.execute(f"PRAGMA {pragma}")
        actual = db.execute("PRAGMA journal_mode").fetchone()[0]
        if actual.upper() != mode:
            raise StoreError(f"{self.path}: SQLite gives journal mode {actual}, {mode} is needed")
        self._synchronous = synchronous

    def _begin_epoch(self) -> tuple[bytes, int]:
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        meta = dict(db.execute("SELECT key, value FROM meta"))
        if int(meta.get("format", _FORMAT)) != _FORMAT:
            raise StoreError(
                f"{self.path} has format {meta['format']}, this nbq reads {_FORMAT}: "
                "start the nbq that wrote it, or another data folder"
            )
        store_id = meta.get("store", os.urandom(16))
        epoch = int(meta.get("epoch", 0)) + 1
        values = {"format": _FORMAT, "store": store_id, "epoch": epoch}
        db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())
        db.execute("COMMIT")
        db.execute(f"PRAGMA synchronous = {self._synchronous}")
        return store_id, epoch

    def recover(self) -> Iterator[Fact]:
        """Yield all committed facts, each run's in order; forget blocks that belong to no run.

        Raises:
            StoreError: A row cannot be read.
        """
        last = NONE
        known: set[int] = set()
        try:
            for row, body in self._db.execute("SELECT id, body FROM facts ORDER BY id"):
                run = row >> _COUNT_BITS
                if run != last:
                    last = run
                    known.add(run)
                self._rows[run] = (row & ((1 << _COUNT_BITS) - 1)) + 1
                yield from self._decoder.decode(body)
            self._sweep(known)
        except (sqlite3.Error, msgspec.DecodeError, UnicodeDecodeError, TypeError) as error:
            raise StoreError(f"cannot read the journal {self.path}: {error}") from error

    def _sweep(self, known: set[int]) -> None:
        """Delete blocks that were staged for runs which were never accepted."""
        at = 0
        while True:
            row = self._db.execute("SELECT min(id) FROM blocks WHERE id >= ?", (at,)).fetchone()[0]
            if row is None:
                return
            run = row >> _COUNT_BITS
            if run not in known:
                self._delete("blocks", run)
            at = (run + 1) << _COUNT_BITS

    def commit(self, batch: Batch) -> None:
        """Store a batch as a whole or not at all.

        Raises:
            StoreError: It could not be stored. The hub must not go on: what it has decided is not
                what is on disk.
        """
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            if batch.functions:
                db.executemany("INSERT OR IGNORE INTO functions VALUES (?, ?)", batch.functions.items())
            if batch.blocks:
                db.executemany(
                    "INSERT INTO blocks VALUES (?, ?)",
                    [(run << _COUNT_BITS | number, body) for (run, number), body in batch.blocks.items()],
                )
            db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", self._fact_rows(batch.facts))
            for run in batch.dropped:
                self._delete("blocks", run)
            if batch.orphans:
                addresses = [(address,) for address in batch.orphans]
                db.executemany("DELETE FROM functions WHERE address = ?", addresses)
            for name, body in batch.saved.items():
                db.execute("DELETE FROM saved WHERE id = ?", (name,))
                if body:
                    db.execute("INSERT INTO saved VALUES (?, ?)", (name, body))
            for fact in batch.facts:
                if isinstance(fact, Forgotten | ScheduleRemoved):
                    self._delete("facts", fact.run)
                    self._delete("blocks", fact.run)
                    self._rows.pop(fact.run, None)
            db.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(f"cannot write the journal {self.path}: {error}") from error
        for place, body in batch.blocks.items():
            self._remember(place, body)

    def _fact_rows(self, facts: list[Fact]) -> list[tuple[int, bytes]]:
        by_run: dict[int, list[Fact]] = {}
        placed: dict[int, Fact] = {}
        for fact in facts:
            place = PLACES.get(type(fact))
            if place is None:
                by_run.setdefault(fact.run, []).append(fact)
            else:  # the last one counts
                placed[fact.run << _COUNT_BITS | place] = fact
        rows = [(row, self._encoder.encode([fact])) for row, fact in placed.items()]
        for run, own in by_run.items():
            count = self._rows.get(run, 0)
            self._rows[run] = count + 1
            rows.append((run << _COUNT_BITS | count, self._encoder.encode(own)))
        return rows

    def _delete(self, table: Literal["facts", "blocks"], run: int) -> None:
        self._db.execute(
            f"DELETE FROM {table} WHERE id >= ? AND id < ?",  # noqa: S608 - a name from the type above
            (run << _COUNT_BITS, (run + 1) << _COUNT_BITS),
        )

    def block(self, run: int, number: int) -> bytes:
        """Return a block that was committed.

        Raises:
            StoreError: There is no such block.
        """
        key = (run, number)
        body = self._cache.get(key)
        if body is not None:
            self._cache.move_to_end(key)
            return body
        row = self._db.execute(
            "SELECT body FROM blocks WHERE id = ?", (run << _COUNT_BITS | number,)
        ).fetchone()
        if row is None:
            raise StoreError(f"the journal {self.path} has lost block {number} of run {run}")
        self._remember(key, row[0])
        return row[0]

    def _remember(self, key: tuple[int, int], body: bytes) -> None:
        self._cache[key] = body
        self._cached += len(body)
        while self._cached > _CACHE_BYTES:
            self._cached -= len(self._cache.popitem(last=False)[1])

    def function(self, address: bytes) -> bytes | None:
        """Return a function that was committed, or None."""
        row = self._db.execute("SELECT body FROM functions WHERE address = ?", (address,)).fetchone()
        return row[0] if row is not None else None

    def addresses(self) -> list[bytes]:
        """Return the addresses of all functions that were committed."""
        return [row[0] for row in self._db.execute("SELECT address FROM functions")]

    def saved(self, name: str) -> bytes | None:
        """Return what a client keeps under an id, or None."""
        row = self._db.execute("SELECT body FROM saved WHERE id = ?", (name,)).fetchone()
        return row[0] if row is not None else None

    def saved_count(self) -> int:
        """Return how much clients keep under ids."""
        return int(self._db.execute("SELECT count(*) FROM saved").fetchone()[0])

    def close(self) -> None:
        """Fold the log into the file and close it."""
        self._db.close()


def _refuse_network_filesystem(folder: Path) -> None:
    """Refuse a folder where SQLite's locks and shared memory cannot be trusted."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return
    best = ("", "")
    target = str(folder.resolve())
    for line in mounts.read_text().splitlines():
        _, mount, kind, *_ = line.split()
        mount = mount.encode().decode("unicode_escape").encode("latin-1").decode(errors="replace")
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best[0]):
            best = (mount, kind)
    if best[1] in _NETWORK_FILESYSTEMS:
        raise StoreError(
            f"{folder} is on a network file system ({best[1]}), where a journal can be damaged: "
            "choose a folder on a local disk with --data or NBQ_DATA_DIR"
        )
