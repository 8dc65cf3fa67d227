//! Watches that survive a broken connection and a change of leader.
//!
//! Owns: resuming from the last revision seen; beginning anew when it is no longer kept. Does not own: connections
//! (`stream`), the meaning of events.
//!
//! Invariants: each change is given once and in order of revision, or the watch says that changes were missed. Waiting for
//! a change may be given up at any moment, as `tokio::select!` does, without losing one.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;

use stint_proto::status::ErrorReason;
use stint_proto::v1;

use crate::connection::{AuthenticatedChannel, Client};
use crate::error::Error;
use crate::retry::Meaning;
use crate::stream::{Opening, ResumingStream};
use crate::{Listed, limits};

/// Which objects of a kind.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
/// # fn main() { example(async |client| {
/// use stint_client::Scope;
///
/// let everywhere = Scope { all_namespaces: true, ..Scope::default() };
/// println!("{} jobs", client.list_jobs(&everywhere).await?.items.len());
/// # Ok(()) }); }
/// ```
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

/// What a watch gives.
#[derive(Debug, Clone)]
pub enum WatchStep<T> {
    /// One change of one object.
    Change(WatchEvent<T>),
    /// Changes were missed. This is everything that matches now; the watch goes on from it.
    Relisted(Listed<T>),
}

/// A running watch. It goes on by itself after a broken connection and a change of leader.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
/// # fn main() { example(async |client| {
/// use stint_client::{JobBuilder, Scope, WatchStep, is_finished};
///
/// let handle = client.run(JobBuilder::new(["true"])).await?;
/// let scope = Scope { name: handle.name().to_owned(), ..Scope::default() };
/// let mut watch = client.watch_jobs(&scope, 0);
/// loop {
///     let job = match watch.next_step().await? {
///         WatchStep::Change(event) => event.object,
///         // It began long ago, and no server keeps what came next: this is what there is.
///         WatchStep::Relisted(jobs) => jobs.items.into_iter().next().expect("nobody deletes it"),
///     };
///     if is_finished(&job) {
///         break;
///     }
/// }
/// # handle.delete().await?;
/// # Ok(()) }); }
/// ```
pub struct Watch<T> {
    inner: Box<dyn Steps<T> + Send>,
}

impl<T> std::fmt::Debug for Watch<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Watch")
    }
}

impl<T> Watch<T> {
    /// `open` sends the request for a watch from a revision.
    pub(crate) fn new<M>(
        client: &Client,
        from_revision: u64,
        open: impl Fn(AuthenticatedChannel, u64) -> Opening<M> + Send + Sync + 'static,
    ) -> Watch<T>
    where
        M: WatchMessage<Object = T> + Send + 'static,
        T: Send + 'static,
    {
        let stream = ResumingStream::new(client, Box::new(open));
        let state = WatchState::new(from_revision, stream.server_count());
        Watch { inner: Box::new(Resuming { stream, state, pending: VecDeque::new() }) }
    }

    /// The next change, or that changes were missed; waits for it as long as it takes. A watch from revision 0 gives the
    /// objects that there are first, as if they had been added.
    ///
    /// # Errors
    /// Those of every call if no server answers for as long as a call may take; another call of this function goes on where
    /// the watch was.
    pub async fn next_step(&mut self) -> Result<WatchStep<T>, Error> {
        self.inner.step(false).await
    }

    /// The next change; waits for it as long as it takes. As [`Watch::next_step`], for whoever lists and watches by itself.
    ///
    /// # Errors
    /// [`Error::is_expired`] if changes were missed, now and whenever it is called again: list, and watch from there. Else
    /// as [`Watch::next_step`].
    pub async fn next(&mut self) -> Result<WatchEvent<T>, Error> {
        match self.inner.step(true).await? {
            WatchStep::Change(event) => Ok(event),
            WatchStep::Relisted(_) => Err(Error::refused(
                ErrorReason::Expired,
                "changes were missed, no server keeps the revision any more: list, then watch from there",
            )),
        }
    }
}

/// A message of one of the watches.
pub(crate) trait WatchMessage: Sized {
    /// What it is about.
    type Object;
    /// Its type, its revision and its object.
    fn parts(self) -> Result<(v1::WatchEventType, u64, Option<Self::Object>), Error>;
}

/// Says of a message of the wire in which field its object is.
macro_rules! watch_message {
    ($message:ident, $field:ident, $object:ty) => {
        impl WatchMessage for v1::$message {
            type Object = $object;

            fn parts(self) -> Result<(v1::WatchEventType, u64, Option<$object>), Error> {
                let event_type = self.r#type();
                let object = self.$field.map(|object| object.try_into().map_err(Error::answer));
                Ok((event_type, self.revision, object.transpose()?))
            }
        }
    };
}
watch_message!(JobWatchEvent, job, stint_api::Job);
watch_message!(PodWatchEvent, pod, stint_api::Pod);
watch_message!(NodeWatchEvent, node, stint_api::Node);
watch_message!(ConfigMapWatchEvent, config_map, stint_api::ConfigMap);
watch_message!(EventWatchEvent, event, stint_api::Event);

type NextStep<'a, T> = Pin<Box<dyn Future<Output = Result<WatchStep<T>, Error>> + Send + 'a>>;

/// Hides of which kind of message a watch is.
trait Steps<T> {
    /// The next step. `ends_when_missed`: that changes were missed is told at once, and what there is is not read.
    fn step(&mut self, ends_when_missed: bool) -> NextStep<'_, T>;
}

struct Resuming<M: WatchMessage> {
    stream: ResumingStream<u64, M>,
    state: WatchState<M::Object>,
    /// Read and not given yet.
    pending: VecDeque<WatchStep<M::Object>>,
}

impl<T: Send + 'static, M: WatchMessage<Object = T> + Send + 'static> Resuming<M> {
    async fn next(&mut self, ends_when_missed: bool) -> Result<WatchStep<T>, Error> {
        loop {
            if let Some(step) = self.pending.pop_front() {
                return Ok(step);
            }
            if ends_when_missed && self.state.is_relist {
                return Ok(WatchStep::Relisted(Listed { items: Vec::new(), revision: 0 }));
            }
            let state = &mut self.state;
            match self.stream.message(|| Ok(state.opened())).await {
                Ok(Some(message)) => {
                    let (event_type, revision, object) = message.parts()?;
                    let before = self.state.revision;
                    self.pending.extend(self.state.take(event_type, revision, object)?);
                    // What was given before, and what there is as long as it is not whole, lead nowhere if the stream
                    // breaks each time.
                    if self.state.revision > before {
                        self.stream.worked();
                    }
                }
                // A server that stops ends its streams.
                Ok(None) => self.stream.broke(Meaning::stream_ended())?,
                Err(error) if error.is_expired() => self.state.expired(error)?,
                Err(error) => return Err(error),
            }
        }
    }
}

impl<T: Send + 'static, M: WatchMessage<Object = T> + Send + 'static> Steps<T> for Resuming<M> {
    fn step(&mut self, ends_when_missed: bool) -> NextStep<'_, T> {
        Box::pin(self.next(ends_when_missed))
    }
}

/// How far a watch is.
#[derive(Debug)]
struct WatchState<T> {
    /// Everything up to here was given; 0: what there is has yet to be read.
    revision: u64,
    /// What there is, as far as it was read.
    present: Vec<T>,
    /// What there is is read because changes were missed.
    is_relist: bool,
    restarts: usize,
    n_servers: usize,
    /// Servers in a row that do not keep the revision.
    refusals: usize,
}

impl<T> WatchState<T> {
    fn new(from_revision: u64, n_servers: usize) -> WatchState<T> {
        WatchState {
            revision: from_revision,
            present: Vec::new(),
            is_relist: false,
            restarts: 0,
            n_servers,
            refusals: 0,
        }
    }

    /// The revision that a new stream begins from. What there is is read from its beginning again.
    fn opened(&mut self) -> u64 {
        self.present.clear();
        self.revision
    }

    /// A server does not keep the revision; once that is so of all, what there is is read anew.
    ///
    /// # Errors
    /// If that was done too often without success.
    fn expired(&mut self, error: Error) -> Result<(), Error> {
        if self.revision > 0 {
            self.refusals += 1;
            if self.refusals < self.n_servers {
                // One that was started lately keeps less than the others.
                return Ok(());
            }
            self.refusals = 0;
        }
        self.restarts += 1;
        if self.restarts > limits::LIST_RESTARTS_MAX {
            self.restarts = 0;
            return Err(error);
        }
        self.is_relist |= self.revision > 0;
        self.revision = 0;
        Ok(())
    }

    /// What a message gives.
    fn take(
        &mut self,
        event_type: v1::WatchEventType,
        revision: u64,
        object: Option<T>,
    ) -> Result<Vec<WatchStep<T>>, Error> {
        self.refusals = 0;
        let kind = match event_type {
            v1::WatchEventType::Added => WatchEventKind::Added,
            v1::WatchEventType::Modified => WatchEventKind::Modified,
            v1::WatchEventType::Deleted => WatchEventKind::Deleted,
            // A type of a later server says at least its revision.
            v1::WatchEventType::Bookmark | v1::WatchEventType::Unspecified => {
                return Ok(self.bookmark(revision));
            }
        };
        let object = object.ok_or_else(|| Error::answer("a change without its object"))?;
        if self.revision == 0 {
            // What there is, all of one revision; a bookmark ends it. Nothing is given before, so that a break can't give
            // any of it twice.
            self.present.push(object);
            return Ok(Vec::new());
        }
        if revision <= self.revision {
            return Ok(Vec::new());
        }
        self.revision = revision;
        Ok(vec![WatchStep::Change(WatchEvent { kind, object, revision })])
    }

    fn bookmark(&mut self, revision: u64) -> Vec<WatchStep<T>> {
        if self.revision > 0 {
            self.revision = self.revision.max(revision);
            return Vec::new();
        }
        self.revision = revision;
        self.restarts = 0;
        let items = std::mem::take(&mut self.present);
        if std::mem::take(&mut self.is_relist) {
            return vec![WatchStep::Relisted(Listed { items, revision })];
        }
        let added = |object| WatchStep::Change(WatchEvent { kind: WatchEventKind::Added, object, revision });
        items.into_iter().map(added).collect()
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
