//! An agent is restarted and upgraded under running Pods (A13).

use crate::manifests::shell_job;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use stint_tests::{Cluster, ClusterOptions, binary, eventually};

const PODS: u64 = 200;
const SOON: Duration = Duration::from_secs(60);

/// Puts a new file in the place of a program that runs.
fn put_program(path: &Path) {
    let new = path.with_extension("new");
    std::fs::copy(binary("stint-agent"), &new).unwrap();
    std::fs::rename(&new, path).unwrap();
}

/// Opens a fifo once somebody waits for that.
fn open(path: &PathBuf) {
    let mut options = std::fs::File::options();
    options.write(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits());
    eventually("a pod waits at its gate", SOON, || options.open(path).ok());
}

fn uids(cluster: &Cluster) -> BTreeSet<String> {
    let pods = cluster.pods("kept");
    pods.iter().map(|pod| pod["metadata"]["uid"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn two_hundred_pods_outlive_an_upgrade_and_a_crash_of_their_agent() {
    let mut options = ClusterOptions::new(1, 0);
    // Reading 200 pods by the command line while they start takes its time on a busy machine.
    options.node_lease = "20s".to_owned();
    options.agent_arguments.extend(["--max-pods", "250"].map(str::to_owned));
    let mut cluster = Cluster::start(options);
    let program = cluster.folder.path().join("agent-of-this-test");
    put_program(&program);
    cluster.options.agent_program = Some(program.clone());
    cluster.start_agent("w1", &[]);
    cluster.wait_for_agents(SOON);

    // A Pod ends when its gate is opened: whoever reads a fifo waits until somebody opens it to write.
    let script =
        "echo begin $JOB_COMPLETION_INDEX; mkfifo gate; read line < gate; echo end $JOB_COMPLETION_INDEX";
    let lines = [&format!("completions: {PODS}"), &format!("parallelism: {PODS}"), "completionMode: Indexed"];
    cluster.apply(&shell_job("kept", &lines.map(|line| line as &str), script));
    cluster.wait_for_pods("kept", "Running", PODS as usize, SOON);
    let before = uids(&cluster);
    let pods_folder = cluster.data_folder("w1").join("pods");
    let gates: Vec<PathBuf> = before.iter().map(|uid| pods_folder.join(uid).join("work/gate")).collect();
    let quarter = |number: usize| gates.iter().skip(number).step_by(4).for_each(open);
    let succeeded = |cluster: &Cluster, count: u64| {
        eventually("those that have ended are counted", SOON, || {
            (cluster.job("kept")["status"]["succeeded"] == count).then_some(())
        });
        let status = cluster.job("kept")["status"].clone();
        assert!(status["failed"].as_u64().unwrap_or(0) == 0, "{status}");
        assert_eq!(status["active"].as_u64().unwrap_or(0), PODS - count, "{status}");
    };

    // Upgraded: it is told to end, another file is in its place. A quarter of its Pods end meanwhile.
    let began = Instant::now();
    let agent = cluster.agents.get_mut("w1").unwrap();
    agent.signal(Signal::SIGTERM);
    assert!(agent.ended_within(Duration::from_secs(10)).expect("it ends").success());
    println!("an agent with {PODS} pods ended {} ms after SIGTERM", began.elapsed().as_millis());
    put_program(&program);
    quarter(0);
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    cluster.start_agent("w1", &[]);
    succeeded(&cluster, PODS / 4);
    println!("its Pods were accounted for {} ms after the start of the next", began.elapsed().as_millis());
    quarter(1);
    succeeded(&cluster, PODS / 2);

    // Killed.
    cluster.kill_agent("w1");
    quarter(2);
    std::thread::sleep(Duration::from_millis(500));
    cluster.start_agent("w1", &[]);
    succeeded(&cluster, PODS * 3 / 4);
    quarter(3);
    let job = cluster.wait_for_condition("kept", "Complete", SOON);
    assert_eq!(
        (&job["status"]["succeeded"], job["status"]["failed"].as_u64().unwrap_or(0)),
        (&PODS.into(), 0)
    );
    assert_eq!(uids(&cluster), before, "none was started again");

    for pod in cluster.pods("kept") {
        let index =
            pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"].as_str().unwrap();
        let name = pod["metadata"]["name"].as_str().unwrap();
        let log = cluster.stint(&["logs", name]).success();
        assert_eq!(log, format!("begin {index}\nend {index}\n"), "{name}");
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0, "{name}");
    }
}

/// What is submitted while there is no agent waits for the next one: it could only be lost with the lease.
#[test]
fn nothing_is_bound_to_a_node_whose_agent_has_ended() {
    let mut options = ClusterOptions::new(1, 1);
    options.node_lease = "10s".to_owned();
    let mut cluster = Cluster::start(options);
    cluster.wait_for_agents(SOON);
    let agent = cluster.agents.get_mut("w1").unwrap();
    agent.signal(Signal::SIGTERM);
    assert!(agent.ended_within(Duration::from_secs(10)).expect("it ends").success());
    // It does not wait for long until that is written.
    eventually("the node says so", SOON, || {
        let nodes = cluster.stint(&["get", "nodes"]).success();
        nodes.contains("Ready,AgentStopped").then_some(())
    });
    cluster.apply(&shell_job("waits", &["backoffLimit: 0"], "true"));
    let pod = cluster.wait_for_pods("waits", "Pending", 1, SOON).pop().unwrap();
    assert_eq!(pod["spec"]["nodeName"], serde_json::Value::Null, "{pod:#}");
    // Longer than the lease.
    std::thread::sleep(Duration::from_secs(13));
    cluster.start_agent("w1", &[]);
    cluster.wait_for_condition("waits", "Complete", SOON);
    let nodes = cluster.stint(&["get", "nodes"]).success();
    assert!(!nodes.contains("AgentStopped"), "{nodes}");
}
