//! Jobs, Pods, Nodes and Events: the words that every part of stint shares.
//!
//! Owns: the types, their defaulting and validation, quantities, index sets, label selectors.
//! Does not own: wire formats (crates `proto` and `kube`), decisions (crate `core`), IO of any kind.
//!
//! Invariant: nothing here reads a clock, draws a random number or iterates in hash order.

pub mod event;
pub mod ids;
pub mod job;
pub mod meta;
pub mod node;
pub mod pod;
pub mod quantity;

pub use event::*;
pub use ids::*;
pub use job::*;
pub use meta::*;
pub use node::*;
pub use pod::*;
pub use quantity::*;
