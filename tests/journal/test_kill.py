"""A hub killed in the middle of its work leaves a journal of whole batches: all that it had committed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nbq.core.facts import Leased
from nbq.journal import Journal

WRITER = """
import sys
from pathlib import Path
from nbq.core.facts import Leased
from nbq.journal import Batch, Journal

folder, durability = Path(sys.argv[1]), sys.argv[2]
store = Journal(folder, durability)
number = sum(1 for _ in store.recover()) // 7
while True:
    number += 1
    batch = Batch()
    for part in range(7):
        batch.facts.append(Leased(part + 1, 0, 0, 1, number, b"x" * (number % 300)))
        batch.blocks[part + 1, number] = bytes([number % 256]) * (number * 37 % 5000)
    store.commit(batch)
    print(number, flush=True)
"""


def kill_after(folder: Path, durability: str, lines: int, more: int) -> int:
    """Kill a writer some bytes after it reported so many commits; return the last that it reported."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), durability], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    for _ in range(lines):
        writer.stdout.readline()
    writer.stdout.read(more)
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read()
    writer.stdout.close()
    assert writer.wait() == -signal.SIGKILL
    reported = [int(line) for line in rest.splitlines()[1:-1] if line]
    return max(reported, default=0)


@pytest.mark.parametrize("durability", ["process", "disk"])
def test_kill_9_keeps_exactly_the_committed_batches(tmp_path: Path, durability: str) -> None:
    moments = random.Random(7)
    before = 0
    for _ in range(5):
        reported = kill_after(tmp_path, durability, moments.randrange(1, 60), moments.randrange(1, 40))
        store = Journal(tmp_path, "process")
        tokens: dict[int, list[int]] = {}
        for fact in store.recover():
            assert isinstance(fact, Leased)
            assert fact.engine == b"x" * (fact.token % 300)
            tokens.setdefault(fact.run, []).append(fact.token)
        last = max(tokens[1])
        assert tokens == {run: list(range(1, last + 1)) for run in range(1, 8)}
        assert last >= max(reported, before)
        for number in range(before + 1, last + 1):
            assert {store.block(run, number) for run in range(1, 8)} == {
                bytes([number % 256]) * (number * 37 % 5000)
            }
        store.close()
        assert last > before
        before = last
