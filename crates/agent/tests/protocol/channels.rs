//! Channels that servers open through a session (A3), and what is measured for them.

use crate::agent_process::{AgentProcess, eventually, new_pod, to_run};
use crate::fake_leader::{FakeLeader, NODE_LEASE_OVER_RESTARTS_MS, State};
use std::time::Duration;
use stint_api::PodUid;
use stint_proto::limits::{CHANNEL_CREDIT_BYTES_INITIAL, CHANNEL_PIECE_BYTES_MAX};
use stint_proto::uid::uid_to_wire;
use stint_proto::v1;
use stint_proto::v1::agent_message::Message as FromAgent;
use stint_proto::v1::channel_input::Input;
use stint_proto::v1::server_message::Message as ToAgent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PLENTY: u64 = 1 << 30;

fn open_port(channel_id: u64, pod: PodUid, port: u16, credit_bytes: u64) -> ToAgent {
    let target = Some(v1::channel_open::Target::Port(v1::PodPort { port: port.into() }));
    ToAgent::ChannelOpen(v1::ChannelOpen { channel_id, pod_uid: uid_to_wire(pod), target, credit_bytes })
}

fn input(channel_id: u64, input: Input) -> ToAgent {
    ToAgent::ChannelInput(v1::ChannelInput { channel_id, input: Some(input) })
}

fn data(channel_id: u64, bytes: impl Into<bytes::Bytes>) -> ToAgent {
    input(channel_id, Input::Data(bytes.into()))
}

/// What came out of a channel so far.
fn output(state: &State, channel_id: u64) -> Vec<u8> {
    let messages = state.channels.get(&channel_id).map(Vec::as_slice).unwrap_or_default();
    let pieces = messages.iter().filter_map(|message| match message {
        FromAgent::ChannelOutput(output) => Some(&output.data[..]),
        _ => None,
    });
    pieces.collect::<Vec<_>>().concat()
}

async fn opened(leader: &FakeLeader, channel_id: u64) {
    leader
        .until("an open channel", |state| {
            let first = state.channels.get(&channel_id)?.first()?;
            assert!(matches!(first, FromAgent::ChannelOpened(_)), "{first:?}");
            Some(())
        })
        .await;
}

async fn end(leader: &FakeLeader, channel_id: u64) -> v1::ChannelEnd {
    leader
        .until("the end of a channel", |state| match state.channels.get(&channel_id)?.last()? {
            FromAgent::ChannelEnd(end) => Some(end.clone()),
            _ => None,
        })
        .await
}

/// An agent with a Pod that runs, and a port that something listens on.
async fn listening() -> (FakeLeader, AgentProcess, PodUid, TcpListener, u16) {
    let leader = FakeLeader::start().await;
    let agent = AgentProcess::registered(&leader).await;
    let pod = new_pod();
    leader.order(to_run(pod, 1, "sleep 60"));
    leader.running(pod).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (leader, agent, pod, listener, port)
}

#[tokio::test]
async fn a3_a_connection_carries_both_directions_and_half_an_end() {
    let (leader, _agent, pod, listener, port) = listening().await;
    leader.say(open_port(1, pod, port, PLENTY));
    let (mut connection, _) = listener.accept().await.unwrap();
    opened(&leader, 1).await;
    leader.say(data(1, "question"));
    leader.say(input(1, Input::End(v1::ChannelInputEnd {})));
    let mut question = String::new();
    connection.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "question", "the end of the input is the end of what is read");
    connection.write_all(b"answer").await.unwrap();
    drop(connection);
    assert_eq!(end(&leader, 1).await.reason(), v1::ChannelEndReason::Complete);
    assert_eq!(output(&leader.state(), 1), b"answer");
}

#[tokio::test]
async fn a3_what_can_not_be_opened_is_said() {
    let (leader, _agent, pod, listener, port) = listening().await;
    drop(listener);
    leader.say(open_port(1, pod, port, PLENTY));
    let refused = end(&leader, 1).await;
    assert_eq!(refused.reason(), v1::ChannelEndReason::Failed);
    assert!(refused.message.contains("refused"), "{refused:?}");
    leader.say(open_port(2, new_pod(), port, PLENTY));
    assert_eq!(end(&leader, 2).await.reason(), v1::ChannelEndReason::NotFound);
    let ended = new_pod();
    leader.order(to_run(ended, 1, "true"));
    leader.exit_code(ended, 0).await;
    leader.say(open_port(3, ended, port, PLENTY));
    assert_eq!(end(&leader, 3).await.reason(), v1::ChannelEndReason::NotRunning);
    let exec = v1::ExecCommand {
        container: "main".to_owned(),
        command: vec!["true".to_owned()],
        ..Default::default()
    };
    leader.say(ToAgent::ChannelOpen(v1::ChannelOpen {
        channel_id: 4,
        pod_uid: uid_to_wire(ended),
        target: Some(v1::channel_open::Target::Exec(exec)),
        credit_bytes: PLENTY,
    }));
    assert_eq!(end(&leader, 4).await.reason(), v1::ChannelEndReason::NotRunning);
    // Of what a newer server may ask for.
    leader.say(ToAgent::ChannelOpen(v1::ChannelOpen {
        channel_id: 5,
        pod_uid: uid_to_wire(pod),
        target: None,
        credit_bytes: PLENTY,
    }));
    assert_eq!(end(&leader, 5).await.reason(), v1::ChannelEndReason::Unsupported);
}

#[tokio::test]
async fn a3_a_command_that_can_not_be_executed_ends_as_in_a_shell() {
    let (leader, _agent, pod, _listener, _port) = listening().await;
    for (channel_id, program, exit_code) in
        [(1, "no-such-program", 127), (2, "/etc/passwd", 126), (3, "/etc", 126)]
    {
        let exec = v1::ExecCommand {
            container: "main".to_owned(),
            command: vec![program.to_owned()],
            ..Default::default()
        };
        leader.say(ToAgent::ChannelOpen(v1::ChannelOpen {
            channel_id,
            pod_uid: uid_to_wire(pod),
            target: Some(v1::channel_open::Target::Exec(exec)),
            credit_bytes: PLENTY,
        }));
        let end = end(&leader, channel_id).await;
        assert_eq!((end.reason(), end.exit_code), (v1::ChannelEndReason::Failed, exit_code), "{end:?}");
        assert!(end.message.contains(program), "{end:?}");
    }
}

#[tokio::test]
async fn a3_nothing_is_sent_beyond_the_credit_and_nobody_else_waits() {
    let (leader, _agent, pod, listener, port) = listening().await;
    let credit = 100 << 10;
    leader.say(open_port(1, pod, port, credit));
    let (mut flood, _) = listener.accept().await.unwrap();
    tokio::spawn(async move {
        let _ = flood.write_all(&vec![7; 4 << 20]).await;
        std::future::pending::<()>().await
    });
    leader
        .until("all that there is credit for", |state| {
            // A piece is sent whole or not at all: one may not fit any more.
            (output(state, 1).len() as u64 > credit - (64 << 10)).then_some(())
        })
        .await;
    // The caller does not read. Heartbeats and another connection go on.
    let beats = leader.state().heartbeats.len();
    leader.say(open_port(2, pod, port, PLENTY));
    let (mut other, _) = listener.accept().await.unwrap();
    other.write_all(b"quick").await.unwrap();
    drop(other);
    leader.until("the other one", |state| (output(state, 2) == b"quick").then_some(())).await;
    leader.until("heartbeats", |state| (state.heartbeats.len() > beats + 2).then_some(())).await;
    assert!(output(&leader.state(), 1).len() as u64 <= credit);
    leader.say(ToAgent::ChannelCredit(v1::ChannelCredit { channel_id: 1, bytes: PLENTY }));
    leader.until("the rest", |state| (output(state, 1).len() == 4 << 20).then_some(())).await;
}

#[tokio::test]
async fn a3_input_is_bounded_by_credit_which_comes_as_it_is_taken() {
    let (leader, _agent, pod, listener, port) = listening().await;
    leader.say(open_port(1, pod, port, PLENTY));
    let (mut connection, _) = listener.accept().await.unwrap();
    opened(&leader, 1).await;
    let piece = vec![1; CHANNEL_PIECE_BYTES_MAX];
    let pieces = CHANNEL_CREDIT_BYTES_INITIAL as usize / CHANNEL_PIECE_BYTES_MAX;
    for _ in 0..pieces {
        leader.say(data(1, piece.clone()));
    }
    let mut taken = vec![0; pieces * CHANNEL_PIECE_BYTES_MAX];
    connection.read_exact(&mut taken).await.unwrap();
    leader
        .until("credit for more", |state| {
            let given: u64 = state.channels[&1]
                .iter()
                .map(|message| match message {
                    FromAgent::ChannelCredit(credit) => credit.bytes,
                    _ => 0,
                })
                .sum();
            (given == CHANNEL_CREDIT_BYTES_INITIAL).then_some(())
        })
        .await;
    // A server that sends more than it was given credit for loses the channel, not the session.
    let count_sessions = || {
        let state = leader.state();
        state.registers.len() + state.resumes.len()
    };
    let n_sessions = count_sessions();
    leader.say(open_port(2, pod, port, PLENTY));
    let (mut deaf, _) = listener.accept().await.unwrap();
    leader.say(data(2, vec![2; CHANNEL_PIECE_BYTES_MAX + 1]));
    assert_eq!(end(&leader, 2).await.reason(), v1::ChannelEndReason::Unspecified);
    let mut rest = Vec::new();
    // Closed or reset: it is over.
    let _ = deaf.read_to_end(&mut rest).await;
    assert_eq!(count_sessions(), n_sessions);
}

#[tokio::test]
async fn a3_the_end_of_the_session_or_of_the_caller_closes_connections() {
    let (leader, _agent, pod, listener, port) = listening().await;
    let mut connections: Vec<TcpStream> = Vec::new();
    for channel_id in [1, 2] {
        leader.say(open_port(channel_id, pod, port, PLENTY));
        connections.push(listener.accept().await.unwrap().0);
        opened(&leader, channel_id).await;
    }
    let ended = |connection: &mut TcpStream| {
        let mut byte = [0];
        matches!(connection.try_read(&mut byte), Ok(0) | Err(_))
            && !matches!(connection.try_read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    };
    leader.say(ToAgent::ChannelCancel(v1::ChannelCancel { channel_id: 1 }));
    eventually("the first is closed", || ended(&mut connections[0])).await;
    assert!(!ended(&mut connections[1]));
    leader.break_off();
    eventually("the second is closed", || ended(&mut connections[1])).await;
}

#[tokio::test]
async fn usage_of_the_host_is_measured_when_it_is_asked_for() {
    let (leader, _agent, _pod, _listener, _port) = listening().await;
    leader.say(ToAgent::UsageRequest(v1::UsageRequest { request_id: 7, pods: true }));
    leader.say(ToAgent::UsageRequest(v1::UsageRequest { request_id: 8, pods: true }));
    let answers =
        leader.until("two answers", |state| (state.usage.len() == 2).then(|| state.usage.clone())).await;
    assert_eq!(answers[0].node, answers[1].node, "they share one measurement");
    let mut ids: Vec<_> = answers.iter().map(|answer| answer.request_id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [7, 8]);
    let node = answers[0].node.expect("the host can be measured");
    assert!(node.memory_bytes > 1 << 20 && node.window_ms >= 900, "{node:?}");
}

fn open_exec(channel_id: u64, pod: PodUid, script: &str) -> ToAgent {
    let exec = v1::ExecCommand {
        container: "main".to_owned(),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        stdin: true,
        terminal: None,
    };
    let target = Some(v1::channel_open::Target::Exec(exec));
    ToAgent::ChannelOpen(v1::ChannelOpen {
        channel_id,
        pod_uid: uid_to_wire(pod),
        target,
        credit_bytes: PLENTY,
    })
}

#[tokio::test]
async fn a3_a_command_gets_its_input_and_gives_its_exit_code() {
    let (leader, _agent, pod, _listener, _port) = listening().await;
    leader.say(open_exec(1, pod, "read line; echo got $line; cat; exit 6"));
    opened(&leader, 1).await;
    leader.say(data(1, "one\ntwo\n"));
    leader.until("an answer", |state| output(state, 1).starts_with(b"got one\n").then_some(())).await;
    leader.say(input(1, Input::End(v1::ChannelInputEnd {})));
    let ended = end(&leader, 1).await;
    assert_eq!((ended.reason(), ended.exit_code), (v1::ChannelEndReason::Complete, 6));
    assert_eq!(output(&leader.state(), 1), b"got one\ntwo\n");
    leader.say(ToAgent::ChannelOpen(v1::ChannelOpen {
        channel_id: 2,
        pod_uid: uid_to_wire(pod),
        target: Some(v1::channel_open::Target::Exec(v1::ExecCommand {
            container: "main".to_owned(),
            command: vec!["no-such-program".to_owned()],
            ..Default::default()
        })),
        credit_bytes: PLENTY,
    }));
    let failed = end(&leader, 2).await;
    assert_eq!(failed.reason(), v1::ChannelEndReason::Failed, "{failed:?}");
}

fn open_attach(channel_id: u64, pod: PodUid, stdin: bool) -> ToAgent {
    let attach = v1::AttachStreams { container: "main".to_owned(), stdin, terminal: None };
    let target = Some(v1::channel_open::Target::Attach(attach));
    ToAgent::ChannelOpen(v1::ChannelOpen {
        channel_id,
        pod_uid: uid_to_wire(pod),
        target,
        credit_bytes: PLENTY,
    })
}

/// A Pod whose container has what is said of its streams.
fn with_streams(mut desired: v1::DesiredPod, change: impl FnOnce(&mut v1::Container)) -> v1::DesiredPod {
    let Some(v1::desired_pod::Action::Run(run)) = &mut desired.action else { panic!("{desired:?}") };
    let spec = run.pod.as_mut().and_then(|pod| pod.spec.as_mut()).expect("a template");
    change(&mut spec.containers[0]);
    desired
}

/// A3, A13: clients come and go, and so do sessions and agents; the container goes on, and its input with it.
#[tokio::test]
async fn a3_a_container_goes_on_whoever_is_attached_to_it() {
    let leader = FakeLeader::start().await;
    leader.state().node_lease_ms = NODE_LEASE_OVER_RESTARTS_MS;
    let mut agent = AgentProcess::registered(&leader).await;
    let pod = new_pod();
    let script = "while read -r line; do echo got $line; if [ $line = end ]; then exit 7; fi; done; exit 8";
    leader.order(with_streams(to_run(pod, 1, script), |container| container.stdin = true));
    leader.running(pod).await;
    leader.say(open_attach(1, pod, true));
    leader.say(open_attach(2, pod, false));
    opened(&leader, 1).await;
    opened(&leader, 2).await;
    leader.say(data(1, "one\n"));
    for channel_id in [1, 2] {
        leader.until("an echo", |state| (output(state, channel_id) == b"got one\n").then_some(())).await;
    }
    // Neither the end of a caller's input, nor that of the caller, nor that of the session, is one of the container's.
    leader.say(input(1, Input::End(v1::ChannelInputEnd {})));
    leader.say(ToAgent::ChannelCancel(v1::ChannelCancel { channel_id: 1 }));
    leader.break_off();
    leader.until("it resumes", |state| (!state.resumes.is_empty()).then_some(())).await;
    agent.kill();
    agent.start();
    leader.registration(1).await;
    // Until it has taken the container over, it says that there is none.
    let mut attached = 3;
    loop {
        leader.say(open_attach(attached, pod, true));
        let is_open = leader.until("an answer", |state| match state.channels.get(&attached)?.first()? {
            FromAgent::ChannelOpened(_) => Some(true),
            _ => Some(false),
        });
        if is_open.await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        attached += 1;
    }
    leader.say(data(attached, "end\n"));
    let ended = end(&leader, attached).await;
    assert_eq!((ended.reason(), ended.exit_code), (v1::ChannelEndReason::Complete, 7), "{ended:?}");
    assert_eq!(output(&leader.state(), attached), b"got end\n");
}

#[tokio::test]
async fn a3_a_container_has_the_streams_that_it_was_started_with() {
    let (leader, _agent, pod, _listener, _port) = listening().await;
    leader.say(open_attach(1, pod, true));
    let refused = end(&leader, 1).await;
    assert_eq!(refused.reason(), v1::ChannelEndReason::Failed);
    assert!(refused.message.contains("has no stdin: set stdin: true"), "{refused:?}");
    leader.say(open_attach(2, new_pod(), false));
    assert_eq!(end(&leader, 2).await.reason(), v1::ChannelEndReason::NotFound);
    // Input for one client ends with what that says.
    let once = new_pod();
    let desired = with_streams(to_run(once, 2, "cat; echo over; exit 5"), |container| {
        (container.stdin, container.stdin_once) = (true, true);
    });
    leader.order(desired);
    leader.running(once).await;
    leader.say(open_attach(3, once, true));
    opened(&leader, 3).await;
    leader.say(data(3, "data\n"));
    leader.say(input(3, Input::End(v1::ChannelInputEnd {})));
    let ended = end(&leader, 3).await;
    assert_eq!((ended.reason(), ended.exit_code), (v1::ChannelEndReason::Complete, 5), "{ended:?}");
    assert_eq!(output(&leader.state(), 3), b"data\nover\n");
}

#[tokio::test]
async fn a3_commands_are_killed_with_their_callers_and_with_the_session() {
    let (leader, _agent, pod, _listener, _port) = listening().await;
    let markers = [crate::agent_process::marker(), crate::agent_process::marker()];
    for (channel_id, marker) in (1..).zip(&markers) {
        leader.say(open_exec(channel_id, pod, &format!("sleep {marker}")));
        opened(&leader, channel_id).await;
    }
    let alive = |position: usize| crate::agent_process::alive(&markers[position]);
    eventually("both run", || alive(0) > 0 && alive(1) > 0).await;
    leader.say(ToAgent::ChannelCancel(v1::ChannelCancel { channel_id: 1 }));
    eventually("the first is killed", || alive(0) == 0).await;
    assert!(alive(1) > 0);
    leader.break_off();
    eventually("the second is killed", || alive(1) == 0).await;
}
