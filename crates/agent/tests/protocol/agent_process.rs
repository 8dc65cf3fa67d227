//! A real `stint-agent`, and the Pods that tests give it.
//!
//! Owns: the process and its data folder. Does not own: what it is told.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use stint_api::PodUid;
use stint_proto::uid::uid_to_wire;
use stint_proto::v1;

use crate::fake_leader::FakeLeader;

/// An agent that ends, with everything of it, when it is dropped.
pub struct AgentProcess {
    pub folder: tempfile::TempDir,
    /// Its data folder, relative to `folder`, as people write it.
    pub data: PathBuf,
    servers: String,
    child: Option<Child>,
}

impl AgentProcess {
    /// Starts one and waits for its first registration.
    pub async fn registered(leader: &FakeLeader) -> AgentProcess {
        let mut agent = AgentProcess::new(&leader.address);
        agent.start();
        leader.registration(0).await;
        leader.until("a heartbeat", |state| (!state.heartbeats.is_empty()).then_some(())).await;
        agent
    }

    pub fn new(servers: &str) -> AgentProcess {
        let folder = tempfile::tempdir().unwrap();
        // Pods write their traces there, each as a user of its own.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let trace = folder.path().join("trace");
        std::fs::write(&trace, "").unwrap();
        std::fs::set_permissions(&trace, Permissions::from_mode(0o666)).unwrap();
        AgentProcess { folder, data: PathBuf::from("data"), servers: servers.to_owned(), child: None }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join(&self.data)
    }

    /// Its folder for a Pod, and that of its logs.
    pub fn folders_of(&self, pod: PodUid) -> [PathBuf; 2] {
        ["pods", "logs"].map(|folder| self.data_dir().join(folder).join(pod.to_string()))
    }

    /// The command line of another agent on the same folder.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stint-agent"));
        command
            .args(["--name", "w1", "--server", &self.servers, "--cpu", "4", "--memory", "1Gi"])
            .arg("--data-dir")
            .arg(&self.data)
            .arg("--allow")
            .arg(format!("writable={}", self.folder.path().display()))
            .current_dir(self.folder.path())
            .env("STINT_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    pub fn start(&mut self) {
        let path = self.folder.path().join("output");
        let output = std::fs::File::options().append(true).create(true).open(path).unwrap();
        self.start_with(|command| command.stderr(output));
    }

    /// Starts it with other surroundings.
    pub fn start_with(&mut self, change: impl FnOnce(&mut Command) -> &mut Command) {
        self.child = Some(change(&mut self.command()).spawn().unwrap());
    }

    pub fn output(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    /// SIGSTOP: it does nothing more when this returns.
    pub fn stop(&self) {
        crate::stops::stop(Pid::from_raw(self.pid() as i32));
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits for its end.
    pub async fn ended_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        let child = self.child.as_mut().expect("it runs");
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                self.child = None;
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for AgentProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- output of the agent\n{}", self.output());
        }
        self.kill();
        // What it would have unmounted when its Pods end.
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = text.lines().filter_map(|line| line.split(' ').nth(4));
        for point in points.filter(|point| Path::new(point).starts_with(self.data_dir().join("pods"))) {
            let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A uid that no other Pod has.
pub fn new_pod() -> PodUid {
    PodUid((0x1234 << 64) + u128::from(NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// A number that no other process has in its arguments.
pub fn marker() -> String {
    format!("{}.{}", 80_000 + NEXT.fetch_add(1, Ordering::Relaxed), std::process::id())
}

/// Processes that have a marker in their arguments; zombies have none.
pub fn alive(marker: &str) -> usize {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.windows(marker.len()).any(|part| part == marker.as_bytes())).count()
}

/// Waits for something that the system does in its own time.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What to hold of a Pod that runs a shell script.
pub fn to_run(pod: PodUid, binding_revision: u64, script: &str) -> v1::DesiredPod {
    run_again(pod, binding_revision, script, 0, Duration::ZERO)
}

/// A later run of it.
pub fn run_again(
    pod: PodUid,
    binding_revision: u64,
    script: &str,
    restart_count: u32,
    delay: Duration,
) -> v1::DesiredPod {
    let container = v1::Container {
        name: "main".to_owned(),
        // `$$` is an escape of `$` in commands.
        command: ["/bin/sh", "-c", &script.replace('$', "$$")].map(str::to_owned).to_vec(),
        env: vec![v1::EnvVar {
            name: "STINT_FENCING_TOKEN".to_owned(),
            value: binding_revision.to_string(),
            value_from: None,
        }],
        ..v1::Container::default()
    };
    let run = v1::RunPod {
        pod: Some(v1::PodToRun {
            uid: uid_to_wire(pod),
            namespace: "default".to_owned(),
            name: format!("pod-{}", pod.0 as u64),
            spec: Some(v1::PodSpec { containers: vec![container], ..v1::PodSpec::default() }),
            termination_grace_period_ms: 1_000,
            ..v1::PodToRun::default()
        }),
        containers: vec![v1::ContainerRun {
            name: "main".to_owned(),
            restart_count,
            delay_ms: delay.as_millis() as u64,
            ..v1::ContainerRun::default()
        }],
    };
    v1::DesiredPod {
        pod_uid: uid_to_wire(pod),
        binding_revision,
        action: Some(v1::desired_pod::Action::Run(run)),
    }
}

/// That a Pod should stop.
pub fn to_stop(pod: PodUid, binding_revision: u64, grace: Duration) -> v1::DesiredPod {
    let stop = v1::StopPod { grace_ms: grace.as_millis() as u64 };
    v1::DesiredPod {
        pod_uid: uid_to_wire(pod),
        binding_revision,
        action: Some(v1::desired_pod::Action::Stop(stop)),
    }
}

/// Lines of a file; none if there is no such file.
pub fn lines_of(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// A script that writes the moment down again and again, by CLOCK_BOOTTIME: whoever reads it knows how long it ran, however
/// late they look. One of an agent.
pub fn beats(agent: &AgentProcess) -> String {
    format!(
        "while :; do cat /proc/uptime >> {}; sleep 0.02; done",
        agent.folder.path().join("trace").display()
    )
}

/// When [`beats`] ran for the last time.
pub fn last_beat(agent: &AgentProcess) -> Duration {
    let lines = lines_of(&agent.folder.path().join("trace"));
    let moment = |line: &String| line.split(' ').next()?.parse::<f64>().ok();
    // The last line may have been cut short.
    Duration::from_secs_f64(lines.iter().rev().skip(1).find_map(moment).expect("it has run"))
}

/// A moment of this process by CLOCK_BOOTTIME.
pub fn boot_time(moment: Instant) -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
    Duration::from(now).saturating_sub(moment.elapsed())
}
