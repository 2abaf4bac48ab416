"""Who is let in: hosts, origins and tokens."""

from __future__ import annotations

import pytest

from nbq.web.access import LOCAL_NAMES, Access, host_name

TOKEN = "correct-horse-battery-staple"
NAMED = frozenset({"hub.example.org"})
ACCESS = Access(TOKEN, LOCAL_NAMES | NAMED, NAMED)


@pytest.mark.parametrize(
    ("netloc", "name"),
    [
        ("localhost:8787", "localhost"), ("LOCALHOST", "localhost"), ("[::1]:8787", "::1"),
        ("127.0.0.1", "127.0.0.1"), ("", ""),
        ("[::1", ""), ("a@localhost", "localhost"), ("localhost.evil.org:1", "localhost.evil.org"),
    ],
)  # fmt: skip
def test_the_name_of_a_host(netloc: str, name: str) -> None:
    assert host_name(netloc) == name


@pytest.mark.parametrize(
    "host", ["localhost:8787", "127.0.0.1:1", "[::1]:8787", "localhost", "HUB.example.org"]
)
def test_a_host_that_is_known_is_let_in(host: str) -> None:
    assert ACCESS.wrong_host(host) == ""


@pytest.mark.parametrize(
    "host", ["evil.example:8787", "localhost.evil.org", "0.0.0.0:8787", "", "127.0.0.1.nip.io"]
)
def test_another_host_is_not(host: str) -> None:
    name = host_name(host)
    text = f"this server is not called {name!r}: start it with --allow-host {name or 'NAME'}"
    assert ACCESS.wrong_host(host) == text
    assert Access("", private=True).wrong_host(host) == ""


@pytest.mark.parametrize(
    ("origin", "host", "good"),
    [
        ("http://localhost:8787", "localhost:8787", True),
        ("http://LOCALHOST:8787", "localhost:8787", True),
        ("https://hub.example.org", "127.0.0.1:8787", True),  # a proxy that calls it otherwise
        ("http://localhost:8788", "localhost:8787", False),
        ("http://127.0.0.1:8787", "localhost:8787", False),
        ("https://evil.example", "localhost:8787", False),
        ("null", "localhost:8787", False),
        ("", "", False),
        ("http://[", "localhost", False),
    ],
)
def test_pages_of_its_own_may_ask(origin: str, host: str, good: bool) -> None:
    assert ACCESS.wrong_origin(origin, host) == ("" if good else f"a page of {origin} may ask nothing here")


@pytest.mark.parametrize(
    ("authorization", "cookie", "good"),
    [
        (f"token {TOKEN}", "", True),
        (f"Bearer {TOKEN}", "", True),
        (f"TOKEN  {TOKEN} ", "", True),
        ("", ACCESS.cookie, True),
        (f"Basic {TOKEN}", ACCESS.cookie, True),
        (f"token {TOKEN}x", ACCESS.cookie, False),
        ("token ", ACCESS.cookie, False),
        (f"Basic {TOKEN}", "", False),
        ("", TOKEN, False),
        ("", "", False),
        ("token é", "", False),
    ],
)
def test_who_has_the_token_is_known(authorization: str, cookie: str, good: bool) -> None:
    assert ACCESS.knows(authorization, cookie) is good


def test_cookies_say_nothing_of_the_token_and_differ_with_it() -> None:
    other = Access("another-token")
    assert TOKEN not in ACCESS.cookie
    assert (ACCESS.cookie == other.cookie, ACCESS.cookie_name == other.cookie_name) == (False, False)
    assert other.knows("", ACCESS.cookie) is False
