"""``ProcessPoolExecutor`` of the standard library, two processes: no hub, no ids, nothing kept."""

from __future__ import annotations

import platform
from concurrent.futures import ProcessPoolExecutor

from benchmarks import script, work

CHUNK = 256


def main() -> None:
    """Measure the rows that it has."""
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(work.noop, range(10)))

        def map_rates(n: int) -> dict[str, float]:
            one = script.seconds(lambda: list(pool.map(work.noop, range(n))))
            many = n * script.CHUNKED
            chunked = script.seconds(lambda: list(pool.map(work.noop, range(many), chunksize=CHUNK)))
            return {"rate": n / one, "chunked": many / chunked}

        def submit_each(n: int) -> None:
            for future in [pool.submit(work.noop, i) for i in range(n)]:
                future.result()

        script.run(
            {
                "map": map_rates,
                "delay": lambda n: {"rate": n / script.seconds(lambda: submit_each(n))},
                "trip": lambda n: script.round_trips(lambda: pool.submit(work.noop).result(), n),
                "chain": "a call cannot take another call's value",
                "chord": "a call cannot take other calls' values",
                "array": lambda n: {
                    "none": 1e3 * script.there_and_back(lambda a: pool.submit(work.same, a).result(), n)
                },
            },
            {"ProcessPoolExecutor": platform.python_version()},
        )


if __name__ == "__main__":
    main()
