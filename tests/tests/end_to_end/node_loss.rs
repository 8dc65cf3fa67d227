//! A host is lost: its Pods fail once each, start again elsewhere, and count against backoffLimit (D2, R5).

use crate::manifests::shell_job;
use std::time::{Duration, Instant};
use stint_tests::{Cluster, ClusterOptions, eventually};

/// For what comes before a loss.
const SOON: Duration = Duration::from_secs(90);
/// `--node-lease` of most of these tests plus `expiry_grace` plus the second that an expiry may take.
const LOSS_SEEN_WITHIN: Duration = Duration::from_millis(5000 + 500 + 1000);
/// The same at the default lease.
const LOSS_SEEN_WITHIN_BY_DEFAULT: Duration = Duration::from_millis(10_000 + 500 + 1000);
/// What reading by the command line may take on a busy machine.
const READING: Duration = Duration::from_millis(700);

#[test]
fn a_lost_nodes_pods_fail_once_and_run_again_elsewhere() {
    let mut cluster = Cluster::start(ClusterOptions::with_shortest_lease(3, 2));
    let lines = ["completions: 4", "parallelism: 4", "completionMode: Indexed"];
    cluster.apply(&shell_job("lost", &lines, "sleep 300"));
    let running = cluster.wait_for_pods("lost", "Running", 4, SOON);
    let on = |pods: &[serde_json::Value], node: &str| {
        pods.iter().filter(|pod| pod["spec"]["nodeName"] == node).count()
    };
    let (lost_node, kept_node) = ("w1", "w2");
    let lost = on(&running, lost_node);
    assert!(lost > 0 && lost < 4, "pods are spread over the nodes: {lost} on {lost_node}");

    let killed_at = Instant::now();
    cluster.kill_agent(lost_node);
    let failed = cluster.wait_for_pods("lost", "Failed", lost, LOSS_SEEN_WITHIN + READING);
    let seen_after = killed_at.elapsed();
    println!("node lost: seen after {} ms", seen_after.as_millis());
    for pod in &failed {
        assert_eq!(pod["status"]["reason"], "NodeLost", "{pod:#}");
        let disrupted = stint_tests::cluster::condition(pod, "DisruptionTarget").unwrap();
        assert_eq!((&disrupted["status"], &disrupted["reason"]), (&"True".into(), &"NodeLost".into()));
    }
    eventually("replacements on the other node", Duration::from_secs(1) + READING, || {
        let pods = cluster.pods("lost");
        let running: Vec<_> = pods.into_iter().filter(|pod| pod["status"]["phase"] == "Running").collect();
        (running.len() == 4 && on(&running, kept_node) == 4).then_some(())
    });
    let job = cluster.job("lost");
    assert_eq!(job["status"]["failed"], lost, "each loss counts once");
    assert_eq!(job["status"]["active"], 4);
}

#[test]
fn at_the_default_lease_a_lost_pod_runs_elsewhere_within_seconds() {
    let mut options = ClusterOptions::new(1, 2);
    options.node_lease = "10s".to_owned();
    let mut cluster = Cluster::start(options);
    cluster.apply(&shell_job("default-lease", &[], "sleep 300"));
    let running = cluster.wait_for_pods("default-lease", "Running", 1, SOON);
    let node = running[0]["spec"]["nodeName"].as_str().unwrap().to_owned();
    let killed_at = Instant::now();
    cluster.kill_agent(&node);
    let failed = cluster.wait_for_pods("default-lease", "Failed", 1, LOSS_SEEN_WITHIN_BY_DEFAULT + READING);
    assert_eq!(failed[0]["status"]["reason"], "NodeLost");
    let replacements = cluster.wait_for_pods("default-lease", "Running", 1, Duration::from_secs(1) + READING);
    println!("default lease: a replacement was seen running after {} ms", killed_at.elapsed().as_millis());
    assert_ne!(replacements[0]["spec"]["nodeName"], node.as_str(), "D2: it avoids the lost node");
}

#[test]
fn a_loss_with_backoff_limit_zero_fails_the_job() {
    let mut cluster = Cluster::start(ClusterOptions::with_shortest_lease(1, 1));
    cluster.apply(&shell_job("no-retry", &["backoffLimit: 0"], "sleep 300"));
    cluster.wait_for_pods("no-retry", "Running", 1, SOON);
    cluster.kill_agent("w1");
    let job = cluster.wait_for_condition("no-retry", "Failed", LOSS_SEEN_WITHIN + READING);
    let failed = stint_tests::cluster::condition(&job, "Failed").unwrap();
    assert_eq!(failed["reason"], "BackoffLimitExceeded");
    assert_eq!(failed["message"], "Job has reached the specified backoff limit");
    assert_eq!(job["status"]["failed"], 1);
}

#[test]
fn a_job_whose_node_is_lost_again_and_again_fails_at_the_limit() {
    let mut cluster = Cluster::start(ClusterOptions::with_shortest_lease(1, 1));
    cluster.apply(&shell_job("unlucky", &["backoffLimit: 2"], "sleep 300"));
    for loss in 1..=3 {
        cluster.wait_for_pods("unlucky", "Running", 1, SOON);
        cluster.kill_agent("w1");
        eventually("the loss is counted", LOSS_SEEN_WITHIN + READING, || {
            (cluster.job("unlucky")["status"]["failed"] == loss).then_some(())
        });
        let failed = stint_tests::cluster::condition(&cluster.job("unlucky"), "Failed");
        assert_eq!(failed.is_some(), loss == 3, "after {loss} losses: {failed:?}");
        cluster.start_agent("w1", &[]);
    }
    let job = cluster.job("unlucky");
    assert_eq!(stint_tests::cluster::condition(&job, "Failed").unwrap()["reason"], "BackoffLimitExceeded");
    assert_eq!(job["status"]["failed"], 3);
}
