//! Uploads the whole logs of runs that have ended to the archive that the servers have told of.
//!
//! Owns: which logs wait, how many are uploaded at once, when it is tried again. Does not own: log files (crate `runtime`), the
//! archive's layout (crate `logs`).
//!
//! Invariants: nothing waits for this; a log is marked once all of it has arrived, and what is not marked is uploaded by the
//! next agent of the folder; a log is not removed while its Pod is there, unless its container was begun again so often that its
//! node can't keep it any longer.

use std::collections::VecDeque;
use std::sync::Arc;
use stint_logs::archive::{Archive, Run};
use stint_logs::limits::ARCHIVE_PART_BYTES_MAX;
use stint_runtime::{ContainerId, LogStore, Shipped};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::limits;

/// Handle of the task, which ends with the last of them.
#[derive(Debug, Clone)]
pub struct LogArchiver {
    told: mpsc::UnboundedSender<Told>,
}

#[derive(Debug)]
enum Told {
    Archive(String),
    Ended(ContainerId),
}

impl LogArchiver {
    /// Starts the task. Needs a tokio runtime.
    pub fn start(store: LogStore) -> LogArchiver {
        let (told, receiver) = mpsc::unbounded_channel();
        tokio::spawn(run(store, receiver));
        LogArchiver { told }
    }

    /// Where logs go from now on; empty: nowhere.
    pub fn archive(&self, url: &str) {
        drop(self.told.send(Told::Archive(url.to_owned())));
    }

    /// A run with output has ended.
    pub fn ended(&self, id: ContainerId) {
        drop(self.told.send(Told::Ended(id)));
    }
}

async fn run(store: LogStore, mut told: mpsc::UnboundedReceiver<Told>) {
    let mut archive: Option<(String, Arc<Archive>)> = None;
    let mut waiting: VecDeque<ContainerId> = VecDeque::new();
    let mut uploads: JoinSet<(ContainerId, Result<(), String>)> = JoinSet::new();
    let mut pause = limits::LOG_UPLOAD_PAUSE_MIN;
    // After a failure nothing is tried before this: it is the archive's, most likely.
    let mut resumes_at = Instant::now();
    loop {
        if let Some((_, archive)) = &archive {
            while uploads.len() < limits::LOG_UPLOADS_MAX
                && resumes_at <= Instant::now()
                && let Some(id) = waiting.pop_front()
            {
                let (store, archive) = (store.clone(), archive.clone());
                uploads.spawn(async move {
                    let uploaded =
                        tokio::time::timeout(limits::LOG_UPLOAD_TIMEOUT, upload(&store, &archive, &id));
                    let outcome = uploaded.await.unwrap_or_else(|_| Err("it takes too long".to_owned()));
                    (id, outcome)
                });
            }
        }
        let is_paused = resumes_at > Instant::now() && !waiting.is_empty();
        tokio::select! {
            message = told.recv() => match message {
                None => return,
                Some(Told::Ended(id)) => if archive.is_some() {
                    waiting.push_back(id);
                    if waiting.len() > limits::LOG_UPLOADS_WAITING_MAX {
                        waiting.pop_front();
                    }
                },
                Some(Told::Archive(url)) => {
                    if archive.as_ref().is_some_and(|(known, _)| *known == url) {
                        continue;
                    }
                    // What was told of an earlier one is looked for again.
                    waiting.clear();
                    archive = open(&url).map(|archive| (url, Arc::new(archive)));
                    store.keep_for_archive(archive.is_some());
                    if archive.is_some() {
                        waiting = unarchived(&store).await;
                    }
                }
            },
            Some(ended) = uploads.join_next() => match ended {
                Ok((id, Ok(()))) => {
                    pause = limits::LOG_UPLOAD_PAUSE_MIN;
                    if let Err(error) = store.mark(&id, Shipped::Archive).await {
                        tracing::debug!(container = %id, %error, "a log can't be marked");
                    }
                }
                Ok((id, Err(problem))) => {
                    tracing::warn!(container = %id, problem, pause_s = pause.as_secs(), "a log can't be archived yet");
                    // Behind the others: what can never be uploaded must not keep them waiting.
                    waiting.push_back(id);
                    resumes_at = Instant::now() + pause;
                    pause = (pause * 2).min(limits::BACK_OFF_MAX);
                }
                Err(error) => tracing::warn!(%error, "uploading a log has ended oddly"),
            },
            () = tokio::time::sleep_until(resumes_at), if is_paused => {}
        }
    }
}

fn open(url: &str) -> Option<Archive> {
    if url.is_empty() {
        return None;
    }
    match Archive::open(url) {
        Ok(archive) => {
            tracing::info!(archive = url, "logs of containers that have ended are archived");
            Some(archive)
        }
        Err(error) => {
            tracing::error!(%error, "logs are not archived: this agent lacks what the archive needs");
            None
        }
    }
}

/// All that is not known to be in the archive.
async fn unarchived(store: &LogStore) -> VecDeque<ContainerId> {
    let mut found = VecDeque::new();
    for pod in store.pods().await.unwrap_or_default() {
        found.extend(store.unmarked(&pod, Shipped::Archive).await.unwrap_or_default());
        if found.len() >= limits::LOG_UPLOADS_WAITING_MAX {
            break;
        }
    }
    found
}

/// Uploads all that is kept of a log; part by part, since it may be longer than what may be in memory.
async fn upload(store: &LogStore, archive: &Archive, id: &ContainerId) -> Result<(), String> {
    let run = Run {
        pod_uid: id.pod_uid().to_owned(),
        container: id.container_name().to_owned(),
        restart_count: id.restart_count(),
    };
    let read = async |offset: u64| {
        let read = store.excerpt(id, offset, ARCHIVE_PART_BYTES_MAX).await;
        read.map_err(|error| error.to_string())
    };
    let mut next = read(0).await?;
    while let Some(part) = next {
        next = read(part.end_offset()).await?;
        if next.is_none() && !store.has_files(id).await {
            // Removed meanwhile: what has arrived is not all of it.
            return Ok(());
        }
        archive.put(&run, &part, next.is_none()).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}
