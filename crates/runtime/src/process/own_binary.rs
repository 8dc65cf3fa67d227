//! The program that shims are made of, as a copy that nobody can change through them.
//!
//! Owns: that copy. Does not own: starting it.
//!
//! The way from a shim to a payload is an exec, and until then the process is the agent's binary: whoever is in the same container
//! finds it as `/proc/PID/exe`, and a container may name `/proc/self/exe` as its own program. User 0 of a container owns the
//! file behind that, and could make it writable or set-user-id for the host. So the shims run from a mount of the binary that is
//! read-only and in nobody's reach, or, where such a mount can't be made, from memory that is sealed.

use crate::shim::confine::read_only_copy;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A program to execute.
pub(super) struct OwnBinary {
    copy: OwnedFd,
}

impl OwnBinary {
    /// Of the file at this path. In memory it takes the file's size, until the last process of it is gone.
    pub fn of(program: &Path) -> io::Result<OwnBinary> {
        let copy = match read_only_copy(program) {
            Ok(mount) => mount,
            Err(_) => in_memory(program)?,
        };
        Ok(OwnBinary { copy })
    }

    /// Where this process, and any that it makes, executes it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.copy.as_raw_fd()))
    }
}

fn in_memory(program: &Path) -> io::Result<OwnedFd> {
    let mut source = File::open(program)?;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Kernels since 6.3 want to be told that it is to be executed, older ones know no such word.
    let executable = MFdFlags::from_bits_retain(nix::libc::MFD_EXEC);
    let memory =
        memfd_create(c"stint-shim", flags | executable).or_else(|_| memfd_create(c"stint-shim", flags))?;
    let mut copy = File::from(memory);
    io::copy(&mut source, &mut copy)?;
    let all =
        SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(all))?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    fn check(copy: OwnedFd) {
        let binary = OwnBinary { copy };
        let output = Command::new(binary.path()).arg("said").output().unwrap();
        assert_eq!(output.stdout, b"said\n");
        let through = File::options().write(true).open(binary.path());
        assert!(through.is_err() || through.unwrap().write_all(b"x").is_err());
    }

    #[test]
    fn a_copy_is_executed_and_the_file_is_not_changed_through_it() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("echo");
        std::fs::copy("/bin/echo", &program).unwrap();
        let facts = || std::fs::metadata(&program).unwrap().permissions().mode();
        let before = facts();
        check(in_memory(&program).unwrap());
        let binary = OwnBinary::of(&program).unwrap();
        let opened = File::open(binary.path()).unwrap();
        // Allowed for memory, which is nobody's.
        let _ = opened.set_permissions(std::fs::Permissions::from_mode(0o4777));
        assert_eq!(facts(), before);
        check(binary.copy);
        assert!(OwnBinary::of(&folder.path().join("none")).is_err());
    }
}
