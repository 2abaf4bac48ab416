"""A proxy that serves a page under a prefix and hides that from it, as jupyter-server-proxy does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.web.serving import Web

PREFIX = "/user/ada/nbq"
KEPT_BACK = {"connection", "transfer-encoding", "content-length", "date", "server"}


@contextmanager
def forwarding(web: Web) -> Iterator[str]:
    """Give the address of the proxy, with the prefix."""

    class Forward(BaseHTTPRequestHandler):
        def forward(self) -> None:
            assert self.path.startswith(PREFIX + "/"), self.path  # or the page named an absolute address
            length = int(self.headers.get("Content-Length", 0))
            connection = web.connection()
            headers = {name: text for name, text in self.headers.items() if name.lower() != "connection"}
            connection.request(self.command, self.path.removeprefix(PREFIX), self.rfile.read(length), headers)
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, text in answer.getheaders():
                if name.lower() not in KEPT_BACK:
                    self.send_header(name, text)
            self.end_headers()
            try:
                while part := answer.read1(65536):
                    self.wfile.write(part)
            except (ConnectionError, TimeoutError):  # the page was closed
                pass
            finally:
                answer.close()
                connection.close()

        do_GET = do_POST = forward  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Forward)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{PREFIX}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
