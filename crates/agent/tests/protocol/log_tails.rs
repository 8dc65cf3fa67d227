//! R13: the last output of containers is sent to the servers, within what they let come.

use crate::agent_process::{AgentProcess, eventually, new_pod, to_run};
use crate::fake_leader::{FakeLeader, State};
use nix::sys::signal::Signal;
use std::time::Duration;
use stint_api::PodUid;
use stint_logs::{Excerpt, Renderer, Selection};
use stint_proto::uid::uid_to_wire;
use stint_proto::v1;

fn tails_of(state: &State, pod: PodUid) -> Vec<v1::LogTail> {
    let uid = uid_to_wire(pod);
    state.tails.iter().flatten().filter(|tail| tail.pod_uid == uid).cloned().collect()
}

fn text_of(tail: &v1::LogTail) -> String {
    let excerpt = Excerpt::decompress(tail.first_offset, &tail.entries, 64 << 10).unwrap();
    let mut renderer = Renderer::new(&Selection::default());
    let bytes = excerpt.pieces(0, &mut renderer).flat_map(|piece| piece.bytes).collect();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn r13_the_last_output_is_sent_at_the_end_and_while_it_grows() {
    let leader = FakeLeader::start().await;
    let _agent = AgentProcess::registered(&leader).await;
    let (quiet, short, long, grows) = (new_pod(), new_pod(), new_pod(), new_pod());
    leader.order(to_run(quiet, 1, "true"));
    leader.order(to_run(short, 2, "echo one; echo two >&2"));
    leader.order(to_run(long, 3, "seq 1 60000"));
    leader.order(to_run(grows, 4, "seq 1 100; read forever < /dev/zero"));
    let last_of =
        |pod: PodUid| move |state: &State| tails_of(state, pod).into_iter().find(|tail| tail.is_last);
    let tail = leader.until("the tail of a short log", last_of(short)).await;
    assert_eq!((tail.container.as_str(), tail.restart_count, tail.first_offset), ("main", 0, 0));
    let mut lines: Vec<String> = text_of(&tail).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["one", "two"]);
    let tail = leader.until("the tail of a long log", last_of(long)).await;
    let text = text_of(&tail);
    let first: u32 = text.lines().next().unwrap().parse().unwrap();
    assert!(tail.first_offset > 0 && first > 50_000, "{first}");
    assert!(text == (first..=60_000).map(|number| format!("{number}\n")).collect::<String>());
    // Of one that goes on, now and then.
    let tail = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            if let Some(tail) = tails_of(&leader.state(), grows).into_iter().next() {
                return tail;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let tail = tail.await.expect("the tail of a log that grows");
    assert!(!tail.is_last && text_of(&tail).ends_with("99\n100\n"));
    assert_eq!(tails_of(&leader.state(), quiet), []);
    // Each was sent once.
    assert_eq!(tails_of(&leader.state(), short).len(), 1);
}

#[tokio::test]
async fn r13_what_was_not_acknowledged_is_sent_again_by_the_next_agent_too() {
    let leader = FakeLeader::start().await;
    leader.state().tail_result = None;
    let mut agent = AgentProcess::registered(&leader).await;
    let (first, second) = (new_pod(), new_pod());
    leader.order(to_run(first, 1, "echo first"));
    leader.until("a tail", |state| (!tails_of(state, first).is_empty()).then_some(())).await;
    // Over another session.
    leader.break_off();
    leader.until("it again", |state| (tails_of(state, first).len() > 1).then_some(())).await;
    // By another agent: what is known to have arrived is not sent by it.
    leader.state().tail_result = Some(v1::LogTailResult::Stored);
    leader.break_off();
    let [_, logs] = agent.folders_of(first);
    let mark = logs.join("main.0.tail-shipped");
    leader.until("a mark", |_| mark.exists().then_some(())).await;
    leader.state().tail_result = None;
    leader.order(to_run(second, 2, "echo second"));
    leader.until("another tail", |state| (!tails_of(state, second).is_empty()).then_some(())).await;
    agent.signal(Signal::SIGTERM);
    agent.ended_within(Duration::from_secs(10)).await.expect("it ends");
    leader.state().tails.clear();
    leader.state().tail_result = Some(v1::LogTailResult::Stored);
    agent.start();
    leader.until("the tail again", |state| (!tails_of(state, second).is_empty()).then_some(())).await;
    assert_eq!(tails_of(&leader.state(), first), []);
}

#[tokio::test]
async fn r13_no_more_comes_than_the_server_lets_come_and_what_ended_last_comes_first() {
    let leader = FakeLeader::start().await;
    leader.state().tail_credit = None;
    let _agent = AgentProcess::registered(&leader).await;
    let pods: Vec<PodUid> = (0..4).map(|_| new_pod()).collect();
    for (number, pod) in (1..).zip(&pods) {
        // What can't be compressed: two of them are more than one message may have.
        leader.order(to_run(*pod, number, "head -c 60000 /dev/urandom | od -An -v -tx1"));
        assert_eq!(leader.exit_code(*pod, 0).await, 0);
    }
    leader.until("an offer", |state| (state.tail_offers > 0).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(leader.state().tails.is_empty(), "nothing comes without credit");
    let credit = 60_000;
    leader.state().tail_credit = Some(credit);
    leader.say(v1::server_message::Message::LogTailCredit(v1::LogTailCredit { bytes: credit }));
    leader.until("all of them", |state| (state.tails.iter().flatten().count() >= 4).then_some(())).await;
    let state = leader.state();
    let order: Vec<PodUid> = state
        .tails
        .iter()
        .flat_map(|message| {
            let bytes: usize = message.iter().map(|tail| tail.entries.len()).sum();
            assert!(bytes <= credit as usize && !message.is_empty(), "{bytes}");
            message.iter().map(|tail| stint_proto::uid::uid_from_wire("uid", &tail.pod_uid).unwrap())
        })
        .collect();
    assert_eq!(order, pods.into_iter().rev().collect::<Vec<_>>());
    assert!(state.tails.len() > 1);
}

#[tokio::test]
async fn r13_an_agent_that_ends_its_pods_sends_what_they_said_last() {
    let leader = FakeLeader::start().await;
    let mut agent = AgentProcess::registered(&leader).await;
    let pods: Vec<PodUid> = (0..5).map(|_| new_pod()).collect();
    for (place, pod) in pods.iter().enumerate() {
        let script = "trap 'echo last words; exit 0' TERM; echo first; while :; do sleep 0.05; done";
        leader.order(to_run(*pod, place as u64 + 1, script));
    }
    // Before it has said something it may not know what to do about a signal either.
    let has_said = |pod: &PodUid| {
        let files = std::fs::read_dir(&agent.folders_of(*pod)[1]).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).any(|file| file.len() > 0)
    };
    eventually("all have said something", || pods.iter().all(has_said)).await;
    agent.signal(Signal::SIGINT);
    assert!(agent.ended_within(Duration::from_secs(60)).await.expect("it ends").success());
    let state = leader.state();
    for pod in pods {
        let tails = tails_of(&state, pod);
        let last =
            tails.iter().find(|tail| tail.is_last).expect("the whole tail came before the agent ended");
        assert!(text_of(last).ends_with("first\nlast words\n"), "{:?}", text_of(last));
    }
}
