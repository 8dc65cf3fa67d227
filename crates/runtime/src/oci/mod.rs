//! The `oci` runtime: containers without a daemon.
//!
//! Owns: images (pulled, unpacked, kept, collected). Does not own: logs (`logs`), leases, orders, restarts.

mod images;

pub use images::{
    Collected, Collection, Image, ImageConfig, ImageStore, ImageStoreOptions, LayerHold, Platform,
};
