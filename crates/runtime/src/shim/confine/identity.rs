//! Who a payload is, and what it may do.
//!
//! Owns: user, groups, capabilities, limits of resources that every process has. Does not own: who it is to be.

use super::Failure;
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

/// Who a payload is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Identity {
    /// `None`: the agent's, which can't be changed without root's rights.
    pub user: Option<User>,
    /// Names of the capabilities that it keeps, such as `CAP_NET_ADMIN`; `None`: all of the agent's.
    pub capabilities: Option<Vec<String>>,
    /// A program can't gain rights that its parent has not.
    pub no_new_privileges: bool,
}

/// User and groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub uid: u32,
    pub gid: u32,
    /// All further groups.
    pub groups: Vec<u32>,
}

/// What a process needs to install a filter of system calls if it may gain privileges later, by its name.
#[cfg(feature = "oci")]
pub(crate) const FILTER_RIGHT: &str = "CAP_SYS_ADMIN";

/// The same.
const FILTER_CAPABILITY: Capability = Capability::CAP_SYS_ADMIN;

impl Identity {
    /// Becomes it. With `filters` a filter of system calls is to be installed afterwards: the right to do so stays until
    /// [`filtered`](Self::filtered), if it is needed.
    pub(super) fn assume(&self, filters: bool) -> Result<(), Failure> {
        // What a crash would write, and where to, is for the host to decide, not for a Pod's program.
        setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(Failure::of("core dumps can't be turned off"))?;
        let kept = match &self.capabilities {
            Some(names) => Some(known(names)?),
            None => None,
        };
        // What is not in here can't come back by any exec.
        // Whoever may not narrow that, an agent without root and without a user namespace, has no capabilities to begin with,
        // and without new privileges none come by an exec.
        let may_narrow = caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).unwrap_or(false);
        if let Some(kept) = kept.as_ref().filter(|_| may_narrow) {
            for capability in caps::all().difference(kept) {
                // One that this kernel does not know is refused, and can't be kept either; one that is not there may be dropped.
                if let Err(error) = caps::drop(None, CapSet::Bounding, *capability)
                    && caps::has_cap(None, CapSet::Bounding, *capability).unwrap_or(false)
                {
                    return Err(caps_failure(error));
                }
            }
        }
        let has_right = || caps::has_cap(None, CapSet::Effective, FILTER_CAPABILITY).unwrap_or(false);
        let keeps_right = filters && !self.no_new_privileges && has_right();
        if keeps_right {
            prctl::set_keepcaps(true).map_err(Failure::of("rights can't be kept for a while"))?;
        }
        if let Some(user) = &self.user {
            let groups: Vec<_> = user.groups.iter().copied().map(Gid::from_raw).collect();
            let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
            setgroups(&groups).map_err(Failure::of("groups can't be set"))?;
            setresgid(gid, gid, gid).map_err(Failure::of(format!("can't become group {}", user.gid)))?;
            // For any user but 0 the kernel takes all capabilities away here, or else when the program is executed.
            setresuid(uid, uid, uid).map_err(Failure::of(format!("can't become user {}", user.uid)))?;
        }
        if let Some(kept) = &kept {
            // A kernel without ambient ones has nothing to clear.
            let _ = caps::clear(None, CapSet::Ambient);
            let mut kept = kept.clone();
            kept.extend(keeps_right.then_some(FILTER_CAPABILITY));
            hold_only(&kept)?;
            caps::clear(None, CapSet::Inheritable).map_err(caps_failure)?;
        }
        // That a program may gain privileges is allowed, not asked for: who has no right to filter it gives that up.
        if self.no_new_privileges || (filters && !keeps_right) {
            prctl::set_no_new_privs().map_err(Failure::of("new privileges can't be given up"))?;
        }
        Ok(())
    }

    /// Gives up what was needed to install a filter.
    pub(super) fn filtered(&self) -> Result<(), Failure> {
        match &self.capabilities {
            Some(names) if !self.no_new_privileges => hold_only(&known(names)?),
            _ => Ok(()),
        }
    }
}

/// Gives up all capabilities but these.
fn hold_only(kept: &CapsHashSet) -> Result<(), Failure> {
    let held = caps::read(None, CapSet::Permitted).map_err(caps_failure)?;
    let kept: CapsHashSet = held.intersection(kept).copied().collect();
    caps::set(None, CapSet::Effective, &kept).map_err(caps_failure)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(caps_failure)
}

fn known(names: &[String]) -> Result<CapsHashSet, Failure> {
    let one = |name: &String| {
        name.parse::<Capability>().map_err(|_| Failure {
            what: format!("{name:?} is no capability"),
            errno: nix::errno::Errno::EINVAL,
        })
    };
    names.iter().map(one).collect()
}

fn caps_failure(error: caps::errors::CapsError) -> Failure {
    Failure { what: format!("capabilities can't be given up: {error}"), errno: nix::errno::Errno::last() }
}
