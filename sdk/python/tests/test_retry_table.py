"""Decision 10, the retry table, without servers: wire examples and a clock of the test's own."""

from __future__ import annotations

import base64
import json

import grpc
import pytest
from google.protobuf.message import Message

from stint import (
    LimitExceededError,
    NotFoundError,
    OutcomeUnknownError,
    RefusedError,
    UnavailableError,
    UnreachableError,
)
from stint._retry import (
    Attempts,
    Effect,
    Final,
    MaybeDone,
    NotDone,
    Servers,
    Status,
    StreamAttempts,
    meaning,
    no_answer,
)
from tests import wire_examples
from tests.wire_examples import details, retry_after

EXAMPLES = json.loads(wire_examples.FILE.read_text())
LOST = Status(grpc.StatusCode.UNAVAILABLE, "connection reset")
UNREACHED = Status(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: refused")


def status(code: str, reason: str, *more: Message, **metadata: str) -> Status:
    encoded = base64.b64decode(details(code, "said", reason, *more, **metadata))
    return Status(grpc.StatusCode[code], "said", encoded)


NO_LEADER = status("UNAVAILABLE", "NoLeader")


class Clock:
    """Time that passes only when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def attempts(
    effect: Effect, addresses: tuple[str, ...] = ("a:1", "b:1", "c:1"), timeout: float = 15.0
) -> tuple[Attempts, Clock, Servers]:
    clock, servers = Clock(), Servers(addresses)
    return Attempts(servers, effect, timeout, clock=clock, jitter=lambda: 1.0), clock, servers


def test_the_committed_wire_examples_are_those_of_the_generator() -> None:
    assert wire_examples.FILE.read_text() == wire_examples.text()


@pytest.mark.parametrize("example", EXAMPLES, ids=[one["name"] for one in EXAMPLES])
def test_what_each_wire_example_means(example: dict[str, object]) -> None:
    encoded, expected = example["details"], example["meaning"]
    assert isinstance(expected, dict)
    found = meaning(
        Status(
            grpc.StatusCode[str(example["code"])],
            str(example["message"]),
            base64.b64decode(encoded) if isinstance(encoded, str) else None,
        )
    )
    match found:
        case NotDone():
            assert expected["kind"] == "not done"
            assert found.answered
            assert found.leader == expected.get("leader")
            asked = expected.get("pause_ms")
            assert found.pause == (asked / 1000 if asked else None)
        case MaybeDone():
            assert expected["kind"] == "maybe done"
        case Final(error):
            assert expected["kind"] == "final"
            assert error.reason == expected["reason"]
            assert [one.field for one in error.field_violations] == expected.get("fields", [])
            assert error.code == example["code"]


def test_a_read_and_a_repeatable_write_go_on_elsewhere_after_a_broken_connection() -> None:
    for effect in (Effect.READ, Effect.REPEATABLE_WRITE):
        call, _, _ = attempts(effect)
        asked = []
        for _ in range(4):
            asked.append(call.next()[0])
            call.failed(LOST)
        assert asked == ["a:1", "b:1", "c:1", "a:1"]


def test_another_write_of_unknown_outcome_is_never_sent_again() -> None:
    call, _, _ = attempts(Effect.WRITE)
    call.next()
    with pytest.raises(OutcomeUnknownError, match="connection reset"):
        call.failed(LOST)


def test_any_write_that_was_not_carried_out_is_sent_again() -> None:
    for effect in Effect:
        for ended in (NO_LEADER, UNREACHED):
            call, _, _ = attempts(effect)
            call.next()
            call.failed(ended)
            assert call.next()[0] == "b:1"


def test_pauses_come_after_each_round_and_double_up_to_a_second() -> None:
    call, _, _ = attempts(Effect.READ, timeout=1e6)
    pauses = []
    for _ in range(24):
        call.next()
        pauses.append(call.failed(LOST))
    rounds = pauses[2::3]
    assert [pause for pause in pauses if pause == 0.0] == [0.0] * 16
    assert rounds == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0])


def test_jitter_shortens_pauses_by_up_to_a_half_and_lengthens_those_that_were_asked_for() -> None:
    for jitter, own, asked in ((0.0, 0.025, 0.2), (1.0, 0.05, 0.25)):
        call = Attempts(Servers(["a:1"]), Effect.READ, 15, clock=Clock(), jitter=lambda jitter=jitter: jitter)  # type: ignore[misc]
        call.next()
        assert call.failed(LOST) == pytest.approx(own)
        call.next()
        assert call.failed(
            status("RESOURCE_EXHAUSTED", "TooManyRequests", retry_after(200))
        ) == pytest.approx(asked)


def test_a_leader_hint_is_followed_once_and_at_once() -> None:
    call, _, servers = attempts(Effect.WRITE)
    call.next()
    assert call.failed(status("UNAVAILABLE", "NotLeader", leaderAddress="c:1")) == 0
    assert call.next()[0] == "c:1"
    assert servers.first() == 2, "the next call asks there first"
    # Two servers that name each other must not make the client run between them.
    call.failed(status("UNAVAILABLE", "NotLeader", leaderAddress="new:1"))
    assert call.next()[0] == "a:1", "the next of the list"


def test_a_leader_that_does_not_answer_is_asked_once_each_time_that_it_is_named() -> None:
    call, _, _ = attempts(Effect.READ, timeout=3600)
    asked = []
    # b is stopped, and the others do not know yet.
    for _ in range(8):
        asked.append(call.next()[0])
        names_b = status("UNAVAILABLE", "NotLeader", leaderAddress="b:1")
        call.failed(no_answer(6) if asked[-1] == "b:1" else names_b)
    assert asked == ["a:1", *("b:1", "c:1") * 3, "b:1"]


def test_a_leader_that_is_not_among_the_addresses_is_asked_too_unless_it_is_no_address() -> None:
    for named, asked in (
        ("new:7440", "new:7440"),
        ("http://new:1", "new:1"),
        ("no address", "b:1"),
        ("", "b:1"),
        ("h:0", "b:1"),
    ):
        call, _, _ = attempts(Effect.READ)
        call.next()
        call.failed(status("UNAVAILABLE", "NotLeader", leaderAddress=named))
        assert call.next()[0] == asked


def test_the_leaders_that_a_client_learns_of_are_bounded() -> None:
    servers = Servers(["a:1"])
    assert all(servers.hinted(f"h{number}:1") for number in range(64))
    assert servers.hinted("one-more:1") is None
    assert servers.hinted("h3:1") == "h3:1"


def test_one_attempt_does_not_use_up_the_time_of_the_other_servers() -> None:
    assert attempts(Effect.READ)[0].next()[1] == 6.0
    assert attempts(Effect.REPEATABLE_WRITE)[0].next()[1] == 6.0
    assert attempts(Effect.WRITE)[0].next()[1] == 15.0
    assert attempts(Effect.READ, ("a:1",))[0].next()[1] == 15.0


@pytest.mark.parametrize(
    ("effect", "ends", "expected"),
    [
        (Effect.READ, [LOST], UnreachableError),
        (Effect.READ, [UNREACHED], UnreachableError),
        (Effect.READ, [LOST, NO_LEADER], UnavailableError),
        # The last one was cut short by the limit: what a server said before is what is known.
        (Effect.READ, [NO_LEADER, LOST], UnavailableError),
        (Effect.READ, [NO_LEADER, UNREACHED], UnreachableError),
        (Effect.REPEATABLE_WRITE, [UNREACHED], UnreachableError),
        (Effect.REPEATABLE_WRITE, [NO_LEADER], UnavailableError),
        (Effect.REPEATABLE_WRITE, [LOST, NO_LEADER], OutcomeUnknownError),
        (Effect.REPEATABLE_WRITE, [LOST, UNREACHED], OutcomeUnknownError),
        (Effect.WRITE, [UNREACHED], UnreachableError),
    ],
)
def test_what_is_said_when_the_time_is_over(
    effect: Effect, ends: list[Status], expected: type[Exception]
) -> None:
    call, clock, _ = attempts(effect)
    for end in ends[:-1]:
        call.next()
        call.failed(end)
    call.next()
    clock.now += 15
    with pytest.raises(expected):
        call.failed(ends[-1])


def test_an_unknown_outcome_is_told_with_its_cause_alone() -> None:
    said = "the outcome is unknown (no answer within 10s): look at the object before trying again"
    call, _, _ = attempts(Effect.WRITE)
    call.next()
    with pytest.raises(OutcomeUnknownError) as caught:
        call.failed(Status(grpc.StatusCode.DEADLINE_EXCEEDED, said))
    assert caught.value.cause == "no answer within 10s"
    assert str(caught.value) == said


def test_refusals_have_types() -> None:
    call, _, _ = attempts(Effect.READ)
    call.next()
    with pytest.raises(NotFoundError):
        call.failed(status("NOT_FOUND", "NotFound"))
    with pytest.raises(LimitExceededError):
        call.failed(status("RESOURCE_EXHAUSTED", "LimitExceeded"))
    with pytest.raises(RefusedError):
        call.failed(status("INTERNAL", "Internal"))


def test_a_stream_that_worked_has_the_whole_time_again() -> None:
    clock = Clock()
    stream = StreamAttempts(Servers(["a:1"]), 15, clock=clock)
    stream.next()
    stream.opened()
    clock.now += 3600
    stream.ended(LOST)
    clock.now += 14
    stream.next()
    stream.ended(LOST)
    clock.now += 2
    stream.next()
    with pytest.raises(UnreachableError):
        stream.ended(LOST)
    # And again, if it is asked again.
    stream.next()
    stream.ended(LOST)


def test_a_stream_that_opens_and_breaks_each_time_is_given_up() -> None:
    clock = Clock()
    stream = StreamAttempts(Servers(["a:1"]), 15, clock=clock)
    n_opened = 0

    def go_on() -> None:
        nonlocal n_opened
        while True:
            stream.next()
            stream.opened()
            n_opened += 1
            clock.now += 0.1 + stream.ended(NO_LEADER)

    with pytest.raises(UnavailableError):
        go_on()
    assert 10 < n_opened < 60
