//! What the shim needs to make a container out of an image.
//!
//! Owns: the data that crosses from agent to shim. It is written down as JSON, which a later agent and an earlier shim read too.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One container. The program, its arguments and its environment come with the payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// The container's own folder, absolute, below that of its Pod. It gets the writable layer, the mount point of the root,
    /// and the state of the library that makes containers.
    pub directory: PathBuf,
    /// The folder that `layers` are relative to.
    pub layers_directory: PathBuf,
    /// Unpacked layers, from the lowest up.
    pub layers: Vec<PathBuf>,
    /// Folders of the container that are made if the image has none, as it says that something is written there.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// The bundle's `config.json`, but for the user, which only the image knows.
    pub config: serde_json::Value,
    pub user: LaunchUser,
}

/// As whom the program runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct LaunchUser {
    /// What the Pod says.
    pub uid: Option<u32>,
    /// What the Pod says.
    pub gid: Option<u32>,
    /// Further groups, besides those that the image gives the user.
    pub groups: Vec<u32>,
    /// What the image says: `USER[:GROUP]`, names or numbers.
    pub image: String,
    /// User 0 is refused, wherever it comes from.
    pub is_root_refused: bool,
}

impl Launch {
    /// Where the root is mounted, in the mount namespace of the container alone.
    pub fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// The writable layer.
    pub fn upper(&self) -> PathBuf {
        self.directory.join("upper")
    }

    /// What overlayfs needs beside the writable layer.
    pub fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// What libcontainer remembers of the container.
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }
}

/// The folder of one run of a container below its Pod's folder.
pub(crate) fn container_directory(pod_directory: &Path, id: &crate::ContainerId) -> PathBuf {
    pod_directory.join("oci").join(format!("{}.{}", id.container_name(), id.restart_count()))
}
