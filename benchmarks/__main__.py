"""``python -m benchmarks``: measures the rows for every contender and prints the table."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from benchmarks import contenders, report
from benchmarks.contenders import OWN, PEERS, Absent
from benchmarks.rows import ROWS, Row

LIMIT_S = 300.0
"""What one repetition of one contender may take."""


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure nbq beside bare ZeroMQ, ProcessPoolExecutor and peers; print the ratios.",
    )
    parser.add_argument("--rows", help=f"some of {','.join(row.name for row in ROWS)}; default: all")
    parser.add_argument(
        "--peers",
        default="installed",
        help=f"some of {','.join(PEERS)}, or all, none, or installed (default: those installed before); "
        "a peer that is named is installed into .bench/",
    )
    parser.add_argument("--repeat", type=int, default=3, help="repetitions, interleaved; default: 3")
    parser.add_argument("--quick", action="store_true", help="small sizes, one repetition: does it all work?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every run")
    parser.add_argument("--write-docs", action="store_true", help="renew the table in docs/performance.md")
    parser.add_argument("--lock", action="store_true", help="pin the peers' newest releases; measure nothing")
    given = parser.parse_args()
    if given.quick:
        given.repeat = 1
    try:
        given.rows = report.chosen(given.rows)
        given.peers = chosen_peers(given.peers)
    except ValueError as error:
        parser.error(str(error))
    return given


def chosen_peers(names: str) -> list[str]:
    """Return the peers that the command line means."""
    special = {"all": list(PEERS), "none": [], "installed": contenders.installed()}
    if names in special:
        return special[names]
    unknown = sorted(set(names.split(",")) - set(PEERS))
    if unknown:
        raise ValueError(f"there is no peer {unknown[0]!r}; the peers are {', '.join(PEERS)}")
    return names.split(",")


def sizes(contender: str, rows: list[Row], quick: bool) -> dict[str, int]:
    """Return the sizes of a contender's rows; rows that are nbq's own are left out for others."""
    if contender == "nbq":
        return {row.name: row.n[quick] for row in rows}
    shared = [row for row in rows if row.peer_n[quick]]
    full = contender == "raw"
    found = {row.name: row.n[quick] if full else row.peer_n[quick] for row in shared}
    return found if not full else {name: n for name, n in found.items() if name not in ("chain", "chord")}


def main() -> int:
    """Install, measure, print; the exit code says whether nbq itself was measured whole."""
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is ended first
    if given.lock:
        contenders.lock(list(PEERS))
        return 0
    found = report.Report(given.rows, given.quick, given.repeat, os.getloadavg()[0])
    for peer in given.peers:
        say(f"installing {peer}")
        try:
            contenders.install(peer)
        except Absent as reason:
            found.absent[peer] = str(reason)
    taking_part = [*OWN, *(peer for peer in given.peers if peer not in found.absent)]
    for repetition in range(given.repeat):
        for name in taking_part:
            wanted = sizes(name, given.rows, given.quick)
            if wanted:
                say(f"{repetition + 1}/{given.repeat} {name}")
                found.runs.setdefault(name, []).append(contenders.run(name, wanted, LIMIT_S))
    print(report.text(found))
    if given.json:
        report.write_json(found, given.json)
    if given.write_docs:
        report.write_docs(found)
    return int(any(run.absent for run in found.runs["nbq"]))


def say(text: str) -> None:
    """Tell how far it is, beside the report."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
