"""The page inside Jupyter: what its proxy is told."""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

from tests.project.tree import ROOT


def test_the_entry_point_starts_the_page_on_a_socket_of_its_owner() -> None:
    group = "jupyter_serverproxy_servers"
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][group]
    assert list(points) == ["nbq"]
    told = EntryPoint("nbq", points["nbq"], group).load()()
    icon = told["launcher_entry"].pop("icon_path")
    assert Path(icon).read_text().startswith("<svg ")
    assert told == {
        "command": [
            sys.executable, "-P", "-m", "nbq", "web", "--key", "client", "--bind", "unix:{unix_socket}",
        ],
        "unix_socket": True,
        "timeout": 30,
        "launcher_entry": {"title": "nbq", "category": "Notebook"},
    }  # fmt: skip
