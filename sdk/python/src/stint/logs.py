"""Logs: what they give, and how they go on after a broken connection. The same for both clients.

Owns: the place in a log from which a new stream goes on; lines. Does not own: connections.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypedDict

from stint import _limits, errors
from stint.v1 import pods_pb2
from stint.v1.pods_pb2 import LogCut, LogSource, PodLogsChunk, PodLogsRequest

_STREAMS: dict[int, Literal["stdout", "stderr", "both"]] = {
    pods_pb2.LOG_STREAM_STDOUT: "stdout",
    pods_pb2.LOG_STREAM_STDERR: "stderr",
}


@dataclass(frozen=True)
class LogPiece:
    """A piece of a log: output, or the note that output is missing."""

    data: bytes
    """Output; not necessarily whole lines, nor UTF-8. Empty if `cut` is set."""
    stream: Literal["stdout", "stderr", "both"]
    """Where it was written to; `both`: as it was written, and not told apart."""
    cut: LogCut | None = None
    """Output is missing here: why, and from which node."""


class LogState:
    """How far a log is read."""

    def __init__(self, request: PodLogsRequest) -> None:
        self.request = request
        """What a new stream asks for."""
        self.source: LogSource | None = None
        """Whose log it is, once the first message has come."""
        self.has_advanced = False
        """The last message brought the log further than any stream has been."""
        # Bytes given after the last position that the stream has named: a new stream begins with them again.
        self._given_since_offset = 0
        self._repeated = 0

    def opened(self) -> PodLogsRequest:
        """Return what a new stream asks for; raise `LogBrokeError` if it would not begin where this one ended."""
        request = self.request
        begins_elsewhere = request.HasField("tail_lines") or request.WhichOneof("since") is not None
        if self._given_since_offset > 0 and begins_elsewhere:
            raise errors.LogBrokeError
        self._repeated = self._given_since_offset
        return request

    def take(self, chunk: PodLogsChunk) -> LogPiece | None:
        """Say what a message gives."""
        if chunk.HasField("source"):
            # From now on this very run.
            self.source = chunk.source
            self.request.pod_name = chunk.source.pod_name
            self.request.pod_uid = chunk.source.pod_uid
            self.request.restart_count = chunk.source.restart_count
            self.request.previous = False
        skipped = min(self._repeated, len(chunk.data))
        self._repeated -= skipped
        data = chunk.data[skipped:]
        self._given_since_offset += len(data)
        self.has_advanced = bool(data)
        if chunk.next_offset > self.request.offset:
            # And from this very place: what is there is neither too old nor before the tail.
            self.request.offset = chunk.next_offset
            self.request.ClearField("tail_lines")
            self.request.ClearField("since_time")
            self.request.ClearField("since_seconds")
            self._given_since_offset = 0
            self._repeated = 0
            self.has_advanced = True
        cut = chunk.cut if chunk.HasField("cut") else None
        if not data and cut is None:
            return None
        return LogPiece(data, _STREAMS.get(chunk.stream, "both"), cut)


class Lines:
    """Puts the pieces of a log together to lines, in the order in which they were written."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def take(self, piece: LogPiece) -> Iterator[str]:
        """Give the lines that are whole now, without their ends; a line of more than 1 MiB in pieces."""
        first, *more = piece.data.split(b"\n")
        self._rest += first
        for begin in more:
            yield from self._given()
            self._rest += begin
        if len(self._rest) >= _limits.LINE_BYTES_MAX:
            yield from self._given()

    def rest(self) -> Iterator[str]:
        """Give what was not ended by a line end."""
        if self._rest:
            yield from self._given()

    def _given(self) -> Iterator[str]:
        line, self._rest = self._rest, bytearray()
        yield line.decode(errors="replace")


class LogsOptions(TypedDict, total=False):
    """The options of `Client.logs` that say which part of a log, for calls that pass them on."""

    container: str
    restart_count: int | None
    previous: bool
    follow: bool
    tail_lines: int | None
    since: float | datetime.datetime | None
    timestamps: bool


def logs_request(
    *,
    namespace: str,
    pod: str | None,
    job: str | None,
    container: str,
    restart_count: int | None,
    previous: bool,
    follow: bool,
    tail_lines: int | None,
    since: float | datetime.datetime | None,
    timestamps: bool,
) -> PodLogsRequest:
    """Make the request for a log."""
    if (pod is None) == (job is None):
        raise ValueError("logs are of a Pod or of a Job: give either pod or job")
    request = PodLogsRequest(
        namespace=namespace, container=container, previous=previous, follow=follow, timestamps=timestamps
    )
    if pod is not None:
        request.pod_name = pod
    if job is not None:
        request.job_name = job
    if restart_count is not None:
        request.restart_count = restart_count
    if tail_lines is not None:
        request.tail_lines = tail_lines
    if isinstance(since, datetime.datetime):
        # Without a time zone it is local time, as everywhere in Python.
        request.since_time.FromDatetime(since.astimezone(datetime.timezone.utc))
    elif since is not None:
        # Rounded up: rather a little more than a line too few.
        request.since_seconds = -int(-since // 1)
    return request
