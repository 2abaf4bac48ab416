"""What every contender's script does: measure the rows it is told, and write each as a line of JSON.

Called as ``python -m benchmarks.NAME SIZES FILE``: SIZES is a JSON object of sizes by row, FILE takes the
lines. It runs in peers' environments, so it imports the standard library alone.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Measure = Callable[[int], dict[str, float]]
"""Takes a row's size, returns its figures by name."""

CHUNKED = 20
"""How many times the calls of one call = one task the chunked forms get, being that much faster."""


def run(measures: Mapping[str, Measure | str], versions: Mapping[str, str]) -> None:
    """Measure rows and write what was found; a text in place of a measure says why there is none."""
    sizes: dict[str, int] = json.loads(sys.argv[1])
    with Path(sys.argv[2]).open("a", buffering=1) as lines:
        print(json.dumps({"versions": dict(versions)}), file=lines)
        for row, n in sizes.items():
            measure = measures.get(row, "has no such thing")
            found: dict[str, Any] = {"row": row, "n": n}
            if isinstance(measure, str):
                found["absent"] = measure
            else:
                try:
                    found["figures"] = measure(n)
                except Exception as error:  # a contender may fail in any way; its other rows still count
                    said = " ".join(str(error).split())
                    found["absent"] = f"failed: {type(error).__name__}: {said}"[:300]
            print(json.dumps(found), file=lines)


def seconds(work: Callable[[], Any]) -> float:
    """Return how long a call takes, in seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def round_trips(call: Callable[[], Any], n: int) -> dict[str, float]:
    """Return p50 and p99 of n calls, one at a time, in milliseconds."""
    call()
    times = [seconds(call) * 1e3 for _ in range(n)]
    p50, p99 = (statistics.quantiles(times, n=100)[q - 1] for q in (50, 99))
    return {"p50": p50, "p99": p99}


def megabytes(n: int) -> Any:
    """Return a numpy array of n million bytes that no compression helps."""
    import numpy  # only the row that needs it pays for it

    return numpy.random.default_rng(0).random(n * 125_000)


def there_and_back(send: Callable[[Any], Any], n: int) -> float:
    """Return the seconds that an array takes to go and return, read and compared.

    Args:
        send: Takes the array, returns what came back.
        n: Millions of bytes.
    """
    import numpy  # as above

    array = megabytes(n)
    send(array[:1000])  # whoever receives it imports numpy now

    def trip() -> None:
        if not numpy.array_equal(send(array), array):
            raise ValueError("another array came back")

    return seconds(trip)
