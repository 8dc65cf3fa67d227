//! Further programs in a container of an engine.

use crate::exec_cases::{self, all_of, run, shell};
use crate::fixture::{Fixture, until};
use crate::processes::{alive, marker};
use std::sync::Arc;
use std::time::Duration;
use stint_runtime::{ExecSpec, RunningContainer, TerminalSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// More than the engine would keep of a program that it runs as a whole.
const INPUT_BYTES: u32 = 40_000_000;

/// A container that does nothing, in a Pod of its own.
async fn idle(fixture: &Fixture) -> (stint_runtime::CriRuntime, Arc<dyn RunningContainer>) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let container = fixture.start(&pod, "main", "cd /pod; exec sleep 1000").await;
    (runtime, container)
}

pub async fn programs_run_inside_the_container(fixture: Fixture) {
    let (_runtime, container) = idle(&fixture).await;
    let script = "echo $V $OF_IMAGE '$(V)'; id -u; echo bad >&2; exit 3";
    let (out, err) = exec_cases::is_given_once(&container, script, 3).await;
    assert_eq!((&*out, &*err), ("of exec 1 $(V)\n0\n", "bad\n"));
    // It is where the container is, and has nothing of the engine's.
    let namespaces = "for p in 1 self; do for n in pid mnt ipc uts; do readlink /proc/$p/ns/$n; done; done";
    let (text, _) = run(&container, namespaces).await;
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.len() == 8 && lines[..4] == lines[4..], "{text}");
    let (open, _) = run(&container, "ls /proc/self/fd | tr '\\n' ' '").await;
    assert_eq!(open, "0 1 2 3 ");
    exec_cases::quiet_ones_killed_ones_and_many(&container, 20).await;
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
    let (_runtime, container) = idle(&fixture).await;
    exec_cases::large_input_passes(&container, INPUT_BYTES).await;
}

pub async fn a_terminal_has_a_size_and_a_session(fixture: Fixture) {
    let (_runtime, container) = idle(&fixture).await;
    exec_cases::a_terminal_has_a_size_and_a_session(&container).await;
}

pub async fn programs_end_with_their_container_and_with_their_session(fixture: Fixture) {
    let (_runtime, container) = idle(&fixture).await;
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
    exec_cases::none_runs_after_the_end(&container).await;
}

/// Which process it was can't be found out any more; that is no reason for others, such as probes, to wait.
pub async fn one_that_leaves_something_behind_holds_up_no_other(fixture: Fixture) {
    let (_runtime, container) = idle(&fixture).await;
    let left = marker();
    let mut first = container.exec(shell(&format!("sleep {left} & echo begun"))).await.unwrap();
    let mut output = first.stdout().unwrap();
    let mut begun = [0; 6];
    output.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"begun\n");
    let others = async {
        for _ in 0..5 {
            assert_eq!(run(&container, "true").await, (String::new(), 0));
        }
    };
    // Less than what is looked for such a process.
    tokio::time::timeout(Duration::from_secs(8), others).await.expect("others run meanwhile");
    assert!(alive(&left) > 0);
    container.kill().await;
    assert_eq!(alive(&left), 0);
}

pub async fn refusals_name_the_cause_and_have_a_limit(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let container = fixture.start(&pod, "main", "sleep 1000").await;
    let cases = [("no-such-program", 127, ""), ("/no/such/program", 127, ""), ("/etc/passwd", 126, "")];
    exec_cases::refusals_name_the_cause(&container, &cases).await;
    // In another one, as the engine may not be through with those.
    let container = fixture.start(&pod, "other", "sleep 1000").await;
    exec_cases::so_many_run_at_once(&container).await;
}
