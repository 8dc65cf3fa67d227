//! Jobs, Pods, ConfigMaps, Nodes and Events: the words that every part of stint shares.
//!
//! Owns: the types, their defaulting and validation, quantities, index sets, label selectors, words for tables.
//! Does not own: wire formats (crates `proto` and `kube`), decisions (crate `core`), IO of any kind.
//!
//! Invariant: nothing here reads a clock, draws a random number or iterates in hash order.

pub mod config_map;
pub mod container;
pub mod defaulting;
pub mod duration;
pub mod event;
pub mod field_error;
pub mod ids;
pub mod index_set;
pub mod job;
pub mod limits;
pub mod meta;
pub mod names;
pub mod node;
pub mod pod;
pub mod policy;
pub mod quantity;
pub mod security;
pub mod selector;
pub mod story;
pub mod table;
pub mod time;
pub mod validation;
pub mod volume;
mod words;

pub use config_map::ConfigMap;
pub use container::*;
pub use defaulting::{CONTROLLER_UID_LABELS, default_pod, generate_labels, set_defaults};
pub use event::*;
pub use field_error::*;
pub use ids::*;
pub use index_set::{IndexSet, ParseIndexSetError};
pub use job::*;
pub use meta::*;
pub use node::*;
pub use pod::*;
pub use policy::{Allowed, Ask, AskOf, HostPath, NodeOffer, Rootfs, asks_of};
pub use quantity::*;
pub use security::*;
pub use validation::{
    pod_spec_bytes, validate_config_map, validate_config_map_update, validate_create, validate_update,
    warnings,
};
pub use volume::*;
