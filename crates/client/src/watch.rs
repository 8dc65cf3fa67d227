//! Watches that survive a broken connection and a change of leader.
//!
//! Owns: resuming from the last revision seen. Does not own: the meaning of events.
//!
//! Invariants: each change is given once and in order; when that can no longer be kept the watch ends with an error whose
//! [`Error::is_expired`](crate::Error::is_expired) is true. Waiting for a change may be given up at any moment, as
//! `tokio::select!` does, without losing one.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use stint_proto::v1;
use tonic::Streaming;

use crate::connection::{is_resumable, refused};
use crate::error::Error;
use crate::limits;

/// Which objects of a kind.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Namespace; empty: `default`.
    pub namespace: String,
    /// Objects of all namespaces.
    pub all_namespaces: bool,
    /// Label selector in text form; empty: all. Not for events.
    pub label_selector: String,
    /// Only the object of this name; empty: all. Only for watches.
    pub name: String,
    /// Only Pods of the Job of this name; empty: all. Only for Pods.
    pub job_name: String,
    /// Only Pods that are bound to this node; empty: all. Only for Pods.
    pub node_name: String,
    /// Only Events about the object of this name; empty: all. Only for Events.
    pub regarding_name: String,
    /// Only Events about objects of this kind: `Job`, `Pod` or `Node`; empty: all. Only for Events.
    pub regarding_kind: String,
    /// Only Events about the object of this uid; empty: all. Only for Events.
    pub regarding_uid: String,
    /// No more pages are read once there are so many objects, which are then not all; 0: all. Only for lists of Pods.
    pub items_max: usize,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchEventKind {
    /// It is new, or came to match.
    Added,
    /// It changed.
    Modified,
    /// It is gone, or matches no longer.
    Deleted,
}

/// One change of one object.
#[derive(Debug, Clone)]
pub struct WatchEvent<T> {
    /// What happened.
    pub kind: WatchEventKind,
    /// The object after the change; for a deletion its last state.
    pub object: T,
    /// Revision of the change.
    pub revision: u64,
}

/// Opens a stream from a revision.
pub(crate) type Opener<M> =
    Box<dyn Fn(u64) -> Pin<Box<dyn Future<Output = Result<Streaming<M>, Error>> + Send>> + Send + Sync>;

/// A message of one of the watches.
pub(crate) trait WatchMessage: Sized {
    /// What it is about.
    type Object;
    /// Its type, its revision and its object.
    fn parts(self) -> Result<(v1::WatchEventType, u64, Option<Self::Object>), Error>;
}

/// A running watch.
pub struct Watch<T> {
    inner: Box<dyn Next<T> + Send>,
}

impl<T> std::fmt::Debug for Watch<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Watch")
    }
}

impl<T> Watch<T> {
    pub(crate) fn new<M>(open: Opener<M>, from_revision: u64) -> Watch<T>
    where
        M: WatchMessage<Object = T> + Send + 'static,
        T: Send + 'static,
    {
        Watch {
            inner: Box::new(Resuming {
                open,
                revision: from_revision,
                given_of_present: 0,
                connection: Connection::Closed,
                pause: Duration::ZERO,
            }),
        }
    }

    /// The next change; waits for it as long as it takes. A watch from revision 0 gives the objects that there are first,
    /// as if they had been added.
    ///
    /// # Errors
    /// [`Error::is_expired`](crate::Error::is_expired) if changes were missed: list again. Those of every call if no
    /// server answers for as long as a call may take; another call of this function goes on where the watch was.
    pub async fn next(&mut self) -> Result<WatchEvent<T>, Error> {
        self.inner.next().await
    }
}

trait Next<T> {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Result<WatchEvent<T>, Error>> + Send + '_>>;
}

struct Resuming<M> {
    open: Opener<M>,
    /// Everything up to here was given; 0: not even all the objects that there are.
    revision: u64,
    /// How many of those objects were given.
    given_of_present: u64,
    connection: Connection<M>,
    /// Before the next connection is opened.
    pause: Duration,
}

enum Connection<M> {
    Closed,
    /// Kept here while it is waited for, so that giving up one wait does not begin it anew.
    Opening(Pin<Box<dyn Future<Output = Result<Streaming<M>, Error>> + Send>>),
    Open(Box<Streaming<M>>),
}

impl<M: Send + 'static> Resuming<M> {
    /// The next message of this connection or of one that goes on from where it ended.
    async fn message(&mut self) -> Result<M, Error> {
        loop {
            match &mut self.connection {
                Connection::Closed => {
                    if self.given_of_present > 0 {
                        // The objects that are left can't be told from those that were given.
                        self.given_of_present = 0;
                        return Err(Error::expired(
                            "the watch broke off before all objects were given: list, then watch",
                        ));
                    }
                    let (pause, opened) = (self.pause, (self.open)(self.revision));
                    self.pause = (pause * 2).clamp(limits::RETRY_PAUSE_FIRST, limits::RETRY_PAUSE_MAX);
                    self.connection = Connection::Opening(Box::pin(async move {
                        tokio::time::sleep(pause).await;
                        opened.await
                    }));
                }
                Connection::Opening(opening) => {
                    let opened = opening.as_mut().await;
                    self.connection = Connection::Closed;
                    self.connection = Connection::Open(Box::new(opened?));
                }
                Connection::Open(stream) => match stream.message().await {
                    Ok(Some(message)) => return Ok(message),
                    // A server that stops ends its streams.
                    Ok(None) => self.connection = Connection::Closed,
                    Err(status) => {
                        self.connection = Connection::Closed;
                        if !is_resumable(&status) {
                            return Err(refused(&status));
                        }
                    }
                },
            }
        }
    }
}

impl<T: Send, M: WatchMessage<Object = T> + Send + 'static> Next<T> for Resuming<M> {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Result<WatchEvent<T>, Error>> + Send + '_>> {
        Box::pin(async move {
            loop {
                let (event_type, revision, object) = self.message().await?.parts()?;
                self.pause = Duration::ZERO;
                let is_present = self.revision == 0;
                let kind = match event_type {
                    v1::WatchEventType::Added => WatchEventKind::Added,
                    v1::WatchEventType::Modified => WatchEventKind::Modified,
                    v1::WatchEventType::Deleted => WatchEventKind::Deleted,
                    v1::WatchEventType::Bookmark | v1::WatchEventType::Unspecified => {
                        self.revision = self.revision.max(revision);
                        self.given_of_present = 0;
                        continue;
                    }
                };
                if is_present {
                    // All of them have the revision of the view they are read from; a bookmark ends them.
                    self.given_of_present += 1;
                } else if revision <= self.revision {
                    continue;
                } else {
                    self.revision = revision;
                }
                let object = object.ok_or_else(|| Error::answer("a change without its object"))?;
                return Ok(WatchEvent { kind, object, revision });
            }
        })
    }
}
