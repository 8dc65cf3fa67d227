//! Writes the journal on a thread of its own.
//!
//! Owns: the order of writes, groups of them under one fsync, waiting for room on a full disk. Does not own: the format
//! (`journal`), what is written.
//!
//! Invariant: the agent's loop never waits for a disk, so that a lease that runs out is acted on in time even while an
//! fsync hangs (A13); what must be durable first waits for its own acknowledgement instead.

use std::sync::mpsc;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::journal::{Change, Journal};
use crate::limits;

/// Hands changes to the journal's thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JournalWriter {
    requests: mpsc::Sender<Request>,
}

struct Request {
    changes: Vec<Change>,
    /// Called once they, and all before them, are durable.
    then: Option<Box<dyn FnOnce() + Send>>,
}

impl JournalWriter {
    /// Starts the thread. The receiver gets the error that ended it, if one did: the agent must stop then, because
    /// after a failed fsync nobody knows what is on disk.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(journal: Journal) -> std::io::Result<(JournalWriter, oneshot::Receiver<Error>)> {
        let (requests, received) = mpsc::channel::<Request>();
        let (failed, failure) = oneshot::channel();
        std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            if let Err(error) = write_all(journal, &received) {
                // Nobody listens if the agent has stopped already.
                drop(failed.send(error));
            }
        })?;
        Ok((JournalWriter { requests }, failure))
    }

    /// Writes changes some time soon, in order with all others.
    pub fn write(&self, changes: Vec<Change>) {
        self.send(changes, None);
    }

    /// Writes changes; the receiver resolves once they, and all before them, are durable. It fails if they never will be.
    pub fn write_durably(&self, changes: Vec<Change>) -> oneshot::Receiver<()> {
        let (durable, receiver) = oneshot::channel();
        self.write_then(changes, move || {
            // Whoever asked may have gone.
            let _: Result<(), ()> = durable.send(());
        });
        receiver
    }

    /// Writes changes; `then` is called on the journal's thread once they, and all before them, are durable. It must not wait
    /// for anything. It is dropped if they never will be.
    pub fn write_then(&self, changes: Vec<Change>, then: impl FnOnce() + Send + 'static) {
        self.send(changes, Some(Box::new(then)));
    }

    fn send(&self, changes: Vec<Change>, then: Option<Box<dyn FnOnce() + Send>>) {
        // If the thread has ended, its error is on its way to the agent, which stops.
        drop(self.requests.send(Request { changes, then }));
    }
}

/// Body of the thread; ends with the last sender.
fn write_all(mut journal: Journal, received: &mpsc::Receiver<Request>) -> Result<(), Error> {
    let mut waiting = Vec::new();
    let (mut is_urgent, mut is_full) = (false, false);
    loop {
        let next = match is_full {
            // What waits for room is tried again, whether or not more comes.
            true => received.recv_timeout(limits::JOURNAL_FULL_RETRY_PAUSE),
            false => received.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
        };
        let is_over = matches!(next, Err(mpsc::RecvTimeoutError::Disconnected));
        for request in next.into_iter().chain(received.try_iter()) {
            is_urgent |= request.then.is_some() || request.changes.iter().any(is_worth_a_sync);
            request.changes.into_iter().for_each(|change| journal.append(change));
            waiting.extend(request.then);
        }
        if !is_urgent && !is_over {
            continue;
        }
        match journal.sync() {
            Ok(()) => {
                (is_urgent, is_full) = (false, false);
                waiting.drain(..).for_each(|then| then());
            }
            // Nothing starts meanwhile; what runs goes on.
            Err(error @ Error::JournalFull { .. }) => {
                if !std::mem::replace(&mut is_full, true) {
                    tracing::error!("{error}; no pod is started until then");
                }
            }
            Err(error) => return Err(error),
        }
        if is_over {
            return Ok(());
        }
    }
}

/// False for what costs nothing but a repeated report or question if a crash loses it: it waits for the next fsync.
fn is_worth_a_sync(change: &Change) -> bool {
    !matches!(change, Change::Acknowledged(_) | Change::Closed(_) | Change::Forgotten(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::bytes_of;
    use stint_api::PodUid;

    #[tokio::test]
    async fn a1_what_was_acknowledged_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, _failure) = JournalWriter::start(Journal::open(folder.path()).unwrap()).unwrap();
        for uid in 1..=100 {
            writer.write(vec![Change::started(PodUid(uid), "main", 0)]);
        }
        writer.write_durably(vec![Change::started(PodUid(101), "main", 0)]).await.unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.memory().started.len(), 101);
    }

    #[tokio::test]
    async fn what_is_not_worth_an_fsync_comes_with_the_next_and_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, failure) = JournalWriter::start(Journal::open(folder.path()).unwrap()).unwrap();
        writer
            .write_durably(vec![Change::started(PodUid(1), "main", 0), Change::started(PodUid(2), "main", 0)])
            .await
            .unwrap();
        let length = || std::fs::metadata(folder.path().join("journal")).unwrap().len();
        let before = length();
        writer.write(vec![Change::Forgotten(bytes_of(1))]);
        // One that is empty still means: everything before it.
        writer.write_durably(Vec::new()).await.unwrap();
        assert!(length() > before);
        assert_eq!(Journal::open(folder.path()).unwrap().memory().started.len(), 1);
        writer.write(vec![Change::Forgotten(bytes_of(2))]);
        drop(writer);
        // The thread has ended, and not by an error.
        assert!(failure.await.is_err());
        assert!(Journal::open(folder.path()).unwrap().memory().started.is_empty());
    }
}
