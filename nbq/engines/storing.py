"""Writes results to a result store before they are reported; what becomes of those that it does not take.

An element whose result cannot be stored now runs again, later each time: what it did is done twice then, as
whenever an attempt is lost. One that may start only once fails.
"""

from __future__ import annotations

from collections.abc import Sequence

from nbq import payload
from nbq.core.model import State
from nbq.engines.ending import later
from nbq.engines.pipe import Results, Work
from nbq.errors import NbqError, ResultStoreError
from nbq.stores.used import UsedStore

__all__ = ["Storing"]

_RETRY, _FAILURE = bytes([State.RETRY]), bytes([State.FAILURE])


class Storing:
    """Puts a slot's results into a store.

    Args:
        key: The payload key.
        store: The store.
        expires_s: How long it is to keep them, in seconds.
        note: Where this is, for people.
    """

    def __init__(self, key: bytes, store: UsedStore, expires_s: float, note: str) -> None:
        self._key = key
        self._store = store
        self._expires_s = expires_s
        self._note = note

    def keep(self, name: str, parts: Sequence[bytes | memoryview]) -> str:
        """Store a sealed block; returns the store as it is shown. Raises as ``ResultStore.put``."""
        store = self._store.opened()
        store.put(name, b"".join(parts), self._expires_s)
        return store.public

    def stored(self, work: Work, results: Results) -> list[Results]:
        """Store what elements of some work came to; returns what is reported of them."""
        if not _has_values(work, results):
            return [results]
        where = payload.origin("result", *work.place, results.lo)
        children = {0: results.children} if results.children else {}
        extras = payload.dump_extras(results.started_s, results.seconds, results.output, children)
        data = payload.seal(
            self._key, where, results.elements, extras, serializer=results.serializer,
            compression=results.compression or "auto",
        )  # fmt: skip
        name = payload.block_name(data)
        try:
            store = self.keep(name, [data])
        except NbqError as error:
            return self.refused(work, results, error)
        return [
            Results(
                results.token, results.lo, results.hi, results.states, [], results.started_s, results.seconds,
                results.errors, {}, name, len(data), added=results.added, store=store,
            )
        ]  # fmt: skip

    def refused(self, work: Work, results: Results, error: NbqError) -> list[Results]:
        """Return what is reported of elements whose results the store did not take."""
        text = payload.summary(error)
        if isinstance(error, ResultStoreError) and work.options.acks_late:
            retry = later(work.attempt, text)
            token, at_s = results.token, results.started_s
            return [
                Results(token, index, index + 1, _RETRY, [], at_s, [seconds], {}, {}, again=retry)
                for index, seconds in enumerate(results.seconds, results.lo)
            ]
        failure = payload.dump_failure(error, f"{self._note}, attempt {work.attempt}", None, "json")
        count = results.hi - results.lo
        return [
            Results(
                results.token, results.lo, results.hi, _FAILURE * count, [bytes(failure)] * count,
                results.started_s, results.seconds, {results.lo: text}, results.output, serializer="json",
            )
        ]  # fmt: skip


def _has_values(work: Work, results: Results) -> bool:
    """Return whether these are values and failures: no arguments of a retry, and no other canvas's."""
    if results.again is not None or results.states[:1] in (_RETRY, bytes([State.WAITING])):
        return False
    return not work.ignore_result or bool(results.states)
