//! Several agents on one host: users of their Pods, and what they leave behind when they are no more.

use crate::agent_process::{AgentProcess, eventually};
use crate::fake_leader::FakeLeader;
use nix::unistd::geteuid;
use std::path::{Path, PathBuf};

/// Node uid and users of the agent with a data folder, as the host's table has it.
fn entry_of(data_dir: &Path) -> Option<(String, String)> {
    let table = std::fs::read("/run/stint-agent/nodes").ok()?;
    let table = String::from_utf8_lossy(&table).into_owned();
    let fields = |line: &str| {
        let mut fields = line.splitn(3, ' ').map(str::to_owned);
        Some((fields.next()?, fields.next()?, fields.next()?))
    };
    let mut lines = table.split('\0').filter_map(fields);
    lines.find(|(_, _, folder)| Path::new(folder) == data_dir).map(|(uid, users, _)| (uid, users))
}

/// Control groups of a node, in all hierarchies.
fn groups_of(node_uid: &str) -> Vec<PathBuf> {
    let list =
        |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = list(root).chain([root.to_owned()]);
    let groups = hierarchies.map(|hierarchy| hierarchy.join(format!("stint-{node_uid}")));
    groups.filter(|group| group.exists()).collect()
}

#[tokio::test]
async fn agents_of_a_host_share_no_users_and_clear_away_after_each_other() {
    if !geteuid().is_root() {
        println!("not run: only agents of root have users for their Pods");
        return;
    }
    let leaders = [FakeLeader::start().await, FakeLeader::start().await, FakeLeader::start().await];
    let mut first = AgentProcess::registered(&leaders[0]).await;
    let data_dir = std::fs::canonicalize(first.data_dir()).unwrap();
    let (node_uid, users) = entry_of(&data_dir).expect("it is in the table");
    let second = AgentProcess::registered(&leaders[1]).await;
    let (_, others) = entry_of(&std::fs::canonicalize(second.data_dir()).unwrap()).unwrap();
    assert_ne!(users, others);
    // Who asks for users that another has is told so.
    let third = tempfile::tempdir().unwrap();
    let output = first.command().current_dir(third.path()).args(["--pod-uids", &users]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let named = format!("overlaps with {users}, which the agent of {}", data_dir.display());
    assert!(!output.status.success() && said.contains("--pod-uids") && said.contains(&named), "{said}");
    // The next agent of a folder has the same, and as long as the folder is there nothing of the node is touched.
    first.kill();
    first.start();
    leaders[0].registration(1).await;
    assert_eq!(entry_of(&data_dir), Some((node_uid.clone(), users)));
    first.kill();
    let before = groups_of(&node_uid);
    let another = AgentProcess::registered(&leaders[2]).await;
    assert!(groups_of(&node_uid) == before && entry_of(&data_dir).is_some());
    drop(another);
    std::fs::remove_dir_all(&data_dir).unwrap();
    let is_cleared = || entry_of(&data_dir).is_none() && groups_of(&node_uid).is_empty();
    // Each agent that starts tries it.
    for _ in 0..20 {
        let mut agent = AgentProcess::new("127.0.0.1:1");
        agent.start();
        let own = agent.data_dir();
        eventually("it is in the table", || {
            std::fs::canonicalize(&own).is_ok_and(|own| entry_of(&own).is_some())
        })
        .await;
        if is_cleared() {
            break;
        }
    }
    assert!(is_cleared(), "{:?} {:?}", entry_of(&data_dir), groups_of(&node_uid));
}
