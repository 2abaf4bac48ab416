"""What a store does when its service does not: it tries again, and then says so without its password."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from nbq.errors import PayloadTooLarge, ResultStoreError
from nbq.stores import ResultStore, open_store
from tests.stores.servers import PASSWORD, Server

NAME = "0123456789abcdef" * 2
OTHER = "fedcba9876543210" * 2


def test_a_service_that_is_down_is_an_error_of_its_own(own_server: Server) -> None:
    store = open_store(own_server.url, delays_s=(0.01, 0.02))
    store.put(NAME, b"before", 600.0)
    own_server.stop()
    for verb, call in _calls(store).items():
        with pytest.raises(ResultStoreError) as raised:
            call()
        said = str(raised.value)
        assert said.startswith(f"cannot {verb} {NAME} in the result store {store.public} after 3 tries: ")
        assert said.endswith("; see that the service runs and is the one that result_backend names")
        whole = "".join(traceback.format_exception(raised.value))
        assert (PASSWORD in whole, raised.value.__cause__, raised.value.__context__) == (False, None, None)
    store.close()


def test_a_service_that_comes_back_is_met_by_a_later_try(own_server: Server) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            own_server.start()

    first = open_store(own_server.url)
    store = ResultStore(own_server.url, first.backend, delays_s=(0.1, 0.3, 0.9), pause=pause)
    store.put(OTHER, b"before", 600.0)
    own_server.stop()
    store.put(NAME, b"after", 600.0)
    assert store.get(NAME) == b"after"
    assert [round(seconds, 1) for seconds in pauses] in ([0.1, 0.2], [0.1, 0.3], [0.1, 0.4])
    store.close()


def test_what_was_put_outlives_a_service_that_keeps_it_on_disk(own_server: Server) -> None:
    store = open_store(own_server.url)
    store.put(NAME, b"value", 600.0)
    own_server.stop()
    own_server.start()
    kept = None if own_server.url.startswith("memcached") else b"value"
    assert store.get(NAME) == kept
    store.close()


@pytest.mark.parametrize("kind", ["redis", "postgresql"])
def test_a_wrong_password_is_not_told(kind: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(f"{kind}_server").url.replace(PASSWORD, "wr%40ng-password")
    store = open_store(url, delays_s=())
    with pytest.raises(ResultStoreError) as raised:
        store.get(NAME)
    said = str(raised.value)
    assert said.startswith(f"cannot read {NAME} in the result store {kind}://127.0.0.1:{urlsplit(url).port}/")
    assert [secret for secret in ("wr%40ng", "wr@ng", PASSWORD) if secret in f"{said} {store!r}"] == []


class Recorded:
    """A back end that fails as often as it is told, and quotes the URL in its errors as some drivers do."""

    piece_bytes = 100

    def __init__(self, failures: int = 0, error: Callable[[str], Exception] = OSError) -> None:
        self.calls: list[str] = []
        self.kept: dict[str, bytes] = {}
        self.failures, self.error = failures, error

    def put(self, name: str, data: bytes, expires_s: float | None) -> None:
        self._call("put")
        self.kept[name] = data

    def get(self, name: str) -> bytes | None:
        self._call("get")
        return self.kept.get(name)

    def delete(self, names: list[str]) -> None:
        self._call("delete")

    def purge(self) -> None:
        self.calls.append("purge")
        raise OSError("the purge failed")

    def close(self) -> None:
        raise OSError("it is closed already")

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.failures:
            self.failures -= 1
            raise self.error(f"no answer from {URL}")


URL = "mine://me:p%C3%A4ss/w@rd@host:1/place?timeout=3&token=t0ken"


def test_an_error_quotes_nothing_secret_of_the_url() -> None:
    store = ResultStore(URL, Recorded(failures=1), delays_s=())
    with pytest.raises(ResultStoreError) as raised:
        store.get(NAME)
    assert str(raised.value) == (
        f"cannot read {NAME} in the result store mine://host:1/place after 1 tries: OSError: no answer from "
        "mine://***@host:1/place?timeout=3&token=***; see that the service runs and is the one that "
        "result_backend names"
    )


def test_an_error_of_nbq_is_passed_on_at_once() -> None:
    backend = Recorded(failures=9, error=PayloadTooLarge)
    with pytest.raises(PayloadTooLarge):
        ResultStore(URL, backend).put(NAME, b"x")
    assert backend.calls == ["put"]


def test_expired_values_are_looked_for_once_a_minute_and_never_stand_in_the_way() -> None:
    now_s = [0.0]
    backend = Recorded()
    store = ResultStore(URL, backend, clock=lambda: now_s[0])
    for now_s[0] in (59.0, 60.0, 61.0, 119.0, 120.0):
        store.put(NAME, b"x")
    assert backend.calls == ["put", "put", "purge", "put", "put", "put", "purge"]
    store.close()


@pytest.mark.parametrize("head", [b"", b"-1 5", b"2", b"9999999 3", b"2 99999999999", b"1 1 1", b"\xff 3"])
def test_a_broken_head_is_no_value(head: bytes) -> None:
    backend = Recorded()
    backend.kept = {f"{NAME}.parts": head, f"{NAME}.0": b"x", f"{NAME}.1": b"y"}
    assert ResultStore(URL, backend).get(NAME) is None


def _calls(store: ResultStore) -> dict[str, Callable[[], object]]:
    return {
        "write": lambda: store.put(NAME, b"x", 60.0),
        "read": lambda: store.get(NAME),
    }
