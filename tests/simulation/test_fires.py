"""Every fire time exactly once, over days in which the hub is killed at any instant and clocks jump."""

import pytest

from tests.simulation.canaries import TornHub
from tests.simulation.fires import Fires
from tests.simulation.workload import Violation

SEEDS = 12
CANARY_SEEDS = 20


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_fire_time_is_dealt_with_once(seed: int) -> None:
    world = Fires(seed)
    ledger = world.run()
    assert world.kills > 0
    assert len(ledger.ran) > 50


def test_a_hub_that_is_killed_a_hundred_times_loses_none() -> None:
    world = Fires(1000, days=5.0, kills=130)
    ledger = world.run()
    assert world.kills >= 100
    assert len(ledger.ran) > 200


def test_a_fire_that_is_torn_from_its_run_is_caught() -> None:
    found = set()
    for seed in range(CANARY_SEEDS):
        try:
            Fires(seed, hub_type=TornHub).run()
        except Violation as violation:
            found.add(violation.name)
    assert found == {"one decision"}
