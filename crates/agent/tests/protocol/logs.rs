//! A15: logs that servers ask for.

use crate::agent_process::{AgentProcess, new_pod, run_again, to_run};
use crate::fake_leader::{FakeLeader, State};
use std::time::{Duration, Instant};
use stint_api::PodUid;
use stint_proto::uid::uid_to_wire;
use stint_proto::v1;
use stint_proto::v1::server_message::Message as ToAgent;

const PLENTY: u64 = 1 << 30;

fn request(request_id: u64, pod: PodUid) -> v1::LogRequest {
    v1::LogRequest {
        request_id,
        pod_uid: uid_to_wire(pod),
        credit_bytes: PLENTY,
        ..v1::LogRequest::default()
    }
}

async fn read(leader: &FakeLeader, request: v1::LogRequest) -> (String, v1::LogEnd) {
    let id = request.request_id;
    leader.say(ToAgent::LogRequest(request));
    leader
        .until("the end of a log", |state: &State| {
            let (data, end) = state.logs.get(&id)?;
            Some((String::from_utf8_lossy(data).into_owned(), end.clone()?))
        })
        .await
}

#[tokio::test]
async fn a15_a_log_is_read_whole_in_parts_and_from_each_of_its_offsets() {
    let leader = FakeLeader::start().await;
    let _agent = AgentProcess::registered(&leader).await;
    let pod = new_pod();
    leader.order(to_run(pod, 1, "seq 1 60000; echo last"));
    assert_eq!(leader.exit_code(pod, 0).await, 0);
    let all: String = (1..=60_000).map(|number| format!("{number}\n")).chain(["last\n".to_owned()]).collect();
    let (text, end) = read(&leader, request(1, pod)).await;
    assert!(text == all && end.reason() == v1::LogEndReason::Complete, "{end:?}");
    // Going on where any piece ended misses and repeats nothing.
    let offsets = leader.state().log_offsets[&1].clone();
    assert!(offsets.len() > 4, "{offsets:?}");
    for (number, (length, offset)) in (10..).zip(offsets) {
        let (rest, _) = read(&leader, v1::LogRequest { offset: Some(offset), ..request(number, pod) }).await;
        assert!(rest == all[length..], "from {offset}");
    }
    let (tail, _) = read(&leader, v1::LogRequest { tail_lines: Some(2), ..request(2, pod) }).await;
    assert_eq!(tail, "60000\nlast\n");
    let (cut, _) = read(&leader, v1::LogRequest { limit_bytes: 5, ..request(3, pod) }).await;
    assert_eq!(cut, "1\n2\n3");
    let (stamped, _) =
        read(&leader, v1::LogRequest { tail_lines: Some(1), timestamps: true, ..request(4, pod) }).await;
    assert!(stamped.ends_with("Z last\n") && stamped.len() == 36, "{stamped}");
    let (none, _) = read(&leader, v1::LogRequest { since_ms: Some(0), ..request(5, pod) }).await;
    assert_eq!(none, "");
}

#[tokio::test]
async fn a15_each_piece_says_its_stream_and_lines_of_both_in_turn_are_all_sent() {
    let leader = FakeLeader::start().await;
    let _agent = AgentProcess::registered(&leader).await;
    let pod = new_pod();
    let script = "for i in $(seq 1 1500); do echo out $i; echo err $i >&2; done";
    leader.order(to_run(pod, 1, script));
    assert_eq!(leader.exit_code(pod, 0).await, 0);
    let (text, end) = read(&leader, request(1, pod)).await;
    assert_eq!(end.reason(), v1::LogEndReason::Complete);
    let pieces = leader.state().log_streams[&1].clone();
    let of = |wanted: v1::LogStream| {
        let begins = std::iter::once(0).chain(pieces.iter().map(|(_, end)| *end));
        let parts = pieces.iter().zip(begins).filter(|((stream, _), _)| *stream == wanted);
        parts.map(|((_, end), begin)| &text[begin..*end]).collect::<String>()
    };
    for (stream, word) in [(v1::LogStream::Stdout, "out"), (v1::LogStream::Stderr, "err")] {
        let expected = (1..=1_500).map(|number| format!("{word} {number}\n"));
        assert!(of(stream) == expected.collect::<String>(), "{stream:?}");
    }
}

#[tokio::test]
async fn r15_the_last_two_runs_are_kept_and_of_earlier_ones_it_is_said_that_they_are_not() {
    let leader = FakeLeader::start().await;
    let _agent = AgentProcess::registered(&leader).await;
    let pod = new_pod();
    // All runs are of the same program.
    let script = "run=$(cat next 2>/dev/null || echo 0); echo $((run + 1)) >next; echo $run; exit 1";
    for run in 0..4 {
        leader.order(run_again(pod, 1, script, run, Duration::ZERO));
        assert_eq!(leader.exit_code(pod, run).await, 1);
    }
    for (id, run) in (1..).zip(0..4) {
        let (text, end) =
            read(&leader, v1::LogRequest { restart_count: Some(run), ..request(id, pod) }).await;
        // Servers look for it elsewhere then.
        let expected = match run {
            0 | 1 => (String::new(), v1::LogEndReason::NotFound),
            _ => (format!("{run}\n"), v1::LogEndReason::Complete),
        };
        assert_eq!((text, end.reason()), expected, "run {run}");
    }
}

#[tokio::test]
async fn a15_hostile_requests_do_no_harm_and_slow_readers_hold_up_nothing() {
    let leader = FakeLeader::start().await;
    let agent = AgentProcess::registered(&leader).await;
    let secret = agent.folder.path().join("secret.0.00000000000000000000.log");
    std::fs::write(&secret, "1970-01-01T00:00:00.000000000Z stdout F secret\n").unwrap();
    let pod = new_pod();
    leader.order(to_run(pod, 1, "echo ready; while :; do echo line; sleep 0.01; done"));
    leader.running(pod).await;
    let base = request(0, pod);
    let not_found = [
        v1::LogRequest { pod_uid: Vec::new().into(), ..base.clone() },
        v1::LogRequest { pod_uid: b"../../../../etc/".to_vec().into(), ..base.clone() },
        v1::LogRequest { pod_uid: vec![0; 16].into(), ..base.clone() },
        v1::LogRequest { container: "../../../secret".to_owned(), ..base.clone() },
        v1::LogRequest { container: "/etc/passwd".to_owned(), ..base.clone() },
        v1::LogRequest { container: "main\0".to_owned(), ..base.clone() },
        v1::LogRequest { container: "m".repeat(1_000_000), ..base.clone() },
    ];
    for (id, request) in (100..).zip(not_found) {
        let (text, end) = read(&leader, v1::LogRequest { request_id: id, ..request }).await;
        assert_eq!((text.as_str(), end.reason()), ("", v1::LogEndReason::NotFound), "{id}");
    }
    for (id, offset) in (200..).zip([1, u64::MAX, i64::MAX as u64 + 1]) {
        let (text, end) =
            read(&leader, v1::LogRequest { request_id: id, offset: Some(offset), ..base.clone() }).await;
        assert_eq!((text.as_str(), end.reason()), ("", v1::LogEndReason::ReadFailed), "{offset}");
    }
    // What never was is empty.
    for request in [
        v1::LogRequest { request_id: 300, container: "other".to_owned(), ..base.clone() },
        v1::LogRequest { request_id: 301, restart_count: Some(u32::MAX), ..base.clone() },
    ] {
        let (text, end) = read(&leader, request).await;
        assert_eq!((text.as_str(), end.reason()), ("", v1::LogEndReason::Complete));
    }
    let strange = v1::LogRequest {
        request_id: 302,
        tail_lines: Some(u64::MAX),
        since_time: Some(prost_types::Timestamp { seconds: i64::MIN, nanos: i32::MIN }),
        ..base.clone()
    };
    assert!(read(&leader, strange).await.0.starts_with("ready\n"));
    // As many readers as there may be, none of which reads: no credit. One more is refused, and nothing else waits.
    for id in 400..464 {
        leader.say(ToAgent::LogRequest(v1::LogRequest {
            request_id: id,
            credit_bytes: 0,
            follow: true,
            ..base.clone()
        }));
    }
    let (_, end) = read(&leader, v1::LogRequest { request_id: 500, ..base.clone() }).await;
    assert_eq!(end.reason(), v1::LogEndReason::TooManyRequests);
    let another = new_pod();
    leader.order(to_run(another, 1, "exit 4"));
    assert_eq!(leader.exit_code(another, 0).await, 4);
    let (began, seen) = (Instant::now(), leader.state().heartbeats.len());
    leader.until("further heartbeats", |state| (state.heartbeats.len() >= seen + 3).then_some(())).await;
    // One comes every fifth of a lease of 10 s.
    assert!(began.elapsed() < Duration::from_secs(8));
    assert_eq!(leader.state().registers.len(), 1);
    // Credit lets one of them go on; a reader that has gone makes room.
    leader.say(ToAgent::LogCredit(v1::LogCredit { request_id: 400, bytes: PLENTY }));
    leader
        .until("its log", |state| state.logs.get(&400).filter(|(data, _)| data.len() > 100).map(|_| ()))
        .await;
    leader.say(ToAgent::LogCancel(v1::LogCancel { request_id: 401 }));
    let (text, _) = read(&leader, v1::LogRequest { request_id: 501, ..base }).await;
    assert!(text.starts_with("ready\nline\n"));
}
