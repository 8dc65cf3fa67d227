//! The leader is killed while Jobs run: nothing acknowledged is lost, nothing runs twice (R1, R4, R5, R9).

use crate::manifests::{assert_no_overlap, read_journal, shell_job};
use std::time::{Duration, Instant};
use stint_tests::{Cluster, ClusterOptions, eventually};

const SOON: Duration = Duration::from_secs(90);

#[test]
fn an_indexed_job_survives_two_leader_kills() {
    let mut cluster = Cluster::start(ClusterOptions::new(3, 3));
    let journal = cluster.folder.path().join("journal");
    let script = crate::manifests::journal_script(&journal, 10, 0);
    let lines = ["completions: 200", "parallelism: 20", "completionMode: Indexed", "backoffLimit: 0"];
    cluster.apply(&shell_job("two-kills", &lines, &script));

    let mut acknowledged = Vec::new();
    for round in 0..2 {
        let progress = 40 + 60 * round;
        eventually("the job makes progress", SOON, || {
            let succeeded = cluster.job("two-kills")["status"]["succeeded"].as_i64().unwrap_or(0);
            (succeeded >= progress).then_some(())
        });
        let leader = cluster.wait_for_leader(SOON);
        let killed_at = Instant::now();
        cluster.kill_server(&leader);
        let name = format!("after-kill-{round}");
        let manifest = shell_job(&name, &["suspend: true"], "true");
        eventually("a write after the leader's death", SOON, || {
            (cluster.stint_with_input(&["create", "-f", "-"], &manifest).code == 0
                || cluster.stint(&["get", "jobs", &name]).code == 0)
                .then_some(())
        });
        let without_writes = killed_at.elapsed();
        println!("leader {leader} killed: a write succeeded after {} ms", without_writes.as_millis());
        assert!(without_writes < Duration::from_secs(3), "no write for {without_writes:?}");
        acknowledged.push(name);
        cluster.start_server(&leader);
    }

    let job = cluster.wait_for_condition("two-kills", "Complete", SOON * 2);
    assert_eq!(job["status"]["succeeded"], 200);
    assert!(matches!(job["status"]["failed"].as_i64(), None | Some(0)), "{}", job["status"]);
    assert_eq!(job["status"]["completedIndexes"], "0-199");
    for name in acknowledged {
        cluster.stint(&["get", "jobs", &name]).success();
    }
    let pods = read_journal(&journal);
    assert_eq!(pods.len(), 200, "every index ran once");
    assert!(pods.values().all(|pod| pod.stopped));
    assert_no_overlap(&pods);
}

#[test]
fn sigterm_hands_leadership_over_before_a_server_ends() {
    let mut cluster = Cluster::start(ClusterOptions::new(3, 1));
    let gate = cluster.folder.path().join("end");
    let script = format!("while [ ! -e {} ]; do sleep 0.1; done", gate.display());
    cluster.apply(&shell_job("runs-on", &["backoffLimit: 0"], &script));
    cluster.wait_for_pods("runs-on", "Running", 1, SOON);
    for round in 0..2 {
        let leader = cluster.wait_for_leader(SOON);
        let ended = cluster.servers.get_mut(&leader).unwrap().terminate(Duration::from_secs(10));
        let ended_at = Instant::now();
        assert!(ended.is_some_and(|status| status.success()), "{leader} ends in order: {ended:?}");
        // Nobody waits for an election: when the old leader is gone the new one has led for a while.
        let output = cluster.servers[&leader].output();
        assert!(output.contains("leadership was handed over"), "{output}");
        let name = format!("after-sigterm-{round}");
        cluster
            .stint_with_input(&["create", "-f", "-"], &shell_job(&name, &["suspend: true"], "true"))
            .success();
        println!(
            "leader {leader} ended by SIGTERM: a write succeeded after {} ms",
            ended_at.elapsed().as_millis()
        );
        assert_ne!(cluster.leader(), Some(leader.clone()));
        cluster.start_server(&leader);
        eventually("all three are up to date", SOON, || {
            let status = cluster.json(&["status", "-o", "json"]);
            status["members"].as_array()?.iter().all(|member| member["lag"] == 0).then_some(())
        });
    }
    std::fs::write(&gate, "").unwrap();
    let job = cluster.wait_for_condition("runs-on", "Complete", SOON);
    assert!(matches!(job["status"]["failed"].as_i64(), None | Some(0)), "no pod was lost: {}", job["status"]);
}
