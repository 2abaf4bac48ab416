"""What a result store is, and what all of them share: names, sizes, pieces, retries, errors without secrets.

A back end only moves bytes. It is called through ``ResultStore``, which tries again for a while, cuts what is
too large for one put, and says every failure as a ``ResultStoreError``. No URL with a password in it, and no
text of a driver that might quote one, leaves this module.
"""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar, runtime_checkable
from urllib.parse import parse_qsl, unquote

from nbq.errors import NbqError, PayloadTooLarge, ResultStoreError

__all__ = ["DELAYS_S", "LIMIT", "PATIENCE_S", "Backend", "ResultStore", "public", "scrub"]

LIMIT = (1 << 30) + (1 << 20)
"""Bytes of the largest value: the largest element of a task, with its head and what the task printed."""

DELAYS_S = (0.1, 0.3, 0.9)
"""How long to wait before each further try, in seconds."""

PATIENCE_S = 5.0
"""How long a back end should wait for its service's answer, in seconds."""

_PURGE_S = 60.0
_NAME = re.compile(r"[0-9a-f]{32}")
_LOCAL = {"file", "local", "memory"}
_SECRET = re.compile(r"pass|pwd|secret|token|key|credential|sas|sig|auth", re.IGNORECASE)
_TEXT = 300

T = TypeVar("T")


@runtime_checkable
class Backend(Protocol):
    """What a service does for a result store; write one to add a service (entry point ``nbq.results``).

    Methods may raise anything: it is taken for a failure that may pass, and the call is made again. An
    ``NbqError`` is passed on as it is. All may be called from several threads at once. Names are 32
    hexadecimal digits, or these with a dot and up to 10 letters and digits.
    """

    piece_bytes: int
    """The most bytes that one put may have; larger values come in pieces."""

    def put(self, name: str, data: bytes, expires_s: float | None) -> None:
        """Keep a value, all of it or nothing, over what is there; for some seconds, or for good (None)."""

    def get(self, name: str) -> bytes | None:
        """Return a value, or None if there is none or it has expired."""

    def delete(self, names: Sequence[str]) -> None:
        """Drop values; those that are not there do not matter."""

    def purge(self) -> None:
        """Drop some values that have expired, a thousand at most; nothing to do where the service does it."""

    def close(self) -> None:
        """Let connections go."""


class ResultStore:
    """A result store beside the hub's own: bytes by name.

    Args:
        url: Where it is, as the user wrote it.
        backend: What speaks to the service.
        limit: The most bytes of a value.
        delays_s: How long to wait before each further try, in seconds; as many as there are further tries.
        pause: Waits for that long.
        clock: Tells the time, in seconds, by which it is cleaned up once a minute while it is written to.
    """

    def __init__(
        self,
        url: str,
        backend: Backend,
        *,
        limit: int = LIMIT,
        delays_s: Sequence[float] = DELAYS_S,
        pause: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.public = public(url)
        """The URL without user, password and options: for people, logs and errors."""
        self.backend = backend
        self._url = url
        self._limit = limit
        self._delays_s = tuple(delays_s)
        self._pause = pause
        self._clock = clock
        self._purge_at_s = clock() + _PURGE_S

    def __repr__(self) -> str:
        """Show no secrets."""
        return f"ResultStore({self.public!r})"

    def put(self, name: str, data: bytes, expires_s: float | None = None) -> None:
        """Keep a value; it is stored when this returns.

        Args:
            name: 32 hexadecimal digits.
            data: The value.
            expires_s: For how many seconds it is kept; None for good.

        Raises:
            PayloadTooLarge: It is over the limit; nothing was sent.
            ResultStoreError: The service does not take it, however often it was tried.
        """
        _check(name)
        if len(data) > self._limit:
            raise PayloadTooLarge(
                f"a result of {len(data)} bytes is over the {self._limit} that {self.public} may be given"
            )
        size = self.backend.piece_bytes
        if len(data) <= size:
            self._try("write", name, lambda: self.backend.put(name, data, expires_s))
        else:
            # The head is written last: with it there, all pieces are.
            for number, start in enumerate(range(0, len(data), size)):
                piece, part = data[start : start + size], f"{name}.{number}"
                self._try(
                    "write", name, lambda part=part, piece=piece: self.backend.put(part, piece, expires_s)
                )
            head = b"%d %d" % (-(-len(data) // size), len(data))
            self._try("write", name, lambda: self.backend.put(_head(name), head, expires_s))
        self._purge()

    def get(self, name: str) -> bytes | None:
        """Return a value, or None if there is none (it has expired, or the service has dropped it).

        Raises:
            ResultStoreError: The service does not answer, however often it was asked.
        """
        _check(name)
        data = self._try("read", name, lambda: self.backend.get(name))
        if data is not None:
            return data
        parts, size = self._pieces(name)
        pieces = []
        for part in parts:
            piece = self._try("read", name, lambda part=part: self.backend.get(part))
            if piece is None:
                return None
            pieces.append(piece)
        whole = b"".join(pieces)
        return whole if parts and len(whole) == size else None

    def delete(self, names: Iterable[str]) -> None:
        """Drop values; those that are not there do not matter.

        Raises:
            ResultStoreError: The service does not answer, however often it was asked.
        """
        dropped: list[str] = []
        for name in names:
            _check(name)
            dropped += [name, _head(name), *self._pieces(name)[0]]
        if dropped:
            self._try("delete", dropped[0], lambda: self.backend.delete(dropped))

    def close(self) -> None:
        """Let connections go; it may be called again."""
        with contextlib.suppress(Exception):  # whatever a driver says at its end, nothing is lost by it
            self.backend.close()

    def _pieces(self, name: str) -> tuple[list[str], int]:
        """Return the names of a value's pieces, none if it was not cut, and its size."""
        head = self._try("read", name, lambda: self.backend.get(_head(name)))
        found = re.fullmatch(rb"(\d{1,7}) (\d{1,10})", head or b"")
        if found is None or int(found[2]) > self._limit or int(found[1]) > int(found[2]):
            return [], 0
        return [f"{name}.{number}" for number in range(int(found[1]))], int(found[2])

    def _try(self, verb: str, name: str, call: Callable[[], T]) -> T:
        for delay_s in (*self._delays_s, None):
            try:
                return call()
            except NbqError:
                raise
            except Exception as error:  # every driver has errors of its own, and each means the same here
                said = scrub(f"{type(error).__name__}: {error}", self._url)
            if delay_s is None:
                break
            self._pause(delay_s * random.uniform(0.8, 1.2))  # noqa: S311  engines shall not come back as one
        # Raised out here, it has no context: a driver's error may hold the password among its arguments.
        raise ResultStoreError(
            f"cannot {verb} {name} in the result store {self.public} after {len(self._delays_s) + 1} tries: "
            f"{said}; see that the service runs and is the one that result_backend names"
        )

    def _purge(self) -> None:
        if self._clock() >= self._purge_at_s:
            self._purge_at_s = self._clock() + _PURGE_S
            with contextlib.suppress(Exception):  # the value is stored; what has expired waits another minute
                self.backend.purge()


def public(url: str) -> str:
    """Return a URL without user, password and options."""
    scheme, _, rest = url.partition("://")
    if scheme.rpartition("+")[2] not in _LOCAL:
        rest = rest.rpartition("@")[2]
    return f"{scheme}://{re.split('[?#]', rest)[0]}"[:1000]


def scrub(text: str, url: str) -> str:
    """Return the first line of a text, without what may be secret in a URL."""
    rest = url.partition("://")[2]
    user, found, _ = rest.rpartition("@")
    secrets = {user, user.partition(":")[2] or user} if found else set()
    options = rest.partition("?")[2]
    secrets.update(value for key, value in parse_qsl(options) if _SECRET.search(key))
    secrets.update([unquote(secret) for secret in secrets])
    line = next(iter(text.splitlines()), "")
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) > 1:
            line = line.replace(secret, "***")
    return line[:_TEXT]


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ResultStoreError(f"{name[:80]!r} is not the name of a stored result: 32 hexadecimal digits are")


def _head(name: str) -> str:
    return f"{name}.parts"
