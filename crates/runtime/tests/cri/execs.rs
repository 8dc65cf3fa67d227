//! Further programs in a container.

use crate::fixture::{Fixture, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use stint_runtime::{Error, ExecOutput, ExecSession, ExecSpec, RunningContainer, TerminalSize, limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long anything may take on a slow machine.
const LONG: Duration = Duration::from_secs(60);

fn shell(script: &str) -> ExecSpec {
    ExecSpec {
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        stdout: true,
        stderr: true,
        ..ExecSpec::default()
    }
}

async fn all_of(output: Option<ExecOutput>) -> String {
    let mut bytes = Vec::new();
    let mut output = output.expect("asked for");
    tokio::time::timeout(LONG, output.read_to_end(&mut bytes)).await.expect("in time").unwrap();
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
        let read = tokio::time::timeout(LONG, output.read(&mut buffer)).await;
        let count = read.expect("it says so in time").unwrap();
        assert!(count > 0, "it ended after {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    text
}

/// A number that no other process has in its arguments, to find it again.
fn marker() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}.{}", 80_000 + NEXT.fetch_add(1, Ordering::Relaxed), std::process::id())
}

fn alive(marker: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.windows(marker.len()).any(|part| part == marker.as_bytes())).count()
}

pub async fn programs_run_inside_the_container(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let container = fixture.start(&pod, "main", "cd /pod; exec sleep 1000").await;
    let mut asked = shell("echo $V $OF_IMAGE '$(V)'; id -u; echo bad >&2; exit 3");
    asked.env.push(("V".to_owned(), "of exec".to_owned()));
    let mut session = container.exec(asked).await.unwrap();
    assert!(session.stdin().is_none());
    let (out, err) = (all_of(session.stdout()).await, all_of(session.stderr()).await);
    assert!(session.stdout().is_none(), "given once");
    assert_eq!((&*out, &*err), ("of exec 1 $(V)\n0\n", "bad\n"));
    assert_eq!((session.wait().await, session.wait().await), (3, 3));
    // It is where the container is, and has nothing of the engine's.
    let namespaces = "for p in 1 self; do for n in pid mnt ipc uts; do readlink /proc/$p/ns/$n; done; done";
    let (text, _) = run(&container, namespaces).await;
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.len() == 8 && lines[..4] == lines[4..], "{text}");
    let (open, _) = run(&container, "ls /proc/self/fd | tr '\\n' ' '").await;
    assert_eq!(open, "0 1 2 3 ");
    // Nothing that is not asked for is kept.
    let quiet = ExecSpec { stdout: false, stderr: false, ..shell("echo nobody reads this; cat; exit 4") };
    let mut session = container.exec(quiet).await.unwrap();
    assert!(session.stdout().is_none() && session.stderr().is_none());
    assert_eq!(session.wait().await, 4);
    assert_eq!(run(&container, "kill -9 $$").await.1, 137);
    // Many at once, and each its own.
    let many = (0..20).map(|number| {
        let container = container.clone();
        tokio::spawn(async move { run(&container, &format!("echo {number}; exit {number}")).await })
    });
    for (number, handle) in many.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(handle.await.unwrap(), (format!("{number}\n"), number as i32));
    }
}

pub async fn small_input_passes_that_ends_at_once(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let container = fixture.start(&pod, "main", "sleep 1000").await;
    for number in 0..20 {
        let text = format!("input {number}\n");
        // One that says what it read, and one that is silent: the shell keeps the output open that its child has not, without
        // which the engine would close the input too.
        for (script, is_silent) in [("exec cat", false), ("cat >/tmp/input; exit $?", true)] {
            let mut session = container.exec(ExecSpec { stdin: true, ..shell(script) }).await.unwrap();
            let mut input = session.stdin().unwrap();
            input.write_all(text.as_bytes()).await.unwrap();
            input.shutdown().await.unwrap();
            drop(input);
            let mut back = all_of(session.stdout()).await;
            assert_eq!(session.wait().await, 0);
            if is_silent {
                back = run(&container, "cat /tmp/input").await.0;
            }
            assert_eq!(back, text, "{script}");
        }
    }
}

pub async fn large_input_passes_and_slow_readers_hold_up_nobody(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let container = fixture.start(&pod, "main", "sleep 1000").await;
    let mut slow = container.exec(shell("yes")).await.unwrap();
    let never_read = slow.stdout();
    let mut session = container.exec(ExecSpec { stdin: true, ..shell("exec cat") }).await.unwrap();
    let (mut input, mut output) = (session.stdin().unwrap(), session.stdout().unwrap());
    // More than the engine would keep of a program that it runs as a whole.
    let sent: Vec<u8> = (0..40_000_000_u32).map(|number| (number % 251) as u8).collect();
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
    assert_eq!(run(&container, "echo still").await.0, "still\n");
    drop((slow, never_read));
}

pub async fn a_terminal_has_a_size_and_a_session(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let container = fixture.start(&pod, "main", "sleep 1000").await;
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

pub async fn programs_end_with_their_container_and_with_their_session(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let container = fixture.start(&pod, "main", "sleep 1000").await;
    // A silent one, and one with a terminal that stays in the same session.
    for terminal in [None, Some(TerminalSize { columns: 80, rows: 24 })] {
        let left = marker();
        let script = format!("trap '' HUP; sleep {left} & sleep {left}");
        let spec = ExecSpec { terminal, stdin: true, stderr: terminal.is_none(), ..shell(&script) };
        let session = container.exec(spec).await.unwrap();
        until("it runs", || alive(&left) >= 2).await;
        drop(session);
        until("it ends with its session", || alive(&left) == 0).await;
    }
    // Only what is to be killed is: another one, begun between, goes on.
    let (killed, other) = (marker(), marker());
    let first = container.exec(shell(&format!("sleep {killed}; exit 1"))).await.unwrap();
    let second = container.exec(shell(&format!("sleep {other}; exit 2"))).await.unwrap();
    until("both run", || alive(&killed) >= 2 && alive(&other) >= 2).await;
    first.kill();
    assert_eq!(first.wait().await, 137);
    assert!(alive(&killed) == 0 && alive(&other) >= 2);
    container.kill().await;
    assert_eq!((alive(&other), second.wait().await), (0, 137));
    container.wait().await;
    let refused = container.exec(shell("true")).await.err().unwrap();
    assert!(matches!(refused, Error::NotRunning { .. }), "{refused}");
}

pub async fn refusals_name_the_cause_and_have_a_limit(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let container = fixture.start(&pod, "main", "sleep 1000").await;
    let command = |program: &str| ExecSpec { command: vec![program.to_owned()], ..ExecSpec::default() };
    for (program, expected) in [("no-such-program", 127), ("/no/such/program", 127), ("/etc/passwd", 126)] {
        let refusal = container.exec(command(program)).await.err().unwrap();
        let Error::ExecStart { exit_code, message, .. } = &refusal else { panic!("{refusal}") };
        assert!(*exit_code == expected && message.contains(program), "{exit_code}: {message}");
    }
    let empty = container.exec(ExecSpec::default()).await.err().unwrap();
    assert!(matches!(empty, Error::ExecStart { .. }), "{empty}");
    let refusal = container.exec(command("a\0b")).await.err().unwrap().to_string();
    assert!(refusal.contains("NUL"), "{refusal}");
    // In another one, as the engine may not be through with those.
    let container = fixture.start(&pod, "other", "sleep 1000").await;
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
