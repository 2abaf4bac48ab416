"""Every module says what it is for and which of its names are public, and `import nbq` stays light."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys

import pytest

import nbq
from tests.project.tree import modules, parsed

# What `import nbq` loads: a new line here is a cost for every script, notebook and shell command.
LOADED = ["nbq", "nbq.version"]
HEAVY = ["IPython", "asyncio", "click", "ipywidgets", "rich", "sqlite3", "tornado", "zmq"]


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter has after one statement."""
    program = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_nbq_loads_this_and_nothing_heavy() -> None:
    loaded = loaded_by("import nbq")
    assert sorted(name for name in loaded if name.split(".")[0] == "nbq") == LOADED
    assert sorted(loaded.intersection(HEAVY)) == []


def test_type_checkers_see_the_public_names() -> None:
    blocks = [node for node in parsed(modules()["nbq"]).body if isinstance(node, ast.If)]
    seen = {
        alias.name
        for block in blocks
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen | {"__version__"} == set(nbq.__all__)


def test_the_command_loads_nothing_heavy_before_a_subcommand_is_called() -> None:
    loaded = loaded_by("import nbq.cli")
    assert sorted(loaded & {"IPython", "asyncio", "ipywidgets", "rich", "sqlite3", "tornado", "zmq"}) == []


def test_a_slot_loads_no_notebook_no_socket_and_no_store() -> None:
    loaded = loaded_by("import nbq.engines.slot")
    assert sorted(loaded & {"IPython", "click", "ipywidgets", "rich", "sqlite3", "tornado", "zmq"}) == []


@pytest.mark.parametrize("name", modules())
def test_a_module_says_what_it_does_and_lists_its_public_names(name: str) -> None:
    tree = parsed(modules()[name])
    assert ast.get_docstring(tree)
    used = taken_by_others(name)
    if not used and not any(_defines_all(node) for node in tree.body):
        return
    module = importlib.import_module(name)
    listed = module.__all__
    assert len(set(listed)) == len(listed)
    assert [public for public in listed if not hasattr(module, public)] == []
    assert used - set(listed) == set()


def taken_by_others(name: str) -> set[str]:
    """Return the names that the package's other modules import from a module."""
    return {
        alias.name
        for other, path in modules().items()
        if other != name
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ImportFrom) and node.module == name
        for alias in node.names
        if f"{name}.{alias.name}" not in modules()
    }


def _defines_all(node: ast.stmt) -> bool:
    names = (
        node.targets
        if isinstance(node, ast.Assign)
        else [node.target]
        if isinstance(node, ast.AnnAssign)
        else []
    )
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in names)


def test_no_module_has_the_name_of_something_public() -> None:
    """Importing a submodule would put it in the place of the public name (docs/adr/0007)."""
    direct = {name.removeprefix("nbq.").split(".")[0] for name in modules() if name != "nbq"}
    assert direct & set(nbq.__all__) == set()
