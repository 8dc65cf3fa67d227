"""Connections of the synchronous client, and its streams, which are opened anew when they break.

Owns: opening, closing, giving up in time. Does not own: where a stream goes on (`watching`, `logs`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from stint import errors
from stint._client import CHANNEL_OPTIONS, check_size
from stint._retry import STREAM_ENDED, Status, StreamAttempts, no_answer
from stint.logs import Lines, LogPiece, LogState
from stint.v1 import jobs_pb2, pods_pb2
from stint.v1.cluster_pb2_grpc import ClusterStub
from stint.v1.jobs_pb2_grpc import JobsStub
from stint.v1.pods_pb2 import LogSource
from stint.v1.pods_pb2_grpc import PodsStub
from stint.watching import WatchEvent, WatchState

if TYPE_CHECKING:
    from stint.client import Client

A = TypeVar("A")
M = TypeVar("M", covariant=True)
T = TypeVar("T")


class Server:
    """A connection to one server, made when it is used."""

    def __init__(self, address: str) -> None:
        self.n_streams = 0
        self.channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        self.jobs = JobsStub(self.channel)
        self.pods = PodsStub(self.channel)
        self.cluster = ClusterStub(self.channel)


class _Answers(Protocol[M]):
    """What gRPC gives for a call with a stream of answers."""

    def __next__(self) -> M: ...

    def cancel(self) -> bool: ...

    def add_callback(self, callback: Callable[[], None]) -> bool: ...

    def initial_metadata(self) -> object: ...


class _Stream(Generic[A]):
    """A stream of answers that is opened anew when it breaks, as the retry table says."""

    def __init__(
        self,
        client: Client,
        method: Callable[[Server], grpc.UnaryStreamMultiCallable[Any, A]],
        request: Callable[[], Any],
    ) -> None:
        self._client = client
        self._method = method
        self._request = request
        self._attempts = StreamAttempts(client._servers, client._options.timeout)
        self._call: _Answers[A] | None = None
        self._closing = threading.Event()
        self.deadline: float | None = None
        """When waiting ends with `WaitTimeoutError`, by the monotonic clock."""
        client._opens(self)

    @property
    def is_closed(self) -> bool:
        """Say whether it was closed, alone or with its client."""
        return self._closing.is_set()

    def close(self) -> None:
        """End it. May come from another thread."""
        self._closing.set()
        call = self._call
        if call is not None and self._client._is_here():
            call.cancel()

    def message(self) -> A | None:
        """Return the next message; None at the end, or once it is closed."""
        self._client._check_process()
        while not self.is_closed:
            try:
                call = self._call or self._open()
                if call is None:
                    continue
                answer = next(call)
            except StopIteration:
                self._call = None
                return None
            except grpc.RpcError as error:
                self.broke(Status.of(error))
            except errors.ClosedError:
                return None
            else:
                return answer
        return None

    def worked(self) -> None:
        """Note that a message brought it further: the time that opening may take begins anew."""
        self._attempts.worked()

    def broke(self, status: Status) -> None:
        """Wait as long as is right before the stream is opened again; raise if it is not."""
        self._call = None
        if self.is_closed:
            return
        left = self._left()
        pause = self._attempts.ended(status)
        if left is not None and left <= pause:
            raise errors.WaitTimeoutError(f"it did not come in time; last: {status.message}")
        self._closing.wait(pause)

    def _left(self) -> float | None:
        if self.deadline is None:
            return None
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise errors.WaitTimeoutError("it did not come in time")
        return left

    def _open(self) -> _Answers[A] | None:
        """Begin a stream; None if the server did not, in time."""
        address, seconds = self._attempts.next()
        left = self._left()
        request, metadata = self._request(), self._client._options.metadata
        check_size(request.ByteSize())
        server, release = self._client._server_for_stream(address)
        try:
            call: _Answers[A] = self._method(server)(request, timeout=left, metadata=metadata)
        except ValueError:
            release()
            if self._client._closed:
                raise errors.ClosedError from None
            raise
        if not call.add_callback(release):
            release()
        # Whoever closes it from now on cancels this call.
        self._call = call
        if self.is_closed:
            call.cancel()
        gave_up = threading.Event()

        def give_up() -> None:
            gave_up.set()
            call.cancel()

        # gRPC can't bound the wait for the beginning of a stream without bounding the stream.
        timer = threading.Timer(seconds, give_up)
        timer.daemon = True
        timer.start()
        try:
            call.initial_metadata()
        except BaseException:
            # Such as Ctrl-C: the stream is not left behind.
            self._call = None
            call.cancel()
            raise
        finally:
            timer.cancel()
        if gave_up.is_set():
            self.broke(no_answer(seconds))
            return None
        self._attempts.opened()
        return call


class Watch(Generic[T]):
    """A running watch: iterate over it. After an error it may be iterated over again and goes on where it was.

    Made by `Client.watch` and `Client.watch_pods`. Ends when it is closed, by itself or with its client. Threads that
    share one get each event once.
    """

    def __init__(
        self,
        client: Client,
        method: Callable[[Server], grpc.UnaryStreamMultiCallable[Any, Any]],
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
        self._lock = threading.Lock()

        # Not of `self`: a watch that nobody has any more ends at once.
        def next_request() -> Message:
            request.from_revision = state.opened()
            return request

        self._stream = _Stream(client, method, next_request)

    def __enter__(self) -> Watch[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it. May come from another thread."""
        self._stream.close()

    def __iter__(self) -> Iterator[WatchEvent[T]]:
        return self

    def __next__(self) -> WatchEvent[T]:
        """Wait for the next event.

        Raises `UnreachableError` or `UnavailableError` if no server answers for as long as a call may take.
        """
        self._stream._client._check_process()
        with self._lock:
            while not self._pending:
                self._read()
            return self._pending.popleft()

    def _read(self) -> None:
        """Read one message, or what came in its place."""
        try:
            event = self._stream.message()
        except errors.ExpiredError as error:
            self._state.expired(error)
            return
        if event is None:
            if self._stream.is_closed:
                raise StopIteration
            self._stream.broke(STREAM_ENDED)
            return
        found = self._object_of(event) if event.HasField(self._field) else None
        before = self._state.revision
        self._pending.extend(self._state.take(event.type, event.revision, found))
        # What was given before, and what there is as long as it is not whole, lead nowhere if the stream breaks each
        # time.
        if self._state.revision > before:
            self._stream.worked()


class LogStream:
    """A log as it comes: iterate over its pieces, or over `lines`. A broken connection is mended where it broke."""

    def __init__(self, client: Client, state: LogState) -> None:
        self._state = state
        self._has_ended = False
        self._stream = _Stream[pods_pb2.PodLogsChunk](client, lambda server: server.pods.Logs, state.opened)

    @property
    def source(self) -> LogSource | None:
        """Of which run of which container the log is, once the first piece has come."""
        return self._state.source

    def __enter__(self) -> LogStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it. May come from another thread. Whoever iterates over it gets the end."""
        self._stream.close()

    def __iter__(self) -> Iterator[LogPiece]:
        return self

    def __next__(self) -> LogPiece:
        """Wait for the next piece.

        Raises `LogBrokeError`, and `UnreachableError` or `UnavailableError` if no server answers for as long as a call
        may take.
        """
        while (chunk := self._stream.message()) is not None:
            piece = self._state.take(chunk)
            # Whose log it is alone, what was given before, and that some is missing lead nowhere if the node is lost
            # each time.
            if self._state.has_advanced:
                self._stream.worked()
            if piece is not None:
                return piece
        self._has_ended = self._has_ended or not self._stream.is_closed
        self._stream.close()
        raise StopIteration

    def lines(self) -> Iterator[str]:
        """Iterate over the lines, without their ends. Notes of missing output are left out.

        What is not UTF-8 is replaced; a line of more than 1 MiB is given in pieces.
        """
        lines = Lines()
        for piece in self:
            yield from lines.take(piece)
        yield from lines.rest()

    def read(self) -> bytes:
        """Return everything up to the end. Notes of missing output are left out.

        Raises `ClosedError` if it was closed before it had ended: what was read is not all.
        """
        read = b"".join(piece.data for piece in self)
        if not self._has_ended:
            raise errors.ClosedError
        return read
