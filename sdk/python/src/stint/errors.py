"""What can go wrong with a call.

Owns: the types of errors. Does not own: which status of the wire becomes which (`_retry`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stint.v1.job_pb2 import Job


class StintError(Exception):
    """All errors of this package."""


class AddressError(StintError, ValueError):
    """An address can't be used."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"{address!r} is not the address of a server: give HOST:PORT, or several separated by commas"
        )
        self.address = address
        """As given."""


class TokenError(StintError, ValueError):
    """A token can't be sent. The message never shows the token."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the token can't be used: {problem}")
        self.problem = problem
        """What is wrong with it."""


class UnreachableError(StintError):
    """No server answered. Nothing was changed."""

    def __init__(self, addresses: str, timeout: float, last: str) -> None:
        super().__init__(
            f"no server could be reached at {addresses} within {timeout:g} s ({last}): "
            "check the addresses, and that a majority of the servers runs"
        )
        self.addresses = addresses
        """All that were tried, separated by commas."""
        self.timeout = timeout
        """Seconds for which it was tried."""
        self.last = last
        """What the last attempt met."""


class UnavailableError(StintError):
    """Servers answered, and could not do it as long as it was tried. Nothing was changed."""

    def __init__(self, timeout: float, last: str) -> None:
        super().__init__(f"given up after {timeout:g} s: {last}")
        self.timeout = timeout
        """Seconds for which it was tried."""
        self.last = last
        """What the last server said."""


class OutcomeUnknownError(StintError):
    """A write may or may not have been carried out."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"the outcome is unknown ({cause}): look at the object before trying again")
        self.cause = cause
        """What the attempt met."""
        self.request_id: str | None = None
        """Of a submit: the same Job with this id, within 5 minutes of the first attempt, tells the outcome and
        never makes a second Job."""


@dataclass(frozen=True)
class FieldViolation:
    """One field that is wrong."""

    field: str
    """Its path in the names of Kubernetes' JSON, such as `spec.template.spec.restartPolicy`."""
    description: str
    """What is wrong with it."""


class RefusedError(StintError):
    """The server refused."""

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        code: str = "UNKNOWN",
        field_violations: tuple[FieldViolation, ...] = (),
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        """Stable; for programs, such as `NotFound`. None if the server gave none of stint's own."""
        self.code = code
        """Name of the gRPC code, such as `NOT_FOUND`."""
        self.field_violations = field_violations
        """Which fields are wrong."""
        self.metadata = metadata or {}
        """Further facts by name."""


class NotFoundError(RefusedError):
    """The object does not exist."""


class AlreadyExistsError(RefusedError):
    """The name is taken."""


class InvalidError(RefusedError):
    """The request or its object is not valid; `field_violations` say where."""


class ConflictError(RefusedError):
    """A uid or resource_version that was given does not hold any more. Read again, then decide."""


class ExpiredError(RefusedError):
    """A revision, or a page of a list, is no longer kept. List again."""


class UnauthenticatedError(RefusedError):
    """No token, or a wrong one."""


class PermissionDeniedError(RefusedError):
    """Known, but not allowed to."""


class LimitExceededError(RefusedError):
    """A limit of the cluster is reached, and waiting alone need not help."""


class AnswerError(StintError):
    """The answer can't be understood."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"the server's answer can't be understood ({problem}): are client and server of the same version?"
        )


class LogBrokeError(StintError):
    """A log broke off before the servers named a place in it, so that what is missing can't be told."""

    def __init__(self) -> None:
        super().__init__("the log broke off before the servers named a place in it: read it again")


class MisplacedError(StintError, RuntimeError):
    """The client was made elsewhere: before a fork, or for another event loop."""


class ClosedError(StintError):
    """The client was closed."""

    def __init__(self) -> None:
        super().__init__("the client is closed: make another one")


class WaitTimeoutError(StintError, TimeoutError):
    """What was waited for did not come in time."""


class JobFailedError(StintError):
    """A Job that was waited for has failed."""

    def __init__(self, job: Job, reason: str, message: str) -> None:
        super().__init__(f"job {job.metadata.namespace}/{job.metadata.name} failed: {reason}: {message}")
        self.job = job
        """The Job, as it ended."""
        self.reason = reason
        """Such as `BackoffLimitExceeded`."""


class JobDeletedError(StintError):
    """A Job that was waited for was deleted."""

    def __init__(self, namespace: str, name: str) -> None:
        super().__init__(f"job {namespace}/{name} was deleted before it had finished")
        self.namespace = namespace
        """Its namespace."""
        self.name = name
        """Its name."""
