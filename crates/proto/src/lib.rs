//! The public gRPC wire: generated code of `proto/stint/v1`, and its conversions to and from `stint-api`.
//!
//! Owns: the generated types, clients and server traits ([`v1`]); total conversions; errors as they look on the wire; the
//! bearer token of a client, and reading the file that holds it; limits of the wire. Does not own: rules about Jobs, transport, retries.
//!
//! Invariants: no conversion panics on any input; `api → v1 → api` gives the same object; every error that leaves a server
//! is made by [`status`], where the one table of reasons and codes is.

pub mod auth;
mod config_map;
pub mod error;
mod event;
mod job;
pub mod limits;
mod meta;
mod node;
mod pod;
pub mod status;
mod template;
pub mod time;
mod token_file;
pub mod uid;

pub use auth::{BearerInterceptor, BearerToken};
pub use error::{ConversionError, TokenError};
pub use status::{ErrorReason, FieldViolation, StatusDetails};
pub use token_file::read_token_file;
pub use uid::{uid_from_wire, uid_to_wire};

/// Request metadata by which an agent says, with the value `true`, that it can't reach the leader itself: the server that it
/// asks relays its session (A3).
pub const RELAY_METADATA: &str = "stint-relay";

/// Generated from `proto/stint/v1/*.proto`; the documentation of every message and field is there.
#[allow(
    missing_docs,
    clippy::all,
    clippy::unwrap_used,
    rustdoc::all,
    reason = "generated code; rustdoc reads comments that were written for every language"
)]
pub mod v1 {
    tonic::include_proto!("stint.v1");
}

/// All messages and services of package `stint.v1` as an encoded `FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stint.v1.bin"));
