"""The result store that a process's settings name: opened when it is first needed, and read from."""

from __future__ import annotations

import threading

from nbq.errors import ResultGone, SettingsError
from nbq.stores.base import ResultStore
from nbq.stores.choose import open_store

__all__ = ["UsedStore"]


class UsedStore:
    """The result store of a process.

    Args:
        url: ``result_backend``; empty for none.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._store: ResultStore | None = None
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        """Return whether there is one."""
        return bool(self._url)

    def opened(self) -> ResultStore:
        """Return it.

        Raises:
            SettingsError: Its URL means no store here, or there is none.
        """
        if not self._url:
            raise SettingsError("no result_backend is set here")
        with self._lock:
            if self._store is None:
                self._store = open_store(self._url)
            return self._store

    def content(self, name: str, store: str) -> bytes:
        """Return a sealed block that lies in it.

        Args:
            name: The block's name.
            store: The store that it was written to, as its writer shows it (``ResultStore.public``).

        Raises:
            SettingsError: No store is set here, or its URL means none.
            ResultStoreError: It does not answer.
            ResultGone: It does not hold the block (any more).
        """
        if not self._url:
            raise SettingsError(
                f"this result lies in the result store {store}: set result_backend here to the URL of it"
            )
        own = self.opened()
        data = own.get(name)
        if data is None:
            where = store if store == own.public else f"{store}, looked for in {own.public}"
            raise ResultGone(
                f"the result {name} is not in the result store {where}: it has expired (result_expires), was "
                "deleted, or result_backend names another store here than where it ran"
            )
        return data

    def close(self) -> None:
        """Let connections go; it may be called again."""
        with self._lock:
            store, self._store = self._store, None
        if store is not None:
            store.close()
