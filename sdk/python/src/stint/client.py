"""The synchronous client.

Owns: the calls. Does not own: what is retried (`_retry`), connections and streams (`_streams`).

`stint.aio` has the same for asyncio; what both share is in `_client`.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf.message import Message

from stint import _client as requests
from stint import _limits, errors
from stint._client import (
    Listed,
    Options,
    Pages,
    Propagation,
    Submitted,
    check_size,
)
from stint._retry import Attempts, Effect, Servers, Status
from stint._streams import LogStream, Server, Watch
from stint.jobs import Awaited, JobOptions, checked, make_job, request_job
from stint.logs import LogsOptions, LogState, logs_request
from stint.v1 import cluster_pb2, jobs_pb2, pods_pb2
from stint.v1.job_pb2 import Job
from stint.v1.pod_pb2 import Pod

if TYPE_CHECKING:
    from typing_extensions import Unpack

Q = TypeVar("Q", bound=Message)
A = TypeVar("A")
M = TypeVar("M", covariant=True)
T = TypeVar("T")

_Connections = list[Server]
"""To one server; `list` is a call of the client."""


class Client:
    """A client of one cluster. Safe for threads; connections are shared.

    It belongs to the process that made it: what is called in another one, after a fork, raises `MisplacedError`.

    addresses: `HOST:PORT` of some or all servers, as a list or separated by commas; without it `STINT_SERVER`, else
        `127.0.0.1:7440`. Any server answers any request.
    token: the cluster's bearer token; without it what the file of `STINT_TOKEN_FILE` holds, if there is one.
    timeout: seconds that a call may take with all its attempts. Watches and logs are not bounded.
    namespace: that of calls which name none.

    Raises `AddressError` and `TokenError`. Does not connect yet.
    """

    def __init__(
        self,
        addresses: str | Sequence[str] | None = None,
        *,
        token: str | None = None,
        timeout: float = _limits.CALL_TIMEOUT_DEFAULT,
        namespace: str = "default",
    ) -> None:
        self._options = Options.make(addresses, token, timeout, namespace)
        self._servers = Servers(self._options.addresses)
        # By address; calls use the first one, streams each that has room.
        self._connections: dict[str, _Connections] = {}
        self._streams = weakref.WeakSet[Any]()
        # Also taken where a call ends, which may be while the same thread ends it.
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._process = os.getpid()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections. Calls that wait end with `ClosedError`, watches and logs just end."""
        if not self._is_here():
            # The connections are those of the process that made them.
            return
        with self._lock:
            self._closing.set()
            connections, self._connections = self._connections, {}
            streams = list(self._streams)
        for stream in streams:
            stream.close()
        for servers in connections.values():
            for server in servers:
                server.channel.close()

    # Submitting.

    def run(self, command: Sequence[str], **options: Unpack[JobOptions]) -> JobHandle:
        """Submit a Job of one container; `options` are those of `make_job`.

        Errors as those of `submit`.
        """
        return self.submit(make_job(command, **options))

    def submit(self, job: Job, *, request_id: str | None = None, timeout: float | None = None) -> JobHandle:
        """Submit a Job; return once it is stored on a majority of the servers.

        The request has an id, so that attempts of unknown outcome are repeated without making a second Job. Give
        `request_id` to find out later what became of a submit that ended with `OutcomeUnknownError`. Where the servers
        make the name, and it is taken, another is tried.

        Raises `AlreadyExistsError`, `InvalidError`, `OutcomeUnknownError`, and the errors of every call.
        """
        limit = self._options.timeout if timeout is None else timeout
        submission = requests.Submission(job, self._options.namespace, request_id, limit)
        while True:
            request, left = submission.request(), submission.left()
            try:
                answer = self._call(Effect.REPEATABLE_WRITE, lambda server: server.jobs.Create, request, left)
            except errors.StintError as error:
                submission.failed(error)
            else:
                submitted = Submitted.of(answer, submission.request_id)
                return JobHandle(self, submitted.job, submitted)

    def submit_and_wait(self, job: Job, *, timeout: float | None = None, check: bool = True) -> Job:
        """Submit a Job and wait until it has ended; see `submit` and `JobHandle.wait`."""
        return self.submit(job).wait(timeout, check=check)

    def wait_all(
        self, handles: Sequence[JobHandle], timeout: float | None = None, *, check: bool = True
    ) -> list[Job]:
        """Wait until all these Jobs have ended; return them as they are then, in the same order.

        One stream for all of a namespace, where a wait for each needs as many, of which a server takes 4,096. Raises as
        `JobHandle.wait`; with `check`, for the first that has failed, at the end.
        """
        jobs = self._wait_all(handles, "", timeout)
        return [checked(job) for job in jobs] if check else jobs

    def _wait_all(self, handles: Sequence[JobHandle], name: str, timeout: float | None) -> list[Job]:
        timeout = requests.checked_patience(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            return self._ends(handles, name, deadline)
        except errors.WaitTimeoutError:
            raise requests.not_in_time(len(handles), timeout) from None

    def _ends(self, handles: Sequence[JobHandle], name: str, deadline: float | None) -> list[Job]:
        for namespace, of_namespace in requests.by_namespace(handles).items():
            awaited = Awaited(one._known for one in of_namespace)
            if awaited.left:
                from_revision = min(one._revision for one in of_namespace if one.uid in awaited.left)
                with self.watch(namespace=namespace, name=name, from_revision=from_revision) as watch:
                    watch._stream.deadline = deadline
                    for event in watch:
                        awaited.take(event)
                        if not awaited.left:
                            break
                    else:
                        raise errors.ClosedError
            for one in of_namespace:
                one._known = awaited.known[one.uid]
        return [one._known for one in handles]

    # Jobs.

    def job(self, name: str, *, namespace: str | None = None) -> JobHandle:
        """Return a handle of a Job that exists. Raises `NotFoundError`."""
        return JobHandle(self, self.get(name, namespace=namespace), None)

    def get(self, name: str, *, namespace: str | None = None) -> Job:
        """Read a Job, linearizably. Raises `NotFoundError`."""
        request = jobs_pb2.GetJobRequest(namespace=self._namespace(namespace), name=name)
        return self._call(Effect.READ, lambda server: server.jobs.Get, request)

    def list(
        self, *, namespace: str | None = None, all_namespaces: bool = False, label_selector: str = ""
    ) -> Listed[Job]:
        """Read all Jobs of a scope as of one revision, page by page."""
        request = requests.list_jobs(self._namespace(namespace), all_namespaces, label_selector)
        return self._list(lambda server: server.jobs.List, request)

    def update(self, job: Job) -> Job:
        """Replace a Job's mutable fields; its uid and resource_version are preconditions if set.

        Raises `NotFoundError`, `ConflictError`, `InvalidError`, and `OutcomeUnknownError`: an update is not repeated.
        """
        request = jobs_pb2.UpdateJobRequest(job=request_job(job, self._options.namespace))
        return self._call(Effect.WRITE, lambda server: server.jobs.Update, request).job

    def delete(
        self,
        name: str,
        *,
        namespace: str | None = None,
        uid: str | None = None,
        propagation: Propagation = "background",
    ) -> None:
        """Delete a Job. By its uid, which is read first if it is not given, so that attempts can be repeated.

        Raises `NotFoundError` if there is none of this name and no uid was given: one of that uid is gone then, as
        wanted. Raises `ConflictError` if the name belongs to another Job by now.
        """
        # Without one a second attempt could delete another Job.
        if not uid:
            uid = self.get(name, namespace=namespace).metadata.uid
        request = requests.delete_job(self._namespace(namespace), name, uid, propagation)
        with contextlib.suppress(errors.NotFoundError):
            self._call(Effect.REPEATABLE_WRITE, lambda server: server.jobs.Delete, request)

    def watch(
        self,
        *,
        namespace: str | None = None,
        all_namespaces: bool = False,
        name: str = "",
        label_selector: str = "",
        from_revision: int | None = None,
    ) -> Watch[Job]:
        """Watch Jobs: changes after `from_revision`; without it what there is comes first, as added.

        Raises `ClosedError` if the client is closed already.
        """
        request = requests.watch_jobs(self._namespace(namespace), all_namespaces, name, label_selector)
        return Watch(
            self, lambda server: server.jobs.Watch, request, lambda event: event.job, "job", from_revision
        )

    # Pods.

    def get_pod(self, name: str, *, namespace: str | None = None) -> Pod:
        """Read a Pod, linearizably. Raises `NotFoundError`."""
        request = pods_pb2.GetPodRequest(namespace=self._namespace(namespace), name=name)
        return self._call(Effect.READ, lambda server: server.pods.Get, request)

    def list_pods(
        self,
        *,
        namespace: str | None = None,
        all_namespaces: bool = False,
        label_selector: str = "",
        job: str = "",
        node: str = "",
    ) -> Listed[Pod]:
        """Read all Pods of a scope as of one revision, page by page."""
        request = requests.list_pods(self._namespace(namespace), all_namespaces, label_selector, job, node)
        return self._list(lambda server: server.pods.List, request)

    def watch_pods(
        self,
        *,
        namespace: str | None = None,
        all_namespaces: bool = False,
        name: str = "",
        label_selector: str = "",
        job: str = "",
        node: str = "",
        from_revision: int | None = None,
    ) -> Watch[Pod]:
        """Watch Pods; as `watch`."""
        request = requests.watch_pods(
            self._namespace(namespace), all_namespaces, name, label_selector, job, node
        )
        return Watch(
            self, lambda server: server.pods.Watch, request, lambda event: event.pod, "pod", from_revision
        )

    def logs(
        self,
        pod: str | None = None,
        *,
        job: str | None = None,
        namespace: str | None = None,
        container: str = "",
        restart_count: int | None = None,
        previous: bool = False,
        follow: bool = False,
        tail_lines: int | None = None,
        since: float | datetime.datetime | None = None,
        timestamps: bool = False,
    ) -> LogStream:
        """Read the log of a Pod, or of one Pod of a Job: a running one before an ended one, then the newest.

        container: needed if there are several. restart_count: which run of it; without it the last.
        follow: go on until the container has ended. since: seconds, or a moment.
        """
        request = logs_request(
            namespace=self._namespace(namespace),
            pod=pod,
            job=job,
            container=container,
            restart_count=restart_count,
            previous=previous,
            follow=follow,
            tail_lines=tail_lines,
            since=since,
            timestamps=timestamps,
        )
        return LogStream(self, LogState(request))

    # The cluster.

    def status(self) -> cluster_pb2.ClusterStatus:
        """Read what a server knows of the cluster; also answered when there is no leader.

        If the server that is asked knows of no leader, as one that is cut off does, the others are asked too.
        """
        request = cluster_pb2.ClusterStatusRequest()
        asked = requests.AskedForLeader(self._servers, self._options.timeout)
        while not asked.is_over:
            try:
                asked.take(
                    self._call(Effect.READ, lambda server: server.cluster.Status, request, asked.left())
                )
            except errors.StintError as error:
                asked.failed(error)
        return asked.known()

    # Connections.

    @property
    def _closed(self) -> bool:
        return self._closing.is_set()

    def _is_here(self) -> bool:
        return os.getpid() == self._process

    def _check_process(self) -> None:
        # Before any lock: a thread that is not here may have had it when the process was forked.
        if not self._is_here():
            raise errors.MisplacedError(
                f"the client belongs to process {self._process}, which made it before a fork: make another one here"
            )

    def _opens(self, stream: object) -> None:
        """Take note of a stream, so that it ends with the client."""
        self._check_process()
        with self._lock:
            if self._closed:
                raise errors.ClosedError
            self._streams.add(stream)

    def _namespace(self, given: str | None) -> str:
        return self._options.namespace if given is None else given

    def _list(
        self,
        method: Callable[[Server], grpc.UnaryUnaryMultiCallable[Any, Any]],
        request: jobs_pb2.ListJobsRequest | pods_pb2.ListPodsRequest,
    ) -> Listed[Any]:
        """Read page after page; begin anew if one expired meanwhile."""
        pages = Pages[Any]()
        while True:
            request.continue_token = pages.token
            try:
                answer = self._call(Effect.READ, method, request)
            except errors.ExpiredError as error:
                pages.expired(error)
                continue
            if (listed := pages.take(answer.items, answer.metadata)) is not None:
                return listed

    def _server(self, address: str) -> Server:
        self._check_process()
        with self._lock:
            return self._to(address)[0]

    def _server_for_stream(self, address: str) -> tuple[Server, Callable[[], None]]:
        """Return a connection with room for another stream, and what says that it has ended."""
        self._check_process()
        with self._lock:
            server = requests.connection_for_stream(self._to(address), lambda: Server(address))
            server.n_streams += 1

        def release() -> None:
            with self._lock:
                server.n_streams -= 1

        return server, release

    def _to(self, address: str) -> _Connections:
        if self._closed:
            raise errors.ClosedError
        servers = self._connections.get(address)
        if servers is None:
            servers = self._connections[address] = [Server(address)]
        return servers

    def _call(
        self,
        effect: Effect,
        method: Callable[[Server], grpc.UnaryUnaryMultiCallable[Q, A]],
        request: Q,
        timeout: float | None = None,
    ) -> A:
        """Make one call, with as many attempts as the retry table allows."""
        check_size(request.ByteSize())
        attempts = Attempts(self._servers, effect, self._options.timeout if timeout is None else timeout)
        while True:
            address, seconds = attempts.next()
            send = method(self._server(address))
            try:
                return send(request, timeout=seconds, metadata=self._options.metadata)
            except grpc.RpcError as error:
                status = Status.of(error)
            except ValueError:
                # What gRPC raises if the connection was closed meanwhile.
                if self._closed:
                    raise errors.ClosedError from None
                raise
            self._closing.wait(attempts.failed(status))


class JobHandle:
    """A Job that was submitted or found."""

    def __init__(self, client: Client, job: Job, submitted: Submitted | None) -> None:
        self._client = client
        self._known = job
        self._revision = job.metadata.resource_version if submitted is None else submitted.revision
        self.submitted = submitted
        """What the submit met; None if the Job was found by its name."""

    def __repr__(self) -> str:
        return f"<stint job {self.namespace}/{self.name}>"

    @property
    def name(self) -> str:
        """Its name."""
        return self._known.metadata.name

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return self._known.metadata.namespace

    @property
    def uid(self) -> str:
        """Its uid: no other Job has it, before or after."""
        return self._known.metadata.uid

    def wait(self, timeout: float | None = None, *, check: bool = True) -> Job:
        """Wait until the Job has ended; return it as it is then.

        timeout: seconds; without it as long as it takes. check: raise `JobFailedError` if it has failed.

        Raises `JobFailedError`, `JobDeletedError`, `WaitTimeoutError`, and the errors of `Watch`.
        """
        (job,) = self._client._wait_all([self], self.name, timeout)
        return checked(job) if check else job

    def get(self) -> Job:
        """Read the Job as it is now. Raises `NotFoundError`, also if another one has its name by now."""
        job = self._client.get(self.name, namespace=self.namespace)
        if job.metadata.uid != self.uid:
            raise errors.NotFoundError(
                f"job {self.namespace}/{self.name} was deleted; another one has its name"
            )
        return job

    def delete(self, propagation: Propagation = "background") -> None:
        """Delete the Job; one that is gone already is as wanted."""
        self._client.delete(self.name, namespace=self.namespace, uid=self.uid, propagation=propagation)

    def pods(self) -> Listed[Pod]:
        """Read its Pods."""
        return self._client.list_pods(namespace=self.namespace, job=self.name)

    def logs(self, **options: Unpack[LogsOptions]) -> LogStream:
        """Read the log of one of its Pods; `options` are those of `Client.logs`."""
        return self._client.logs(job=self.name, namespace=self.namespace, **options)
