"""Pages that list something list all of it: options of calls, modules, pages of the guide."""

from __future__ import annotations

import re

from nbq.canvas.options import OPTION_NAMES
from tests.project.tree import ROOT, modules


def section(document: str, heading: str) -> str:
    """Return what stands below a heading, up to the next one."""
    text = (ROOT / document).read_text()
    return re.split(r"^## ", text.split(f"## {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def test_the_guide_has_every_option_of_a_call_and_no_other() -> None:
    rows = re.findall(r"^\| (`.*?) \|", section("docs/guide/tasks.md", "Options"), re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(OPTION_NAMES)


def test_the_architecture_has_a_layer_for_every_module() -> None:
    named = re.findall(r"`([\w/*]+)`", section("docs/architecture.md", "Layers"))
    paths = {name.removeprefix("nbq.").replace(".", "/") for name in modules()} - {
        "nbq",
        "version",
        "__main__",
    }
    missing = {path for path in paths if not {path, f"{path}/*", f"{path.split('/')[0]}/*"} & set(named)}
    assert missing == set()


def test_the_guide_lists_every_page() -> None:
    pages = {path.name for path in (ROOT / "docs/guide").glob("*.md")} - {"README.md"}
    assert (
        set(re.findall(r"^\| \[.*?\]\((\S+)\)", (ROOT / "docs/guide/README.md").read_text(), re.MULTILINE))
        == pages
    )


def test_decisions_are_numbered_one_by_one() -> None:
    pages = sorted(path.name for path in (ROOT / "docs/adr").glob("*.md"))
    assert [int(name[:4]) for name in pages] == list(range(1, len(pages) + 1))
    titles = [(ROOT / "docs/adr" / name).read_text().split("\n", 1)[0] for name in pages]
    assert [int(re.match(r"# (\d+)\. ", title)[1]) for title in titles] == list(range(1, len(pages) + 1))
