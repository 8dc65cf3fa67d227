//! Commands in containers.

use std::sync::Mutex;

use bytes::Bytes;
use stint_client::{AttachStreams, Error, ExecCommand, ExecOutput, PodTarget, TerminalSize, v1};
use stint_proto::status::ErrorReason;

use crate::fake::{Fake, SOON, broken, client, refusal};

fn cat() -> ExecCommand {
    ExecCommand {
        namespace: String::new(),
        target: PodTarget::Pod("p".to_owned()),
        container: String::new(),
        command: vec!["cat".to_owned()],
        stdin: true,
        terminal: None,
    }
}

#[tokio::test]
async fn decision_10_a_command_is_executed_once_or_not_at_all() {
    use v1::exec_response::Message;
    let answers =
        vec![Message::Started(v1::ChannelSource::default()), Message::Exit(v1::ExecExit { exit_code: 4 })];
    let execs =
        [Err(refusal(ErrorReason::NoLeader)), Err(refusal(ErrorReason::TooManyRequests)), Ok(answers)];
    let (address, fake) = Fake { execs: Mutex::new(execs.into()), ..Fake::default() }.start().await;
    let mut call = client(&[&address], SOON).exec(&cat()).await.unwrap();
    assert_eq!(call.next().await.unwrap(), ExecOutput::Exit(4));
    assert_eq!(fake.asked().len(), 3, "what certainly was not executed is tried again");

    for unknown in [broken(), refusal(ErrorReason::OutcomeUnknown)] {
        let execs = Mutex::new([Err(unknown)].into());
        let (address, fake) = Fake { execs, ..Fake::default() }.start().await;
        let error = client(&[&address], SOON).exec(&cat()).await.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
        assert_eq!(fake.asked().len(), 1, "what may have been executed is not");
    }
    // The end of the stream is no exit code.
    let execs = Mutex::new([Ok(vec![Message::Started(v1::ChannelSource::default())])].into());
    let (address, _fake) = Fake { execs, ..Fake::default() }.start().await;
    let mut call = client(&[&address], SOON).exec(&cat()).await.unwrap();
    assert!(call.next().await.is_err());
}

/// A3: as a command, but for how it begins.
#[tokio::test]
async fn a3_a_container_is_attached_to_and_says_how_it_ended() {
    use v1::exec_request::Message as Sent;
    use v1::exec_response::Message;
    let source = v1::ChannelSource { pod_name: "p".to_owned(), ..v1::ChannelSource::default() };
    let answers = vec![
        Message::Started(source),
        Message::Stdout(Bytes::from_static(b"out")),
        Message::Exit(v1::ExecExit { exit_code: 9 }),
    ];
    let execs = [Err(refusal(ErrorReason::NoLeader)), Ok(answers), Err(broken())];
    let (address, fake) = Fake { execs: Mutex::new(execs.into()), ..Fake::default() }.start().await;
    let wanted = AttachStreams {
        namespace: String::new(),
        target: PodTarget::Job("j".to_owned()),
        container: "side".to_owned(),
        stdin: true,
        terminal: Some(TerminalSize { columns: 80, rows: 24 }),
    };
    let client = client(&[&address], SOON);
    let mut call = client.attach(&wanted).await.unwrap();
    assert_eq!(call.source().pod_name, "p");
    let input = call.input();
    assert!(input.send(Bytes::from_static(b"in")).await);
    input.resize(TerminalSize { columns: 100, rows: 50 }).await;
    assert_eq!(call.next().await.unwrap(), ExecOutput::Stdout(Bytes::from_static(b"out")));
    assert_eq!(call.next().await.unwrap(), ExecOutput::Exit(9));
    let expected = "attach side true Some(TerminalSize { columns: 80, rows: 24 })";
    assert_eq!(fake.asked(), [expected, expected]);
    let sent = fake.exec_input.lock().unwrap().clone();
    let resized = v1::TerminalSize { columns: 100, rows: 50 };
    assert_eq!(sent, [Sent::Stdin(Bytes::from_static(b"in")), Sent::Resize(resized)]);
    // What may have closed a container's input is not repeated.
    let error = client.attach(&wanted).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
}

#[tokio::test]
async fn a3_input_is_sent_as_credit_comes() {
    use v1::exec_request::Message as Sent;
    use v1::exec_response::Message;
    let initial = stint_proto::limits::CHANNEL_CREDIT_BYTES_INITIAL as usize;
    let answers = vec![
        Message::Started(v1::ChannelSource::default()),
        Message::Stdout(Bytes::from_static(b"wait")),
        Message::StdinCredit(1_000),
        Message::Exit(v1::ExecExit { exit_code: 0 }),
    ];
    let (address, fake) = Fake { execs: Mutex::new([Ok(answers)].into()), ..Fake::default() }.start().await;
    let mut call = client(&[&address], SOON).exec(&cat()).await.unwrap();
    let input = call.input();
    let sending = tokio::spawn(async move {
        assert!(input.send(Bytes::from(vec![7; initial + 1_000])).await);
        input.end().await;
        // Beyond it nothing is sent, and the end of the call ends the waiting.
        input.send(Bytes::from_static(b"more")).await
    });
    assert_eq!(call.next().await.unwrap(), ExecOutput::Stdout(Bytes::from_static(b"wait")));
    let sent = |fake: &Fake| {
        let input = fake.exec_input.lock().unwrap();
        input.iter().map(|sent| if let Sent::Stdin(data) = sent { data.len() } else { 0 }).sum::<usize>()
    };
    assert_eq!(sent(&fake), initial);
    assert_eq!(call.next().await.unwrap(), ExecOutput::Exit(0));
    assert_eq!(sent(&fake), initial + 1_000);
    drop(call);
    assert!(!sending.await.unwrap());
}
