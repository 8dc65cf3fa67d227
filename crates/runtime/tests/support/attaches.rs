//! What holds for clients of a container's own streams, whatever runs it.
//!
//! Owns: the scripts, and the cases that are alike. Does not own: making the container, what differs from runtime to runtime.

use std::sync::Arc;
use std::time::Duration;
use stint_runtime::{
    AttachRefusal, AttachSession, AttachSpec, Error, ExecOutput, RunningContainer, StreamsSpec, TerminalSize,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long anything may take on a slow machine.
const LONG: Duration = Duration::from_secs(60);

type Container = Arc<dyn RunningContainer>;

/// Input that stays, whoever comes and goes.
pub const OPEN: StreamsSpec = StreamsSpec { stdin: true, stdin_once: false, terminal: false };
/// Input for one client.
pub const ONCE: StreamsSpec = StreamsSpec { stdin: true, stdin_once: true, terminal: false };
/// A terminal.
pub const TERMINAL: StreamsSpec = StreamsSpec { stdin: true, stdin_once: false, terminal: true };

/// Tells each line that it reads; 7 at the line `end`, 8 at the end of its input.
pub const LINES: &str =
    "while read -r line; do echo got $line; if [ $line = end ]; then exit 7; fi; done; echo eof; exit 8";
/// Gives back what it reads, and stays for a while.
pub const ECHO: &str = "cat; echo over; read -r line </dev/null; sleep 1000";
/// Ends as its input does.
pub const CAT: &str = "cat; echo over; exit 3";
/// Reads nothing.
pub const DEAF: &str = "trap 'exit 4' TERM; echo ready; while :; do sleep 0.1; done";
/// Wants to be looked at by a terminal of 120 by 40 characters, and then by one of 100 by 50.
pub const SCREEN: &str = "while test \"$(stty size)\" != '40 120'; do sleep 0.1; done; echo $TERM
    test -t 0 && test -t 1 && test -t 2 && echo terminal; : > /dev/tty && echo its own
    read -r line; echo got $line; while test \"$(stty size)\" != '50 100'; do sleep 0.1; done
    trap 'echo interrupted; exit 4' INT; echo waits; while :; do sleep 0.1; done";

fn size(columns: u16, rows: u16) -> TerminalSize {
    TerminalSize { columns, rows }
}

pub async fn attach(container: &Container, stdin: bool) -> AttachSession {
    container.attach(AttachSpec { stdin, terminal: None }).await.unwrap()
}

pub async fn refusal(container: &Container, spec: AttachSpec) -> AttachRefusal {
    match container.attach(spec).await.unwrap_err() {
        Error::Attach { refusal, .. } => refusal,
        other => panic!("{other}"),
    }
}

pub async fn say(session: &mut AttachSession, text: &str) {
    let input = session.stdin.as_mut().expect("asked for");
    input.write_all(text.as_bytes()).await.unwrap();
}

/// Ends the client's input; it goes on listening.
pub async fn end_input(session: &mut AttachSession) {
    session.stdin.take().expect("asked for").shutdown().await.unwrap();
}

pub async fn until_it_says(output: &mut ExecOutput, expected: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while !text.contains(expected) {
        let read = tokio::time::timeout(LONG, output.read(&mut buffer)).await;
        let count = read.unwrap_or_else(|_| panic!("{expected:?} after {text:?}")).unwrap();
        assert!(count > 0, "it ended after {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    text
}

pub async fn rest(output: &mut ExecOutput) -> String {
    let mut bytes = Vec::new();
    tokio::time::timeout(LONG, output.read_to_end(&mut bytes)).await.expect("an end").unwrap();
    String::from_utf8(bytes).unwrap()
}

pub async fn ended(container: &Container) -> i32 {
    tokio::time::timeout(LONG, container.wait()).await.expect("an end").exit_code
}

/// [`LINES`] with [`OPEN`]: neither a client that ends its input nor one that goes is an end of the container's.
pub async fn input_stays_for_clients_that_come_and_go(container: &Container) {
    let mut first = attach(container, true).await;
    say(&mut first, "one\n").await;
    until_it_says(&mut first.stdout, "got one\n").await;
    end_input(&mut first).await;
    let mut listener = attach(container, false).await;
    assert!(listener.stdin.is_none());
    let mut second = attach(container, true).await;
    say(&mut second, "two\n").await;
    for client in [&mut first, &mut second, &mut listener] {
        until_it_says(&mut client.stdout, "got two\n").await;
    }
    drop(second);
    drop(first);
    let mut third = attach(container, true).await;
    say(&mut third, "three\nend\n").await;
    assert_eq!(rest(&mut third.stdout).await, "got three\ngot end\n");
    assert_eq!(rest(&mut listener.stdout).await, "got three\ngot end\n");
    assert_eq!(ended(container).await, 7);
    let late = container.attach(AttachSpec::default()).await.unwrap_err();
    assert!(matches!(late, Error::NotRunning { .. }), "{late}");
}

/// [`CAT`] with [`ONCE`]: the end of a client's input is the container's, with all that came before.
pub async fn input_for_one_ends_as_its_client_ends_it(container: &Container, bytes: usize) {
    let mut client = attach(container, true).await;
    let sent: Vec<u8> = (0..bytes).map(|number| b'a' + (number % 26) as u8).collect();
    let expected = String::from_utf8(sent.clone()).unwrap() + "over\n";
    let mut input = client.stdin.take().unwrap();
    let writing = tokio::spawn(async move {
        input.write_all(&sent).await.unwrap();
        input.shutdown().await.unwrap();
    });
    let said = rest(&mut client.stdout).await;
    assert!(said == expected, "{} bytes came back", said.len());
    writing.await.unwrap();
    assert_eq!(ended(container).await, 3);
}

/// [`ECHO`] with [`ONCE`]: a client that goes ends the input, and there is no other.
pub async fn input_for_one_ends_with_its_client(container: &Container) {
    let mut listener = attach(container, false).await;
    let mut client = attach(container, true).await;
    say(&mut client, "data\n").await;
    until_it_says(&mut client.stdout, "data\n").await;
    drop(client);
    until_it_says(&mut listener.stdout, "over\n").await;
    let wanted = AttachSpec { stdin: true, terminal: None };
    assert_eq!(refusal(container, wanted).await, AttachRefusal::StdinClosed);
    container.kill().await;
}

/// Of a container that was started with nothing special, and does not end.
pub async fn what_a_container_has_not_is_refused(container: &Container) {
    let refused = |stdin, terminal| refusal(container, AttachSpec { stdin, terminal });
    assert_eq!(refused(true, None).await, AttachRefusal::NoStdin);
    assert_eq!(refused(false, Some(size(80, 24))).await, AttachRefusal::NoTerminal);
    drop(attach(container, false).await);
}

/// [`SCREEN`] with [`TERMINAL`].
pub async fn a_terminal_is_the_containers_own(container: &Container) {
    let wanted = AttachSpec { stdin: true, terminal: Some(size(120, 40)) };
    let mut client = container.attach(wanted).await.unwrap();
    assert!(client.stderr.is_none());
    // Whoever looks at it without one of its own sees the same.
    let mut listener = attach(container, false).await;
    let text = until_it_says(&mut client.stdout, "its own").await;
    assert!(text.contains("xterm\r\nterminal\r\n"), "{text:?}");
    client.control.resize(size(100, 50));
    say(&mut client, "line\n").await;
    let text = until_it_says(&mut client.stdout, "waits").await;
    assert!(text.contains("got line\r\n"), "{text:?}");
    // The end of a client is none of the terminal's, whatever becomes of it.
    end_input(&mut client).await;
    drop(client);
    let mut client = container.attach(wanted).await.unwrap();
    client.control.resize(size(100, 50));
    say(&mut client, "\x03").await;
    assert!(rest(&mut client.stdout).await.contains("interrupted\r\n"));
    assert!(rest(&mut listener.stdout).await.contains("interrupted\r\n"));
    assert_eq!(ended(container).await, 4);
}

/// [`DEAF`] with [`OPEN`]: a client that has more to say than is read. It is given back with what it has still to say, and whether it
/// was held up: engines were seen to keep megabytes of it.
pub async fn input_that_is_not_read(container: &Container) -> (AttachSession, bool) {
    let mut client = attach(container, true).await;
    let mut input = client.stdin.take().unwrap();
    let much = vec![b'x'; 4 << 20];
    let written = tokio::time::timeout(Duration::from_secs(2), input.write_all(&much)).await;
    client.stdin = Some(input);
    (client, written.is_err())
}
