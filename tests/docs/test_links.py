"""Every relative link of every document leads to a file, and to a heading of it where it names one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.project.tree import ROOT, project_files

DOCUMENTS = {str(path.relative_to(ROOT)): path for path in project_files("*.md")}
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+\s+(.*)$", re.MULTILINE)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_resolve(name: str) -> None:
    document = DOCUMENTS[name]
    links = [one or other for one, other in _LINK.findall(_CODE.sub("", document.read_text()))]
    relative = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in relative if not _resolves(document, link)] == []


def _resolves(document: Path, link: str) -> bool:
    path, _, heading = link.partition("#")
    target = (document.parent / path).resolve() if path else document
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not heading or heading in _anchors(target)


def _anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as web front ends of git make them."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = [re.sub(r"[^\w\- ]", "", title.strip().lower()) for title in _HEADING.findall(text)]
    return {title.replace(" ", "-") for title in titles}
