"""The retry table: what the end of one attempt means for the next. The same for both clients.

Owns: reading a status, which server is asked next, pauses, time limits, which error is raised in the end.
Does not own: sending, sleeping.

Invariants: a write that may have been carried out is repeated only if repeating it changes nothing, and if none of its
attempts is answered the caller is told that its outcome is unknown; every call ends within its time limit.
"""

from __future__ import annotations

import enum
import ipaddress
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from stint import _limits, errors

ERROR_DOMAIN = "stint.dev"
LEADER_ADDRESS = "leaderAddress"
STATUS_DETAILS = "grpc-status-details-bin"

_REASONS: dict[str, type[errors.RefusedError]] = {
    "BadRequest": errors.InvalidError,
    "Invalid": errors.InvalidError,
    "RequestTooLarge": errors.InvalidError,
    "NotFound": errors.NotFoundError,
    "AlreadyExists": errors.AlreadyExistsError,
    "Conflict": errors.ConflictError,
    "Expired": errors.ExpiredError,
    "Unauthenticated": errors.UnauthenticatedError,
    "PermissionDenied": errors.PermissionDeniedError,
    "TooManyRequests": errors.LimitExceededError,
    "LimitExceeded": errors.LimitExceededError,
}

# What gRPC says if no connection could be made, so that nothing was sent. A text that is not known here is the safe
# side: the attempt then counts as one that may have been carried out.
_NOT_CONNECTED = (
    "failed to connect to all addresses",
    "DNS resolution failed",
    "errors resolving",
    "empty address list",
)


class Effect(enum.Enum):
    """What a call does, and so what may be done about an attempt whose outcome is not known."""

    READ = "read"
    """It changes nothing."""
    REPEATABLE_WRITE = "repeatable write"
    """It changes something, and nothing more if it is carried out again."""
    WRITE = "write"
    """It changes something each time."""


@dataclass(frozen=True)
class Status:
    """How an attempt ended."""

    code: grpc.StatusCode
    message: str = ""
    details: bytes | None = None
    """`grpc-status-details-bin`."""

    @staticmethod
    def of(error: grpc.RpcError) -> Status:
        """Read what gRPC raised. Both of its clients raise objects with these methods, which its base class lacks."""
        call: grpc.Call = error  # type: ignore[assignment]
        details = None
        for key, value in call.trailing_metadata() or ():
            if key == STATUS_DETAILS and isinstance(value, bytes):
                details = value
        return Status(call.code() or grpc.StatusCode.UNKNOWN, call.details() or "", details)


@dataclass(frozen=True)
class NotDone:
    """Certainly not carried out: try again, elsewhere."""

    message: str
    pause: float | None = None
    """Seconds that the server asked for."""
    leader: str | None = None
    """Where the leader is, if the server knows."""
    answered: bool = True
    """A server said so, not the lack of one."""


@dataclass(frozen=True)
class MaybeDone:
    """Perhaps carried out, perhaps not."""

    message: str


@dataclass(frozen=True)
class Final:
    """The caller's business."""

    error: errors.RefusedError


Meaning = NotDone | MaybeDone | Final


def meaning(status: Status) -> Meaning:
    """Say what the end of an attempt means: the rows of the retry table."""
    info, bad_request, retry_info = _details(status.details)
    if info is None or info.domain != ERROR_DOMAIN:
        return _meaning_of_connection(status)
    pause = None
    if retry_info is not None:
        asked = retry_info.retry_delay.seconds + retry_info.retry_delay.nanos / 1e9
        pause = min(max(asked, 0.0), _limits.RETRY_PAUSE_ASKED_MAX)
    if info.reason == "OutcomeUnknown":
        return MaybeDone(status.message)
    if info.reason == "NotLeader":
        return NotDone(status.message, pause, info.metadata.get(LEADER_ADDRESS) or None)
    # The server says that nothing was changed, and that it may go better next time.
    if info.reason == "Timeout" or status.code is grpc.StatusCode.UNAVAILABLE:
        return NotDone(status.message, pause)
    if status.code is grpc.StatusCode.RESOURCE_EXHAUSTED and pause is not None:
        return NotDone(status.message, pause)
    violations: tuple[errors.FieldViolation, ...] = ()
    if bad_request is not None:
        violations = tuple(
            errors.FieldViolation(one.field, one.description) for one in bad_request.field_violations
        )
    kind = _REASONS.get(info.reason, errors.RefusedError)
    return Final(
        kind(
            status.message,
            reason=info.reason,
            code=status.code.name,
            field_violations=violations,
            metadata=dict(info.metadata),
        )
    )


def _meaning_of_connection(status: Status) -> Meaning:
    """Of a status without a reason of stint's own: it comes from the connection, or from something between."""
    code = status.code
    if code is grpc.StatusCode.UNAVAILABLE and status.message.startswith(_NOT_CONNECTED):
        return NotDone(status.message, answered=False)
    if code in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    ):
        return MaybeDone(status.message or code.name)
    kind = {
        grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
        grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExistsError,
        grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidError,
        grpc.StatusCode.UNAUTHENTICATED: errors.UnauthenticatedError,
        grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDeniedError,
    }.get(code, errors.RefusedError)
    return Final(kind(status.message or code.name, code=code.name))


def _details(
    encoded: bytes | None,
) -> tuple[
    error_details_pb2.ErrorInfo | None,
    error_details_pb2.BadRequest | None,
    error_details_pb2.RetryInfo | None,
]:
    """Take apart `grpc-status-details-bin`. What can't be read is as if it were not there."""
    info = bad_request = retry_info = None
    try:
        for detail in status_pb2.Status.FromString(encoded or b"").details:
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                info = error_details_pb2.ErrorInfo.FromString(detail.value)
            elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
                bad_request = error_details_pb2.BadRequest.FromString(detail.value)
            elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                retry_info = error_details_pb2.RetryInfo.FromString(detail.value)
    except DecodeError:
        return None, None, None
    return info, bad_request, retry_info


class Servers:
    """The known servers, and which of them is asked first. Safe for threads."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.addresses = tuple(addresses)
        self._current = 0
        self._told: list[str] = []
        self._lock = threading.Lock()

    def first(self) -> int:
        """Position of the server that is asked first."""
        return self._current

    def passed_over(self, position: int) -> None:
        """Ask the next one first from now on, unless another call has decided already."""
        with self._lock:
            if self._current == position:
                self._current = (position + 1) % len(self.addresses)

    def hinted(self, address: str) -> str | None:
        """Take a leader's address from a server. None if it can't be used. A known server is asked first from now on."""
        address = address.removeprefix("http://")
        with self._lock:
            if address in self.addresses:
                self._current = self.addresses.index(address)
            elif address not in self._told:
                if len(self._told) >= _limits.ADDRESSES_MAX or not is_address(address):
                    return None
                self._told.append(address)
        return address


class Attempts:
    """The attempts of one call: `next`, send, and `failed` if it did, until it raises."""

    def __init__(
        self,
        servers: Servers,
        effect: Effect,
        timeout: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._servers = servers
        self._effect = effect
        self._timeout = timeout
        self._clock = clock
        self._jitter = jitter
        self._begun = clock()
        self._pause = _limits.RETRY_PAUSE_FIRST
        self._failures = 0
        self._may_be_done = False
        self._hinted: str | None = None
        self._followed_hint = False
        self._position = servers.first()
        self._said: str | None = None
        """What a server said last."""

    def next(self) -> tuple[str, float]:
        """Name the address that is asked now, and say how many seconds it may take."""
        left = max(self._timeout - (self._clock() - self._begun), 0.0)
        self._position = self._servers.first()
        hinted, self._hinted = self._hinted, None
        self._followed_hint = hinted is not None
        # A server that accepts and never answers must not use up the time of the others.
        if self._effect is not Effect.WRITE and len(self._servers.addresses) > 1:
            left = min(left, _limits.ATTEMPT_TIMEOUT)
        return hinted or self._servers.addresses[self._position], left

    def ask_another(self) -> None:
        """Ask another server first from now on."""
        self._servers.passed_over(self._position)

    def failed(self, status: Status) -> float:
        """Return the seconds to wait before the next attempt; raise if there is none."""
        what = meaning(status)
        answered, asked = False, None
        if isinstance(what, Final):
            raise what.error
        if isinstance(what, MaybeDone):
            if self._effect is Effect.WRITE:
                raise errors.OutcomeUnknownError(_cause(what.message))
            self._may_be_done |= self._effect is Effect.REPEATABLE_WRITE
        else:
            answered, asked = what.answered, what.pause
            if what.leader is not None and not self._followed_hint:
                self._hinted = self._servers.hinted(what.leader)
        if answered:
            self._said = what.message
        self._failures += 1
        if self._hinted is None:
            # Another server may know better, or be up: also after one that was only asked because another named it.
            self._servers.passed_over(self._position)
        is_round_over = self._failures % len(self._servers.addresses) == 0
        wait = 0.0
        if self._hinted is not None:
            pass
        elif asked is not None:
            # Never sooner than asked; later by a little, so that not all callers come back at once.
            wait = asked * (1 + self._jitter() / 4)
        elif is_round_over:
            wait = self._pause * (1 + self._jitter()) / 2
        if is_round_over:
            self._pause = min(self._pause * 2, _limits.RETRY_PAUSE_MAX)
        passed = self._clock() - self._begun
        if passed + wait < self._timeout:
            return wait
        if self._may_be_done:
            raise errors.OutcomeUnknownError(_cause(what.message))
        # An attempt that began with next to no time left says nothing about the servers.
        was_cut = isinstance(what, MaybeDone) and passed >= self._timeout
        if self._said is not None and (answered or was_cut):
            raise errors.UnavailableError(self._timeout, self._said)
        raise errors.UnreachableError(",".join(self._servers.addresses), self._timeout, what.message)


def no_answer(seconds: float) -> Status:
    """Make the status of an attempt that this client gave up because nothing came."""
    return Status(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {seconds:.1f} s")


def _cause(message: str) -> str:
    """Take the cause out of what a server says of an unknown outcome, which it says in the same words as this client."""
    before, bracket, rest = message.partition("the outcome is unknown (")
    if bracket and not before:
        cause, end, _ = rest.partition("):")
        if end:
            return cause
    return message


def is_address(text: str) -> bool:
    """Say whether a text is HOST:PORT, perhaps behind `http://`."""
    parts = _HOST_PORT.fullmatch(text.removeprefix("http://"))
    if parts is None or not 0 < int(parts["port"]) <= 65535:
        return False
    # An IPv6 address must be in brackets: its last part would be taken for the port.
    return parts["ipv6"] is None or _is_ipv6(parts["ipv6"])


_HOST_PORT = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|[0-9A-Za-z._-]+):(?P<port>[0-9]{1,5})")


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


class StreamAttempts:
    """The attempts of one stream that is opened again whenever it ends. Reads only."""

    def __init__(
        self, servers: Servers, timeout: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._servers = servers
        self._timeout = timeout
        self._clock = clock
        self._attempts: Attempts | None = None
        self._opened: float | None = None

    def next(self) -> tuple[str, float]:
        """Name the address that is asked now, and say how many seconds it may take until the stream is open."""
        if self._attempts is None:
            self._attempts = Attempts(self._servers, Effect.READ, self._timeout, clock=self._clock)
        return self._attempts.next()

    def opened(self) -> None:
        """Note that the server has begun to answer."""
        self._opened = self._clock()

    def worked(self) -> None:
        """Note that a message brought the stream further: what was before is forgotten."""
        self._attempts = None

    def ended(self, status: Status) -> float:
        """Return the seconds to wait before the next attempt; raise if there is none."""
        opened, self._opened = self._opened, None
        if opened is not None and self._clock() - opened >= _limits.STREAM_HEALTHY_AFTER:
            self._attempts = None
        if self._attempts is None:
            self.next()
        assert self._attempts is not None
        try:
            return self._attempts.failed(status)
        except errors.StintError as error:
            if isinstance(error, errors.ExpiredError):
                self._attempts.ask_another()
            # Whoever asks again gets the whole time again.
            self._attempts = None
            raise


NO_MESSAGE = Status(grpc.StatusCode.INTERNAL, "the answer is no message of the kind that was asked for")
"""What gRPC's asyncio client gives as None, and the other one raises."""

STREAM_ENDED = Status(grpc.StatusCode.UNAVAILABLE, "the server ended the stream")
"""A stream that never ends by itself has ended: a server that stops does so."""
