"""Jobs, watches and logs of both clients, on a real cluster."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid

import pytest

from stint import (
    AlreadyExistsError,
    AsyncClient,
    Change,
    ChangeKind,
    Client,
    ClosedError,
    ConflictError,
    JobDeletedError,
    JobFailedError,
    NotFoundError,
    OutcomeUnknownError,
    Relisted,
    WaitTimeoutError,
    is_complete,
    is_failed,
    make_job,
)
from tests.cluster import PATIENCE, Cluster, eventually


def new_name(what: str) -> str:
    return f"{what}-{uuid.uuid4().hex[:8]}"


def test_a_job_runs_to_its_end_and_its_pods_and_logs_are_there(client: Client) -> None:
    handle = client.run(
        ["sh", "-c", "echo out $JOB_COMPLETION_INDEX $WORD; echo err >&2"],
        completions=10,
        parallelism=4,
        indexed=True,
        env={"WORD": "täglich"},
    )
    job = handle.wait(PATIENCE)
    assert is_complete(job)
    assert job.status.succeeded == 10
    pods = handle.pods()
    assert sorted(pod.completion_index for pod in pods) == list(range(10))
    for pod in pods:
        with client.logs(pod.metadata.name) as log:
            lines = list(log.lines())
            assert log.source is not None
            assert log.source.pod_name == pod.metadata.name
        assert sorted(lines) == ["err", f"out {pod.completion_index} täglich"]
    one = client.run(["sh", "-c", "echo only errors >&2"])
    one.wait(PATIENCE)
    assert b"".join(piece.data for piece in one.logs()) == b"only errors\n"
    assert handle.get().metadata.uid == handle.uid
    assert client.get_pod(pods.items[0].metadata.name).status.phase > 0


def test_a_job_that_fails_is_told_by_its_reason(client: Client) -> None:
    handle = client.run(["sh", "-c", "exit 3"], retries=0)
    with pytest.raises(JobFailedError, match="BackoffLimitExceeded") as caught:
        handle.wait(PATIENCE)
    assert caught.value.reason == "BackoffLimitExceeded"
    assert is_failed(handle.wait(PATIENCE, check=False))
    assert is_failed(client.job(handle.name).wait(PATIENCE, check=False))


def test_waiting_ends_in_time_and_with_the_job(client: Client) -> None:
    handle = client.run(["sleep", "1000"], grace=1)
    begun = time.monotonic()
    with pytest.raises(WaitTimeoutError):
        handle.wait(0.5)
    with pytest.raises(TimeoutError):
        handle.wait(0)
    assert time.monotonic() - begun < PATIENCE
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            handle.wait(PATIENCE)
        except JobDeletedError as error:
            ended.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.3)
    handle.delete()
    waiting.join(PATIENCE)
    assert len(ended) == 1
    handle.delete()
    with pytest.raises(NotFoundError):
        handle.get()
    with pytest.raises(NotFoundError):
        client.delete(handle.name)
    with pytest.raises(NotFoundError):
        client.delete(handle.name, uid="")


def test_many_jobs_are_waited_for_at_once(client: Client) -> None:
    handles = [
        client.run(["true"], name=f"j{number}", namespace=namespace)
        for namespace in (new_name("all"), new_name("all"))
        for number in range(10)
    ]
    jobs = client.wait_all(handles, PATIENCE)
    assert [job.metadata.uid for job in jobs] == [handle.uid for handle in handles]
    assert all(is_complete(job) for job in jobs)
    assert client.wait_all(handles, PATIENCE) == jobs, "what has ended is known"
    assert client.wait_all([]) == []
    handles.append(client.run(["false"], retries=0))
    with pytest.raises(JobFailedError):
        client.wait_all(handles, PATIENCE)
    assert is_failed(client.wait_all(handles, PATIENCE, check=False)[-1])
    handles.append(client.run(["sleep", "1000"], grace=1))
    with pytest.raises(WaitTimeoutError, match="22 jobs have not ended within"):
        client.wait_all(handles, 0.3)
    handles[-1].delete()
    with pytest.raises(JobDeletedError):
        client.wait_all(handles, PATIENCE)


def test_a_name_that_another_job_took_is_not_mistaken_for_the_first(client: Client) -> None:
    name = new_name("twice")
    first = client.run(["sleep", "1000"], name=name, grace=1)
    first.delete()
    second = client.run(["sleep", "1000"], name=name, grace=1)
    with pytest.raises(NotFoundError, match="another one"):
        first.get()
    with pytest.raises(JobDeletedError):
        first.wait(PATIENCE)
    with pytest.raises(ConflictError):
        client.delete(name, uid=first.uid)
    second.delete()


def test_decision_10_a_request_id_makes_one_job_however_often_it_is_sent(client: Client) -> None:
    job = make_job(["true"])
    first = client.submit(job, request_id=new_name("id"))
    assert first.submitted is not None
    assert first.submitted.outcome == "created"
    again = client.submit(job, request_id=first.submitted.request_id)
    assert again.submitted is not None
    assert again.submitted.outcome == "already existed"
    assert (again.uid, again.name) == (first.uid, first.name)
    again.wait(PATIENCE)
    first.delete()
    gone = client.submit(job, request_id=first.submitted.request_id)
    assert gone.submitted is not None
    assert gone.submitted.outcome == "already deleted"
    with pytest.raises(JobDeletedError):
        gone.wait(1)
    named = make_job(["true"], name=new_name("named"))
    client.submit(named)
    with pytest.raises(AlreadyExistsError):
        client.submit(named)


def test_an_update_has_preconditions(client: Client) -> None:
    handle = client.run(["true"], suspend=True)
    job = handle.get()
    job.spec.parallelism = 3
    changed = client.update(job)
    assert changed.spec.parallelism == 3
    with pytest.raises(ConflictError):
        client.update(job)
    changed.spec.suspend = False
    client.update(changed)
    handle.wait(PATIENCE)


def test_lists_come_whole_and_filtered(client: Client) -> None:
    namespace = new_name("many")
    for number in range(12):
        client.run(
            ["true"],
            name=f"j{number:02}",
            namespace=namespace,
            labels={"parity": ("even", "odd")[number % 2]},
            suspend=True,
        )
    listed = client.list(namespace=namespace)
    assert [job.metadata.name for job in listed] == [f"j{number:02}" for number in range(12)]
    assert listed.revision > 0
    assert len(client.list(namespace=namespace, label_selector="parity=odd")) == 6
    assert len(client.list(all_namespaces=True, label_selector="parity in (even, odd)")) == 12
    assert len(client.list_pods(namespace=namespace)) == 0


def test_a_watch_gives_what_there_is_and_then_each_change_once(client: Client) -> None:
    namespace = new_name("watched")
    client.run(["true"], name="before", namespace=namespace, suspend=True)
    seen: list[tuple[str, str]] = []
    revisions: list[int] = []
    with client.watch(namespace=namespace) as watch:
        event = next(watch)
        assert isinstance(event, Change)
        assert (event.kind, event.object.metadata.name) == (ChangeKind.ADDED, "before")
        handle = client.run(["true"], name="after", namespace=namespace)
        handle.wait(PATIENCE)
        handle.delete()
        for event in watch:
            assert isinstance(event, Change)
            seen.append((event.kind.value, event.object.metadata.name))
            revisions.append(event.revision)
            if event.kind is ChangeKind.DELETED:
                break
    assert seen[0] == ("added", "after")
    assert seen[-1] == ("deleted", "after")
    assert {kind for kind, _ in seen[1:-1]} == {"modified"}
    assert revisions == sorted(set(revisions))
    # From a revision in between the rest comes again, and only that.
    with client.watch(namespace=namespace, from_revision=revisions[1]) as watch:
        rest = []
        for event in watch:
            rest.append(event.revision)
            if len(rest) == len(revisions) - 2:
                break
    assert rest == revisions[2:]


def test_a_watch_of_pods_sees_them_come_and_end(client: Client) -> None:
    handle = client.run(["true"], completions=3)
    assert handle.submitted is not None
    phases: dict[str, int] = {}
    with client.watch_pods(job=handle.name, from_revision=handle.submitted.revision) as watch:
        for event in watch:
            assert isinstance(event, Change)
            phases[event.object.metadata.name] = event.object.status.phase
            if len(phases) == 3 and set(phases.values()) == {3}:
                break


def test_closing_ends_whoever_waits(client: Client, cluster: Cluster) -> None:
    other = Client(cluster.address_list)
    handle = other.run(["sleep", "1000"], grace=1)
    watch, log = other.watch(from_revision=other.list().revision), handle.logs(follow=True)
    ended: list[str] = []

    def drain(what: str, stream: object) -> None:
        for _ in stream:  # type: ignore[attr-defined]
            pass
        ended.append(what)

    def wait() -> None:
        try:
            handle.wait()
        except ClosedError:
            ended.append("wait")

    threads = [
        threading.Thread(target=drain, args=("watch", watch)),
        threading.Thread(target=drain, args=("log", log)),
        threading.Thread(target=wait),
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    watch.close()
    threads[0].join(PATIENCE)
    assert ended == ["watch"]
    other.close()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(ended) == ["log", "wait", "watch"]
    with pytest.raises(ClosedError):
        other.status()
    client.delete(handle.name)


def test_a_log_is_followed_while_it_is_written(client: Client) -> None:
    handle = client.run(["sh", "-c", "for n in 1 2 3 4 5; do echo line $n; sleep 0.2; done"])
    log = handle.logs(follow=True, timestamps=True)
    lines = list(log.lines())
    assert [line.partition(" ")[2] for line in lines] == [f"line {number}" for number in range(1, 6)]
    assert list(handle.logs(tail_lines=2).lines()) == ["line 4", "line 5"]
    assert handle.logs(since=3600.0).read().count(b"\n") == 5
    with pytest.raises(NotFoundError):
        client.logs("no-such-pod").read()


def test_a_watch_that_was_left_behind_tells_of_its_relist() -> None:
    with Cluster(1) as cluster:
        client = cluster.client
        old = client.list().revision
        handle = client.run(["true"], name="later")
        handle.wait(PATIENCE)
        running = client.watch(from_revision=old)
        assert isinstance(next(running), Change)
        # What servers keep for watches is in their memory.
        cluster.kill("s1")
        cluster.start("s1")
        eventually("the server is back", lambda: cluster.leader() is not None)
        with client.watch(from_revision=old) as watch:
            event = next(watch)
            assert isinstance(event, Relisted)
            assert {job.metadata.name for job in event.objects} == {"first", "later"}
            client.run(["true"], name="third")
            added = next(watch)
            assert isinstance(added, Change)
            assert added.object.metadata.name == "third"
            assert added.revision > event.revision
        # The one that was open all the time has missed things, or not; it goes on and says which.
        for event in running:
            if isinstance(event, Relisted) or event.object.metadata.name == "third":
                break
        running.close()


async def test_the_asynchronous_client_does_the_same(async_client: AsyncClient) -> None:
    handle = await async_client.run(["sh", "-c", "echo hello; echo world"], completions=3, parallelism=2)
    job = await handle.wait(PATIENCE)
    assert job.status.succeeded == 3
    pods = await handle.pods()
    assert len(pods) == 3
    async with async_client.logs(pods.items[0].metadata.name) as log:
        assert [line async for line in log.lines()] == ["hello", "world"]
    assert await handle.logs().read() == b"hello\nworld\n"
    assert (await async_client.get(handle.name)).metadata.uid == handle.uid
    assert handle.name in {one.metadata.name for one in await async_client.list()}
    assert (await async_client.status()).leader == "s1"
    job = await async_client.submit_and_wait(make_job(["true"]), timeout=PATIENCE)
    assert is_complete(job)
    failing = await async_client.run(["false"], retries=0)
    with pytest.raises(JobFailedError):
        await failing.wait(PATIENCE)
    await handle.delete()
    with pytest.raises(NotFoundError):
        await handle.get()
    many = [await async_client.run(["true"]) for _ in range(10)]
    jobs = await async_client.wait_all(many, PATIENCE)
    assert [one.metadata.uid for one in jobs] == [one.uid for one in many]
    sleeping = await async_client.run(["sleep", "1000"], grace=1)
    with pytest.raises(WaitTimeoutError):
        await async_client.wait_all([*many, sleeping], 0.3)
    with pytest.raises(WaitTimeoutError):
        await sleeping.wait(0.3)
    known = await async_client.job(sleeping.name)
    deleted = asyncio.create_task(known.wait(PATIENCE))
    await asyncio.sleep(0.3)
    await sleeping.delete()
    with pytest.raises(JobDeletedError):
        await deleted


async def test_giving_up_a_wait_for_a_change_loses_none(async_client: AsyncClient) -> None:
    namespace = new_name("patient")
    n_jobs = 30
    submitting = asyncio.gather(
        *(async_client.run(["true"], name=f"j{n}", namespace=namespace, suspend=True) for n in range(n_jobs))
    )
    names: list[str] = []
    revisions: list[int] = []
    n_given_up = 0
    async with async_client.watch(namespace=namespace) as watch:
        until = time.monotonic() + PATIENCE
        patience = 0.0005
        while len(names) < n_jobs and time.monotonic() < until:
            try:
                event = await asyncio.wait_for(anext(watch), patience)
            except (TimeoutError, asyncio.TimeoutError):
                n_given_up += 1
                # Long enough to get there in the end, on any machine.
                patience *= 1.1
            else:
                assert isinstance(event, Change)
                # Those that were there at first share the revision of that view.
                if event.kind is ChangeKind.ADDED:
                    names.append(event.object.metadata.name)
                else:
                    revisions.append(event.revision)
    await submitting
    assert revisions == sorted(set(revisions))
    assert sorted(names) == sorted(f"j{n}" for n in range(n_jobs))
    assert n_given_up > 0


async def test_closing_the_asynchronous_client_ends_whoever_waits(cluster: Cluster) -> None:
    client = AsyncClient(cluster.address_list)
    handle = await client.run(["sleep", "1000"], grace=1)
    watch = client.watch(from_revision=(await client.list()).revision)
    log = handle.logs(follow=True)

    async def drain(stream: object) -> str:
        async for _ in stream:  # type: ignore[attr-defined]
            pass
        return "ended"

    waiting = [
        asyncio.create_task(drain(watch)),
        asyncio.create_task(drain(log)),
        asyncio.create_task(handle.wait()),
    ]
    await asyncio.sleep(0.5)
    await client.close()
    first, second, third = await asyncio.wait_for(
        asyncio.gather(*waiting, return_exceptions=True), timeout=PATIENCE
    )
    assert (first, second) == ("ended", "ended")
    assert isinstance(third, ClosedError)
    with pytest.raises(ClosedError):
        await client.status()
    with Client(cluster.address_list) as other:
        other.delete(handle.name)


async def test_cancelling_a_call_is_not_taken_for_its_end(async_client: AsyncClient) -> None:
    async with async_client.watch(from_revision=(await async_client.list()).revision) as watch:
        waiting = asyncio.create_task(anext(watch))
        await asyncio.sleep(0.2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


def test_an_outcome_unknown_names_the_request_to_ask_for() -> None:
    error = OutcomeUnknownError("connection reset")
    assert error.request_id is None
    assert "look at the object" in str(error)
