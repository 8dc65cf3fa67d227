//! The archive of whole logs, as this server reads it.
//!
//! Owns: how many read it at once, what is made of its failing. Does not own: its layout (`stint-logs`), what is written to it
//! (agents).
//!
//! Invariants: an archive that does not answer costs a reader some seconds, and nobody else anything; what is in memory of it is
//! bounded.

use std::sync::Arc;
use std::time::Duration;

use stint_api::PodUid;
use stint_logs::Excerpt;
use stint_logs::archive::{Archive, Part, Run};
use tokio::sync::Semaphore;
use tonic::Status;

use crate::error;
use crate::limits::{LOG_ARCHIVE_ANSWER_MS, LOG_ARCHIVE_READS_MAX};

/// An archive. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogArchive {
    url: Arc<str>,
    archive: Archive,
    /// Parts that are read at once.
    places: Arc<Semaphore>,
}

/// What is archived of the log of a run.
#[derive(Debug)]
pub struct ArchivedLog {
    archive: LogArchive,
    run: Run,
    /// Never empty.
    parts: Vec<Part>,
}

/// Refuses what is no URL of an archive, as far as that can be told without its environment.
///
/// # Errors
/// What is wrong with it, without any credentials that it holds.
pub fn check(url: &str) -> Result<(), stint_logs::Error> {
    stint_logs::archive::check_url(url).map(drop)
}

impl LogArchive {
    /// Opens an archive.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn open(url: &str) -> Result<LogArchive, stint_logs::Error> {
        let archive = Archive::open(url)?;
        Ok(LogArchive { url: url.into(), archive, places: Arc::new(Semaphore::new(LOG_ARCHIVE_READS_MAX)) })
    }

    /// For agents.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What is archived of the log of a run, if anything is. An archive that fails has nothing: its failing is in the server's
    /// log, and what the servers keep themselves is read instead.
    pub async fn find(&self, pod: PodUid, container: &str, restart_count: u32) -> Option<ArchivedLog> {
        let run = Run { pod_uid: pod.to_string(), container: container.to_owned(), restart_count };
        match self.within_bounds(self.archive.parts(&run)).await {
            Ok(parts) if parts.is_empty() => None,
            Ok(parts) => Some(ArchivedLog { archive: self.clone(), run, parts }),
            Err(problem) => {
                tracing::warn!(pod.uid = %pod, container, problem, "the log archive can't be read");
                None
            }
        }
    }

    async fn within_bounds<T>(
        &self,
        reading: impl Future<Output = Result<T, stint_logs::Error>>,
    ) -> Result<T, String> {
        let in_turn = async {
            let _place = self.places.acquire().await.map_err(|error| error.to_string())?;
            reading.await.map_err(|error| error.to_string())
        };
        let patience = Duration::from_millis(LOG_ARCHIVE_ANSWER_MS);
        tokio::time::timeout(patience, in_turn).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }
}

impl ArchivedLog {
    /// Its parts, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Nothing came after it.
    pub fn is_whole(&self) -> bool {
        self.parts.last().is_some_and(|part| part.is_end)
    }

    /// Reads a part.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the archive fails.
    pub async fn load(&self, part: Part) -> Result<Excerpt, Status> {
        let reading = self.archive.archive.get(&self.run, part);
        let loaded = self.archive.within_bounds(reading).await;
        loaded.map_err(|problem| error::internal("reading the log archive", &problem))
    }
}
