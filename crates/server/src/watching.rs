//! The streams of watches: first what there is, then what changes (R11).
//!
//! Owns: the life of one watch's stream. Does not own: the history (`watch`), filters (`objects`).
//!
//! Invariants: as of `watch`; a stream that cannot go on without a gap ends with `Expired`.

use std::sync::Arc;
use std::time::Duration;

use stint_api::Revision;
use stint_proto::ErrorReason;
use stint_proto::limits::PAGE_BYTES_MAX;
use stint_proto::v1::WatchEventType;
use stint_raft::RaftNode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::error;
use crate::limits::{
    LIST_SCAN_ROWS_MAX, WATCH_BOOKMARK_MS, WATCH_CHUNK_EVENTS_MAX, WATCH_FUTURE_WAIT_MS, WATCH_PRESENT_MS,
    WATCH_PRESENT_PAUSE_MS, WATCH_PRESENT_STALL_MS, WATCH_READER_MS, WATCH_STREAM_BUFFER,
    WATCHES_BEGINNING_MAX, WATCHES_MAX,
};
use crate::listing::{ScanLimits, scan};
use crate::objects::{Query, RowReader, resolve_template};
use crate::reads::Reads;
use crate::watch::{ChangeKind, WatchEvent, WatchHub};

/// What the streams of all watches share. Cheap to clone.
#[derive(Clone)]
pub struct Watches {
    raft: Arc<RaftNode>,
    reads: Reads,
    hub: Arc<WatchHub>,
    open: Arc<Semaphore>,
    beginning: Arc<Semaphore>,
    stop: CancellationToken,
}

/// The stream of one watch.
pub type WatchStream<E> = ReceiverStream<Result<E, Status>>;

impl Watches {
    /// `stop` ends all streams.
    pub fn new(raft: Arc<RaftNode>, reads: Reads, hub: Arc<WatchHub>, stop: CancellationToken) -> Watches {
        let (open, beginning) = (Semaphore::new(WATCHES_MAX), Semaphore::new(WATCHES_BEGINNING_MAX));
        Watches { raft, reads, hub, open: Arc::new(open), beginning: Arc::new(beginning), stop }
    }

    /// Begins a watch after `from_revision`; 0: with the objects that there are.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there are too many, `OUT_OF_RANGE` for a revision that is no longer kept, `DEADLINE_EXCEEDED` for
    /// one that does not come.
    pub async fn watch<Q: Query>(
        &self,
        query: Q,
        from_revision: u64,
    ) -> Result<WatchStream<Q::Event>, Status> {
        let place = Arc::clone(&self.open).try_acquire_owned().map_err(|_| {
            error::overloaded(format!("{WATCHES_MAX} watches are open already: try again later"))
        })?;
        let cursor = Revision(from_revision);
        if cursor > Revision(0) {
            self.reach(cursor).await?;
            // Refuse at once what would end at once.
            self.hub.read_after(cursor, 0).map_err(error::expired)?;
        }
        let (sender, receiver) = mpsc::channel(WATCH_STREAM_BUFFER);
        let stream = Stream { watches: self.clone(), query: Arc::new(query), sender, _place: place };
        tokio::spawn(stream.run(cursor));
        Ok(ReceiverStream::new(receiver))
    }

    /// Waits until this server has applied `revision`.
    async fn reach(&self, revision: Revision) -> Result<(), Status> {
        if self.hub.revision() >= revision {
            return Ok(());
        }
        // The revision may have been acknowledged by another leader just now.
        self.reads.confirm().await?;
        let mut progress = self.hub.progress();
        let reached = progress.wait_for(|known| *known >= revision);
        let reached = tokio::time::timeout(Duration::from_millis(WATCH_FUTURE_WAIT_MS), reached);
        tokio::select! {
            reached = reached => match reached {
                Ok(Ok(_)) => Ok(()),
                _ => Err(error::read_timeout(&format!(
                    "waiting for revision {revision}, which the cluster has not reached,"
                ))),
            },
            () = self.stop.cancelled() => Err(error::stopping()),
        }
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        WATCHES_MAX.saturating_sub(self.open.available_permits())
    }

    /// The revision up to which changes are known here.
    pub fn revision(&self) -> Revision {
        self.hub.revision()
    }

    /// Waits for a change after `cursor` of which `concerns` is true, or until nobody can tell whether there was one. Reads
    /// of rows made after it see the change. Gives the cursor to go on from.
    ///
    /// # Errors
    /// `UNAVAILABLE` if this server stops.
    pub async fn changed(
        &self,
        mut cursor: Revision,
        concerns: impl Fn(&WatchEvent) -> bool,
    ) -> Result<Revision, Status> {
        let mut progress = self.hub.progress();
        loop {
            progress.mark_unchanged();
            let Ok(chunk) = self.hub.read_after(cursor, WATCH_CHUNK_EVENTS_MAX) else {
                return Ok(self.hub.revision());
            };
            cursor = chunk.up_to;
            if chunk.events.iter().any(|event| concerns(event)) {
                break;
            }
            if chunk.caught_up {
                tokio::select! {
                    changed = progress.changed() => changed.map_err(|_| error::stopping())?,
                    () = self.stop.cancelled() => return Err(error::stopping()),
                }
            } else {
                tokio::task::yield_now().await;
            }
        }
        // Changes are told a moment before the position that reads go by.
        let mut applied = self.raft.applied();
        tokio::select! {
            applied = applied.wait_for(|applied| applied.revision >= cursor) => {
                applied.map(|_| cursor).map_err(|_| error::stopping())
            }
            () = self.stop.cancelled() => Err(error::stopping()),
        }
    }
}

struct Stream<Q: Query> {
    watches: Watches,
    query: Arc<Q>,
    sender: mpsc::Sender<Result<Q::Event, Status>>,
    _place: OwnedSemaphorePermit,
}

/// The reader is gone.
struct Gone;

impl<Q: Query> Stream<Q> {
    async fn run(self, cursor: Revision) {
        let sender = self.sender.clone();
        let stop = self.watches.stop.clone();
        let end = tokio::select! {
            end = self.follow(cursor) => end,
            () = stop.cancelled() => Err(error::stopping()),
            () = sender.closed() => Ok(Gone),
        };
        if let Err(status) = end {
            // The buffer may be full with a reader that reads nothing: it gets the end when it reads on.
            let _ = tokio::time::timeout(Duration::from_millis(WATCH_BOOKMARK_MS), sender.send(Err(status)))
                .await;
        }
    }

    /// Sends a message when the reader has room for it. False: it is gone.
    async fn send(&self, message: Q::Event) -> Result<bool, Status> {
        let sent =
            tokio::time::timeout(Duration::from_millis(WATCH_READER_MS), self.sender.send(Ok(message)));
        match sent.await {
            Ok(sent) => Ok(sent.is_ok()),
            Err(_) => Err(error::refused(
                ErrorReason::Expired,
                format!(
                    "nothing was read for {WATCH_READER_MS} ms: watch again from the last revision that was read"
                ),
            )),
        }
    }

    async fn follow(self, mut cursor: Revision) -> Result<Gone, Status> {
        if cursor == Revision(0) {
            let Some(revision) = self.send_present().await? else { return Ok(Gone) };
            cursor = revision;
        }
        let mut progress = self.watches.hub.progress();
        let mut bookmark_at = Instant::now() + Duration::from_millis(WATCH_BOOKMARK_MS);
        let mut bookmarked = cursor;
        loop {
            progress.mark_unchanged();
            let chunk =
                self.watches.hub.read_after(cursor, WATCH_CHUNK_EVENTS_MAX).map_err(error::expired)?;
            for event in &chunk.events {
                if !self.query.concerns(event) {
                    continue;
                }
                if !resolve_template(event, &self.watches.raft, &self.watches.hub).await {
                    // Without its template an object cannot be shown, and leaving it out would be a gap.
                    let compacted = self.watches.hub.compacted();
                    return Err(error::expired(crate::watch::Expired { cursor, compacted }));
                }
                if let Some((kind, object)) = self.query.changed(event, &self.watches.raft) {
                    let message = Q::event(wire_kind(kind), Some(object), event.revision);
                    if !self.send(message).await? {
                        return Ok(Gone);
                    }
                    bookmarked = event.revision;
                }
            }
            cursor = chunk.up_to;
            // Everything up to the cursor has been sent: a bookmark is honest here. Also a watch that never catches up, or
            // whose filter matches nothing of a lot, gets them.
            if Instant::now() >= bookmark_at {
                bookmark_at = Instant::now() + Duration::from_millis(WATCH_BOOKMARK_MS);
                if cursor > bookmarked {
                    let message = Q::event(WatchEventType::Bookmark, None, cursor);
                    if !self.send(message).await? {
                        return Ok(Gone);
                    }
                    bookmarked = cursor;
                }
            }
            if !chunk.caught_up {
                tokio::task::yield_now().await;
                continue;
            }
            if let Ok(Err(_)) = timeout_at(bookmark_at, progress.changed()).await {
                return Err(error::stopping());
            }
        }
    }

    /// Sends what there is, then a bookmark; None if the reader is gone.
    async fn send_present(&self) -> Result<Option<Revision>, Status> {
        let _place = self.watches.beginning.acquire().await.map_err(|_| error::stopping())?;
        let (query, sender, stop) = (Arc::clone(&self.query), self.sender.clone(), self.watches.stop.clone());
        self.watches.reads.rows(false, move |reader| present(&*query, reader, &sender, &stop)).await
    }
}

/// On a thread that may block: sends every object of a view at the reader's pace.
fn present<Q: Query>(
    query: &Q,
    reader: &mut RowReader<'_>,
    sender: &mpsc::Sender<Result<Q::Event, Status>>,
    stop: &CancellationToken,
) -> Result<Option<Revision>, Status> {
    let after_ms = |ms| std::time::Instant::now() + Duration::from_millis(ms);
    let until = after_ms(WATCH_PRESENT_MS);
    let revision = reader.view().revision();
    let limits =
        ScanLimits { items: WATCH_CHUNK_EVENTS_MAX, bytes: PAGE_BYTES_MAX, rows: LIST_SCAN_ROWS_MAX };
    let send = |message| {
        let mut message = Ok(message);
        let until = until.min(after_ms(WATCH_PRESENT_STALL_MS));
        loop {
            match sender.try_send(message) {
                Ok(()) => return Ok(true),
                Err(mpsc::error::TrySendError::Closed(_)) => return Ok(false),
                Err(mpsc::error::TrySendError::Full(back)) => message = back,
            }
            if stop.is_cancelled() {
                return Err(error::stopping());
            }
            if std::time::Instant::now() > until {
                return Err(error::refused(
                    ErrorReason::Expired,
                    "the objects that there are were read too slowly: list them, then watch",
                ));
            }
            std::thread::sleep(Duration::from_millis(WATCH_PRESENT_PAUSE_MS));
        }
    };
    let mut after = None;
    loop {
        let page = scan(query, reader, after.take(), limits)?;
        for object in page.items {
            if !send(Q::event(WatchEventType::Added, Some(object), revision))? {
                return Ok(None);
            }
        }
        match page.more_after {
            Some(key) => after = Some(key),
            None => break,
        }
    }
    Ok(send(Q::event(WatchEventType::Bookmark, None, revision))?.then_some(revision))
}

fn wire_kind(kind: ChangeKind) -> WatchEventType {
    match kind {
        ChangeKind::Added => WatchEventType::Added,
        ChangeKind::Modified => WatchEventType::Modified,
        ChangeKind::Deleted => WatchEventType::Deleted,
    }
}
