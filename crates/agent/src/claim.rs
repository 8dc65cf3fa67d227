//! One agent per node uid on a host.
//!
//! Owns: the claim. Does not own: the lock of a data folder, what is known of the host's nodes (`host_nodes`).
//!
//! A copy of a folder has a lock of its own, but the same node uid: two agents of one host that take each other's Pods for their own
//! would run them twice (A1, R6). The claim is a lock on the byte that the node uid is the number of, of a file in a folder that Pods
//! don't see or may not open: a name that anybody on the host's network may take, such as that of an abstract socket, would let a
//! Pod keep its own agent from starting again.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use stint_api::NodeUid;
use stint_runtime::PodUids;

use crate::error::Error;
use crate::host_nodes::{Surroundings, Wanted, check_no_account, enter, open_private, users_of_processes};

/// Free again with the process, however it ends.
#[derive(Debug)]
pub struct Claim(#[expect(dead_code, reason = "it is held, not used")] File);

/// What an agent has for itself.
#[derive(Debug)]
pub struct ClaimedNode {
    #[expect(dead_code, reason = "it is held, not used")]
    claim: Claim,
    /// Users that its Pods get, and those of no other agent of the host.
    pub pod_uids: PodUids,
}

/// Claims a node uid for the agent of a data folder, which is absolute and without links, and users for its Pods: those that are
/// given, or those that it had, or any. Clears away after nodes of this host that are no more. Blocks.
///
/// # Errors
/// If another agent of this host has the node uid or some of the users, or there is no place for the claim.
pub fn claim_node(folder: &Path, node_uid: NodeUid, pod_uids: Option<PodUids>) -> Result<ClaimedNode, Error> {
    let claims = claims_folder();
    let claim = claim_in(&claims, folder, node_uid)?;
    let wanted = match pod_uids {
        // Its Pods are its own user.
        _ if !nix::unistd::geteuid().is_root() => Wanted::None,
        Some(given) => {
            // Accounts of elsewhere can't be told from users that are nobody's.
            check_no_account(given, &std::fs::read_to_string("/etc/passwd").unwrap_or_default())?;
            Wanted::These(given)
        }
        None => Wanted::Any,
    };
    let around = Surroundings {
        is_claimed: &|node_uid| is_claimed_in(&claims, node_uid),
        users: &users_of_processes,
        remove_groups: &|node| {
            stint_runtime::remove_control_groups(&node.uid.to_string(), &node.folder.join("oci/shims"))
        },
    };
    let pod_uids = enter(&claims, (node_uid, folder), wanted, &around)?;
    Ok(ClaimedNode { claim, pod_uids: pod_uids.unwrap_or_default() })
}

/// Whether an agent of this user that lives has a node uid. Where that can't be told it counts as one that does. Blocks.
#[cfg(feature = "cri")]
pub fn is_claimed(node_uid: &str) -> bool {
    let Ok(node_uid) = node_uid.parse::<NodeUid>() else { return true };
    is_claimed_in(&claims_folder(), node_uid)
}

fn is_claimed_in(claims: &Path, node_uid: NodeUid) -> bool {
    let Ok(file) =
        File::options().write(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(claims.join("claims"))
    else {
        return true;
    };
    let mut byte = byte_of(node_uid);
    match fcntl(&file, FcntlArg::F_OFD_GETLK(&mut byte)) {
        Ok(_) => byte.l_type != libc::F_UNLCK as libc::c_short,
        Err(_) => true,
    }
}

/// The same for all agents of a user, whatever their surroundings say.
fn claims_folder() -> PathBuf {
    match nix::unistd::geteuid() {
        user if user.is_root() => PathBuf::from("/run/stint-agent"),
        // Not its runtime folder, which its Pods see too: these have another /tmp.
        user => PathBuf::from(format!("/tmp/stint-agent-{user}")),
    }
}

fn claim_in(claims: &Path, folder: &Path, node_uid: NodeUid) -> Result<Claim, Error> {
    let failed = |problem: String| Error::Folder { path: folder.to_owned(), problem };
    let unusable = |error: io::Error| {
        failed(format!(
            "its node can't be claimed in {} ({error}): make that folder usable",
            claims.display()
        ))
    };
    make_private(claims).map_err(unusable)?;
    let file = open_private(&claims.join("claims")).map_err(unusable)?;
    match fcntl(&file, FcntlArg::F_OFD_SETLK(&byte_of(node_uid))) {
        Ok(_) => Ok(Claim(file)),
        Err(Errno::EAGAIN | Errno::EACCES) => Err(failed(format!(
            "is a copy of the folder of another agent that runs on this host (node uid {node_uid}): give an empty folder"
        ))),
        Err(errno) => Err(unusable(errno.into())),
    }
}

/// The byte that a node uid is the number of.
fn byte_of(node_uid: NodeUid) -> libc::flock {
    // Of one node uid in 2^63 another has the number: it is refused, with a message that is wrong.
    let number = libc::off_t::try_from(node_uid.0 & (i64::MAX as u128)).unwrap_or_default();
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: number.min(libc::off_t::MAX - 1),
        l_len: 1,
        l_pid: 0,
    }
}

/// Makes the folder, or finds that it is this user's and nobody else's.
fn make_private(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    let facts = folder.symlink_metadata()?;
    let is_private = facts.is_dir()
        && facts.uid() == nix::unistd::geteuid().as_raw()
        && facts.permissions().mode() & 0o077 == 0;
    if is_private { Ok(()) } else { Err(io::Error::other("it is not a folder of this user alone")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a1_a_node_uid_has_one_agent_at_a_time() {
        let around = tempfile::tempdir().unwrap();
        let claims = around.path().join("claims");
        let claim = |uid| claim_in(&claims, Path::new("/data"), NodeUid(uid));
        assert!(is_claimed_in(&claims, NodeUid(1)), "where nothing is known somebody may have it");
        let first = claim(1).unwrap();
        let _other = claim(2).unwrap();
        let is_claimed = |uid| is_claimed_in(&claims, NodeUid(uid));
        assert_eq!([1, 2, 3].map(is_claimed), [true, true, false]);
        let refused = claim(1).unwrap_err().to_string();
        assert!(refused.contains("copy of the folder"), "{refused}");
        drop(first);
        assert_eq!([1, 2, 3].map(is_claimed), [false, true, false]);
        claim(1).unwrap();
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_no_place_for_claims() {
        let around = tempfile::tempdir().unwrap();
        let open = around.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        let link = around.path().join("link");
        std::os::unix::fs::symlink("/", &link).unwrap();
        for claims in [open, link] {
            let refused = claim_in(&claims, Path::new("/data"), NodeUid(1)).unwrap_err().to_string();
            assert!(refused.contains("can't be claimed"), "{refused}");
        }
    }
}
