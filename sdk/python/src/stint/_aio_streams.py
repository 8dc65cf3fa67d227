"""Connections of the client for asyncio, and its streams, which are opened anew when they break.

Owns: opening, closing, giving up in time. Does not own: where a stream goes on (`watching`, `logs`).
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import grpc
from google.protobuf.message import Message

from stint import errors
from stint._client import CHANNEL_OPTIONS, check_size
from stint._retry import NO_MESSAGE, STREAM_ENDED, Status, StreamAttempts, no_answer
from stint.logs import Lines, LogPiece, LogState
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
    """A connection to one server, made when it is used."""

    def __init__(self, address: str) -> None:
        self.n_streams = 0
        self.channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self.jobs = JobsStub(self.channel)
        self.pods = PodsStub(self.channel)
        self.cluster = ClusterStub(self.channel)

    def release(self, _ended: object) -> None:
        """Take note that a stream has ended."""
        self.n_streams -= 1


def is_cancelled() -> bool:
    """Say whether somebody wants the present task to end, as far as this Python can tell."""
    task = asyncio.current_task()
    cancelling = getattr(task, "cancelling", None)
    return cancelling is not None and cancelling() > 0


class Stream(Generic[A]):
    """A stream of answers that is opened anew when it breaks, as the retry table says.

    It is read by a task of its own: giving up the wait for a message neither loses it nor ends the call.
    """

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
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reading: asyncio.Task[A | None] | None = None
        self.is_closed = False
        """It was closed, alone or with its client."""
        client._opens(self)

    def close(self) -> None:
        """End it. Whoever waits for a message gets None."""
        self.is_closed = True
        if self._loop is None or self._loop.is_closed():
            return
        if self._reading is not None:
            self._reading.cancel()
        if self._call is not None:
            self._call.cancel()

    def close_unused(self) -> None:
        """End it, from wherever objects that nobody has any more are removed."""
        if self._loop is not None and not self.is_closed:
            # The loop may be closed already.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.close)

    async def message(self) -> A | None:
        """Return the next message; None at the end, or once it is closed. For one task at a time.

        If waiting for it is cancelled nothing is lost: the next one waits for the same message.
        """
        if self.is_closed:
            return None
        self._client._check_place()
        if self._reading is None:
            self._loop = asyncio.get_running_loop()
            self._reading = self._loop.create_task(self._read())
            # If nobody waits for it any more, that it failed is nobody's business.
            self._reading.add_done_callback(lambda task: task.cancelled() or task.exception())
        reading = self._reading
        await asyncio.wait((reading,))
        self._reading = None
        if self.is_closed:
            return None
        return reading.result()

    def worked(self) -> None:
        """Note that a message brought it further: the time that opening may take begins anew."""
        self._attempts.worked()

    async def broke(self, status: Status) -> None:
        """Wait as long as is right before the stream is opened again; raise if it is not."""
        self._call = None
        if not self.is_closed:
            await self._client._pause(self._attempts.ended(status))

    async def _read(self) -> A | None:
        while not self.is_closed:
            if self._call is None and not await self._open():
                continue
            call = self._call
            assert call is not None
            try:
                answer = await call.read()
            except grpc.RpcError as error:
                await self.broke(Status.of(error))
                continue
            except BaseException:
                self._call = None
                call.cancel()
                raise
            if answer is grpc.aio.EOF:
                self._call = None
                return None
            if answer is None:
                call.cancel()
                await self.broke(NO_MESSAGE)
                continue
            return cast("A", answer)
        return None

    async def _open(self) -> bool:
        address, seconds = self._attempts.next()
        request = self._request()
        check_size(request.ByteSize())
        server = self._client._server_for_stream(address)
        call = self._method(server)(request, metadata=self._client._options.metadata)
        call.add_done_callback(server.release)
        try:
            await asyncio.wait_for(call.initial_metadata(), seconds)
        except grpc.RpcError as error:
            await self.broke(Status.of(error))
            return False
        except (asyncio.TimeoutError, TimeoutError):
            call.cancel()
            await self.broke(no_answer(seconds))
            return False
        except BaseException:
            call.cancel()
            raise
        self._attempts.opened()
        self._call = call
        return True


class AsyncWatch(Generic[T]):
    """A running watch: iterate over it. After an error it may be iterated over again and goes on where it was.

    Made by `AsyncClient.watch` and `AsyncClient.watch_pods`. Ends when it is closed, by itself or with its client.
    Waiting for an event may be given up, as `asyncio.wait_for` does, without losing one. Tasks that share one get each
    event once.
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
        state = WatchState[T](from_revision, len(client._servers.addresses))
        self._state = state
        self._object_of = object_of
        self._field = field
        self._pending: deque[WatchEvent[T]] = deque()
        self._lock = asyncio.Lock()

        # Not of `self`: a watch that nobody has any more ends at once.
        def next_request() -> Message:
            request.from_revision = state.opened()
            return request

        self._stream = Stream(client, method, next_request)
        weakref.finalize(self, self._stream.close_unused).atexit = False

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
        async with self._lock:
            while not self._pending:
                await self._read()
            return self._pending.popleft()

    async def _read(self) -> None:
        """Read one message, or what came in its place."""
        try:
            event = await self._stream.message()
        except errors.ExpiredError as error:
            self._state.expired(error)
            return
        if event is None:
            if self._stream.is_closed:
                raise StopAsyncIteration
            await self._stream.broke(STREAM_ENDED)
            return
        found = self._object_of(event) if event.HasField(self._field) else None
        before = self._state.revision
        self._pending.extend(self._state.take(event.type, event.revision, found))
        # What was given before, and what there is as long as it is not whole, lead nowhere if the stream breaks each
        # time.
        if self._state.revision > before:
            self._stream.worked()


class AsyncLogStream:
    """A log as it comes: iterate over its pieces, or over `lines`. A broken connection is mended where it broke.

    Waiting for a piece may be given up, as `asyncio.wait_for` does, without losing one.
    """

    def __init__(self, client: AsyncClient, state: LogState) -> None:
        self._state = state
        self._has_ended = False
        self._lock = asyncio.Lock()
        self._stream = Stream[pods_pb2.PodLogsChunk](client, lambda server: server.pods.Logs, state.opened)
        weakref.finalize(self, self._stream.close_unused).atexit = False

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
        """End it. Whoever iterates over it gets the end."""
        self._stream.close()

    def __aiter__(self) -> AsyncIterator[LogPiece]:
        return self

    async def __anext__(self) -> LogPiece:
        """Wait for the next piece.

        Raises `LogBrokeError`, and `UnreachableError` or `UnavailableError` if no server answers for as long as a call
        may take.
        """
        async with self._lock:
            while (chunk := await self._stream.message()) is not None:
                piece = self._state.take(chunk)
                # Whose log it is alone, what was given before, and that some is missing lead nowhere if the node is
                # lost each time.
                if self._state.has_advanced:
                    self._stream.worked()
                if piece is not None:
                    return piece
            self._has_ended = self._has_ended or not self._stream.is_closed
            self._stream.close()
            raise StopAsyncIteration

    async def lines(self) -> AsyncIterator[str]:
        """Iterate over the lines, without their ends. Notes of missing output are left out.

        What is not UTF-8 is replaced; a line of more than 1 MiB is given in pieces.
        """
        lines = Lines()
        async for piece in self:
            for line in lines.take(piece):
                yield line
        for line in lines.rest():
            yield line

    async def read(self) -> bytes:
        """Return everything up to the end. Notes of missing output are left out.

        Raises `ClosedError` if it was closed before it had ended: what was read is not all.
        """
        read = b"".join([piece.data async for piece in self])
        if not self._has_ended:
            raise errors.ClosedError
        return read
