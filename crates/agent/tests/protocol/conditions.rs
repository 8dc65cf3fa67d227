//! What an agent says of its node while it runs.

use crate::agent_process::AgentProcess;
use crate::disk::SmallDisk;
use crate::fake_leader::FakeLeader;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use stint_proto::v1;

/// Longer than looks, the time for which a pressure must be over, and a slow machine take together.
const PATIENCE: Duration = Duration::from_secs(90);

fn status_of(conditions: &[v1::NodeCondition], kind: &str) -> Option<v1::ConditionStatus> {
    conditions.iter().find(|condition| condition.r#type == kind).map(v1::NodeCondition::status)
}

/// What was said last of the disk, once it is this.
async fn said(leader: &FakeLeader, wanted: v1::ConditionStatus) -> v1::NodeCondition {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let last = leader.state().conditions.last().cloned().unwrap_or_default();
        assert!(last.conditions.is_empty() || last.incarnation == leader.incarnation());
        let of_disk = last.conditions.into_iter().find(|condition| condition.r#type == "DiskPressure");
        if let Some(condition) = of_disk.filter(|condition| condition.status() == wanted) {
            return condition;
        }
        assert!(Instant::now() < deadline, "not said: DiskPressure {wanted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_disk_that_fills_up_is_told_of_and_so_is_one_that_has_room_again() {
    let leader = FakeLeader::start().await;
    let mut agent = AgentProcess::new(&leader.address);
    let Some(mut disk) = SmallDisk::of(&agent) else { return };
    agent.start();
    let registered = leader.registration(0).await.conditions;
    assert_eq!(status_of(&registered, "DiskPressure"), Some(v1::ConditionStatus::False), "{registered:?}");
    assert!(status_of(&registered, "MemoryPressure").is_some(), "{registered:?}");
    leader.until("a heartbeat", |state| (!state.heartbeats.is_empty()).then_some(())).await;
    assert!(leader.state().conditions.is_empty(), "nothing has changed");
    disk.fill();
    let condition = said(&leader, v1::ConditionStatus::True).await;
    assert_eq!(condition.reason, "AgentHasDiskPressure");
    let folder = agent.data_dir();
    assert!(condition.message.contains(&folder.display().to_string()), "{}", condition.message);
    // Another leader is not told what the last has acknowledged, unless it changes.
    leader.break_off();
    leader.until("it resumes", |state| (!state.resumes.is_empty()).then_some(())).await;
    disk.make_room();
    let condition = said(&leader, v1::ConditionStatus::False).await;
    assert_eq!(condition.reason, "AgentHasNoDiskPressure");
    assert_eq!(leader.state().conditions.len(), 2, "each change is told once");
    assert_eq!(leader.state().registers.len(), 1);
    agent.kill();
}

#[tokio::test]
async fn what_no_leader_has_acknowledged_is_told_to_the_next() {
    let leader = FakeLeader::start().await;
    let mut agent = AgentProcess::new(&leader.address);
    let Some(mut disk) = SmallDisk::of(&agent) else { return };
    leader.state().acknowledges = false;
    agent.start();
    leader.registration(0).await;
    leader.until("a heartbeat", |state| (!state.heartbeats.is_empty()).then_some(())).await;
    disk.fill();
    said(&leader, v1::ConditionStatus::True).await;
    let told = leader.state().conditions.len();
    leader.break_off();
    leader.until("it is told again", |state| (state.conditions.len() > told).then_some(())).await;
    said(&leader, v1::ConditionStatus::True).await;
    agent.kill();
}

#[tokio::test]
async fn a_folder_that_pods_can_not_reach_is_refused_at_the_start() {
    if !nix::unistd::geteuid().is_root() {
        println!("not shown: Pods of this agent are its own user");
        return;
    }
    let leader = FakeLeader::start().await;
    let closed = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::set_permissions(closed.path(), Permissions::from_mode(0o700)).unwrap();
    let mut agent = AgentProcess::new(&leader.address);
    let data_dir = closed.path().canonicalize().unwrap().join("data");
    agent.data.clone_from(&data_dir);
    agent.start();
    let status = agent.ended_within(PATIENCE).await.expect("it ends by itself");
    assert!(!status.success());
    let said = agent.output();
    let expected = format!("the data folder {}: is out of reach of pods", data_dir.display());
    assert!(said.contains(&expected) && said.contains("chmod o+x "), "{said}");
    assert!(leader.state().registers.is_empty(), "it has not come to the servers");
}
