//! What nodes say of themselves: one whose disk fills up takes no new Pod, and says so.

use crate::manifests::shell_job;
use std::process::Command;
use std::time::Duration;
use stint_tests::{Cluster, ClusterOptions, eventually};

/// Looks at the disk, the time for which it must have had room again, and a slow machine together.
const SOON: Duration = Duration::from_secs(120);

#[test]
fn a_node_whose_disk_fills_up_takes_no_new_pod_until_there_is_room() {
    let mut cluster = Cluster::start(ClusterOptions::new(1, 0));
    let folder = cluster.data_folder("w1");
    std::fs::create_dir_all(&folder).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "none"]).arg(&folder).status();
    if !mount.is_ok_and(|status| status.success()) {
        println!("not shown: this user may not mount a disk");
        return;
    }
    cluster.start_agent("w1", &["--min-free-disk", "20%"]);
    cluster.wait_for_agents(SOON);
    cluster.apply(&shell_job("before", &[], "sleep 1000"));
    cluster.wait_for_pods("before", "Running", 1, SOON);

    std::fs::write(folder.join("filling"), vec![1_u8; 56 << 20]).unwrap();
    let status = |wanted: &'static str| {
        eventually(wanted, SOON, || {
            let nodes = cluster.stint(&["get", "nodes"]).success();
            let line = nodes.lines().find(|line| line.starts_with("w1 "))?.to_owned();
            (line.split_whitespace().nth(1) == Some(wanted)).then_some(())
        });
    };
    status("Ready,DiskPressure");
    let described = cluster.stint(&["describe", "node", "w1"]).success();
    let line = described.lines().find(|line| line.contains("DiskPressure") && line.contains("True"));
    assert!(line.is_some_and(|line| line.contains("64 MiB are free on the disk of")), "{described}");
    assert!(described.contains("NodeHasDiskPressure"), "{described}");
    cluster.apply(&shell_job("after", &[], "true"));
    let why = eventually("it is said why the Pod waits", SOON, || {
        let pod = cluster.pods("after").into_iter().next()?;
        let scheduled = stint_tests::cluster::condition(&pod, "PodScheduled")?;
        scheduled["message"].as_str().map(str::to_owned)
    });
    let expected =
        "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }.";
    assert_eq!(why, expected);
    assert_eq!(cluster.pods("before")[0]["status"]["phase"], "Running", "what runs goes on");

    std::fs::remove_file(folder.join("filling")).unwrap();
    cluster.wait_for_condition("after", "Complete", SOON);
    status("Ready");
}
