//! What holds for further programs in a container, whatever runs it.
//!
//! Owns: the cases that are alike. Does not own: making the container, what differs from runtime to runtime.

use std::sync::Arc;
use std::time::{Duration, Instant};
use stint_runtime::{Error, ExecOutput, ExecSession, ExecSpec, RunningContainer, TerminalSize, limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long anything may take on a slow machine.
pub const LONG: Duration = Duration::from_secs(60);

type Container = Arc<dyn RunningContainer>;

/// A line of shell, of which everything that it writes is kept.
pub fn shell(script: &str) -> ExecSpec {
    ExecSpec {
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        stdout: true,
        stderr: true,
        ..ExecSpec::default()
    }
}

pub async fn all_of(output: Option<ExecOutput>) -> String {
    let mut bytes = Vec::new();
    let mut output = output.expect("asked for");
    tokio::time::timeout(LONG, output.read_to_end(&mut bytes)).await.expect("in time").unwrap();
    String::from_utf8(bytes).unwrap()
}

/// What a script says, and its exit code.
pub async fn run(container: &Container, script: &str) -> (String, i32) {
    let mut session = container.exec(shell(script)).await.unwrap();
    (all_of(session.stdout()).await, session.wait().await)
}

async fn until_it_says(output: &mut ExecOutput, expected: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while !text.contains(expected) {
        let read = tokio::time::timeout(LONG, output.read(&mut buffer)).await;
        let count = read.expect("it says so in time").unwrap();
        assert!(count > 0, "it ended after {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    text
}

/// Streams are given once, exit codes as often as they are asked for. What the script says, in which `V` is `of exec`.
pub async fn is_given_once(container: &Container, script: &str, exit_code: i32) -> (String, String) {
    let mut asked = shell(script);
    asked.env.push(("V".to_owned(), "of exec".to_owned()));
    let mut session = container.exec(asked).await.unwrap();
    assert!(session.stdin().is_none());
    let said = (all_of(session.stdout()).await, all_of(session.stderr()).await);
    assert!(session.stdout().is_none(), "given once");
    assert_eq!((session.wait().await, session.wait().await), (exit_code, exit_code));
    said
}

/// Nothing that is not asked for is kept; signals end what they are sent to; many run at once, and each is its own.
pub async fn quiet_ones_killed_ones_and_many(container: &Container, many: usize) {
    let quiet = ExecSpec { stdout: false, stderr: false, ..shell("echo nobody reads this; cat; exit 4") };
    let mut session = container.exec(quiet).await.unwrap();
    assert!(session.stdout().is_none() && session.stderr().is_none());
    assert_eq!(session.wait().await, 4);
    assert_eq!(run(container, "kill -9 $$").await.1, 137);
    let session = container.exec(shell("exec sleep 1000")).await.unwrap();
    session.kill();
    assert_eq!(session.wait().await, 137);
    let many = (0..many).map(|number| {
        let container = container.clone();
        tokio::spawn(async move { run(&container, &format!("echo {number}; exit {number}")).await })
    });
    for (number, handle) in many.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(handle.await.unwrap(), (format!("{number}\n"), number as i32));
    }
}

/// So many bytes come back as they went in, while nobody reads what another program says.
pub async fn large_input_passes(container: &Container, bytes: u32) {
    let mut slow = container.exec(shell("yes")).await.unwrap();
    let never_read = slow.stdout();
    let mut session = container.exec(ExecSpec { stdin: true, ..shell("exec cat") }).await.unwrap();
    let (mut input, mut output) = (session.stdin().unwrap(), session.stdout().unwrap());
    let sent: Vec<u8> = (0..bytes).map(|number| (number % 251) as u8).collect();
    let expected = sent.clone();
    let writing = tokio::spawn(async move {
        input.write_all(&sent).await.unwrap();
        input.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    output.read_to_end(&mut received).await.unwrap();
    writing.await.unwrap();
    assert!(received == expected, "{} bytes came back", received.len());
    assert_eq!(session.wait().await, 0);
    // One that does not read what it gets ends all the same.
    let mut session = container.exec(ExecSpec { stdin: true, ..shell("exit 5") }).await.unwrap();
    let mut input = session.stdin().unwrap();
    let writing = tokio::spawn(async move { input.write_all(&expected).await.is_err() });
    assert_eq!(tokio::time::timeout(LONG, session.wait()).await.unwrap(), 5);
    assert!(writing.await.unwrap(), "nobody takes it any more");
    assert_eq!(run(container, "echo still").await.0, "still\n");
    drop((slow, never_read));
}

/// A terminal has the size that it is given, is one, and belongs to the program.
pub async fn a_terminal_has_a_size_and_a_session(container: &Container) {
    let size = |columns, rows| TerminalSize { columns, rows };
    // Engines begin the program before they know of a size.
    let script = "while test \"$(stty size)\" != '40 120'; do sleep 0.1; done; echo $TERM
        test -t 0 && test -t 1 && test -t 2 && echo terminal; : > /dev/tty && echo its own
        read -r line; echo got $line; while test \"$(stty size)\" != '50 100'; do sleep 0.1; done
        trap 'echo interrupted; exit 4' INT; echo waits; while :; do sleep 0.1; done";
    let mut spec = ExecSpec { terminal: Some(size(120, 40)), stdin: true, ..shell(script) };
    spec.env.push(("TERM".to_owned(), "xterm".to_owned()));
    let mut session = container.exec(spec).await.unwrap();
    let (mut input, mut output) = (session.stdin().unwrap(), session.stdout().unwrap());
    assert!(session.stderr().is_none());
    let text = until_it_says(&mut output, "its own").await;
    assert!(text.contains("xterm\r\nterminal\r\n"), "{text:?}");
    session.resize(size(100, 50));
    input.write_all(b"line\n").await.unwrap();
    let text = until_it_says(&mut output, "waits").await;
    assert!(text.contains("got line\r\n"), "{text:?}");
    // Ctrl-C is for the program.
    input.write_all(b"\x03").await.unwrap();
    until_it_says(&mut output, "interrupted").await;
    assert_eq!(session.wait().await, 4);
    // The end of the program is the end of what can be read.
    let mut rest = Vec::new();
    tokio::time::timeout(LONG, output.read_to_end(&mut rest)).await.unwrap().unwrap();
}

fn command(program: &str) -> ExecSpec {
    ExecSpec { command: vec![program.to_owned()], ..ExecSpec::default() }
}

/// `cases`: a program, its exit code, and a word of why it can't be run.
pub async fn refusals_name_the_cause(container: &Container, cases: &[(&str, i32, &str)]) {
    for (program, expected, word) in cases {
        let refusal = container.exec(command(program)).await.err().unwrap();
        let Error::ExecStart { exit_code, message, .. } = &refusal else { panic!("{refusal}") };
        assert_eq!(exit_code, expected, "{message}");
        assert!(message.contains(word) && message.contains(program), "{message}");
    }
    let empty = container.exec(ExecSpec::default()).await.err().unwrap();
    assert!(matches!(empty, Error::ExecStart { .. }), "{empty}");
    let refusal = container.exec(command("a\0b")).await.err().unwrap().to_string();
    assert!(refusal.contains("NUL"), "{refusal}");
}

/// There is room for so many and no more, and for others once they have gone.
pub async fn so_many_run_at_once(container: &Container) {
    let starts = (0..limits::EXECS_PER_CONTAINER_MAX).map(|_| container.exec(shell("exec sleep 1000")));
    let started = futures::future::join_all(starts).await;
    let sessions: Vec<Box<dyn ExecSession>> = started.into_iter().map(Result::unwrap).collect();
    let refusal = container.exec(command("true")).await.err().unwrap().to_string();
    assert!(refusal.contains("64 programs run"), "{refusal}");
    drop(sessions);
    let again = Instant::now() + LONG;
    while container.exec(command("true")).await.is_err() {
        assert!(Instant::now() < again, "there is room again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A container that has ended runs nothing further.
pub async fn none_runs_after_the_end(container: &Container) {
    container.kill().await;
    container.wait().await;
    let refusal = container.exec(shell("true")).await.err().unwrap();
    assert!(matches!(refusal, Error::NotRunning { .. }), "{refusal}");
}
