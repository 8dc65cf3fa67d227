//! All servers, or the disks of some, are lost (R1, R2; decision 13).

use crate::manifests::shell_job;
use std::time::Duration;
use stint_tests::cluster::condition;
use stint_tests::{Cluster, ClusterOptions, eventually};

const SOON: Duration = Duration::from_secs(90);

#[test]
fn all_servers_killed_at_once_lose_nothing_acknowledged() {
    let mut options = ClusterOptions::new(3, 2);
    options.node_lease = "40s".to_owned();
    let mut cluster = Cluster::start(options);
    cluster.apply(&shell_job("done", &[], "echo kept"));
    cluster.wait_for_condition("done", "Complete", SOON);
    cluster.apply(&shell_job("running", &["completions: 4", "parallelism: 4"], "sleep 300"));
    cluster.wait_for_pods("running", "Running", 4, SOON);
    let uids = |cluster: &Cluster, job: &str| -> Vec<String> {
        let pods = cluster.pods(job);
        let mut uids: Vec<String> = pods.iter().map(|pod| pod["metadata"]["uid"].to_string()).collect();
        uids.sort();
        uids
    };
    let before = uids(&cluster, "running");
    let events_before = event_reasons(&cluster);

    // Short: the lease bridges it.
    restart_all_servers(&mut cluster, Duration::from_secs(3));
    assert_eq!(uids(&cluster, "running"), before);
    std::thread::sleep(Duration::from_secs(3));
    let job = cluster.job("running");
    assert_eq!(job["status"]["active"], 4, "no pod was killed: {}", job["status"]);
    assert!(matches!(job["status"]["failed"].as_i64(), None | Some(0)));
    assert_eq!(cluster.wait_for_pods("running", "Running", 4, SOON).len(), 4);
    assert!(condition(&cluster.job("done"), "Complete").is_some());
    assert_eq!(cluster.stint(&["logs", "job/done"]).success(), "kept\n");
    let events_after = event_reasons(&cluster);
    assert!(
        events_before.iter().all(|reason| events_after.contains(reason)),
        "{events_before:?} {events_after:?}"
    );

    // Longer than the lease: every running Pod is dead, counted once, and runs again.
    restart_all_servers(&mut cluster, Duration::from_secs(45));
    eventually("the losses are counted and the pods run again", SOON * 2, || {
        let job = cluster.job("running");
        let running =
            cluster.pods("running").iter().filter(|pod| pod["status"]["phase"] == "Running").count();
        (job["status"]["failed"] == 4 && running == 4).then_some(())
    });
    std::thread::sleep(Duration::from_secs(5));
    let job = cluster.job("running");
    assert_eq!(
        (&job["status"]["failed"], &job["status"]["active"]),
        (&4.into(), &4.into()),
        "counted exactly once"
    );
    for pod in cluster.pods("running").iter().filter(|pod| pod["status"]["phase"] == "Failed") {
        assert_eq!(pod["status"]["reason"], "NodeLost");
    }
}

fn event_reasons(cluster: &Cluster) -> Vec<String> {
    let list = cluster.json(&["get", "events", "-o", "json"]);
    list["items"].as_array().unwrap().iter().map(|event| event["reason"].to_string()).collect()
}

fn restart_all_servers(cluster: &mut Cluster, pause: Duration) {
    for name in cluster.server_names() {
        cluster.kill_server(&name);
    }
    std::thread::sleep(pause);
    for name in cluster.server_names() {
        cluster.start_server(&name);
    }
    cluster.wait_for_leader(SOON);
}

#[test]
fn a_wiped_follower_rejoins_under_a_new_id_and_two_wiped_ones_refuse() {
    let mut options = ClusterOptions::new(3, 0);
    // So eager that the follower can only catch up by snapshot.
    options.server_arguments =
        ["--snapshot-entries", "50", "--log-entries-kept", "10"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::start(options);
    for number in 0..150 {
        cluster.apply(&shell_job(&format!("job-{number}"), &["suspend: true"], "true"));
    }
    let status = cluster.json(&["status", "-o", "json"]);
    let leader = status["leader"].as_str().unwrap().to_owned();
    let follower = cluster.server_names().into_iter().find(|name| *name != leader).unwrap();
    let id_of = |status: &serde_json::Value, name: &str| -> i64 {
        let members = status["members"].as_array().unwrap();
        members
            .iter()
            .find(|member| member["name"] == name)
            .and_then(|member| member["id"].as_i64())
            .unwrap_or(0)
    };
    let old_id = id_of(&status, &follower);
    cluster.kill_server(&follower);
    std::fs::remove_dir_all(cluster.data_folder(&follower)).unwrap();
    cluster.start_server(&follower);
    let status =
        eventually("the wiped follower is a voter again, under a new id", Duration::from_secs(60), || {
            let outcome = cluster.stint(&["status", "-o", "json"]);
            let status: serde_json::Value = serde_json::from_str(&outcome.stdout).ok()?;
            let members = status["members"].as_array()?.clone();
            let rejoined = members.iter().any(|member| {
                member["name"] == follower.as_str() && member["id"] != old_id && member["role"] != "learner"
            });
            (rejoined && members.len() == 3).then_some(status)
        });
    assert!(id_of(&status, &follower) > 3, "ids are never used again: {status:#}");
    let only_follower = cluster.client_addresses[&follower].clone();
    let jobs = stint_tests::cluster::run_stint(&only_follower, &["get", "jobs", "-o", "name"], "").success();
    assert_eq!(jobs.lines().count(), 150);

    // Two wiped at once: what was acknowledged may be gone with them; they must not make a new cluster.
    let wiped: Vec<String> = cluster.server_names().into_iter().take(2).collect();
    for name in &wiped {
        cluster.kill_server(name);
        std::fs::remove_dir_all(cluster.data_folder(name)).unwrap();
    }
    for name in &wiped {
        cluster.start_server(name);
    }
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(cluster.leader(), None, "a quorum was lost: nobody may lead");
    for name in &wiped {
        eventually(&format!("{name} says what to do"), SOON, || {
            let output = std::fs::read_to_string(cluster.log_path(name)).unwrap();
            (output.contains("stint member replace") || output.contains("refus")).then_some(())
        });
    }
}

#[test]
fn a_damaged_or_foreign_folder_is_refused() {
    let mut cluster = Cluster::start(ClusterOptions::new(1, 0));
    cluster.apply(&shell_job("kept", &["suspend: true"], "true"));
    cluster.kill_server("s1");
    // Another member's folder.
    let mut foreign = std::process::Command::new(stint_tests::binary("stint"));
    foreign
        .args([
            "server",
            "--name",
            "s9",
            "--listen",
            "127.0.0.1:0",
            "--peer-listen",
            "127.0.0.1:0",
            "--data-dir",
        ])
        .arg(cluster.data_folder("s1"));
    let refused = foreign.output().unwrap();
    assert!(!refused.status.success());
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(errors.contains("s1") && errors.contains("s9"), "it names both members: {errors}");
    // A flipped byte in what the log keeps.
    let flipped = flip_a_byte(&cluster.data_folder("s1"));
    let refused = cluster.server_command("s1").output().unwrap();
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "a damaged folder ({flipped}) was accepted");
    assert!(errors.contains("damage") || errors.contains("orrupt"), "{errors}");
    assert!(errors.contains("stint member replace"), "it says what to do: {errors}");
}

/// Flips one byte in the middle of the largest write-ahead log.
fn flip_a_byte(folder: &std::path::Path) -> String {
    let mut logs = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "log") {
                logs.push((entry.metadata().unwrap().len(), path));
            }
        }
    }
    logs.sort();
    let (length, path) = logs.pop().expect("rocksdb keeps a write-ahead log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[length as usize / 2] ^= 0x40;
    std::fs::write(&path, bytes).unwrap();
    path.display().to_string()
}
