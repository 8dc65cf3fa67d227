//! A disk without room. Needs root, to mount one.

use crate::agent_process::{AgentProcess, eventually, new_pod, to_run};
use crate::fake_leader::FakeLeader;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use stint_api::PodUid;
use stint_proto::v1;

/// A disk of 1 MiB at the place of a folder, until it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf) -> Option<SmallDisk> {
        std::fs::create_dir_all(&path).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(&path).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(SmallDisk(path))
    }

    /// Leaves no byte free.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filling")).unwrap();
        while file.write_all(&[0; 4_096]).is_ok() {}
        while file.write_all(&[0]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("filling")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test]
async fn a_full_disk_delays_starts_and_drops_output_and_ends_nothing() {
    const PODS: usize = 200;
    let leader = FakeLeader::start().await;
    let mut agent = AgentProcess::new(&leader.address);
    let Some(disk) = SmallDisk::mount(agent.data_dir()) else {
        println!("not shown: this user may not mount a disk");
        return;
    };
    agent.start();
    leader.registration(0).await;
    leader.until("a heartbeat", |state| (!state.heartbeats.is_empty()).then_some(())).await;
    let talkative = new_pod();
    let script = "while [ ! -e stop ]; do seq 1 300; sleep 0.02; done; exit 3";
    leader.order(to_run(talkative, 1, script));
    leader.running(talkative).await;
    disk.fill();
    let pods: Vec<PodUid> = (0..PODS).map(|_| new_pod()).collect();
    let parts = pods.iter().map(|pod| to_run(*pod, 1, "exit 4")).chain([to_run(talkative, 1, script)]);
    let set = v1::DesiredSet { revision: 2, pods: parts.collect(), gone_pods: Vec::new(), more: false };
    leader.say(v1::server_message::Message::DesiredSet(set));
    eventually("it says so", || agent.output().contains("make room")).await;
    let seen = leader.state().heartbeats.len();
    leader.until("further heartbeats", |state| (state.heartbeats.len() >= seen + 3).then_some(())).await;
    let ended = || {
        let state = leader.state();
        let kinds = state.reports.iter().filter_map(|(_, report)| report.kind.as_ref());
        let exited = kinds.filter_map(|kind| match kind {
            v1::pod_report::Kind::Exited(exited) => exited.termination.clone(),
            _ => None,
        });
        exited.collect::<Vec<_>>()
    };
    let before = ended();
    assert!(before.len() < PODS, "{} have ended", before.len());
    assert!(before.iter().all(|termination| termination.exit_code == 4), "{before:?}");
    disk.make_room();
    eventually("all have run", || ended().len() == PODS).await;
    let [folder, _] = agent.folders_of(talkative);
    std::fs::write(folder.join("stop"), "").unwrap();
    assert_eq!(leader.exit_code(talkative, 0).await, 3);
    let message = ended().into_iter().find(|termination| termination.exit_code == 3).unwrap().message;
    assert!(message.contains("bytes of output could not be kept"), "{message:?}");
    assert_eq!(leader.state().registers.len(), 1);
    tokio::time::sleep(Duration::from_millis(100)).await;
    agent.kill();
}
