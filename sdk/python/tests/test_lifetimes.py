"""Clients that end early, are shared, or are where they should not be: closing, cancelling, forks, loops, exits."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from socket import socket
from typing import Any

import grpc
import pytest

from stint import (
    AsyncClient,
    Change,
    Client,
    ClosedError,
    JobDeletedError,
    MisplacedError,
    OutcomeUnknownError,
    StintError,
    UnreachableError,
    make_job,
)
from stint.v1 import jobs_pb2, meta_pb2, pods_pb2
from tests import hostile
from tests.cluster import PATIENCE, Cluster, eventually
from tests.test_bad_input import CONNECTED, KINDS, create, event, logs, outcome, read, update, watch

N_WAITS = 1_500
"""More than a server takes on one connection."""


def begins_and_is_silent(_method: str, _request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    context.send_initial_metadata(())
    hostile.never("", b"", context)
    yield from ()


def asks_for_a_long_pause(_method: str, _request: bytes, context: grpc.ServicerContext) -> bytes:
    from base64 import b64decode

    from tests.wire_examples import details, retry_after

    encoded = b64decode(details("UNAVAILABLE", "later", "NoLeader", retry_after(10_000)))
    return hostile.ends_with(grpc.StatusCode.UNAVAILABLE, "later", encoded)("", b"", context)  # type: ignore[no-any-return]


CALLS: dict[str, Callable[[Any], Any]] = {"read": read, "create": create, "update": update}
STREAMS: dict[str, Callable[[Any], Any]] = {"watch": watch, "logs": logs}


@pytest.mark.parametrize("name", [*CALLS, *STREAMS])
@pytest.mark.parametrize("unary", [hostile.never, asks_for_a_long_pause], ids=["silent", "pause"])
async def test_cancelling_ends_any_call_at_once(name: str, unary: hostile.Answer) -> None:
    with hostile.grpc_server(unary, begins_and_is_silent) as address:
        async with AsyncClient(address, timeout=PATIENCE) as client:
            for delay in (0.0, 0.001, 0.3):
                given = (CALLS | STREAMS)[name](client)
                call: Awaitable[Any] = anext(given) if name in STREAMS else given
                task = asyncio.ensure_future(call)
                await asyncio.sleep(delay)
                begun = time.monotonic()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                # Less than the pause.
                assert time.monotonic() - begun < 8
            leftover = asyncio.create_task(anext(client.watch()))
            await asyncio.sleep(0.1)
    with pytest.raises((StopAsyncIteration, asyncio.CancelledError)):
        await asyncio.wait_for(leftover, PATIENCE)


@pytest.mark.parametrize("name", CALLS)
def test_closing_ends_a_pause_that_a_server_asked_for(name: str) -> None:
    with hostile.grpc_server(asks_for_a_long_pause) as address:
        client = Client(address, timeout=PATIENCE)
        closed: list[float] = []

        def close() -> None:
            closed.append(time.monotonic())
            client.close()

        threading.Timer(0.5, close).start()
        with pytest.raises(ClosedError):
            CALLS[name](client)
        # Less than the pause.
        assert time.monotonic() - closed[0] < 8

        async def main() -> None:
            client = AsyncClient(address, timeout=PATIENCE)
            calling = asyncio.create_task(CALLS[name](client))
            await asyncio.sleep(0.5)
            await client.close()
            with pytest.raises(ClosedError):
                await asyncio.wait_for(calling, 8)

        asyncio.run(main())


def test_a_watch_may_be_closed_while_it_waits_for_a_server() -> None:
    with hostile.raw_server(hostile.say_nothing) as address, Client(address, timeout=PATIENCE) as client:
        for stream in (client.watch(), client.logs("any")):
            threading.Timer(0.5, stream.close).start()
            begun = time.monotonic()
            assert list(stream) == []
            assert time.monotonic() - begun < PATIENCE / 2


@KINDS
def test_nothing_begins_with_a_closed_client(kind: type[Client]) -> None:
    async def main() -> None:
        client = AsyncClient("127.0.0.1:1")
        await client.close()
        await client.close()
        with pytest.raises(ClosedError):
            client.watch()
        with pytest.raises(ClosedError):
            client.logs("any")
        with pytest.raises(ClosedError):
            await client.run(["true"])

    if kind.__name__ == "AsyncClient":
        asyncio.run(main())
        return
    client = Client("127.0.0.1:1")
    client.close()
    client.close()
    for call in (read, create, update, watch, logs):
        with pytest.raises(ClosedError):
            call(client)


async def test_giving_up_waits_again_and_again_opens_one_stream() -> None:
    n_streams = [0]
    n_given_up = [0]

    def slow(_method: str, _request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        n_streams[0] += 1
        time.sleep(0.3)
        yield event(meta_pb2.WATCH_EVENT_TYPE_ADDED, 10, "a")
        while n_given_up[0] <= 3 and context.is_active():
            time.sleep(0.02)
        yield event(meta_pb2.WATCH_EVENT_TYPE_BOOKMARK, 10, None)
        hostile.never("", b"", context)

    with hostile.grpc_server(None, slow) as address:
        async with AsyncClient(address, timeout=PATIENCE) as client, client.watch() as watching:
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:
                try:
                    first = await asyncio.wait_for(anext(watching), 0.02)
                    break
                except (TimeoutError, asyncio.TimeoutError):
                    n_given_up[0] += 1
            assert isinstance(first, Change)
            assert first.object.metadata.name == "a"
            assert n_streams[0] == 1


async def test_tasks_and_threads_that_share_a_watch_get_each_event_once() -> None:
    last = 200

    def changes(_method: str, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        begin = jobs_pb2.WatchJobsRequest.FromString(request).from_revision
        for revision in range(begin + 1, last + 1):
            yield event(meta_pb2.WATCH_EVENT_TYPE_MODIFIED, revision, "a")
        hostile.never("", b"", context)

    seen: list[int] = []

    def take(watching: Any) -> None:
        for one in watching:
            seen.append(one.revision)

    async def take_async(watching: Any) -> None:
        async for one in watching:
            seen.append(one.revision)

    async def all_have_come() -> None:
        until = time.monotonic() + PATIENCE
        while len(seen) < last - 1:
            if time.monotonic() > until:
                return
            await asyncio.sleep(0.02)

    with hostile.grpc_server(None, changes) as address:
        async with AsyncClient(address, timeout=PATIENCE) as client:
            shared = client.watch(from_revision=1)
            tasks = [asyncio.create_task(take_async(shared)) for _ in range(4)]
            await all_have_come()
            shared.close()
            await asyncio.gather(*tasks)
            assert sorted(seen) == list(range(2, last + 1))
        seen.clear()
        with Client(address, timeout=PATIENCE) as sync_client, ThreadPoolExecutor(4) as threads:
            watching = sync_client.watch(from_revision=1)
            taking = [threads.submit(take, watching) for _ in range(4)]
            await all_have_come()
            watching.close()
            for taken in taking:
                taken.result()
            assert sorted(seen) == list(range(2, last + 1))


@KINDS
def test_a_stream_that_nobody_has_any_more_ends(kind: type[Client]) -> None:
    begun: list[int] = []
    ended: list[int] = []

    def open_one(_method: str, _request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        begun.append(1)
        if not context.add_callback(lambda: ended.append(1)):
            ended.append(1)
        yield event(meta_pb2.WATCH_EVENT_TYPE_MODIFIED, 8, "a")
        hostile.never("", b"", context)

    def all_have_ended() -> bool:
        return 0 < len(begun) == len(ended)

    async def main(address: str) -> None:
        async with AsyncClient(address, timeout=PATIENCE) as client:
            await anext(client.watch(from_revision=7))
            # One that was waited for, too.
            with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
                await asyncio.wait_for(anext(client.watch(from_revision=8)), 0.5)
            gc.collect()
            await asyncio.to_thread(eventually, "they end", all_have_ended)

    with hostile.grpc_server(None, open_one) as address:
        if kind.__name__ == "AsyncClient":
            asyncio.run(main(address))
            return
        with Client(address, timeout=PATIENCE) as client:
            next(client.watch(from_revision=7))
            gc.collect()
            eventually("it ends", all_have_ended)


def test_a_log_that_was_closed_half_way_is_not_given_as_all() -> None:
    def begun(_method: str, _request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield pods_pb2.PodLogsChunk(data=b"half", next_offset=4).SerializeToString()
        hostile.never("", b"", context)

    with hostile.grpc_server(None, begun) as address:
        with Client(address, timeout=PATIENCE) as client:
            log = client.logs("any")
            threading.Timer(0.5, log.close).start()
            with pytest.raises(ClosedError):
                log.read()

        async def main() -> None:
            async with AsyncClient(address, timeout=PATIENCE) as client:
                log = client.logs("any")
                asyncio.get_running_loop().call_later(0.5, log.close)
                with pytest.raises(ClosedError):
                    await log.read()

        asyncio.run(main())


def test_a_client_belongs_to_one_event_loop(cluster: Cluster) -> None:
    client = AsyncClient(cluster.address_list, timeout=60)

    async def look() -> int:
        return len(await client.list())

    async def watch_on() -> None:
        await anext(client.watch())

    assert asyncio.run(look()) > 0
    with pytest.raises(MisplacedError, match="event loop"):
        asyncio.run(look())
    with pytest.raises(MisplacedError, match="event loop"):
        asyncio.run(watch_on())
    asyncio.run(client.close())
    with pytest.raises(ClosedError):
        asyncio.run(look())


PROGRAM = """
import asyncio, os, sys, threading, time
from stint import *
address = sys.argv[1]

def fork(body):
    child = os.fork()
    if child == 0:
        try:
            body()
        except BaseException as error:
            print(type(error).__name__, flush=True)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
"""


def run_program(text: str, address: str, *, check: bool = True) -> str:
    """Run a program as somebody else would have it; give what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM + text, address],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if check:
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        assert "never" not in done.stderr, done.stderr
    return done.stdout


def test_a_process_that_was_forked_makes_a_client_of_its_own(cluster: Cluster) -> None:
    printed = run_program(
        """
with Client(address, timeout=60) as client:
    watch = client.watch()
    next(watch)
    fork(lambda: client.list())
    fork(lambda: next(watch))
    fork(lambda: (watch.close(), client.close()))
    def with_its_own():
        with Client(address, timeout=60) as own:
            print(len(own.list()) > 0, flush=True)
    fork(with_its_own)
    print("parent", len(client.list()) > 0)
""",
        cluster.address_list,
    )
    assert printed.split() == ["MisplacedError", "MisplacedError", "True", "parent", "True"]


@pytest.mark.parametrize(
    "text",
    [
        "client = Client(address, timeout=60); client.list(); watch = client.watch(); next(watch)",
        """
client = Client(address, timeout=60)
def follow():
    for event in client.watch(): pass
threading.Thread(target=follow, daemon=True).start()
time.sleep(0.5)
""",
        """
async def main():
    client = AsyncClient(address, timeout=60)
    await client.list()
    watch = client.watch()
    await anext(watch)
    task = asyncio.create_task(anext(client.watch(from_revision=(await client.list()).revision)))
    await asyncio.sleep(0.2)
asyncio.run(main())
""",
        """
async def main():
    async with AsyncClient(address, timeout=60) as client:
        async for event in client.watch():
            raise ZeroDivisionError
try:
    asyncio.run(main())
except ZeroDivisionError:
    pass
try:
    with Client(address, timeout=60) as client, client.watch() as watch:
        for event in watch:
            raise ZeroDivisionError
except ZeroDivisionError:
    pass
""",
    ],
    ids=["sync", "a thread", "asyncio", "exceptions"],
)
def test_programs_that_close_nothing_end(text: str, cluster: Cluster) -> None:
    assert run_program(text + "\nprint('end')", cluster.address_list) == "end\n"


@pytest.mark.parametrize("call", ["client.get('x')", "client.logs('x').read()", "next(client.watch())"])
def test_ctrl_c_ends_a_call_that_waits(call: str) -> None:
    def silent(_method: str, _request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        hostile.never("", b"", context)
        yield b""

    text = f"""
client = Client(address, timeout={PATIENCE})
print("begun", flush=True)
try:
    {call}
except KeyboardInterrupt:
    client.close()
    print("interrupted")
"""
    with hostile.grpc_server(hostile.never, silent) as address:
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM + text, address], stdout=subprocess.PIPE, text=True
        )
        assert program.stdout is not None
        assert program.stdout.readline() == "begun\n"
        # Before or after it is sent: it ends either way.
        time.sleep(1)
        program.send_signal(signal.SIGINT)
        try:
            assert program.communicate(timeout=PATIENCE / 2)[0] == "interrupted\n"
        finally:
            program.kill()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def go_away(connection: socket) -> None:
    """Greet, and say goodbye in the same breath."""
    connection.sendall(frame(4, 0, 0, b"") + frame(7, 0, 0, struct.pack(">II", 0, 0)))


def reset_all(connection: socket) -> None:
    """Refuse each stream of a connection."""
    connection.sendall(frame(4, 0, 0, b"") + frame(4, 1, 0, b""))
    connection.recv(1 << 16)
    connection.sendall(b"".join(frame(3, 0, stream, struct.pack(">I", 7)) for stream in range(1, 40, 2)))


@KINDS
@pytest.mark.parametrize("behave", [go_away, reset_all])
def test_a_server_that_ends_each_connection_or_stream(
    kind: type[Client], behave: Callable[[socket], None]
) -> None:
    with hostile.raw_server(behave) as address:
        for call in (read, watch, logs):
            error = outcome(kind, address, call, timeout=CONNECTED)
            assert isinstance(error, UnreachableError), error
        for call in (create, update):
            error = outcome(kind, address, call, timeout=CONNECTED)
            assert isinstance(error, (UnreachableError, OutcomeUnknownError)), error


async def test_more_waits_than_fit_on_a_connection_do_not_keep_calls_from_being_sent(
    cluster: Cluster,
) -> None:
    namespace = f"waits-{os.getpid()}"
    async with AsyncClient(cluster.address_list, timeout=PATIENCE) as client:
        job = make_job(["true"], suspend=True, namespace=namespace)
        handle = await client.submit(job)
        waits = [asyncio.create_task(handle.wait(4 * PATIENCE)) for _ in range(N_WAITS)]
        servers = client._connections[cluster.address_list]
        await asyncio.to_thread(
            eventually, "all have begun", lambda: sum(server.n_streams for server in servers) == N_WAITS
        )
        assert len(servers) == 3
        assert len(await client.list(namespace=namespace)) == 1
        await handle.delete()
        ends = await asyncio.gather(*waits, return_exceptions=True)
        assert [type(end) for end in ends] == [JobDeletedError] * N_WAITS


@KINDS
@pytest.mark.parametrize(
    "word", ["日本語 🦀 e\u0301 \u202e", "\x00", "\ud800"], ids=["words", "zero", "surrogate"]
)
def test_words_of_any_script_arrive_or_are_refused(kind: type[Client], word: str, cluster: Cluster) -> None:
    addresses = cluster.address_list
    for call in (
        lambda client: client.get(word),
        lambda client: client.run(["true"], name=word),
        lambda client: client.run(["true"], labels={word: "x"}),
        lambda client: client.list(label_selector=word),
        lambda client: client.submit(make_job(["true"]), request_id=word),
    ):
        if word == "\ud800":
            # What is no text is refused by protobuf, or by Python.
            with pytest.raises(ValueError, match="utf-8"):
                outcome(kind, addresses, call, timeout=60)
            continue
        given = outcome(kind, addresses, call, timeout=60)
        assert isinstance(given, StintError) or given.name.startswith("true-"), given
    if word.isprintable() or "日" in word:

        def echo(client: Any) -> Any:
            return client.run(["printf", "%s", word], annotations={"note": word})

        handle = outcome(kind, addresses, echo, timeout=60)
        with Client(addresses, timeout=60) as client:
            job = client.job(handle.name)
            job.wait(PATIENCE)
            assert job.get().metadata.annotations["note"] == word
            assert list(job.logs().lines()) == [word]
