#!/usr/bin/env python3
"""Every command of a developer of nbq: `python3 dev.py <command>`, and nothing to install before it.

It needs Python 3.11 or later with pip, and uses the standard library alone. It makes `.venv` beside this
file with the locked packages and nbq itself, and looks after it when the lock, pyproject.toml or the Python
has changed. It never installs outside `.venv` (but Debian packages for `test`, when root), and never names
an index: pip and uv are left to the machine's own settings.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
PYTHON = BIN / "python"
STAMP = VENV / "nbq-stamp"
UV_LOCK = ROOT / "requirements" / "uv.lock"
DEV_LOCK = ROOT / "requirements" / "dev.lock"

# The programs that some tests start, and the Debian packages they come in.
DEBIAN_PACKAGES = {
    "chromium": "chromium",
    "ip": "iproute2",
    "memcached": "memcached",
    "postgres": "postgresql",
    "redis-server": "redis-server",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
}
# Where Debian puts such programs, beside what PATH names.
PLACES = ["/usr/sbin", "/sbin", *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
# What `check` looks at.
SOURCES = ["nbq", "tests", "benchmarks", "dev.py"]


def demo(arguments: list[str]) -> int:
    """Show nbq at work: a hub, two engines and some tasks on this machine."""
    return run(BIN / "nbq", "demo", *arguments)


def test(arguments: list[str]) -> int:
    """Run the checks and all tests, as CI does; arguments go to pytest."""
    checked = check([])
    if checked:
        say("check failed; the tests run all the same")
    install_debian_packages()
    return pytest(*(arguments or ["tests"])) or checked


def check(arguments: list[str]) -> int:
    """Check format, lint and types."""
    sources = [name for name in SOURCES if (ROOT / name).exists()]
    commands: list[list[str | Path]] = [
        [BIN / "ruff", "format", "--check", *sources],
        [BIN / "ruff", "check", *sources],
        [BIN / "pyrefly", "check", *arguments],
    ]
    codes = [run(*command, shown=True) for command in commands]
    return max(codes)


def sim(arguments: list[str]) -> int:
    """Run the simulator over random seeds (--seeds N, or --seed S for one), and sweep all clock changes."""
    code = run(PYTHON, "-m", "tests.simulation", *arguments)
    if any(word.partition("=")[0] == "--seed" for word in arguments):  # one seed is run again to be looked at
        return code
    return run(PYTHON, "-m", "tests.schedules", "--all") or code


def bench(arguments: list[str]) -> int:
    """Measure the figures of the design and print them as ratios."""
    return run(PYTHON, "-m", "benchmarks", *arguments)


def docs(arguments: list[str]) -> int:
    """Check the documents: links resolve, and their code runs."""
    return pytest("tests/docs", *arguments)


def lock(arguments: list[str]) -> int:
    """Write requirements/*.lock again from pyproject.toml; --upgrade takes newer releases."""
    inputs: dict[Path, list[str]] = {
        UV_LOCK: ["--group", "bootstrap"],
        DEV_LOCK: ["pyproject.toml", "--all-extras", "--group", "dev"],
    }
    options = ["--quiet", "--universal", "--generate-hashes", "--no-header", "--python-version", "3.11"]
    for path, given in inputs.items():
        output = path.relative_to(ROOT)
        code = run(BIN / "uv", "pip", "compile", *options, *arguments, *given, "-o", output, shown=True)
        if code:
            return code
    return 0


COMMANDS: list[Callable[[list[str]], int]] = [demo, test, check, sim, bench, docs, lock]


def main(arguments: list[str]) -> int:
    """Run one command in the environment, or list them all."""
    commands = {command.__name__: command for command in COMMANDS}
    if not arguments or arguments[0] in {"help", "-h", "--help"}:
        print("usage: python3 dev.py <command> [arguments]\n")
        for name, command in commands.items():
            print(f"  {name:6} {command.__doc__}")
        return 0
    if arguments[0] not in commands:
        say(f"no command {arguments[0]!r}; there are: {' '.join(commands)}")
        return 2
    try:
        prepare()
        return commands[arguments[0]](arguments[1:])
    except KeyboardInterrupt:
        return 130


def pytest(*arguments: str) -> int:
    """Run pytest; that it found no test (5) is a failure, never a success by accident."""
    code = run(PYTHON, "-m", "pytest", *arguments)
    return 1 if code == 5 else code


def run(*command: str | Path, shown: bool = False) -> int:
    """Run a command at the repository's root, in the environment, and return its exit code."""
    words = [str(part) for part in command]
    if shown:
        print("$", shlex.join([Path(words[0]).name, *words[1:]]), flush=True)
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, "PATH": path, "VIRTUAL_ENV": str(VENV), "UV_PYTHON_DOWNLOADS": "never"}
    environment.pop("PYTHONHOME", None)
    return subprocess.call(words, cwd=ROOT, env=environment)


def say(text: str) -> None:
    """Print one line of our own, apart from what the commands print."""
    print(f"dev.py: {text}", file=sys.stderr, flush=True)


# -- the environment -------------------------------------------------------------------------------------


def prepare() -> None:
    """Make `.venv` unless it is there and up to date; a second dev.py waits for the first.

    Raises:
        SystemExit: Python is too old, a part of it is missing, or an install failed.
    """
    if sys.version_info < (3, 11):
        raise SystemExit(f"nbq needs Python 3.11 or later; this is {sys.version.split()[0]}")
    inputs = b"".join(path.read_bytes() for path in (UV_LOCK, DEV_LOCK, ROOT / "pyproject.toml"))
    wanted = [str(sys.implementation.cache_tag), hashlib.sha256(inputs).hexdigest()]
    with Path(__file__).open() as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # released with the file
        made = STAMP.read_text().split() if STAMP.exists() and PYTHON.exists() else ["", ""]
        if made != wanted:
            build(anew=made[0] != wanted[0])
            STAMP.write_text(" ".join(wanted))


def build(anew: bool) -> None:
    """Make `.venv`: the interpreter, uv, the locked packages, and nbq as an editable install.

    Args:
        anew: Whether to drop what is there; else it is brought up to date, under what may run in it.
    """
    if Path(sys.prefix) == VENV:  # it is activated, and cannot make itself anew
        base = str(Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}"))
        os.execv(base, [base, __file__, *sys.argv[1:]])
    missing = [module for module in ("venv", "pip") if importlib.util.find_spec(module) is None]
    if missing:
        names = " ".join(f"python3-{module}" for module in missing)
        raise SystemExit(f"this Python has no {' and no '.join(missing)}; on Debian: apt install {names}")
    say("making .venv (about half a minute, once)" if anew else "bringing .venv up to date")
    STAMP.unlink(missing_ok=True)
    must(sys.executable, "-m", "venv", "--without-pip", *(["--clear"] if anew else []), VENV)
    # Without ensurepip there is no pip in .venv: the one beside this Python serves it from outside.
    pip = [sys.executable, "-m", "pip", "--python", PYTHON, "install", "-qq"]
    editable = ["--no-deps", "--no-build-isolation", "--editable", ROOT]
    uv = [BIN / "uv", "pip"]
    if (
        run(*pip, "--require-hashes", "-r", UV_LOCK)
        or run(*uv, "sync", "--quiet", "--python", PYTHON, "--require-hashes", DEV_LOCK)
        or run(*uv, "install", "--quiet", "--python", PYTHON, *editable)
    ):
        say("uv does not work here; pip installs the same lock, only more slowly")
        must(*pip, "--require-hashes", "-r", DEV_LOCK)
        must(*pip, *editable)


def must(*command: str | Path) -> None:
    """Run a command that nothing works without."""
    code = run(*command)
    if code:
        raise SystemExit(f"dev.py: failed ({code}): {shlex.join(map(str, command))}")


def install_debian_packages() -> None:
    """Install the Debian packages that tests need and that are missing, when root; else say which."""
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), *PLACES])
    missing = [name for tool, name in DEBIAN_PACKAGES.items() if shutil.which(tool, path=search) is None]
    if not missing:
        return
    if os.geteuid() or not Path("/etc/debian_version").exists():
        say(f"without {', '.join(missing)} some tests are skipped")
        return
    say(f"installing {', '.join(missing)}")
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    if run(*install) and (run("apt-get", "update", "-qq") or run(*install)):
        say(f"apt-get could not install {', '.join(missing)}; the tests that need them will fail")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
