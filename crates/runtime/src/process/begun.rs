//! Which runs of a Pod a shim came to begin, for the agent that comes after this one.
//!
//! Owns: an attribute of the Pod's own folder for each container, or a file in it where there are no attributes. Does not own: what
//! is concluded from it.
//!
//! It tells what an agent was about to start when it died from what may have run. It need not survive the host: of another boot
//! nothing is asked.

use crate::ContainerId;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// With the container's name: the number of its last run. Short, as attributes that fit beside the folder's owner are cheap.
const ATTRIBUTE: &str = "user.stint.ran.";

/// The same of the file.
const FILE: &str = "ran.";

/// Writes down that a run is about to begin. To be called by its shim when nothing is left that could keep it from beginning
/// but its own death: then a run that is not written down never ran, whatever became of the agent meanwhile.
pub(crate) fn write(directory: &Path, run: &ContainerId) -> io::Result<()> {
    let text = run.restart_count().to_string();
    let set = || rustix::fs::setxattr(directory, attribute_of(run), text.as_bytes(), XattrFlags::empty());
    let result = match set() {
        Err(Errno::NOENT) => {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            set()
        }
        result => result,
    };
    result.or_else(|_| fs::write(file_of(directory, run), &text))
}

/// Whether a shim came to begin a run, or a later one of the container; also if that can't be told.
pub(crate) fn may_have_begun(directory: &Path, run: &ContainerId) -> bool {
    let covers = |text: &[u8]| {
        let last = std::str::from_utf8(text).ok().and_then(|text| text.parse::<u32>().ok());
        last.is_none_or(|last| last >= run.restart_count())
    };
    let mut bytes = [0; 16];
    let by_attribute = match rustix::fs::getxattr(directory, attribute_of(run), &mut bytes) {
        Ok(length) => covers(&bytes[..length]),
        Err(Errno::NODATA | Errno::NOENT | Errno::NOTSUP) => false,
        Err(_) => true,
    };
    by_attribute
        || match fs::read(file_of(directory, run)) {
            Ok(text) => covers(&text),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
}

fn attribute_of(run: &ContainerId) -> String {
    format!("{ATTRIBUTE}{}", run.container_name())
}

fn file_of(directory: &Path, run: &ContainerId) -> PathBuf {
    directory.join(format!("{FILE}{}", run.container_name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str, run: u32) -> ContainerId {
        ContainerId::new("01234567-89ab-cdef-0123-456789abcdef", name, run).unwrap()
    }

    #[test]
    fn a13_what_has_begun_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let longest = "a".repeat(63);
        assert!(!may_have_begun(folder.path(), &id("main", 0)));
        write(folder.path(), &id("main", 0)).unwrap();
        write(folder.path(), &id(&longest, u32::MAX)).unwrap();
        let has = |name, run| may_have_begun(folder.path(), &id(name, run));
        assert!(has("main", 0) && has(&longest, u32::MAX) && has(&longest, 0));
        assert!(!has("main", 1) && !has("mai", 0) && !has("maine", 0));
        write(folder.path(), &id("main", 7)).unwrap();
        assert!(has("main", 7) && has("main", 3) && !has("main", 8));
        let missing = folder.path().join("missing/pod");
        assert!(!may_have_begun(&missing, &id("main", 0)), "nothing of the pod was made");
        write(&missing, &id("main", 0)).unwrap();
        assert!(may_have_begun(&missing, &id("main", 0)));
    }

    /// A file system without attributes, and what a shim that was killed in the midst of writing leaves.
    #[test]
    fn a13_what_cannot_be_read_may_have_begun() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(file_of(folder.path(), &id("main", 0)), "4").unwrap();
        assert!(
            may_have_begun(folder.path(), &id("main", 4)) && !may_have_begun(folder.path(), &id("main", 5))
        );
        fs::write(file_of(folder.path(), &id("main", 0)), "").unwrap();
        assert!(may_have_begun(folder.path(), &id("main", 5)));
        fs::create_dir(file_of(folder.path(), &id("other", 0))).unwrap();
        assert!(may_have_begun(folder.path(), &id("other", 0)));
    }
}
