//! The contract between the agent and whatever executes Pods.
//!
//! Owns: the traits and the facts that cross them. Does not own: any way of running a container.

use crate::{ContainerSpec, Error};
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

/// A future that can be held by a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What executes Pods on a host.
///
/// One suite of tests is meant to hold for every implementation.
pub trait Runtime: Send + Sync + 'static {
    /// What the node calls it, such as `process`.
    fn name(&self) -> &'static str;

    /// What this runtime can't guarantee on this host. Constant for the life of the runtime.
    fn conditions(&self) -> Vec<Condition>;

    /// Everything of this runtime shall be killed at this moment of CLOCK_BOOTTIME, whatever holds this process up, unless
    /// another is named before; `None`: never. Not more than a second line: whoever can, kills by itself and before. Best
    /// effort where a condition says so.
    fn fence(&self, moment: Option<Duration>);

    /// Starts a container. Whether it may run at all (lease, incarnation, A9) is the caller's business, and is to be
    /// checked right before the call; until when it may is part of the spec.
    ///
    /// Resolves when its program runs. A program that can't be executed is no error here but an [`Exit`] with reason
    /// `StartError`. If `killed` resolves before that, whatever was begun is killed, and the answer is
    /// [`Error::StartKilled`] once nothing of it is left. If the returned future is dropped before it resolves, the
    /// container is killed in the background.
    fn start(
        &self,
        spec: ContainerSpec,
        killed: BoxFuture<'static, ()>,
    ) -> BoxFuture<'_, Result<Box<dyn RunningContainer>, Error>>;
}

/// A container that was started. Dropping it kills the container, in the background; its output is still kept.
pub trait RunningContainer: Send + Sync + 'static {
    /// When its program began to run, by the wall clock; none if it never did.
    fn started_at(&self) -> Option<SystemTime>;

    /// Sends SIGTERM to the container's main process (P6). Does nothing after the first call or after the end.
    fn signal_terminate(&self);

    /// Sends SIGKILL to every process of the container; resolves when none is left. Output may still be on its way to
    /// the log then, which [`wait`](Self::wait) waits for.
    fn kill(&self) -> BoxFuture<'_, ()>;

    /// Resolves when the main process has ended, every other process of the container is gone, and all output that
    /// it wrote has reached the log files. May be called often; the answer stays the same.
    fn wait(&self) -> BoxFuture<'_, Exit>;
}

/// How a container ended (P3, P5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// 0–255; 128 + n if signal n ended it; 126 and 127 if the program could not be executed or found, 128 if its
    /// surroundings could not be made.
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// One word for it.
    pub reason: ExitReason,
    /// Why, for people; empty if there is nothing to add.
    pub message: String,
    /// When its last process was gone, by the wall clock.
    pub finished_at: SystemTime,
    /// Bytes of output that could not be written to the log files.
    pub log_bytes_dropped: u64,
}

/// One word for how a container ended (P3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitReason {
    /// With exit code 0.
    Completed,
    /// With another exit code, or by a signal.
    Error,
    /// The program never ran.
    StartError,
}

impl ExitReason {
    /// Kubernetes' word.
    pub fn as_str(self) -> &'static str {
        match self {
            ExitReason::Completed => "Completed",
            ExitReason::Error => "Error",
            ExitReason::StartError => "StartError",
        }
    }
}

/// Something the node should say about itself. Its status is `True`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Such as `FencingDegraded`.
    pub kind: &'static str,
    /// Why, and what would mend it.
    pub message: String,
}
