"""``nbq web`` as a process: where it listens, its token, and its end."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
import webbrowser
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec import Struct
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets, bind_unix_socket

from nbq.errors import SettingsError
from nbq.settings import read_private, write_private
from nbq.web.access import LOCAL_NAMES, Access
from nbq.web.app import Site, make_app
from nbq.web.contact import Contact, Key
from nbq.web.watch import Watch

__all__ = ["WebOptions", "run_web"]

_BODY = 64 * 1024
_SHORTEST = 16
_UNIX = "unix:"
_ANY = ("", "0.0.0.0", "::", "*")  # noqa: S104 - to recognise it


class WebOptions(Struct, frozen=True):
    """How a page is served.

    Args:
        where: The hub.
        key: What the page may do.
        bind: ``HOST:PORT`` (port 0 takes a free one), or ``unix:PATH``.
        allow_hosts: By which names it may be called, beside that of ``bind`` and those of this machine.
        base_url: The path under which it is reached, if a proxy leaves that in what it asks.
        token_file: Where its token is kept; made if it is missing. Else there is a new one at each start.
        open_browser: Whether to show the page at once.
    """

    where: str | None = None
    key: Key = "viewer"
    bind: str = "127.0.0.1:8787"
    allow_hosts: tuple[str, ...] = ()
    base_url: str = "/"
    token_file: str = ""
    open_browser: bool = False


def run_web(options: WebOptions) -> int:
    """Serve the page until told to end; returns the exit code.

    Raises:
        SettingsError: The address or the token's file cannot be used.
        HubUnreachable: The hub does not answer.
        Refused: The key may not do what the page should.
    """
    access = _access(options)
    contact = Contact(options.where, options.key)
    try:
        asyncio.run(_serve(options, access, contact))
    finally:
        contact.close()
    return 0


async def _serve(options: WebOptions, access: Access, contact: Contact) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, ended.set)
    base_url = f"/{options.base_url.strip('/')}/".replace("//", "/")
    watch = Watch(contact, loop)
    pool = ThreadPoolExecutor(8, "nbq-web-ask")
    server = HTTPServer(make_app(Site(access, contact, watch, pool), base_url), max_body_size=_BODY)
    try:
        url = _listen(server, options.bind) + base_url
        if access.token:
            url += f"?token={access.token}"
        hub, may = contact.client.connection.name, "steer" if contact.may_act else "look at"
        print(f"nbq web: to {may} hub {hub!r}, open\n    {url}", file=sys.stderr, flush=True)
        if options.open_browser:
            webbrowser.open(url)
        await ended.wait()
    finally:
        watch.close()
        server.stop()
        await server.close_all_connections()
        pool.shutdown(wait=False, cancel_futures=True)


def _listen(server: HTTPServer, bind: str) -> str:
    """Listen; returns the address as a browser writes it.

    Raises:
        SettingsError: It cannot.
    """
    try:
        if bind.startswith(_UNIX):
            path = bind.removeprefix(_UNIX)
            server.add_socket(bind_unix_socket(path, mode=0o600))
            return f"http+unix://{path}"
        host, port = _host_and_port(bind)
        sockets = bind_sockets(port, None if host in _ANY else host)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise SettingsError(f"cannot listen at {bind}: {why}; name another address with --bind") from None
    server.add_sockets(sockets)
    shown = "localhost" if host in _ANY else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{sockets[0].getsockname()[1]}"


def _host_and_port(bind: str) -> tuple[str, int]:
    host, colon, port = bind.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"{bind!r} is no address: write HOST:PORT, or unix:PATH")
    return host.strip("[]").lower(), int(port)


def _access(options: WebOptions) -> Access:
    if options.bind.startswith(_UNIX) and not options.token_file:
        return Access("", private=True)  # the socket's mode lets in its owner alone
    host = "" if options.bind.startswith(_UNIX) else _host_and_port(options.bind)[0]
    named = frozenset(name.lower() for name in options.allow_hosts)
    names = LOCAL_NAMES | named | (frozenset() if host in _ANY else {host})
    token = _kept_token(Path(options.token_file)) if options.token_file else secrets.token_urlsafe(32)
    return Access(token, frozenset(names), named, options.bind.startswith(_UNIX))


def _kept_token(path: Path) -> str:
    """Return the token that a file holds; made if there is none.

    Raises:
        SettingsError: Others can read it, or it holds none.
    """
    try:
        token = read_private(path).decode().strip()
    except FileNotFoundError:
        token = secrets.token_urlsafe(32)
        write_private(path, f"{token}\n".encode())
    except UnicodeDecodeError:
        token = ""
    if len(token) < _SHORTEST or not token.isascii():
        raise SettingsError(
            f"{path} holds no token of {_SHORTEST} characters or more: delete it for a new one"
        )
    return token
