"""The client for asyncio.

Owns: the calls. Does not own: what is retried (`_retry`), connections and streams (`_aio_streams`).

`stint.client` has the same without asyncio; what both share is in `_client`.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf.message import Message

from stint import _client as requests
from stint import _limits, errors
from stint._aio_streams import AsyncLogStream, AsyncWatch, Server, is_cancelled
from stint._client import (
    Listed,
    Options,
    Pages,
    Propagation,
    Submitted,
    check_size,
)
from stint._retry import (
    NO_MESSAGE,
    Attempts,
    Effect,
    Servers,
    Status,
)
from stint.jobs import Awaited, JobOptions, checked, make_job, request_job
from stint.logs import LogsOptions, LogState, logs_request
from stint.v1 import cluster_pb2, jobs_pb2, pods_pb2
from stint.v1.job_pb2 import Job
from stint.v1.pod_pb2 import Pod

if TYPE_CHECKING:
    from typing_extensions import Unpack

Q = TypeVar("Q", bound=Message)
A = TypeVar("A")
T = TypeVar("T")

_Connections = list[Server]
"""To one server; `list` is a call of the client."""


class AsyncClient:
    """A client of one cluster. Connections are shared.

    It belongs to the event loop in which it is first used, and to the process that made it: what is called elsewhere
    raises `MisplacedError`.

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
        self._closing = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. Calls that wait end with `ClosedError`, watches and logs just end."""
        if os.getpid() != self._process:
            # The connections are those of the process that made them.
            return
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            if not self._loop.is_closed():
                self._check_place()
            # With its loop all that waits has ended, and the connections go with the objects.
            self._connections.clear()
        self._closing.set()
        connections, self._connections = self._connections, {}
        for stream in list(self._streams):
            stream.close()
        channels = [server.channel for servers in connections.values() for server in servers]
        await asyncio.gather(*(channel.close() for channel in channels))

    # Submitting.

    async def run(self, command: Sequence[str], **options: Unpack[JobOptions]) -> AsyncJobHandle:
        """Submit a Job of one container; `options` are those of `make_job`.

        Errors as those of `submit`.
        """
        return await self.submit(make_job(command, **options))

    async def submit(
        self, job: Job, *, request_id: str | None = None, timeout: float | None = None
    ) -> AsyncJobHandle:
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
                answer = await self._call(
                    Effect.REPEATABLE_WRITE, lambda server: server.jobs.Create, request, left
                )
            except errors.StintError as error:
                submission.failed(error)
            else:
                submitted = Submitted.of(answer, submission.request_id)
                return AsyncJobHandle(self, submitted.job, submitted)

    async def submit_and_wait(self, job: Job, *, timeout: float | None = None, check: bool = True) -> Job:
        """Submit a Job and wait until it has ended; see `submit` and `AsyncJobHandle.wait`."""
        handle = await self.submit(job)
        return await handle.wait(timeout, check=check)

    async def wait_all(
        self, handles: Sequence[AsyncJobHandle], timeout: float | None = None, *, check: bool = True
    ) -> list[Job]:
        """Wait until all these Jobs have ended; return them as they are then, in the same order.

        One stream for all of a namespace, where a wait for each needs as many, of which a server takes 4,096. Raises as
        `AsyncJobHandle.wait`; with `check`, for the first that has failed, at the end.
        """
        jobs = await self._wait_all(handles, "", timeout)
        return [checked(job) for job in jobs] if check else jobs

    async def _wait_all(
        self, handles: Sequence[AsyncJobHandle], name: str, timeout: float | None
    ) -> list[Job]:
        timeout = requests.checked_patience(timeout)
        try:
            return await asyncio.wait_for(self._ends(handles, name), timeout)
        except (asyncio.TimeoutError, TimeoutError):
            raise requests.not_in_time(len(handles), timeout) from None

    async def _ends(self, handles: Sequence[AsyncJobHandle], name: str) -> list[Job]:
        for namespace, of_namespace in requests.by_namespace(handles).items():
            awaited = Awaited(one._known for one in of_namespace)
            if awaited.left:
                from_revision = min(one._revision for one in of_namespace if one.uid in awaited.left)
                async with self.watch(namespace=namespace, name=name, from_revision=from_revision) as watch:
                    async for event in watch:
                        awaited.take(event)
                        if not awaited.left:
                            break
                    else:
                        raise errors.ClosedError
            for one in of_namespace:
                one._known = awaited.known[one.uid]
        return [one._known for one in handles]

    # Jobs.

    async def job(self, name: str, *, namespace: str | None = None) -> AsyncJobHandle:
        """Return a handle of a Job that exists. Raises `NotFoundError`."""
        return AsyncJobHandle(self, await self.get(name, namespace=namespace), None)

    async def get(self, name: str, *, namespace: str | None = None) -> Job:
        """Read a Job, linearizably. Raises `NotFoundError`."""
        request = jobs_pb2.GetJobRequest(namespace=self._namespace(namespace), name=name)
        return await self._call(Effect.READ, lambda server: server.jobs.Get, request)

    async def list(
        self, *, namespace: str | None = None, all_namespaces: bool = False, label_selector: str = ""
    ) -> Listed[Job]:
        """Read all Jobs of a scope as of one revision, page by page."""
        request = requests.list_jobs(self._namespace(namespace), all_namespaces, label_selector)
        return await self._list(lambda server: server.jobs.List, request)

    async def update(self, job: Job) -> Job:
        """Replace a Job's mutable fields; its uid and resource_version are preconditions if set.

        Raises `NotFoundError`, `ConflictError`, `InvalidError`, and `OutcomeUnknownError`: an update is not repeated.
        """
        request = jobs_pb2.UpdateJobRequest(job=request_job(job, self._options.namespace))
        answer = await self._call(Effect.WRITE, lambda server: server.jobs.Update, request)
        return answer.job

    async def delete(
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
            uid = (await self.get(name, namespace=namespace)).metadata.uid
        request = requests.delete_job(self._namespace(namespace), name, uid, propagation)
        with contextlib.suppress(errors.NotFoundError):
            await self._call(Effect.REPEATABLE_WRITE, lambda server: server.jobs.Delete, request)

    def watch(
        self,
        *,
        namespace: str | None = None,
        all_namespaces: bool = False,
        name: str = "",
        label_selector: str = "",
        from_revision: int | None = None,
    ) -> AsyncWatch[Job]:
        """Watch Jobs: changes after `from_revision`; without it what there is comes first, as added.

        Raises `ClosedError` if the client is closed already.
        """
        request = requests.watch_jobs(self._namespace(namespace), all_namespaces, name, label_selector)
        return AsyncWatch(
            self, lambda server: server.jobs.Watch, request, lambda event: event.job, "job", from_revision
        )

    # Pods.

    async def get_pod(self, name: str, *, namespace: str | None = None) -> Pod:
        """Read a Pod, linearizably. Raises `NotFoundError`."""
        request = pods_pb2.GetPodRequest(namespace=self._namespace(namespace), name=name)
        return await self._call(Effect.READ, lambda server: server.pods.Get, request)

    async def list_pods(
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
        return await self._list(lambda server: server.pods.List, request)

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
    ) -> AsyncWatch[Pod]:
        """Watch Pods; as `watch`."""
        request = requests.watch_pods(
            self._namespace(namespace), all_namespaces, name, label_selector, job, node
        )
        return AsyncWatch(
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
    ) -> AsyncLogStream:
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
        return AsyncLogStream(self, LogState(request))

    # The cluster.

    async def status(self) -> cluster_pb2.ClusterStatus:
        """Read what a server knows of the cluster; also answered when there is no leader.

        If the server that is asked knows of no leader, as one that is cut off does, the others are asked too.
        """
        request = cluster_pb2.ClusterStatusRequest()
        asked = requests.AskedForLeader(self._servers, self._options.timeout)
        while not asked.is_over:
            try:
                status = await self._call(
                    Effect.READ, lambda server: server.cluster.Status, request, asked.left()
                )
            except errors.StintError as error:
                asked.failed(error)
            else:
                asked.take(status)
        return asked.known()

    # Connections.

    @property
    def _closed(self) -> bool:
        return self._closing.is_set()

    def _check_place(self) -> None:
        if self._closed:
            raise errors.ClosedError
        if os.getpid() != self._process:
            raise errors.MisplacedError(
                f"the client belongs to process {self._process}, which made it before a fork: make another one here"
            )
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise errors.MisplacedError("the client belongs to another event loop: make one in each")

    def _opens(self, stream: object) -> None:
        """Take note of a stream, so that it ends with the client."""
        if self._closed:
            raise errors.ClosedError
        self._streams.add(stream)

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the client is closed meanwhile."""
        if seconds == 0:
            await asyncio.sleep(0)
            return
        with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)

    def _namespace(self, given: str | None) -> str:
        return self._options.namespace if given is None else given

    async def _list(
        self,
        method: Callable[[Server], grpc.aio.UnaryUnaryMultiCallable[Any, Any]],
        request: jobs_pb2.ListJobsRequest | pods_pb2.ListPodsRequest,
    ) -> Listed[Any]:
        """Read page after page; begin anew if one expired meanwhile."""
        pages = Pages[Any]()
        while True:
            request.continue_token = pages.token
            try:
                answer = await self._call(Effect.READ, method, request)
            except errors.ExpiredError as error:
                pages.expired(error)
                continue
            if (listed := pages.take(answer.items, answer.metadata)) is not None:
                return listed

    def _server(self, address: str) -> Server:
        return self._to(address)[0]

    def _server_for_stream(self, address: str) -> Server:
        """Return a connection with room for another stream, whose end it is told of by `release`."""
        server = requests.connection_for_stream(self._to(address), lambda: Server(address))
        server.n_streams += 1
        return server

    def _to(self, address: str) -> _Connections:
        self._check_place()
        servers = self._connections.get(address)
        if servers is None:
            servers = self._connections[address] = [Server(address)]
        return servers

    async def _call(
        self,
        effect: Effect,
        method: Callable[[Server], grpc.aio.UnaryUnaryMultiCallable[Q, A]],
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
                answer = await send(request, timeout=seconds, metadata=self._options.metadata)
                if answer is not None:
                    return answer
                status = NO_MESSAGE
            except grpc.RpcError as error:
                status = Status.of(error)
            except asyncio.CancelledError:
                # gRPC also raises this where the connection was closed.
                if self._closed and not is_cancelled():
                    raise errors.ClosedError from None
                raise
            await self._pause(attempts.failed(status))


class AsyncJobHandle:
    """A Job that was submitted or found."""

    def __init__(self, client: AsyncClient, job: Job, submitted: Submitted | None) -> None:
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

    async def wait(self, timeout: float | None = None, *, check: bool = True) -> Job:
        """Wait until the Job has ended; return it as it is then.

        timeout: seconds; without it as long as it takes. check: raise `JobFailedError` if it has failed.

        Raises `JobFailedError`, `JobDeletedError`, `WaitTimeoutError`, and the errors of `AsyncWatch`.
        """
        (job,) = await self._client._wait_all([self], self.name, timeout)
        return checked(job) if check else job

    async def get(self) -> Job:
        """Read the Job as it is now. Raises `NotFoundError`, also if another one has its name by now."""
        job = await self._client.get(self.name, namespace=self.namespace)
        if job.metadata.uid != self.uid:
            raise errors.NotFoundError(
                f"job {self.namespace}/{self.name} was deleted; another one has its name"
            )
        return job

    async def delete(self, propagation: Propagation = "background") -> None:
        """Delete the Job; one that is gone already is as wanted."""
        await self._client.delete(self.name, namespace=self.namespace, uid=self.uid, propagation=propagation)

    async def pods(self) -> Listed[Pod]:
        """Read its Pods."""
        return await self._client.list_pods(namespace=self.namespace, job=self.name)

    def logs(self, **options: Unpack[LogsOptions]) -> AsyncLogStream:
        """Read the log of one of its Pods; `options` are those of `AsyncClient.logs`."""
        return self._client.logs(job=self.name, namespace=self.namespace, **options)
