"""What every result store must do, as tests to subclass: for nbq's own stores and for those of others.

    class TestMine(StoreConformance):
        url = "mine://localhost"

Where the URL is known only at run time, a fixture sets ``self.url``. pytest runs the tests; nothing here
imports it. Two stores opened at one URL must see the same values.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from nbq.errors import PayloadTooLarge, ResultStoreError
from nbq.stores.base import Backend, ResultStore
from nbq.stores.choose import open_store

__all__ = ["StoreConformance"]

_DEADLINE_S = 10.0
_LARGEST = 4 << 20
_UNPRINTABLE = bytes(range(256))


class StoreConformance:
    """The tests; a subclass gives ``url``, and ``hidden`` if the URL has a password or the like."""

    url: str
    hidden: tuple[str, ...] = ()
    """Parts of the URL that nobody may see."""

    def opened(self) -> ResultStore:
        """Return another store at the URL, as another process would open it."""
        return open_store(self.url)

    def test_a_value_is_read_as_it_was_written(self) -> None:
        store, other = self.opened(), self.opened()
        values = {_name(): data for data in (b"x", _UNPRINTABLE, b"\0" * 70_000, b"\r\nEND\r\n", b"")}
        for name, data in values.items():
            store.put(name, data, 60.0)
        assert {name: other.get(name) for name in values} == values
        _end(store, other)

    def test_what_was_never_written_is_none(self) -> None:
        store = self.opened()
        assert store.get(_name()) is None
        _end(store)

    def test_a_value_may_be_written_again(self) -> None:
        store, name = self.opened(), _name()
        store.put(name, b"first", 60.0)
        store.put(name, b"second", 60.0)
        assert store.get(name) == b"second"
        _end(store)

    def test_large_values_are_whole(self) -> None:
        store, other = self.opened(), self.opened()
        piece = min(store.backend.piece_bytes, _LARGEST)
        values = {_name(): _noise(size) for size in (piece - 1, piece, piece + 1, 2 * piece + 7)}
        for name, data in values.items():
            store.put(name, data, 60.0)
        assert [name for name, data in values.items() if other.get(name) != data] == []
        _end(store, other)

    def test_values_of_many_pieces_are_whole_and_are_deleted_whole(self) -> None:
        narrow = _Narrow(self.opened().backend, 1000)
        store = ResultStore(self.url, narrow)
        name, data = _name(), _noise(4321)
        store.put(name, data, 60.0)
        assert store.get(name) == data
        stored = [f"{name}.{number}" for number in range(5)] + [f"{name}.parts"]
        assert [part for part in stored if narrow.get(part) is None] == []
        store.delete([name])
        assert [part for part in [name, *stored] if narrow.get(part) is not None] == []
        _end(store)

    def test_a_value_of_which_a_piece_is_gone_is_gone(self) -> None:
        narrow = _Narrow(self.opened().backend, 1000)
        store = ResultStore(self.url, narrow)
        name = _name()
        store.put(name, _noise(3500), 60.0)
        narrow.delete([f"{name}.2"])
        assert store.get(name) is None
        _end(store)

    def test_what_is_deleted_is_gone_and_the_rest_is_there(self) -> None:
        store, names = self.opened(), [_name() for _ in range(5)]
        for name in names[:4]:
            store.put(name, name.encode(), 60.0)
        store.delete([names[0], names[2], names[4]])  # the last one was never there
        store.delete([])
        assert [store.get(name) for name in names] == [None, names[1].encode(), None, names[3].encode(), None]
        _end(store)

    def test_a_value_expires_and_others_do_not(self) -> None:
        store, short, long, kept, far = self.opened(), _name(), _name(), _name(), _name()
        store.put(short, b"short", 1.0)
        store.put(long, b"long", 3600.0)
        store.put(kept, b"kept", None)
        store.put(far, b"far", 90 * 24 * 3600.0)
        _until(lambda: store.get(short) is None)
        store.backend.purge()
        assert [store.get(name) for name in (long, kept, far)] == [b"long", b"kept", b"far"]
        _end(store)

    def test_many_threads_may_use_one_store(self) -> None:
        store = self.opened()
        values = {_name(): _noise(3000) for _ in range(64)}

        def turn(name: str) -> bytes | None:
            store.put(name, values[name], 60.0)
            return store.get(name)

        with ThreadPoolExecutor(8) as pool:
            assert dict(zip(values, pool.map(turn, values), strict=True)) == values
        _end(store)

    def test_a_reader_sees_a_value_whole_or_not_at_all(self) -> None:
        store, name, data = self.opened(), _name(), _noise(200_000)
        writing = threading.Event()
        seen: set[bytes | None] = set()

        def read() -> None:
            reader = self.opened()
            while not writing.is_set():
                seen.add(reader.get(name))
            reader.close()

        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            try:
                for _ in range(10):
                    store.put(name, data, 60.0)
                _until(lambda: data in seen)
            finally:
                writing.set()
            for reader in readers:
                reader.result(_DEADLINE_S)
        assert seen - {None} == {data}
        _end(store)

    def test_what_cannot_be_a_name_or_is_too_large_is_not_sent(self) -> None:
        store = ResultStore(self.url, self.opened().backend, limit=10)
        for name in ("", "../../etc/passwd", _name().upper() + "A", _name() + "\n", "g" * 32):
            for call in (lambda name=name: store.get(name), lambda name=name: store.put(name, b"", 1.0)):
                assert isinstance(_raised(call), ResultStoreError)
        assert isinstance(_raised(lambda: store.put(_name(), b"x" * 11, 1.0)), PayloadTooLarge)
        _end(store)

    def test_nothing_secret_is_shown(self) -> None:
        store = self.opened()
        shown = f"{store!r} {store.public} {_raised(lambda: store.get('no name'))!r}"
        assert [secret for secret in self.hidden if secret in shown] == []
        _end(store)

    def test_it_may_be_closed_twice(self) -> None:
        store = self.opened()
        store.put(_name(), b"x", 60.0)
        _end(store, store)


class _Narrow:
    """A back end that takes only small pieces."""

    def __init__(self, backend: Backend, piece_bytes: int) -> None:
        self.piece_bytes = piece_bytes
        self.put, self.get, self.delete = backend.put, backend.get, backend.delete
        self.purge, self.close = backend.purge, backend.close


def _name() -> str:
    return secrets.token_hex(16)


def _noise(size: int) -> bytes:
    return secrets.token_bytes(size)


def _end(*stores: ResultStore) -> None:
    for store in stores:
        store.close()


def _until(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + _DEADLINE_S
    while not true():
        assert time.monotonic() < deadline_s, f"not true after {_DEADLINE_S} seconds"
        time.sleep(0.05)


def _raised(call: Callable[[], object]) -> BaseException | None:
    try:
        call()
    except Exception as error:  # the test says which it must be
        return error
    return None
