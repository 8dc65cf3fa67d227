//! The watch hub: every row change since this server started, in order, for whoever watches (decision 6, R11).
//!
//! Owns: the bounded history of changes, cursors into it, the pace of each watch's stream. Does not own: what readers see of
//! a change (`objects`), reading of rows (`reads`).
//!
//! Invariants: the history holds every change after [`WatchHub::compacted`] without a gap; a stream sends the changes after
//! its cursor, each once, in order of revision, or ends with `Expired`; a bookmark is sent only after everything before
//! it. A slow reader holds no memory but its small buffer: it falls out of the history and is told to begin anew.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use stint_api::{JobUid, Revision};
use stint_core::{
    EventRecord, JobRecord, NodeRecord, PodRecord, Row, RowChange, RowChangeKind, TemplateRecord,
};
use tokio::sync::watch;

use crate::limits::{WATCH_HISTORY_BYTES_MAX, WATCH_HISTORY_EVENTS_MAX, WATCH_REMEMBERED_JOBS_MAX};

/// One change of one object.
#[derive(Debug)]
pub struct WatchEvent {
    /// Revision of the change; no two share one.
    pub revision: Revision,
    /// What became of the object.
    pub kind: ChangeKind,
    /// The object after the change; for `Deleted` its last state.
    pub object: ChangedObject,
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It has changed.
    Modified,
    /// It is gone.
    Deleted,
}

/// The object of a change.
#[derive(Debug)]
pub enum ChangedObject {
    /// A Job.
    Job {
        /// Its record.
        record: Arc<JobRecord>,
        /// Its template, once known.
        template: OnceLock<Arc<TemplateRecord>>,
        /// The record before the change, as far as this server remembers it.
        before: Option<Arc<JobRecord>>,
    },
    /// A Pod.
    Pod {
        /// Its record.
        record: Arc<PodRecord>,
        /// Its Job's template, once known.
        template: OnceLock<Arc<TemplateRecord>>,
        /// This change bound it to its node. All else that filters see of a Pod never changes.
        newly_bound: bool,
    },
    /// A Node.
    Node(Arc<NodeRecord>),
    /// An Event.
    Event(Arc<EventRecord>),
}

/// The cursor is older than the history (410 Gone).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "revision {cursor} is older than what is kept, which begins after {compacted}: list again and watch from there"
)]
pub struct Expired {
    /// The cursor that was asked for.
    pub cursor: Revision,
    /// Changes up to here are no longer kept.
    pub compacted: Revision,
}

/// A part of the history.
#[derive(Debug)]
pub struct Chunk {
    /// Changes after the cursor, in order.
    pub events: Vec<Arc<WatchEvent>>,
    /// Everything up to here is in `events` or was before the cursor.
    pub up_to: Revision,
    /// True if nothing more is known now.
    pub caught_up: bool,
}

/// See the module.
#[derive(Debug)]
pub struct WatchHub {
    history: Mutex<History>,
    progress: watch::Sender<Revision>,
}

#[derive(Debug)]
struct History {
    events: VecDeque<Arc<WatchEvent>>,
    bytes: usize,
    compacted: Revision,
    revision: Revision,
    /// False until it is known where the history begins.
    begun: bool,
    remembered: Remembered,
    limits: HistoryLimits,
}

/// Bounds of the history; tests use small ones.
#[derive(Debug, Clone, Copy)]
pub struct HistoryLimits {
    /// Changes.
    pub events_max: usize,
    /// Approximate bytes.
    pub bytes_max: usize,
}

impl Default for HistoryLimits {
    fn default() -> HistoryLimits {
        HistoryLimits { events_max: WATCH_HISTORY_EVENTS_MAX, bytes_max: WATCH_HISTORY_BYTES_MAX }
    }
}

/// What is remembered of Jobs, to compose events and to see which labels a Job had before.
#[derive(Debug, Default)]
struct Remembered {
    jobs: HashMap<JobUid, RememberedJob>,
    /// Oldest first; bounds `jobs`.
    order: VecDeque<JobUid>,
    /// Templates of Jobs that are gone, as long as an event of theirs may be in the history.
    deleted_templates: HashMap<JobUid, (Revision, Arc<TemplateRecord>)>,
}

#[derive(Debug, Default)]
struct RememberedJob {
    record: Option<Arc<JobRecord>>,
    template: Option<Arc<TemplateRecord>>,
}

impl WatchHub {
    /// A hub that knows nothing yet: its history begins with the first change, or where [`WatchHub::begin_at`] says.
    pub fn new(limits: HistoryLimits) -> WatchHub {
        let history = History {
            events: VecDeque::new(),
            bytes: 0,
            compacted: Revision(0),
            revision: Revision(0),
            begun: false,
            remembered: Remembered::default(),
            limits,
        };
        WatchHub { history: Mutex::new(history), progress: watch::Sender::new(Revision(0)) }
    }

    /// The state was loaded with this revision: the history begins after it, unless changes came already.
    pub fn begin_at(&self, revision: Revision) {
        let mut history = self.history.lock();
        if !history.begun {
            history.begun = true;
            history.compacted = revision;
            history.revision = history.revision.max(revision);
            self.progress.send_replace(history.revision);
        }
    }

    /// Takes the changes of applied entries, in order. `revision` is that of the state after them.
    pub fn applied(&self, changes: &[RowChange], revision: Revision) {
        {
            let mut history = self.history.lock();
            history.extend(changes);
            history.revision = history.revision.max(revision);
        }
        self.progress.send_if_modified(|known| {
            let moved = revision > *known;
            *known = (*known).max(revision);
            moved
        });
    }

    /// The rows were replaced by a snapshot: what led to them is not known here. Watches begin anew.
    pub fn reset(&self, revision: Revision) {
        {
            let mut history = self.history.lock();
            history.events.clear();
            history.bytes = 0;
            history.compacted = revision;
            history.revision = revision;
            history.begun = true;
            history.remembered = Remembered::default();
        }
        // Watches wake up, see that their cursor is before the history, and end.
        self.progress.send_replace(revision);
    }

    /// Changes after `cursor`, at most `limit`. A cursor beyond the present revision gets an empty chunk.
    pub fn read_after(&self, cursor: Revision, limit: usize) -> Result<Chunk, Expired> {
        let history = self.history.lock();
        if cursor < history.compacted {
            return Err(Expired { cursor, compacted: history.compacted });
        }
        let first = history.events.partition_point(|event| event.revision <= cursor);
        let events: Vec<_> = history.events.iter().skip(first).take(limit).cloned().collect();
        let caught_up = first + events.len() >= history.events.len();
        let up_to = match events.last() {
            Some(last) if !caught_up => last.revision,
            _ => history.revision.max(cursor),
        };
        Ok(Chunk { events, up_to, caught_up })
    }

    /// The revision up to which changes are known; wakes up when it moves.
    pub fn progress(&self) -> watch::Receiver<Revision> {
        self.progress.subscribe()
    }

    /// The revision up to which changes are known.
    pub fn revision(&self) -> Revision {
        self.history.lock().revision
    }

    /// Changes up to this revision are not kept.
    pub fn compacted(&self) -> Revision {
        self.history.lock().compacted
    }

    /// The template of a Job that is gone, as long as the history may need it.
    pub fn deleted_template(&self, job: JobUid) -> Option<Arc<TemplateRecord>> {
        self.history.lock().remembered.deleted_templates.get(&job).map(|(_, template)| Arc::clone(template))
    }
}

impl History {
    fn extend(&mut self, changes: &[RowChange]) {
        // Templates come first: an object's event must be composed with the template of its own entry, wherever in the
        // entry's changes that stands.
        for change in changes {
            self.note_template(change);
        }
        for change in changes {
            if let Some(event) = self.event(change) {
                if !self.begun {
                    self.begun = true;
                    self.compacted = Revision(event.revision.0.saturating_sub(1));
                }
                self.bytes = self.bytes.saturating_add(event.approximate_bytes());
                self.events.push_back(Arc::new(event));
            }
        }
        self.compact();
    }

    fn note_template(&mut self, change: &RowChange) {
        match &change.kind {
            RowChangeKind::Added(Row::Template(template))
            | RowChangeKind::Modified(Row::Template(template)) => {
                self.remembered.job(template.job).template = Some(Arc::clone(template));
            }
            RowChangeKind::Deleted(Row::Template(template)) => {
                let until = self.revision_bound();
                self.remembered.deleted_templates.insert(template.job, (until, Arc::clone(template)));
            }
            _ => {}
        }
    }

    /// A revision that no event in the history or in the changes being added now is above.
    fn revision_bound(&self) -> Revision {
        // Events of the same batch come after this; the template is looked up while they are made, so that only events
        // that are in the history already need it later.
        self.events.back().map_or(self.compacted, |event| event.revision)
    }

    fn event(&mut self, change: &RowChange) -> Option<WatchEvent> {
        let (kind, row) = match &change.kind {
            RowChangeKind::Added(row) => (ChangeKind::Added, row),
            RowChangeKind::Modified(row) => (ChangeKind::Modified, row),
            RowChangeKind::Deleted(row) => (ChangeKind::Deleted, row),
        };
        let object = match row {
            Row::Job(record) => {
                let remembered = self.remembered.job(record.uid);
                let before = remembered.record.replace(Arc::clone(record));
                let template = self.remembered.template(record.uid);
                if kind == ChangeKind::Deleted {
                    self.remembered.forget_record(record.uid);
                }
                ChangedObject::Job { record: Arc::clone(record), template: once(template), before }
            }
            Row::Pod(record) => {
                let template = self.remembered.template(record.job);
                let newly_bound = record.binding_revision == change.revision && record.node.is_some();
                ChangedObject::Pod { record: Arc::clone(record), template: once(template), newly_bound }
            }
            Row::Node(record) => ChangedObject::Node(Arc::clone(record)),
            Row::Event(record) => ChangedObject::Event(Arc::clone(record)),
            Row::Meta(_) | Row::Template(_) | Row::JobName(_) | Row::PodName(_) | Row::Tombstone(_) => {
                return None;
            }
        };
        Some(WatchEvent { revision: change.revision, kind, object })
    }

    fn compact(&mut self) {
        while self.events.len() > self.limits.events_max || self.bytes > self.limits.bytes_max {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.approximate_bytes());
            self.compacted = oldest.revision;
        }
        let compacted = self.compacted;
        if self.remembered.deleted_templates.len() > WATCH_REMEMBERED_JOBS_MAX {
            self.remembered.deleted_templates.retain(|_, (until, _)| *until > compacted);
        }
    }
}

impl Remembered {
    fn job(&mut self, uid: JobUid) -> &mut RememberedJob {
        if !self.jobs.contains_key(&uid) {
            self.order.push_back(uid);
            while self.order.len() > WATCH_REMEMBERED_JOBS_MAX {
                if let Some(oldest) = self.order.pop_front() {
                    self.jobs.remove(&oldest);
                }
            }
        }
        self.jobs.entry(uid).or_default()
    }

    fn template(&self, uid: JobUid) -> Option<Arc<TemplateRecord>> {
        let remembered = self.jobs.get(&uid).and_then(|job| job.template.clone());
        remembered.or_else(|| self.deleted_templates.get(&uid).map(|(_, template)| Arc::clone(template)))
    }

    fn forget_record(&mut self, uid: JobUid) {
        if let Some(job) = self.jobs.get_mut(&uid) {
            job.record = None;
        }
    }
}

impl WatchEvent {
    /// About what the event keeps in memory by itself; templates are shared and not counted.
    fn approximate_bytes(&self) -> usize {
        const RECORD_BYTES: usize = 512;
        match &self.object {
            ChangedObject::Job { record, .. } => {
                let labels = &record.metadata.labels;
                let annotations = &record.metadata.annotations;
                let texts = labels.iter().chain(annotations).map(|(key, value)| key.len() + value.len() + 64);
                RECORD_BYTES * 2 + record.status.completed_indexes.len() + texts.sum::<usize>()
            }
            ChangedObject::Pod { record, .. } => {
                RECORD_BYTES + record.message.len() + record.unschedulable_message.len()
            }
            ChangedObject::Node(record) => RECORD_BYTES * 2 + record.labels.len() * 64,
            ChangedObject::Event(record) => RECORD_BYTES + record.message.len(),
        }
    }
}

fn once(template: Option<Arc<TemplateRecord>>) -> OnceLock<Arc<TemplateRecord>> {
    let cell = OnceLock::new();
    if let Some(template) = template {
        // The cell is new: setting it cannot fail.
        let _ = cell.set(template);
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::{EventType, ObjectReference, Timestamp};
    use stint_core::RowKey;

    fn event_change(revision: u64) -> RowChange {
        let record = EventRecord {
            regarding: ObjectReference {
                kind: "Job".to_owned(),
                uid: "u".to_owned(),
                ..ObjectReference::default()
            },
            reason: "Completed".to_owned(),
            event_type: EventType::Normal,
            source: "job-controller".to_owned(),
            message: String::new(),
            count: 1,
            first_at: Timestamp(0),
            last_at: Timestamp(0),
        };
        let key =
            RowKey::Event { kind: "Job".to_owned(), object: "u".to_owned(), reason: "Completed".to_owned() };
        let kind = RowChangeKind::Modified(Row::Event(Arc::new(record)));
        RowChange { key, revision: Revision(revision), kind }
    }

    fn hub_at(revision: u64, limits: HistoryLimits) -> WatchHub {
        let hub = WatchHub::new(limits);
        hub.begin_at(Revision(revision));
        hub
    }

    #[test]
    fn r11_the_history_begins_before_its_first_change() {
        let hub = WatchHub::new(HistoryLimits::default());
        feed(&hub, 7..=9);
        hub.begin_at(Revision(9));
        assert!(hub.read_after(Revision(5), 9).is_err());
        assert_eq!(revisions(&hub.read_after(Revision(6), 9).expect("kept")), vec![7, 8, 9]);
    }

    fn feed(hub: &WatchHub, revisions: std::ops::RangeInclusive<u64>) {
        for revision in revisions {
            hub.applied(&[event_change(revision)], Revision(revision));
        }
    }

    fn revisions(chunk: &Chunk) -> Vec<u64> {
        chunk.events.iter().map(|event| event.revision.0).collect()
    }

    #[test]
    fn r11_changes_come_in_order_once_and_from_the_cursor() {
        let hub = hub_at(10, HistoryLimits::default());
        feed(&hub, 11..=15);
        let chunk = hub.read_after(Revision(12), 2).expect("kept");
        assert_eq!((revisions(&chunk), chunk.up_to, chunk.caught_up), (vec![13, 14], Revision(14), false));
        let chunk = hub.read_after(chunk.up_to, 2).expect("kept");
        assert_eq!((revisions(&chunk), chunk.up_to, chunk.caught_up), (vec![15], Revision(15), true));
        let chunk = hub.read_after(Revision(15), 2).expect("kept");
        assert_eq!((revisions(&chunk), chunk.up_to, chunk.caught_up), (vec![], Revision(15), true));
    }

    #[test]
    fn r11_a_cursor_before_the_history_is_expired_and_the_first_one_is_not() {
        let hub = hub_at(10, HistoryLimits { events_max: 3, bytes_max: usize::MAX });
        assert!(hub.read_after(Revision(9), 1).is_err());
        feed(&hub, 11..=15);
        assert_eq!(hub.compacted(), Revision(12));
        let expired = hub.read_after(Revision(11), 10).expect_err("13 to 15 are left");
        assert_eq!(expired, Expired { cursor: Revision(11), compacted: Revision(12) });
        assert_eq!(revisions(&hub.read_after(Revision(12), 10).expect("kept")), vec![13, 14, 15]);
    }

    #[test]
    fn r11_bytes_bound_the_history_too() {
        let hub = hub_at(0, HistoryLimits { events_max: usize::MAX, bytes_max: 2_000 });
        feed(&hub, 1..=100);
        assert_eq!(revisions(&hub.read_after(hub.compacted(), 100).expect("kept")), vec![98, 99, 100]);
    }

    #[test]
    fn r11_after_a_snapshot_older_cursors_are_expired() {
        let hub = hub_at(0, HistoryLimits::default());
        feed(&hub, 1..=5);
        hub.reset(Revision(50));
        assert!(hub.read_after(Revision(5), 10).is_err());
        feed(&hub, 51..=52);
        assert_eq!(revisions(&hub.read_after(Revision(50), 10).expect("kept")), vec![51, 52]);
    }

    #[test]
    fn a_cursor_ahead_of_this_server_gets_nothing_yet() {
        let hub = hub_at(5, HistoryLimits::default());
        let chunk = hub.read_after(Revision(9), 10).expect("not expired");
        assert!(chunk.events.is_empty() && chunk.caught_up);
        assert_eq!(chunk.up_to, Revision(9));
    }
}
