"""The journal: facts and blocks come back as they were committed, and nothing else does."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from nbq import journal as module
from nbq.core.facts import Accepted, Ended, Fact, Forgotten, Leased, Returned, Settled
from nbq.core.model import BlockMeta, Graph, NodeSpec, Slice, State
from nbq.errors import StoreError
from nbq.journal import Batch, Durability, Journal

ADDRESS = bytes(range(16))
GRAPH = Graph([NodeSpec("t", ADDRESS, 2)], value=Slice(0, 0, 1))


def accepted(run: int) -> Accepted:
    return Accepted(run, run.to_bytes(16, "big"), "owner", 1.5, GRAPH, [BlockMeta(0, 0, 2, 4)])


def leased(run: int, token: int) -> Leased:
    return Leased(run, 0, 0, 2, token, b"engine01")


def settled(run: int, token: int) -> Settled:
    return Settled(run, 0, 0, 2, token, b"\x06\x07", 1, 4, "", 2.5, "e1", 0.1, {1: "ValueError: x"}, 0, 2)


def batch(*facts: Fact, blocks: tuple[tuple[int, int, bytes], ...] = ()) -> Batch:
    made = Batch()
    made.facts.extend(facts)
    made.blocks.update({(run, number): body for run, number, body in blocks})
    return made


def reopened(folder: Path, durability: Durability = "process") -> tuple[Journal, list[Fact]]:
    found = Journal(folder, durability)
    return found, list(found.recover())


def rows(folder: Path, table: str) -> int:
    with sqlite3.connect(folder / "journal.sqlite") as db:
        count = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    db.close()
    return int(count)


@pytest.mark.parametrize("durability", ["process", "disk"])
def test_facts_come_back_in_the_order_of_each_run(tmp_path: Path, durability: Durability) -> None:
    store = Journal(tmp_path, durability)
    store.commit(batch(accepted(2), accepted(1), leased(2, 7)))
    store.commit(batch(leased(1, 8), settled(1, 8)))
    store.commit(batch(Returned(2, 0, 0, 2, 7, True, "died"), leased(2, 9), settled(2, 9)))
    store.close()
    store, facts = reopened(tmp_path, durability)
    assert facts == [
        accepted(1),
        leased(1, 8),
        settled(1, 8),
        accepted(2),
        leased(2, 7),
        Returned(2, 0, 0, 2, 7, True, "died"),
        leased(2, 9),
        settled(2, 9),
    ]
    store.close()


def test_a_journal_goes_on_behind_what_it_recovered(tmp_path: Path) -> None:
    for token in range(3):
        store, facts = reopened(tmp_path)
        assert facts == ([accepted(1)] if token else []) + [leased(1, n) for n in range(token)]
        store.commit(batch(*([] if token else [accepted(1)]), leased(1, token)))
        store.close()


def test_blocks_and_functions_come_back(tmp_path: Path) -> None:
    store = Journal(tmp_path, "process")
    made = batch(accepted(1), blocks=((1, 0, b"zero"), (1, 1, b"")))
    made.functions[ADDRESS] = b"code"
    store.commit(made)
    for _ in range(2):
        assert (store.block(1, 0), store.block(1, 1)) == (b"zero", b"")
        assert (store.function(ADDRESS), store.function(bytes(16))) == (b"code", None)
        store.close()
        store, _ = reopened(tmp_path)
    store.close()


def test_a_function_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    store = Journal(tmp_path, "process")
    for data in (b"first", b"second"):
        made = Batch()
        made.functions[ADDRESS] = data
        store.commit(made)
    assert store.function(ADDRESS) == b"first"
    store.close()


def test_a_block_that_is_missing_raises(tmp_path: Path) -> None:
    store = Journal(tmp_path, "process")
    with pytest.raises(StoreError, match=r"journal\.sqlite has lost block 3 of run 9"):
        store.block(9, 3)
    store.close()


def test_blocks_are_read_from_memory_and_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CACHE_BYTES", 100)
    store = Journal(tmp_path, "process")
    blocks = tuple((1, number, bytes([number]) * 40) for number in range(10))
    store.commit(batch(accepted(1), blocks=blocks))
    assert [store.block(1, number) for number in range(10)] == [body for _, _, body in blocks]
    assert sum(map(len, store._cache.values())) <= 100
    store.close()


def test_a_batch_that_cannot_be_stored_is_not_stored_in_part(tmp_path: Path) -> None:
    store = Journal(tmp_path, "process")
    store.commit(batch(accepted(1), blocks=((1, 0, b"a"),)))
    with pytest.raises(StoreError, match=r"cannot write the journal .*journal\.sqlite: UNIQUE"):
        store.commit(batch(leased(1, 5), blocks=((1, 1, b"b"), (1, 0, b"again"))))
    store.close()
    store, facts = reopened(tmp_path)
    assert facts == [accepted(1)]
    assert store.block(1, 0) == b"a"
    with pytest.raises(StoreError):
        store.block(1, 1)
    store.close()


def test_a_forgotten_run_is_deleted_with_its_blocks_and_no_other(tmp_path: Path) -> None:
    store = Journal(tmp_path, "process")
    blocks = tuple((run, 0, bytes([run])) for run in (1, 2, 3))
    store.commit(batch(accepted(1), accepted(2), accepted(3), blocks=blocks))
    store.commit(batch(leased(2, 4), Forgotten(2)))
    store.close()
    store, facts = reopened(tmp_path)
    assert facts == [accepted(1), accepted(3)]
    assert (store.block(1, 0), store.block(3, 0)) == (b"\1", b"\3")
    with pytest.raises(StoreError):
        store.block(2, 0)
    store.close()


def test_blocks_staged_for_a_run_that_never_came_are_swept(tmp_path: Path) -> None:
    store = Journal(tmp_path, "process")
    staged = tuple((run, number, b"s") for run in (1, 5, 8) for number in range(3))
    store.commit(batch(accepted(5), blocks=staged))
    store.close()
    store, _ = reopened(tmp_path)
    assert [store.block(5, number) for number in range(3)] == [b"s"] * 3
    store.close()
    assert rows(tmp_path, "blocks") == 3


def test_blocks_of_a_submit_that_was_not_accepted_are_dropped(tmp_path: Path) -> None:
    store = Journal(tmp_path, "process")
    store.commit(batch(blocks=((1, 0, b"staged"), (2, 0, b"kept"))))
    dropped = batch(accepted(2), blocks=((1, 1, b"late"),))
    dropped.dropped.append(1)
    store.commit(dropped)
    store.close()
    assert rows(tmp_path, "blocks") == 1


def test_the_epoch_grows_with_each_start_and_the_store_keeps_its_id(tmp_path: Path) -> None:
    seen = []
    for _ in range(4):
        store = Journal(tmp_path, "process")
        seen.append((store.epoch, store.store_id))
        store.close()
    assert [epoch for epoch, _ in seen] == [1, 2, 3, 4]
    assert len({store_id for _, store_id in seen}) == 1
    assert len(seen[0][1]) == 16


def test_durability_none_starts_empty(tmp_path: Path) -> None:
    store = Journal(tmp_path, "none")
    store.commit(batch(accepted(1)))
    first = store.store_id
    store.close()
    store, facts = reopened(tmp_path, "none")
    assert facts == []
    assert store.store_id != first
    store.close()


@pytest.mark.parametrize(
    ("durability", "mode", "synchronous"), [("none", "memory", 0), ("process", "wal", 1), ("disk", "wal", 2)]
)
def test_each_durability_has_its_pragmas(
    tmp_path: Path, durability: Durability, mode: str, synchronous: int
) -> None:
    store = Journal(tmp_path, durability)

    def pragma(name: str) -> object:
        return store._db.execute(f"PRAGMA {name}").fetchone()[0]

    found = {name: pragma(name) for name in ("journal_mode", "synchronous", "locking_mode", "trusted_schema")}
    assert found == {
        "journal_mode": mode,
        "synchronous": synchronous,
        "locking_mode": "exclusive",
        "trusted_schema": 0,
    }
    store.close()


def test_the_file_is_private(tmp_path: Path) -> None:
    store = Journal(tmp_path, "process")
    store.commit(batch(accepted(1)))
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"journal.sqlite": 0o600, "journal.sqlite-wal": 0o600}
    store.close()


def test_a_second_opener_is_refused(tmp_path: Path) -> None:
    store = Journal(tmp_path, "process")
    with pytest.raises(StoreError, match=r"cannot use the journal .*: another process has it open"):
        Journal(tmp_path, "process")
    store.commit(batch(accepted(1)))
    store.close()
    store, facts = reopened(tmp_path)
    assert facts == [accepted(1)]
    store.close()


def _alter(folder: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(folder / "journal.sqlite") as db:
        db.execute(statement, values)
    db.close()


def test_another_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    Journal(tmp_path, "process").close()
    _alter(tmp_path, "UPDATE meta SET value = 99 WHERE key = 'format'")
    for _ in range(2):
        with pytest.raises(StoreError, match="has format 99, this nbq reads 1: start the nbq that wrote it"):
            Journal(tmp_path, "process")


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"this is no database at all, " * 100)
    with pytest.raises(StoreError, match=r"cannot use the journal .*not a database"):
        Journal(tmp_path, "process")


_ROW = msgspec.msgpack.encode([accepted(1)])

DAMAGE = {
    "empty": b"",
    "cut": _ROW[:-5],
    "garbage": b"\xc1" * 20,
    "another type": msgspec.msgpack.encode({"run": 1}),
    "a fact that does not exist": msgspec.msgpack.encode([[99, 1]]),
    "text that is not UTF-8": _ROW.replace(b"owner", b"\xff\xff\xff\xff\xff"),
    "text for bytes": "a text",
    "nothing": 5,
}


@pytest.mark.parametrize("body", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_row_is_an_error_and_not_a_loss(tmp_path: Path, body: object) -> None:
    store = Journal(tmp_path, "process")
    store.commit(batch(accepted(1)))
    store.commit(batch(leased(1, 5)))
    store.close()
    _alter(tmp_path, "UPDATE facts SET body = ? WHERE id = ?", body, 1 << 28)
    store = Journal(tmp_path, "process")
    with pytest.raises(StoreError, match=r"cannot read the journal .*journal\.sqlite: "):
        list(store.recover())
    store.close()


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that sets what /proc/self/mounts is taken to say."""
    read_text = Path.read_text

    def mount(text: str) -> None:
        def read(path: Path) -> str:
            return text if str(path) == "/proc/self/mounts" else read_text(path)

        monkeypatch.setattr(Path, "read_text", read)

    return mount


NFS = "server:/export {} nfs4 rw,relatime 0 0\n"
ROOT = "/dev/sda1 / ext4 rw 0 0\n"


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "lustre", "fuse.sshfs", "9p", "ceph"])
def test_a_network_file_system_is_refused(tmp_path: Path, mounts: Callable[[str], None], kind: str) -> None:
    mounts(ROOT + NFS.format(tmp_path.parent).replace("nfs4", kind))
    with pytest.raises(StoreError, match=rf"on a network file system \({kind}\).*NBQ_DATA_DIR"):
        Journal(tmp_path, "process")
    assert not (tmp_path / "journal.sqlite").exists()


@pytest.mark.parametrize("name", ["with space", "tab\there", "ümlaut", "back\\slash"])
def test_names_of_mounts_are_read_as_the_kernel_writes_them(
    tmp_path: Path, mounts: Callable[[str], None], name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    written = str(folder).replace("\\", r"\134").replace(" ", r"\040").replace("\t", r"\011")
    mounts(ROOT + NFS.format(written))
    with pytest.raises(StoreError, match="network file system"):
        Journal(folder, "process")


def test_the_innermost_mount_counts(tmp_path: Path, mounts: Callable[[str], None]) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    sibling = f"{NFS.format(str(inner) + '-not')}"
    mounts(ROOT + NFS.format(tmp_path) + f"/dev/sdb {inner} ext4 rw 0 0\n" + sibling)
    Journal(inner, "process").close()
    with pytest.raises(StoreError):
        Journal(tmp_path, "process")


def test_a_mount_over_a_mount_counts(tmp_path: Path, mounts: Callable[[str], None]) -> None:
    mounts(ROOT + NFS.format(tmp_path) + f"/dev/sdb {tmp_path} xfs rw 0 0\n")
    Journal(tmp_path, "process").close()


def test_an_empty_batch_is_nothing_to_commit() -> None:
    assert not Batch()
    assert batch(accepted(1))
    assert batch(blocks=((1, 0, b""),))


def test_ends_by_the_hub_come_back(tmp_path: Path) -> None:
    end = Ended(1, 0, 0, 2, State.REVOKED, "cancelled", "cancelled", 3.5)
    store = Journal(tmp_path, "process")
    store.commit(batch(accepted(1), end))
    store.close()
    store, facts = reopened(tmp_path)
    assert facts == [accepted(1), end]
    store.close()


def test_functions_that_no_run_names_are_deleted(tmp_path: Path) -> None:
    store = Journal(tmp_path, "process")
    first = Batch()
    first.functions.update({b"a" * 16: b"one", b"b" * 16: b"two"})
    store.commit(first)
    second = Batch()
    second.orphans.append(b"a" * 16)
    store.commit(second)
    assert (store.addresses(), store.function(b"a" * 16)) == ([b"b" * 16], None)
    store.close()
    assert Journal(tmp_path, "process").addresses() == [b"b" * 16]


def test_what_clients_keep_outlives_the_hub_until_it_is_deleted(tmp_path: Path) -> None:
    store = Journal(tmp_path, "process")
    first, second = Batch(), Batch()
    first.saved.update({"one": b"first", "two": b"kept"})
    second.saved.update({"one": b"second", "two": b""})
    assert first
    store.commit(first)
    assert (store.saved("one"), store.saved("two"), store.saved_count()) == (b"first", b"kept", 2)
    store.commit(second)
    store.close()
    store = Journal(tmp_path, "process")
    assert (store.saved("one"), store.saved("two"), store.saved_count()) == (b"second", None, 1)
    store.close()
