"""Connections of the client for asyncio, and its streams, which are opened anew when they break.

Owns: opening, closing, giving up in time. Does not own: where a stream goes on (`watching`, `logs`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import grpc
from google.protobuf.message import Message

from stint import errors
from stint._client import CHANNEL_OPTIONS
from stint._retry import NO_MESSAGE, STREAM_ENDED, Status, StreamAttempts, no_answer
from stint.logs import Lines, LogPiece, LogState, cant_go_on
from stint.v1 import jobs_pb2, pods_pb2
from stint.v1.cluster_pb2_grpc import ClusterStub
from stint.v1.jobs_pb2_grpc import JobsStub
from stint.v1.pods_pb2 import LogSource
from stint.v1.pods_pb2_grpc import PodsStub
from stint.watching import WatchEvent, WatchState

if TYPE_CHECKING:
    from stint.aio import AsyncClient

A = TypeVar("A")
T = TypeVar("T")


class Server:
    """The connection to one server, made when it is used."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self.jobs = JobsStub(self.channel)
        self.pods = PodsStub(self.channel)
        self.cluster = ClusterStub(self.channel)


def is_cancelled() -> bool:
    """Say whether somebody wants the present task to end, as far as this Python can tell."""
    task = asyncio.current_task()
    cancelling = getattr(task, "cancelling", None)
    return cancelling is not None and cancelling() > 0


class _Stream(Generic[A]):
    """A stream of answers that is opened anew when it breaks, as the retry table says."""

    def __init__(
        self,
        client: AsyncClient,
        method: Callable[[Server], grpc.aio.UnaryStreamMultiCallable[Any, A]],
        request: Callable[[], Any],
    ) -> None:
        self._client = client
        self._method = method
        self._request = request
        self._attempts = StreamAttempts(client._servers, client._options.timeout)
        self._call: grpc.aio.UnaryStreamCall[Any, A] | None = None
        self._closed = False

    def close(self) -> None:
        """End it. Whoever waits for a message gets None."""
        self._closed = True
        if self._call is not None:
            self._call.cancel()

    async def message(self) -> A | None:
        """Return the next message; None at the end, or once it is closed.

        If waiting for it is cancelled nothing is lost: the next one goes on where the stream was.
        """
        while not self._closed:
            if self._call is None and not await self._open():
                continue
            call = self._call
            assert call is not None
            try:
                answer = await call.read()
            except grpc.RpcError as error:
                await self.broke(Status.of(error))
                continue
            except asyncio.CancelledError:
                self._call = None
                call.cancel()
                if self._is_closed():
                    return None
                raise
            if answer is grpc.aio.EOF:
                self._call = None
                return None
            if answer is None:
                call.cancel()
                await self.broke(NO_MESSAGE)
                continue
            self._attempts.worked()
            return cast("A", answer)
        return None

    def _is_closed(self) -> bool:
        """Say whether it was closed: gRPC then cancels whoever waits, as if somebody else had done it."""
        return (self._closed or self._client._closed) and not is_cancelled()

    async def broke(self, status: Status) -> None:
        """Wait as long as is right before the stream is opened again; raise if it is not."""
        self._call = None
        if self._closed or self._client._closed:
            self._closed = True
            return
        await asyncio.sleep(self._attempts.ended(status))

    async def _open(self) -> bool:
        address, seconds = self._attempts.next()
        try:
            server = self._client._server(address)
        except errors.ClosedError:
            self._closed = True
            return False
        call = self._method(server)(self._request(), metadata=self._client._options.metadata)
        try:
            await asyncio.wait_for(call.initial_metadata(), seconds)
        except grpc.RpcError as error:
            await self.broke(Status.of(error))
            return False
        except (asyncio.TimeoutError, TimeoutError):
            call.cancel()
            await self.broke(no_answer(seconds))
            return False
        except asyncio.CancelledError:
            call.cancel()
            if self._is_closed():
                return False
            raise
        self._attempts.opened()
        self._call = call
        return True


class AsyncWatch(Generic[T]):
    """A running watch: iterate over it. After an error it may be iterated over again and goes on where it was.

    Made by `AsyncClient.watch` and `AsyncClient.watch_pods`. Ends when it is closed.
    """

    def __init__(
        self,
        client: AsyncClient,
        method: Callable[[Server], grpc.aio.UnaryStreamMultiCallable[Any, Any]],
        request: jobs_pb2.WatchJobsRequest | pods_pb2.WatchPodsRequest,
        object_of: Callable[[Any], T],
        field: str,
        from_revision: int | None,
    ) -> None:
        self._state = WatchState[T](from_revision, len(client._servers.addresses))
        self._object_of = object_of
        self._field = field
        self._pending: deque[WatchEvent[T]] = deque()

        def next_request() -> Message:
            request.from_revision = self._state.opened()
            return request

        self._stream = _Stream(client, method, next_request)

    async def __aenter__(self) -> AsyncWatch[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it. Whoever waits for it gets the end."""
        self._stream.close()

    def __aiter__(self) -> AsyncIterator[WatchEvent[T]]:
        return self

    async def __anext__(self) -> WatchEvent[T]:
        """Wait for the next event.

        Raises `UnreachableError` or `UnavailableError` if no server answers for as long as a call may take.
        """
        while not self._pending:
            try:
                event = await self._stream.message()
            except errors.ExpiredError as error:
                self._state.expired(error)
                continue
            if event is None:
                if self._stream._closed or self._stream._client._closed:
                    raise StopAsyncIteration
                await self._stream.broke(STREAM_ENDED)
                continue
            found = self._object_of(event) if event.HasField(self._field) else None
            self._pending.extend(self._state.take(event.type, event.revision, found))
        return self._pending.popleft()


class AsyncLogStream:
    """A log as it comes: iterate over its pieces, or over `lines`. A broken connection is mended where it broke."""

    def __init__(self, client: AsyncClient, state: LogState) -> None:
        self._state = state

        def next_request() -> Message:
            if not state.can_go_on():
                raise cant_go_on()
            return state.opened()

        self._stream = _Stream[pods_pb2.PodLogsChunk](client, lambda server: server.pods.Logs, next_request)

    @property
    def source(self) -> LogSource | None:
        """Of which run of which container the log is, once the first piece has come."""
        return self._state.source

    async def __aenter__(self) -> AsyncLogStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it. Whoever waits for it gets the end."""
        self._stream.close()

    def __aiter__(self) -> AsyncIterator[LogPiece]:
        return self

    async def __anext__(self) -> LogPiece:
        """Wait for the next piece."""
        while (chunk := await self._stream.message()) is not None:
            if (piece := self._state.take(chunk)) is not None:
                return piece
        self._stream.close()
        raise StopAsyncIteration

    async def lines(self) -> AsyncIterator[str]:
        """Iterate over the lines, without their ends. Notes of missing output are left out."""
        lines = Lines()
        async for piece in self:
            for line in lines.take(piece):
                yield line
        for line in lines.rest():
            yield line

    async def read(self) -> bytes:
        """Return everything up to the end. Notes of missing output are left out."""
        return b"".join([piece.data async for piece in self])
