//! Kubernetes JSON and YAML from and to the API types.
//!
//! Owns: reading manifests (YAML or JSON, strictly, with positions), and the Kubernetes form of Jobs, ConfigMaps, Pods, Nodes
//! and Events. Does not own: defaults and validation (crate `api`), sockets, files.
//!
//! Invariants: what can't be honoured is refused with its path, never dropped in silence (table 1.6 of the Job semantics:
//! honoured, kept, refused); a Job that is written and read again is the same Job; no text makes this crate panic.

pub mod error;
pub mod limits;
mod reading;
mod writing;

pub use error::{ManifestError, ManifestProblem, Position};
pub use reading::{ManifestObject, job_from_json, read_manifest, read_objects};
pub use writing::{
    config_map_to_json, event_to_json, job_to_json, list_to_json, node_to_json, pod_to_json, to_yaml,
};
