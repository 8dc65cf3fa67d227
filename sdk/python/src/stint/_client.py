"""What both clients share: options, requests, and what is made of answers.

Owns: arguments and their defaults. Does not own: connections, waiting.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

from stint import _limits, errors
from stint._retry import Servers, is_address
from stint.jobs import new_request_id, request_job
from stint.v1 import cluster_pb2, jobs_pb2, pods_pb2
from stint.v1.job_pb2 import Job
from stint.v1.jobs_pb2 import CreateJobResponse
from stint.v1.meta_pb2 import ListMeta

T = TypeVar("T")

Propagation = Literal["background", "foreground", "orphan"]
"""What becomes of a deleted Job's Pods: stopped and deleted; the same, while the Job stays until they are gone; kept."""

PROPAGATION = {
    "background": jobs_pb2.PROPAGATION_POLICY_BACKGROUND,
    "foreground": jobs_pb2.PROPAGATION_POLICY_FOREGROUND,
    "orphan": jobs_pb2.PROPAGATION_POLICY_ORPHAN,
}

DEFAULT_ADDRESS = "127.0.0.1:7440"

CHANNEL_OPTIONS = [
    # Of a connection that can't be made: how long one try takes, and the pauses between tries.
    ("grpc.min_reconnect_backoff_ms", int(_limits.CONNECT_TIMEOUT * 1000)),
    ("grpc.initial_reconnect_backoff_ms", int(_limits.RETRY_PAUSE_FIRST * 1000)),
    ("grpc.max_reconnect_backoff_ms", int(_limits.RETRY_PAUSE_MAX * 1000)),
    ("grpc.keepalive_time_ms", int(_limits.KEEP_ALIVE_INTERVAL * 1000)),
    ("grpc.keepalive_timeout_ms", int(_limits.KEEP_ALIVE_TIMEOUT * 1000)),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", _limits.MESSAGE_BYTES_MAX),
    # The servers are the cluster's own: nothing between them and the client.
    ("grpc.enable_http_proxy", 0),
    # Attempts are made by this package's table alone.
    ("grpc.enable_retries", 0),
    # A client has connections of its own: closing it closes them, and its keep-alive is what it says.
    ("grpc.use_local_subchannel_pool", 1),
]


@dataclass(frozen=True)
class Options:
    """How a cluster is reached."""

    addresses: tuple[str, ...]
    metadata: tuple[tuple[str, str], ...]
    timeout: float
    namespace: str

    @staticmethod
    def make(
        addresses: str | Sequence[str] | None, token: str | None, timeout: float, namespace: str
    ) -> Options:
        """Check what was given; what was not comes from `STINT_SERVER` and `STINT_TOKEN_FILE`."""
        if addresses is None:
            addresses = os.environ.get("STINT_SERVER") or DEFAULT_ADDRESS
        if isinstance(addresses, str):
            addresses = [one.strip() for one in addresses.split(",") if one.strip()]
        if not 0 < len(addresses) <= _limits.ADDRESSES_MAX:
            raise errors.AddressError(",".join(addresses))
        for address in addresses:
            if not is_address(address):
                raise errors.AddressError(address)
        if token is None and (token_file := os.environ.get("STINT_TOKEN_FILE")):
            try:
                token = Path(token_file).read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise errors.TokenError(f"the file of STINT_TOKEN_FILE can't be read ({error})") from error
        return Options(
            addresses=tuple(one.removeprefix("http://") for one in addresses),
            metadata=() if token is None else (("authorization", f"Bearer {_checked_token(token)}"),),
            timeout=checked_timeout(timeout),
            namespace=namespace,
        )


def checked_timeout(timeout: float) -> float:
    """Return the time limit of a call; raise `ValueError` if it is none. No limit is a very long one."""
    if not timeout > 0:
        raise ValueError(f"a timeout is more than 0 s, not {timeout}")
    return min(timeout, _limits.TIMEOUT_MAX)


def checked_patience(timeout: float | None) -> float | None:
    """Return how long is waited; raise `ValueError` for what is no time. None and infinity: as long as it takes."""
    if timeout is None or timeout == math.inf:
        return None
    if not timeout >= 0:
        raise ValueError(f"a wait takes at least 0 s, not {timeout}")
    return min(timeout, _limits.TIMEOUT_MAX)


def _checked_token(token: str) -> str:
    token = token.strip()
    if not token:
        raise errors.TokenError("it is empty")
    if len(token) > _limits.TOKEN_BYTES_MAX:
        raise errors.TokenError(
            f"it has {len(token)} characters, at most {_limits.TOKEN_BYTES_MAX} are taken"
        )
    for position, one in enumerate(token):
        if not "!" <= one <= "~":
            raise errors.TokenError(f"character {position} is not a visible one of ASCII")
    return token


@dataclass(frozen=True)
class Listed(Generic[T]):
    """Objects of a list, and the revision that it shows: a watch from there misses nothing."""

    items: tuple[T, ...]
    """The objects."""
    revision: int
    """Revision of the list."""

    def __iter__(self) -> Iterator[T]:
        """Iterate over the objects."""
        return iter(self.items)

    def __len__(self) -> int:
        """Count the objects."""
        return len(self.items)


class Pages(Generic[T]):
    """The pages of a list: asks for one after another, and begins anew if one expired meanwhile."""

    def __init__(self) -> None:
        self.token = ""
        self._items: list[T] = []
        self._restarts = 0

    def take(self, items: Sequence[T], metadata: ListMeta) -> Listed[T] | None:
        """Take a page. Returns the list once it is whole."""
        self._items.extend(items)
        asked, self.token = self.token, metadata.continue_token
        if self.token and self.token == asked:
            raise errors.AnswerError("a page that leads to itself")
        return None if self.token else Listed(tuple(self._items), metadata.resource_version)

    def expired(self, error: errors.ExpiredError) -> None:
        """Begin anew; raise if that was done too often."""
        self._restarts += 1
        if self._restarts > _limits.LIST_RESTARTS_MAX:
            raise error
        self._items.clear()
        self.token = ""


@dataclass(frozen=True)
class Submitted:
    """What a submit met."""

    job: Job
    """As stored."""
    warnings: tuple[str, ...]
    """What is kept without effect, and other advice; for people."""
    outcome: Literal["created", "already existed", "already deleted"]
    """Whether an earlier attempt of the same request had made the Job; `already deleted`: and it is gone."""
    revision: int
    """A watch from here misses no later change of the Job or its Pods."""
    request_id: str
    """The id that the request had."""

    @staticmethod
    def of(answer: CreateJobResponse, request_id: str) -> Submitted:
        """Read an answer."""
        outcomes: dict[int, Literal["created", "already existed", "already deleted"]] = {
            jobs_pb2.CREATE_OUTCOME_CREATED: "created",
            jobs_pb2.CREATE_OUTCOME_ALREADY_EXISTED: "already existed",
            jobs_pb2.CREATE_OUTCOME_ALREADY_DELETED: "already deleted",
        }
        if not answer.HasField("job") or answer.outcome not in outcomes:
            raise errors.AnswerError("an answer without its job or outcome")
        return Submitted(
            answer.job, tuple(answer.warnings), outcomes[answer.outcome], answer.revision, request_id
        )


class Submission:
    """One submit: its request, and another one where the name that was made for it is taken."""

    def __init__(self, job: Job, namespace: str, request_id: str | None, timeout: float) -> None:
        self._job = request_job(job, namespace)
        # A generated name derives from the request id.
        self._names_left = 1 if request_id is not None or job.metadata.name else _limits.NAMES_MAX
        self.request_id = new_request_id() if request_id is None else checked_request_id(request_id)
        # Later attempts could outlive the servers' memory of the request.
        self._until = time.monotonic() + min(checked_timeout(timeout), _limits.CREATE_REPEAT_MAX)

    def request(self) -> jobs_pb2.CreateJobRequest:
        """Return what is sent now."""
        return jobs_pb2.CreateJobRequest(job=self._job, request_id=self.request_id)

    def left(self) -> float:
        """Say how many seconds are left."""
        return max(self._until - time.monotonic(), 0.0)

    def failed(self, error: errors.StintError) -> None:
        """Raise the error of a request, unless another name may be free."""
        self._names_left -= 1
        if isinstance(error, errors.OutcomeUnknownError):
            error.request_id = self.request_id
        if not isinstance(error, errors.AlreadyExistsError) or self._names_left == 0:
            raise error
        self.request_id = new_request_id()


class Connection(Protocol):
    """What of a connection to a server says how much it is used."""

    n_streams: int
    """Watches and logs that are open on it."""


C = TypeVar("C", bound=Connection)


def connection_for_stream(connections: list[C], make: Callable[[], C]) -> C:
    """Choose the connection for one more stream, of those to one server, which may become more."""
    for one in connections:
        if one.n_streams < _limits.STREAMS_PER_CONNECTION_MAX:
            return one
    connections.append(make())
    return connections[-1]


class AskedForLeader:
    """Asks one server after another how the cluster is, until one knows of a leader."""

    def __init__(self, servers: Servers, timeout: float) -> None:
        self._servers = servers
        self._until = time.monotonic() + timeout
        self._n_left = len(servers.addresses)
        self._found: cluster_pb2.ClusterStatus | None = None
        self.is_over = False
        """Nobody else is asked."""

    def left(self) -> float:
        """Say how many seconds the next call may take."""
        return max(self._until - time.monotonic(), _limits.RETRY_PAUSE_FIRST)

    def take(self, status: cluster_pb2.ClusterStatus) -> None:
        """Take what a server knows."""
        if self._found is None or status.HasField("leader"):
            self._found = status
        self._next(status.HasField("leader"))

    def failed(self, error: errors.StintError) -> None:
        """Take that nobody answered; raise that unless somebody has before."""
        if self._found is None:
            raise error
        self._next(False)

    def known(self) -> cluster_pb2.ClusterStatus:
        """Return what is known once it is over."""
        assert self._found is not None
        return self._found

    def _next(self, is_known: bool) -> None:
        self._n_left -= 1
        self.is_over = is_known or self._n_left <= 0
        if not self.is_over:
            self._servers.passed_over(self._servers.first())


def checked_request_id(request_id: str) -> str:
    """Refuse ids that servers would not take, or that would make a repeated create a second one."""
    if not request_id or len(request_id.encode()) > _limits.REQUEST_ID_BYTES_MAX:
        raise ValueError(f"a request id has 1 to {_limits.REQUEST_ID_BYTES_MAX} bytes")
    return request_id


def check_size(n_bytes: int) -> None:
    """Refuse a request that no server would take, before it is sent again and again."""
    if n_bytes > _limits.MESSAGE_BYTES_MAX:
        raise errors.InvalidError(
            f"the request has {n_bytes} bytes, at most {_limits.MESSAGE_BYTES_MAX} are taken",
            reason="RequestTooLarge",
            code="INVALID_ARGUMENT",
        )


class Handle(Protocol):
    """What of a handle says which Job it is of."""

    submitted: Submitted | None

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def namespace(self) -> str:
        """Its namespace."""


H = TypeVar("H", bound=Handle)


def by_namespace(handles: Sequence[H]) -> dict[str, list[H]]:
    """Sort handles that are waited for; raise `JobDeletedError` if one is known to be of a deleted Job."""
    found: dict[str, list[H]] = {}
    for one in handles:
        if one.submitted is not None and one.submitted.outcome == "already deleted":
            raise errors.JobDeletedError(one.namespace, one.name)
        found.setdefault(one.namespace, []).append(one)
    return found


def not_in_time(n_jobs: int, timeout: float | None) -> errors.WaitTimeoutError:
    """Make the error of a wait that took too long."""
    what = "the job has" if n_jobs == 1 else f"the {n_jobs} jobs have"
    return errors.WaitTimeoutError(f"{what} not ended within {timeout:g} s")


def list_jobs(namespace: str, all_namespaces: bool, label_selector: str) -> jobs_pb2.ListJobsRequest:
    """Make the request for the first page of Jobs."""
    return jobs_pb2.ListJobsRequest(
        namespace=namespace,
        all_namespaces=all_namespaces,
        label_selector=label_selector,
        limit=_limits.PAGE_SIZE,
    )


def list_pods(
    namespace: str, all_namespaces: bool, label_selector: str, job: str, node: str
) -> pods_pb2.ListPodsRequest:
    """Make the request for the first page of Pods."""
    return pods_pb2.ListPodsRequest(
        namespace=namespace,
        all_namespaces=all_namespaces,
        label_selector=label_selector,
        limit=_limits.PAGE_SIZE,
        job_name=job,
        node_name=node,
    )


def watch_jobs(
    namespace: str, all_namespaces: bool, name: str, label_selector: str
) -> jobs_pb2.WatchJobsRequest:
    """Make the request for a watch of Jobs; it has no revision yet."""
    return jobs_pb2.WatchJobsRequest(
        namespace=namespace, all_namespaces=all_namespaces, name=name, label_selector=label_selector
    )


def watch_pods(
    namespace: str, all_namespaces: bool, name: str, label_selector: str, job: str, node: str
) -> pods_pb2.WatchPodsRequest:
    """Make the request for a watch of Pods; it has no revision yet."""
    return pods_pb2.WatchPodsRequest(
        namespace=namespace,
        all_namespaces=all_namespaces,
        name=name,
        label_selector=label_selector,
        job_name=job,
        node_name=node,
    )


def delete_job(namespace: str, name: str, uid: str, propagation: Propagation) -> jobs_pb2.DeleteJobRequest:
    """Make the request that deletes a Job."""
    return jobs_pb2.DeleteJobRequest(
        namespace=namespace, name=name, uid=uid, propagation_policy=PROPAGATION[propagation]
    )
