"""How watches and logs go on, without servers: no gap, no duplicate, and what was missed is told."""

from __future__ import annotations

import datetime
import inspect
import json
import time
from typing import Any

import pytest

from stint import AnswerError, ExpiredError, LogBrokeError, Relisted
from stint.jobs import JobOptions, make_job
from stint.logs import Lines, LogPiece, LogsOptions, LogState, logs_request
from stint.v1 import meta_pb2, pods_pb2
from stint.v1.pods_pb2 import PodLogsChunk
from stint.watching import WatchState
from tests import wire_examples

ADDED = meta_pb2.WATCH_EVENT_TYPE_ADDED
TYPES = {
    "ADDED": meta_pb2.WATCH_EVENT_TYPE_ADDED,
    "MODIFIED": meta_pb2.WATCH_EVENT_TYPE_MODIFIED,
    "DELETED": meta_pb2.WATCH_EVENT_TYPE_DELETED,
    "BOOKMARK": meta_pb2.WATCH_EVENT_TYPE_BOOKMARK,
}
EXPIRED = ExpiredError("the revision is no longer kept", reason="Expired")


WATCHES = json.loads((wire_examples.FILE.parent / "watches.json").read_text())


@pytest.mark.parametrize("example", WATCHES, ids=[one["name"] for one in WATCHES])
def test_a_watch_goes_on_as_the_wire_examples_say(example: dict[str, Any]) -> None:
    state = WatchState[str](example["from_revision"], example.get("servers", 1))
    for step in example["steps"]:
        if "open" in step:
            assert state.opened() == step["open"]
        elif "expired" in step:
            state.expired(EXPIRED)
        elif "message" in step:
            kind, revision, name = step["message"]
            number = TYPES[kind] if isinstance(kind, str) else kind
            given = [
                ["relisted", one.revision, list(one.objects)]
                if isinstance(one, Relisted)
                else [one.kind.value, one.revision, one.object]
                for one in state.take(number, revision, name)
            ]
            assert given == step["gives"]
        else:
            assert "break" in step, "the next stream is opened"


def test_relists_without_success_are_bounded() -> None:
    state = WatchState[str](5)
    for _ in range(3):
        state.expired(EXPIRED)
    with pytest.raises(ExpiredError):
        state.expired(EXPIRED)


def test_nonsense_of_a_server_is_an_error_and_not_a_crash() -> None:
    state = WatchState[str](5)
    with pytest.raises(AnswerError):
        state.take(ADDED, 6, None)
    with pytest.raises(ValueError, match="at least 0"):
        WatchState[str](-1)


def request(**options: object) -> pods_pb2.PodLogsRequest:
    given: dict[str, object] = {
        "namespace": "default",
        "pod": None,
        "job": "j",
        "container": "",
        "restart_count": None,
        "previous": False,
        "follow": True,
        "tail_lines": None,
        "since": None,
        "timestamps": False,
    }
    return logs_request(**(given | options))  # type: ignore[arg-type]


def source() -> pods_pb2.LogSource:
    return pods_pb2.LogSource(pod_name="j-0", pod_uid="u", container="main", restart_count=2, node_name="w1")


def test_a_log_goes_on_in_the_same_run_from_the_same_place() -> None:
    state = LogState(request(tail_lines=3))
    piece = state.take(PodLogsChunk(source=source(), data=b"one\n", next_offset=100))
    assert piece == LogPiece(b"one\n", "both")
    again = state.opened()
    assert (again.pod_name, again.pod_uid, again.restart_count) == ("j-0", "u", 2)
    assert again.offset == 100
    assert not again.HasField("tail_lines"), "it would leave out what comes after the place"
    assert again.WhichOneof("target") == "pod_name"


def test_bytes_after_the_last_named_place_are_given_once() -> None:
    state = LogState(request())
    state.take(PodLogsChunk(source=source(), data=b"ab", next_offset=10))
    assert state.take(PodLogsChunk(data=b"cd", next_offset=10)) == LogPiece(b"cd", "both")
    state.opened()
    assert state.take(PodLogsChunk(data=b"cde", next_offset=10)) == LogPiece(b"e", "both")


def test_a_tail_that_breaks_before_a_place_is_named_can_t_go_on() -> None:
    state = LogState(request(tail_lines=2))
    state.opened()
    state.take(PodLogsChunk(source=source(), data=b"ab"))
    with pytest.raises(LogBrokeError, match="read it again"):
        state.opened()


def test_cuts_are_told() -> None:
    cut = pods_pb2.LogCut(reason=pods_pb2.LOG_CUT_REASON_LOST, node_name="w1")
    state = LogState(request())
    assert state.take(PodLogsChunk(source=source(), cut=cut)) == LogPiece(b"", "both", cut)


def test_lines_are_put_together_from_pieces() -> None:
    lines = Lines()
    assert list(lines.take(LogPiece(b"one\ntw", "stdout"))) == ["one"]
    assert list(lines.take(LogPiece(b"", "both"))) == []
    assert list(lines.take(LogPiece(b"o\n\n\xff", "stdout"))) == ["two", ""]
    assert list(lines.rest()) == ["\N{REPLACEMENT CHARACTER}"]
    assert list(lines.rest()) == []


def test_a_log_has_advanced_by_new_bytes_and_by_a_new_place() -> None:
    state = LogState(request())

    def advances(chunk: PodLogsChunk) -> bool:
        state.take(chunk)
        return state.has_advanced

    assert not advances(PodLogsChunk(source=source()))
    assert advances(PodLogsChunk(data=b"ab"))
    assert advances(PodLogsChunk(next_offset=10))
    assert not advances(PodLogsChunk(next_offset=10))
    assert not advances(PodLogsChunk(cut=pods_pb2.LogCut()))
    assert advances(PodLogsChunk(data=b"cd", next_offset=10))
    state.opened()
    assert not advances(PodLogsChunk(data=b"c")), "it was given before"
    assert advances(PodLogsChunk(data=b"de"))


def test_a_line_without_end_is_not_kept_without_end() -> None:
    lines = Lines()
    found = [one for _ in range(40) for one in lines.take(LogPiece(b"x" * 100_000, "stdout"))]
    assert [len(one) for one in found] == [1_100_000] * 3
    assert [*lines.take(LogPiece(b"\nnext\n", "stdout"))] == ["x" * 700_000, "next"]


def test_a_moment_without_a_time_zone_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        moment = datetime.datetime(2026, 11, 26, 12, 0)
        assert request(since=moment).since_time.ToJsonString() == "2026-11-26T03:00:00Z"
        aware = moment.replace(tzinfo=datetime.timezone.utc)
        assert request(since=aware).since_time.ToJsonString() == "2026-11-26T12:00:00Z"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_logs_are_of_one_target() -> None:
    for options in ({"job": None}, {"pod": "p"}):
        with pytest.raises(ValueError, match="either pod or job"):
            request(**options)


def test_options_that_are_passed_on_are_those_of_what_takes_them() -> None:
    for options, takes in ((JobOptions, make_job), (LogsOptions, logs_request)):
        parameters = inspect.signature(takes).parameters
        types = {name: one.annotation for name, one in parameters.items() if name in options.__annotations__}
        assert types == {name: one.__forward_arg__ for name, one in options.__annotations__.items()}
    left_out = set(inspect.signature(make_job).parameters) - set(JobOptions.__annotations__)
    assert left_out == {"command"}


def test_a_job_is_made_of_words() -> None:
    with pytest.raises(TypeError, match="no shell"):
        make_job("sleep 1")
    with pytest.raises(ValueError, match="at least"):
        make_job([])
    job = make_job(["/usr/bin/My Program.sh", "x"], backoff=1.5, cpu="500m", env={"A": "b"}, indexed=True)
    assert job.metadata.generate_name == "my-program-sh-"
    assert job.spec.backoff_base.ToTimedelta().total_seconds() == 1.5
    assert make_job(["x"], backoff=1.999_999_999_9).spec.backoff_base.ToNanoseconds() == 2 * 10**9
    assert make_job(["…"]).metadata.generate_name == "job-"


def test_a_job_without_an_image_is_a_process() -> None:
    def made_from(**options: str | None) -> tuple[str, str]:
        pod = make_job(["x"], image=options.get("image"), runtime=options.get("runtime")).spec.template.spec
        return pod.containers[0].image, pod.runtime_class_name

    assert made_from() == made_from(image="") == ("", "process")
    assert made_from(runtime="oci") == ("", "oci")
    assert made_from(image="i") == ("i", "")
    assert made_from(image="i", runtime="cri") == ("i", "cri")
