//! A drain shows each Pod as it ends.

use super::SOON;
use crate::manifests::shell_job;
use stint_tests::{Cluster, ClusterOptions, eventually};

#[test]
fn a_drain_tells_of_each_pod_that_ends() {
    let cluster = Cluster::start(ClusterOptions::new(1, 1));
    let slow = "trap 'sleep 1; exit 1' TERM; echo ready; while :; do sleep 0.1; done";
    let manifest = shell_job("slow", &["completions: 3", "parallelism: 3"], slow);
    // A grace that a busy machine does not use up.
    cluster.apply(&manifest.replace("terminationGracePeriodSeconds: 2", "terminationGracePeriodSeconds: 60"));
    let pods = cluster.wait_for_pods("slow", "Running", 3, SOON);
    for pod in &pods {
        let name = pod["metadata"]["name"].as_str().unwrap();
        eventually("its trap is set", SOON, || {
            (cluster.stint(&["logs", name]).stdout == "ready\n").then_some(())
        });
    }
    let drained = cluster.stint(&["drain", "node/w1"]);
    assert_eq!((drained.code, drained.stdout.as_str()), (0, "node/w1 drained\n"), "{drained:?}");
    assert!(drained.stderr.contains("waiting for pods of node \"w1\": default/slow-"), "{drained:?}");
    for pod in &pods {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let line = format!("pod default/{name} has ended, ");
        assert_eq!(drained.stderr.matches(&line).count(), 1, "{drained:?}");
    }
    for left in 0..3 {
        assert!(drained.stderr.contains(&format!("has ended, {left} left\n")), "{drained:?}");
    }
    let told = cluster.stint(&["history", "slow"]).success();
    assert_eq!(told.matches("node w1 is drained: it is stopped").count(), 3, "J17: {told}");
    assert_eq!(told.matches("   operator (drain)   slow-").count(), 3, "{told}");
    assert_eq!(told.matches("container main ended with 1; failure ").count(), 3, "J17: {told}");
    // Their agent's words; of Pods that are deleted it is not known any more where they ran.
    assert_eq!(told.matches("PodFailed    agent ").count(), 3, "{told}");
    // There is nothing left to wait for.
    let again = cluster.stint(&["drain", "w1"]);
    assert_eq!((again.code, again.stderr.as_str()), (0, ""), "{again:?}");
}
