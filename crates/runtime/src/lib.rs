//! How a Pod is run on a host.
//!
//! Owns: the trait [`Runtime`] and its implementation [`ProcessRuntime`] with the shim, variable expansion, the files
//! that hold a container's output. Does not own: leases, orders, restart decisions, anything that talks to a server.
//!
//! Invariants:
//! - When [`RunningContainer::wait`] or [`RunningContainer::kill`] has resolved, no process of that container is left.
//! - Containers outlive the process that started them, with their log and their exit code; they do not outlive the deadline
//!   that it named last, whatever becomes of it (A13).
//! - A process container is no user, sees no process and no file of another Pod, and has no right that its agent's policy
//!   does not give; what the host does not allow to keep apart is a [`Condition`].
//! - No path is ever made from text that was not checked: Pods and containers are named by [`ContainerId`].
//! - Only `shim` contains unsafe code.
//!
//! A binary that makes a [`ProcessRuntime`] must call [`maybe_run_shim`] first thing in `main`, before any thread or
//! async runtime exists: the shim is this same binary, started under another name.

mod attach;
mod cgroups;
mod container_id;
#[cfg(feature = "cri")]
mod cri;
mod deleted_files;
mod disk;
mod error;
mod exec;
mod exit;
mod expand;
#[cfg(any(feature = "cri", feature = "oci"))]
mod image_disk;
#[cfg(any(feature = "cri", feature = "oci"))]
mod image_reference;
mod lease_cell;
pub mod limits;
mod logs;
mod network;
#[cfg(feature = "oci")]
pub mod oci;
mod payload;
mod policy;
mod process;
#[cfg_attr(
    not(all(feature = "cri", feature = "oci")),
    allow(dead_code, reason = "asked only by runtimes that fetch images")
)]
mod registry_mirror;
mod runtime;
mod shim;
mod short_work;
mod spec;
mod tree;

pub use attach::{AttachRefusal, AttachSession, AttachSpec};
pub use cgroups::remove_control_groups;
pub use container_id::ContainerId;
#[cfg(feature = "cri")]
pub use cri::{CriNetwork, CriRuntime, CriRuntimeOptions, NodeOwners};
pub use deleted_files::{DeletedFile, DeletedFiles, deleted_files};
pub use disk::{DiskUse, disk_usage};
pub use error::{Error, ImageReason};
pub use exec::{ExecInput, ExecOutput, ExecSession, ExecSpec, TerminalSize};
pub use exit::{Exit, ExitReason};
pub use expand::expand_variables;
#[cfg(any(feature = "cri", feature = "oci"))]
pub use image_disk::ImageDisk;
pub(crate) use logs::LogWriter;
pub use logs::{LiveLog, LogChunk, LogLimits, LogReader, LogStore, ReadOptions, Shipped, Stream, StreamRun};
pub use policy::{NodePolicy, PolicyError, PolicyViolation, Rootfs};
pub use process::{LeftOut, PodUids, ProcessRuntime, ProcessRuntimeOptions};
pub use registry_mirror::RegistryMirror;
pub use runtime::{
    BoxFuture, Condition, Feature, PodSandbox, RecoveredPod, RunningContainer, Runtime, Usage,
};
pub use shim::{give_back_memory, maybe_run_shim};
pub use short_work::ShortWork;
pub use spec::{
    ContainerSpec, ImageSpec, Mount, MountPropagation, PodSandboxSpec, PullPolicy, ResourceSpec, Seccomp,
    SecuritySpec, StreamsSpec,
};
pub use tree::remove_tree;
