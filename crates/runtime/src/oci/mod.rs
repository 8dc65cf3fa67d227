//! The `oci` runtime: containers without a daemon.
//!
//! Owns: images (pulled, unpacked, kept, collected), and what a container is made of. Does not own: the shim that holds a
//! container together, its deadline, its log, its executions of further programs, its adoption by a later agent: those are the
//! same as for processes (`process`, `shim`).
//!
//! A container here is a payload of the shim whose main process libcontainer has given a root, namespaces and rights of its
//! own. It needs root, for overlayfs and for users.

mod bundle;
mod container;
pub(crate) mod groups;
mod images;
pub(crate) mod launch;
mod runtime;
mod sandbox;

pub(crate) use groups::parent_group;
pub use images::{Collected, Image, ImageConfig, ImageStore, ImageStoreOptions, LayerHold, Platform};
pub use runtime::{OciRuntime, OciRuntimeOptions};

/// What a `runtimeClassName` calls it.
const NAME: &str = "oci";
