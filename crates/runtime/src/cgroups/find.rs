//! Where control groups are on this host.
//!
//! Owns: reading the mount table and the agent's own groups, making the parent and handing controllers on. Does not own: the
//! groups of containers.

use super::ControlGroups;
use super::v1::Version1;
use super::v2::Version2;
use nix::unistd::geteuid;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Controllers that limits need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// The group for the agent itself, below the one that was left to it: what the unit of the agent says as `DelegateSubgroup=`.
const AGENT: &str = "agent";

/// Which limits can't be kept, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Missing {
    /// Names of controllers.
    pub controllers: Vec<&'static str>,
    /// Why, for people.
    pub cause: String,
}

/// A mount of control groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Which part of the hierarchy is mounted.
    root: String,
    /// Where.
    pub at: PathBuf,
    /// Of version 1: its controllers; none for version 2.
    controllers: Option<Vec<String>>,
}

/// What is seen of the agent's own place.
struct Seen<'a> {
    /// Its `/proc/self/cgroup`.
    own: &'a str,
    is_root: bool,
    /// Whether a group of version 2 was left to it.
    is_delegated: fn(&Path) -> bool,
}

/// Groups of this host right below which parents of agents are: those of root, and those of the service that this process is.
pub(super) fn above_parents() -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut folders = Vec::new();
    for hierarchy in hierarchies(&table) {
        if hierarchy.controllers.is_none() {
            let own = own_group(&hierarchy, &own);
            folders.extend(subgroup_of(own.as_deref()).map(Path::to_owned));
        }
        folders.push(hierarchy.at);
    }
    folders.sort();
    folders.dedup();
    folders
}

/// Name of the parent of the groups of a node's processes.
pub(super) fn parent_of(node: &str) -> String {
    format!("stint-{node}")
}

pub(super) fn find(node: &str) -> (Option<ControlGroups>, Missing) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let host = Seen { own: &own, is_root: geteuid().is_root(), is_delegated };
    find_in(&hierarchies(&table), &host, &parent_of(node))
}

fn find_in(hierarchies: &[Hierarchy], host: &Seen<'_>, parent: &str) -> (Option<ControlGroups>, Missing) {
    let mut cause = "no control groups are mounted".to_owned();
    if let Some(unified) = hierarchies.iter().find(|hierarchy| hierarchy.controllers.is_none()) {
        match make_unified(unified, host, parent) {
            Ok(groups) => return (Some(ControlGroups::Version2(groups)), Missing::default()),
            Err(problem) => cause = problem,
        }
    }
    let (groups, mut missing) = make_version_1(hierarchies, parent);
    if groups == Version1::default() {
        if hierarchies.iter().all(|hierarchy| hierarchy.controllers.is_none()) {
            missing.cause = cause;
        }
        return (None, missing);
    }
    (Some(ControlGroups::Version1(groups)), missing)
}

/// Our parent in the tree of version 2, with all that limits need.
fn make_unified(unified: &Hierarchy, host: &Seen<'_>, parent: &str) -> Result<Version2, String> {
    let offered = std::fs::read_to_string(unified.at.join("cgroup.controllers")).unwrap_or_default();
    let offered: Vec<_> = offered.split_whitespace().collect();
    if let Some(absent) = CONTROLLERS.into_iter().find(|name| !offered.contains(name)) {
        return Err(format!("control groups of version 2 have no controller {absent} here"));
    }
    let bases = bases(unified, host);
    // What an earlier agent has put somewhere stays there, whatever was changed about how the agent is started since.
    let base = bases.iter().find(|base| base.folder.join(parent).is_dir()).or(bases.first());
    let Some(Base { folder: base, leaf }) = base else { return Err(no_base(unified, host)) };
    if let Some(leaf) = leaf {
        // What it starts from now on begins there.
        make(leaf).and_then(|()| std::fs::write(leaf.join("cgroup.procs"), "0")).map_err(told(leaf))?;
    }
    let parent = base.join(parent);
    hand_on(base).map_err(told(base))?;
    make(&parent).and_then(|()| hand_on(&parent)).map_err(told(&parent))?;
    Ok(Version2::new(parent))
}

/// A group that our parent can be in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Base {
    folder: PathBuf,
    /// Where the agent has to go first.
    leaf: Option<PathBuf>,
}

/// Groups that our parent can be in, best first.
///
/// A group of version 2 has either processes or controllers for the groups below it; only the root of the whole tree may have
/// both. So controllers are never turned on in the group that a service manager starts the agent in: with containers below it
/// that outlive the agent, the manager could not put the next agent there, and its start would fail until they have ended.
fn bases(unified: &Hierarchy, host: &Seen<'_>) -> Vec<Base> {
    let own = own_group(unified, host.own);
    // Cut from a larger tree, as containers see it: there is no service manager inside that would start us there again.
    let is_cut = unified.at.join("cgroup.type").exists();
    let is_ours = |group: &Path| (host.is_delegated)(group) || (is_cut && group == unified.at);
    let mut bases = Vec::new();
    if let Some(above) = subgroup_of(own.as_deref()).filter(|above| is_ours(above)) {
        bases.push(Base { folder: above.to_owned(), leaf: None });
    }
    if !is_cut && host.is_root {
        bases.push(Base { folder: unified.at.clone(), leaf: None });
    }
    if is_cut && own.as_ref() == Some(&unified.at) {
        bases.push(Base { folder: unified.at.clone(), leaf: Some(unified.at.join(AGENT)) });
    }
    bases
}

/// The group above, if the agent is in the one that was made for it alone.
fn subgroup_of(own: Option<&Path>) -> Option<&Path> {
    own.filter(|own| own.file_name() == Some(AGENT.as_ref()))?.parent()
}

/// Why there is none, and what helps.
fn no_base(unified: &Hierarchy, host: &Seen<'_>) -> String {
    match own_group(unified, host.own) {
        Some(own) if (host.is_delegated)(&own) => format!(
            "the agent is in the control group {} itself, which then can't be divided: its unit needs \
             DelegateSubgroup={AGENT} besides Delegate=yes (systemd 254), or run the agent as root",
            own.display()
        ),
        _ => format!(
            "no control group is left to the agent: run it as root, or as a service with Delegate=yes and \
             DelegateSubgroup={AGENT} (systemd 254)"
        ),
    }
}

/// Our parents in the hierarchies of version 1, as far as they can be made.
fn make_version_1(hierarchies: &[Hierarchy], parent: &str) -> (Version1, Missing) {
    let mut missing = Missing::default();
    let mut take = |controller: &'static str, matters: bool| {
        let has = |hierarchy: &&Hierarchy| {
            hierarchy.controllers.as_ref().is_some_and(|names| names.iter().any(|name| name == controller))
        };
        let made = match hierarchies.iter().find(has) {
            None => Err(format!("controller {controller} is not mounted")),
            Some(hierarchy) => {
                let folder = hierarchy.at.join(parent);
                make(&folder).map(|()| folder.clone()).map_err(told(&folder))
            }
        };
        match made {
            Ok(folder) => Some(folder),
            Err(problem) => {
                if matters {
                    missing.controllers.push(controller);
                    missing.cause = problem;
                }
                None
            }
        }
    };
    let groups = Version1 {
        cpu: take("cpu", true),
        cpuacct: take("cpuacct", false),
        memory: take("memory", true),
        pids: take("pids", true),
    };
    (groups, missing)
}

/// The folder of the agent's own group of version 2, if it is in what is mounted.
fn own_group(unified: &Hierarchy, own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let below = Path::new(path).strip_prefix(&unified.root).ok()?;
    // A namespace shows what is above its root by such names.
    let is_plain = below.components().all(|component| matches!(component, Component::Normal(_)));
    // Without a slash at its end.
    is_plain.then(|| unified.at.components().chain(below.components()).collect())
}

/// Service managers mark what they leave to a service.
fn is_delegated(group: &Path) -> bool {
    let marked = |name: &str| {
        let mut value = [0; 8];
        rustix::fs::getxattr(group, name, &mut value).is_ok_and(|length| value.get(..length) == Some(b"1"))
    };
    marked("trusted.delegate") || marked("user.delegate")
}

/// Lets the groups below a group have the controllers that limits need.
fn hand_on(group: &Path) -> io::Result<()> {
    let file = group.join("cgroup.subtree_control");
    let present = std::fs::read_to_string(&file)?;
    let present: Vec<_> = present.split_whitespace().collect();
    for name in CONTROLLERS.into_iter().filter(|name| !present.contains(name)) {
        std::fs::write(&file, format!("+{name}"))?;
    }
    Ok(())
}

fn make(folder: &Path) -> io::Result<()> {
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn told(folder: &Path) -> impl Fn(io::Error) -> String {
    move |error| format!("the control group {} can't be used: {error}", folder.display())
}

/// Those in a mount table.
fn hierarchies(table: &str) -> Vec<Hierarchy> {
    let one = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, at) = (fields.next()?.to_owned(), PathBuf::from(fields.next()?));
        let mut fields = kind.split(' ');
        let controllers = match fields.next()? {
            "cgroup2" => None,
            "cgroup" => Some(fields.nth(1)?.split(',').map(str::to_owned).collect()),
            _ => return None,
        };
        Some(Hierarchy { root, at, controllers })
    };
    table.lines().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_table_is_understood() {
        let table = "22 1 0:20 / /sys rw,relatime shared:7 - sysfs sysfs rw\n\
                     33 32 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                     34 32 0:31 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
                     35 32 0:32 / /sys/fs/cgroup/unified rw master:1 - cgroup2 none rw,nsdelegate\n";
        let found = hierarchies(table);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].at, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert!(
            found[0].controllers.as_ref().is_some_and(|names| names.iter().any(|name| name == "cpuacct"))
        );
        assert_eq!((found[1].root.as_str(), found[2].controllers.clone()), ("/docker/x", None));
    }

    fn unified(root: &str, at: &Path) -> Hierarchy {
        Hierarchy { root: root.to_owned(), at: at.to_owned(), controllers: None }
    }

    #[test]
    fn the_own_group_is_found_below_what_is_mounted() {
        let found = |root: &str, own: &str| own_group(&unified(root, Path::new("/cg")), own);
        let own = "1:memory:/other\n0::/system.slice/agent.service\n";
        assert_eq!(found("/", own), Some(PathBuf::from("/cg/system.slice/agent.service")));
        assert_eq!(found("/system.slice", own), Some(PathBuf::from("/cg/agent.service")));
        assert_eq!(found("/", "0::/\n"), Some(PathBuf::from("/cg")));
        // Not half a name.
        assert_eq!(found("/system", own), None);
        assert_eq!(found("/docker", own), None);
        assert_eq!(found("/", "0::/../other\n"), None);
    }

    /// A tree as the kernel makes it, of plain files.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new(is_cut: bool) -> Tree {
            let tree = Tree(tempfile::tempdir().unwrap());
            tree.group("");
            if is_cut {
                std::fs::write(tree.at().join("cgroup.type"), "domain\n").unwrap();
            }
            tree
        }

        fn at(&self) -> &Path {
            self.0.path()
        }

        /// Makes a group, with the files that the kernel would make with it.
        fn group(&self, name: &str) -> PathBuf {
            let group = if name.is_empty() { self.at().to_owned() } else { self.at().join(name) };
            std::fs::create_dir_all(&group).unwrap();
            std::fs::write(group.join("cgroup.controllers"), "cpuset cpu memory pids\n").unwrap();
            std::fs::write(group.join("cgroup.subtree_control"), "cpu memory\n").unwrap();
            std::fs::write(group.join("cgroup.procs"), "").unwrap();
            group
        }

        /// Parent that an agent finds, below the tree.
        fn find(&self, own: &str, is_root: bool) -> Result<PathBuf, String> {
            let host = Seen { own, is_root, is_delegated: is_marked };
            let (groups, missing) = find_in(&[unified("/", self.at())], &host, "stint-n");
            match groups {
                Some(ControlGroups::Version2(groups)) => {
                    assert_eq!(missing, Missing::default());
                    Ok(groups.parent().strip_prefix(self.at()).unwrap().to_owned())
                }
                other => {
                    assert_eq!((other.is_none(), missing.controllers), (true, CONTROLLERS.to_vec()));
                    Err(missing.cause)
                }
            }
        }

        fn turned_on(&self, group: &str) -> String {
            std::fs::read_to_string(self.at().join(group).join("cgroup.subtree_control")).unwrap()
        }
    }

    /// In place of the mark of a service manager, which not every file system takes.
    fn delegate(group: &Path) {
        std::fs::write(group.join("delegated"), "").unwrap();
    }

    fn is_marked(group: &Path) -> bool {
        group.join("delegated").exists()
    }

    const SERVICE: &str = "system.slice/stint-agent.service";

    /// Whoever starts the agent in that group again would be refused while containers are below it.
    #[test]
    fn no_controllers_are_turned_on_where_a_service_manager_starts_the_agent() {
        let tree = Tree::new(false);
        delegate(&tree.group(SERVICE));
        tree.group("stint-n");
        let own = format!("0::/{SERVICE}\n");
        for _agent in ["first", "next"] {
            assert_eq!(tree.find(&own, true), Ok("stint-n".into()));
            assert_eq!(tree.turned_on(SERVICE), "cpu memory\n");
            assert!(!tree.at().join(SERVICE).join(AGENT).exists());
        }
        assert_eq!(tree.turned_on("stint-n"), "+pids");
        // Without root there is no other place.
        let why = tree.find(&own, false).unwrap_err();
        assert!(why.contains("DelegateSubgroup=agent"), "{why}");
        assert_eq!(tree.turned_on(SERVICE), "cpu memory\n");
    }

    #[test]
    fn a_group_of_its_own_below_a_delegated_one_is_what_an_agent_needs() {
        for is_root in [true, false] {
            let tree = Tree::new(false);
            delegate(&tree.group(SERVICE));
            tree.group(&format!("{SERVICE}/agent"));
            tree.group(&format!("{SERVICE}/stint-n"));
            let own = format!("0::/{SERVICE}/agent\n");
            assert_eq!(tree.find(&own, is_root), Ok(format!("{SERVICE}/stint-n").into()));
            assert_eq!(tree.turned_on(SERVICE), "+pids");
            assert_eq!(tree.turned_on(&format!("{SERVICE}/agent")), "cpu memory\n");
        }
        // One that only has such a name is not.
        let tree = Tree::new(false);
        tree.group("user.slice");
        tree.group("user.slice/agent");
        assert!(tree.find("0::/user.slice/agent\n", false).is_err());
        assert_eq!(tree.turned_on("user.slice"), "cpu memory\n");
    }

    /// Another version of the service manager, or another unit, must not part an agent from its containers.
    #[test]
    fn what_an_earlier_agent_has_made_is_where_it_was() {
        let tree = Tree::new(false);
        delegate(&tree.group(SERVICE));
        tree.group(&format!("{SERVICE}/agent"));
        tree.group("stint-n");
        assert_eq!(tree.find(&format!("0::/{SERVICE}/agent\n"), true), Ok("stint-n".into()));
    }

    #[test]
    fn in_a_container_the_agent_makes_room_for_its_groups() {
        let tree = Tree::new(true);
        tree.group("agent");
        tree.group("stint-n");
        assert_eq!(tree.find("0::/\n", true), Ok("stint-n".into()));
        assert_eq!(std::fs::read_to_string(tree.at().join("agent/cgroup.procs")).unwrap(), "0");
        assert_eq!(tree.turned_on(""), "+pids");
        // The next one is there already.
        std::fs::write(tree.at().join("agent/cgroup.procs"), "").unwrap();
        assert_eq!(tree.find("0::/agent\n", true), Ok("stint-n".into()));
        assert_eq!(std::fs::read_to_string(tree.at().join("agent/cgroup.procs")).unwrap(), "");
        // Where others are beside it, it is not the agent that may move them.
        assert!(tree.find("0::/others\n", true).unwrap_err().contains("no control group is left"));
    }

    #[test]
    fn version_2_is_used_if_it_has_all_controllers() {
        let tree = Tree::new(false);
        tree.group("stint-n");
        assert_eq!(tree.find("0::/\n", true), Ok("stint-n".into()));
        std::fs::write(tree.at().join("cgroup.controllers"), "hugetlb\n").unwrap();
        let why = tree.find("0::/\n", true).unwrap_err();
        assert!(why.contains("have no controller cpu"), "{why}");
    }

    #[test]
    fn version_1_takes_what_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let hierarchy = |name: &str, controllers: &[&str]| {
            let at = folder.path().join(name);
            std::fs::create_dir(&at).unwrap();
            let controllers = controllers.iter().map(|name| (*name).to_owned()).collect();
            Hierarchy { root: "/".to_owned(), at, controllers: Some(controllers) }
        };
        let all = [hierarchy("cpu", &["rw", "cpu", "cpuacct"]), hierarchy("memory", &["rw", "memory"])];
        let host = Seen { own: "", is_root: true, is_delegated };
        let (groups, missing) = find_in(&all, &host, "stint-n");
        let Some(ControlGroups::Version1(groups)) = groups else { panic!("{groups:?}") };
        assert_eq!(groups.cpu, groups.cpuacct);
        assert!(folder.path().join("memory/stint-n").is_dir());
        assert_eq!(missing.controllers, ["pids"]);
    }
}
