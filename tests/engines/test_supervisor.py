"""What a supervisor keeps of files that it fetched."""

from __future__ import annotations

import os
import time
from collections.abc import Set
from pathlib import Path

from nbq import wire
from nbq.core.model import Slice
from nbq.engines.supervisor import EngineOptions, Supervisor
from nbq.engines.telling import EngineLog
from nbq.settings import Connection

RUN, FUNCTION = b"r" * 16, b"f" * 16


class Silent:
    """An endpoint to nowhere."""

    address = "tcp://127.0.0.1:1"
    session = wire.NO_SESSION

    def send(self, _message: wire.ToHub) -> bool:
        return True

    def receive(self, _timeout_s: float, _also: Set[int] = frozenset()) -> tuple[list[wire.ToPeer], set[int]]:
        return [], set()


def test_fetched_files_go_when_no_lease_names_them(tmp_path: Path) -> None:
    connection = Connection("h", "engine", [], "", "", "", "t", "00" * 32)
    supervisor = Supervisor(EngineOptions(connection, 1, ["default"]), Silent(), EngineLog())  # type: ignore[arg-type]
    session = supervisor.session
    session.fetch = True
    session.functions[FUNCTION] = b""
    feed = wire.Feed(False, Slice(0, 0, 1), [wire.Block(0, 0, 1, b"", 9, "fe" * 16)])
    args = wire.Block(1, 0, 1, b"", 9, "aa" * 16)
    session.receive(wire.Lease(7, RUN, 1, 0, 1, 1, "t", FUNCTION, args, False, feed, False, 0.5), 1.0)
    supervisor._courier._pending["bb" * 16] = []
    folder = supervisor._temporary
    names = ["aa" * 16, "fe" * 16, "bb" * 16, FUNCTION.hex(), "cc" * 16, "dd" * 16, "ee" * 16 + ".part"]
    for name in names:
        (folder / name).write_bytes(b"x")
        old_s = time.time() - (0 if name == "dd" * 16 else 100)
        os.utime(folder / name, (old_s, old_s))
    supervisor._courier.sweep()
    assert sorted(path.name for path in folder.iterdir()) == sorted(set(names) - {"cc" * 16})
    session.receive(wire.Stale([7]), 2.0)
    supervisor._courier.sweep()
    left = {"bb" * 16, FUNCTION.hex(), "dd" * 16, "ee" * 16 + ".part"}
    assert {path.name for path in folder.iterdir()} == left
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
