//! `explain`, `history`, `tree`, `describe` and `events` on one cluster.

use super::SOON;
use crate::manifests::shell_job;
use serde_json::Value;
use stint_tests::{Cluster, ClusterOptions, eventually};

fn explained(cluster: &Cluster, target: &str, expected: &str) -> String {
    eventually(expected, SOON, || {
        let told = cluster.stint(&["explain", target]).success();
        told.contains(expected).then_some(told)
    })
}

#[test]
fn why_jobs_and_pods_are_as_they_are_is_told() {
    let cluster = Cluster::start(ClusterOptions::new(1, 2));
    what_waits_for_a_node(&cluster);
    what_is_suspended_resumed_and_runs(&cluster);
    what_failed(&cluster);
    an_index_and_its_attempts(&cluster);
    events(&cluster);
}

fn what_waits_for_a_node(cluster: &Cluster) {
    let huge = shell_job("huge", &["activeDeadlineSeconds: 3600"], "true");
    let huge = huge.replace("image: none", "image: none\n        resources: {requests: {cpu: 1000}}");
    cluster.apply(&huge);
    let told = explained(cluster, "job/huge", "Of 2 nodes none takes it:");
    assert!(told.starts_with("job huge does not run: 1 pod waits for a node: 0/2 nodes are"), "{told}");
    assert!(told.contains("Cpu: 2 nodes have too little CPU, even when empty: 1000 asked for"), "{told}");
    assert!(told.contains("It asks a node for cpu 1000, memory 0."), "{told}");
    assert!(told.contains("No other pod that waits comes before it."), "{told}");
    assert!(told.contains("its activeDeadlineSeconds are over and it fails (until 20"), "{told}");
    let pod = cluster.pods("huge")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let told = explained(cluster, &format!("pod/{pod}"), "waits for a node");
    assert!(told.contains("[w1, w2]"), "{told}");

    let picky = shell_job("picky", &[], "true");
    let picky = picky.replace("containers:", "nodeSelector: {disk: ssd}\n      containers:");
    cluster.apply(&picky);
    let told = explained(cluster, "picky", "Selector: 2 nodes have not the labels of the node selector");
    assert!(told.contains("node selector disk=ssd"), "{told}");
    assert!(told.contains("1 pod that waits comes before it."), "{told}");
    cluster.stint(&["cordon", "w1"]).success();
    let told = explained(cluster, "picky", "Cordoned: 1 node is cordoned [w1]");
    assert!(told.contains("Selector: 1 node has not the labels of the node selector [w2]"), "{told}");
    cluster.stint(&["uncordon", "w1"]).success();
    let json = cluster.json(&["explain", "job/picky", "-o", "json"]);
    assert_eq!((&json["state"], &json["placement"]["nodes"]), (&"Waiting".into(), &2.into()));
    assert_eq!(json["reasons"][0]["reason"], "WaitingForNode");
    cluster.stint(&["delete", "job/huge", "job/picky"]).success();
}

fn what_is_suspended_resumed_and_runs(cluster: &Cluster) {
    let paused = |suspend| {
        shell_job(
            "paused",
            &[&format!("suspend: {suspend}"), "completions: 4", "parallelism: 2"],
            "sleep 600",
        )
    };
    cluster.apply(&paused(true));
    explained(cluster, "job/paused", "job paused does not run: it is suspended");
    cluster.apply(&paused(false));
    cluster.wait_for_pods("paused", "Running", 2, SOON);
    let told = explained(cluster, "job/paused", "job paused runs: 2 pods run");
    assert!(told.contains("4 of 4 completions are left, and parallelism allows 2 pods at a time"), "{told}");
    let pod = cluster.pods("paused")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(explained(cluster, &format!("pod/{pod}"), "runs: it runs on node w").contains(" since "));
    cluster.stint(&["delete", "pod", &pod]).success();
    cluster.apply(&paused(true));
    let told = eventually("all decisions are told", SOON, || {
        let told = cluster.stint(&["history", "job/paused"]).success();
        (told.matches("PodsStopped").count() == 1).then_some(told)
    });
    let words = decisions(&told);
    // J100, J101, J17: in this order, whatever lies between.
    let expected = ["Created", "Suspended", "Updated", "Resumed", "PodDeleted", "Updated", "Suspended"];
    let mut at = 0;
    for word in &words {
        at += usize::from(expected.get(at) == Some(word));
    }
    assert_eq!(at, expected.len(), "{told}");
    assert!(told.contains("suspend: true → false") && told.contains("somebody deleted it"), "{told}");
    let json = cluster.json(&["history", "job/paused", "-o", "json"]);
    let by = |reason: &str| {
        let all = json["decisions"].as_array().unwrap().iter();
        all.filter(|one| one["reason"] == reason).map(|one| one["by"].as_str().unwrap().to_owned()).next()
    };
    for (reason, expected) in [
        ("Created", "client"),
        ("Resumed", "client"),
        ("PodDeleted", "client"),
        // Of Pods that are deleted it is not known any more where they ran.
        ("PodFailed", "agent"),
        ("PodsStopped", "controller"),
    ] {
        let by = by(reason);
        assert!(by.as_ref().is_some_and(|by| by.starts_with(expected)), "{reason}: {by:?}, {told}");
    }
    cluster.stint(&["delete", "job/paused"]).success();
}

/// The words of the second column.
fn decisions(told: &str) -> Vec<&str> {
    told.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect()
}

fn what_failed(cluster: &Cluster) {
    cluster.apply(&shell_job("fails", &["backoffLimit: 1"], "echo the last words; exit 7"));
    let told = explained(cluster, "job/fails", "it backs off after 1 failure in a row");
    assert!(told.contains("1 failure so far: the next one fails it (backoffLimit 1)"), "{told}");
    cluster.wait_for_condition("fails", "Failed", SOON);
    let told = explained(cluster, "fails", "job fails has failed, since ");
    assert!(told.contains("BackoffLimitExceeded"), "{told}");
    let pod = cluster.pods("fails")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    explained(cluster, &format!("po/{pod}"), "a container ended with exit code 7");

    let told = cluster.stint(&["history", "fails"]).success();
    assert_eq!(told.matches("container main ended with 7").count(), 2, "{told}");
    assert!(told.contains("failure 1 with a backoffLimit of 1: no new pod for 10s"), "{told}");
    assert!(told.contains("failure 2, more than the backoffLimit of 1"), "{told}");
    let words = decisions(&told);
    assert_eq!((words.first(), words.last()), (Some(&"Created"), Some(&"Failed")), "{told}");
    let json = cluster.json(&["history", "fails", "-o", "json"]);
    assert_eq!(json["forgotten"], 0);
    let times: Vec<&str> =
        json["decisions"].as_array().unwrap().iter().map(|one| one["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");

    for target in ["job/fails".to_owned(), format!("pod/{pod}")] {
        let shown = cluster.stint(&["describe", &target]).success();
        assert!(shown.contains(", container main):\n  the last words"), "{shown}");
    }
}

fn an_index_and_its_attempts(cluster: &Cluster) {
    let script = "[ $JOB_COMPLETION_INDEX != 1 ] || sleep 600";
    let lines = ["completions: 3", "parallelism: 3", "completionMode: Indexed"];
    cluster.apply(&shell_job("wide", &lines, script));
    cluster.wait_for_pods("wide", "Succeeded", 2, SOON);
    cluster.wait_for_pods("wide", "Running", 1, SOON);
    let shown = cluster.stint(&["tree", "job/wide"]).success();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("POD ") && lines[1].starts_with("job/wide "), "{shown}");
    assert!(lines[1].contains("2/3 complete, 1 active"), "{shown}");
    for (place, index, status) in [(2, 0, "Completed"), (4, 1, "Running"), (6, 2, "Completed")] {
        assert!(lines[place].contains(&format!("─ index {index} (1 attempt)")), "{shown}");
        assert!(lines[place + 1].contains(&format!("└─ wide-{index}-")), "{shown}");
        assert!(lines[place + 1].contains(status), "{shown}");
    }
    let fails = cluster.stint(&["tree", "fails"]).success();
    assert!(fails.contains(" #1 ") && fails.contains(" #2 "), "{fails}");
    assert_eq!(
        fails.lines().filter(|line| line.split_whitespace().any(|word| word == "7")).count(),
        2,
        "{fails}"
    );

    cluster.apply(&shell_job("many", &["completions: 130", "parallelism: 40"], "true"));
    cluster.wait_for_condition("many", "Complete", SOON);
    let shown = cluster.stint(&["tree", "job/many"]).success();
    assert!(shown.ends_with("└─ … 30 more: 30 Completed\n"), "{shown}");
    let all = cluster.stint(&["tree", "job/many", "--all"]).success();
    assert_eq!(all.lines().count(), 132, "the titles, the Job, its Pods: {all}");
}

fn events(cluster: &Cluster) {
    let events = cluster.stint(&["events", "--for", "job/fails"]).success();
    assert!(events.contains("BackoffLimitExceeded") && !events.contains("job/many"), "{events}");
    let json = cluster.json(&["events", "-A", "-o", "json"]);
    assert!(json["items"].as_array().is_some_and(|items| items.iter().any(is_of_a_node)), "{json}");

    // What comes later is shown while it is watched.
    let log = cluster.folder.path().join("events.output");
    let mut command = std::process::Command::new(stint_tests::binary("stint"));
    command.args(["events", "-w", "--for", "job/later"]).env("STINT_SERVER", cluster.addresses());
    let mut watching = stint_tests::Process::start(command, &log);
    cluster.apply(&shell_job("later", &[], "true"));
    eventually("the event is shown", SOON, || watching.output().contains("SuccessfulCreate").then_some(()));
    eventually("the end is shown", SOON, || watching.output().contains("Completed").then_some(()));
    assert!(!watching.output().contains("job/many"), "{}", watching.output());
    assert!(watching.is_running());
    watching.kill();
}

fn is_of_a_node(event: &Value) -> bool {
    event["involvedObject"]["kind"] == "Node" || event["regarding"]["kind"] == "Node"
}
