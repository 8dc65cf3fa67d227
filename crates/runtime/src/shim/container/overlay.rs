//! The container's root: its image's layers, and above them one that it can write to.

use super::super::messages::{NotExecuted, Stage};
use crate::oci::launch::Launch;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount as mount_file_system};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What one mount takes of options: a page, and the byte that ends it.
const OPTIONS_BYTES_MAX: usize = 4095;

/// Mounts it at [`Launch::root`]. Changes this process's working folder, from which the layers' names are short.
pub(super) fn mount(launch: &Launch) -> Result<(), NotExecuted> {
    let failed = |text: &str, errno| NotExecuted { stage: Stage::Container, errno, text: text.to_owned() };
    nix::unistd::chdir(&launch.layers_directory)
        .map_err(|errno| failed("the folder of the image's layers", errno))?;
    let options = options(launch);
    if options.len() > OPTIONS_BYTES_MAX {
        return Err(failed("the image has too many layers for one mount", Errno::E2BIG));
    }
    // Devices in images, and those that a container might make, are of no use: its own are in /dev.
    let flags = MsFlags::MS_NODEV;
    let root = launch.root();
    mount_file_system(Some("overlay"), &root, Some("overlay"), flags, Some(options.as_os_str()))
        .map_err(|errno| failed("overlayfs can't be mounted", errno))?;
    nix::unistd::chdir("/").map_err(|errno| failed("the root folder", errno))
}

fn options(launch: &Launch) -> OsString {
    let mut bytes = b"lowerdir=".to_vec();
    // The uppermost comes first. An image without layers is an empty folder.
    let empty = [launch.state()];
    let layers: &[PathBuf] = if launch.layers.is_empty() { &empty } else { &launch.layers };
    for (at, layer) in layers.iter().rev().enumerate() {
        if at > 0 {
            bytes.push(b':');
        }
        push_path(&mut bytes, layer);
    }
    bytes.extend(b",upperdir=");
    push_path(&mut bytes, &launch.upper());
    bytes.extend(b",workdir=");
    push_path(&mut bytes, &launch.work());
    OsString::from_vec(bytes)
}

/// What means something between options is escaped.
fn push_path(bytes: &mut Vec<u8>, path: &Path) {
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            bytes.push(b'\\');
        }
        bytes.push(*byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(layers: &[&str]) -> Launch {
        Launch {
            directory: "/a,b:c".into(),
            layers_directory: "/layers".into(),
            layers: layers.iter().map(PathBuf::from).collect(),
            volumes: Vec::new(),
            config: serde_json::Value::Null,
            user: Default::default(),
        }
    }

    #[test]
    fn layers_come_from_the_top_and_nothing_in_a_path_is_an_option() {
        assert_eq!(
            options(&launch(&["low/fs", "high/fs"])),
            r"lowerdir=high/fs:low/fs,upperdir=/a\,b\:c/upper,workdir=/a\,b\:c/work"
        );
        assert_eq!(
            options(&launch(&[])),
            r"lowerdir=/a\,b\:c/state,upperdir=/a\,b\:c/upper,workdir=/a\,b\:c/work"
        );
        // As many as an image may have.
        let many: Vec<_> = (0..crate::limits::IMAGE_LAYERS_MAX).map(|_| "0123456789abcdef/fs").collect();
        assert!(options(&launch(&many)).len() < OPTIONS_BYTES_MAX - 1024);
    }
}
