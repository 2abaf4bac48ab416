"""The repository speaks of the project alone, and says the same version everywhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version

import pytest

import nbq.version
from tests.project.tree import ROOT, project_files

# Where a file names one machine or one registry; written so that they do not match themselves.
PLACES = {
    "a registry": re.compile(r"https?://[\w.-]*(?:py[p]i|pythonhosted|npmjs|conda[.-]forge|anaconda)\."),
    "a folder of one machine": re.compile(r"(?<![\w.])/(?:root|work|home)/\w|/tmp/v[/]"),
}
TEXT = [path for path in project_files() if path.suffix not in {".png", ".svg", ".gz"}]


@pytest.mark.parametrize("place", PLACES)
def test_no_file_names(place: str) -> None:
    named = {
        f"{path.relative_to(ROOT)}: {found.group()}"
        for path in TEXT
        for found in PLACES[place].finditer(path.read_text())
    }
    assert named == set()


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (project["version"], version("nbq")) == (nbq.version.__version__, nbq.version.__version__)


def test_the_changelog_has_a_section_for_this_version() -> None:
    heading = re.compile(rf"^## {re.escape(nbq.version.__version__)}\b", re.MULTILINE)
    assert len(heading.findall((ROOT / "CHANGELOG.md").read_text())) == 1


def test_ci_runs_what_the_readme_names() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines[1:] == ["set -e", 'cd "$(dirname "$0")/.."', "python3 dev.py test"]


def test_dev_lists_its_commands() -> None:
    done = subprocess.run(
        [sys.executable, "dev.py"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert listed == ["demo", "test", "check", "sim", "bench", "docs", "lock"]


@pytest.mark.parametrize("name", ["uv", "dev"])
def test_every_locked_package_has_one_version_and_hashes(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.lock").read_text().replace("\\\n", "")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    assert [line.split()[0] for line in lines if not re.match(r"[\w.-]+==\S+ .*--hash=sha256:", line)] == []


def test_the_lock_holds_all_that_the_project_asks_for() -> None:
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = tables["project"]["dependencies"] + tables["dependency-groups"]["bootstrap"]
    wanted += [line for line in tables["dependency-groups"]["dev"] if isinstance(line, str)]
    extras = [line for lines in tables["project"]["optional-dependencies"].values() for line in lines]
    wanted += [line for line in extras if not line.startswith("nbq[")]
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / "dev.lock").read_text(), re.MULTILINE)
    assert {re.split(r"[<>=!~\[ ;]", line)[0] for line in wanted} - set(locked) == set()
