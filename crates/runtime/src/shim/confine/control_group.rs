//! One control group of a container.
//!
//! Owns: making it and joining it. Does not own: which groups and which limits (`cgroups`).

use super::Failure;
use nix::errno::Errno;
use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Before the name of a file that may be missing.
const OPTIONAL: u8 = b'?';

/// A folder of a control group file system, and what is written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ControlGroup {
    pub folder: Vec<u8>,
    /// Files and their content, in order; after a `?` in front of its name a file may be missing.
    pub settings: Vec<(Vec<u8>, Vec<u8>)>,
}

impl ControlGroup {
    pub fn new(folder: &Path) -> ControlGroup {
        ControlGroup { folder: folder.as_os_str().as_bytes().to_vec(), settings: Vec::new() }
    }

    pub fn set(&mut self, file: &str, value: impl Display) {
        self.settings.push((file.as_bytes().to_vec(), value.to_string().into_bytes()));
    }

    pub(super) fn make(&self) -> Result<(), Failure> {
        let folder = self.path();
        match std::fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failure(format!("the control group {} can't be made", folder.display()), &error));
            }
            _ => {}
        }
        for (file, value) in &self.settings {
            let (name, optional) = match file.split_first() {
                Some((&OPTIONAL, name)) => (name, true),
                _ => (file.as_slice(), false),
            };
            let path = folder.join(OsStr::from_bytes(name));
            match write(&path, value) {
                Err(error) if !(optional && error.kind() == io::ErrorKind::NotFound) => {
                    let value = String::from_utf8_lossy(value);
                    return Err(failure(format!("{} can't be set to {value}", path.display()), &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Moves this process there, which must have one thread.
    pub(super) fn join(&self) -> Result<(), Failure> {
        // A group of version 1 takes single threads too. For the one that asks, named 0, the kernel then need not stop all forks
        // of the host, which takes longer than everything else about a group.
        let joined = match write(&self.path().join("tasks"), b"0") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write(&self.path().join("cgroup.procs"), b"0")
            }
            other => other,
        };
        joined.map_err(|error| {
            failure(format!("the control group {} can't be joined", self.path().display()), &error)
        })
    }

    fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.folder))
    }
}

impl Display for ControlGroup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.path().display())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.settings
            .iter()
            .try_for_each(|(file, value)| write!(formatter, " {}={}", text(file), text(value)))
    }
}

/// Its files exist already, and are not made.
fn write(file: &Path, value: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).open(file)?.write_all(value)
}

fn failure(what: String, error: &io::Error) -> Failure {
    Failure { what, errno: error.raw_os_error().map_or(Errno::EIO, Errno::from_raw) }
}
