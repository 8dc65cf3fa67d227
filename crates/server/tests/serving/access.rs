//! Commands in containers and connections to ports, with scripted agents in between (A3); what is used.

use stint_proto::ErrorReason;
use stint_proto::limits::{CHANNEL_CREDIT_BYTES_INITIAL, CHANNEL_PIECE_BYTES_MAX};
use stint_proto::v1;
use stint_proto::v1::agent_message::Message as Say;
use stint_proto::v1::channel_input::Input;
use stint_proto::v1::exec_request::Message as Ask;
use stint_proto::v1::exec_response::Message as Answer;
use stint_proto::v1::server_message::Message as Hear;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::agent::{ScriptedAgent, exited, register, running};
use crate::cluster::{
    Options, PATIENCE, TestServer, create, eventually, follower_of, job, leader_of, one, start,
};

/// What a caller says and hears.
type Call = (mpsc::Sender<v1::ExecRequest>, Streaming<v1::ExecResponse>);

fn of_job(name: &str) -> Option<v1::PodTarget> {
    let target = Some(v1::pod_target::Target::JobName(name.to_owned()));
    Some(v1::PodTarget { target, ..v1::PodTarget::default() })
}

fn of_pod(name: &str) -> Option<v1::PodTarget> {
    let target = Some(v1::pod_target::Target::PodName(name.to_owned()));
    Some(v1::PodTarget { target, ..v1::PodTarget::default() })
}

fn cat() -> v1::ExecStart {
    v1::ExecStart {
        target: of_job("a"),
        command: vec!["cat".to_owned(), "-".to_owned()],
        stdin: true,
        ..v1::ExecStart::default()
    }
}

fn ask(message: Ask) -> v1::ExecRequest {
    v1::ExecRequest { message: Some(message) }
}

async fn attach_first(server: &TestServer, first: Ask) -> Result<Call, Status> {
    let (say, said) = mpsc::channel(64);
    say.send(ask(first)).await.expect("room");
    let heard = server.pods().attach(ReceiverStream::new(said)).await?;
    Ok((say, heard.into_inner()))
}

async fn exec_first(server: &TestServer, first: Ask) -> Result<Call, Status> {
    let (say, said) = mpsc::channel(64);
    say.send(ask(first)).await.expect("room");
    let heard = server.pods().exec(ReceiverStream::new(said)).await?;
    Ok((say, heard.into_inner()))
}

fn begin(server: &TestServer, start: v1::ExecStart) -> JoinHandle<Result<Call, Status>> {
    let mut pods = server.pods();
    tokio::spawn(async move {
        let (say, said) = mpsc::channel(64);
        say.send(ask(Ask::Start(start))).await.expect("room");
        let heard = pods.exec(ReceiverStream::new(said)).await?;
        Ok((say, heard.into_inner()))
    })
}

/// The channel that an agent is told to open.
async fn asked(agent: &mut ScriptedAgent) -> v1::ChannelOpen {
    agent
        .hear_until(|message| match message {
            Hear::ChannelOpen(open) => Some(open),
            _ => None,
        })
        .await
}

/// A call whose channel the agent has opened, and the channel's id.
async fn connected(server: &TestServer, agent: &mut ScriptedAgent) -> (Call, u64) {
    let calling = begin(server, cat());
    let channel_id = asked(agent).await.channel_id;
    agent.say(Say::ChannelOpened(v1::ChannelOpened { channel_id })).await;
    let mut call = calling.await.expect("ended").expect("a stream");
    assert!(matches!(hear(&mut call.1).await, Answer::Started(_)));
    (call, channel_id)
}

async fn hear(stream: &mut Streaming<v1::ExecResponse>) -> Answer {
    let next = tokio::time::timeout(PATIENCE, stream.message()).await.expect("in time");
    next.expect("no error").expect("goes on").message.expect("a message")
}

async fn error_of(stream: &mut Streaming<v1::ExecResponse>) -> Status {
    loop {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await.expect("in time");
        if let Err(status) = next.map(|message| message.expect("an end with a status")) {
            return status;
        }
    }
}

async fn say_output(agent: &ScriptedAgent, channel_id: u64, stream: v1::ChannelStream, data: &[u8]) {
    let data = data.to_vec().into();
    agent.say(Say::ChannelOutput(v1::ChannelOutput { channel_id, data, stream: stream.into() })).await;
}

async fn say_end(
    agent: &ScriptedAgent,
    channel_id: u64,
    reason: v1::ChannelEndReason,
    message: &str,
    exit_code: i32,
) {
    let message = message.to_owned();
    agent
        .say(Say::ChannelEnd(v1::ChannelEnd { channel_id, reason: reason.into(), message, exit_code }))
        .await;
}

async fn input(agent: &mut ScriptedAgent) -> Input {
    agent
        .hear_until(|message| match message {
            Hear::ChannelInput(input) => input.input,
            _ => None,
        })
        .await
}

/// A Pod of job `a` that runs on node `w1`.
async fn running_pod(server: &TestServer, agent: &mut ScriptedAgent) -> v1::PodToRun {
    server.jobs().create(create(job("a"))).await.expect("created");
    let pod = agent.ordered_pod().await;
    agent.report(1, &pod.uid, running()).await;
    pod
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a3_a_command_is_executed_through_any_server() {
    let servers = start(3, Options::default()).await;
    let mut agent = ScriptedAgent::register(servers[leader_of(&servers)].channel(), register("w1", 1)).await;
    let pod = running_pod(&servers[leader_of(&servers)], &mut agent).await;
    for server in [&servers[leader_of(&servers)], &servers[follower_of(&servers)]] {
        let terminal = Some(v1::TerminalSize { columns: 80, rows: 24 });
        let calling = begin(server, v1::ExecStart { terminal, ..cat() });
        let open = asked(&mut agent).await;
        let Some(v1::channel_open::Target::Exec(command)) = open.target else { panic!("{open:?}") };
        assert_eq!((open.pod_uid, open.credit_bytes), (pod.uid.clone(), CHANNEL_CREDIT_BYTES_INITIAL));
        assert_eq!((command.container.as_str(), command.stdin), ("main", true));
        assert_eq!((command.command.join(" ").as_str(), command.terminal), ("cat -", terminal));
        let id = open.channel_id;
        agent.say(Say::ChannelOpened(v1::ChannelOpened { channel_id: id })).await;
        let (say, mut heard) = calling.await.expect("ended").expect("a stream");
        let Answer::Started(source) = hear(&mut heard).await else { panic!("not started") };
        assert_eq!((source.pod_name, source.node_name), (pod.name.clone(), "w1".to_owned()));

        // Input in order, with what is no input in between.
        say.send(ask(Ask::Stdin("in".into()))).await.expect("open");
        say.send(ask(Ask::Resize(v1::TerminalSize { columns: 100, rows: 50 }))).await.expect("open");
        say.send(ask(Ask::StdinEnd(v1::ExecStdinEnd {}))).await.expect("open");
        assert_eq!(input(&mut agent).await, Input::Data("in".into()));
        assert_eq!(input(&mut agent).await, Input::Resize(v1::TerminalSize { columns: 100, rows: 50 }));
        assert!(matches!(input(&mut agent).await, Input::End(_)));

        say_output(&agent, id, v1::ChannelStream::Stdout, b"out").await;
        say_output(&agent, id, v1::ChannelStream::Stderr, b"err").await;
        agent.say(Say::ChannelCredit(v1::ChannelCredit { channel_id: id, bytes: 512 })).await;
        say_end(&agent, id, v1::ChannelEndReason::Complete, "", 3).await;
        assert_eq!(hear(&mut heard).await, Answer::Stdout("out".into()));
        assert_eq!(hear(&mut heard).await, Answer::Stderr("err".into()));
        assert_eq!(hear(&mut heard).await, Answer::StdinCredit(512));
        assert_eq!(hear(&mut heard).await, Answer::Exit(v1::ExecExit { exit_code: 3 }));
        assert!(heard.message().await.expect("no error").is_none());
    }
}

/// A container's own streams are had through any server, if its template provides for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a3_a_container_is_attached_to_as_its_template_says() {
    let servers = start(3, Options::default()).await;
    let leader = &servers[leader_of(&servers)];
    let node = v1::Register { features: vec!["streams".to_owned()], ..register("w1", 1) };
    let mut agent = ScriptedAgent::register(leader.channel(), node).await;
    let mut job = job("a");
    let spec = job.spec.as_mut().expect("a spec").template.as_mut().expect("a template");
    let spec = spec.spec.as_mut().expect("a Pod's spec");
    let plain = v1::Container { name: "plain".to_owned(), ..spec.containers[0].clone() };
    spec.containers[0].stdin = true;
    spec.containers[0].tty = true;
    spec.containers.push(plain);
    leader.jobs().create(create(job)).await.expect("created");
    let pod = agent.ordered_pod().await;
    assert!(pod.spec.as_ref().is_some_and(|spec| spec.containers[0].stdin && spec.containers[0].tty));
    agent.report(1, &pod.uid, running()).await;

    let terminal = Some(v1::TerminalSize { columns: 80, rows: 24 });
    let wanted = v1::AttachStart { target: of_job("a"), stdin: true, terminal, ..v1::AttachStart::default() };
    let server = &servers[follower_of(&servers)];
    let mut pods = server.pods();
    let start = wanted.clone();
    let calling = tokio::spawn(async move {
        let (say, said) = mpsc::channel(64);
        say.send(ask(Ask::Attach(start))).await.expect("room");
        let heard = pods.attach(ReceiverStream::new(said)).await?;
        Ok::<Call, Status>((say, heard.into_inner()))
    });
    let open = asked(&mut agent).await;
    let Some(v1::channel_open::Target::Attach(attach)) = open.target else { panic!("{open:?}") };
    assert_eq!(open.pod_uid, pod.uid);
    assert_eq!((attach.container.as_str(), attach.stdin, attach.terminal), ("main", true, terminal));
    let channel_id = open.channel_id;
    agent.say(Say::ChannelOpened(v1::ChannelOpened { channel_id })).await;
    let (say, mut heard) = calling.await.expect("ended").expect("a stream");
    let Answer::Started(source) = hear(&mut heard).await else { panic!("not started") };
    assert_eq!((source.pod_name.as_str(), source.container.as_str()), (pod.name.as_str(), "main"));
    say.send(ask(Ask::Stdin("in".into()))).await.expect("open");
    assert_eq!(input(&mut agent).await, Input::Data("in".into()));
    say_output(&agent, channel_id, v1::ChannelStream::Stdout, b"out").await;
    say_end(&agent, channel_id, v1::ChannelEndReason::Complete, "", 6).await;
    assert_eq!(hear(&mut heard).await, Answer::Stdout("out".into()));
    assert_eq!(hear(&mut heard).await, Answer::Exit(v1::ExecExit { exit_code: 6 }));

    let of = |container: &str, stdin, terminal| {
        let container = container.to_owned();
        Ask::Attach(v1::AttachStart { container, stdin, terminal, ..wanted.clone() })
    };
    for (first, code, expected) in [
        (of("plain", true, None), Code::FailedPrecondition, "has no stdin: set stdin: true in its template"),
        (of("plain", false, terminal), Code::FailedPrecondition, "has no terminal: set tty: true in its"),
        (of("none", false, None), Code::NotFound, "none"),
        (
            of("main", true, Some(v1::TerminalSize { columns: 1, rows: 70_000 })),
            Code::InvalidArgument,
            "at most 65535",
        ),
        (Ask::Start(cat()), Code::InvalidArgument, "must be attach"),
        (Ask::Stdin("x".into()), Code::InvalidArgument, "must be attach"),
    ] {
        let status = attach_first(server, first.clone()).await.expect_err("refused");
        assert_eq!(status.code(), code, "{first:?}: {status:?}");
        assert!(status.message().contains(expected), "{status:?}");
    }
    let status = exec_first(server, Ask::Attach(wanted)).await.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
}

/// A Job whose Pod initializes has a Pod to go into: its init containers are what one looks at when they hang.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_the_init_containers_of_a_job_are_reached() {
    let server = one().await;
    let mut agent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    let mut job = job("a");
    let spec = job.spec.as_mut().expect("a spec").template.as_mut().expect("a template");
    let spec = spec.spec.as_mut().expect("a Pod's spec");
    let init = v1::Container { name: "init".to_owned(), ..spec.containers[0].clone() };
    spec.init_containers.push(init);
    server.jobs().create(create(job)).await.expect("created");
    let pod = agent.ordered_pod().await;
    let refused = async || exec_first(&server, Ask::Start(cat())).await.expect_err("it can't be executed");
    let message = refused().await.message().to_owned();
    assert_eq!(message, "job \"a\" has no pod that runs");
    let Some(v1::pod_report::Kind::Running(running)) = Some(running()) else { panic!("it runs") };
    let running = v1::ContainerRunning { container: "init".to_owned(), ..running };
    agent.report(1, &pod.uid, v1::pod_report::Kind::Running(running)).await;
    let expected =
        format!("container \"main\" of pod {:?} does not run yet: name one that does (init)", pod.name);
    eventually("the init container is known to run", async || {
        (refused().await.message() == expected).then_some(())
    })
    .await;
    let calling = begin(&server, v1::ExecStart { container: "init".to_owned(), ..cat() });
    let open = asked(&mut agent).await;
    let Some(v1::channel_open::Target::Exec(command)) = open.target else { panic!("{open:?}") };
    assert_eq!((open.pod_uid, command.container), (pod.uid, "init".to_owned()));
    agent.say(Say::ChannelOpened(v1::ChannelOpened { channel_id: open.channel_id })).await;
    calling.await.expect("ended").expect("a stream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_executed_is_told_apart() {
    let server = one().await;
    let text = str::to_owned;
    let mut agent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    let failed = async |start: v1::ExecStart| {
        exec_first(&server, Ask::Start(start)).await.expect_err("it can't be executed")
    };
    let nobody = failed(cat()).await;
    assert_eq!((nobody.code(), nobody.message()), (Code::NotFound, "jobs.batch \"a\" not found"));
    server.jobs().create(create(job("a"))).await.expect("created");
    let pod = agent.ordered_pod().await;
    let early = failed(cat()).await;
    assert_eq!((early.code(), early.message()), (Code::FailedPrecondition, "job \"a\" has no pod that runs"));
    agent.report(1, &pod.uid, running()).await;

    let bad = [
        v1::ExecStart::default(),
        v1::ExecStart { command: vec![], ..cat() },
        v1::ExecStart { command: vec![text("")], ..cat() },
        v1::ExecStart { command: vec![text("a\0b")], ..cat() },
        v1::ExecStart { command: vec!["x".repeat(200 << 10)], ..cat() },
        v1::ExecStart { command: vec![text("x"); 2_000], ..cat() },
        v1::ExecStart { target: None, ..cat() },
        v1::ExecStart { target: of_pod(""), ..cat() },
        v1::ExecStart { target: of_pod(&"x".repeat(300)), ..cat() },
        v1::ExecStart { container: "x".repeat(100), ..cat() },
        v1::ExecStart { terminal: Some(v1::TerminalSize { columns: 70_000, rows: 1 }), ..cat() },
        v1::ExecStart {
            target: of_job("a").map(|target| v1::PodTarget { pod_uid: text("1"), ..target }),
            ..cat()
        },
    ];
    for start in bad {
        let status = failed(start.clone()).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{start:?}: {status:?}");
    }
    for first in [Ask::Stdin("x".into()), Ask::StdinEnd(v1::ExecStdinEnd {})] {
        let status = exec_first(&server, first).await.expect_err("start comes first");
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    let other = "00000000-0000-4000-8000-000000000001".to_owned();
    let target = of_pod(&pod.name).map(|target| v1::PodTarget { pod_uid: other, ..target });
    assert_eq!(failed(v1::ExecStart { target, ..cat() }).await.code(), Code::Aborted);

    // What the agent says of it.
    use v1::ChannelEndReason as Reason;
    for (reason, code) in [
        (Reason::NotFound, Code::NotFound),
        (Reason::NotRunning, Code::FailedPrecondition),
        (Reason::Failed, Code::FailedPrecondition),
        (Reason::Unsupported, Code::FailedPrecondition),
        (Reason::TooManyChannels, Code::ResourceExhausted),
        (Reason::Unspecified, Code::Internal),
    ] {
        let calling = begin(&server, v1::ExecStart { container: text("side"), ..cat() });
        let id = asked(&mut agent).await.channel_id;
        say_end(&agent, id, reason, "so it is", 0).await;
        let status = calling.await.expect("ended").expect_err("refused");
        assert_eq!(status.code(), code, "{reason:?}");
        assert!(status.message().ends_with("so it is"), "{status:?}");
    }
    for (exit_code, reason) in [
        (127, ErrorReason::CommandNotFound),
        (126, ErrorReason::CommandNotExecutable),
        (128, ErrorReason::FailedPrecondition),
    ] {
        let calling = begin(&server, v1::ExecStart { container: text("side"), ..cat() });
        let id = asked(&mut agent).await.channel_id;
        say_end(&agent, id, Reason::Failed, "so it is", exit_code).await;
        let status = calling.await.expect("ended").expect_err("refused");
        assert_eq!(ErrorReason::of(&status), Some(reason), "{status:?}");
    }
    // Nobody knows whether it was executed: it is not tried again by itself.
    let calling = begin(&server, cat());
    asked(&mut agent).await;
    drop(agent);
    let status = calling.await.expect("ended").expect_err("no session");
    assert_eq!(ErrorReason::of(&status), Some(ErrorReason::OutcomeUnknown));
    eventually("the node has no session", || async {
        let status = exec_first(&server, Ask::Start(cat())).await.err()?;
        (ErrorReason::of(&status) == Some(ErrorReason::NodeUnreachable)).then_some(())
    })
    .await;
    let mut agent = ScriptedAgent::register(server.channel(), register("w1", 2)).await;
    agent.report(1, &pod.uid, exited(0)).await;
    let ended = eventually("it has ended", || async {
        let start = v1::ExecStart { target: of_pod(&pod.name), ..cat() };
        exec_first(&server, Ask::Start(start)).await.err()
    })
    .await;
    assert_eq!(ended.code(), Code::FailedPrecondition, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a3_callers_and_sessions_that_end_end_their_channels() {
    let server = one().await;
    let mut agent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    running_pod(&server, &mut agent).await;
    let (call, id) = connected(&server, &mut agent).await;
    drop(call);
    let cancelled = agent
        .hear_until(|message| match message {
            Hear::ChannelCancel(cancel) => Some(cancel.channel_id),
            _ => None,
        })
        .await;
    assert_eq!(cancelled, id, "its caller is gone");

    let ((_say, mut heard), _) = connected(&server, &mut agent).await;
    drop(agent);
    let status = error_of(&mut heard).await;
    assert_eq!(ErrorReason::of(&status), Some(ErrorReason::NodeUnreachable));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a3_who_does_not_read_or_sends_too_much_harms_only_himself() {
    let server = one().await;
    let mut agent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    running_pod(&server, &mut agent).await;
    // A caller that reads nothing. The agent sends all that it may.
    let ((_say, _unread), slow) = connected(&server, &mut agent).await;
    let piece = vec![1_u8; CHANNEL_PIECE_BYTES_MAX];
    for _ in 0..CHANNEL_CREDIT_BYTES_INITIAL as usize / CHANNEL_PIECE_BYTES_MAX {
        say_output(&agent, slow, v1::ChannelStream::Stdout, &piece).await;
    }
    agent.heartbeat(1).await;
    // Another one goes on meanwhile, and gets credit as it reads.
    let ((_say_too, mut heard), quick) = connected(&server, &mut agent).await;
    for _ in 0..8 {
        say_output(&agent, quick, v1::ChannelStream::Stdout, &piece[..CHANNEL_PIECE_BYTES_MAX / 2]).await;
        assert!(matches!(hear(&mut heard).await, Answer::Stdout(_)));
    }
    let credit = agent
        .hear_until(|message| match message {
            Hear::ChannelCredit(credit) if credit.channel_id == quick => Some(credit.bytes),
            _ => None,
        })
        .await;
    assert_eq!(credit, CHANNEL_CREDIT_BYTES_INITIAL / 2);
    // An agent that sends too large a piece loses the channel, not its session.
    say_output(&agent, quick, v1::ChannelStream::Stdout, &vec![1; CHANNEL_PIECE_BYTES_MAX + 1]).await;
    error_of(&mut heard).await;
    agent.heartbeat(2).await;

    // A caller that sends more than there is credit for.
    let small = || ask(Ask::Stdin("x".into()));
    let too_large = || ask(Ask::Stdin(vec![0; CHANNEL_PIECE_BYTES_MAX + 1].into()));
    for (request, n_allowed) in [(small(), 1_024), (too_large(), 0)] {
        let ((say, mut heard), _) = connected(&server, &mut agent).await;
        let saying = tokio::spawn(async move {
            // The stream may end before all is said.
            for _ in 0..=n_allowed {
                let _ = say.send(request.clone()).await;
            }
            say
        });
        let status = tokio::select! {
            status = error_of(&mut heard) => status,
            _ = agent.hear_until(|_| None::<()>) => unreachable!("it hears for ever"),
        };
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        drop(saying.await.expect("ended"));
    }
    agent.heartbeat(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stops_says_so_to_whoever_has_a_channel() {
    let mut servers = start(3, Options::default()).await;
    let mut agent = ScriptedAgent::register(servers[leader_of(&servers)].channel(), register("w1", 1)).await;
    running_pod(&servers[leader_of(&servers)], &mut agent).await;
    let ((_direct, mut direct), _) = connected(&servers[leader_of(&servers)], &mut agent).await;
    let ((_through, mut through), _) = connected(&servers[follower_of(&servers)], &mut agent).await;
    let mut leader = servers.remove(leader_of(&servers));
    leader.stop().await;
    for heard in [&mut direct, &mut through] {
        let status = error_of(heard).await;
        assert!(
            matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded),
            "the command is not executed any more, or nobody knows: {status:?}"
        );
        assert!(ErrorReason::of(&status).is_some(), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_to_a_port_has_two_ends() {
    let server = one().await;
    let mut agent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    running_pod(&server, &mut agent).await;
    use v1::port_forward_request::Message as Ask;
    use v1::port_forward_response::Message as Answer;
    let ask = |message| v1::PortForwardRequest { message: Some(message) };
    let begin = |port| {
        let (say, said) = mpsc::channel(8);
        let start = v1::PortForwardStart { target: of_job("a"), port };
        say.try_send(ask(Ask::Start(start))).expect("room");
        let mut pods = server.pods();
        (say, tokio::spawn(async move { pods.port_forward(ReceiverStream::new(said)).await }))
    };
    for port in [0, 65_536] {
        let status = begin(port).1.await.expect("ended").expect_err("no port");
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    let (say, calling) = begin(8_080);
    let open = asked(&mut agent).await;
    assert_eq!(open.target, Some(v1::channel_open::Target::Port(v1::PodPort { port: 8_080 })));
    let id = open.channel_id;
    agent.say(Say::ChannelOpened(v1::ChannelOpened { channel_id: id })).await;
    let mut heard = calling.await.expect("ended").expect("a stream").into_inner();
    let mut hear =
        async || heard.message().await.expect("no error").map(|message| message.message.expect("one"));
    assert!(matches!(hear().await, Some(Answer::Started(_))));
    say.send(ask(Ask::Data("GET".into()))).await.expect("open");
    assert_eq!(input(&mut agent).await, Input::Data("GET".into()));
    say_output(&agent, id, v1::ChannelStream::Stdout, b"200").await;
    say_output(&agent, id, v1::ChannelStream::Stdout, b"").await;
    assert_eq!(hear().await, Some(Answer::Data("200".into())));
    assert!(matches!(hear().await, Some(Answer::End(_))));
    // The other direction is still open, until the caller closes it.
    drop(say);
    assert!(matches!(input(&mut agent).await, Input::End(_)));
    say_end(&agent, id, v1::ChannelEndReason::Complete, "", 0).await;
    assert_eq!(hear().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_used_is_asked_of_the_agents() {
    let server = one().await;
    let mut agent = ScriptedAgent::register(server.channel(), register("w1", 1)).await;
    let pod = running_pod(&server, &mut agent).await;
    let silent = ScriptedAgent::register(server.channel(), register("w2", 1)).await;
    drop(silent);
    let usage = |cpu_millis| Some(v1::Usage { cpu_millis, memory_bytes: 1 << 20, window_ms: 1_000 });
    let answer = async |agent: &mut ScriptedAgent| {
        let request = agent
            .hear_until(|message| match message {
                Hear::UsageRequest(request) => Some(request),
                _ => None,
            })
            .await;
        let stranger = v1::MeasuredPod { pod_uid: vec![9; 16].into(), usage: usage(9) };
        let pods = vec![v1::MeasuredPod { pod_uid: pod.uid.clone(), usage: usage(250) }, stranger];
        let request_id = request.request_id;
        agent.say(Say::UsageAnswer(v1::UsageAnswer { request_id, node: usage(1_500), pods })).await;
        request.pods
    };
    let mut nodes = server.nodes();
    let asking = tokio::spawn(async move { nodes.usage(v1::NodeUsageRequest::default()).await });
    assert!(!answer(&mut agent).await);
    let items = asking.await.expect("ended").expect("an answer").into_inner().items;
    let seen: Vec<_> =
        items.iter().map(|node| (node.name.as_str(), node.usage, node.capacity_cpu_millis)).collect();
    assert_eq!(seen, [("w1", usage(1_500), 4_000), ("w2", None, 4_000)]);
    let unknown = server.nodes().usage(v1::NodeUsageRequest { name: "w9".to_owned() }).await;
    assert_eq!(unknown.expect_err("no such node").code(), Code::NotFound);

    for (request, expected) in [
        (v1::PodUsageRequest::default(), 1),
        (v1::PodUsageRequest { namespace: "other".to_owned(), ..Default::default() }, 0),
        (
            v1::PodUsageRequest { namespace: "other".to_owned(), all_namespaces: true, ..Default::default() },
            1,
        ),
        (v1::PodUsageRequest { label_selector: "job-name=a".to_owned(), ..Default::default() }, 1),
        (v1::PodUsageRequest { label_selector: "job-name=b".to_owned(), ..Default::default() }, 0),
    ] {
        let mut pods = server.pods();
        let asking = tokio::spawn(async move { pods.usage(request).await });
        assert!(answer(&mut agent).await);
        let items = asking.await.expect("ended").expect("an answer").into_inner().items;
        assert_eq!(items.len(), expected, "{items:?}");
        if let Some(item) = items.first() {
            assert_eq!(
                (item.name.as_str(), item.node_name.as_str(), item.usage),
                (pod.name.as_str(), "w1", usage(250))
            );
        }
    }
}
