//! Where control groups are on this host.
//!
//! Owns: reading the mount table and the agent's own groups, making the parent and handing controllers on. Does not own: the
//! groups of containers.

use super::ControlGroups;
use super::v1::Version1;
use super::v2::Version2;
use std::io;
use std::path::{Path, PathBuf};

/// Controllers that limits need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// Below a delegated group: where the agent itself goes, as a group of version 2 has either processes or groups.
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
struct Hierarchy {
    /// Which part of the hierarchy is mounted.
    root: String,
    /// Where.
    at: PathBuf,
    /// Of version 1: its controllers; none for version 2.
    controllers: Option<Vec<String>>,
}

pub(super) fn find(node: &str) -> (Option<ControlGroups>, Missing) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    find_in(&hierarchies(&table), &own, &format!("stint-{node}"))
}

fn find_in(hierarchies: &[Hierarchy], own: &str, parent: &str) -> (Option<ControlGroups>, Missing) {
    let mut cause = "no control groups are mounted".to_owned();
    if let Some(unified) = hierarchies.iter().find(|hierarchy| hierarchy.controllers.is_none()) {
        match make_unified(unified, own, parent) {
            Ok(groups) => return (Some(ControlGroups::Version2(groups)), Missing::default()),
            Err(problem) => cause = problem,
        }
    }
    let (groups, mut missing) = make_version_1(hierarchies, parent);
    if groups == Version1::default() {
        if missing.cause.is_empty() {
            missing.cause = cause;
        }
        return (None, missing);
    }
    (Some(ControlGroups::Version1(groups)), missing)
}

/// Our parent in the tree of version 2, with all that limits need.
fn make_unified(unified: &Hierarchy, own: &str, parent: &str) -> Result<Version2, String> {
    let offered = std::fs::read_to_string(unified.at.join("cgroup.controllers")).unwrap_or_default();
    let offered: Vec<_> = offered.split_whitespace().collect();
    if let Some(absent) = CONTROLLERS.into_iter().find(|name| !offered.contains(name)) {
        return Err(format!("control groups of version 2 have no controller {absent} here"));
    }
    let base = match own_group(unified, own).filter(|group| is_delegated(group)) {
        Some(group) => {
            let agent = group.join(AGENT);
            // What it starts from now on begins there.
            make(&agent)
                .and_then(|()| std::fs::write(agent.join("cgroup.procs"), "0"))
                .map_err(told(&agent))?;
            group
        }
        None => unified.at.clone(),
    };
    let parent = base.join(parent);
    hand_on(&base).map_err(told(&base))?;
    make(&parent).and_then(|()| hand_on(&parent)).map_err(told(&parent))?;
    Ok(Version2::new(parent))
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

/// The folder of the agent's own group of version 2.
fn own_group(unified: &Hierarchy, own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let below = path.strip_prefix(unified.root.trim_end_matches('/'))?.trim_start_matches('/');
    // An agent that was restarted may find itself where it went before.
    let below = below.strip_suffix(AGENT).map_or(below, |group| group.trim_end_matches('/'));
    (!below.is_empty()).then(|| unified.at.join(below))
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

    #[test]
    fn the_own_group_is_found_below_what_is_mounted() {
        let unified =
            |root: &str| Hierarchy { root: root.to_owned(), at: PathBuf::from("/cg"), controllers: None };
        let own = "1:memory:/other\n0::/system.slice/agent.service\n";
        assert_eq!(own_group(&unified("/"), own), Some(PathBuf::from("/cg/system.slice/agent.service")));
        assert_eq!(own_group(&unified("/system.slice"), own), Some(PathBuf::from("/cg/agent.service")));
        assert_eq!(own_group(&unified("/"), "0::/a.service/agent"), Some(PathBuf::from("/cg/a.service")));
        assert_eq!(own_group(&unified("/"), "0::/\n"), None);
        assert_eq!(own_group(&unified("/docker"), own), None);
    }

    #[test]
    fn version_2_is_used_if_it_has_all_controllers() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().to_owned();
        let unified = Hierarchy { root: "/".to_owned(), at: at.clone(), controllers: None };
        std::fs::write(at.join("cgroup.controllers"), "cpuset cpu memory pids\n").unwrap();
        std::fs::write(at.join("cgroup.subtree_control"), "cpu memory pids\n").unwrap();
        // The kernel would make this file with the folder.
        std::fs::create_dir(at.join("stint-n")).unwrap();
        std::fs::write(at.join("stint-n/cgroup.subtree_control"), "").unwrap();
        let (groups, missing) = find_in(std::slice::from_ref(&unified), "0::/\n", "stint-n");
        assert_eq!(groups.map(|groups| groups.version()), Some(2), "{missing:?}");
        assert_eq!(missing, Missing::default());
        let handed_on = std::fs::read_to_string(at.join("stint-n/cgroup.subtree_control")).unwrap();
        assert_eq!(handed_on, "+pids");
        std::fs::write(at.join("cgroup.controllers"), "hugetlb\n").unwrap();
        let (groups, missing) = find_in(&[unified], "0::/\n", "stint-n");
        assert!(groups.is_none() && missing.cause.contains("not mounted"), "{missing:?}");
        assert_eq!(missing.controllers, CONTROLLERS);
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
        let (groups, missing) = find_in(&all, "", "stint-n");
        let Some(ControlGroups::Version1(groups)) = groups else { panic!("{groups:?}") };
        assert_eq!(groups.cpu, groups.cpuacct);
        assert!(folder.path().join("memory/stint-n").is_dir());
        assert_eq!(missing.controllers, ["pids"]);
    }
}
