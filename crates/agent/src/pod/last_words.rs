//! What a container leaves to say about its end (P12).
//!
//! Owns: making the file for it, reading it, removing it, the end of its log in its place. Does not own: where containers see it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use stint_runtime::{ContainerId, LogStore, ReadOptions};

use crate::limits;

/// How the names of the files begin, which are right in their Pod's folder: one of their own would be one more to make and to
/// remove for every Pod, and frees a block of the disk, which takes some disks longer than anything else about a Pod.
pub const PREFIX: &str = "termination.";

/// The folder that agents had for them before.
const FOLDER_OF_EARLIER_AGENTS: &str = "termination";

/// Of a Pod as a whole (P12).
const POD_BYTES_MAX: usize = 12 << 10;

/// Makes the file, for whoever the container runs as, if it `is_shown` to it. What is not shown anywhere else would be open
/// to every process of the host that can pass the folders above. Blocks.
///
/// # Errors
/// If it can't be made.
pub fn make_file(path: &Path, is_shown: bool) -> io::Result<()> {
    let mode = if is_shown { 0o666 } else { 0o600 };
    let file = File::options().write(true).create(true).truncate(false).mode(mode).open(path)?;
    // Not subject to the umask.
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

/// Brings the files of a Pod that an earlier agent began to where they are now; containers that run go on seeing theirs.
/// Blocks.
///
/// # Errors
/// If one can't be moved.
pub fn take_over(folder: &Path) -> io::Result<()> {
    let earlier = folder.join(FOLDER_OF_EARLIER_AGENTS);
    let entries = match std::fs::read_dir(&earlier) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let mut name = OsString::from(PREFIX);
        name.push(entry.file_name());
        std::fs::rename(entry.path(), folder.join(name))?;
    }
    std::fs::remove_dir(earlier)
}

/// Removes the files of earlier runs of a container, which were read when those ended. Blocks.
///
/// # Errors
/// If one can't be removed.
pub fn remove_earlier(folder: &Path, container: &str, run: u32) -> io::Result<()> {
    if run == 0 {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let of = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.strip_prefix(container)?.strip_prefix('.'))
            .and_then(|run| run.parse::<u32>().ok());
        if of.is_some_and(|of| of < run) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// As much of the end of the file as one of so many containers may say; empty if there is none. Blocks.
pub fn read_file(path: &Path, containers: usize) -> String {
    let most = limits::TERMINATION_MESSAGE_BYTES_MAX.min(POD_BYTES_MAX / containers.max(1));
    let read = || -> io::Result<Vec<u8>> {
        // A container may have put anything in its place, such as a link or a pipe, if it sees the host's files.
        let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
        let mut file = File::options().read(true).custom_flags(flags.bits()).open(path)?;
        let facts = file.metadata()?;
        if !facts.is_file() {
            return Ok(Vec::new());
        }
        file.seek(SeekFrom::Start(facts.len().saturating_sub(most as u64)))?;
        let mut bytes = Vec::new();
        file.take(most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// The end of the container's log; empty if it has none.
pub async fn end_of_log(store: &LogStore, id: &ContainerId) -> String {
    let options =
        ReadOptions { tail_lines: Some(limits::TERMINATION_LOG_LINES_MAX), ..ReadOptions::default() };
    let Ok(mut reader) = store.reader(id, options).await else { return String::new() };
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = reader.next().await {
        bytes.extend_from_slice(&chunk.bytes);
        let surplus = bytes.len().saturating_sub(limits::TERMINATION_LOG_BYTES_MAX);
        bytes.drain(..surplus);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r15_files_of_earlier_runs_go_when_the_next_one_begins() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.0", "a.8", "a.9", "a.10", "a-b.0", "b.3"] {
            make_file(&folder.path().join(format!("{PREFIX}{name}")), true).unwrap();
        }
        std::fs::create_dir(folder.path().join("a.0")).unwrap();
        remove_earlier(folder.path(), "a", 9).unwrap();
        let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        let left = ["a-b.0", "a.10", "a.9", "b.3"].map(|name| format!("{PREFIX}{name}"));
        assert_eq!(names, [&["a.0".to_owned()], &left[..]].concat());
    }

    #[test]
    fn what_an_agent_of_before_had_in_a_folder_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        take_over(folder.path()).unwrap();
        let earlier = folder.path().join(FOLDER_OF_EARLIER_AGENTS);
        std::fs::create_dir(&earlier).unwrap();
        for run in 0..3 {
            std::fs::write(earlier.join(format!("main.{run}")), format!("words {run}")).unwrap();
        }
        take_over(folder.path()).unwrap();
        assert!(!earlier.exists());
        let file = super::super::specs::termination_file(folder.path(), "main", 2);
        assert_eq!(read_file(&file, 1), "words 2");
        remove_earlier(folder.path(), "main", 2).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn p12_the_end_of_the_file_counts_and_nothing_but_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("main.0");
        assert_eq!(read_file(&path, 1), "");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        make_file(&path, false).unwrap();
        assert_eq!(mode(), 0o600, "where containers see the host's folders it is nobody's");
        make_file(&path, true).unwrap();
        make_file(&path, true).unwrap();
        assert_eq!(mode(), 0o666);
        std::fs::write(&path, format!("{}end", "x".repeat(5_000))).unwrap();
        let words = read_file(&path, 1);
        assert!(words.len() == limits::TERMINATION_MESSAGE_BYTES_MAX && words.ends_with("xend"));
        assert_eq!(read_file(&path, 12).len(), 1_024);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert_eq!(read_file(&path, 1), "");
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read_file(&path, 1), "");
    }
}
