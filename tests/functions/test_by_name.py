"""Tasks that are found by their name: registered, or in a module that the name or its sender says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nbq.errors import UnknownTask
from nbq.tasks import find_task

SOURCE = "import nbq\n\n@nbq.task\ndef charge():\n    return 7\n"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a package, with tasks, that is not imported yet."""
    name = f"made_{tmp_path.name}".replace("-", "_")
    (tmp_path / name).mkdir()
    (tmp_path / name / "tasks.py").write_text(SOURCE)
    (tmp_path / name / "broken.py").write_text("import no_such_module_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.mark.parametrize("said", [True, False])
def test_the_module_of_a_task_is_imported(made: str, said: bool) -> None:
    module = f"{made}.tasks"
    assert module not in sys.modules
    assert find_task(f"{module}.charge", module if said else None)() == 7


@pytest.mark.parametrize("name", ["charge", "no_such.charge", ".charge", "..", "a b.charge", ""])
def test_a_name_that_is_none_is_unknown(name: str) -> None:
    with pytest.raises(UnknownTask, match=r"^the engine knows no task named"):
        find_task(name, None)


def test_a_module_without_the_task_is_no_help(made: str) -> None:
    with pytest.raises(UnknownTask, match=rf"did you mean {made}\.tasks\.charge"):
        find_task(f"{made}.tasks.chrage", None)
    with pytest.raises(UnknownTask, match="knows no task named"):
        find_task(f"{made}.other.charge", None)


@pytest.mark.parametrize("said", [True, False])
def test_a_module_that_cannot_be_imported_says_why(made: str, said: bool) -> None:
    module = f"{made}.broken"
    with pytest.raises(UnknownTask, match="No module named 'no_such_module_at_all'"):
        find_task(f"{module}.charge", module if said else None)
