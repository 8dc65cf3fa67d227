//! The control groups that an engine puts containers into: finding, stopping and killing what is in them.
//!
//! Owns: paths of groups below one parent, and what is done to the processes there. Does not own: limits, which are the
//! engine's. Nothing here waits for the engine, so all of it also works while that is stopped.
//!
//! A Pod that is *condemned* stays frozen: whatever the engine may still start in it does not run. Freezing before killing also
//! stops programs that make processes faster than they can be listed.

use crate::cgroups::cpu_weight;
use crate::limits;
use crate::shim::sys;
use nix::errno::Errno;
use nix::unistd::Pid;
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Name of the group that marks the one above it as condemned.
const CONDEMNED: &str = "condemned";

/// Name of the group that marks the one above it, a condemned container, as killed: engines start a container once.
const KILLED: &str = "killed";

/// How the engine names control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CgroupDriver {
    /// By paths.
    Cgroupfs,
    /// By slices and scopes of systemd.
    Systemd,
}

impl CgroupDriver {
    /// Path of a parent of Pods' groups, within a hierarchy.
    fn path_of(self, parent: &str) -> PathBuf {
        match self {
            CgroupDriver::Cgroupfs => PathBuf::from(parent),
            CgroupDriver::Systemd => Path::new("stint.slice").join(format!("{parent}.slice")),
        }
    }

    /// One word for it.
    pub fn word(self) -> &'static str {
        match self {
            CgroupDriver::Cgroupfs => "cgroupfs",
            CgroupDriver::Systemd => "systemd",
        }
    }

    /// Of what [`Self::word`] gave.
    pub fn from_word(word: &str) -> Option<CgroupDriver> {
        [CgroupDriver::Cgroupfs, CgroupDriver::Systemd].into_iter().find(|driver| driver.word() == word)
    }
}

/// All control groups of one agent's Pods.
#[derive(Debug, Clone)]
pub(super) struct PodCgroups {
    hierarchies: Hierarchies,
    driver: CgroupDriver,
    /// First part of all names: `stint-<beginning of the node's uid>`.
    parent: String,
}

/// Where control groups are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hierarchies {
    /// The first one lists and freezes; all hold folders of Pods.
    V1 {
        first: PathBuf,
        can_freeze: bool,
        all: Vec<PathBuf>,
    },
    V2 {
        root: PathBuf,
    },
}

impl PodCgroups {
    /// Those of this host. The parent's name is made of `node_uid`.
    pub fn new(node_uid: &str, driver: CgroupDriver) -> io::Result<PodCgroups> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let hierarchies = Hierarchies::parse(&mounts).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "no control groups are mounted below /sys/fs/cgroup")
        })?;
        Ok(PodCgroups { hierarchies, driver, parent: parent_of(node_uid) })
    }

    /// From what [`Self::to_argument`] gave.
    pub fn from_argument(text: &str) -> io::Result<PodCgroups> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let (driver, short) = text.split_once(':').ok_or_else(invalid)?;
        PodCgroups::new(short, CgroupDriver::from_word(driver).ok_or_else(invalid)?)
    }

    /// What another process makes the same of.
    pub fn to_argument(&self) -> String {
        format!("{}:{}", self.driver.word(), self.parent.trim_start_matches("stint-"))
    }

    /// Those of another node of the same engine.
    pub fn of_node(&self, node_uid: &str) -> PodCgroups {
        PodCgroups { parent: parent_of(node_uid), ..self.clone() }
    }

    /// Whether they are of version 2.
    pub fn is_v2(&self) -> bool {
        matches!(self.hierarchies, Hierarchies::V2 { .. })
    }

    /// What the engine is told as the parent of a Pod's groups.
    pub fn engine_parent(&self, pod_uid: &str) -> String {
        match self.driver {
            CgroupDriver::Cgroupfs => format!("/{}/{pod_uid}", self.parent),
            CgroupDriver::Systemd => self.slice(pod_uid),
        }
    }

    /// A dash in a slice's name is a level of its path, so uids have none there.
    fn slice(&self, pod_uid: &str) -> String {
        format!("{}-pod{}.slice", self.parent, pod_uid.replace('-', "_"))
    }

    /// Path of the parent of all Pods, within a hierarchy.
    fn parent_path(&self) -> PathBuf {
        self.driver.path_of(&self.parent)
    }

    fn pod_path(&self, pod_uid: &str) -> PathBuf {
        self.parent_path().join(match self.driver {
            CgroupDriver::Cgroupfs => pod_uid.to_owned(),
            CgroupDriver::Systemd => self.slice(pod_uid),
        })
    }

    fn pod_directory(&self, pod_uid: &str) -> PathBuf {
        self.hierarchies.first().join(self.pod_path(pod_uid))
    }

    /// Whether the engine put a Pod where it was told to.
    pub fn has_pod(&self, pod_uid: &str) -> bool {
        self.pod_directory(pod_uid).is_dir()
    }

    /// Limits the processes of a Pod, before the engine begins it. Only with version 1, where the engine is not told.
    pub fn limit_processes(&self, pod_uid: &str, processes_max: u64) -> io::Result<()> {
        let Hierarchies::V1 { all, .. } = &self.hierarchies else { return Ok(()) };
        let Some(pids) = all.iter().find(|path| path.ends_with("pids")) else { return Ok(()) };
        let directory = pids.join(self.pod_path(pod_uid));
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("pids.max"), processes_max.to_string())
    }

    /// Kills what runs in one container until nothing does, for at most `patience`. Says whether nothing is left.
    pub fn kill_container(&self, pod_uid: &str, container_id: &str, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        loop {
            // Looked for each time: the engine may make it meanwhile.
            let pod = self.pod_directory(pod_uid);
            let left = match self.container_directory(pod_uid, container_id) {
                // Killed processes of a frozen Pod die only when that is thawed.
                Some(_) if is_condemned(&pod) => self.hierarchies.kill(&pod),
                Some(directory) => self.hierarchies.kill_container(&directory),
                None => 0,
            };
            if left == 0 {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(Duration::from_millis(limits::KILL_LOOP_PAUSE_MS));
        }
    }

    /// How many processes a container has.
    pub fn count_processes(&self, pod_uid: &str, container_id: &str) -> u64 {
        let directory = self.container_directory(pod_uid, container_id);
        directory.map_or(0, |directory| processes(&directory).len() as u64)
    }

    /// Programs that the engine has started in a container: they began a session, and their parent is like the main one's, which
    /// also leaves out those that are still on their way to a program. With the main one not known, their parent is none of the
    /// Pod.
    pub fn programs(&self, pod_uid: &str, container_id: &str, main: Option<Pid>) -> Vec<Pid> {
        let pod = self.pod_directory(pod_uid);
        let Some(directory) = self.container_directory(pod_uid, container_id) else { return Vec::new() };
        let Ok(group) = pod.strip_prefix(self.hierarchies.first()) else { return Vec::new() };
        let group = format!("/{}", group.display());
        let engine_name = main.and_then(|main| name_of(relations(main)?.parent));
        let is_engines = |parent: Pid| match &engine_name {
            // One that watches over a single container may itself be in a group of the Pod's.
            Some(_) => Some(parent) != main && name_of(parent) == engine_name,
            None => !is_member(parent, &group),
        };
        let is_program = |pid: &Pid| {
            relations(*pid).is_some_and(|relations| relations.session == *pid && is_engines(relations.parent))
        };
        processes(&directory).into_iter().filter(is_program).collect()
    }

    /// Kills what is left of a session in a container.
    pub fn kill_session(&self, pod_uid: &str, container_id: &str, leader: Pid) {
        let Some(directory) = self.container_directory(pod_uid, container_id) else { return };
        let of_session = |pid: &Pid| relations(*pid).is_some_and(|relations| relations.session == leader);
        // Twice, for those that were made during the first pass.
        for _ in 0..2 {
            let members: Vec<_> = processes(&directory).into_iter().filter(of_session).collect();
            self.hierarchies.kill_each(self.hierarchies.first(), &directory, &members);
        }
    }

    /// Makes sure that what the engine may still start in this container never runs, and kills what does.
    pub fn condemn_container(&self, pod_uid: &str, container_id: &str) {
        let directory = match (self.container_directory(pod_uid, container_id), self.driver) {
            (Some(directory), _) => directory,
            (None, CgroupDriver::Cgroupfs) => {
                let directory = self.pod_directory(pod_uid).join(container_id);
                // If it can't be made, nothing can be started in it either.
                let _ = fs::create_dir_all(&directory);
                directory
            }
            // A scope is systemd's to make: the whole Pod, then.
            (None, CgroupDriver::Systemd) => self.pod_directory(pod_uid),
        };
        condemn(&directory);
        if directory == self.pod_directory(pod_uid) {
            self.hierarchies.kill(&directory);
        } else {
            self.hierarchies.kill_container(&directory);
        }
    }

    /// Kills everything of all Pods and leaves them frozen. Says how many processes it found.
    pub fn condemn_all(&self) -> usize {
        let parent = self.hierarchies.first().join(self.parent_path());
        let mut found = 0;
        for pod in child_directories(&parent) {
            condemn(&pod);
            found += self.hierarchies.kill(&pod);
        }
        found
    }

    /// Whether no Pod has a process. Groups may be left: engines keep them for as long as they know a Pod's sandbox.
    pub fn is_quiet(&self) -> bool {
        processes(&self.hierarchies.first().join(self.parent_path())).is_empty()
    }

    /// Whether a Pod has a process.
    pub fn runs_pod(&self, pod_uid: &str) -> bool {
        !processes(&self.pod_directory(pod_uid)).is_empty()
    }

    /// Whether a Pod is to stay frozen.
    pub fn is_condemned(&self, pod_uid: &str) -> bool {
        is_condemned(&self.pod_directory(pod_uid))
    }

    /// Lets a Pod run that was condemned before anything of it had begun: kills what is there of it, such as an engine's own
    /// programs that were caught on their way, and thaws the rest.
    pub fn reprieve_pod(&self, pod_uid: &str, patience: Duration) {
        let directory = self.pod_directory(pod_uid);
        self.kill_pod(pod_uid, patience);
        // The mark first: what is thawed with it is frozen again by whoever comes by.
        let _ = fs::remove_dir(directory.join(CONDEMNED));
        self.hierarchies.kill(&directory);
    }

    /// Kills everything of a Pod, for at most `patience`. Says whether nothing is left.
    pub fn kill_pod(&self, pod_uid: &str, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        loop {
            if self.hierarchies.kill(&self.pod_directory(pod_uid)) == 0 {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(Duration::from_millis(limits::KILL_LOOP_PAUSE_MS));
        }
    }

    /// How much processor time a Pod gets beside others, which engines leave as the kernel has it for all.
    ///
    /// # Errors
    /// If there is a group for that which can't be written.
    pub fn set_cpu_shares(&self, pod_uid: &str, shares: u64) -> io::Result<()> {
        let path = self.pod_path(pod_uid);
        for root in self.hierarchies.all() {
            let group = root.join(&path);
            for (file, value) in [("cpu.shares", shares), ("cpu.weight", cpu_weight(shares))] {
                // Only one hierarchy has one of them.
                match fs::OpenOptions::new().write(true).open(group.join(file)) {
                    Ok(mut file) => file.write_all(value.to_string().as_bytes())?,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Removes the empty groups of a Pod that has ended; engines leave them.
    pub fn remove_pod(&self, pod_uid: &str) {
        let path = self.pod_path(pod_uid);
        for root in self.hierarchies.all() {
            let directory = root.join(&path);
            for child in child_directories(&directory) {
                let _ = fs::remove_dir(child.join(CONDEMNED));
                let _ = fs::remove_dir(child.join(KILLED));
                let _ = fs::remove_dir(child);
            }
            let _ = fs::remove_dir(directory);
        }
    }

    /// Removes the parent of all Pods, if it is empty.
    pub fn remove_parent(&self) {
        for root in self.hierarchies.all() {
            let _ = fs::remove_dir(root.join(self.parent_path()));
        }
    }

    /// Uids of the Pods that have a group. Empty with systemd, whose names are not turned back.
    pub fn pods(&self) -> Vec<String> {
        let parent = self.hierarchies.first().join(self.parent_path());
        let names = child_directories(&parent).into_iter();
        names.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect()
    }

    /// The group of a container. Engines decorate its name, but its id is in it. CRI-O's `conmon`, which watches over it, may have
    /// one beside it of nearly the same name.
    fn container_directory(&self, pod_uid: &str, container_id: &str) -> Option<PathBuf> {
        let is_its = |name: &str| name.contains(container_id) && !name.contains("conmon");
        child_directories(&self.pod_directory(pod_uid))
            .into_iter()
            .find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_its))
    }
}

/// Where the groups of a node's Pods can be, within a hierarchy.
pub(crate) fn parent_groups(node_uid: &str) -> [PathBuf; 2] {
    [CgroupDriver::Cgroupfs, CgroupDriver::Systemd].map(|driver| driver.path_of(&parent_of(node_uid)))
}

fn parent_of(node_uid: &str) -> String {
    let short: String = node_uid.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    format!("stint-{short}")
}

/// What a group is left as by a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Afterwards {
    Thawed,
    Frozen,
    FrozenUnlessDead,
}

impl Hierarchies {
    /// Of the lines of `/proc/self/mountinfo`. `None` if there are none.
    fn parse(mounts: &str) -> Option<Hierarchies> {
        let mut all: Vec<PathBuf> = Vec::new();
        for line in mounts.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(point) = left.split(' ').nth(4) else { continue };
            match right.split(' ').next() {
                Some("cgroup2") if point == "/sys/fs/cgroup" => {
                    return Some(Hierarchies::V2 { root: PathBuf::from(point) });
                }
                Some("cgroup") if point.starts_with("/sys/fs/cgroup/") => {
                    let point = PathBuf::from(point);
                    if !all.contains(&point) {
                        all.push(point);
                    }
                }
                _ => {}
            }
        }
        let freezer = all.iter().find(|path| path.ends_with("freezer")).cloned();
        let can_freeze = freezer.is_some();
        let first =
            freezer.or_else(|| all.iter().find(|path| path.ends_with("pids")).or(all.first()).cloned())?;
        Some(Hierarchies::V1 { first, can_freeze, all })
    }

    fn first(&self) -> &Path {
        match self {
            Hierarchies::V1 { first, .. } => first,
            Hierarchies::V2 { root } => root,
        }
    }

    fn all(&self) -> &[PathBuf] {
        match self {
            Hierarchies::V1 { all, .. } => all,
            Hierarchies::V2 { root } => std::slice::from_ref(root),
        }
    }

    /// One pass over a container: as [`Self::kill`], but a condemned one is no longer frozen when it is dead.
    fn kill_container(&self, directory: &Path) -> usize {
        if !is_condemned(directory) {
            return self.kill(directory);
        }
        let killed = directory.join(KILLED);
        if killed.is_dir() && processes(directory).is_empty() {
            return 0;
        }
        let found = self.kill_and(directory, Afterwards::FrozenUnlessDead);
        if found > 0 && processes(directory).is_empty() {
            let _ = fs::create_dir(killed);
        }
        found
    }

    /// One pass: sends SIGKILL to everything below a group, which is frozen for it, and stays so if it is condemned. Says how
    /// many processes there were.
    fn kill(&self, directory: &Path) -> usize {
        let afterwards = if is_condemned(directory) { Afterwards::Frozen } else { Afterwards::Thawed };
        self.kill_and(directory, afterwards)
    }

    fn kill_and(&self, directory: &Path, afterwards: Afterwards) -> usize {
        let stays_frozen = |found: usize| match afterwards {
            Afterwards::Thawed => false,
            Afterwards::Frozen => true,
            Afterwards::FrozenUnlessDead => found == 0 || !wait_for_end(directory),
        };
        match self {
            Hierarchies::V2 { root } => {
                let freeze = directory.join("cgroup.freeze");
                let _ = fs::write(&freeze, "1");
                let members = processes(directory);
                // Linux before 5.14 has no such file; frozen processes of version 2 can be killed.
                if fs::write(directory.join("cgroup.kill"), "1").is_err() {
                    self.kill_each(root, directory, &members);
                }
                if !stays_frozen(members.len()) {
                    let _ = fs::write(&freeze, "0");
                }
                members.len()
            }
            Hierarchies::V1 { first, can_freeze, .. } => {
                let state = directory.join("freezer.state");
                let freeze = |word: &str| {
                    if *can_freeze {
                        let _ = fs::write(&state, word);
                    }
                };
                // A group below that its engine, or we, froze by itself would stay so.
                let thaw_children = |directory: &Path| {
                    for child in child_directories(directory) {
                        let _ = fs::write(child.join("freezer.state"), "THAWED");
                    }
                };
                freeze("FROZEN");
                let members = processes(directory);
                self.kill_each(first, directory, &members);
                if !members.is_empty() {
                    // Frozen processes of version 1 die when they are thawed, before they run anything.
                    thaw_children(directory);
                    freeze("THAWED");
                    if afterwards == Afterwards::Frozen {
                        let _ = wait_for_end(directory);
                    }
                    if stays_frozen(members.len()) {
                        freeze("FROZEN");
                    }
                } else if !stays_frozen(0) {
                    freeze("THAWED");
                }
                members.len()
            }
        }
    }

    /// Sends SIGKILL to the very processes that were listed: a number may be another process's by now.
    fn kill_each(&self, root: &Path, directory: &Path, members: &[Pid]) {
        let Ok(group) = directory.strip_prefix(root) else { return };
        let group = format!("/{}", group.display());
        for pid in members {
            match sys::pidfd_open(*pid) {
                Ok(pidfd) => {
                    if is_member(*pid, &group) {
                        let _ = sys::pidfd_kill(pidfd.as_fd());
                    }
                }
                // Linux before 5.3.
                Err(Errno::ENOSYS) if is_member(*pid, &group) => {
                    let _ = nix::sys::signal::kill(*pid, nix::sys::signal::Signal::SIGKILL);
                }
                Err(_) => {}
            }
        }
    }
}

/// Makes a group stay frozen from its next kill on. The mark is a group below it, so that it ends with it and every process
/// sees it.
fn condemn(directory: &Path) {
    let _ = fs::create_dir(directory.join(CONDEMNED));
}

fn is_condemned(directory: &Path) -> bool {
    directory.join(CONDEMNED).is_dir()
}

/// Waits a little until killed processes are gone. Says whether they are.
fn wait_for_end(directory: &Path) -> bool {
    for _ in 0..20 {
        if processes(directory).is_empty() {
            return true;
        }
        thread::sleep(Duration::from_millis(1));
    }
    false
}

/// Whether a process is in this group or below it, in any hierarchy.
fn is_member(pid: Pid, group: &str) -> bool {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return false };
    text.lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .any(|path| path.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// Whose a process is.
struct Relations {
    parent: Pid,
    session: Pid,
}

/// `None` if there is no such process any more.
fn relations(pid: Pid) -> Option<Relations> {
    relations_of(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Of the line of its `stat`: after its name, which may have anything in it, come state, parent, group and session.
fn relations_of(stat: &str) -> Option<Relations> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut numbers = rest.split_whitespace().skip(1).map(|text| text.parse().ok().map(Pid::from_raw));
    Some(Relations { parent: numbers.next()??, session: numbers.nth(1)?? })
}

/// What a process calls itself.
fn name_of(pid: Pid) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok()
}

/// Main threads of all processes of a group and below.
fn processes(directory: &Path) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        if let Ok(text) = fs::read_to_string(directory.join("cgroup.procs")) {
            // 0 is a process that this one can't see.
            let pids = text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != 0);
            found.extend(pids.map(Pid::from_raw));
        }
        waiting.extend(child_directories(&directory));
    }
    found
}

fn child_directories(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_are_found_whatever_a_process_calls_itself() {
        let relations = relations_of("17 (a) S 1 (b) R 12 13 14 34816 -1 0\n").unwrap();
        assert_eq!((relations.parent.as_raw(), relations.session.as_raw()), (12, 14));
        assert!(relations_of("17 (a) R 12").is_none() && relations_of("").is_none());
    }

    const V1: &str = "\
30 29 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
31 29 0:27 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
32 29 0:28 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
33 29 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const V2: &str = "25 24 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";

    fn cgroups(mounts: &str, driver: CgroupDriver) -> PodCgroups {
        let hierarchies = Hierarchies::parse(mounts).unwrap();
        PodCgroups { hierarchies, driver, parent: "stint-0123456789abcdef".to_owned() }
    }

    #[test]
    fn hierarchies_are_found_and_the_freezer_comes_first() {
        let v1 = cgroups(V1, CgroupDriver::Cgroupfs);
        assert!(!v1.is_v2());
        assert_eq!(v1.hierarchies.first(), Path::new("/sys/fs/cgroup/freezer"));
        assert_eq!(v1.hierarchies.all().len(), 3);
        assert!(cgroups(V2, CgroupDriver::Cgroupfs).is_v2());
        assert_eq!(Hierarchies::parse("1 0 8:1 / / rw - ext4 /dev/vda rw\n"), None);
    }

    #[test]
    fn names_are_those_that_engines_make_of_the_parent() {
        let paths = cgroups(V2, CgroupDriver::Cgroupfs);
        assert_eq!(paths.engine_parent(UID), format!("/stint-0123456789abcdef/{UID}"));
        let expected = format!("/sys/fs/cgroup/stint-0123456789abcdef/{UID}");
        assert_eq!(paths.pod_directory(UID), Path::new(&expected));
        let slices = cgroups(V2, CgroupDriver::Systemd);
        let slice = "stint-0123456789abcdef-pod01234567_89ab_cdef_0123_456789abcdef.slice";
        assert_eq!(slices.engine_parent(UID), slice);
        let expected = format!("/sys/fs/cgroup/stint.slice/stint-0123456789abcdef.slice/{slice}");
        assert_eq!(slices.pod_directory(UID), Path::new(&expected));
    }

    #[test]
    #[allow(clippy::print_stderr, reason = "says that it was not run")]
    fn another_process_makes_the_same_of_the_argument() {
        for driver in [CgroupDriver::Cgroupfs, CgroupDriver::Systemd] {
            let Ok(ours) = PodCgroups::new(UID, driver) else {
                eprintln!("not run: no control groups");
                return;
            };
            let theirs = PodCgroups::from_argument(&ours.to_argument()).unwrap();
            assert_eq!((theirs.driver, theirs.parent), (ours.driver, ours.parent));
        }
        assert!(PodCgroups::from_argument("nonsense").is_err());
        assert!(PodCgroups::from_argument("docker:x").is_err());
    }
}
