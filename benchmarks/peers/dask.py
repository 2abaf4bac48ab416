"""Dask distributed: a scheduler and two worker processes of one thread each, on this machine."""

from __future__ import annotations

import tempfile

import distributed

from benchmarks import script, work

BATCH = 1_000


def measures(client: distributed.Client) -> dict[str, script.Measure | str]:
    """Return what can be measured; ``pure=False`` as every call must run."""

    def mapped(n: int, **options: int) -> float:
        return n / script.seconds(
            lambda: client.gather(client.map(work.noop, range(n), pure=False, **options))
        )

    def submit_each(n: int) -> None:
        for future in [client.submit(work.noop, i, pure=False) for i in range(n)]:
            future.result()

    def chain(n: int) -> None:
        future = client.submit(work.step, 0, pure=False)
        for _ in range(n - 1):
            future = client.submit(work.step, future, pure=False)
        assert future.result() == n

    def chord(n: int) -> None:
        header = client.map(work.noop, range(n), pure=False)
        assert client.submit(work.count, header, pure=False).result() == n

    def there_and_back(array: object) -> object:
        return client.submit(work.same, client.scatter(array, direct=True), pure=False).result()

    return {
        "map": lambda n: {"rate": mapped(n), "chunked": mapped(n, batch_size=BATCH)},
        "delay": lambda n: {"rate": n / script.seconds(lambda: submit_each(n))},
        "trip": lambda n: script.round_trips(lambda: client.submit(work.noop, pure=False).result(), n),
        "chain": lambda n: {"step": 1e3 * script.seconds(lambda: chain(n)) / n},
        "chord": lambda n: {"rate": n / script.seconds(lambda: chord(n))},
        "array": lambda n: {"none": 1e3 * script.there_and_back(there_and_back, n)},
    }


def main() -> None:
    """Start the cluster and measure."""
    with (
        tempfile.TemporaryDirectory() as folder,
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            local_directory=folder,
            silence_logs=40,
        ) as cluster,
        distributed.Client(cluster, direct_to_workers=True) as client,
    ):
        client.gather(client.map(work.noop, range(100), pure=False))
        script.run(measures(client), {"distributed": distributed.__version__})


if __name__ == "__main__":
    main()
