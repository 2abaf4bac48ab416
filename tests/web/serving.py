"""Starts ``nbq web`` as users do, and asks it over HTTP."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import Any, NamedTuple
from urllib.parse import urlsplit

DEADLINE_S = 30.0


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Web:
    """A server that runs.

    Args:
        url: What it printed: its address, with its token if it has one.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        self.netloc, self.base = parts.netloc, parts.path
        self.token = parts.query.removeprefix("token=")
        self.path = parts.path if parts.scheme == "http+unix" else ""

    def connection(self) -> HTTPConnection:
        if not self.path:
            return HTTPConnection(self.netloc, timeout=DEADLINE_S)
        found = HTTPConnection("localhost", timeout=DEADLINE_S)
        found.sock = socket.socket(socket.AF_UNIX)
        found.sock.settimeout(DEADLINE_S)
        found.sock.connect(self.path.rstrip("/"))
        return found

    def ask(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
        """Ask as a program does: with the token in a header."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        if self.token:
            named = {"Authorization": f"token {self.token}", **named}
        return self.bare(path, method, body, named)

    def bare(self, path: str, method: str = "GET", body: Any = None, headers: Any = None) -> Answer:
        """Ask with these headers alone."""
        data = None if body is None else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"} if data else {}
        connection = self.connection()
        try:
            connection.request(
                method, self.base * (not self.path) + path or "/", data, {**kind, **(headers or {})}
            )
            response = connection.getresponse()
            return Answer(response.status, response.read(), dict(response.getheaders()))
        finally:
            connection.close()

    @contextmanager
    def live(self, query: str = "") -> Iterator[Iterator[Any]]:
        """Give what the server tells from now on, as it comes."""
        connection = self.connection()
        connection.request(
            "GET", f"{self.base}api/live{query}", headers={"Authorization": f"token {self.token}"}
        )
        response = connection.getresponse()
        try:
            assert response.status == 200, response.read()
            yield _events(response)
        finally:
            response.close()
            connection.close()


def _events(response: HTTPResponse) -> Iterator[Any]:
    while line := response.readline():
        if line.startswith(b"data: "):
            yield json.loads(line.removeprefix(b"data: "))


@contextmanager
def serving(*arguments: str) -> Iterator[Web]:
    """Run ``nbq web`` at a free port, unless the arguments say where."""
    where = () if "--bind" in arguments else ("--bind", "127.0.0.1:0")
    process = subprocess.Popen(
        [sys.executable, "-m", "nbq", "web", *where, *arguments],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        said = process.stderr.readline() + process.stderr.readline()
        found = re.search(r"http\S+", said)
        assert found is not None, said + process.stderr.read()
        yield Web(found.group())
    finally:
        process.terminate()
        rest = process.stderr.read()
        process.stderr.close()
        assert (process.wait(DEADLINE_S), rest) == (0, "")
