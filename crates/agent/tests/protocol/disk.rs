//! Disks: one without room (needs root, to mount it), and Pods that take more of it than they may.

use crate::agent_process::{AgentProcess, alive, eventually, marker, new_pod, to_run};
use crate::fake_leader::FakeLeader;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use stint_api::PodUid;
use stint_proto::v1;

/// A disk of 8 MiB at the place of a folder, until it is dropped.
pub struct SmallDisk {
    folder: PathBuf,
    filler: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl SmallDisk {
    /// For the data of an agent. Says so where there can be none.
    pub fn of(agent: &AgentProcess) -> Option<SmallDisk> {
        let folder = agent.data_dir();
        std::fs::create_dir_all(&folder).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=8m", "none"]).arg(&folder).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk { folder, filler: None });
        }
        println!("not shown: this user may not mount a disk");
        None
    }

    /// Leaves no byte free, and takes what others give back.
    pub fn fill(&mut self) {
        let mut file = std::fs::File::create(self.folder.join("filling")).unwrap();
        let mut take_all = move || {
            while file.write_all(&[0; 4_096]).is_ok() {}
            while file.write_all(&[0]).is_ok() {}
        };
        take_all();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let filler = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                take_all();
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        self.filler = Some((stop, filler));
    }

    fn stop_filling(&mut self) {
        if let Some((stop, filler)) = self.filler.take() {
            stop.store(true, Ordering::Relaxed);
            filler.join().unwrap();
        }
    }

    pub fn make_room(&mut self) {
        self.stop_filling();
        std::fs::remove_file(self.folder.join("filling")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.stop_filling();
        let _ = Command::new("umount").arg("-l").arg(&self.folder).output();
    }
}

#[tokio::test]
async fn a_full_disk_delays_starts_and_drops_output_and_ends_nothing() {
    // More than the page of the journal that is there already has room for.
    const PODS: usize = 400;
    let leader = FakeLeader::start().await;
    let mut agent = AgentProcess::new(&leader.address);
    let Some(mut disk) = SmallDisk::of(&agent) else { return };
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
    std::fs::write(folder.join("work/stop"), "").unwrap();
    assert_eq!(leader.exit_code(talkative, 0).await, 3);
    let message = ended().into_iter().find(|termination| termination.exit_code == 3).unwrap().message;
    assert!(message.contains("bytes of output could not be kept"), "{message:?}");
    assert_eq!(leader.state().registers.len(), 1);
    tokio::time::sleep(Duration::from_millis(100)).await;
    agent.kill();
}

/// Why a Pod failed as a whole; nothing else may have been told of its end.
async fn eviction(leader: &FakeLeader, pod: PodUid) -> v1::PodFailed {
    leader
        .report(pod, "that it failed", |kind| match kind {
            v1::pod_report::Kind::PodFailed(failed) => Some(failed.clone()),
            v1::pod_report::Kind::Exited(_) | v1::pod_report::Kind::StartFailed(_) => panic!("{kind:?}"),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn p4_a_pod_that_takes_more_of_the_disk_than_it_may_is_evicted() {
    let leader = FakeLeader::start().await;
    let mut agent = AgentProcess::new(&leader.address);
    agent.start_with(|command| command.args(["--pod-disk", "1Mi"]));
    leader.registration(0).await;
    leader.until("a heartbeat", |state| (!state.heartbeats.is_empty()).then_some(())).await;
    let (modest, greedy, marker) = (new_pod(), new_pod(), marker());
    leader.order(to_run(
        modest,
        1,
        "head -c 100000 /dev/zero > file; while [ ! -e stop ]; do sleep 0.05; done; exit 3",
    ));
    leader.order(to_run(
        greedy,
        1,
        &format!("trap '' TERM; setsid -f sleep {marker}; head -c 4000000 /dev/zero > file; sleep {marker}; sleep {marker}"),
    ));
    let failed = eviction(&leader, greedy).await;
    assert_eq!(alive(&marker), 0, "nothing of it is left when that is told");
    assert_eq!(failed.reason, "Evicted");
    assert_eq!(
        failed.message,
        "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "
    );
    // How its container ended is known to who killed it.
    let [ended] = &failed.ended[..] else { panic!("{failed:?}") };
    let termination = ended.termination.as_ref().unwrap();
    assert_eq!((ended.container.as_str(), termination.exit_code), ("main", 137));
    assert!(termination.started_at.is_some() && termination.finished_at.is_some(), "{termination:?}");
    // A file without a name takes as much.
    let hiding = new_pod();
    let script = "exec 3>file; rm file; head -c 4000000 /dev/zero >&3; sleep 1000";
    leader.order(to_run(hiding, 1, script));
    assert_eq!(eviction(&leader, hiding).await.reason, "Evicted");
    // One that was taken over is looked at as well.
    agent.kill();
    agent.start_with(|command| command.args(["--pod-disk", "50k"]));
    leader.registration(1).await;
    let failed = eviction(&leader, modest).await;
    assert!(failed.message.ends_with(" 50k. "), "{failed:?}");
}
