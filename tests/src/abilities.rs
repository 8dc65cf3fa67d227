//! What this machine lets the tests do, found out without the product: what can be tried must be tried, and what can't is said.
//!
//! Owns: the questions. Does not own: what a test does with an answer.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A user that no account of a host has: agents without root run as it.
pub const NOBODY: u32 = 54_321;

/// Whether control groups for memory and numbers of processes can be made.
///
/// # Errors
/// Why not.
pub fn control_groups() -> Result<(), String> {
    let root = Path::new("/sys/fs/cgroup");
    let parents = if root.join("cgroup.controllers").exists() {
        vec![root.to_owned()]
    } else {
        vec![root.join("memory"), root.join("pids")]
    };
    for parent in parents {
        let group = parent.join(format!("stint-tests-probe-{}", std::process::id()));
        let made = std::fs::create_dir(&group).and_then(|()| std::fs::remove_dir(&group));
        made.map_err(|error| format!("no control group can be made in {}: {error}", parent.display()))?;
    }
    Ok(())
}

/// A folder below which containers without a daemon can be kept.
///
/// # Errors
/// Why there are no such containers here.
pub fn containers_without_daemon() -> Result<PathBuf, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("not root".to_owned());
    }
    require_image()?;
    control_groups()?;
    // Not every file system can be written to through overlayfs.
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let candidates =
        [std::env::temp_dir(), PathBuf::from("/var/tmp"), own.parent().unwrap_or(Path::new("/")).to_owned()];
    let mut problem = String::new();
    for candidate in candidates {
        let folder = tempfile::tempdir_in(&candidate).map_err(|error| error.to_string())?;
        let script = "cd \"$0\" && mkdir lower upper work root && : >lower/file && \
            mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work root && echo x >root/file";
        let tried = ["--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", script];
        match tried_out(Command::new("unshare").args(tried).arg(folder.path())) {
            Ok(()) => return Ok(candidate),
            Err(error) => problem = error,
        }
    }
    Err(format!("overlayfs can't be mounted: {problem}"))
}

/// What images of the tests are made of.
///
/// # Errors
/// If it is not installed.
pub fn require_image() -> Result<(), String> {
    match Path::new(crate::images::BUSYBOX).exists() {
        true => Ok(()),
        false => Err("no busybox-static".to_owned()),
    }
}

/// Whether a user other than root gets namespaces, within a user namespace of its own.
///
/// # Errors
/// Why not.
pub fn user_namespaces() -> Result<(), String> {
    let user = format!("--reuid={NOBODY}");
    let group = format!("--regid={NOBODY}");
    let unshare =
        ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", "true"];
    tried_out(Command::new("setpriv").args([&user, &group, "--clear-groups"]).args(unshare))
}

fn tried_out(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
