//! What one container is and does, from its start to its end.

use crate::fixture::{Fixture, boot_time, escapees, eventually, make_fifo, never, shims_of};
use crate::processes::{alive, marker};
use crate::stops::stop;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use stint_runtime::{
    Error, ExitReason, Feature, LogLimits, ProcessRuntime, ProcessRuntimeOptions, ReadOptions, Runtime,
    Stream, limits,
};

pub async fn p5_exit_codes(fixture: Fixture) {
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

pub async fn p5_signals(fixture: Fixture) {
    for (name, number) in [("TERM", 15), ("KILL", 9), ("SEGV", 11), ("ABRT", 6), ("35", 35), ("64", 64)] {
        let spec = fixture.spec(&["/bin/bash", "-c", &format!("ulimit -c 0; kill -{name} $$$$; sleep 9")]);
        let exit = fixture.run(&spec).await;
        assert_eq!(
            (exit.exit_code, exit.signal, exit.reason),
            (128 + number, Some(number), ExitReason::Error)
        );
    }
}

pub async fn p5_programs_that_cannot_run(fixture: Fixture) {
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

pub async fn bad_folders_are_start_errors(fixture: Fixture) {
    let file = fixture.folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [Path::new("/no/such/folder"), &file, Path::new("not-there")] {
        let mut spec = fixture.spec(&["true"]);
        spec.working_directory = Some(path.to_owned());
        let exit = fixture.run(&spec).await;
        assert_eq!((exit.exit_code, exit.reason), (128, ExitReason::StartError));
        assert!(exit.message.contains(&format!("workingDir {path:?}")), "{}", exit.message);
    }
    // One that is there, and closed to the Pod's user. Root of the tests may enter it all the same, where Pods are the agent's user.
    let closed = fixture.folder.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    let mut spec = fixture.spec(&["true"]);
    spec.working_directory = Some(closed.clone());
    let exit = fixture.run(&spec).await;
    if fixture.runtime.features().contains(&Feature::Users) || !nix::unistd::geteuid().is_root() {
        assert_eq!((exit.exit_code, exit.reason), (128, ExitReason::StartError), "{}", exit.message);
        let told = format!("workingDir {closed:?} can't be used: permission denied");
        assert!(exit.message.contains(&told), "{}", exit.message);
    } else {
        println!("a folder that is closed: not tried, Pods are root here");
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

pub async fn output_is_exact(fixture: Fixture) {
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

pub async fn output_without_end_is_followed_and_rotated(fixture: Fixture) {
    let mut spec = fixture.shell("printf 'prompt> '; read -r line < go; seq 1 100000; exit 3");
    spec.log_limits = LogLimits { file_bytes: limits::LOG_FILE_BYTES_MIN, files: 100 };
    std::fs::create_dir_all(fixture.home()).unwrap();
    let go = fixture.home().join("go");
    make_fifo(&go);
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

pub async fn a_line_that_goes_on_is_followed(fixture: Fixture) {
    // A progress bar: more of the line comes all the time.
    let spec = fixture.shell("while :; do printf .; sleep 0.05; done");
    let container = fixture.start(&spec).await;
    let options = ReadOptions { follow: true, ..ReadOptions::default() };
    let mut reader = fixture.logs.reader(&spec.id, options).await.unwrap();
    let first = tokio::time::timeout(Duration::from_secs(3), reader.next()).await.expect("it is shown");
    assert!(first.unwrap().unwrap().bytes.starts_with(b"."));
    container.kill().await;
}

pub async fn environment_is_what_was_given(fixture: Fixture) {
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

pub async fn descriptors_signals_and_umask_are_clean(fixture: Fixture) {
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

pub async fn p6_terminate_reaches_the_main_process_only(fixture: Fixture) {
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

pub async fn nothing_survives_the_main_process(fixture: Fixture) {
    let marker = marker();
    let spec = fixture.shell(&format!("{}; exit 4", escapees(&marker)));
    let exit = fixture.run(&spec).await;
    assert_eq!(exit.exit_code, 4);
    assert_eq!(alive(&marker), 0);
}

pub async fn kill_takes_escapees_and_stopped_members(fixture: Fixture) {
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

pub async fn kill_takes_what_goes_on_forking(fixture: Fixture) {
    let marker = marker();
    let script = format!(
        "loop() {{ while :; do (setsid sleep {marker} &) ; done; }}; loop & loop & sleep 0.3; echo ready; wait"
    );
    let spec = fixture.shell(&script);
    let container = fixture.start_ready(&spec).await;
    container.kill().await;
    assert_eq!(alive(&marker), 0);
}

pub async fn a9_nothing_starts_at_or_after_its_last_moment(fixture: Fixture) {
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
    spawners.iter().for_each(|pid| stop(Pid::from_raw(*pid)));
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

pub async fn a4_a_start_that_is_killed_leaves_nothing_when_it_answers(fixture: Fixture) {
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
    spawners.iter().for_each(|pid| stop(Pid::from_raw(*pid)));
    let began = Instant::now();
    let mut starts = Vec::new();
    for _ in 0..3 * limits::STARTS_CONCURRENT_MAX {
        let spec = fixture.shell("sleep 1000");
        let sandbox = fixture.sandbox(&spec).await;
        let killed = Box::pin(tokio::time::sleep(Duration::from_millis(100)));
        starts.push(tokio::spawn(async move { sandbox.start(spec, killed).await.err() }));
    }
    eventually("those behind have given up", || {
        let given_up = starts.iter().filter(|start| start.is_finished()).count();
        given_up >= 2 * limits::STARTS_CONCURRENT_MAX
    })
    .await;
    spawners.iter().for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGCONT).unwrap());
    for start in starts {
        let refused = start.await.unwrap();
        assert!(matches!(refused, Some(Error::StartKilled { .. })), "{refused:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(10));
}

pub async fn namespace_is_private(fixture: Fixture) {
    let conditions = fixture.runtime.conditions();
    if fixture.force_degraded {
        assert_eq!(
            conditions.iter().map(|condition| condition.kind).collect::<Vec<_>>(),
            ["FencingDegraded", "IsolationDegraded"]
        );
        return;
    }
    if fixture.is_degraded() {
        println!("  not shown: this host allows no namespaces");
        return;
    }
    let spec = fixture.shell(
        "ls /proc | grep -E '^[0-9]+$' | tr '\\n' ' '; readlink /proc/self | grep -c .; kill -9 1; echo here",
    );
    assert_eq!(fixture.run(&spec).await.exit_code, 0);
    let text = fixture.text(&spec).await;
    // The shim is 1, the shell 2, the rest of the pipe follows: nothing of the host. Killing the shim does nothing.
    assert!(text.starts_with("1 2 ") && text.len() < 30, "{text}");
    assert!(text.ends_with("1\nhere\n"), "{text}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(
        mounts.lines().filter(|line| line.contains(" - proc ")).count(),
        1,
        "the host's mounts are as before"
    );
}

pub async fn many_quick_containers_leave_nothing_open(fixture: Fixture) {
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
        let sandbox = fixture.sandbox_in(&spec, &format!("pods/{number}")).await;
        running.push(tokio::spawn(async move {
            let container = sandbox.start(spec, never()).await.unwrap();
            let exit = container.wait().await;
            container.release().await;
            exit
        }));
    }
    for handle in running {
        let exit = handle.await.unwrap();
        assert_eq!((exit.exit_code, exit.reason), (0, ExitReason::Completed), "{}", exit.message);
    }
    println!("  1000 containers in {} ms", began.elapsed().as_millis());
    // The last one before was closing its own still.
    assert!(open() <= before, "{} descriptors after {before}", open());
    assert_eq!(fixture.logs.pods().await.unwrap().len(), 100, "a log for those with output only");
    let spawners = shims_of(std::process::id());
    eventually("no shim and no zombie is left", || {
        spawners.iter().all(|pid| shims_of(*pid as u32).is_empty())
    })
    .await;
}

pub async fn refusals_name_the_cause(fixture: Fixture) {
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
