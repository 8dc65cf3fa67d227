"""The wire examples of sdk/wire/statuses.json: ends of attempts, byte for byte, and what they mean to every client.

`python -m tests.wire_examples` prints the file anew; a test compares it with what is committed.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

FILE = Path(__file__).resolve().parent.parent.parent / "wire" / "statuses.json"

# Reason, code: the table of the servers.
REASONS = {
    "BadRequest": "INVALID_ARGUMENT",
    "Invalid": "INVALID_ARGUMENT",
    "RequestTooLarge": "INVALID_ARGUMENT",
    "NotFound": "NOT_FOUND",
    "AlreadyExists": "ALREADY_EXISTS",
    "Conflict": "ABORTED",
    "FailedPrecondition": "FAILED_PRECONDITION",
    "Expired": "OUT_OF_RANGE",
    "Unauthenticated": "UNAUTHENTICATED",
    "PermissionDenied": "PERMISSION_DENIED",
    "TooManyRequests": "RESOURCE_EXHAUSTED",
    "LimitExceeded": "RESOURCE_EXHAUSTED",
    "NoLeader": "UNAVAILABLE",
    "NotLeader": "UNAVAILABLE",
    "ShuttingDown": "UNAVAILABLE",
    "NodeUnreachable": "UNAVAILABLE",
    "OutcomeUnknown": "DEADLINE_EXCEEDED",
    "Timeout": "DEADLINE_EXCEEDED",
    "Unimplemented": "UNIMPLEMENTED",
    "Internal": "INTERNAL",
    "DataLoss": "DATA_LOSS",
}


def details(
    code: str, message: str, reason: str, *more: Message, domain: str = "stint.dev", **metadata: str
) -> str:
    """Encode `grpc-status-details-bin` as base64."""
    status = status_pb2.Status(code=code_pb2.Code.Value(code), message=message)
    info = error_details_pb2.ErrorInfo(reason=reason, domain=domain)
    for key in sorted(metadata):
        info.metadata[key] = metadata[key]
    for one in (info, *more):
        detail = AnyMessage()
        detail.Pack(one, deterministic=True)
        status.details.append(detail)
    return base64.b64encode(status.SerializeToString(deterministic=True)).decode()


def retry_after(milliseconds: int) -> error_details_pb2.RetryInfo:
    """Ask for a pause."""
    duration = Duration()
    duration.FromMilliseconds(milliseconds)
    return error_details_pb2.RetryInfo(retry_delay=duration)


def examples() -> list[dict[str, Any]]:
    """Make all of them."""
    found: list[dict[str, Any]] = []

    def add(name: str, code: str, message: str, encoded: str | None, **meaning: object) -> None:
        found.append({"name": name, "code": code, "message": message, "details": encoded, "meaning": meaning})

    for reason, code in REASONS.items():
        message = f"an example of {reason}"
        encoded = details(code, message, reason)
        if reason == "OutcomeUnknown":
            add(reason, code, message, encoded, kind="maybe done")
        elif code == "UNAVAILABLE" or reason == "Timeout":
            add(reason, code, message, encoded, kind="not done")
        else:
            add(reason, code, message, encoded, kind="final", reason=reason)

    message = "the server has too many requests"
    encoded = details("RESOURCE_EXHAUSTED", message, "TooManyRequests", retry_after(200))
    add(
        "TooManyRequests, with a pause", "RESOURCE_EXHAUSTED", message, encoded, kind="not done", pause_ms=200
    )
    encoded = details("UNAVAILABLE", "there is no leader", "NoLeader", retry_after(1300))
    add(
        "NoLeader, with a pause", "UNAVAILABLE", "there is no leader", encoded, kind="not done", pause_ms=1300
    )
    encoded = details("UNAVAILABLE", "there is no leader", "NoLeader", retry_after(3_600_000))
    add(
        "NoLeader, with a pause beyond the limit",
        "UNAVAILABLE",
        "there is no leader",
        encoded,
        kind="not done",
        pause_ms=10_000,
    )
    message = "server s1 does not lead; s2 does"
    encoded = details("UNAVAILABLE", message, "NotLeader", leaderAddress="192.0.2.2:7440", leaderName="s2")
    add(
        "NotLeader, with the leader",
        "UNAVAILABLE",
        message,
        encoded,
        kind="not done",
        leader="192.0.2.2:7440",
    )
    message = 'Job.batch "x" is invalid: spec.parallelism: Invalid value: -1'
    violation = error_details_pb2.BadRequest.FieldViolation(
        field="spec.parallelism", description="Invalid value: -1: must be greater than or equal to 0"
    )
    encoded = details(
        "INVALID_ARGUMENT", message, "Invalid", error_details_pb2.BadRequest(field_violations=[violation])
    )
    add(
        "Invalid, with a field",
        "INVALID_ARGUMENT",
        message,
        encoded,
        kind="final",
        reason="Invalid",
        fields=["spec.parallelism"],
    )

    unknown = details("FAILED_PRECONDITION", "x", "NewReason")
    add("a reason of a later server", "FAILED_PRECONDITION", "x", unknown, kind="final", reason="NewReason")
    unknown = details("UNAVAILABLE", "x", "NewReason")
    add("a reason of a later server that asks to try again", "UNAVAILABLE", "x", unknown, kind="not done")
    foreign = details("UNAVAILABLE", "x", "NoLeader", domain="example.com")
    add("a reason of another domain", "UNAVAILABLE", "x", foreign, kind="maybe done")
    torn = base64.b64encode(b"\xff\xff\xff").decode()
    add("details that can't be read", "UNAVAILABLE", "x", torn, kind="maybe done")
    add("details that can't be read, of a refusal", "NOT_FOUND", "x", torn, kind="final", reason=None)
    for code in ("UNAVAILABLE", "UNKNOWN", "CANCELLED", "INTERNAL", "DEADLINE_EXCEEDED"):
        add(f"{code} without details", code, "connection reset", None, kind="maybe done")
    for code in ("NOT_FOUND", "UNIMPLEMENTED", "UNAUTHENTICATED", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"):
        add(f"{code} without details", code, "something between", None, kind="final", reason=None)
    return found


def text() -> str:
    """Everything, as the file has it."""
    return json.dumps(examples(), indent=2) + "\n"


if __name__ == "__main__":
    print(text(), end="")
