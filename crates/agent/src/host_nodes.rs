//! The nodes of a host: whose folders are where, and which users the Pods of each get.
//!
//! Owns: the table of them, giving each a range of users of its own, clearing away what nodes left that are no more. Does not own:
//! the claim that keeps a node's agent the only one (`claim`), which user of the range a Pod gets (crate `runtime`).
//!
//! Two agents that drew users from one range would sooner or later give one to two Pods, which could then read and signal each
//! other. So each node has its range for as long as its data folder is there: Pods outlive their agent, and the next one takes
//! them over with their users. The table is kept beside the claims, and goes with them when the host boots: no Pod outlives that.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};
use stint_api::NodeUid;
use stint_runtime::PodUids;

use crate::error::Error;
use crate::limits;

/// Beside the claims.
const FILE: &str = "nodes";

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostNode {
    pub uid: NodeUid,
    /// The data folder of its agent, absolute and without links.
    pub folder: PathBuf,
    /// Users that its Pods get; none if they are the agent's own user.
    pub pod_uids: Option<PodUids>,
}

/// What is asked of the host.
pub struct Surroundings<'a> {
    /// Whether a node has an agent that lives.
    pub is_claimed: &'a dyn Fn(NodeUid) -> bool,
    /// Users of all processes.
    pub users: &'a dyn Fn() -> BTreeSet<u32>,
    /// Removes what is left of a node's control groups; true if that is nothing.
    pub remove_groups: &'a dyn Fn(&HostNode) -> bool,
}

/// Which users the Pods of a node are to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The agent's own.
    None,
    /// Of a range that no other node has.
    Any,
    /// Of this range.
    These(PodUids),
}

/// Puts a node into the table and answers the users of its Pods: those that it had, if nothing else is wanted. To be called by the
/// agent that holds the claim and the folder. Forgets nodes whose folders are gone. Blocks.
///
/// # Errors
/// If others have some of the users that are wanted, or all usual ones; if there are too many nodes; if the table can't be used.
pub fn enter(
    claims: &Path,
    (uid, folder): (NodeUid, &Path),
    wanted: Wanted,
    around: &Surroundings<'_>,
) -> Result<Option<PodUids>, Error> {
    let unusable = |error: io::Error| Error::Folder {
        path: claims.to_owned(),
        problem: format!("its table of this host's agents can't be used ({error}): make that folder usable"),
    };
    let _locked = lock(claims).map_err(unusable)?;
    let mut nodes = read(claims).map_err(unusable)?;
    let known = nodes.clone();
    let is_own = |node: &HostNode| node.uid == uid;
    let earlier = nodes.iter().find(|node| is_own(node)).and_then(|node| node.pod_uids);
    nodes.retain(|node| !is_own(node));
    forget_gone(&mut nodes, folder, around);
    if nodes.len() >= limits::HOST_NODES_MAX {
        return Err(Error::Folder {
            path: folder.to_owned(),
            problem: format!(
                "there are {} others on this host already: remove those of agents that are no more",
                nodes.len()
            ),
        });
    }
    let pod_uids = match wanted {
        Wanted::None => None,
        Wanted::These(wanted) => match taker(&nodes, wanted) {
            Some((node, other)) => {
                let folder = node.folder.display();
                return Err(refused(
                    wanted.to_string(),
                    format!(
                        "overlaps with {other}, which the agent of {folder} gives to its pods: give users that no \
                         other agent of this host has, or remove that folder if its agent is no more"
                    ),
                ));
            }
            None => {
                if let Some(earlier) = earlier.filter(|earlier| *earlier != wanted) {
                    check_unused(earlier, wanted, &(around.users)())?;
                }
                Some(wanted)
            }
        },
        Wanted::Any => match earlier.filter(|range| taker(&nodes, *range).is_none()) {
            Some(earlier) => Some(earlier),
            None => Some(free(&nodes, &(around.users)())?),
        },
    };
    nodes.push(HostNode { uid, folder: folder.to_owned(), pod_uids });
    let is_same = known.len() == nodes.len() && nodes.iter().all(|node| known.contains(node));
    // A disk that is full is no reason not to start again.
    if !is_same {
        write(claims, &nodes).map_err(unusable)?;
    }
    Ok(pod_uids)
}

fn refused(value: String, problem: String) -> Error {
    Error::Argument { argument: "--pod-uids", value, problem }
}

/// Others may get the users that a node gives up, and its Pods none but those that they have.
fn check_unused(earlier: PodUids, wanted: PodUids, users: &BTreeSet<u32>) -> Result<(), Error> {
    match users.iter().find(|user| earlier.contains(**user)) {
        None => Ok(()),
        Some(user) => Err(refused(
            wanted.to_string(),
            format!(
                "is not what this agent's pods have had until now, and user {user} of these still runs: start it with                  {earlier}, or change this when none of its pods runs"
            ),
        )),
    }
}

/// Refuses users that are accounts of the host. `passwd`: the content of that file.
///
/// # Errors
/// The first of them.
pub fn check_no_account(range: PodUids, passwd: &str) -> Result<(), Error> {
    let account = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((name, fields.nth(1)?.parse::<u32>().ok()?))
    };
    match passwd.lines().filter_map(account).find(|(_, user)| range.contains(*user)) {
        None => Ok(()),
        Some((name, user)) => Err(refused(
            range.to_string(),
            format!("has user {user} in it, which is {name} on this host: give users that are nobody's"),
        )),
    }
}

/// The node that has some of these users.
fn taker(nodes: &[HostNode], range: PodUids) -> Option<(&HostNode, PodUids)> {
    nodes
        .iter()
        .find_map(|node| node.pod_uids.filter(|other| other.overlaps(range)).map(|other| (node, other)))
}

/// A range that no node has, and no process: the table may have been lost, and there may be hosts within the host.
fn free(nodes: &[HostNode], users: &BTreeSet<u32>) -> Result<PodUids, Error> {
    let is_free =
        |range: &PodUids| taker(nodes, *range).is_none() && !users.iter().any(|user| range.contains(*user));
    PodUids::usual().find(is_free).ok_or_else(|| {
        let problem = "all ranges of users for pods are taken by agents of this host: give FIRST:COUNT, or remove \
                       the data folders of agents that are no more";
        refused(String::new(), problem.to_owned())
    })
}

/// Forgets nodes that have no agent and whose folder is gone, or is that of another: this one. A node of which something is left
/// stays in the table, and so do its users.
fn forget_gone(nodes: &mut Vec<HostNode>, own_folder: &Path, around: &Surroundings<'_>) {
    let is_gone = |node: &HostNode| {
        let has_no_folder =
            fs::symlink_metadata(&node.folder).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        (has_no_folder || node.folder == own_folder) && !(around.is_claimed)(node.uid)
    };
    let gone: Vec<usize> = (0..nodes.len())
        .filter(|at| nodes.get(*at).is_some_and(is_gone))
        .take(limits::HOST_NODES_FORGOTTEN_MAX)
        .collect();
    if gone.is_empty() {
        return;
    }
    let users = (around.users)();
    let is_over = |node: &HostNode| {
        let has_groups = !(around.remove_groups)(node);
        let has_users = node.pod_uids.is_some_and(|range| users.iter().any(|user| range.contains(*user)));
        !has_groups && !has_users
    };
    let over: BTreeSet<usize> = gone.into_iter().filter(|at| nodes.get(*at).is_some_and(is_over)).collect();
    let mut at = 0;
    nodes.retain(|_| {
        at += 1;
        !over.contains(&(at - 1))
    });
}

/// One change at a time.
fn lock(claims: &Path) -> io::Result<Flock<File>> {
    let file = open_private(&claims.join("nodes.lock"))?;
    // Held for as long as a start takes to look at the table.
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

/// Opens a file beside the claims to write to it, as its user's alone.
pub fn open_private(path: &Path) -> io::Result<File> {
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
}

/// Lines that can't be understood are of another version: their nodes are entered anew by their agents.
fn read(claims: &Path) -> io::Result<Vec<HostNode>> {
    let bytes = match fs::read(claims.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    // A path may have anything but this in it.
    Ok(bytes.split(|byte| *byte == 0).filter_map(node_of).collect())
}

fn node_of(line: &[u8]) -> Option<HostNode> {
    let mut fields = line.splitn(3, |byte| *byte == b' ');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let uid = text()?.parse().ok()?;
    let pod_uids = match text()? {
        "-" => None,
        range => Some(PodUids::parse(range).ok()?),
    };
    let folder = PathBuf::from(OsStr::from_bytes(fields.next()?));
    Some(HostNode { uid, folder, pod_uids })
}

/// Whole or not at all.
fn write(claims: &Path, nodes: &[HostNode]) -> io::Result<()> {
    let mut bytes = Vec::new();
    for node in nodes {
        let range = node.pod_uids.map_or("-".to_owned(), |range| range.to_string());
        bytes.extend_from_slice(format!("{} {range} ", node.uid).as_bytes());
        bytes.extend_from_slice(node.folder.as_os_str().as_bytes());
        bytes.push(0);
    }
    let new = claims.join("nodes.new");
    let mut file = open_private(&new)?;
    file.set_len(0)?;
    file.write_all(&bytes)?;
    fs::rename(new, claims.join(FILE))
}

/// Users of all processes of this host that can be seen. Blocks.
pub fn users_of_processes() -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    // Not the owner of the folder, which is root where a program may not be looked into.
    let lines = pids.filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok());
    let users = lines.flat_map(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
        line.split_whitespace().filter_map(|user| user.parse().ok()).collect::<Vec<u32>>()
    });
    users.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// A host with data folders.
    struct Host {
        around: tempfile::TempDir,
        claimed: BTreeSet<u128>,
        users: BTreeSet<u32>,
        /// Nodes whose groups have processes.
        busy: BTreeSet<u128>,
        removed: RefCell<Vec<u128>>,
    }

    impl Host {
        fn new() -> Host {
            let around = tempfile::tempdir().unwrap();
            fs::create_dir(around.path().join("claims")).unwrap();
            Host {
                around,
                claimed: BTreeSet::new(),
                users: BTreeSet::new(),
                busy: BTreeSet::new(),
                removed: RefCell::default(),
            }
        }

        fn folder(&self, name: &str) -> PathBuf {
            let folder = self.around.path().join(name);
            fs::create_dir_all(&folder).unwrap();
            folder
        }

        fn enter(&self, uid: u128, name: &str, wanted: Wanted) -> Result<Option<PodUids>, String> {
            let surroundings = Surroundings {
                is_claimed: &|uid| self.claimed.contains(&uid.0),
                users: &|| self.users.clone(),
                remove_groups: &|node| {
                    self.removed.borrow_mut().push(node.uid.0);
                    !self.busy.contains(&node.uid.0)
                },
            };
            let claims = self.around.path().join("claims");
            enter(&claims, (NodeUid(uid), &self.folder(name)), wanted, &surroundings)
                .map_err(|problem| problem.to_string())
        }

        fn any(&self, uid: u128, name: &str) -> PodUids {
            self.enter(uid, name, Wanted::Any).unwrap().unwrap()
        }
    }

    fn range(text: &str) -> PodUids {
        PodUids::parse(text).unwrap()
    }

    #[test]
    fn nodes_of_a_host_share_no_users() {
        let host = Host::new();
        let usual: Vec<PodUids> = PodUids::usual().take(4).collect();
        assert_eq!([host.any(1, "a"), host.any(2, "b\n c")], usual[..2]);
        assert_eq!(host.enter(3, "own", Wanted::None), Ok(None));
        // They are kept, also while no agent lives: its Pods may.
        assert_eq!([host.any(2, "b\n c"), host.any(1, "a")], [usual[1], usual[0]]);
        let second = usual[1];
        let refused = host.enter(4, "d", Wanted::These(range("2000000000:65537"))).unwrap_err();
        assert!(refused.contains("--pod-uids") && refused.contains("overlap"), "{refused}");
        let given = range("500000:1000");
        assert_eq!(host.enter(4, "d", Wanted::These(given)), Ok(Some(given)));
        let refused = host.enter(5, "e", Wanted::These(range("500999:1"))).unwrap_err();
        assert!(refused.contains("/d"), "{refused}");
        // What is given goes before what there was; and then that is free.
        assert_eq!(host.enter(1, "a", Wanted::These(range("7:2"))), Ok(Some(range("7:2"))));
        assert_eq!(host.any(5, "e"), usual[0]);
        assert_eq!(host.any(2, "b\n c"), second);
    }

    #[test]
    fn users_of_pods_that_run_are_kept_and_accounts_are_no_pods_users() {
        let mut host = Host::new();
        let (before, after) = (range("500000:1000"), range("700000:1000"));
        assert_eq!(host.enter(1, "a", Wanted::These(before)), Ok(Some(before)));
        host.users = BTreeSet::from([500_999]);
        let refused = host.enter(1, "a", Wanted::These(after)).unwrap_err();
        assert!(refused.contains("500999") && refused.contains("500000:1000"), "{refused}");
        assert_eq!(host.enter(1, "a", Wanted::These(before)), Ok(Some(before)));
        host.users.clear();
        assert_eq!(host.enter(1, "a", Wanted::These(after)), Ok(Some(after)));
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nme:x:700001:1::/:/bin/sh\n";
        let refused = check_no_account(after, passwd).unwrap_err().to_string();
        assert!(refused.contains("me"), "{refused}");
        check_no_account(before, passwd).unwrap();
    }

    #[test]
    fn users_of_processes_are_given_to_nobody_else() {
        let mut host = Host::new();
        host.users = BTreeSet::from([0, 2_000_000_007]);
        assert_eq!(Some(host.any(1, "a")), PodUids::usual().nth(1));
        assert!(users_of_processes().contains(&nix::unistd::geteuid().as_raw()));
    }

    #[test]
    fn nodes_are_forgotten_when_nothing_is_left_of_them() {
        let mut host = Host::new();
        let first = host.any(1, "a");
        host.any(2, "b");
        assert!(host.removed.borrow().is_empty(), "their folders are there");
        fs::remove_dir(host.folder("a")).unwrap();
        // An agent that lives, groups that are not empty, a process: each is a reason to wait.
        host.claimed.insert(1);
        assert_ne!(host.any(3, "c"), first);
        assert!(host.removed.borrow().is_empty());
        host.claimed.clear();
        host.busy.insert(1);
        assert_ne!(host.any(4, "d"), first);
        assert_eq!(host.removed.take(), [1]);
        host.busy.clear();
        host.users.insert(2_000_000_001);
        assert_ne!(host.any(5, "e"), first);
        assert_eq!(host.removed.take(), [1]);
        host.users.clear();
        assert_eq!(host.any(6, "f"), first);
        assert_eq!(host.removed.take(), [1]);
        assert_eq!(host.any(6, "f"), first);
        assert!(host.removed.borrow().is_empty(), "it is forgotten");
        // A folder that was emptied is another node's now.
        host.any(7, "b");
        assert_eq!(host.removed.take(), [2]);
    }

    #[test]
    fn lines_of_other_versions_are_passed_over() {
        let host = Host::new();
        let first = host.any(1, "a");
        let file = host.around.path().join("claims/nodes");
        let mut bytes = fs::read(&file).unwrap();
        bytes.extend_from_slice(b"version 2\0\xff \0");
        fs::write(&file, bytes).unwrap();
        assert_eq!(host.any(1, "a"), first);
        assert_ne!(host.any(2, "b"), first);
    }
}
