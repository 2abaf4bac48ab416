"""The demo's work in one process, without a hub, slots or tasks: what its speed-up is measured against.

It runs in a fresh process: library and files come as JSON on standard input; what has been done, and at the
end how long it took and the report, go to standard output, one line of JSON each.
"""

from __future__ import annotations

import json
import sys
import time

from nbq.demo.analysis import parse, rank, report, summarise

__all__ = ["main"]

_TELL_S = 0.1


def main() -> None:
    """Do the work and tell of it."""
    library, files = json.load(sys.stdin)
    started_s = told_s = time.perf_counter()
    modules = []
    for file in files:
        modules.append(parse(library, file))
        now_s = time.perf_counter()
        if now_s - told_s > _TELL_S:
            told_s = now_s
            print(len(modules), flush=True)
    text = report(rank(summarise(modules)))
    print(json.dumps({"seconds": time.perf_counter() - started_s, "text": text}), flush=True)
