"""Who may come in: whoever has the token, from a page of this server, to one of its names.

Decisions only: what a request's headers mean, and why it is refused. Knows no sockets and no handlers.
"""

from __future__ import annotations

import hmac
from hashlib import blake2b
from urllib.parse import urlsplit

from msgspec import Struct

__all__ = ["LOCAL_NAMES", "Access", "host_name"]

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_SCHEMES = ("token ", "bearer ")


def host_name(netloc: str) -> str:
    """Return the host of ``host:port`` in lower case; nothing if it is none."""
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


class Access(Struct, frozen=True):
    """What is let in.

    Args:
        token: The secret; empty where whoever reaches the server is let in.
        names: The names that the server may be called by. Others are refused: a page of another site could
            have its own name lead here.
        named: Those of them that somebody gave: pages that come from there are the server's own too.
        private: Whether only its owner can reach it (a socket in the file system): then any name will do.
    """

    token: str
    names: frozenset[str] = LOCAL_NAMES
    named: frozenset[str] = frozenset()
    private: bool = False

    @property
    def cookie(self) -> str:
        """What a browser keeps in place of the token."""
        return blake2b(self.token.encode(), digest_size=32, person=b"nbq.web.cookie").hexdigest()

    @property
    def cookie_name(self) -> str:
        """One for each token: cookies know no ports."""
        return f"nbq-{self.cookie[:8]}"

    def wrong_host(self, host: str) -> str:
        """Return why a request to this host is refused; nothing if it is not."""
        name = host_name(host)
        if self.private or name in self.names:
            return ""
        return f"this server is not called {name!r}: start it with --allow-host {name or 'NAME'}"

    def wrong_origin(self, origin: str, host: str) -> str:
        """Return why a request from a page of this origin is refused; nothing if it is not."""
        try:
            netloc = urlsplit(origin).netloc.lower()
        except ValueError:
            netloc = ""
        if netloc and (netloc == host.lower() or host_name(netloc) in self.named):
            return ""
        return f"a page of {origin} may ask nothing here"

    def is_token(self, text: str) -> bool:
        """Return whether a text is the token; takes the same time for each that is not."""
        return hmac.compare_digest(text.encode(), self.token.encode())

    def knows(self, authorization: str, cookie: str) -> bool:
        """Return whether a request shows that it comes from somebody who has the token."""
        if not self.token:
            return True
        for scheme in _SCHEMES:
            if authorization.lower().startswith(scheme):
                return self.is_token(authorization[len(scheme) :].strip())
        return hmac.compare_digest(cookie.encode(), self.cookie.encode())
