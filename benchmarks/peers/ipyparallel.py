"""ipyparallel: a controller and two engines, through a load-balanced view."""

from __future__ import annotations

import logging
import tempfile

import ipyparallel

from benchmarks import script, work

CHUNK = 256


def measures(view: ipyparallel.LoadBalancedView) -> dict[str, script.Measure | str]:
    """Return what can be measured."""

    def mapped(n: int, chunk: int) -> float:
        return n / script.seconds(lambda: view.map_async(work.noop, range(n), chunksize=chunk).get())

    def submit_each(n: int) -> None:
        for result in [view.apply_async(work.noop, i) for i in range(n)]:
            result.get()

    return {
        "map": lambda n: {"rate": mapped(n, 1), "chunked": mapped(n * script.CHUNKED, CHUNK)},
        "delay": lambda n: {"rate": n / script.seconds(lambda: submit_each(n))},
        "trip": lambda n: script.round_trips(lambda: view.apply_sync(work.noop), n),
        "chain": "a call cannot take another call's value",
        "chord": "a call cannot take other calls' values",
        "array": lambda n: {"none": 1e3 * script.there_and_back(lambda a: view.apply_sync(work.same, a), n)},
    }


def main() -> None:
    """Start the cluster and measure; ``hwm`` 0 is what its documentation advises for short tasks."""
    with tempfile.TemporaryDirectory() as folder:
        cluster = ipyparallel.Cluster(
            n=2,
            profile_dir=folder,
            controller_args=["--TaskScheduler.hwm=0"],
            log_level=logging.ERROR,
        )
        with cluster as client:
            client.wait_for_engines(2, timeout=60, interactive=False)
            view = client.load_balanced_view()
            view.map_async(work.noop, range(100)).get()
            script.run(measures(view), {"ipyparallel": ipyparallel.__version__})


if __name__ == "__main__":
    main()
