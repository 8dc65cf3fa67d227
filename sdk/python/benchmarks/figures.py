"""Measures the Python clients on a cluster of three servers and one agent on this machine; prints a table.

Submits per second are of suspended Jobs, so that what Pods do is not in them. Submit → done is of Jobs of one Pod that
runs `true`, one after another.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from stint import AsyncClient, Client, Job, make_job
from tests.cluster import Cluster

WARM_UP = 20


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin-dir", help="folder of stint and stint-agent; default: STINT_BIN_DIR")
    parser.add_argument(
        "--submits", type=int, default=1000, help="submits of each measurement (default 1000)"
    )
    parser.add_argument("--runs", type=int, default=100, help="Jobs run to their end (default 100)")
    arguments = parser.parse_args()
    if arguments.bin_dir:
        os.environ["STINT_BIN_DIR"] = arguments.bin_dir
    with Cluster(3) as cluster, Client(cluster.address_list) as client:
        suspended = make_job(["true"], suspend=True, namespace="figures")
        for _ in range(WARM_UP):
            client.submit(suspended)
            client.run(["true"]).wait()
        rows = [
            ("Client, 1 in flight", _submits(client, suspended, arguments.submits, 1)),
            ("Client, 16 in flight", _submits(client, suspended, arguments.submits, 16)),
        ]
        for n_in_flight in (1, 16):
            rate = asyncio.run(
                _async_submits(cluster.address_list, suspended, arguments.submits, n_in_flight)
            )
            rows.append((f"AsyncClient, {n_in_flight} in flight", rate))
        times = sorted(_submit_to_done(client) for _ in range(arguments.runs))
        for what, rate in rows:
            print(f"{what:28} {rate:8.0f} submits/s")
        print(f"{'submit → done, p50':28} {statistics.median(times) * 1000:8.1f} ms")
        print(f"{'submit → done, p90':28} {times[int(len(times) * 0.9)] * 1000:8.1f} ms")


def _submits(client: Client, job: Job, count: int, n_in_flight: int) -> float:
    with ThreadPoolExecutor(n_in_flight) as threads:
        begun = time.perf_counter()
        for done in [threads.submit(client.submit, job) for _ in range(count)]:
            done.result()
        return count / (time.perf_counter() - begun)


async def _async_submits(addresses: str, job: Job, count: int, n_in_flight: int) -> float:
    async with AsyncClient(addresses) as client:
        left = iter(range(count))

        async def submit() -> None:
            for _ in left:
                await client.submit(job)

        await client.status()
        begun = time.perf_counter()
        await asyncio.gather(*(submit() for _ in range(n_in_flight)))
        return count / (time.perf_counter() - begun)


def _submit_to_done(client: Client) -> float:
    begun = time.perf_counter()
    client.run(["true"]).wait()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
