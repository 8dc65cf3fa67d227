//! Further programs beside the processes of a container.

use crate::exec_cases::{self, run, shell};
use crate::fixture::{Fixture, eventually, make_fifo};
use crate::processes::{alive, marker};
use std::time::{Duration, Instant};
use stint_runtime::{ContainerSpec, Stream};

const INPUT_BYTES: u32 = 10_000_000;

fn idle(fixture: &Fixture) -> ContainerSpec {
    fixture.shell("readlink /proc/self/ns/pid /proc/self/ns/mnt; echo ready; exec sleep 1000")
}

pub async fn programs_run_inside_the_container(fixture: Fixture) {
    let mut spec = idle(&fixture);
    spec.env = vec![("X".to_owned(), "1".to_owned()), ("V".to_owned(), "old".to_owned())];
    let container = fixture.start_ready(&spec).await;
    let script = "echo $X $V $(pwd) '$(X)'; echo err >&2; exit 9";
    let (out, err) = exec_cases::is_given_once(&container, script, 9).await;
    assert_eq!(out, format!("1 of exec {} $(X)\n", fixture.home().display()));
    assert_eq!(err, "err\n");
    // Its streams are not the container's.
    let (namespaces, _) = run(&container, "readlink /proc/self/ns/pid /proc/self/ns/mnt").await;
    let ready = format!("{namespaces}ready\n");
    assert_eq!(String::from_utf8(fixture.output(&spec, Stream::Stdout).await).unwrap(), ready);
    // Nothing is inherited but what it was given.
    let (open, code) =
        run(&container, "ls /proc/self/fd | tr '\\n' ' '; grep SigBlk /proc/self/status").await;
    assert_eq!((open.as_str(), code), ("0 1 2 3 SigBlk:\t0000000000000000\n", 0));
    exec_cases::quiet_ones_killed_ones_and_many(&container, 50).await;
    container.kill().await;
}

pub async fn large_input_passes_and_slow_readers_hold_up_nobody(fixture: Fixture) {
    let container = fixture.start_ready(&idle(&fixture)).await;
    exec_cases::large_input_passes(&container, INPUT_BYTES).await;
    container.kill().await;
}

pub async fn a_terminal_has_a_size_and_a_session(fixture: Fixture) {
    let container = fixture.start_ready(&idle(&fixture)).await;
    exec_cases::a_terminal_has_a_size_and_a_session(&container).await;
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
    let cases = [
        ("no-such-program", 127, "no such program in PATH"),
        ("/no/such/program", 127, "no such file"),
        ("/etc/passwd", 126, "permission denied"),
    ];
    exec_cases::refusals_name_the_cause(&container, &cases).await;
    exec_cases::so_many_run_at_once(&container).await;
    exec_cases::none_runs_after_the_end(&container).await;
}
