"""Bad input, and servers that are down, wrong or hostile: each gives an error of its own type, and nothing hangs."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from stint import (
    AddressError,
    AlreadyExistsError,
    AnswerError,
    AsyncClient,
    Change,
    Client,
    InvalidError,
    Job,
    LimitExceededError,
    NotFoundError,
    OutcomeUnknownError,
    RefusedError,
    Relisted,
    StintError,
    TokenError,
    UnauthenticatedError,
    UnavailableError,
    UnreachableError,
    make_job,
)
from stint.v1 import cluster_pb2, jobs_pb2, meta_pb2, pods_pb2
from tests import hostile, wire_examples
from tests.cluster import Cluster, free_ports
from tests.wire_examples import details, retry_after

SLACK = 60.0
"""Seconds by which a slow machine may miss a time limit."""

AT_ONCE = 30.0
"""Time limit of calls that end long before it: with the first answer, however slow the machine is."""

CONNECTED = 1.5
"""Time limit of calls that run into it, once there is a connection."""

KINDS = pytest.mark.parametrize("kind", [Client, AsyncClient], ids=["sync", "asyncio"])


def outcome(
    kind: type[Client] | type[AsyncClient],
    addresses: str,
    call: Callable[[Any], Any],
    *,
    timeout: float = 0.5,
    token: str | None = None,
) -> Any:
    """Make one call of either client; returns what it gave, or the error. Fails if it takes much too long."""
    begun = time.monotonic()

    async def run_async() -> Any:
        async with AsyncClient(addresses, timeout=timeout, token=token) as client:
            given = call(client)
            return await given if inspect.isawaitable(given) else [one async for one in given]

    def run() -> Any:
        with Client(addresses, timeout=timeout, token=token) as client:
            given = call(client)
            return list(given) if isinstance(given, Iterator) else given

    result: Any
    try:
        result = run() if kind is Client else asyncio.run(run_async())
    except StintError as error:
        result = error
    assert time.monotonic() - begun < timeout + SLACK
    return result


def collecting(seen: list[Any], call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make a call that keeps what a stream gives before its error."""

    async def collect(stream: Any) -> None:
        async for one in stream:
            seen.append(one)

    def begin(client: Any) -> Any:
        stream = call(client)
        if isinstance(client, AsyncClient):
            return collect(stream)
        for one in stream:
            seen.append(one)
        return None

    return begin


def read(client: Any) -> Any:
    return client.get("any")


def create(client: Any) -> Any:
    return client.submit(make_job(["true"]))


def update(client: Any) -> Any:
    return client.update(make_job(["true"], name="any"))


def watch(client: Any) -> Any:
    return client.watch()


def logs(client: Any) -> Any:
    return client.logs("any", follow=True)


ADDRESSES = json.loads((wire_examples.FILE.parent / "addresses.json").read_text())


@pytest.mark.parametrize("text", [*ADDRESSES["refused"], ",".join(f"h{number}:1" for number in range(65))])
def test_texts_that_are_no_addresses_are_refused_at_once(text: str) -> None:
    with pytest.raises(AddressError, match="not the address"):
        Client(text)
    with pytest.raises(ValueError, match="not the address"):
        AsyncClient(text)


@pytest.mark.parametrize("text", ADDRESSES["taken"])
def test_addresses_are_taken(text: str) -> None:
    Client(text).close()


@pytest.mark.parametrize("token", ["", " \n", "two words", "schlüssel", "a\x00b", "x" * 5000])
def test_tokens_that_can_t_be_sent_are_refused_and_never_shown(token: str) -> None:
    with pytest.raises(TokenError) as caught:
        Client("h:1", token=token)
    assert not token.strip() or token not in str(caught.value)


def test_a_token_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STINT_TOKEN_FILE", str(tmp_path / "missing"))
    with pytest.raises(TokenError, match="missing"):
        Client("h:1")
    monkeypatch.setenv("STINT_SERVER", "nonsense")
    with pytest.raises(AddressError, match="nonsense"):
        Client(token="t")


def test_arguments_that_make_no_sense_are_refused() -> None:
    for timeout in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="more than 0"):
            Client("h:1", timeout=timeout)
    with Client("h:1") as client:
        for timeout in (0, -1, float("nan")):
            with pytest.raises(ValueError, match="more than 0"):
                client.submit(make_job(["true"]), timeout=timeout)
        for timeout in (-1, float("nan")):
            with pytest.raises(ValueError, match="at least 0"):
                client.wait_all([], timeout)
        for request_id in ("", "x" * 129):
            with pytest.raises(ValueError, match="128"):
                client.submit(make_job(["true"]), request_id=request_id)


@KINDS
@pytest.mark.parametrize("call", [read, create, update, watch, logs])
def test_a_server_that_is_not_there(kind: type[Client], call: Callable[[Any], Any]) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    error = outcome(kind, address, call)
    assert isinstance(error, UnreachableError), error
    assert address in str(error)


@KINDS
def test_a_name_that_nobody_knows(kind: type[Client]) -> None:
    error = outcome(kind, "no-such-host.invalid:7440", create, timeout=2)
    assert isinstance(error, UnreachableError), error


@KINDS
def test_a_server_behind_a_firewall_is_known_not_to_have_got_anything(
    kind: type[Client], cluster: Cluster
) -> None:
    with hostile.unanswered_port() as address:
        error = outcome(kind, address, create, timeout=4)
        assert isinstance(error, UnreachableError), error
        # So even a write that must not be repeated goes on to the next server.
        begun = time.monotonic()
        error = outcome(kind, f"{address},{cluster.address_list}", update, timeout=AT_ONCE)
        assert isinstance(error, NotFoundError), error
        assert time.monotonic() - begun < AT_ONCE / 2


@KINDS
@pytest.mark.parametrize(
    "behave",
    [
        hostile.say_nothing,
        hostile.hang_up,
        hostile.speak_http1,
        hostile.speak_garbage,
        hostile.half_close,
    ],
)
@pytest.mark.parametrize("call", [read, create, watch, logs])
def test_a_server_of_another_kind(
    kind: type[Client], behave: Callable[[Any], None], call: Callable[[Any], Any]
) -> None:
    with hostile.raw_server(behave) as address:
        error = outcome(kind, address, call)
        # Of a create nobody knows how much such a server has understood.
        assert isinstance(error, (UnreachableError, OutcomeUnknownError)), error
        if call is not create:
            assert isinstance(error, UnreachableError), error


@KINDS
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (read, UnreachableError),
        (create, OutcomeUnknownError),
        (update, OutcomeUnknownError),
        (watch, UnreachableError),
        (logs, UnreachableError),
    ],
)
def test_a_server_that_takes_calls_and_never_answers(
    kind: type[Client], call: Callable[[Any], Any], expected: type[StintError]
) -> None:
    def never_begins(method: str, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        hostile.never(method, request, context)
        yield b""

    with hostile.grpc_server(hostile.never, never_begins) as address:
        error = outcome(kind, address, call, timeout=CONNECTED)
    assert isinstance(error, expected), error
    if call is create:
        assert isinstance(error, OutcomeUnknownError)
        assert error.request_id


@KINDS
def test_a_dead_and_a_silent_server_do_not_keep_a_call_from_the_third(
    kind: type[Client], cluster: Cluster
) -> None:
    with hostile.raw_server(hostile.say_nothing) as silent, hostile.grpc_server(hostile.never) as mute:
        dead = f"127.0.0.1:{free_ports(1)[0]}"
        addresses = f"{dead},{silent},{mute},{cluster.address_list}"
        job = outcome(kind, addresses, lambda client: client.get("first"), timeout=60)
        assert isinstance(job, Job), job


@KINDS
@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        ("UNAVAILABLE", "NoLeader", UnavailableError),
        ("UNAVAILABLE", "ShuttingDown", UnavailableError),
        ("RESOURCE_EXHAUSTED", "LimitExceeded", LimitExceededError),
        ("INTERNAL", "Internal", RefusedError),
        ("DATA_LOSS", "DataLoss", RefusedError),
        ("UNIMPLEMENTED", "Unimplemented", RefusedError),
        ("DEADLINE_EXCEEDED", "OutcomeUnknown", OutcomeUnknownError),
    ],
)
def test_what_servers_say(kind: type[Client], code: str, reason: str, expected: type[StintError]) -> None:
    # Where it would be tried again, the pause that is asked for leaves no time for it.
    pause = [retry_after(3_600_000)] if code == "UNAVAILABLE" else []
    encoded = base64.b64decode(details(code, "as told", reason, *pause))
    limit = CONNECTED if expected is OutcomeUnknownError else 5.0
    answer = hostile.ends_with(grpc.StatusCode[code], "as told", encoded)
    with hostile.grpc_server(answer) as address:
        error = outcome(kind, address, create, timeout=limit)
    assert type(error) is expected, error
    assert "as told" in str(error)


@KINDS
def test_a_server_that_always_asks_for_a_pause_is_given_up_in_time(kind: type[Client]) -> None:
    encoded = base64.b64decode(details("UNAVAILABLE", "later", "NoLeader", retry_after(100)))
    with hostile.grpc_server(hostile.ends_with(grpc.StatusCode.UNAVAILABLE, "later", encoded)) as address:
        error = outcome(kind, address, read, timeout=CONNECTED)
    # The last attempt may have had too little time to be answered.
    assert isinstance(error, (UnavailableError, UnreachableError)), error


@KINDS
def test_servers_that_name_each_other_as_leader(kind: type[Client]) -> None:
    calls = [0]

    def not_me(_method: str, _request: bytes, context: grpc.ServicerContext) -> bytes:
        calls[0] += 1
        pause = [retry_after(3_600_000)] if calls[0] >= 6 else []
        encoded = details("UNAVAILABLE", "not me", "NotLeader", *pause, leaderAddress=addresses[calls[0] % 2])
        context.set_trailing_metadata((("grpc-status-details-bin", base64.b64decode(encoded)),))
        context.set_code(grpc.StatusCode.UNAVAILABLE)
        return b""

    with hostile.grpc_server(not_me) as first, hostile.grpc_server(not_me) as second:
        addresses = [first, second]
        error = outcome(kind, first, read, timeout=9)
    assert isinstance(error, UnavailableError), error
    assert 6 <= calls[0] <= 8, "it does not run in circles"


@KINDS
def test_details_that_can_t_be_read_are_as_none(kind: type[Client]) -> None:
    answer = hostile.ends_with(grpc.StatusCode.NOT_FOUND, "nothing here", b"\xff\xff\xff")
    with hostile.grpc_server(answer) as address:
        error = outcome(kind, address, read, timeout=AT_ONCE)
    assert type(error) is NotFoundError
    assert error.reason is None


@KINDS
@pytest.mark.parametrize("answer", [b"\xff" * 20, b"\x0a\x05abc"], ids=["garbage", "torn"])
def test_an_answer_that_is_no_message(kind: type[Client], answer: bytes) -> None:
    with hostile.grpc_server(lambda *_: answer) as address:
        assert isinstance(outcome(kind, address, read), StintError)
        error = outcome(kind, address, create, timeout=CONNECTED)
    assert isinstance(error, OutcomeUnknownError), error


@KINDS
@pytest.mark.parametrize(
    ("n_taken", "name", "request_id", "n_ids"),
    [(2, None, None, 3), (100, None, None, 8), (100, "mine", None, 1), (100, None, "mine", 1)],
    ids=["some", "all", "own name", "own id"],
)
def test_a_generated_name_that_is_taken_is_not_the_caller_s_business(
    kind: type[Client], n_taken: int, name: str | None, request_id: str | None, n_ids: int
) -> None:
    ids: list[str] = []
    taken = base64.b64decode(details("ALREADY_EXISTS", "it is there", "AlreadyExists"))

    def answer(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        ids.append(jobs_pb2.CreateJobRequest.FromString(request).request_id)
        if len(ids) <= n_taken:
            return hostile.ends_with(grpc.StatusCode.ALREADY_EXISTS, details=taken)(method, request, context)  # type: ignore[no-any-return]
        response = jobs_pb2.CreateJobResponse(outcome=jobs_pb2.CREATE_OUTCOME_CREATED)
        response.job.metadata.name = "new"
        return response.SerializeToString()

    with hostile.grpc_server(answer) as address:
        job = make_job(["true"], name=name)
        given = outcome(kind, address, lambda one: one.submit(job, request_id=request_id), timeout=AT_ONCE)
    assert len(set(ids)) == len(ids) == n_ids
    if n_taken < n_ids:
        assert given.name == "new"
    else:
        assert isinstance(given, AlreadyExistsError), given


@KINDS
def test_an_empty_answer(kind: type[Client]) -> None:
    with hostile.grpc_server(lambda *_: b"") as address:
        error = outcome(kind, address, create, timeout=AT_ONCE)
    assert isinstance(error, AnswerError), error


@KINDS
def test_an_answer_beyond_the_limit_of_messages(kind: type[Client]) -> None:
    with hostile.grpc_server(lambda *_: b"\x0a\x80\x80\xc0\x02" + bytes(5 << 20)) as address:
        error = outcome(kind, address, read, timeout=AT_ONCE)
    assert isinstance(error, RefusedError), error
    assert error.code == "RESOURCE_EXHAUSTED"


def event(kind: int, revision: int, name: str | None) -> bytes:
    message = jobs_pb2.JobWatchEvent(revision=revision)
    message.type = jobs_pb2.JobWatchEvent().type.__class__(kind)
    if name is not None:
        message.job.metadata.name = name
    return message.SerializeToString()


@KINDS
def test_streams_that_end_and_break_after_each_message_lose_and_repeat_nothing(kind: type[Client]) -> None:
    last, n_streams = 40, [0]

    def torn(_method: str, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        n_streams[0] += 1
        begin = jobs_pb2.WatchJobsRequest.FromString(request).from_revision
        if begin == 0:
            yield event(meta_pb2.WATCH_EVENT_TYPE_ADDED, 10, "a")
            if n_streams[0] > 2:
                yield event(meta_pb2.WATCH_EVENT_TYPE_BOOKMARK, 10, None)
        elif begin >= last:
            context.abort(grpc.StatusCode.NOT_FOUND, "the end")
        else:
            # The one before comes again, as a server that is behind might have it.
            yield event(meta_pb2.WATCH_EVENT_TYPE_MODIFIED, begin, "a")
            yield event(meta_pb2.WATCH_EVENT_TYPE_MODIFIED, begin + 1, "a")
        if n_streams[0] % 2 == 0:
            context.abort(grpc.StatusCode.UNAVAILABLE, "torn")

    seen: list[Any] = []
    with hostile.grpc_server(None, torn) as address:
        error = outcome(kind, address, collecting(seen, watch), timeout=AT_ONCE)
    assert isinstance(error, NotFoundError), error
    assert [one.revision for one in seen] == list(range(10, last + 1))
    assert all(isinstance(one, Change) for one in seen)


@KINDS
def test_a_watch_whose_revisions_always_expire_ends(kind: type[Client]) -> None:
    n_streams = [0]

    def expired(_method: str, _request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        n_streams[0] += 1
        encoded = base64.b64decode(details("OUT_OF_RANGE", "too old", "Expired"))
        context.set_trailing_metadata((("grpc-status-details-bin", encoded),))
        context.abort(grpc.StatusCode.OUT_OF_RANGE, "too old")
        yield b""

    with hostile.grpc_server(None, expired) as address:
        error = outcome(kind, address, lambda client: client.watch(from_revision=5), timeout=AT_ONCE)
    assert isinstance(error, RefusedError), error
    assert error.reason == "Expired"
    assert n_streams[0] < 10


@KINDS
def test_a_watch_that_expires_tells_what_there_is(kind: type[Client]) -> None:
    def behind(_method: str, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        begin = jobs_pb2.WatchJobsRequest.FromString(request).from_revision
        if begin == 5:
            encoded = base64.b64decode(details("OUT_OF_RANGE", "too old", "Expired"))
            context.set_trailing_metadata((("grpc-status-details-bin", encoded),))
            context.abort(grpc.StatusCode.OUT_OF_RANGE, "too old")
        elif begin == 0:
            yield event(meta_pb2.WATCH_EVENT_TYPE_ADDED, 100, "now")
            yield event(meta_pb2.WATCH_EVENT_TYPE_BOOKMARK, 100, None)
        else:
            context.abort(grpc.StatusCode.NOT_FOUND, f"the end, from {begin}")

    seen: list[Any] = []
    with hostile.grpc_server(None, behind) as address:
        take = collecting(seen, lambda client: client.watch(from_revision=5))
        error = outcome(kind, address, take, timeout=AT_ONCE)
    assert "from 100" in str(error)
    (relisted,) = seen
    assert isinstance(relisted, Relisted)
    assert [job.metadata.name for job in relisted.objects] == ["now"]


@KINDS
def test_a_server_that_breaks_in_the_middle_of_a_log(kind: type[Client]) -> None:
    text = b"0123456789" * 10

    def torn(_method: str, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        begin = pods_pb2.PodLogsRequest.FromString(request).offset
        source = pods_pb2.LogSource(pod_name="any", pod_uid="u", container="main")
        end = min(begin + 7, len(text))
        yield pods_pb2.PodLogsChunk(source=source).SerializeToString()
        yield pods_pb2.PodLogsChunk(data=text[begin:end], next_offset=end).SerializeToString()
        if end < len(text):
            context.abort(grpc.StatusCode.UNAVAILABLE, "torn")

    with hostile.grpc_server(None, torn) as address:
        given = outcome(kind, address, lambda client: client.logs("any", follow=True).read(), timeout=AT_ONCE)
    assert given == text


@KINDS
@pytest.mark.parametrize(
    "chunks",
    [
        [pods_pb2.PodLogsChunk()] * 3,
        [pods_pb2.PodLogsChunk(source=pods_pb2.LogSource(pod_name="any", pod_uid="u", container="main"))],
        [pods_pb2.PodLogsChunk(data=b"again")],
        [pods_pb2.PodLogsChunk(next_offset=10)],
        [pods_pb2.PodLogsChunk(cut=pods_pb2.LogCut(node_name="w1"))],
    ],
    ids=["nothing", "whose it is", "what was given", "a known place", "a cut"],
)
def test_a_log_that_gets_no_further_is_given_up(
    kind: type[Client], chunks: list[pods_pb2.PodLogsChunk]
) -> None:
    n_streams = [0]

    def again_and_again(_method: str, _request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        n_streams[0] += 1
        for chunk in chunks:
            yield chunk.SerializeToString()
        context.abort(grpc.StatusCode.UNAVAILABLE, "torn")

    seen: list[Any] = []
    with hostile.grpc_server(None, again_and_again) as address:
        error = outcome(kind, address, collecting(seen, logs), timeout=CONNECTED)
    assert isinstance(error, UnreachableError), error
    assert b"".join(one.data for one in seen) in (b"", b"again")
    assert 1 < n_streams[0] < 100


@KINDS
@pytest.mark.parametrize(
    ("from_revision", "type_", "revision"),
    [
        (0, meta_pb2.WATCH_EVENT_TYPE_ADDED, 10),
        (7, meta_pb2.WATCH_EVENT_TYPE_MODIFIED, 7),
        (7, meta_pb2.WATCH_EVENT_TYPE_BOOKMARK, 6),
    ],
    ids=["never whole", "what was given", "an old bookmark"],
)
def test_a_watch_that_gets_no_further_is_given_up(
    kind: type[Client], from_revision: int, type_: int, revision: int
) -> None:
    n_streams = [0]

    def again_and_again(_method: str, _request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        n_streams[0] += 1
        yield event(type_, revision, "a")
        context.abort(grpc.StatusCode.UNAVAILABLE, "torn")

    seen: list[Any] = []
    with hostile.grpc_server(None, again_and_again) as address:
        begin = collecting(seen, lambda client: client.watch(from_revision=from_revision))
        error = outcome(kind, address, begin, timeout=CONNECTED)
    assert isinstance(error, UnreachableError), error
    assert seen == []
    assert 1 < n_streams[0] < 100


@KINDS
def test_a_list_whose_pages_lead_nowhere_ends(kind: type[Client]) -> None:
    page = jobs_pb2.ListJobsResponse()
    page.metadata.continue_token = "t"
    with hostile.grpc_server(lambda *_: page.SerializeToString()) as address:
        error = outcome(kind, address, lambda client: client.list(), timeout=AT_ONCE)
    assert isinstance(error, AnswerError), error


@KINDS
def test_a_server_without_a_leader_is_not_the_last_word_on_the_cluster(kind: type[Client]) -> None:
    cut_off = cluster_pb2.ClusterStatus(term=4).SerializeToString()
    other = cluster_pb2.ClusterStatus(term=5, leader="s2").SerializeToString()
    with hostile.grpc_server(lambda *_: cut_off) as first, hostile.grpc_server(lambda *_: other) as second:
        for addresses in (f"{first},{second}", f"{second},{first}"):
            status = outcome(kind, addresses, lambda client: client.status(), timeout=AT_ONCE)
            assert status.leader == "s2"
        dead = f"127.0.0.1:{free_ports(1)[0]}"
        status = outcome(kind, f"{first},{dead}", lambda client: client.status(), timeout=CONNECTED)
        assert (status.term, status.HasField("leader")) == (4, False), "what is known is told"
        assert isinstance(outcome(kind, dead, lambda client: client.status()), UnreachableError)


SECRET = "a-token-for-tests"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Cluster]:
    """A cluster that wants a token."""
    with Cluster(1, token=SECRET) as cluster:
        yield cluster


@KINDS
@pytest.mark.parametrize("token", [None, "wrong", SECRET + "x"])
@pytest.mark.parametrize("call", [read, create, watch, logs])
def test_a_wrong_token(
    kind: type[Client], token: str | None, call: Callable[[Any], Any], guarded: Cluster
) -> None:
    error = outcome(kind, guarded.address_list, call, token=token, timeout=AT_ONCE)
    assert isinstance(error, UnauthenticatedError), error
    assert error.reason == "Unauthenticated"
    assert SECRET not in str(error)


def changed(change: Callable[[Job], object]) -> Callable[[Any], Any]:
    """Make a submit of a Job with something wrong."""

    def submit(client: Any) -> Any:
        job = make_job(["true"])
        change(job)
        return client.submit(job)

    return submit


@KINDS
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda client: client.submit(Job()), "spec.template.spec.containers"),
        (changed(lambda job: setattr(job.metadata, "name", "Not A Name")), "metadata.name"),
        (changed(lambda job: setattr(job.metadata, "name", "x" * 300)), "metadata.name"),
        (changed(lambda job: setattr(job.metadata, "namespace", "../up")), "metadata.namespace"),
        (changed(lambda job: setattr(job.spec, "completions", -1)), "spec.completions"),
        (changed(lambda job: setattr(job.spec, "parallelism", -(2**31))), "spec.parallelism"),
        (changed(lambda job: setattr(job.spec, "completion_mode", "Sometimes")), "spec.completionMode"),
        (changed(lambda job: setattr(job.spec.template.spec, "restart_policy", "Always")), "restartPolicy"),
        (changed(lambda job: job.spec.backoff_base.FromSeconds(-1)), "backoff"),
        (changed(lambda job: job.metadata.labels.update({"-": "no"})), "metadata.labels"),
        (lambda client: client.run(["true"], cpu="many"), "resources"),
        (lambda client: client.run(["true"], env={"A=B": ""}), "env"),
        (lambda client: client.run(["true"], env={"HUGE": "x" * (1 << 20)}), ""),
        (lambda client: client.run(["x" * (5 << 20)]), ""),
        (lambda client: client.get(""), ""),
        (lambda client: client.list(label_selector="(("), ""),
        (lambda client: client.watch(label_selector="(("), ""),
        (lambda client: client.watch(label_selector="x" * (5 << 20)), ""),
    ],
    ids=[
        "empty job",
        "name",
        "long name",
        "namespace",
        "completions",
        "parallelism",
        "completion mode",
        "restart policy",
        "back-off",
        "label",
        "quantity",
        "variable",
        "job of 1 MiB",
        "request of 5 MiB",
        "no name",
        "selector",
        "selector of a watch",
        "selector of 5 MiB",
    ],
)
def test_requests_that_are_not_valid_say_what_is_wrong(
    kind: type[Client], call: Callable[[Any], Any], expected: str, cluster: Cluster
) -> None:
    error = outcome(kind, cluster.address_list, call, timeout=AT_ONCE)
    assert isinstance(error, InvalidError), error
    assert error.code == "INVALID_ARGUMENT"
    if expected:
        assert any(expected in one.field for one in error.field_violations), error.field_violations
        assert all(one.description for one in error.field_violations)


@KINDS
@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.get("no-such-job"),
        lambda client: client.get_pod("no-such-pod"),
        lambda client: client.delete("no-such-job"),
        lambda client: client.job("no-such-job"),
        lambda client: client.logs("no-such-pod"),
        lambda client: client.logs(job="no-such-job"),
        update,
    ],
    ids=["get", "get_pod", "delete", "job", "logs", "logs of a job", "update"],
)
def test_what_is_not_there_is_said_not_to_be(
    kind: type[Client], call: Callable[[Any], Any], cluster: Cluster
) -> None:
    error = outcome(kind, cluster.address_list, call, timeout=AT_ONCE)
    assert isinstance(error, NotFoundError), error
    assert error.reason == "NotFound"


def test_many_threads_share_a_client_and_end_with_it(cluster: Cluster) -> None:
    client = Client(cluster.address_list, timeout=AT_ONCE)
    ends: list[BaseException | None] = []

    def read_on() -> None:
        try:
            while True:
                client.get("first")
        except BaseException as error:
            ends.append(error)

    threads = [threading.Thread(target=read_on) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    client.close()
    for thread in threads:
        thread.join(SLACK)
    assert [type(end).__name__ for end in ends] == ["ClosedError"] * 8
