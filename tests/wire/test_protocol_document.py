"""docs/protocol.md and the code say the same: tags, fields, directions, roles, parts, states and codes."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import pytest

from nbq import blocks, hub, wire
from nbq.core import events, facts, model, views
from tests.wire.samples import TO_HUB, TO_PEER

ROOT = Path(wire.__file__).parents[1]
TEXT = (ROOT / "docs" / "protocol.md").read_text()
_CODE = re.compile(r"(Denied|Rejected|_reject|_complain)\((?:session, )?\s*\"([a-z_]+)\"")


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([a-z_0-9]+)`", cell))


def roles(kind: type) -> str:
    if kind is wire.Hello:
        return "all"
    found = [role for role in typing.get_args(wire.Role) if kind in hub._ALLOWED[role]]
    return "all" if len(found) == 3 else ", ".join(found)


def described(title: str) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(row[0], row[1], names(row[3])) for row in rows(title)]


@pytest.mark.parametrize(
    ("title", "kinds"), [("Messages to the hub", TO_HUB), ("Messages from the hub", TO_PEER)]
)
def test_every_message_is_described_with_its_tag_and_fields(title: str, kinds: tuple[type, ...]) -> None:
    found = [(str(k.__struct_config__.tag), k.__name__, k.__struct_fields__) for k in kinds]
    assert described(title) == sorted(found, key=lambda row: int(row[0]))


def test_who_may_send_each_message_is_what_the_hub_allows() -> None:
    by_name = {kind.__name__: kind for kind in TO_HUB}
    assert {row[1]: row[2] for row in rows("Messages to the hub")} == {
        name: roles(kind) for name, kind in by_name.items()
    }


def test_every_message_says_when_and_what_answers_it() -> None:
    for title in ("Messages to the hub", "Messages from the hub"):
        assert [row[1] for row in rows(title) if len(row) != 6 or not row[4] or not row[5]] == []


def test_the_version_is_that_of_the_code() -> None:
    assert TEXT.startswith(f"# The protocol, version {wire.PROTOCOL}\n")


def test_parts_have_the_fields_of_the_code() -> None:
    for name, cell in rows("Parts of messages"):
        bare = name.split(" ")[0]
        (kind,) = [getattr(m, bare) for m in (wire, blocks, model, events, facts, views) if _owns(m, bare)]
        tag = kind.__struct_config__.tag
        assert (name, names(cell)) == (bare if tag is None else f"{bare} (`{tag}`)", kind.__struct_fields__)


def _owns(module: typing.Any, name: str) -> bool:
    return getattr(getattr(module, name, None), "__module__", None) == module.__name__


def test_states_have_the_numbers_of_the_code() -> None:
    said = ", ".join(f"{int(state)} {state.name}" for state in model.State)
    assert f"States are numbers: {said}." in section("Parts of messages")


def test_every_error_code_of_the_code_is_described_and_no_other() -> None:
    used: dict[str, set[str]] = {"Denied": set(), "Rejected": set()}
    for path in (ROOT / "nbq").rglob("*.py"):
        for how, code in _CODE.findall(path.read_text()):
            used["Denied" if how in ("Denied", "_complain") else "Rejected"].add(code)
    denied, rejected = section("Error codes").split("Rejected, for a submit")
    assert set(re.findall(r"^\| `([a-z_]+)` \|", denied, re.M)) == used["Denied"]
    assert set(re.findall(r"^\| `([a-z_]+)` \|", rejected, re.M)) == used["Rejected"]


def test_the_bounds_are_those_of_the_code() -> None:
    assert wire.FRAME_LIMIT == 1024 * 1024 + 64 * 1024
    assert "1 MiB + 64 KiB" in section("Framing")
    assert wire.INLINE_LIMIT == 256 * 1024
    assert "up to 256 KiB travel in messages" in section("Blocks")
    assert hub._ERRORS == 10
    assert "After ten errors" in section("Framing")
