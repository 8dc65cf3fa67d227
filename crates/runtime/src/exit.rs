//! How a container ended.
//!
//! Owns: the facts and their words (P3, P5). Does not own: what follows.

use std::time::SystemTime;

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
    /// It was killed because the runtime's deadline had passed (A12), by whoever was first to.
    pub fenced: bool,
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
    /// It needed more memory than it may have.
    OomKilled,
    /// It ended, and nobody knows how.
    ContainerStatusUnknown,
}

impl ExitReason {
    /// Kubernetes' word.
    pub fn as_str(self) -> &'static str {
        match self {
            ExitReason::Completed => "Completed",
            ExitReason::Error => "Error",
            ExitReason::StartError => "StartError",
            ExitReason::OomKilled => "OOMKilled",
            ExitReason::ContainerStatusUnknown => "ContainerStatusUnknown",
        }
    }
}
