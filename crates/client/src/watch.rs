//! Watches that survive a broken connection and a change of leader.
//!
//! Owns: resuming from the last revision seen. Does not own: the meaning of events.
//!
//! Invariant: each change is given once and in order; when that can no longer be kept the watch ends with an error whose
//! [`Error::is_expired`](crate::Error::is_expired) is true.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use stint_proto::v1;
use tonic::{Status, Streaming};

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
    /// Only Events about the object of this name; empty: all. Only for Events.
    pub regarding_name: String,
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
            inner: Box::new(Resuming { open, revision: from_revision, stream: None, pause: Duration::ZERO }),
        }
    }

    /// The next change; waits for it as long as it takes.
    ///
    /// # Errors
    /// [`Error::is_expired`](crate::Error::is_expired) if changes were missed: list again.
    pub async fn next(&mut self) -> Result<WatchEvent<T>, Error> {
        self.inner.next().await
    }
}

trait Next<T> {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Result<WatchEvent<T>, Error>> + Send + '_>>;
}

struct Resuming<M> {
    open: Opener<M>,
    /// Everything up to here was given.
    revision: u64,
    stream: Option<Streaming<M>>,
    pause: Duration,
}

impl<T: Send, M: WatchMessage<Object = T> + Send + 'static> Next<T> for Resuming<M> {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Result<WatchEvent<T>, Error>> + Send + '_>> {
        Box::pin(async move {
            loop {
                let stream = match &mut self.stream {
                    Some(stream) => stream,
                    None => {
                        tokio::time::sleep(self.pause).await;
                        self.pause =
                            (self.pause * 2).clamp(limits::RETRY_PAUSE_FIRST, limits::RETRY_PAUSE_MAX);
                        self.stream.insert((self.open)(self.revision).await?)
                    }
                };
                let message = match stream.message().await {
                    Ok(Some(message)) => message,
                    // A server that stops ends its streams.
                    Ok(None) => {
                        self.stream = None;
                        continue;
                    }
                    Err(status) => {
                        resume_or_fail(&status)?;
                        self.stream = None;
                        continue;
                    }
                };
                self.pause = Duration::ZERO;
                let (event_type, revision, object) = message.parts()?;
                let seen_before = revision <= self.revision && self.revision > 0;
                self.revision = self.revision.max(revision);
                let kind = match event_type {
                    v1::WatchEventType::Added => WatchEventKind::Added,
                    v1::WatchEventType::Modified => WatchEventKind::Modified,
                    v1::WatchEventType::Deleted => WatchEventKind::Deleted,
                    v1::WatchEventType::Bookmark | v1::WatchEventType::Unspecified => continue,
                };
                if seen_before {
                    continue;
                }
                let object = object.ok_or_else(|| Error::answer("a change without its object"))?;
                return Ok(WatchEvent { kind, object, revision });
            }
        })
    }
}

fn resume_or_fail(status: &Status) -> Result<(), Error> {
    if is_resumable(status) { Ok(()) } else { Err(refused(status)) }
}
