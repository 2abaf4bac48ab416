"""The page inside Jupyter: what jupyter-server-proxy is told, by the entry point of its name.

Jupyter's server lets in whom it lets in; the page listens on a socket in a folder that is its owner's alone.
"""

from __future__ import annotations

import sys
from typing import Any

from nbq.web.app import STATIC

__all__ = ["setup"]


def setup() -> dict[str, Any]:
    """Return how the page is started: for whoever has a server of their own, with the right to steer."""
    nbq = [sys.executable, "-P", "-m", "nbq"]
    return {
        "command": [*nbq, "web", "--key", "client", "--bind", "unix:{unix_socket}"],
        "unix_socket": True,
        "timeout": 30,
        "launcher_entry": {
            "title": "nbq", "icon_path": str(STATIC / "icon.svg"), "category": "Notebook",
        },
    }  # fmt: skip
