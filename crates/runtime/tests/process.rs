//! The `process` runtime on real processes, with and without namespaces.
//!
//! Has its own main: the shim is a re-exec of the running binary, so `main` must begin with it. Arguments that don't begin
//! with `-` select cases by a part of their names.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test without harness reports by itself")]

use std::collections::BTreeSet;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stint_runtime::{
    BoxFuture, ContainerId, ContainerSpec, Error, Exit, ExitReason, LogLimits, LogStore, PodSandbox,
    PodSandboxSpec, ProcessRuntime, ProcessRuntimeOptions, ReadOptions, RunningContainer, Runtime, Stream,
    limits, maybe_run_shim,
};

/// Nobody kills it before it has started.
fn never() -> BoxFuture<'static, ()> {
    Box::pin(std::future::pending())
}

type Case = (&'static str, fn(Fixture) -> Pin<Box<dyn Future<Output = ()>>>);

macro_rules! cases {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), |fixture| Box::pin($name(fixture)))),*] };
}

const CASES: &[Case] = cases![
    p5_exit_codes,
    p5_signals,
    p5_programs_that_cannot_run,
    bad_folders_are_start_errors,
    output_is_exact,
    output_without_end_is_followed_and_rotated,
    a_line_that_goes_on_is_followed,
    environment_is_what_was_given,
    descriptors_signals_and_umask_are_clean,
    p6_terminate_reaches_the_main_process_only,
    nothing_survives_the_main_process,
    kill_takes_escapees_and_stopped_members,
    kill_takes_what_goes_on_forking,
    dropping_the_handle_kills,
    a4_the_fence_kills_whatever_the_agent_does,
    a9_nothing_starts_at_or_after_its_last_moment,
    a4_a_start_that_is_killed_leaves_nothing_when_it_answers,
    a13_agent_death_kills,
    a13_threads_of_the_agent_come_and_go,
    shim_death_from_outside,
    spawner_death_from_outside,
    namespace_is_private,
    many_quick_containers_leave_nothing_open,
    refusals_name_the_cause,
];

fn main() {
    maybe_run_shim();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == "hold") {
        return hold_until_killed(Path::new(&arguments[1]), &arguments[2], arguments[3] == "degraded");
    }
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let wanted: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let (mut passed, mut failed) = (0, 0);
    for force_degraded in [false, true] {
        for (name, case) in CASES {
            if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
                continue;
            }
            let mode = if force_degraded { "degraded" } else { "default" };
            let began = Instant::now();
            let outcome = std::panic::catch_unwind(|| {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
                runtime.unwrap().block_on(async {
                    let limit = Duration::from_secs(120);
                    let work = async { case(Fixture::new(force_degraded).await).await };
                    tokio::time::timeout(limit, work).await.expect("the case hangs");
                });
            });
            let word = if outcome.is_ok() { "ok" } else { "FAILED" };
            println!("test {name} ({mode}) ... {word} in {} ms", began.elapsed().as_millis());
            *(if outcome.is_ok() { &mut passed } else { &mut failed }) += 1;
        }
    }
    println!("{passed} passed, {failed} failed");
    std::process::exit(i32::from(failed > 0));
}

/// One runtime with folders of its own.
struct Fixture {
    folder: tempfile::TempDir,
    runtime: Arc<ProcessRuntime>,
    logs: LogStore,
    force_degraded: bool,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A number that no other process has in its arguments: for `sleep`, and to find it again.
fn marker() -> String {
    format!("{}.{}", 70_000 + NEXT.fetch_add(1, Ordering::Relaxed), std::process::id())
}

/// Processes that have a marker in their arguments; zombies have none.
fn alive(marker: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.windows(marker.len()).any(|part| part == marker.as_bytes())).count()
}

/// Shim processes whose parent is `parent`.
fn shims_of(parent: u32) -> BTreeSet<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent_field =
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        line.starts_with(b"stint-shim\0") && parent_field == Some(parent)
    })
    .collect()
}

/// Waits for something that the system does in its own time; fails after ten seconds.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Fixture {
    async fn new(force_degraded: bool) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let logs = LogStore::open(&folder.path().join("logs")).unwrap();
        let options = ProcessRuntimeOptions { logs: logs.clone(), shim_program: None, force_degraded };
        let runtime = Arc::new(ProcessRuntime::new(options).await.unwrap());
        Fixture { folder, runtime, logs, force_degraded }
    }

    /// By wish, or because this host allows no better.
    fn is_degraded(&self) -> bool {
        self.runtime.conditions().iter().any(|condition| condition.kind == "FencingDegraded")
    }

    /// Where programs begin.
    fn home(&self) -> PathBuf {
        self.folder.path().join("pods/one/work")
    }

    async fn sandbox(&self, spec: &ContainerSpec) -> Arc<dyn PodSandbox> {
        self.sandbox_in(spec, "pods/one").await
    }

    async fn sandbox_in(&self, spec: &ContainerSpec, folder: &str) -> Arc<dyn PodSandbox> {
        let pod = PodSandboxSpec::new(spec.id.pod_uid(), self.folder.path().join(folder));
        self.runtime.open_pod(pod).await.unwrap()
    }

    async fn try_start(&self, spec: ContainerSpec) -> Result<Arc<dyn RunningContainer>, Error> {
        self.sandbox(&spec).await.start(spec, never()).await
    }

    fn spec(&self, command: &[&str]) -> ContainerSpec {
        let uid = format!("00000000-0000-4000-8000-{:012x}", NEXT.fetch_add(1, Ordering::Relaxed));
        ContainerSpec {
            command: command.iter().map(|text| (*text).to_owned()).collect(),
            ..ContainerSpec::new(ContainerId::new(&uid, "main", 0).unwrap())
        }
    }

    fn shell(&self, script: &str) -> ContainerSpec {
        // `$$` is an escape of `$` in commands.
        self.spec(&["/bin/sh", "-c", &script.replace('$', "$$")])
    }

    async fn start(&self, spec: &ContainerSpec) -> Arc<dyn RunningContainer> {
        self.try_start(spec.clone()).await.unwrap()
    }

    async fn run(&self, spec: &ContainerSpec) -> Exit {
        self.start(spec).await.wait().await
    }

    async fn output(&self, spec: &ContainerSpec, stream: Stream) -> Vec<u8> {
        let options = ReadOptions { stream: Some(stream), ..ReadOptions::default() };
        let mut reader = self.logs.reader(&spec.id, options).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = reader.next().await.unwrap() {
            bytes.extend(chunk.bytes);
        }
        bytes
    }

    async fn text(&self, spec: &ContainerSpec) -> String {
        String::from_utf8(self.output(spec, Stream::Stdout).await).unwrap()
    }

    /// Starts a container and waits until it has printed `ready`.
    async fn start_ready(&self, spec: &ContainerSpec) -> Arc<dyn RunningContainer> {
        let container = self.start(spec).await;
        let options = ReadOptions { follow: true, ..ReadOptions::default() };
        let mut reader = self.logs.reader(&spec.id, options).await.unwrap();
        let mut bytes = Vec::new();
        while !String::from_utf8_lossy(&bytes).contains("ready") {
            bytes
                .extend(reader.next().await.unwrap().expect("the container says ready before it ends").bytes);
        }
        container
    }
}

async fn p5_exit_codes(fixture: Fixture) {
    for code in [0, 1, 42, 127, 128, 255] {
        let before = SystemTime::now();
        let spec = fixture.shell(&format!("exit {code}"));
        let container = fixture.start(&spec).await;
        let exit = container.wait().await;
        let reason = if code == 0 { ExitReason::Completed } else { ExitReason::Error };
        assert_eq!((exit.exit_code, exit.signal, exit.reason), (code, None, reason));
        assert_eq!(exit.message, "");
        let started_at = container.started_at().expect("it ran");
        assert!(before <= started_at && started_at <= exit.finished_at);
        assert_eq!(container.wait().await, exit, "the answer stays the same");
        // Too late, and no harm.
        container.signal(15);
        container.kill().await;
    }
}

async fn p5_signals(fixture: Fixture) {
    for (name, number) in [("TERM", 15), ("KILL", 9), ("SEGV", 11), ("ABRT", 6), ("35", 35), ("64", 64)] {
        let spec = fixture.spec(&["/bin/bash", "-c", &format!("ulimit -c 0; kill -{name} $$$$; sleep 9")]);
        let exit = fixture.run(&spec).await;
        assert_eq!(
            (exit.exit_code, exit.signal, exit.reason),
            (128 + number, Some(number), ExitReason::Error)
        );
    }
}

async fn p5_programs_that_cannot_run(fixture: Fixture) {
    let file = |name: &str, content: &str, mode: u32| {
        let path = fixture.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let plain = file("plain", "#!/bin/sh\n", 0o644);
    let no_interpreter = file("lost", "#!/no/such/interpreter\n", 0o755);
    let no_format = file("garbage", "neither ELF nor script", 0o755);
    let folder = fixture.folder.path().to_str().unwrap();
    for (program, code, word) in [
        ("no-such-program", 127, "no such program in PATH"),
        ("/no/such/program", 127, "no such file or directory"),
        ("", 127, "no such program"),
        (no_interpreter.as_str(), 127, "no such file"),
        (plain.as_str(), 126, "permission denied"),
        (folder, 126, "permission denied"),
        (no_format.as_str(), 126, "exec format"),
    ] {
        let container = fixture.start(&fixture.spec(&[program])).await;
        assert_eq!(container.started_at(), None, "{program:?} never ran");
        let exit = container.wait().await;
        assert_eq!(
            (exit.exit_code, exit.reason),
            (code, ExitReason::StartError),
            "{program:?}: {}",
            exit.message
        );
        assert!(
            exit.message.contains(word) && exit.message.contains(&format!("{program:?}")),
            "{}",
            exit.message
        );
    }
    // The payload's own PATH counts, and a file that may not be executed does not hide a later one.
    let (first, second) = (fixture.folder.path().join("first"), fixture.folder.path().join("second"));
    for (folder, mode) in [(&first, 0o644), (&second, 0o755)] {
        std::fs::create_dir(folder).unwrap();
        let name = format!("{}/tool", folder.file_name().unwrap().to_str().unwrap());
        file(&name, "#!/bin/sh\nexit 7\n", mode);
    }
    let path = format!("{}:/none:{}", first.display(), second.display());
    let mut spec = fixture.spec(&["tool"]);
    spec.env.push(("PATH".to_owned(), path));
    assert_eq!(fixture.run(&spec).await.exit_code, 7);
}

async fn bad_folders_are_start_errors(fixture: Fixture) {
    let file = fixture.folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [Path::new("/no/such/folder"), &file, Path::new("not-there")] {
        let mut spec = fixture.spec(&["true"]);
        spec.working_directory = Some(path.to_owned());
        let exit = fixture.run(&spec).await;
        assert_eq!((exit.exit_code, exit.reason), (128, ExitReason::StartError));
        assert!(exit.message.contains(&format!("workingDir {path:?}")), "{}", exit.message);
    }
    let spec = fixture.spec(&["true"]);
    let sandbox = fixture.sandbox_in(&spec, "file/below").await;
    let exit = sandbox.start(spec, never()).await.unwrap().wait().await;
    assert_eq!((exit.exit_code, exit.reason), (128, ExitReason::StartError));
    assert!(exit.message.contains("the Pod's folder"), "{}", exit.message);
    // And good ones: the Pod's own is made, closed to others; a relative one is below it.
    let spec = fixture.shell("pwd; stat -c %a .; mkdir -p sub");
    fixture.run(&spec).await;
    let expected = format!("{}\n700\n", fixture.home().display());
    assert_eq!(fixture.text(&spec).await, expected);
    let mut spec = fixture.spec(&["pwd"]);
    spec.working_directory = Some(PathBuf::from("sub"));
    fixture.run(&spec).await;
    assert_eq!(fixture.text(&spec).await, format!("{}/sub\n", fixture.home().display()));
}

async fn output_is_exact(fixture: Fixture) {
    let mut binary: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    binary.extend([b'x'].repeat(3 * limits::LOG_LINE_BYTES_MAX));
    binary.extend(b"\n\n\r\nwithout end");
    let path = fixture.folder.path().join("binary");
    std::fs::write(&path, &binary).unwrap();
    let spec = fixture.shell(&format!("cat {0}; cat {0} >&2; cat {0} {0} >&2", path.display()));
    let exit = fixture.run(&spec).await;
    assert_eq!((exit.exit_code, exit.log_bytes_dropped), (0, 0));
    assert!(fixture.output(&spec, Stream::Stdout).await == binary, "stdout differs");
    assert!(fixture.output(&spec, Stream::Stderr).await == binary.repeat(3), "stderr differs");
    // No output, no file.
    let spec = fixture.spec(&["true"]);
    fixture.run(&spec).await;
    assert!(!fixture.folder.path().join("logs").join(spec.id.pod_uid()).exists());
    // What was written right before the end, by a process in the background too.
    let spec = fixture.shell("(printf early; exec sleep 100) & sleep 0.05; printf late");
    fixture.run(&spec).await;
    assert_eq!(fixture.text(&spec).await, "earlylate");
}

async fn output_without_end_is_followed_and_rotated(fixture: Fixture) {
    let mut spec = fixture.shell("printf 'prompt> '; read -r line < go; seq 1 100000; exit 3");
    spec.log_limits = LogLimits { file_bytes: limits::LOG_FILE_BYTES_MIN, files: 100 };
    std::fs::create_dir_all(fixture.home()).unwrap();
    let go = fixture.home().join("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let container = fixture.start(&spec).await;
    let options = ReadOptions { follow: true, ..ReadOptions::default() };
    let mut reader = fixture.logs.reader(&spec.id, options).await.unwrap();
    let first = reader.next().await.unwrap().unwrap();
    assert_eq!(first.bytes, b"prompt> ", "a line without its end can be followed");
    std::fs::write(&go, "go\n").unwrap();
    let (mut bytes, mut offset) = (first.bytes, first.next_offset);
    while let Some(chunk) = reader.next().await.unwrap() {
        assert_eq!(chunk.skipped_bytes, 0);
        assert!(chunk.bytes.len() <= limits::LOG_READ_BYTES_MAX);
        assert!(chunk.next_offset > offset);
        offset = chunk.next_offset;
        bytes.extend(chunk.bytes);
    }
    let expected: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    assert!(String::from_utf8(bytes).unwrap() == format!("prompt> {expected}"), "followed output differs");
    assert_eq!(container.wait().await.exit_code, 3);
    let files =
        std::fs::read_dir(fixture.folder.path().join("logs").join(spec.id.pod_uid())).unwrap().count();
    assert!(files > 10, "{files} files");
}

async fn a_line_that_goes_on_is_followed(fixture: Fixture) {
    // A progress bar: more of the line comes all the time.
    let spec = fixture.shell("while :; do printf .; sleep 0.05; done");
    let container = fixture.start(&spec).await;
    let options = ReadOptions { follow: true, ..ReadOptions::default() };
    let mut reader = fixture.logs.reader(&spec.id, options).await.unwrap();
    let first = tokio::time::timeout(Duration::from_secs(3), reader.next()).await.expect("it is shown");
    assert!(first.unwrap().unwrap().bytes.starts_with(b"."));
    container.kill().await;
}

async fn environment_is_what_was_given(fixture: Fixture) {
    let mut spec = fixture.spec(&["/usr/bin/env", "-0", "SHOWN=$(B)"]);
    spec.env = [("A", "one"), ("B", "$(A) two\nlines"), ("C", "$$(A) $(NONE)"), ("Ünicode", "ß")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    fixture.run(&spec).await;
    let text = fixture.text(&spec).await;
    let found: BTreeSet<&str> = text.split_terminator('\0').collect();
    let home = format!("HOME={}", fixture.home().display());
    let expected = [
        "A=one",
        "B=one two\nlines",
        "C=$(A) $(NONE)",
        "Ünicode=ß",
        "SHOWN=one two\nlines",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        &home,
    ];
    assert_eq!(found, expected.into());
    // Large ones pass whole.
    let mut spec = fixture.spec(&["/bin/sh", "-c", "echo ${#BIG}; for word; do echo ${#word}; done", "sh"]);
    spec.env.push(("BIG".to_owned(), "x".repeat(100_000)));
    spec.args = vec!["y".repeat(120_000); 10];
    assert_eq!(fixture.run(&spec).await.exit_code, 0);
    assert_eq!(fixture.text(&spec).await, format!("100000\n{}", "120000\n".repeat(10)));
    // What the kernel refuses is told.
    spec.args = vec!["y".repeat(200_000)];
    let exit = fixture.run(&spec).await;
    assert_eq!((exit.exit_code, exit.reason), (126, ExitReason::StartError));
    assert!(exit.message.contains("argument list too long"), "{}", exit.message);
}

async fn descriptors_signals_and_umask_are_clean(fixture: Fixture) {
    let script = "ls /proc/self/fd | tr '\\n' ' '; readlink /proc/self/fd/0; umask; ulimit -n
        grep -E '^Sig(Blk|Ign)' /proc/self/status; cut -d' ' -f5,6 < /proc/$$$$/stat; echo $$$$";
    let spec = fixture.spec(&["/bin/bash", "-c", script]);
    assert_eq!(fixture.run(&spec).await.exit_code, 0);
    let text = fixture.text(&spec).await;
    let lines: Vec<&str> = text.lines().collect();
    // 3 is the folder that `ls` reads.
    assert_eq!(lines[0], "0 1 2 3 /dev/null");
    assert_eq!(lines[1], "0022");
    assert_ne!(lines[2], "0");
    assert_eq!(lines[3], "SigBlk:\t0000000000000000");
    assert_eq!(lines[4], "SigIgn:\t0000000000000000");
    // Its own session and process group.
    assert_eq!(lines[5], format!("{0} {0}", lines[6]));
}

async fn p6_terminate_reaches_the_main_process_only(fixture: Fixture) {
    let script = "trap 'echo child got it' TERM; sleep 1000 & (trap 'echo inner got it' TERM; sleep 1000) &
        trap 'echo main got it; exit 5' TERM; echo ready; wait";
    let spec = fixture.shell(script);
    let container = fixture.start_ready(&spec).await;
    container.signal(15);
    let exit = container.wait().await;
    assert_eq!((exit.exit_code, exit.signal), (5, None));
    assert_eq!(fixture.text(&spec).await, "ready\nmain got it\n");
    // Any other signal, also a real-time one.
    let spec = fixture.shell("trap 'exit 9' USR1; echo ready; while :; do sleep 0.01; done");
    let container = fixture.start_ready(&spec).await;
    container.signal(10);
    assert_eq!(container.wait().await.exit_code, 9);
    let spec = fixture.shell("echo ready; exec sleep 1000");
    let container = fixture.start_ready(&spec).await;
    container.signal(64);
    assert_eq!(container.wait().await.signal, Some(64));
    // One that ignores it goes on until it is killed.
    let marker = marker();
    let spec = fixture.shell(&format!("trap '' TERM; echo ready; sleep {marker}; sleep {marker}"));
    let container = fixture.start_ready(&spec).await;
    container.signal(15);
    assert!(tokio::time::timeout(Duration::from_millis(300), container.wait()).await.is_err());
    assert!(alive(&marker) > 0);
    container.kill().await;
    assert_eq!(alive(&marker), 0);
    let exit = container.wait().await;
    assert_eq!((exit.exit_code, exit.signal, exit.reason), (137, Some(9), ExitReason::Error));
}

/// A script that leaves processes behind in every way there is, then says `ready`.
fn escapees(marker: &str) -> String {
    format!(
        "sleep {marker} & setsid sleep {marker} & setsid -f sleep {marker}
        (setsid sh -c '(trap \"\" TERM HUP; setsid sleep {marker} & ) & sleep {marker}' &) 
        nohup setsid -f sh -c 'sleep {marker} & exec sleep {marker}' >/dev/null 2>&1 </dev/null
        setsid -f sh -c 'kill -STOP $$; : {marker}'
        sleep 0.2; echo ready"
    )
}

async fn nothing_survives_the_main_process(fixture: Fixture) {
    let marker = marker();
    let spec = fixture.shell(&format!("{}; exit 4", escapees(&marker)));
    let exit = fixture.run(&spec).await;
    assert_eq!(exit.exit_code, 4);
    assert_eq!(alive(&marker), 0);
}

async fn kill_takes_escapees_and_stopped_members(fixture: Fixture) {
    let marker = marker();
    let spec = fixture.shell(&format!("{}; kill -STOP $$; sleep 1000", escapees(&marker)));
    let container = fixture.start_ready(&spec).await;
    assert!(alive(&marker) >= 7, "{} alive", alive(&marker));
    let began = Instant::now();
    container.kill().await;
    assert_eq!(alive(&marker), 0);
    assert!(began.elapsed() < Duration::from_secs(2), "the kill budget of the lease");
    let exit = container.wait().await;
    assert_eq!((exit.exit_code, exit.signal), (137, Some(9)));
}

async fn kill_takes_what_goes_on_forking(fixture: Fixture) {
    let marker = marker();
    let script = format!(
        "loop() {{ while :; do (setsid sleep {marker} &) ; done; }}; loop & loop & sleep 0.3; echo ready; wait"
    );
    let spec = fixture.shell(&script);
    let container = fixture.start_ready(&spec).await;
    container.kill().await;
    assert_eq!(alive(&marker), 0);
}

async fn dropping_the_handle_kills(fixture: Fixture) {
    let marker = marker();
    let spec = fixture.shell(&format!("setsid -f sleep {marker}; echo ready; sleep {marker}"));
    let container = fixture.start_ready(&spec).await;
    drop(container);
    eventually("all dead", || alive(&marker) == 0).await;
    eventually("the log is complete", || !fixture.logs.is_live(&spec.id)).await;
    assert_eq!(fixture.text(&spec).await, "ready\n");
    // Also while it is being started.
    let spec = fixture.shell(&format!("sleep {marker}"));
    let sandbox = fixture.sandbox(&spec).await;
    let _ = tokio::time::timeout(Duration::ZERO, sandbox.start(spec.clone(), never())).await;
    eventually("the log is closed", || !fixture.logs.is_live(&spec.id)).await;
    eventually("all dead", || alive(&marker) == 0).await;
}

fn boot_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap().into()
}

async fn a4_the_fence_kills_whatever_the_agent_does(fixture: Fixture) {
    if fixture.is_degraded() {
        // What the condition says.
        return;
    }
    let fixture =
        Fixture { runtime: Arc::new(ProcessRuntime::new(fixture.options()).await.unwrap()), ..fixture };
    let marker = marker();
    let spec = fixture.shell(&format!("trap '' TERM; setsid -f sleep {marker}; echo ready; sleep {marker}"));
    fixture.runtime.set_deadline(boot_time() + Duration::from_millis(500));
    let container = fixture.start_ready(&spec).await;
    let until = boot_time() + Duration::from_millis(1_500);
    fixture.runtime.set_deadline(until);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(alive(&marker) >= 2, "the fence was moved");
    let exit = container.wait().await;
    assert_eq!((alive(&marker), exit.exit_code), (0, 137));
    let late = boot_time().saturating_sub(until);
    assert!(boot_time() >= until && late < Duration::from_secs(1), "{late:?} late");
    // One that has passed holds for a new spawner too.
    let refused = fixture.try_start(fixture.shell("sleep 9")).await;
    if let Ok(container) = refused {
        assert_eq!(container.wait().await.exit_code, 137);
    }
    fixture.runtime.set_deadline(Duration::MAX);
    eventually("containers start again", || alive(&marker) == 0).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(fixture.run(&fixture.shell("exit 6")).await.exit_code, 6);
}

async fn a9_nothing_starts_at_or_after_its_last_moment(fixture: Fixture) {
    let mut spec = fixture.shell("echo ran");
    spec.start_before = Some(boot_time() + Duration::from_secs(60));
    assert_eq!(fixture.run(&spec).await.exit_code, 0);
    assert_eq!(fixture.text(&spec).await, "ran\n");
    for passed in [Duration::ZERO, boot_time()] {
        let mut spec = fixture.shell("echo ran");
        spec.start_before = Some(passed);
        let refused = fixture.try_start(spec.clone()).await.err();
        assert!(matches!(refused, Some(Error::StartTooLate { .. })), "{refused:?}");
        assert_eq!(fixture.text(&spec).await, "");
        // Nothing is left of it that would keep it from being tried again.
        spec.start_before = None;
        assert_eq!(fixture.run(&spec).await.exit_code, 0);
    }
    // What counts is the moment of the exec, not that of the call: here a shim that is held up between the two.
    let others: BTreeSet<i32> =
        shims_of(std::process::id()).iter().flat_map(|pid| shims_of(*pid as u32)).collect();
    let spawners = shims_of(std::process::id());
    spawners.iter().for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGSTOP).unwrap());
    let mut spec = fixture.shell("echo ran");
    spec.start_before = Some(boot_time() + Duration::from_millis(300));
    let (sandbox, given) = (fixture.sandbox(&spec).await, spec.clone());
    let start = tokio::spawn(async move { sandbox.start(given, never()).await.err() });
    tokio::time::sleep(Duration::from_millis(400)).await;
    spawners.iter().for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGCONT).unwrap());
    let refused = start.await.unwrap();
    assert!(matches!(refused, Some(Error::StartTooLate { .. })), "{refused:?}");
    assert_eq!(fixture.text(&spec).await, "");
    eventually("no shim is left", || {
        spawners.iter().flat_map(|pid| shims_of(*pid as u32)).all(|pid| others.contains(&pid))
    })
    .await;
}

async fn a4_a_start_that_is_killed_leaves_nothing_when_it_answers(fixture: Fixture) {
    // Killed before, and at any moment of the start.
    for delay_us in (0..40).map(|step| step * 250) {
        let marker = marker();
        let spec = fixture.shell(&format!("setsid -f sleep {marker}; sleep {marker}"));
        let killed = Box::pin(tokio::time::sleep(Duration::from_micros(delay_us)));
        match fixture.sandbox(&spec).await.start(spec.clone(), killed).await {
            Err(Error::StartKilled { .. }) => assert_eq!(alive(&marker), 0, "after {delay_us} µs"),
            Err(error) => panic!("{error}"),
            Ok(container) => container.kill().await,
        }
        assert_eq!(alive(&marker), 0);
        eventually("the log is closed", || !fixture.logs.is_live(&spec.id)).await;
    }
    // Also while it waits for its turn behind starts that hang.
    let spawners = shims_of(std::process::id());
    spawners.iter().for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGSTOP).unwrap());
    let began = Instant::now();
    let mut starts = Vec::new();
    for _ in 0..3 * limits::STARTS_CONCURRENT_MAX {
        let spec = fixture.shell("sleep 1000");
        let sandbox = fixture.sandbox(&spec).await;
        let killed = Box::pin(tokio::time::sleep(Duration::from_millis(100)));
        starts.push(tokio::spawn(async move { sandbox.start(spec, killed).await.err() }));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let waiting = starts.iter().filter(|start| start.is_finished()).count();
    assert!(waiting >= 2 * limits::STARTS_CONCURRENT_MAX, "{waiting} have given up");
    spawners.iter().for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGCONT).unwrap());
    for start in starts {
        let refused = start.await.unwrap();
        assert!(matches!(refused, Some(Error::StartKilled { .. })), "{refused:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(10));
}

async fn a13_agent_death_kills(fixture: Fixture) {
    let marker = marker();
    struct Agent(std::process::Child);
    impl Drop for Agent {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let mode = if fixture.force_degraded { "degraded" } else { "default" };
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        // A folder of its own: the log of the agent before says `ready` already.
        let folder = fixture.folder.path().join(signal.as_str());
        std::fs::create_dir(&folder).unwrap();
        let agent = Command::new(std::env::current_exe().unwrap())
            .args(["hold", folder.to_str().unwrap(), &marker, mode])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut agent = Agent(agent);
        let mut line = String::new();
        BufReader::new(agent.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        // Its own arguments have the marker too.
        assert!(alive(&marker) >= 8, "{} alive", alive(&marker));
        let shims = shims_of(agent.0.id());
        assert_eq!(shims.len(), 1, "one spawner");
        kill(Pid::from_raw(agent.0.id() as i32), signal).unwrap();
        agent.0.wait().unwrap();
        eventually("all dead", || alive(&marker) == 0).await;
        // What is left of it may be a zombie that waits for the system's init.
        let line = format!("/proc/{}/cmdline", shims.first().unwrap());
        eventually("no spawner", || std::fs::read(&line).unwrap_or_default().is_empty()).await;
    }
}

/// The process that `a13_agent_death_kills` kills.
fn hold_until_killed(folder: &Path, marker: &str, force_degraded: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let logs = LogStore::open(&folder.join("logs")).unwrap();
        let options = ProcessRuntimeOptions { logs: logs.clone(), shim_program: None, force_degraded };
        let runtime = Arc::new(ProcessRuntime::new(options).await.unwrap());
        let fixture =
            Fixture { folder: tempfile::tempdir_in(folder).unwrap(), runtime, logs, force_degraded };
        let spec = fixture.shell(&format!("{}; sleep 1000", escapees(marker)));
        let _container = fixture.start_ready(&spec).await;
        println!("held");
        std::future::pending::<()>().await;
    });
}

/// PDEATHSIG fires at the end of a thread, not of a process: neither a short-lived async runtime nor a short-lived thread
/// that starts containers may take them along.
async fn a13_threads_of_the_agent_come_and_go(fixture: Fixture) {
    let spec = fixture.shell("echo ready; read -r line < go; exit 6");
    std::fs::create_dir_all(fixture.home()).unwrap();
    let go = fixture.home().join("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (sandbox, given) = (fixture.sandbox(&spec).await, spec.clone());
    let handle = tokio::runtime::Handle::current();
    let starter = std::thread::spawn(move || handle.block_on(sandbox.start(given, never())));
    let container = tokio::task::spawn_blocking(|| starter.join().unwrap()).await.unwrap().unwrap();
    // A runtime made on a thread that ends at once.
    let (options, handle) = (fixture.options(), tokio::runtime::Handle::current());
    let maker = std::thread::spawn(move || handle.block_on(ProcessRuntime::new(options)));
    let second = tokio::task::spawn_blocking(|| maker.join().unwrap()).await.unwrap().unwrap();
    let second = Fixture {
        folder: tempfile::tempdir().unwrap(),
        runtime: Arc::new(second),
        logs: fixture.logs.clone(),
        force_degraded: fixture.force_degraded,
    };
    assert_eq!(second.run(&second.shell("exit 8")).await.exit_code, 8);
    std::fs::write(&go, "go\n").unwrap();
    assert_eq!(container.wait().await.exit_code, 6);
}

impl Fixture {
    fn options(&self) -> ProcessRuntimeOptions {
        ProcessRuntimeOptions {
            logs: self.logs.clone(),
            shim_program: None,
            force_degraded: self.force_degraded,
        }
    }
}

async fn shim_death_from_outside(fixture: Fixture) {
    let marker = marker();
    let spawners = shims_of(std::process::id());
    let before: BTreeSet<i32> = spawners.iter().flat_map(|pid| shims_of(*pid as u32)).collect();
    // Degraded, only the main process is sure to die with the shim.
    let escapee = if fixture.is_degraded() { "true" } else { "setsid -f sleep" };
    let spec = fixture.shell(&format!("{escapee} {marker}; echo ready; exec sleep {marker}"));
    let container = fixture.start_ready(&spec).await;
    let after: BTreeSet<i32> = spawners.iter().flat_map(|pid| shims_of(*pid as u32)).collect();
    let shim = after.difference(&before).next().copied().expect("a shim of its own");
    kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    let exit = container.wait().await;
    assert_eq!((exit.exit_code, exit.signal), (137, Some(9)));
    assert!(exit.message.contains("shim was killed from outside"), "{}", exit.message);
    eventually("all dead", || alive(&marker) == 0).await;
    if !fixture.is_degraded() {
        // Proven before the answer, not some time after it.
        let spec = fixture.shell(&format!("setsid -f sleep {marker}; echo ready; exec sleep {marker}"));
        let container = fixture.start_ready(&spec).await;
        let after: BTreeSet<i32> = spawners.iter().flat_map(|pid| shims_of(*pid as u32)).collect();
        kill(Pid::from_raw(*after.difference(&before).next().unwrap()), Signal::SIGKILL).unwrap();
        container.wait().await;
        assert_eq!(alive(&marker), 0);
    }
}

async fn spawner_death_from_outside(fixture: Fixture) {
    let marker = marker();
    let others = shims_of(std::process::id());
    let runtime = ProcessRuntime::new(fixture.options()).await.unwrap();
    let spawner = *shims_of(std::process::id()).difference(&others).next().expect("a spawner");
    let fixture = Fixture { runtime: Arc::new(runtime), ..fixture };
    let spec = fixture.shell(&format!("setsid -f sleep {marker}; echo ready; exec sleep {marker}"));
    let container = fixture.start_ready(&spec).await;
    kill(Pid::from_raw(spawner), Signal::SIGKILL).unwrap();
    if fixture.is_degraded() {
        // Such shims depend on the agent alone.
        assert_eq!(fixture.run(&fixture.shell("exit 9")).await.exit_code, 9);
        assert!(alive(&marker) > 0);
        container.kill().await;
    } else {
        assert_eq!(container.wait().await.exit_code, 137);
    }
    assert_eq!(alive(&marker), 0);
    assert_eq!(fixture.run(&fixture.shell("exit 9")).await.exit_code, 9, "a new spawner");
}

async fn namespace_is_private(fixture: Fixture) {
    let conditions = fixture.runtime.conditions();
    if fixture.force_degraded {
        assert_eq!(
            conditions.iter().map(|condition| condition.kind).collect::<Vec<_>>(),
            ["FencingDegraded"]
        );
        return;
    }
    if fixture.is_degraded() {
        println!("  not shown: this host allows no namespaces");
        return;
    }
    let spec = fixture.shell(
        "ls /proc | grep -E '^[0-9]+$' | tr '\\n' ' '; readlink /proc/self | grep -c .; kill -9 1; echo $?",
    );
    assert_eq!(fixture.run(&spec).await.exit_code, 0);
    let text = fixture.text(&spec).await;
    // The shim is 1, the shell 2, the rest of the pipe follows: nothing of the host. Killing the shim does nothing.
    assert!(text.starts_with("1 2 ") && text.len() < 30, "{text}");
    assert!(text.ends_with("1\n0\n"), "{text}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(
        mounts.lines().filter(|line| line.contains(" - proc ")).count(),
        1,
        "the host's mounts are as before"
    );
}

async fn many_quick_containers_leave_nothing_open(fixture: Fixture) {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    // Whatever is opened once, such as the async runtime's own.
    fixture.run(&fixture.spec(&["true"])).await;
    let before = open();
    let began = Instant::now();
    let mut running = Vec::new();
    for number in 0..1000 {
        let mut spec = fixture.spec(&["true"]);
        if number % 10 == 0 {
            spec.command = vec!["echo".to_owned(), number.to_string()];
        }
        let sandbox = fixture.sandbox(&spec).await;
        running.push(tokio::spawn(async move { sandbox.start(spec, never()).await.unwrap().wait().await }));
    }
    for handle in running {
        let exit = handle.await.unwrap();
        assert_eq!((exit.exit_code, exit.reason), (0, ExitReason::Completed), "{}", exit.message);
    }
    println!("  1000 containers in {} ms", began.elapsed().as_millis());
    assert_eq!(open(), before, "descriptors");
    assert_eq!(fixture.logs.pods().await.unwrap().len(), 100, "a log for those with output only");
    let spawners = shims_of(std::process::id());
    eventually("no shim and no zombie is left", || {
        spawners.iter().all(|pid| shims_of(*pid as u32).is_empty())
    })
    .await;
}

async fn refusals_name_the_cause(fixture: Fixture) {
    let message = fixture.try_start(fixture.spec(&[])).await.err().unwrap().to_string();
    assert!(message.contains("main") && message.contains("entrypoint is in the image"), "{message}");
    let message = fixture.try_start(fixture.spec(&["a\0b"])).await.err().unwrap().to_string();
    assert!(message.contains("NUL"), "{message}");
    // A binary that is no shim.
    let options =
        ProcessRuntimeOptions { shim_program: Some(PathBuf::from("/bin/true")), ..fixture.options() };
    let message = ProcessRuntime::new(options).await.err().unwrap().to_string();
    assert!(message.contains("/bin/true") && message.contains("maybe_run_shim"), "{message}");
    let options =
        ProcessRuntimeOptions { shim_program: Some(PathBuf::from("/no/such")), ..fixture.options() };
    assert!(ProcessRuntime::new(options).await.is_err());
    // Two runs of one container at once would share a log.
    let spec = fixture.shell("sleep 1000");
    let container = fixture.start(&spec).await;
    assert!(fixture.try_start(spec.clone()).await.is_err());
    container.kill().await;
    container.wait().await;
}
