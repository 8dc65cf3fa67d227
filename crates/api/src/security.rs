//! Users, groups and privileges of Pods and containers.
//!
//! Owns: the types, which of two contexts goes first. Does not own: what a node allows (`agent`), how it is carried out
//! (`runtime`).

use crate::words::words;

/// The capabilities of Linux, without `CAP_`, in the order of their numbers.
pub const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The name of a capability as [`CAPABILITIES`] has it, or `ALL`; `None`: there is no such capability.
pub fn capability_name(text: &str) -> Option<&'static str> {
    let name = text.strip_prefix("CAP_").unwrap_or(text);
    if name == "ALL" {
        return Some("ALL");
    }
    CAPABILITIES.into_iter().find(|known| *known == name)
}

/// Users and groups of all containers of a Pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodSecurityContext {
    /// User id; unset: the image's, for a process one that the node picks.
    pub run_as_user: Option<i64>,
    /// Group id.
    pub run_as_group: Option<i64>,
    /// True: a container that would run as user 0 is not started.
    pub run_as_non_root: Option<bool>,
    /// Further groups.
    pub supplemental_groups: Vec<i64>,
    /// Group of the Pod's volumes, and one more supplemental group.
    pub fs_group: Option<i64>,
    /// `Always` or `OnRootMismatch`: the same here, as volumes are made with the Pod.
    pub fs_group_change_policy: Option<String>,
    /// System calls that are allowed.
    pub seccomp_profile: Option<SeccompProfile>,
}

/// User and privileges of one container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecurityContext {
    /// User id; goes before the Pod's.
    pub run_as_user: Option<i64>,
    /// Group id; goes before the Pod's.
    pub run_as_group: Option<i64>,
    /// Goes before the Pod's.
    pub run_as_non_root: Option<bool>,
    /// True: only volumes can be written to.
    pub read_only_root_filesystem: Option<bool>,
    /// True: all capabilities, all devices, no seccomp profile.
    pub privileged: Option<bool>,
    /// False: no program of it gains privileges by being executed.
    pub allow_privilege_escalation: Option<bool>,
    /// Capabilities that it has beyond, or lacks of, the runtime's own set.
    pub capabilities: Option<Capabilities>,
    /// System calls that are allowed; goes before the Pod's.
    pub seccomp_profile: Option<SeccompProfile>,
}

/// Capabilities such as `NET_ADMIN`; `ALL` stands for all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Added.
    pub add: Vec<String>,
    /// Dropped, before those are added.
    pub drop: Vec<String>,
}

/// Which system calls are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompProfile {
    /// Which profile.
    pub profile_type: SeccompProfileType,
    /// File of the node's folder of profiles; only with `Localhost`.
    pub localhost_profile: Option<String>,
}

words! {
    /// Kinds of seccomp profiles.
    SeccompProfileType {
        /// A file of the node.
        Localhost = "Localhost",
        /// The runtime's own.
        RuntimeDefault = "RuntimeDefault",
        /// None: all are allowed.
        Unconfined = "Unconfined",
    }
}
