"""Client of the stint work queue.

>>> from stint import Client
>>> with Client("127.0.0.1:7440") as client:  # doctest: +SKIP
...     client.run(["echo", "hello"], completions=10, parallelism=4).wait()

`Client` is synchronous, `AsyncClient` the same for asyncio. Messages of the wire, such as `Job` and `Pod`, are those of
`stint.v1`, which are generated from `proto/stint/v1`.
"""

from stint._aio_streams import AsyncLogStream, AsyncWatch
from stint._client import Listed, Submitted
from stint._streams import LogStream, Watch
from stint.aio import AsyncClient, AsyncJobHandle
from stint.client import Client, JobHandle
from stint.errors import (
    AddressError,
    AlreadyExistsError,
    AnswerError,
    ClosedError,
    ConflictError,
    ExpiredError,
    FieldViolation,
    InvalidError,
    JobDeletedError,
    JobFailedError,
    LimitExceededError,
    LogBrokeError,
    MisplacedError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RefusedError,
    StintError,
    TokenError,
    UnauthenticatedError,
    UnavailableError,
    UnreachableError,
    WaitTimeoutError,
)
from stint.jobs import condition, is_complete, is_failed, is_finished, make_job, new_request_id
from stint.logs import LogPiece
from stint.v1.job_pb2 import Job
from stint.v1.pod_pb2 import Pod
from stint.watching import Change, ChangeKind, Relisted, WatchEvent

__all__ = [
    "AddressError",
    "AlreadyExistsError",
    "AnswerError",
    "AsyncClient",
    "AsyncJobHandle",
    "AsyncLogStream",
    "AsyncWatch",
    "Change",
    "ChangeKind",
    "Client",
    "ClosedError",
    "ConflictError",
    "ExpiredError",
    "FieldViolation",
    "InvalidError",
    "Job",
    "JobDeletedError",
    "JobFailedError",
    "JobHandle",
    "LimitExceededError",
    "Listed",
    "LogBrokeError",
    "LogPiece",
    "LogStream",
    "MisplacedError",
    "NotFoundError",
    "OutcomeUnknownError",
    "PermissionDeniedError",
    "Pod",
    "RefusedError",
    "Relisted",
    "StintError",
    "Submitted",
    "TokenError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnreachableError",
    "WaitTimeoutError",
    "Watch",
    "WatchEvent",
    "condition",
    "is_complete",
    "is_failed",
    "is_finished",
    "make_job",
    "new_request_id",
]
