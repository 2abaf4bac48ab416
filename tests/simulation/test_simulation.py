"""Many worlds from many seeds: every invariant holds in all of them, and broken hubs are caught."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nbq.hub import Hub
from tests.simulation.canaries import CountingHub, EarlyHub, UnfencedHub
from tests.simulation.workload import Violation
from tests.simulation.world import simulate

SEEDS = 500
PARTS = 20
CANARY_SEEDS = 100


@pytest.mark.parametrize("part", range(PARTS))
def test_every_invariant_holds_in_every_world(part: int) -> None:
    failures: list[str] = []
    for seed in range(part, SEEDS, PARTS):
        try:
            simulate(seed)
        except Exception as error:  # whatever the code under test raises is a finding
            failures.append(
                f"{type(error).__name__}: {error}\n  python -m tests.simulation --seed {seed} --verbose"
            )
    assert failures == []


def test_a_seed_decides_everything_that_happens() -> None:
    seeds = range(1000, 1010)
    assert [simulate(seed) for seed in seeds] == [simulate(seed) for seed in seeds]


def test_nothing_depends_on_the_order_of_hashes() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seed", "1000", "--seeds", "5", "--digests"]
    root = Path(__file__).parents[2]
    digests = [
        subprocess.run(
            command,
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for seed in ("0", "1")
    ]
    assert digests == [[simulate(seed) for seed in range(1000, 1005)]] * 2


@pytest.mark.parametrize(
    ("hub_type", "invariants"),
    [
        (EarlyHub, {"acked is kept"}),
        (UnfencedHub, {"fencing"}),
        (
            CountingHub,
            {"counters", "after parents"},
        ),  # an audit finds the counter, or a body starts too early
    ],
)
def test_a_planted_fault_is_caught(hub_type: type[Hub], invariants: set[str]) -> None:
    assert first_violation(hub_type) in invariants


def first_violation(hub_type: type[Hub]) -> str:
    for seed in range(CANARY_SEEDS):
        try:
            simulate(seed, hub_type=hub_type)
        except Violation as violation:
            return violation.name
    return f"nothing in {CANARY_SEEDS} worlds"
