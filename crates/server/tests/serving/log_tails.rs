//! Tails of logs: what agents have sent is read once their nodes are lost (R13).

use stint_logs::Excerpt;
use stint_proto::{ErrorReason, v1};
use tonic::Code;

use crate::agent::{ScriptedAgent, beat, exited, register, running};
use crate::cluster::{TestServer, create, eventually, job, one};

/// Lines of these seconds of 1970, as an agent sends them.
fn tail(pod: &v1::PodToRun, seconds: std::ops::Range<u32>, first_offset: u64, is_last: bool) -> v1::LogTail {
    let line = |second| format!("1970-01-01T00:00:{second:02}.000000000Z stdout F {second}\n");
    let entries = seconds.map(line).collect::<String>().into_bytes();
    v1::LogTail {
        pod_uid: pod.uid.clone(),
        container: "main".to_owned(),
        restart_count: 0,
        first_offset,
        is_last,
        entries: Excerpt { first_offset, entries }.compressed().into(),
    }
}

fn logs_of(pod: &v1::PodToRun) -> v1::PodLogsRequest {
    v1::PodLogsRequest {
        target: Some(v1::pod_logs_request::Target::PodName(pod.name.clone())),
        ..v1::PodLogsRequest::default()
    }
}

/// A whole log: the text, with `<` where output is missing before and `>` where it is missing after, where it comes from, and
/// why something is missing.
async fn read(
    server: &TestServer,
    request: v1::PodLogsRequest,
) -> Result<(String, v1::LogOrigin, v1::LogCutReason), tonic::Status> {
    let mut chunks = server.pods().logs(request).await?.into_inner();
    let (mut text, mut origin, mut reason) = (String::new(), v1::LogOrigin::Unspecified, Default::default());
    while let Some(chunk) = chunks.message().await? {
        if let Some(source) = &chunk.source {
            origin = source.origin();
        }
        if let Some(cut) = &chunk.cut {
            assert_eq!(cut.node_name, "w1");
            reason = cut.reason();
            text.push(if cut.from.is_none() { '<' } else { '>' });
        }
        text.push_str(&String::from_utf8_lossy(&chunk.data).replace('\n', " "));
    }
    Ok((text, origin, reason))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r13_the_tail_is_read_when_the_node_is_silent_or_lost() {
    use v1::{LogCutReason, LogOrigin, LogTailResult};
    let server = one().await;
    let mut agent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    server.jobs().create(create(job("goes-on"))).await.expect("created");
    let running_pod = agent.ordered_pod().await;
    server.jobs().create(create(job("ends"))).await.expect("created");
    let ended_pod = agent.ordered_pod().await;
    server.jobs().create(create(job("quiet"))).await.expect("created");
    let quiet_pod = agent.ordered_pod().await;
    for (seq, pod) in [&running_pod, &ended_pod, &quiet_pod].into_iter().enumerate() {
        agent.report(1 + seq as u64, &pod.uid, running()).await;
    }
    let unknown = v1::LogTail { pod_uid: vec![7; 16].into(), ..tail(&ended_pod, 0..1, 0, true) };
    let elsewhere = v1::LogTail { container: "other".to_owned(), ..tail(&ended_pod, 0..1, 0, true) };
    let tails = vec![tail(&running_pod, 10..13, 99, false), unknown, elsewhere];
    let expected = [LogTailResult::Stored, LogTailResult::Later, LogTailResult::Refused];
    assert_eq!(agent.send_tails(tails).await, expected);
    // Of a Pod that has ended, which memory holds no more.
    agent.report(9, &ended_pod.uid, exited(0)).await;
    assert_eq!(agent.send_tails(vec![tail(&ended_pod, 20..22, 0, true)]).await, [LogTailResult::Stored]);

    // While the node answers, it does.
    let (reading, request) = (server.pods(), logs_of(&running_pod));
    let reading = tokio::spawn(async move { { reading }.logs(request).await });
    agent.answer_log("all of it").await;
    let mut chunks = reading.await.expect("ended").expect("a log").into_inner();
    let first = chunks.message().await.expect("no error").expect("a message");
    assert_eq!(first.source.expect("a source").origin(), LogOrigin::Node);

    // It has a lease, but no session.
    drop((chunks, agent));
    let (text, origin, reason) = eventually("the node is silent", || async {
        let read = read(&server, logs_of(&running_pod)).await.ok()?;
        (read.1 == LogOrigin::Tail).then_some(read)
    })
    .await;
    assert_eq!((text.as_str(), origin), ("<10 11 12 >", LogOrigin::Tail));
    assert!(matches!(reason, LogCutReason::Unreachable | LogCutReason::Lost));
    // It is lost. Who follows gets what there is, and the end.
    let lost = eventually("the node is lost", || async {
        let follow = v1::PodLogsRequest { follow: true, tail_lines: Some(2), ..logs_of(&running_pod) };
        read(&server, follow).await.ok()
    })
    .await;
    assert_eq!(lost, ("11 12 >".to_owned(), LogOrigin::Tail, LogCutReason::Lost));
    let ended = read(&server, logs_of(&ended_pod)).await.expect("its tail");
    assert_eq!(ended, ("20 21 ".to_owned(), LogOrigin::Tail, LogCutReason::Unspecified));
    let nothing = read(&server, logs_of(&quiet_pod)).await.expect_err("nothing is kept");
    assert_eq!((nothing.code(), ErrorReason::of(&nothing)), (Code::NotFound, Some(ErrorReason::NotFound)));

    // What the node still has comes first again when it is back; what it has lost does not.
    let back = v1::Register { registration_number: 2, nonce: 2, ..register("w1", 1) };
    let mut agent = ScriptedAgent::register(server.channel(), back).await;
    let (reading, request) = (server.pods(), logs_of(&ended_pod));
    let reading = tokio::spawn(async move { { reading }.logs(request).await });
    agent.answer_log("all of it").await;
    drop(reading.await.expect("ended").expect("a log"));
    let reading = read(&server, logs_of(&ended_pod));
    let answering = async {
        let request_id = agent
            .hear_until(|message| match message {
                v1::server_message::Message::LogRequest(request) => Some(request.request_id),
                _ => None,
            })
            .await;
        let reason = v1::LogEndReason::NotFound.into();
        let end = v1::LogEnd { request_id, reason, ..v1::LogEnd::default() };
        agent.say(v1::agent_message::Message::LogEnd(end)).await;
    };
    let (read, ()) = tokio::join!(reading, answering);
    assert_eq!(read.expect("its tail"), ended);
    drop(beat(agent));

    // With its Pod a tail is gone.
    let delete = v1::DeletePodRequest { name: ended_pod.name.clone(), ..v1::DeletePodRequest::default() };
    server.pods().delete(delete).await.expect("deleted");
    let gone = server.pods().logs(logs_of(&ended_pod)).await.expect_err("no such Pod");
    assert_eq!(gone.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_sends_without_credit_is_dropped_and_too_much_ends_its_session() {
    use v1::agent_message::Message as Say;
    let server = one().await;
    let mut agent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    server.jobs().create(create(job("a"))).await.expect("created");
    let pod = agent.ordered_pod().await;
    agent.report(1, &pod.uid, running()).await;
    let incarnation = agent.incarnation;
    let without_credit = v1::LogTails { incarnation, tails: vec![tail(&pod, 0..1, 0, true)] };
    agent.say(Say::LogTails(without_credit)).await;
    // Its turn comes all the same, and an end is not undone by what would have been before it.
    let later = vec![tail(&pod, 5..6, 70, false)];
    assert_eq!(agent.send_tails(later).await, [v1::LogTailResult::Stored]);
    agent.say(Say::LogTailOffer(v1::LogTailOffer {})).await;
    let huge = v1::LogTail { entries: vec![0; 300 << 10].into(), ..tail(&pod, 0..1, 0, true) };
    agent
        .hear_until(|message| match message {
            v1::server_message::Message::LogTailCredit(_) => Some(()),
            _ => None,
        })
        .await;
    agent.say(Say::LogTails(v1::LogTails { incarnation, tails: vec![huge] })).await;
    let end = loop {
        match agent.hear().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(end.expect_err("refused").code(), Code::InvalidArgument);
    let kept = eventually("the node is silent", || async { read(&server, logs_of(&pod)).await.ok() }).await;
    assert_eq!(kept.0, "<5 >");
}
