"""``nbq doctor``: says in sentences what is right and wrong here, and what to do. It changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import click

from nbq.cli.show import hub_option, json_option, print_json, print_table, size_text
from nbq.errors import NbqError, SettingsError

if TYPE_CHECKING:
    from nbq.core.views import ClusterView

__all__ = ["Check", "clock_check", "doctor", "engine_checks", "file_system"]

_PACKAGES = ("pyzmq", "msgspec", "cloudpickle", "lz4", "click", "rich", "psutil", "tornado", "ipywidgets")
_SQLITE = (3, 51, 3)
_ROOM_WRONG, _ROOM_LOW = 100 << 20, 1 << 30
_FILES_WRONG, _FILES_LOW = 256, 1024
_SLOW_ANSWER_S = 0.2
_CLOCKS_S = 1.0
_SILENT_S = 5.0
_ANSWERS = 5
_REMOTE = frozenset(
    "9p afs beegfs ceph cifs fuse.glusterfs fuse.sshfs glusterfs gpfs lustre nfs nfs4 smb3 smbfs".split()
)


class Check(NamedTuple):
    """What was looked at, and what was found."""

    level: Literal["ok", "note", "wrong"]
    what: str
    text: str


@click.command(short_help="Say what is right and wrong here, and what to do.")
@hub_option
@json_option
def doctor(where: str | None, as_json: bool) -> int:
    """Look at this machine and at a hub, and say what is right and wrong, and what to do.

    It looks at Python, packages and SQLite; at folders, their rights, their room and whether they lie on
    a network; whether the hub runs and answers, how fast, and whether engines and clocks agree with us.

    \b
        nbq doctor
        nbq doctor --hub client.json            # a hub on another host
        nbq doctor --json | jq '.checks[] | select(.level == "wrong")'

    \b
    --json prints
        {"ok": true, "checks": [{"level": "ok", "note" or "wrong", "what", "text"}]}

    Exit code: 0 nothing is wrong (there may be notes); 1 something is.
    """
    checks = [*_software(), *_sqlite(), *_files(), *_folders(where), *_hub(where)]
    wrong = sum(check.level == "wrong" for check in checks)
    if as_json:
        print_json({"ok": not wrong, "checks": [check._asdict() for check in checks]})
    else:
        print_table(["", "what", "found"], checks)
        click.echo(f"\n{wrong} wrong" if wrong else "\nnothing is wrong")
    return 1 if wrong else 0


# ------------------------------------------------------------------ this machine


def _software() -> Iterator[Check]:
    from importlib.metadata import PackageNotFoundError, version

    from nbq.version import versions

    own = versions()
    text = f"nbq {own['nbq']} on Python {own['python']} ({sys.executable})"
    yield Check("ok", "versions", text)
    missing: list[str] = []
    found: list[str] = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    yield Check("ok", "packages", ", ".join(found))
    if missing:
        text = f"{', '.join(missing)}: not installed; run 'python -m pip install {' '.join(missing)}'"
        yield Check("wrong", "packages", text)


def _sqlite() -> Iterator[Check]:
    import sqlite3

    text = f"SQLite {sqlite3.sqlite_version}"
    if sqlite3.sqlite_version_info >= _SQLITE:
        yield Check("ok", "sqlite", text)
    else:
        yield Check(
            "note", "sqlite",
            f"{text} is below 3.51.3, whose WAL can be damaged by two connections at once: a hub has one, "
            "so never open its journal with another program while it runs",
        )  # fmt: skip


def _files() -> Iterator[Check]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = f"a process may have {soft:,} files open"
    if soft >= _FILES_LOW or soft == resource.RLIM_INFINITY:
        yield Check("ok", "open files", text)
    else:
        level: Literal["note", "wrong"] = "note" if soft >= _FILES_WRONG else "wrong"
        advice = f"a hub needs one for each peer: 'ulimit -n {hard}' before you start it"
        yield Check(level, "open files", f"{text}; {advice}")


# ------------------------------------------------------------------ folders


def _folders(where: str | None) -> Iterator[Check]:
    import tempfile

    from nbq.settings import data_folder, private_dir, runtime_dir

    try:
        yield Check("ok", "runtime folder", f"{runtime_dir()} is private")
    except (SettingsError, OSError) as error:
        yield Check("wrong", "runtime folder", str(error))
    try:
        folder = data_folder(where)
        if folder.is_dir():
            private_dir(folder)
            yield Check("ok", "data folder", f"{folder} is private")
        else:
            yield Check("note", "data folder", f"{folder} is not there yet: the first hub makes it")
    except (SettingsError, OSError) as error:
        yield Check("wrong", "data folder", str(error))
        return
    yield from _mount(folder)
    yield from _room("data folder", folder)
    yield from _room("temporary folder", Path(tempfile.gettempdir()))


def _mount(folder: Path) -> Iterator[Check]:
    try:
        mounts = Path("/proc/mounts").read_text()
    except OSError:
        return  # no Linux: nothing says so
    kind = file_system(folder.resolve(), mounts)
    if kind in _REMOTE:
        text = (
            f"{folder} lies on a network ({kind}), where SQLite cannot keep its promises: name a local "
            "folder with NBQ_DATA_DIR, or with --data for this hub"
        )
        yield Check("wrong", "file system", text)
    else:
        yield Check("ok", "file system", f"the data folder lies on {kind}, on this machine")


def file_system(path: Path, mounts: str) -> str:
    """Return the kind of file system that a path lies on.

    Args:
        path: Absolute, without links.
        mounts: The text of ``/proc/mounts``, in which later lines cover earlier ones.
    """
    best, kind = -1, "an unknown file system"
    for line in mounts.splitlines():
        _device, point, name, *_ = line.split(" ")
        point = point.encode().decode("unicode_escape")  # a space is \040
        if path.is_relative_to(point) and len(Path(point).parts) >= best:
            best, kind = len(Path(point).parts), name
    return kind


def _room(what: str, folder: Path) -> Iterator[Check]:
    import shutil

    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"{size_text(free)} free for {folder}"
    if free >= _ROOM_LOW:
        yield Check("ok", what, text)
    else:
        level: Literal["note", "wrong"] = "note" if free >= _ROOM_WRONG else "wrong"
        yield Check(level, what, f"{text}: make room, or work will be refused")


# ------------------------------------------------------------------ the hub


def _hub(where: str | None) -> Iterator[Check]:
    import time

    from nbq.client import connect
    from nbq.settings import data_folder, find_connection, hub_name

    asked = where or hub_name()
    if asked == "default" and not (data_folder(where) / "client.json").exists():
        yield Check("note", "hub", "no hub was ever started here: 'nbq hub', or nbq.Cluster(slots=2)")
        return
    try:
        connection = find_connection(where, "client")
        text = f"{connection.path} is for the role {connection.role} of hub {connection.name!r}"
        yield Check("ok", "connection file", text)
        with connect(where) as client:
            times: list[float] = []
            for _ in range(_ANSWERS):
                asked_s = time.time()
                view = client.status()
                times.append(time.time() - asked_s)
            told_s = time.time()
    except NbqError as error:
        yield Check("wrong", "hub", str(error))
        return
    yield _answers(view, sorted(times)[_ANSWERS // 2])
    yield clock_check(float(view.hub["time_s"]) - told_s)
    yield _hub_versions(view)
    yield from engine_checks(view)


def _answers(view: ClusterView, median_s: float) -> Check:
    text = (
        f"{view.hub['name']!r} (pid {view.hub['pid']}, durability {view.hub['durability']}) answers within "
        f"{median_s * 1000:.1f} ms"
    )
    if median_s <= _SLOW_ANSWER_S:
        return Check("ok", "hub", text)
    return Check("note", "hub", f"{text}, which is slow: the network, or a busy machine")


def clock_check(ahead_s: float) -> Check:
    """Return what to say of a hub's clock that is ahead of this one by so much."""
    text = f"the hub's clock and this one differ by {abs(ahead_s):.2f} s"
    if abs(ahead_s) <= _CLOCKS_S:
        return Check("ok", "clocks", text)
    return Check("wrong", "clocks", f"{text}: etas and expiry will be off by so much; run NTP on both")


def _hub_versions(view: ClusterView) -> Check:
    from nbq.version import versions

    own, theirs = versions()["nbq"], str(view.hub["nbq"])
    if own == theirs:
        return Check("ok", "hub's version", f"the hub runs nbq {theirs}, as this process does")
    return Check("note", "hub's version", f"the hub runs nbq {theirs}, this process {own}: install the same")


def engine_checks(view: ClusterView) -> Iterator[Check]:
    """Yield what to say of each engine of a hub: whether it is there, and has what this process has."""
    from nbq.version import versions

    own = versions()
    if not view.engines:
        yield Check("note", "engines", "there are none, so nothing runs: start one with 'nbq engine'")
    for row in view.engines:
        info = row.info
        has = {"python": info.python, "nbq": info.nbq, "cloudpickle": info.cloudpickle}
        parts = [f"{name} {has[name]} (here {own[name]})" for name in has if has[name] != own[name]]
        text = f"{info.name!r} on {info.host} (slots: {info.slots}) is {row.state}"
        if info.python.split(".")[:2] != own["python"].split(".")[:2]:
            why = "functions of a notebook cannot be sent between two versions of Python: use one"
            yield Check("wrong", "engine", f"{text}, but it has {', '.join(parts)}; {why}")
        elif row.state != "up" or row.beat_s > _SILENT_S:
            yield Check("note", "engine", f"{text}, last heard {row.beat_s:.0f} s ago")
        elif parts:
            yield Check("note", "engine", f"{text}; it has {', '.join(parts)}: best use the same")
        else:
            yield Check("ok", "engine", f"{text}; the same versions as here")
