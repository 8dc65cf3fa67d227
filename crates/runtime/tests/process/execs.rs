//! Further programs in a container.

use crate::fixture::{Fixture, alive, eventually, make_fifo, marker};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stint_runtime::{
    ContainerSpec, Error, ExecOutput, ExecSession, ExecSpec, RunningContainer, Stream, TerminalSize, limits,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn shell(script: &str) -> ExecSpec {
    ExecSpec {
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        stdout: true,
        stderr: true,
        ..ExecSpec::default()
    }
}

async fn all_of(output: Option<ExecOutput>) -> String {
    let mut bytes = Vec::new();
    output.expect("asked for").read_to_end(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

/// What a script says, and its exit code.
async fn run(container: &Arc<dyn RunningContainer>, script: &str) -> (String, i32) {
    let mut session = container.exec(shell(script)).await.unwrap();
    (all_of(session.stdout()).await, session.wait().await)
}

async fn until_it_says(output: &mut ExecOutput, expected: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while !text.contains(expected) {
        let read = tokio::time::timeout(Duration::from_secs(10), output.read(&mut buffer)).await;
        let count = read.expect("it says so in time").unwrap();
        assert!(count > 0, "it ended after {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    text
}

fn idle(fixture: &Fixture) -> ContainerSpec {
    fixture.shell("readlink /proc/self/ns/pid /proc/self/ns/mnt; echo ready; exec sleep 1000")
}

pub async fn programs_run_inside_the_container(fixture: Fixture) {
    let mut spec = idle(&fixture);
    spec.env = vec![("X".to_owned(), "1".to_owned()), ("Y".to_owned(), "old".to_owned())];
    let container = fixture.start_ready(&spec).await;
    let mut asked = shell("echo $X $Y $(pwd) '$(X)'; echo err >&2; exit 9");
    asked.env.push(("Y".to_owned(), "new".to_owned()));
    let mut session = container.exec(asked).await.unwrap();
    assert!(session.stdin().is_none());
    let (out, err) = (all_of(session.stdout()).await, all_of(session.stderr()).await);
    assert!(session.stdout().is_none(), "given once");
    assert_eq!(out, format!("1 new {} $(X)\n", fixture.home().display()));
    assert_eq!((err.as_str(), session.wait().await, session.wait().await), ("err\n", 9, 9));
    // Its streams are not the container's.
    let (namespaces, _) = run(&container, "readlink /proc/self/ns/pid /proc/self/ns/mnt").await;
    let ready = format!("{namespaces}ready\n");
    assert_eq!(String::from_utf8(fixture.output(&spec, Stream::Stdout).await).unwrap(), ready);
    // Nothing is inherited but what it was given, and nothing that is not asked for is kept.
    let (open, code) =
        run(&container, "ls /proc/self/fd | tr '\\n' ' '; grep SigBlk /proc/self/status").await;
    assert_eq!((open.as_str(), code), ("0 1 2 3 SigBlk:\t0000000000000000\n", 0));
    let quiet = ExecSpec { stdout: false, stderr: false, ..shell("echo nobody reads this; cat; exit 3") };
    let mut session = container.exec(quiet).await.unwrap();
    assert!(session.stdout().is_none() && session.stderr().is_none());
    assert_eq!(session.wait().await, 3);
    // By signals.
    assert_eq!(run(&container, "kill -9 $$").await.1, 137);
    let session = container.exec(shell("exec sleep 1000")).await.unwrap();
    session.kill();
    assert_eq!(session.wait().await, 137);
    // Many at once, and each its own.
    let many = (0..50).map(|number| {
        let container = container.clone();
        tokio::spawn(async move { run(&container, &format!("echo {number}; exit {number}")).await })
    });
    for (number, handle) in many.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(handle.await.unwrap(), (format!("{number}\n"), number as i32));
    }
    container.kill().await;
}

pub async fn large_input_passes_and_slow_readers_hold_up_nobody(fixture: Fixture) {
    let container = fixture.start_ready(&idle(&fixture)).await;
    let mut slow = container.exec(shell("yes")).await.unwrap();
    let never_read = slow.stdout();
    let cat = ExecSpec { stdin: true, ..shell("exec cat") };
    let mut session = container.exec(cat).await.unwrap();
    let (mut input, mut output) = (session.stdin().unwrap(), session.stdout().unwrap());
    let sent: Vec<u8> = (0..10_000_000_u32).map(|number| (number % 251) as u8).collect();
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
    assert_eq!(run(&container, "echo still").await.0, "still\n");
    drop((slow, never_read));
    container.kill().await;
}

pub async fn a_terminal_has_a_size_and_a_session(fixture: Fixture) {
    let container = fixture.start_ready(&idle(&fixture)).await;
    let size = |columns, rows| TerminalSize { columns, rows };
    let script = "stty size; test -t 0 && test -t 1 && test -t 2 && echo terminal; : > /dev/tty && echo its own
        read -r line; echo got $line; stty size; trap 'echo interrupted; exit 4' INT; echo waits; read -r line";
    let spec = ExecSpec { terminal: Some(size(120, 40)), stdin: true, ..shell(script) };
    let mut session = container.exec(spec).await.unwrap();
    let (mut input, mut output) = (session.stdin().unwrap(), session.stdout().unwrap());
    assert!(session.stderr().is_none());
    let text = until_it_says(&mut output, "its own").await;
    assert!(text.starts_with("40 120\r\nterminal\r\n"), "{text:?}");
    session.resize(size(100, 50));
    input.write_all(b"line\n").await.unwrap();
    let text = until_it_says(&mut output, "waits").await;
    assert!(text.contains("got line\r\n50 100\r\n"), "{text:?}");
    // Ctrl-C is for the program.
    input.write_all(b"\x03").await.unwrap();
    until_it_says(&mut output, "interrupted").await;
    assert_eq!(session.wait().await, 4);
    // The end of the program is the end of what can be read.
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), output.read_to_end(&mut rest)).await.unwrap().unwrap();
    container.kill().await;
}

pub async fn programs_end_with_their_container_and_with_their_session(fixture: Fixture) {
    let container = fixture.start_ready(&idle(&fixture)).await;
    let left = marker();
    let session = container.exec(shell(&format!("sleep {left} & exec sleep {left}"))).await.unwrap();
    eventually("it runs", || alive(&left) >= 2).await;
    drop(session);
    eventually("it ends with its session", || alive(&left) == 0).await;
    let held = marker();
    let session = container.exec(shell(&format!("trap '' TERM; setsid -f sleep {held}; sleep {held}"))).await;
    let session = session.unwrap();
    eventually("it runs", || alive(&held) >= 3).await;
    let began = Instant::now();
    container.kill().await;
    assert_eq!((alive(&held), session.wait().await), (0, 137));
    assert!(began.elapsed() < Duration::from_secs(2));
    // A main process that ends by itself takes them along too.
    let spec = fixture.shell("echo ready; read -r line < go; exit 6");
    std::fs::create_dir_all(fixture.home()).unwrap();
    let go = fixture.home().join("go");
    make_fifo(&go);
    let container = fixture.start_ready(&spec).await;
    let session = container.exec(shell(&format!("exec sleep {held}"))).await.unwrap();
    std::fs::write(&go, "go\n").unwrap();
    assert_eq!(container.wait().await.exit_code, 6);
    assert_eq!((alive(&held), session.wait().await), (0, 137));
}

pub async fn refusals_name_the_cause_and_have_a_limit(fixture: Fixture) {
    let container = fixture.start_ready(&idle(&fixture)).await;
    let command = |program: &str| ExecSpec { command: vec![program.to_owned()], ..ExecSpec::default() };
    for (program, expected, word) in [
        ("no-such-program", 127, "no such program in PATH"),
        ("/no/such/program", 127, "no such file"),
        ("/etc/passwd", 126, "permission denied"),
    ] {
        let refusal = container.exec(command(program)).await.err().unwrap();
        let Error::ExecStart { exit_code, message, .. } = &refusal else { panic!("{refusal}") };
        assert_eq!(*exit_code, expected);
        assert!(message.contains(word) && message.contains(program), "{message}");
    }
    let empty = container.exec(ExecSpec::default()).await.err().unwrap();
    assert!(matches!(empty, Error::ExecStart { .. }), "{empty}");
    let refusal = container.exec(command("a\0b")).await.err().unwrap().to_string();
    assert!(refusal.contains("NUL"), "{refusal}");
    let mut sessions: Vec<Box<dyn ExecSession>> = Vec::new();
    for _ in 0..limits::EXECS_PER_CONTAINER_MAX {
        sessions.push(container.exec(shell("exec sleep 1000")).await.unwrap());
    }
    let refusal = container.exec(command("true")).await.err().unwrap().to_string();
    assert!(refusal.contains("64 programs run"), "{refusal}");
    drop(sessions);
    let again = Instant::now() + Duration::from_secs(10);
    while container.exec(command("true")).await.is_err() {
        assert!(Instant::now() < again, "there is room again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    container.kill().await;
    container.wait().await;
    let refusal = container.exec(command("true")).await.err().unwrap();
    assert!(matches!(refusal, Error::NotRunning { .. }), "{refusal}");
}
