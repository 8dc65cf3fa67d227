//! What keeps a payload apart from the host and from other Pods.
//!
//! Owns: what is done to a process between its fork and its exec, so that it sees what it may see (`view`), is who it is to
//! be and has no rights beyond that (`identity`, `seccomp`). Does not own: who asked for it (`process`), limits (`cgroups`).
//!
//! The shim itself stays outside: it needs the agent's folder for logs and its socket. So it is the payload's process that
//! makes the namespaces and mounts, and a process of an exec that joins them.
//!
//! Order matters. First what needs rights: the control group, the view, the host's name. Then the user and the loss of all
//! rights. The filter comes last, as it forbids most of what came before; nothing but the exec follows it.
//!
//! Invariants: no path of a source is followed through a link that somebody else could have put there; nothing is ever made
//! or changed in a folder of the host to get a mount point; a step that fails ends the start.

mod control_group;
mod encoding;
mod identity;
mod places;
mod raw;
mod seccomp;
mod view;

pub(crate) use control_group::ControlGroup;
#[cfg(feature = "oci")]
pub(crate) use identity::FILTER_RIGHT;
pub(crate) use identity::{Identity, User};
pub(crate) use places::is_usable_target;
pub(crate) use seccomp::Profile;
#[cfg(any(feature = "cri", feature = "oci"))]
pub(crate) use view::open_source;
pub(crate) use view::{Place, Propagation, TEMPORARY, View, read_only_copy};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Gid, Uid, fchown, isatty};
use std::ffi::OsStr;
use std::fs::{DirBuilder, Permissions};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// What one container is confined to. Plain data, made by the agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Confinement {
    /// Folders of the Pod, parents first, made by the shim if they are missing.
    pub folders: Vec<Folder>,
    /// Its control groups, made by the shim if they are missing.
    pub control_groups: Vec<ControlGroup>,
    /// What it sees of the host. `None`: all, as namespaces can't be made.
    pub view: Option<View>,
    /// Who it is. `None`: the agent's user, with the agent's rights.
    pub identity: Option<Identity>,
    /// Which system calls it may make. `None`: all.
    pub profile: Option<Profile>,
}

/// A folder of the Pod on the node's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    pub path: Vec<u8>,
    /// Whatever umask says.
    pub mode: u32,
    /// User and group. `None`: the agent's.
    pub owner: Option<(u32, u32)>,
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What could not be done, with its object.
    pub what: String,
    /// Why.
    pub errno: Errno,
}

impl Failure {
    fn of(what: impl Into<String>) -> impl FnOnce(Errno) -> Failure {
        move |errno| Failure { what: what.into(), errno }
    }

    /// For those calls that come from `rustix`.
    fn at(what: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> Failure {
        move |errno| Failure { what: what.into(), errno: Errno::from_raw(errno.raw_os_error()) }
    }
}

/// Makes what is the same for all containers, in a process whose copies start them.
pub(super) fn make_ready() {
    for profile in [Profile::Usual, Profile::NoTracing] {
        let _ = seccomp::program(profile);
    }
}

impl Confinement {
    /// For the shim, before there is a payload: makes folders and control groups.
    pub fn prepare(&self) -> Result<(), Failure> {
        self.folders.iter().try_for_each(Folder::make)?;
        self.control_groups.iter().try_for_each(ControlGroup::make)
    }

    /// For the process that is to become the payload: everything but the filter.
    pub fn enter(&self) -> Result<(), Failure> {
        self.join_control_groups()?;
        if let Some(view) = &self.view {
            view.make()?;
        }
        self.give_up_rights()
    }

    /// For the process of an exec, given a pidfd of the payload's main process: everything but the filter.
    pub fn join(&self, main: BorrowedFd<'_>) -> Result<(), Failure> {
        self.join_control_groups()?;
        if let Some(view) = &self.view {
            // All at once, as the mount namespace hides the others.
            setns(main, view.namespaces())
                .map_err(Failure::of("the container's namespaces can't be joined"))?;
        }
        self.give_up_rights()
    }

    /// Makes the payload's user the owner of its pipes and terminal, or it could not open them by a name such as
    /// `/dev/stdout`. What else a stream may be, such as `/dev/null`, belongs to the host.
    pub fn give_streams(&self, streams: [BorrowedFd<'_>; 3]) {
        if let Some(user) = self.identity.as_ref().and_then(|identity| identity.user.as_ref()) {
            give_streams(streams, user.uid, user.gid);
        }
    }

    /// The last step before the program is executed.
    pub fn filter(&self) -> Result<(), Failure> {
        if let Some(program) = self.profile.and_then(seccomp::program) {
            raw::install_filter(program)
                .map_err(Failure::of("the filter of system calls can't be installed"))?;
        }
        self.identity.as_ref().map_or(Ok(()), Identity::filtered)
    }

    fn join_control_groups(&self) -> Result<(), Failure> {
        self.control_groups.iter().try_for_each(ControlGroup::join)
    }

    fn give_up_rights(&self) -> Result<(), Failure> {
        if self.profile.is_none() {
            // The filter refuses everything about keys; without it, those of the agent's session must not be there. A kernel
            // without keys has none.
            let _ = raw::join_new_session_keyring();
        }
        match &self.identity {
            Some(identity) => identity.assume(self.profile.is_some() && seccomp::is_known()),
            None => Ok(()),
        }
    }
}

impl Folder {
    fn make(&self) -> Result<(), Failure> {
        let path = Path::new(OsStr::from_bytes(&self.path));
        // Where it is on the node is none of the Pod's business, and the agent's log names the Pod.
        let name = path.file_name().unwrap_or_default();
        let failed = |error: std::io::Error| Failure {
            what: format!("the Pod's folder {} can't be used", name.display()),
            errno: error.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
        };
        // Asking for one that exists is no error. Parents that nobody named are the agent's alone.
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let found = std::fs::metadata(path).map_err(failed)?;
        if let Some((user, group)) = self.owner
            && (found.uid(), found.gid()) != (user, group)
        {
            std::os::unix::fs::chown(path, Some(user), Some(group)).map_err(failed)?;
        }
        // Also after a change of the owner, which may have taken bits away.
        if found.mode() & 0o7777 != self.mode || self.mode > 0o777 {
            std::fs::set_permissions(path, Permissions::from_mode(self.mode)).map_err(failed)?;
        }
        Ok(())
    }
}

fn make_namespaces(flags: CloneFlags) -> Result<(), Failure> {
    unshare(flags).map_err(Failure::of("namespaces can't be made"))
}

/// The same, for a user that is known only now.
pub(super) fn give_streams(streams: [BorrowedFd<'_>; 3], uid: u32, gid: u32) {
    for stream in streams {
        let is_its_own = fstat(stream)
            .is_ok_and(|found| found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFIFO.bits())
            || isatty(stream).unwrap_or(false);
        if is_its_own {
            // Without it everything but such a name works.
            let _ = fchown(stream, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        }
    }
}
