//! Names of log files.
//!
//! Owns: the mapping between (container, restart, offset) and a file's name. Does not own: their content.

use crate::ContainerId;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The file that begins at an offset.
pub(crate) fn path(pod_directory: &Path, id: &ContainerId, start: u64) -> PathBuf {
    pod_directory.join(format!("{}.{}.{start:020}.log", id.container_name(), id.restart_count()))
}

/// Container and run of a file's name; `None` if it is none of ours.
pub(super) fn container_and_run(name: &str) -> Option<(&str, u32)> {
    let mut parts = name.strip_suffix(".log")?.split('.');
    let (container, run, start) = (parts.next()?, parts.next()?, parts.next()?);
    (parts.next().is_none() && start.len() == 20).then_some((container, run.parse().ok()?))
}

/// The run of a container that a file is about, whatever it says of it; `None` if it is none of this container's.
pub(super) fn run_of(name: &str, container: &str) -> Option<u32> {
    // Names of containers have no dot.
    let (run, _) = name.strip_prefix(container)?.strip_prefix('.')?.split_once('.')?;
    run.parse().ok()
}

/// Offsets at which a log's files begin, ascending. A missing folder has none.
pub(crate) fn starts(pod_directory: &Path, id: &ContainerId) -> io::Result<Vec<u64>> {
    let prefix = format!("{}.{}.", id.container_name(), id.restart_count());
    let entries = match fs::read_dir(pod_directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut starts = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(&prefix)?.strip_suffix(".log"));
        if let Some(digits) = digits.filter(|digits| digits.len() == 20)
            && let Ok(start) = digits.parse()
        {
            starts.push(start);
        }
    }
    starts.sort_unstable();
    Ok(starts)
}
