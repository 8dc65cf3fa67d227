//! Rust client of a stint cluster.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
//! # fn main() { example(async |client| {
//! use stint_client::JobBuilder;
//!
//! // `Client::from_environment()?` made `client`.
//! let handle = client.run(JobBuilder::new(["echo", "hello"]).completions(3)).await?;
//! let job = handle.wait().await?;
//! println!("{} Pods succeeded", job.status.succeeded);
//! # handle.delete().await?;
//! # Ok(()) }); }
//! ```
//!
//! Owns: the list of servers and which of them to ask, the retry table, submits and their ends, watches and logs that resume,
//! commands and connections to Pods, typed errors.
//! Does not own: printing, manifests, the meaning of objects.
//!
//! It keeps the contract of all clients, sdk/README.md. Its retry table (architecture decision 10):
//!
//! | end of an attempt | read | write that may be repeated | other write |
//! |---|---|---|---|
//! | the server could not be reached, or said that nothing was changed | again, elsewhere | again, elsewhere | again, elsewhere |
//! | the server asked for a pause | again, after it | again, after it | again, after it |
//! | the server named the leader | again, there | again, there | again, there |
//! | the connection broke after sending, nothing was answered, or the outcome is unknown | again, elsewhere | again, elsewhere | [`Error::OutcomeUnknown`] |
//! | anything else | the error | the error | the error |
//!
//! A write may be repeated if carrying it out twice is the same as once: a create with a request id, a delete by uid,
//! a cordon. Attempts go on until the client's timeout, those of a create for 5 minutes at most. Then a write of which one
//! attempt may have been carried out is an [`Error::OutcomeUnknown`] too; anything else changed nothing.

mod access;
mod address;
mod cluster;
mod config_maps;
mod connection;
mod error;
mod events;
mod insight;
mod job_builder;
mod jobs;
mod limits;
mod lists;
mod logs;
mod nodes;
mod pods;
mod retry;
mod stream;
mod submit;
mod trouble;
mod wait;
mod watch;

pub use access::{
    AttachStreams, ChannelInput, ExecCall, ExecCommand, ExecOutput, PortConnection, TerminalSize,
};
pub use cluster::SnapshotPieces;
pub use connection::{Client, ClientOptions};
pub use error::Error;
pub use insight::moment;
pub use job_builder::JobBuilder;
pub use jobs::UpdatedJob;
pub use lists::Listed;
pub use logs::{LogLines, LogOutput, LogPiece, LogStream, LogsRequest, PodTarget};
/// The objects that calls give and take.
pub use stint_api as api;
pub use stint_proto::read_token_file;
pub use stint_proto::status::ErrorReason;
/// Messages of the wire that calls about the cluster give and take as they are.
pub use stint_proto::v1;
pub use submit::CreatedJob;
/// Codes of gRPC, as errors have them.
pub use tonic::Code;
pub use trouble::{Trouble, TroubleKind};
pub use wait::{JobHandle, condition, is_finished};
pub use watch::{Scope, Watch, WatchEvent, WatchEventKind, WatchStep};
