"""Ray: a local node of two processors."""

from __future__ import annotations

import logging
import tempfile

import ray
from ray.util.multiprocessing import Pool

from benchmarks import script, work

CHUNK = 256


def measures() -> dict[str, script.Measure | str]:
    """Return what can be measured."""
    noop, step, same = (ray.remote(function) for function in (work.noop, work.step, work.same))

    def map_rates(n: int) -> dict[str, float]:
        one = script.seconds(lambda: ray.get([noop.remote(i) for i in range(n)]))
        with Pool(2) as pool:
            pool.map(work.noop, range(10))
            many = n * script.CHUNKED
            chunked = script.seconds(lambda: pool.map(work.noop, range(many), chunksize=CHUNK))
        return {"rate": n / one, "chunked": many / chunked}

    def submit_each(n: int) -> None:
        for ref in [noop.remote(i) for i in range(n)]:
            ray.get(ref)

    def chain(n: int) -> None:
        ref = step.remote(0)
        for _ in range(n - 1):
            ref = step.remote(ref)
        assert ray.get(ref) == n

    @ray.remote
    def count_all(*values: object) -> int:
        return work.count(list(values))

    def chord(n: int) -> None:
        assert ray.get(count_all.remote(*[noop.remote(i) for i in range(n)])) == n

    return {
        "map": map_rates,
        "delay": lambda n: {"rate": n / script.seconds(lambda: submit_each(n))},
        "trip": lambda n: script.round_trips(lambda: ray.get(noop.remote()), n),
        "chain": lambda n: {"step": 1e3 * script.seconds(lambda: chain(n)) / n},
        "chord": lambda n: {"rate": n / script.seconds(lambda: chord(n))},
        "array": lambda n: {"none": 1e3 * script.there_and_back(lambda a: ray.get(same.remote(a)), n)},
    }


def main() -> None:
    """Start the node and measure."""
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=True,
        logging_level=logging.ERROR,
        _temp_dir=tempfile.gettempdir(),  # else its own folder, which it leaves behind
    )
    try:
        ray.get([ray.remote(work.noop).remote(i) for i in range(100)])
        script.run(measures(), {"ray": ray.__version__})
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
