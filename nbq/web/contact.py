"""The page's connection to its hub: with which key, and what that allows.

Values are never rebuilt here: what may be read is text, so that nothing of a task's runs in this process.
"""

from __future__ import annotations

import contextlib
from typing import Literal

from nbq.client import Client
from nbq.errors import HubError, HubUnreachable, NbqError, Refused
from nbq.settings import find_connection

__all__ = ["Contact", "Key"]

Key = Literal["viewer", "client"]

_TIMEOUT_S = 10.0


class Contact:
    """A client of the hub, made anew when the hub knows the old one no more.

    Args:
        where: The hub's name or a connection file; None for the one that is meant.
        key: What the page may do: look only, or steer.

    Raises:
        HubUnreachable, AuthenticationError, VersionMismatch: As ``nbq.connect``.
        Refused: The file is a viewer's, and the page is to steer.
    """

    def __init__(self, where: str | None, key: Key) -> None:
        self._where = where
        self._key: Key = key
        self.client = self._connect()

    @property
    def may_act(self) -> bool:
        """Whether the page may change anything."""
        return self._key == "client"

    @property
    def why_not(self) -> str:
        """Why nothing may be changed."""
        return "this page has a viewer's key and can only look: start it with 'nbq web --key client'"

    def _connect(self) -> Client:
        connection = find_connection(self._where, self._key)
        if self._key == "client" and connection.role != "client":
            raise Refused(f"{connection.path} is a viewer's: it can only look", code="role")
        return Client(connection, _TIMEOUT_S, {"accept_content": ["json"]})

    def renew(self, error: NbqError) -> None:
        """Connect anew, if an error says that this connection is over for good; else do nothing."""
        if isinstance(error, HubError) and not isinstance(error, HubUnreachable):
            with contextlib.suppress(NbqError):  # tried again at the next error
                client = self._connect()
                self.client.close()
                self.client = client

    def close(self) -> None:
        """Hang up."""
        self.client.close()
