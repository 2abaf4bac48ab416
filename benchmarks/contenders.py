"""The contenders: how each is installed, started and, whatever happens, ended.

A contender is a script in a process of its own, in nbq's environment or in the peer's. One that cannot be
installed, fails or takes too long is reported with the reason, never left out.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / ".bench"
REQUIREMENTS = ROOT / "requirements" / "peers"
OWN = ("nbq", "raw", "executor")
PEERS = ("dask", "celery", "ray", "ipyparallel")
MARK = "BENCHMARK_OF_NBQ"
"""Every process that a contender starts inherits this variable: by it they are found and ended."""
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "PYTHONWARNINGS": "ignore"}


class Absent(Exception):
    """A peer cannot be measured here; says why."""


@dataclass
class Found:
    """What one run of a contender gave: figures, or why there are none, by row."""

    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def installed() -> list[str]:
    """Return the peers that have an environment."""
    return [peer for peer in PEERS if _python(peer).exists()]


def install(peer: str) -> None:
    """Make a peer's environment as its requirements file pins it.

    Raises:
        Absent: It could not be made.
    """
    uv = [sys.executable, "-m", "uv"]
    if not _python(peer).exists():
        _do([*uv, "venv", "-q", "--python", sys.executable, str(ENVIRONMENTS / peer)])
    pinned = str(REQUIREMENTS / f"{peer}.txt")
    _do([*uv, "pip", "sync", "-q", "--require-hashes", "--python", str(_python(peer)), pinned])
    if peer == "celery" and shutil.which("redis-server") is None:
        if os.geteuid() != 0:
            raise Absent("redis-server is missing: apt-get install redis-server")
        _do(["apt-get", "update", "-q"])
        _do(["apt-get", "install", "-y", "-q", "--no-install-recommends", "redis-server"])


def lock(peers: list[str]) -> None:
    """Pin the newest releases of peers, with hashes, in their requirements files.

    Raises:
        Absent: One cannot be resolved.
    """
    options = ["-q", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header"]
    for peer in peers:
        wanted, pinned = (REQUIREMENTS / f"{peer}.{kind}" for kind in ("in", "txt"))
        compiled = [sys.executable, "-m", "uv", "pip", "compile", *options, "--no-annotate", "--upgrade"]
        _do([*compiled, str(wanted), "-o", str(pinned)])


def run(name: str, sizes: Mapping[str, int], limit_s: float) -> Found:
    """Run a contender's script once.

    Args:
        name: Of the contender.
        sizes: Of its rows, by row.
        limit_s: Seconds after which it is stopped; what it has measured by then counts.
    """
    module = {"nbq": "ours"}.get(name, name if name in OWN else f"peers.{name}")
    python = sys.executable if name in OWN else str(_python(name))
    mark = secrets.token_hex(8)
    with tempfile.TemporaryDirectory(prefix="nbq-bench-", ignore_cleanup_errors=True) as folder:
        env = {**os.environ, **_QUIET, MARK: mark, "TMPDIR": folder}
        lines, log = Path(folder) / "lines", Path(folder) / "log"
        lines.touch()
        command = [python, "-m", f"benchmarks.{module}", json.dumps(dict(sizes)), str(lines)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            try:
                process.wait(limit_s)
                reason = f"ended with {process.returncode}"
            except subprocess.TimeoutExpired:
                reason = f"took over {limit_s:g} s"
            finally:
                _end_all(mark)
                process.wait()
        said = log.read_text(errors="replace").strip().splitlines()
        found = _read(lines)
    found.sizes = dict(sizes)
    for row in sizes:
        if row not in found.figures and row not in found.absent:
            found.absent[row] = f"{reason}: {said[-1][:200]}" if said else reason
    return found


def _read(lines: Path) -> Found:
    found = Found()
    for line in lines.read_text().splitlines():
        item: dict[str, Any] = json.loads(line)
        if "versions" in item:
            found.versions.update(item["versions"])
        elif "figures" in item:
            found.figures[item["row"]] = item["figures"]
        else:
            found.absent[item["row"]] = item["absent"]
    return found


def _end_all(mark: str) -> None:
    """Kill every process that carries a mark, those that left their session or parent too."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                process.kill()
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue


def _python(peer: str) -> Path:
    return ENVIRONMENTS / peer / "bin" / "python"


def _do(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Absent(f"{' '.join(command[:5])} …: {said[-1][:200] if said else done.returncode}")
