//! An agent is cut off, alone or together with the leader: its Pods are dead before any replacement starts (R6, R7).
//!
//! Each server and each agent is a host of its own: a network namespace on one bridge. Needs root.

use crate::manifests::{assert_no_overlap, journal_script, read_journal, shell_job};
use std::time::Duration;
use stint_tests::{HostedCluster, eventually, wait_until};

const SOON: Duration = Duration::from_secs(90);

fn journal(cluster: &HostedCluster) -> std::path::PathBuf {
    cluster.folder.path().join("journal")
}

#[test]
fn an_agent_cut_off_alone_has_killed_its_pods_before_a_replacement_starts() {
    let cluster = HostedCluster::start(5, &[("w1", 4), ("w2", 5)], &[]);
    run_and_cut(&cluster, "cut-off", 1, &[4]);
}

#[test]
fn an_agent_cut_off_together_with_the_leader_has_killed_its_pods_before_a_replacement_starts() {
    // w1, w2 and w3 share a host with a server each; whichever leads is cut off with its agent.
    let cluster = HostedCluster::start(4, &[("w1", 1), ("w2", 2), ("w3", 3)], &[]);
    let leader = cluster.host_of(&eventually("a leader", SOON, || cluster.leader(4)));
    run_and_cut(&cluster, "cut-off-with-leader", leader % 3 + 1, &[leader]);
}

#[test]
fn an_agent_that_cannot_reach_the_leader_keeps_its_lease_through_a_follower() {
    let cluster = HostedCluster::start(5, &[("w1", 4)], &[]);
    let leader = eventually("a leader", SOON, || cluster.leader(5));
    let script = journal_script(&journal(&cluster), 300, 0);
    let manifest = shell_job("relayed", &["backoffLimit: 0"], &script);
    eventually("the job is applied", SOON, || cluster.stint(5, &["apply", "-f", "-"], &manifest));
    eventually("its pod runs", SOON, || (!read_journal(&journal(&cluster)).is_empty()).then_some(()));
    // Only the way from the agent's host to the leader's is closed, for longer than the lease.
    let route = format!("{}/32", cluster.hosts.address(cluster.host_of(&leader)));
    cluster.hosts.run(4, &["ip", "route", "add", "blackhole", &route]);
    let job = eventually("the job completes", SOON, || {
        let job = cluster.job(5, "relayed")?;
        let conditions = job["status"]["conditions"].as_array()?;
        let ended = conditions.iter().any(|one| one["type"] == "Complete" || one["type"] == "Failed");
        ended.then_some(job)
    });
    let status = &job["status"];
    assert_eq!(
        (&status["succeeded"], status["failed"].as_i64().unwrap_or(0)),
        (&1.into(), 0),
        "A3: {status}"
    );
    assert_eq!(read_journal(&journal(&cluster)).len(), 1, "the pod ran on");
    assert_eq!(cluster.leader(5), Some(leader), "nobody else was cut off");
}

/// Runs a Pod per node, cuts hosts off, waits for replacements, heals, and looks at the journal.
fn run_and_cut(cluster: &HostedCluster, name: &str, asked_from: usize, cut: &[usize]) {
    let script = journal_script(&journal(cluster), 100_000, 0);
    let lines = ["completions: 6", "parallelism: 6", "completionMode: Indexed"];
    let manifest = shell_job(name, &lines, &script);
    eventually("the job is applied", SOON, || cluster.stint(asked_from, &["apply", "-f", "-"], &manifest));
    eventually("every index runs", SOON, || (read_journal(&journal(cluster)).len() == 6).then_some(()));
    for host in cut {
        cluster.hosts.cut(*host);
    }
    let replaced =
        wait_until(Duration::from_secs(25), || (read_journal(&journal(cluster)).len() > 6).then_some(()));
    assert!(replaced.is_some(), "no replacement was started after the cut\n{}", cluster.outputs());
    std::thread::sleep(Duration::from_secs(3));
    for host in cut {
        cluster.hosts.heal(*host);
    }
    std::thread::sleep(Duration::from_secs(4));
    eventually("each lost pod counts once", SOON, || {
        let pods = read_journal(&journal(cluster)).len();
        (cluster.job(asked_from, name)?["status"]["failed"] == pods - 6).then_some(())
    });
    let pods = read_journal(&journal(cluster));
    let gap = assert_no_overlap(&pods);
    println!("{name}: {} pods, smallest gap between two pods of one index {gap:.2} s", pods.len());
    assert!(gap.is_finite() && gap > 0.0);
}

#[test]
fn a_pod_that_double_forks_does_not_outlive_the_lease_of_an_agent_that_was_killed() {
    let mut cluster = stint_tests::Cluster::start(stint_tests::ClusterOptions::with_shortest_lease(1, 1));
    let marker = "84628462";
    let script = format!("(setsid sh -c 'sleep {marker} & sleep {marker}' &) ; sleep {marker}");
    cluster.apply(&shell_job("escapes", &[], &script));
    eventually("all of them run", SOON, || (crate::job_behaviour::processes_with(marker) >= 4).then_some(()));
    cluster.kill_agent("w1");
    // A13: the agent's deadline, counted from its last heartbeat, is 3.5 s after that for a lease of 5 s. By the time that its loss is
    // counted none is left: the count is read first; there is no other node to start a Pod again.
    eventually("nothing is left", Duration::from_millis(3_500 + 500), || {
        let lost = cluster.job("escapes")["status"]["failed"] == 1;
        let left = crate::job_behaviour::processes_with(marker);
        assert!(!lost || left == 0, "{left} processes have outlived the lease");
        (left == 0).then_some(())
    });
}
