//! In place of module `log_archive` in builds without an archive: says so if servers name one.

use stint_runtime::{ContainerId, LogStore};

/// Uploads nothing.
#[derive(Debug, Clone)]
pub struct LogArchiver;

impl LogArchiver {
    /// Starts nothing.
    pub fn start(_: LogStore) -> LogArchiver {
        LogArchiver
    }

    /// Says that logs stay here.
    pub fn archive(&self, url: &str) {
        if !url.is_empty() {
            tracing::error!(
                archive = url,
                "logs are not archived: this agent was built without the feature archive"
            );
        }
    }

    /// Does nothing.
    pub fn ended(&self, _: ContainerId) {}
}
