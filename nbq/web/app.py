"""What the server answers: one page, what it is made of, what is new, and what it asks for.

Every request is refused unless its host, its origin and its token are right; only the state of health is for
all. Nothing that users wrote is ever put into HTML here: the page is a file, and the rest is JSON.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from tornado.iostream import StreamClosedError
from tornado.web import Application, HTTPError, RequestHandler, StaticFileHandler

from nbq.client import Client
from nbq.errors import (
    HubBusy,
    HubError,
    InvalidSchedule,
    NbqError,
    UnknownResult,
    UnknownSchedule,
    UsageError,
)
from nbq.web import acts, details, metrics
from nbq.web.access import Access
from nbq.web.contact import Contact
from nbq.web.state import described
from nbq.web.watch import TaskFilter, Watch, Watcher
from nbq.web.written import WhenForm, schedule_of

__all__ = ["STATIC", "Site", "make_app"]

T = TypeVar("T")

STATIC = Path(__file__).with_name("static")
_HEALTH_S = 5.0
_LOG = logging.getLogger("nbq.web")
_HEADERS = {
    # Nothing from elsewhere, nothing inline, and no text ever becomes HTML: the browser itself refuses it.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "nbq",
}
_REASONS = {401: "no token", 404: "there is nothing here", 405: "nothing here is asked for in this way"}


@dataclass(frozen=True)
class Site:
    """What the handlers share."""

    access: Access
    contact: Contact
    watch: Watch
    pool: ThreadPoolExecutor

    async def ask(self, question: Callable[..., T], *arguments: Any) -> T:
        """Return the hub's answer, without holding up the loop meanwhile."""

        def call() -> T:
            return question(self.contact.client, *arguments)

        return await asyncio.get_running_loop().run_in_executor(self.pool, call)


class Refusal(HTTPError):
    """A request is refused.

    Args:
        status: The HTTP status.
        text: Why, for people.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status)
        self.text = text


class Page(RequestHandler):
    """What all handlers do: let in whom they should, and say why not in one line."""

    open = False
    """Whether no token is needed."""

    @property
    def site(self) -> Site:
        """Return what is shared."""
        site: Site = self.application.settings["site"]
        return site

    def set_default_headers(self) -> None:
        """Say what a browser may do with an answer."""
        for name, value in _HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> Awaitable[None] | None:
        """Refuse what does not come from a page of this server, to one of its names, with the token."""
        access, headers = self.site.access, self.request.headers
        host, origin = headers.get("Host", ""), headers.get("Origin", "")
        why = access.wrong_host(host)
        if not why and origin:
            why = access.wrong_origin(origin, host)
        if why:
            raise Refusal(403, why)
        if self.open:
            return None
        authorization = headers.get("Authorization", "")
        if not access.knows(authorization, self.get_cookie(access.cookie_name) or ""):
            raise HTTPError(401)
        by_browser = access.token == "" or not authorization
        if self.request.method not in ("GET", "HEAD") and by_browser and not origin:
            raise Refusal(403, "a request that changes something has to say its Origin")
        return None

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say what is wrong in one line; never where in the code."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        text = _REASONS.get(status_code, "something broke: the log says what")
        if isinstance(error, Refusal):
            text = error.text
        self.say({"error": text})

    def say(self, value: object) -> None:
        """Answer with JSON."""
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(msgspec.json.encode(value))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log what broke here, and not what was refused."""
        if not isinstance(value, HTTPError):
            _LOG.error("%s %s failed", self.request.method, self.request.path, exc_info=(typ, value, tb))


class Nothing(Page):
    """What there is not."""

    async def get(self) -> None:
        """Say so."""
        raise HTTPError(404)

    head = post = put = patch = delete = options = get


class Home(Page):
    """The page. With ``?token=`` it sets the cookie, and goes to itself without that."""

    def prepare(self) -> Awaitable[None] | None:
        """Let in who brings the token."""
        self.open = bool(self.site.access.token) and "token" in self.request.query_arguments
        return super().prepare()

    def get(self) -> None:
        """Show it."""
        access = self.site.access
        if self.open:
            if not access.is_token(self.get_query_argument("token")):
                raise HTTPError(401)
            # Without a path: the browser's own idea of where this is counts, behind a proxy too.
            self.set_cookie(access.cookie_name, access.cookie, path="", httponly=True, samesite="Lax")
            self.redirect("./")
            return
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish((STATIC / "index.html").read_bytes())

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Tell a person who has no token where it is."""
        if status_code == 401:
            self.set_header("Content-Type", "text/html; charset=utf-8")
            self.finish((STATIC / "token.html").read_bytes())
            return
        super().write_error(status_code, **kwargs)


class Static(Page, StaticFileHandler):
    """What the page is made of."""

    def set_extra_headers(self, path: str) -> None:
        """Have browsers ask whether it is still the same."""
        self.set_header("Cache-Control", "no-cache")


class Health(Page):
    """Whether this and the hub are there; for whoever can reach the server."""

    open = True

    async def get(self) -> None:
        """Ask the hub."""
        try:
            await asyncio.wait_for(self.site.ask(lambda client: client.status()), _HEALTH_S)
        except (TimeoutError, NbqError):
            self.set_status(503)
            self.say({"ok": False, "error": "the hub does not answer"})
        else:
            self.say({"ok": True})


class Metrics(Page):
    """For Prometheus, which brings the token as a header."""

    async def get(self) -> None:
        """Tell it how the hub is."""
        try:
            view = await asyncio.wait_for(self.site.ask(lambda client: client.status()), _HEALTH_S)
        except (TimeoutError, NbqError):
            view = None
        try:
            told = metrics.exposition(view)
        except UsageError as error:
            raise Refusal(501, str(error)) from None
        self.set_header("Content-Type", metrics.CONTENT_TYPE)
        self.finish(told)


class Live(Page):
    """Server-sent events: all that there is, and then what is new."""

    watcher: Watcher | None = None

    async def get(self) -> None:
        """Send until the page is closed."""
        given = {name: self.get_query_argument(name, "") for name in TaskFilter.__struct_fields__}
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")
        try:
            self.watcher = Watcher(msgspec.convert(given, TaskFilter))
            async for news in self.site.watch.watch(self.watcher):
                self.write(b"data: " + msgspec.json.encode(news) + b"\n\n")
                await self.flush()
        except (msgspec.ValidationError, HubBusy) as error:
            raise Refusal(400, str(error)) from None
        except StreamClosedError:
            return

    def on_connection_close(self) -> None:
        """Let the watcher go."""
        if self.watcher is not None:
            self.watcher.close()


class Detail(Page):
    """All of one thing."""

    def initialize(self, question: Callable[[Client, str], Any]) -> None:
        """Take what answers."""
        self.question = question

    async def get(self) -> None:
        """Ask the hub for the thing of that id."""
        try:
            self.say(await self.site.ask(self.question, self.get_query_argument("id")))
        except NbqError as error:
            raise _refusal(error) from None


class When(Page):
    """What a schedule that is being written means: nothing is asked of the hub."""

    async def get(self) -> None:
        """Say it in a sentence, with the next times, or what is wrong with it."""
        try:
            form = msgspec.json.decode(self.get_query_argument("form"), type=WhenForm)
            self.say(described(schedule_of(form)))
        except (msgspec.DecodeError, InvalidSchedule) as error:
            raise Refusal(400, str(error)) from None


class Do(Page):
    """What changes something."""

    async def post(self) -> None:
        """Do it, if the key allows it."""
        contact = self.site.contact
        if not contact.may_act:
            raise Refusal(403, contact.why_not)
        if self.request.headers.get("Content-Type", "").split(";")[0] != "application/json":
            raise Refusal(415, "say it as application/json")
        try:
            act = msgspec.json.decode(self.request.body, type=acts.Act)
            done = await self.site.ask(acts.perform, act)
        except msgspec.DecodeError as error:
            raise Refusal(400, str(error)) from None
        except NbqError as error:
            raise _refusal(error) from None
        self.site.watch.look_now()
        self.say({"done": done})


def _refusal(error: NbqError) -> Refusal:
    status = (
        404
        if isinstance(error, UnknownResult | UnknownSchedule)
        else 502
        if isinstance(error, HubError)
        else 400
    )
    return Refusal(status, str(error))


def make_app(site: Site, base_url: str = "/") -> Application:
    """Return the application.

    Args:
        site: What its handlers share.
        base_url: The path under which it is reached, for proxies that leave it in what they ask.
    """
    routes: list[tuple[str, Any, dict[str, Any]]] = [
        ("", Home, {}),
        ("static/(.*)", Static, {"path": str(STATIC)}),
        ("healthz", Health, {}),
        ("metrics", Metrics, {}),
        ("api/live", Live, {}),
        ("api/task", Detail, {"question": details.task}),
        ("api/run", Detail, {"question": details.run}),
        ("api/schedule", Detail, {"question": details.schedule}),
        ("api/when", When, {}),
        ("api/do", Do, {}),
    ]
    return Application(
        [(base_url + path, handler, given) for path, handler, given in routes],
        default_handler_class=Nothing,
        site=site,
        log_function=_log,
        compress_response=False,
    )


def _log(handler: RequestHandler) -> None:
    """Note a request without what follows its path: a token may be there."""
    request = handler.request
    _LOG.debug("%s %s %s", handler.get_status(), request.method, request.path)
