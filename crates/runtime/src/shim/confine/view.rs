//! What a payload sees of the host.
//!
//! Owns: the namespaces for mounts, shared memory and names, and everything that is mounted there. Does not own: how a place
//! that does not exist becomes a mount point (`places`).
//!
//! A process container runs programs of the host, so its root is the host's, but:
//! - all of it is read-only, and neither devices nor set-user-id programs work there;
//! - `/proc` is that of its PID namespace, `/dev` has the few devices that every program expects, terminals and shared
//!   memory of its own, or of its Pod;
//! - `/tmp` and `/var/tmp` are folders of the Pod on the node's disk: they count as its disk use, not as its memory;
//! - the agent's data folder is covered; of it only the Pod's own places appear, at the paths that they have outside, also
//!   below what else is mounted above them.
//!
//! For user 0 more is needed, as it owns what nobody else can write to: the writable parts of `/proc` are read-only, those
//! that show the kernel's memory are covered.
//!
//! Mounts that the host makes later go on to appear, as automounted folders must; they are not read-only.

use super::places::Places;
use super::raw::{self, set_mount_attributes};
use super::{Failure, make_namespaces};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::sethostname;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags,
};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes of shared memory, as container engines have it.
const SHARED_MEMORY: &str = "size=67108864,mode=1777";

/// Devices that every program expects, with their numbers.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Parts of `/proc` that user 0 could change the host by.
const PROC_READ_ONLY: [&str; 5] = ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"];

/// Files that show user 0 what is not the container's.
const HIDDEN_FILES: [&str; 5] =
    ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/latency_stats"];

/// Folders likewise.
const HIDDEN_FOLDERS: [&str; 3] = ["/proc/acpi", "/proc/scsi", "/sys/firmware"];

/// Where temporary files go.
pub(crate) const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// What a payload sees. Paths are absolute and without `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct View {
    /// The agent's data folder; empty: none.
    pub hidden: Vec<u8>,
    /// Folders that are shown as `/tmp` and `/var/tmp`; none: the host's are.
    pub temporary: Vec<Vec<u8>>,
    /// Those too are read-only.
    pub read_only_temporary: bool,
    /// What else is seen where, later ones on top of earlier ones.
    pub places: Vec<Place>,
    /// The host's name; empty: the host's.
    pub hostname: Vec<u8>,
    /// The host's devices, and nothing read-only.
    pub privileged: bool,
    /// Devices can't be made here, as in a user namespace, but those of the host be shown.
    pub host_devices: bool,
    /// The payload will be user 0.
    pub root: bool,
    /// The host's shared memory and queues.
    pub host_ipc: bool,
    /// The IPC namespace of its Pod, a file; empty: one of its own.
    pub ipc_namespace: Vec<u8>,
    /// What is seen as `/dev/shm`; empty: memory of its own, or the host's with `host_ipc`.
    pub shared_memory: Vec<u8>,
}

/// A file or folder of the host, and where it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// On the host. No link in it is followed.
    pub source: Vec<u8>,
    /// In the container.
    pub target: Vec<u8>,
    /// It can't be changed there.
    pub read_only: bool,
    /// What of later mounts of the host below it is seen.
    pub propagation: Propagation,
}

/// See [`Place::propagation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// Nothing.
    Private,
    /// All.
    HostToContainer,
}

/// A mount that is not yet anywhere.
pub(crate) struct Tree {
    pub(super) mount: OwnedFd,
    pub is_folder: bool,
}

impl View {
    /// The namespaces that [`make`](Self::make) makes or joins.
    pub fn namespaces(&self) -> CloneFlags {
        let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS;
        flags.set(CloneFlags::CLONE_NEWIPC, !self.host_ipc);
        flags
    }

    /// Moves this process there.
    pub fn make(&self) -> Result<(), Failure> {
        if self.ipc_namespace.is_empty() {
            make_namespaces(self.namespaces())?;
        } else {
            // Before the mounts: what is mounted for queues is that of the namespace at that time.
            join_namespace(&self.ipc_namespace, CloneFlags::CLONE_NEWIPC)?;
            make_namespaces(self.namespaces().difference(CloneFlags::CLONE_NEWIPC))?;
        }
        if !self.hostname.is_empty() {
            sethostname(OsStr::from_bytes(&self.hostname))
                .map_err(Failure::of("the host's name can't be set"))?;
        }
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", slave).map_err(Failure::at("mounts can't be separated"))?;
        // Sources by the host's names, before anything covers them and before they become read-only.
        let places = self.places.iter().map(|place| Ok((open_place(place)?, place)));
        let places = places.collect::<Result<Vec<_>, Failure>>()?;
        let temporary = self.open_temporary()?;
        let shared_memory = match self.shared_memory.as_slice() {
            [] => None,
            source => Some(open_tree(source, "the Pod's shared memory")?),
        };
        let devices = if self.host_devices { open_devices()? } else { Vec::new() };
        if !self.privileged {
            let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
                | MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV;
            set_mount_attributes(CWD, c"/", true, attributes.bits(), raw::Propagation::Kept)
                .map_err(Failure::of("the host's files can't be made read-only"))?;
        }
        let mut mounts = Places::new()?;
        let given = self.given_targets(&places);
        mounts
            .make_missing(places.iter().map(|(tree, place)| (path(&place.target), tree.is_folder)), &given)?;
        mount_proc()?;
        if !self.privileged {
            make_dev(&mut mounts, &devices, shared_memory, self.host_ipc)?;
        }
        for (tree, target) in temporary {
            mounts.show_if_there(tree, Path::new(target), self.read_only_temporary)?;
        }
        // What is shown where it is anyway may have the agent's folder in it.
        let (in_place, elsewhere): (Vec<_>, Vec<_>) =
            places.into_iter().partition(|(_, place)| self.is_above_hidden(place));
        for (tree, place) in in_place {
            mounts.show(tree, path(&place.target), !place.read_only)?;
        }
        if !self.hidden.is_empty() {
            mounts.cover(path(&self.hidden))?;
        }
        for (tree, place) in elsewhere {
            mounts.show(tree, path(&place.target), !place.read_only)?;
        }
        if self.root && !self.privileged {
            restrict_proc()?;
        }
        mounts.finish()
    }

    fn is_above_hidden(&self, place: &Place) -> bool {
        place.source == place.target
            && !self.hidden.is_empty()
            && path(&self.hidden).starts_with(path(&place.source))
    }

    fn open_temporary(&self) -> Result<Vec<(Tree, &'static str)>, Failure> {
        let open = |(source, target): (&Vec<u8>, _)| {
            let tree = open_tree(source, &mounted_at(Path::new(target)))?;
            tree.restrict(false, Propagation::Private)?;
            Ok((tree, target))
        };
        self.temporary.iter().zip(TEMPORARY).map(open).collect()
    }

    /// Folders below which mount points are made without the host, as they are ours.
    fn given_targets<'a>(&'a self, places: &[(Tree, &'a Place)]) -> Vec<&'a Path> {
        let mut given: Vec<&Path> = places.iter().map(|(_, place)| path(&place.target)).collect();
        if !self.hidden.is_empty() {
            given.push(path(&self.hidden));
        }
        if !self.temporary.is_empty() {
            given.extend(TEMPORARY.map(Path::new));
        }
        if !self.privileged {
            given.push(Path::new("/dev"));
        }
        given
    }
}

impl Tree {
    /// Puts it where a file or folder of its kind is, from where it will be mounted at `target` of a container.
    #[cfg(any(feature = "cri", feature = "oci"))]
    pub fn mount_at(&self, place: &Path, target: &Path) -> Result<(), Failure> {
        attach(self.mount.as_fd(), CWD, place)
            .map_err(Failure::at(format!("{} can't be held", mounted_at(target))))
    }

    fn restrict(&self, read_only: bool, propagation: Propagation) -> Result<(), Failure> {
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID;
        // A device that is shown by name is meant to be used.
        attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, self.is_folder);
        attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
        let propagation = match propagation {
            Propagation::Private => raw::Propagation::Private,
            Propagation::HostToContainer => raw::Propagation::Slave,
        };
        set_mount_attributes(self.mount.as_fd(), c"", true, attributes.bits(), propagation)
            .map_err(Failure::of("a mount can't be restricted"))
    }
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// What a container is to see of the host at `target`, to be mounted elsewhere. No link in its path is followed.
#[cfg(any(feature = "cri", feature = "oci"))]
pub(crate) fn open_source(source: &[u8], target: &Path) -> Result<Tree, Failure> {
    open_tree(source, &mounted_at(target))
}

/// What people know a source by: where it is on the node is none of a Pod's business.
fn mounted_at(target: &Path) -> String {
    format!("what is to be mounted at {}", target.display())
}

fn open_place(place: &Place) -> Result<Tree, Failure> {
    let tree = open_tree(&place.source, &mounted_at(path(&place.target)))?;
    tree.restrict(place.read_only, place.propagation)?;
    Ok(tree)
}

/// Moves this process into the namespace that a file of the host is.
fn join_namespace(file: &[u8], kind: CloneFlags) -> Result<(), Failure> {
    let failed = |what: &str| format!("the Pod's namespace {what}");
    let opened = rustix::fs::open(file, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(Failure::at(failed("can't be opened")))?;
    nix::sched::setns(opened, kind).map_err(Failure::of(failed("can't be joined")))
}

/// A copy of the mounts at a path of the host, which is called `name` in messages. Others may be changing folders of that path
/// right now: no link is followed.
fn open_tree(source: &[u8], name: &str) -> Result<Tree, Failure> {
    let failed = |what: &str| format!("{name} {what}");
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let found = rustix::fs::openat2(CWD, source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
        .map_err(Failure::at(failed("can't be opened without following links")))?;
    let kind = rustix::fs::fstat(&found).map_err(Failure::at(failed("can't be looked at")))?;
    let mount = clone_tree(found.as_fd(), "").map_err(Failure::at(failed("can't be mounted elsewhere")))?;
    Ok(Tree { mount, is_folder: FileType::from_raw_mode(kind.st_mode).is_dir() })
}

/// A mount of one file that is in no namespace, so that nobody can make it writable again. Links are followed.
pub(crate) fn read_only_copy(file: &Path) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount =
        rustix::mount::open_tree(CWD, file, flags).map_err(|errno| Errno::from_raw(errno.raw_os_error()))?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID;
    set_mount_attributes(mount.as_fd(), c"", false, attributes.bits(), raw::Propagation::Private)?;
    Ok(mount)
}

/// A copy of the mounts at a path below a folder, not yet anywhere.
pub(super) fn clone_tree(
    folder: BorrowedFd<'_>,
    name: impl rustix::path::Arg,
) -> Result<OwnedFd, rustix::io::Errno> {
    // Recursive, also because mounts that came from another user's namespace can't be copied one by one.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    rustix::mount::open_tree(folder, name, flags)
}

/// Puts a mount where a descriptor is, or at a name below it.
pub(super) fn attach(
    mount: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    name: impl rustix::path::Arg,
) -> Result<(), rustix::io::Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, name, flags)
}

/// A file system in memory that is not yet anywhere, for mount points: next to nothing can be written to it.
pub(super) fn new_folder_mount(mode: u32, uid: u32, gid: u32) -> Result<OwnedFd, rustix::io::Errno> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "mode", format!("{mode:o}"))?;
    for (key, value) in [("uid", uid), ("gid", gid)] {
        // Root's it is anyway, or there is no root here.
        if value != 0 {
            rustix::mount::fsconfig_set_string(&context, key, value.to_string())?;
        }
    }
    rustix::mount::fsconfig_set_string(&context, "size", "1048576")?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn mount_proc() -> Result<(), Failure> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", "/proc", "proc", flags, None)
        .map_err(Failure::at("/proc of the container can't be mounted"))
}

/// Copies of the host's devices.
fn open_devices() -> Result<Vec<OwnedFd>, Failure> {
    let open = |(name, ..): (&str, u32, u32)| {
        clone_tree(CWD, format!("/dev/{name}"))
            .map_err(Failure::at(format!("/dev/{name} can't be mounted elsewhere")))
    };
    DEVICES.into_iter().map(open).collect()
}

fn make_dev(
    mounts: &mut Places,
    devices: &[OwnedFd],
    shared_memory: Option<Tree>,
    host_ipc: bool,
) -> Result<(), Failure> {
    let failed = |what: &str| format!("/dev of the container: {what}");
    let given_memory = match shared_memory {
        Some(tree) => Some(tree.mount),
        None if host_ipc => clone_tree(CWD, "/dev/shm").ok(),
        None => None,
    };
    let host_queues = if host_ipc { clone_tree(CWD, "/dev/mqueue").ok() } else { None };
    let dev = new_folder_mount(0o755, 0, 0).map_err(Failure::at(failed("no file system")))?;
    let device_mode = Mode::from_raw_mode(0o666);
    for (at, (name, major, minor)) in DEVICES.into_iter().enumerate() {
        let made = match devices.get(at) {
            Some(device) => rustix::fs::mknodat(&dev, name, FileType::RegularFile, device_mode, 0)
                .and_then(|()| attach(device.as_fd(), dev.as_fd(), name)),
            None => {
                let number = rustix::fs::makedev(major, minor);
                rustix::fs::mknodat(&dev, name, FileType::CharacterDevice, device_mode, number)
                    // Whatever umask says.
                    .and_then(|()| rustix::fs::chmodat(&dev, name, device_mode, rustix::fs::AtFlags::empty()))
            }
        };
        made.map_err(Failure::at(failed(name)))?;
    }
    let links = [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ];
    for (to, name) in links {
        rustix::fs::symlinkat(to, &dev, name).map_err(Failure::at(failed(name)))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755)).map_err(Failure::at(failed(name)))?;
    }
    mounts.show_own(dev, Path::new("/dev"))?;
    let options = |text: &str| CString::new(text).ok();
    let mount = |kind: &str, at: &str, flags, data: &str| {
        rustix::mount::mount(kind, at, kind, flags, options(data).as_deref())
            .map_err(Failure::at(format!("{at} of the container can't be mounted")))
    };
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", "/dev/pts", flags, "newinstance,ptmxmode=0666,mode=0620")?;
    match given_memory {
        Some(memory) => attach(memory.as_fd(), CWD, "/dev/shm").map_err(Failure::at(failed("shm")))?,
        None => mount("tmpfs", "/dev/shm", flags | MountFlags::NODEV, SHARED_MEMORY)?,
    }
    match host_queues {
        Some(queues) => attach(queues.as_fd(), CWD, "/dev/mqueue").map_err(Failure::at(failed("mqueue")))?,
        // A kernel may have none.
        None => drop(mount("mqueue", "/dev/mqueue", flags | MountFlags::NODEV, "")),
    }
    Ok(())
}

fn restrict_proc() -> Result<(), Failure> {
    let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    for name in PROC_READ_ONLY {
        let Some(tree) = missing_is_none(clone_tree(CWD, name), name)? else { continue };
        set_mount_attributes(tree.as_fd(), c"", true, read_only.bits(), raw::Propagation::Kept)
            .map_err(Failure::of(format!("{name} can't be made read-only")))?;
        attach(tree.as_fd(), CWD, name).map_err(Failure::at(format!("{name} can't be made read-only")))?;
    }
    for name in HIDDEN_FILES {
        let Some(target) = missing_is_none(open_path(name), name)? else { continue };
        let hide = || attach(clone_tree(CWD, "/dev/null")?.as_fd(), target.as_fd(), "");
        hide().map_err(Failure::at(format!("{name} can't be hidden")))?;
    }
    for name in HIDDEN_FOLDERS {
        let Some(target) = missing_is_none(open_path(name), name)? else { continue };
        let hide = || attach(new_folder_mount(0o555, 0, 0)?.as_fd(), target.as_fd(), "");
        hide().map_err(Failure::at(format!("{name} can't be hidden")))?;
    }
    Ok(())
}

fn open_path(name: &str) -> Result<OwnedFd, rustix::io::Errno> {
    rustix::fs::openat(CWD, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

fn missing_is_none<T>(found: Result<T, rustix::io::Errno>, name: &str) -> Result<Option<T>, Failure> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(errno) => Err(Failure::at(format!("{name} can't be restricted"))(errno)),
    }
}
