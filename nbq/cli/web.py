"""``nbq web``: the web page, as a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nbq.cli.show import hub_option

if TYPE_CHECKING:
    from nbq.web.contact import Key

__all__ = ["web"]


@click.command(short_help="Serve a web page that shows a hub, live.")
@hub_option
@click.option(
    "--bind", default="127.0.0.1:8787", show_default=True, metavar="HOST:PORT|unix:PATH",
    help="Where to listen; port 0 takes a free one. A socket at PATH is its owner's alone.",
)  # fmt: skip
@click.option(
    "--key", type=click.Choice(["viewer", "client"]), default="viewer", show_default=True,
    help="What the page may do: look, or also cancel, retry, pause, and edit schedules.",
)  # fmt: skip
@click.option(
    "--allow-host", "allow_hosts", multiple=True, metavar="NAME",
    help="Another name by which browsers call it (behind a proxy, or from other hosts). May be given more "
    "than once.",
)  # fmt: skip
@click.option(
    "--base-url", default="/", metavar="PATH",
    help="The path under which it is reached, if a proxy leaves that in what it asks.",
)  # fmt: skip
@click.option(
    "--token-file", default="", metavar="FILE",
    help="Keep the token there; made if it is missing.  [default: a new token at each start]",
)  # fmt: skip
@click.option("--open", "open_browser", is_flag=True, help="Open the page in a browser.")
def web(
    where: str | None, bind: str, key: Key, allow_hosts: tuple[str, ...], base_url: str, token_file: str,
    open_browser: bool,
) -> int:  # fmt: skip
    """Serve a web page that shows a hub live: runs, tasks, schedules, engines, queues, and charts of them.

    \b
        nbq web                                 # look only; prints the address, with its token
        nbq web --key client --open             # steer, too
        nbq web --hub viewer.json --bind 0.0.0.0:8787 --allow-host hub.example.org

    Whoever has the token comes in. Other hosts can be reached by ssh -L 8787:localhost:8787, or by a proxy
    that encrypts: this server does not. /metrics is for Prometheus (extra 'metrics'), /healthz for whoever
    starts it again.

    Exit code: 0 it was told to end; 2 the address or a file cannot be used; 3 the hub cannot be reached, or
    does not know the key.
    """
    from nbq.web.serve import WebOptions, run_web

    options = WebOptions(where, key, bind, allow_hosts, base_url, token_file, open_browser)
    return run_web(options)
