//! Images: from a reference to unpacked layers.
//!
//! Owns: the folder of the store, the registry protocol, what of an image's config matters. Does not own: how a
//! container is put together from it.
//!
//! Invariants:
//! - Nothing is used before its digest was compared: manifests, configs and layers by the digest of what was sent, layers
//!   once more by the digest of what they unpack to.
//! - An archive can't reach outside the folder that it is unpacked into, whatever its entries are called.
//! - What a running container uses is not collected.
//! - After a crash the store holds whole layers and whole records, or none.

mod archive;
mod collection;
mod config;
mod credentials;
mod decompress;
mod digest;
mod failure;
mod layer;
mod manifest;
mod pull;
mod registry;
mod state;
mod store;
mod unpack;

pub use collection::Collected;
pub use config::ImageConfig;
pub use manifest::Platform;
pub use store::{Image, ImageStore, ImageStoreOptions, LayerHold};
