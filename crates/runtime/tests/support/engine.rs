//! A container engine of the tests' own: its folders, its socket, its images.
//!
//! Shared by the tests of several packages by `#[path]`; not all of them use all of it.
#![allow(dead_code, reason = "each test binary uses another part")]

#[path = "stops.rs"]
mod stops;

use crate::images;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Image of most cases.
pub const BUSYBOX: &str = "stint.test/busybox:1";
/// Runs as user 1000 and is stopped by SIGUSR1.
pub const STOPPED_BY_USR1: &str = "stint.test/usr1:1";
const PAUSE: &str = "stint.test/pause:1";
/// Where Debian has network plug-ins.
const PLUGINS: &str = "/usr/lib/cni";

/// Of the Pods that have a network of their own.
fn bridge() -> String {
    format!("stint{}", std::process::id())
}

/// A containerd that runs. Dropping it ends it and removes all that it made.
pub struct Engine {
    process: Mutex<Child>,
    folder: tempfile::TempDir,
}

impl Engine {
    /// Starts one that runs containers; or says why that is not possible here.
    pub fn start() -> Result<Engine, String> {
        for program in ["containerd", "ctr", "runc"] {
            if !has_program(program) {
                return Err(format!("no {program}"));
            }
        }
        if !Path::new(images::BUSYBOX).exists() {
            return Err("no busybox-static".to_owned());
        }
        if !nix::unistd::geteuid().is_root() {
            return Err("not root".to_owned());
        }
        // Sockets have short paths.
        let folder = tempfile::Builder::new().prefix("stint-cri").tempdir_in("/tmp").unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{PLUGINS}"
  conf_dir = "{networks}"
"#,
            networks = path("networks"),
            root = path("root"),
            state = path("state"),
            socket = path("sock"),
        );
        fs::write(folder.path().join("config.toml"), config).unwrap();
        fs::create_dir(folder.path().join("networks")).unwrap();
        let network = serde_json::json!({
            "cniVersion": "0.4.0", "name": "stint-test",
            "plugins": [{
                "type": "bridge", "bridge": bridge(), "isGateway": false,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.213.77.0/24"}]], "dataDir": path("addresses")},
            }],
        });
        if Path::new(PLUGINS).join("bridge").exists() {
            fs::write(folder.path().join("networks/test.conflist"), network.to_string()).unwrap();
        }
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let process = Mutex::new(spawn(folder.path(), log));
        let engine = Engine { process, folder };
        engine.wait_until_ready()?;
        let pause = serde_json::json!({"Entrypoint": ["/bin/sleep", "2147483647"]});
        engine.import(PAUSE, pause);
        engine.import_all();
        engine.try_container()?;
        Ok(engine)
    }

    /// Hosts that are containers themselves often let an engine start, and none of its containers.
    fn try_container(&self) -> Result<(), String> {
        let output =
            self.ctr().args(["run", "--rm", "--net-host", BUSYBOX, "stint-tests-probe", "true"]).output();
        let output = output.map_err(|error| format!("ctr: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("containerd runs no containers here: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// What cases run; to be called again by one that has removed images.
    pub fn import_all(&self) {
        self.import(BUSYBOX, serde_json::json!({"Cmd": ["/bin/sh"], "Env": ["PATH=/bin", "OF_IMAGE=1"]}));
        let usr1 = serde_json::json!({"Env": ["PATH=/bin"], "StopSignal": "SIGUSR1", "User": "1000"});
        self.import(STOPPED_BY_USR1, usr1);
    }

    /// Ends it in good order, and starts it again: what it runs goes on.
    pub fn restart(&self) {
        self.terminate();
        let log = fs::File::options().append(true).open(self.folder.path().join("log")).unwrap();
        *self.process.lock().unwrap() = spawn(self.folder.path(), log);
        self.wait_until_ready().unwrap();
    }

    fn terminate(&self) {
        let mut process = self.process.lock().unwrap();
        let _ = kill(Pid::from_raw(i32::try_from(process.id()).unwrap()), Signal::SIGTERM);
        let _ = process.wait();
    }

    /// Takes its sandboxes out of its books, of which its other containers stay.
    pub fn lose_sandboxes(&self) {
        self.remove_of_kind("sandbox");
    }

    /// Has it not load what it has of a Pod, or of one container of it, when it starts again: that goes on, and it does not list it.
    pub fn lose_sight_of(&self, pod_uid: &str, container: Option<&str>) {
        let of_pod = format!(r#"labels."stint.pod-uid"=={pod_uid}"#);
        let ids = match container {
            Some(name) => self.select(&format!(r#"{of_pod},labels."stint.container"=={name}"#)),
            None => self.select(&of_pod),
        };
        assert!(!ids.is_empty(), "{pod_uid} {container:?}");
        for id in ids {
            let label = ["containers", "label", &id, "io.cri-containerd.kind=lost"];
            let output = self.ctr().args(label).output().unwrap();
            assert!(output.status.success(), "{id}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }

    /// Removes what it lost sight of, which has ended.
    pub fn remove_lost(&self) {
        self.remove_of_kind("lost");
    }

    fn remove_of_kind(&self, kind: &str) {
        for id in self.select(&format!(r#"labels."io.cri-containerd.kind"=={kind}"#)) {
            // The engine may have noticed its end before, and removed it.
            let _ = self.ctr().args(["tasks", "rm", "--force", &id]).output().unwrap();
            let output = self.ctr().args(["containers", "rm", &id]).output().unwrap();
            assert!(output.status.success(), "{id}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }

    /// Ids of containers by a filter of containerd's.
    fn select(&self, filter: &str) -> Vec<String> {
        let output = self.ctr().args(["containers", "list", "--quiet", filter]).output().unwrap();
        assert!(output.status.success(), "{filter}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    /// For the runtime.
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("sock")
    }

    fn wait_until_ready(&self) -> Result<(), String> {
        let begun = Instant::now();
        while UnixStream::connect(self.socket()).is_err() {
            let has_ended = !matches!(self.process.lock().unwrap().try_wait(), Ok(None));
            if has_ended || begun.elapsed() > Duration::from_secs(60) {
                let log = self.log();
                return Err(format!("containerd does not start: {}", log.lines().last().unwrap_or_default()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.socket()).args(["--namespace", "k8s.io"]);
        command
    }

    fn import(&self, name: &str, config: serde_json::Value) {
        let file = self.folder.path().join("image.tar");
        images::TestImage::busybox(config).write_archive(&file, name);
        let output = self.ctr().args(["images", "import"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "import {name}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Ids of the containers that the engine has, sandboxes included.
    pub fn containers(&self) -> Vec<String> {
        self.list().unwrap()
    }

    /// What the engine says of a container and of its task, to find out why it is still there.
    pub fn describe(&self, id: &str) -> String {
        let said = |arguments: &[&str]| {
            let output = self.ctr().args(arguments).output();
            output.map_or_else(
                |error| error.to_string(),
                |output| String::from_utf8_lossy(&output.stdout).into_owned(),
            )
        };
        let info = said(&["containers", "info", id]);
        let tasks = said(&["tasks", "list"]);
        let task = tasks.lines().find(|line| line.starts_with(id)).unwrap_or("no task");
        format!("{task}\n{info}")
    }

    fn list(&self) -> Result<Vec<String>, String> {
        let output = self.ctr().args(["containers", "list", "--quiet"]).output();
        let output = output.map_err(|error| format!("ctr: {error}"))?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }

    /// First parts of the control groups of containers.
    fn group_parents(&self, containers: &[String]) -> BTreeSet<String> {
        let told = containers.iter().filter_map(|id| {
            let output = self.ctr().args(["containers", "info", id]).output().ok()?;
            let info: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
            let path = info["Spec"]["linux"]["cgroupsPath"].as_str()?.trim_start_matches('/');
            path.split('/').next().filter(|first| first.starts_with("stint-")).map(str::to_owned)
        });
        told.collect()
    }

    /// Why Pods can't have a network of their own.
    pub fn lacks_network(&self) -> Option<&'static str> {
        let is_set_up = self.folder.path().join("networks/test.conflist").exists();
        (!is_set_up).then_some("no network plug-ins: install containernetworking-plugins")
    }

    /// Stops it, until the result is dropped.
    pub fn freeze(&self) -> Frozen {
        let pid = Pid::from_raw(i32::try_from(self.process.lock().unwrap().id()).unwrap());
        stops::stop(pid);
        Frozen(pid)
    }
}

/// An engine that is stopped.
pub struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It may not have started.
        let containers = self.list().unwrap_or_default();
        let mut groups = self.group_parents(&containers);
        // What the tests of the runtime name their nodes.
        groups.insert(format!("stint-{:08x}", std::process::id()));
        self.terminate();
        // Containers and their shims outlive their engine. All of them have its folder in their arguments.
        for pid in processes_of(self.folder.path()) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        unmount_below(self.folder.path());
        // Made with the first Pod that has such a network.
        let _ = Command::new("ip").args(["link", "delete", &bridge()]).stderr(Stdio::null()).status();
        remove_groups(&groups);
        if !containers.is_empty() {
            eprintln!("containers were left: {containers:?}");
        }
    }
}

fn spawn(folder: &Path, log: fs::File) -> Child {
    let mut command = Command::new("containerd");
    command.arg("--config").arg(folder.join("config.toml")).stdout(Stdio::null()).stderr(log);
    command.spawn().unwrap()
}

fn has_program(name: &str) -> bool {
    let command = format!("command -v {name}");
    Command::new("sh").args(["-c", &command]).output().is_ok_and(|output| output.status.success())
}

fn processes_of(folder: &Path) -> Vec<Pid> {
    let folder = folder.display().to_string();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let arguments = fs::read(entry.path().join("cmdline")).ok()?;
            String::from_utf8_lossy(&arguments).contains(&folder).then_some(Pid::from_raw(pid))
        })
        .collect()
}

/// Ends what cases that failed left in their control groups, and removes these.
fn remove_groups(prefixes: &BTreeSet<String>) {
    let find = |directory: PathBuf| {
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
    };
    let roots = find(PathBuf::from("/sys/fs/cgroup")).chain([PathBuf::from("/sys/fs/cgroup")]);
    let ours: Vec<_> = roots
        .flat_map(find)
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            prefixes.iter().any(|prefix| name.starts_with(prefix))
        })
        .collect();
    for parent in ours {
        let mut directories = vec![parent];
        let mut next = 0;
        while let Some(directory) = directories.get(next).cloned() {
            directories.extend(find(directory).filter(|path| path.is_dir()));
            next += 1;
        }
        for directory in directories.iter().rev() {
            let _ = fs::write(directory.join("freezer.state"), "THAWED");
            let members = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            for pid in members.lines().filter_map(|line| line.parse().ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
        for directory in directories.iter().rev() {
            let _ = fs::remove_dir(directory);
        }
    }
}

fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut points: Vec<_> = points.filter(|point| point.starts_with(folder)).collect();
    points.sort();
    for point in points.iter().rev() {
        let _ = umount2(point, MntFlags::MNT_DETACH);
    }
}
