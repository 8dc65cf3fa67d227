//! System calls for which neither `nix` nor `rustix` has a safe form.
//!
//! Owns: thin wrappers, each with the reason why it is sound. Does not own: when to call them.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc::{self, sock_filter, sock_fprog};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What of later mounts crosses the border of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Propagation {
    /// Left as it is.
    Kept,
    /// Nothing.
    Private,
    /// Those of the host come in.
    Slave,
}

/// The kernel's `struct mount_attr`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Sets attributes of the mount at a path below a folder, and of all mounts below it if asked for. Since Linux 5.12.
pub(super) fn set_mount_attributes(
    folder: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
    set: u32,
    propagation: Propagation,
) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let attributes = MountAttributes {
        set: u64::from(set),
        clear: 0,
        propagation: match propagation {
            Propagation::Kept => 0,
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Slave => libc::MS_SLAVE,
        },
        user_namespace: 0,
    };
    // SAFETY: path and attributes are valid for reads for the whole call, and the size is that of the attributes.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            folder.as_raw_fd(),
            path.as_ptr(),
            flags,
            &attributes,
            size_of::<MountAttributes>(),
        )
    };
    Errno::result(result).map(drop)
}

/// Installs a filter for this process and what it starts. Needs either no new privileges or CAP_SYS_ADMIN.
pub(super) fn install_filter(program: &[sock_filter]) -> Result<(), Errno> {
    let filter = sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies the program, which is valid for reads for the whole call, and writes nothing.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &filter) };
    Errno::result(result).map(drop)
}

/// Leaves the session keyring that came from the agent, for an empty one.
pub(super) fn join_new_session_keyring() -> Result<(), Errno> {
    // SAFETY: a null name asks for an anonymous keyring.
    let result = unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>())
    };
    Errno::result(result).map(drop)
}
