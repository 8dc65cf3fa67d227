//! Volumes of a Pod, and where they appear in its containers.
//!
//! Owns: the types. Does not own: what a node allows, and how volumes are made (`agent`, `runtime`).

use crate::container::{FieldRef, ResourceFieldRef};
use crate::quantity::Quantity;
use crate::words::words;

/// Files that containers of a Pod share.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Volume {
    /// Unique within the Pod; a DNS label.
    pub name: String,
    /// What is in it.
    pub source: VolumeSource,
}

/// What is in a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// At first nothing; gone with the Pod.
    EmptyDir(EmptyDirVolume),
    /// A file or folder of the node.
    HostPath(HostPathVolume),
    /// Keys of a ConfigMap, as files.
    ConfigMap(ConfigMapVolume),
    /// Fields of the Pod, as files.
    DownwardApi(DownwardApiVolume),
    /// Several of the two before, in one folder.
    Projected(ProjectedVolume),
}

impl Default for VolumeSource {
    /// An empty folder, as Kubernetes has it for a volume that names no source.
    fn default() -> VolumeSource {
        VolumeSource::EmptyDir(EmptyDirVolume::default())
    }
}

/// A folder that is empty when the Pod starts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EmptyDirVolume {
    /// Empty: on disk; `Memory`: in memory.
    pub medium: String,
    /// Bytes that it may hold; a Pod that goes beyond is evicted.
    pub size_limit: Option<Quantity>,
}

/// A file or folder of the node; only where the node's policy allows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostPathVolume {
    /// An absolute path.
    pub path: String,
    /// What must be there; unset or empty: not looked at.
    pub path_type: Option<HostPathType>,
}

words! {
    /// What must be at a host path.
    HostPathType {
        /// Not looked at.
        Unset = "",
        /// A folder; made if nothing is there.
        DirectoryOrCreate = "DirectoryOrCreate",
        /// A folder.
        Directory = "Directory",
        /// A file; made if nothing is there.
        FileOrCreate = "FileOrCreate",
        /// A file.
        File = "File",
        /// A Unix socket.
        Socket = "Socket",
        /// A character device.
        CharDevice = "CharDevice",
        /// A block device.
        BlockDevice = "BlockDevice",
    }
}

/// Keys of a ConfigMap, as files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigMapVolume {
    /// The ConfigMap.
    pub name: String,
    /// Which keys, and their files; empty: all, each in a file of its name.
    pub items: Vec<KeyToPath>,
    /// Mode of files that name none. Default 0644.
    pub default_mode: Option<i32>,
    /// True: ConfigMap and keys need not exist; else the containers wait.
    pub optional: Option<bool>,
}

/// A key and its file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyToPath {
    /// The key.
    pub key: String,
    /// Path of the file below the volume.
    pub path: String,
    /// Mode of the file, 0–0777.
    pub mode: Option<i32>,
}

/// Fields of the Pod, as files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DownwardApiVolume {
    /// The files.
    pub items: Vec<DownwardApiFile>,
    /// Mode of files that name none. Default 0644.
    pub default_mode: Option<i32>,
}

/// One file made of a field of the Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownwardApiFile {
    /// Path of the file below the volume.
    pub path: String,
    /// Mode of the file, 0–0777.
    pub mode: Option<i32>,
    /// What is in it.
    pub source: DownwardApiSource,
}

/// What is in a file of the downward API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownwardApiSource {
    /// A field of the Pod.
    FieldRef(FieldRef),
    /// What a container requests or may use.
    ResourceFieldRef(ResourceFieldRef),
}

/// Several sources in one folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProjectedVolume {
    /// The sources; their paths may not clash.
    pub sources: Vec<VolumeProjection>,
    /// Mode of files that name none. Default 0644.
    pub default_mode: Option<i32>,
}

/// One source of a projected volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeProjection {
    /// Keys of a ConfigMap.
    ConfigMap(ConfigMapProjection),
    /// Fields of the Pod.
    DownwardApi(DownwardApiProjection),
}

/// Keys of a ConfigMap within a projected volume.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigMapProjection {
    /// The ConfigMap.
    pub name: String,
    /// Which keys, and their files; empty: all.
    pub items: Vec<KeyToPath>,
    /// True: ConfigMap and keys need not exist.
    pub optional: Option<bool>,
}

/// Fields of the Pod within a projected volume.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DownwardApiProjection {
    /// The files.
    pub items: Vec<DownwardApiFile>,
}

/// Where a volume appears in a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeMount {
    /// The volume.
    pub name: String,
    /// Absolute path in the container.
    pub mount_path: String,
    /// Path within the volume; empty: the whole volume.
    pub sub_path: String,
    /// As `sub_path`, with `$(VAR)` expanded from the environment; only one of the two.
    pub sub_path_expr: String,
    /// True: it can't be written to.
    pub read_only: bool,
    /// Whether later mounts are seen on the other side. Default `None`.
    pub mount_propagation: Option<MountPropagation>,
}

words! {
    /// Whether later mounts are seen on the other side.
    MountPropagation {
        /// No.
        None = "None",
        /// The host's in the container.
        HostToContainer = "HostToContainer",
        /// Both ways; for privileged containers only.
        Bidirectional = "Bidirectional",
    }
}
