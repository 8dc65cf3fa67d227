"""Decision 10 under faults: submits during two kills of the leader make each Job once, and each Job runs once."""

from __future__ import annotations

import asyncio
import collections
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from stint import (
    AsyncClient,
    Change,
    ChangeKind,
    Client,
    Job,
    OutcomeUnknownError,
    Relisted,
    UnavailableError,
    UnreachableError,
    is_complete,
    make_job,
    new_request_id,
)
from tests.cluster import PATIENCE, Cluster, eventually

N_JOBS = 10_000 if os.environ.get("STINT_TESTS_FULL") else 1_000
N_SUBMITTERS = 16
N_KILLS = 2
PATIENCE_FOR_ALL = 300.0 + N_JOBS / 5
NAMESPACE = "kills"


def kills(cluster: Cluster, submitted: list[str], n_jobs: int) -> None:
    """Kill the leader twice, each time in the middle of the submits, and start it again."""
    for number in range(1, N_KILLS + 1):
        wanted = n_jobs * number // (N_KILLS + 1)
        eventually(f"{wanted} jobs are submitted", lambda n=wanted: len(submitted) >= n, PATIENCE_FOR_ALL)  # type: ignore[misc]
        leader = cluster.kill_leader()
        time.sleep(1)
        cluster.start(leader)
        eventually("the killed server is back", lambda: len(cluster.client.status().members) == 3)


def payload(cluster: Cluster, name: str) -> list[str]:
    """Note that it ran, in a file that all Pods append to."""
    return ["/bin/sh", "-c", f"echo {name} >> {cluster.shared}/ran"]


def submit_until_known(client: Client, job: Job, unknown: list[str]) -> str:
    """Submit a Job until it is known to be there, always with the same request id. Returns its uid."""
    request_id = new_request_id()
    until = time.monotonic() + 240
    while time.monotonic() < until:
        try:
            handle = client.submit(job, request_id=request_id)
        except OutcomeUnknownError as error:
            unknown.append(error.request_id or "")
        except (UnreachableError, UnavailableError):
            # These attempts changed nothing; earlier ones may have.
            pass
        else:
            assert handle.submitted is not None
            assert handle.submitted.outcome != "already deleted"
            return handle.uid
    raise AssertionError(f"{job.metadata.name} could not be submitted")


def test_decision_10_jobs_submitted_while_leaders_are_killed_exist_and_run_once() -> None:
    with Cluster(3) as cluster:
        (cluster.shared / "ran").touch()
        (cluster.shared / "ran").chmod(0o666)
        submitted: list[str] = []
        unknown: list[str] = []
        uids: dict[str, str] = {}
        finished: dict[str, str] = {}
        n_relists = 0
        n_added = 0
        revisions: list[int] = []
        # Not from what there is: that has one revision for all.
        from_revision = cluster.client.list().revision

        def watch() -> None:
            nonlocal n_relists, n_added
            with cluster.client.watch(namespace=NAMESPACE, from_revision=from_revision) as events:
                for event in events:
                    if isinstance(event, Relisted):
                        n_relists += 1
                        jobs = event.objects
                    else:
                        assert event.kind is not ChangeKind.DELETED
                        n_added += event.kind is ChangeKind.ADDED
                        revisions.append(event.revision)
                        jobs = (event.object,)
                    for job in jobs:
                        if is_complete(job):
                            finished[job.metadata.name] = job.metadata.uid
                    if len(finished) == N_JOBS:
                        return

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        # A short time limit, so that calls which meet a dead leader end as unknown and have to be resolved.
        client = Client(cluster.address_list, timeout=1.0)

        def submit(number: int) -> None:
            name = f"job-{number}"
            job = make_job(payload(cluster, name), name=name, namespace=NAMESPACE)
            uids[name] = submit_until_known(client, job, unknown)
            submitted.append(name)

        killing = threading.Thread(target=kills, args=(cluster, submitted, N_JOBS))
        killing.start()
        with ThreadPoolExecutor(N_SUBMITTERS) as submitters:
            for done in [submitters.submit(submit, number) for number in range(N_JOBS)]:
                done.result()
        client.close()
        killing.join(PATIENCE_FOR_ALL)
        assert not killing.is_alive()
        watching.join(PATIENCE_FOR_ALL)

        assert len(finished) == N_JOBS
        assert finished == uids, "each Job is the one that its submit was answered with"
        jobs = cluster.client.list(namespace=NAMESPACE)
        assert {job.metadata.name: job.metadata.uid for job in jobs} == uids
        assert all((job.status.succeeded, job.status.failed) == (1, 0) for job in jobs)
        assert len(cluster.client.list_pods(namespace=NAMESPACE)) == N_JOBS
        ran = collections.Counter((cluster.shared / "ran").read_text().split())
        assert ran == collections.Counter(uids.keys()), "each ran once"
        if n_relists == 0:
            assert n_added == N_JOBS, "each came once"
            assert revisions == sorted(set(revisions))
        print(f"{N_JOBS} jobs, {len(unknown)} unknown outcomes resolved, {n_relists} relists")


async def test_decision_10_the_asynchronous_client_resolves_outcomes_by_itself() -> None:
    n_jobs = N_JOBS // 5
    with Cluster(3) as cluster:
        submitted: list[str] = []
        killing = threading.Thread(target=kills, args=(cluster, submitted, n_jobs))
        killing.start()
        async with AsyncClient(cluster.address_list, timeout=60) as client:
            uids: dict[str, str] = {}
            finished: set[str] = set()

            async def watch() -> None:
                async with client.watch(namespace=NAMESPACE) as events:
                    async for event in events:
                        jobs = (event.object,) if isinstance(event, Change) else event.objects
                        finished.update(job.metadata.uid for job in jobs if is_complete(job))
                        if len(finished) == n_jobs:
                            return

            async def submit(numbers: list[int]) -> None:
                for number in numbers:
                    handle = await client.run(["true"], name=f"job-{number}", namespace=NAMESPACE)
                    uids[handle.name] = handle.uid
                    submitted.append(handle.name)

            watching = asyncio.create_task(watch())
            shares = [list(range(first, n_jobs, N_SUBMITTERS)) for first in range(N_SUBMITTERS)]
            await asyncio.wait_for(asyncio.gather(*map(submit, shares)), PATIENCE_FOR_ALL)
            await asyncio.wait_for(watching, PATIENCE_FOR_ALL)
            assert finished == set(uids.values())
            assert {job.metadata.uid for job in await client.list(namespace=NAMESPACE)} == finished
        await asyncio.to_thread(killing.join, PATIENCE_FOR_ALL)
        assert not killing.is_alive()


def test_a_leader_that_stops_without_a_word_is_left_for_another() -> None:
    with Cluster(3, client_timeout=PATIENCE) as cluster:
        eventually("a leader", lambda: cluster.leader() is not None)
        handle = cluster.client.run(["sleep", "5"])
        watch = cluster.client.watch_pods(job=handle.name)
        next(watch)
        leader = cluster.leader()
        assert leader is not None
        cluster.pause(leader)
        try:
            assert cluster.client.get(handle.name).metadata.uid == handle.uid
            handle.wait(PATIENCE)
            for event in watch:
                objects = (event.object,) if isinstance(event, Change) else event.objects
                if any(pod.status.phase == 3 for pod in objects):
                    break
        finally:
            cluster.resume(leader)
        watch.close()
