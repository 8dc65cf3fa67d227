//! What a container may use, and what it writes.

use crate::fixture::{Fixture, never, when_it_is_read};
use std::time::{Duration, Instant};
use stint_runtime::{ContainerId, Error, ExitReason, LogLimits, PodSandboxSpec, ReadOptions, Runtime};

pub async fn p3_too_much_memory_is_oom_killed(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    // containerd misses the news now and then, where the group is gone before it has read them.
    for name in ["first", "second", "third"] {
        let mut spec = fixture.shell(pod.pod_uid(), name, "exec tail /dev/zero");
        spec.resources.memory_limit_bytes = Some(16 << 20);
        let exit = pod.start(spec, never()).await.unwrap().wait().await;
        assert_eq!(exit.exit_code, 137, "{exit:?}");
        if exit.reason == ExitReason::OomKilled {
            return;
        }
    }
    panic!("the engine has told of none of three");
}

pub async fn a_fork_bomb_is_held_and_killed(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let uid = fixture.pod_uid();
    let mut pod = PodSandboxSpec::new(&uid, fixture.pod_folder(&uid));
    pod.resources.processes_max = Some(50);
    let pod = runtime.open_pod(pod).await.unwrap();
    let mut spec = fixture.shell(&uid, "main", "f() { f | f & }; f; while true; do sleep 0.1; done");
    spec.resources.processes_max = Some(50);
    let container = pod.start(spec, never()).await.unwrap();
    let begun = Instant::now();
    let mut most = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        match container.usage().await {
            Ok(usage) => most = most.max(usage.processes),
            // Of a group whose processes come and go that fast it has no figures now and then.
            Err(Error::Engine { message, .. }) if message.contains("unexpected metrics response: []") => {}
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!((1..=50).contains(&most), "{most} processes");
    container.kill().await;
    assert_eq!(container.usage().await.map_or(0, |usage| usage.processes), 0);
    container.wait().await;
}

pub async fn output_is_exact_over_rotations(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    // Slow enough to be seen in between.
    let line = "i=0; while [ $i -lt 40 ]; do seq $((i*1000)) $((i*1000+999)); sleep 0.05; i=$((i+1)); done; printf end";
    let line = when_it_is_read(&runtime, line);
    let mut spec = fixture.shell(pod.pod_uid(), "main", &line);
    spec.log_limits = LogLimits { file_bytes: 64 * 1024, files: 1000 };
    let container = pod.start(spec, never()).await.unwrap();
    let options = ReadOptions { follow: true, ..ReadOptions::default() };
    let mut follower = runtime.logs().reader(container.id(), options).await.unwrap();
    let mut followed = Vec::new();
    while let Some(chunk) = follower.next().await.unwrap() {
        followed.extend(chunk.bytes);
    }
    container.wait().await;
    let expected: String = (0..40_000).map(|n| format!("{n}\n")).chain(["end".to_owned()]).collect();
    let output = String::from_utf8(fixture.output(&runtime, container.id()).await).unwrap();
    assert!(output == expected, "{} of {} bytes", output.len(), expected.len());
    let options = ReadOptions { since: Some(std::time::SystemTime::now()), ..ReadOptions::default() };
    let mut later = runtime.logs().reader(container.id(), options).await.unwrap();
    assert_eq!(later.next().await.unwrap(), None, "times of the engine are understood");
    assert!(followed == expected.as_bytes(), "followed {} of {} bytes", followed.len(), expected.len());
    let folder = fixture.folder().join("logs").join(pod.pod_uid());
    let files = std::fs::read_dir(folder).unwrap().count();
    assert!(files > 3, "rotated: {files} files");
}

pub async fn output_is_bounded(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let line = "yes 0123456789012345678901234567890123456789 | head -n 400000; echo end";
    let mut spec = fixture.shell(pod.pod_uid(), "main", &when_it_is_read(&runtime, line));
    spec.log_limits = LogLimits { file_bytes: 64 * 1024, files: 2 };
    let container = pod.start(spec, never()).await.unwrap();
    container.wait().await;
    let folder = fixture.folder().join("logs").join(pod.pod_uid());
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().flatten().collect();
    assert!(files.len() <= 2, "{files:?}");
    let options = ReadOptions { tail_lines: Some(2), ..ReadOptions::default() };
    let mut reader = runtime.logs().reader(container.id(), options).await.unwrap();
    let chunk = reader.next().await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&chunk.bytes), "0123456789012345678901234567890123456789\nend\n");
}

pub async fn usage_is_told(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    let container = fixture.start(&pod, "main", "sleep 1000 & while true; do :; done").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let usage = container.usage().await.unwrap();
    assert!(
        usage.cpu_nanoseconds > 10_000_000 && usage.memory_bytes > 0 && usage.processes == 2,
        "{usage:?}"
    );
    let sum = pod.usage().await.unwrap();
    assert!(sum.cpu_nanoseconds >= usage.cpu_nanoseconds && sum.processes == 2, "{sum:?}");
}

pub async fn r15_logs_of_the_last_two_runs_are_kept(fixture: Fixture) {
    let runtime = fixture.runtime().await;
    let pod = fixture.pod(&runtime).await;
    for run in 0..4 {
        let mut spec = fixture.shell(pod.pod_uid(), "again", "echo said; exit 1");
        spec.id = ContainerId::new(pod.pod_uid(), "again", run).unwrap();
        let container = pod.start(spec, never()).await.unwrap();
        assert_eq!(container.wait().await.exit_code, 1);
        container.release().await;
        for earlier in 0..=run {
            let id = ContainerId::new(pod.pod_uid(), "again", earlier).unwrap();
            let expected: &[u8] = if earlier + 1 < run { b"" } else { b"said\n" };
            assert_eq!(fixture.output(&runtime, &id).await, expected, "of run {earlier} after {run}");
        }
    }
}
