//! The peer port: how servers reach each other.
//!
//! Owns: the handshake, connections, the client side that openraft uses, the service that answers. Does not own: what is
//! replicated, who is a member.

pub(crate) mod acknowledged;
pub mod connection;
pub(crate) mod convert;
pub mod handshake;
pub(crate) mod service;
pub(crate) mod snapshot_stream;
pub(crate) mod transport;

pub use handshake::{HandshakeError, PeerIdentity};
