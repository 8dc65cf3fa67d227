//! Writes the journal on a thread of its own.
//!
//! Owns: the order of writes, groups of them under one fsync. Does not own: the format (`journal`), what is written.
//!
//! Invariant: the agent's loop never waits for a disk, so that a lease that runs out is acted on in time even while an
//! fsync hangs (A13); what must be durable first waits for its own acknowledgement instead.

use std::sync::mpsc;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::journal::{Change, Journal};

/// Hands changes to the journal's thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JournalWriter {
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
struct Request {
    changes: Vec<Change>,
    durable: Option<oneshot::Sender<()>>,
}

impl JournalWriter {
    /// Starts the thread. The receiver gets the error that ended it, if one did: the agent must stop then, because
    /// after a failed fsync nobody knows what is on disk.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(mut journal: Journal) -> std::io::Result<(JournalWriter, oneshot::Receiver<Error>)> {
        let (requests, received) = mpsc::channel::<Request>();
        let (failed, failure) = oneshot::channel();
        std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            while let Ok(first) = received.recv() {
                let mut acknowledged = Vec::new();
                for request in std::iter::once(first).chain(received.try_iter()) {
                    for change in request.changes {
                        journal.append(change);
                    }
                    acknowledged.extend(request.durable);
                }
                if let Err(error) = journal.sync() {
                    // Nobody listens if the agent has stopped already.
                    drop(failed.send(error));
                    return;
                }
                for durable in acknowledged {
                    // Whoever asked may have gone.
                    let _ = durable.send(());
                }
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
        self.send(changes, Some(durable));
        receiver
    }

    fn send(&self, changes: Vec<Change>, durable: Option<oneshot::Sender<()>>) {
        // If the thread has ended, its error is on its way to the agent, which stops.
        drop(self.requests.send(Request { changes, durable }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::bytes_of;

    #[tokio::test]
    async fn a1_what_was_acknowledged_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, _failure) = JournalWriter::start(Journal::open(folder.path()).unwrap()).unwrap();
        for uid in 1..=100 {
            writer.write(vec![Change::Started(bytes_of(uid))]);
        }
        writer.write_durably(vec![Change::Started(bytes_of(101))]).await.unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.memory().started.len(), 101);
    }
}
