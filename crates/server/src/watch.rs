//! The watch hub: every row change since this server started, in order, for whoever watches (decision 6, R11).
//!
//! Owns: the bounded history of changes, cursors into it, the pace of each watch's stream. Does not own: what readers see of
//! a change (`objects`), reading of rows (`reads`).
//!
//! Invariants: the history holds every change after [`WatchHub::compacted`] without a gap; a stream sends the changes after
//! its cursor, each once, in order of revision, or ends with `Expired`; a bookmark is sent only after everything before
//! it. A slow reader holds no memory but its small buffer: it falls out of the history and is told to begin anew. What is
//! kept is bounded in bytes, templates included, which may be large and belong to Jobs that are gone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use stint_api::{JobUid, Revision, StringMap, pod_spec_bytes};
use stint_core::{
    ConfigMapRecord, ContainerRecord, ContainerRunState, EventRecord, JobRecord, NodeRecord, PodRecord, Row,
    RowChange, RowChangeKind, TemplateRecord,
};
use tokio::sync::watch;

use crate::limits::{
    WATCH_HISTORY_BYTES_MAX, WATCH_HISTORY_EVENTS_MAX, WATCH_REMEMBERED_BYTES_MAX, WATCH_REMEMBERED_JOBS_MAX,
};

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
    /// A ConfigMap.
    ConfigMap(Arc<ConfigMapRecord>),
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
    /// Templates that events hold, each counted once however many events hold it.
    held_templates: HashMap<JobUid, HeldTemplate>,
    remembered: Remembered,
    limits: HistoryLimits,
}

#[derive(Debug, Default)]
struct HeldTemplate {
    n_events: usize,
    bytes: usize,
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
    /// Of `jobs`.
    bytes: usize,
    /// Templates of Jobs that are gone, as long as an event of theirs may be in the history.
    deleted_templates: HashMap<JobUid, Arc<TemplateRecord>>,
    /// Until which revision is compacted; oldest first.
    deleted_order: VecDeque<(Revision, JobUid)>,
}

#[derive(Debug, Default)]
struct RememberedJob {
    record: Option<Arc<JobRecord>>,
    template: Option<Arc<TemplateRecord>>,
    bytes: usize,
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
            held_templates: HashMap::new(),
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
            history.held_templates = HashMap::new();
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
        self.history.lock().remembered.deleted_templates.get(&job).map(Arc::clone)
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
                self.hold_template(&event);
                self.events.push_back(Arc::new(event));
            }
        }
        self.compact();
    }

    fn note_template(&mut self, change: &RowChange) {
        match &change.kind {
            RowChangeKind::Added(Row::Template(template))
            | RowChangeKind::Modified(Row::Template(template)) => {
                self.remembered.note_template(template);
            }
            RowChangeKind::Deleted(Row::Template(template)) => {
                let until = self.revision_bound();
                self.remembered.template_deleted(until, template);
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
                let before = match kind {
                    ChangeKind::Deleted => self.remembered.forget_record(record.uid),
                    ChangeKind::Added | ChangeKind::Modified => self.remembered.note_record(record),
                };
                let template = self.remembered.template(record.uid);
                ChangedObject::Job { record: Arc::clone(record), template: once(template), before }
            }
            Row::Pod(record) => {
                let template = self.remembered.template(record.job);
                let newly_bound = record.binding_revision == change.revision && record.node.is_some();
                ChangedObject::Pod { record: Arc::clone(record), template: once(template), newly_bound }
            }
            Row::Node(record) => ChangedObject::Node(Arc::clone(record)),
            Row::Event(record) => ChangedObject::Event(Arc::clone(record)),
            Row::ConfigMap(record) => ChangedObject::ConfigMap(Arc::clone(record)),
            Row::Meta(_)
            | Row::Template(_)
            | Row::JobName(_)
            | Row::PodName(_)
            | Row::Tombstone(_)
            | Row::LogTail(_)
            | Row::History(_) => return None,
        };
        Some(WatchEvent { revision: change.revision, kind, object })
    }

    fn hold_template(&mut self, event: &WatchEvent) {
        let Some((job, template)) = event.template() else { return };
        let held = self.held_templates.entry(job).or_default();
        held.n_events += 1;
        if held.bytes == 0 {
            held.bytes = template.get().map_or(0, |template| template_bytes(template));
            self.bytes = self.bytes.saturating_add(held.bytes);
        }
    }

    fn release_template(&mut self, event: &WatchEvent) {
        let Some((job, _)) = event.template() else { return };
        let Some(held) = self.held_templates.get_mut(&job) else { return };
        held.n_events -= 1;
        if held.n_events == 0 {
            self.bytes = self.bytes.saturating_sub(held.bytes);
            self.held_templates.remove(&job);
        }
    }

    fn compact(&mut self) {
        while self.events.len() > self.limits.events_max || self.bytes > self.limits.bytes_max {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.approximate_bytes());
            self.release_template(&oldest);
            self.compacted = oldest.revision;
        }
        self.remembered.compacted(self.compacted);
    }
}

impl Remembered {
    fn note_record(&mut self, record: &Arc<JobRecord>) -> Option<Arc<JobRecord>> {
        let job = self.job(record.uid);
        let before = job.record.replace(Arc::clone(record));
        let taken = job_bytes(record);
        let given = before.as_ref().map_or(0, |before| job_bytes(before));
        job.bytes = (job.bytes + taken).saturating_sub(given);
        self.bytes = (self.bytes + taken).saturating_sub(given);
        self.evict();
        before
    }

    /// The last record of a Job that is gone now.
    fn forget_record(&mut self, uid: JobUid) -> Option<Arc<JobRecord>> {
        let job = self.jobs.get_mut(&uid)?;
        let before = job.record.take()?;
        let given = job_bytes(&before);
        job.bytes = job.bytes.saturating_sub(given);
        self.bytes = self.bytes.saturating_sub(given);
        Some(before)
    }

    fn note_template(&mut self, template: &Arc<TemplateRecord>) {
        let job = self.job(template.job);
        let before = job.template.replace(Arc::clone(template));
        let taken = template_bytes(template);
        let given = before.as_ref().map_or(0, |before| template_bytes(before));
        job.bytes = (job.bytes + taken).saturating_sub(given);
        self.bytes = (self.bytes + taken).saturating_sub(given);
        self.evict();
    }

    /// The last trace of a Job is gone. Its template is kept until no event can need it.
    fn template_deleted(&mut self, until: Revision, template: &Arc<TemplateRecord>) {
        self.forget(template.job);
        self.deleted_templates.insert(template.job, Arc::clone(template));
        self.deleted_order.push_back((until, template.job));
    }

    fn compacted(&mut self, compacted: Revision) {
        while let Some((until, job)) = self.deleted_order.front()
            && (*until <= compacted || self.deleted_order.len() > WATCH_REMEMBERED_JOBS_MAX)
        {
            self.deleted_templates.remove(job);
            self.deleted_order.pop_front();
        }
    }

    fn job(&mut self, uid: JobUid) -> &mut RememberedJob {
        if !self.jobs.contains_key(&uid) {
            self.order.push_back(uid);
        }
        self.jobs.entry(uid).or_default()
    }

    /// Forgets the oldest while there is too much. The newest may go too, if it alone is too much.
    fn evict(&mut self) {
        while self.order.len() > WATCH_REMEMBERED_JOBS_MAX || self.bytes > WATCH_REMEMBERED_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.forget(oldest);
        }
    }

    fn forget(&mut self, uid: JobUid) {
        if let Some(job) = self.jobs.remove(&uid) {
            self.bytes = self.bytes.saturating_sub(job.bytes);
        }
    }

    fn template(&self, uid: JobUid) -> Option<Arc<TemplateRecord>> {
        let remembered = self.jobs.get(&uid).and_then(|job| job.template.clone());
        remembered.or_else(|| self.deleted_templates.get(&uid).map(Arc::clone))
    }
}

impl WatchEvent {
    /// About what the event keeps in memory by itself; templates, which events share, are counted apart.
    fn approximate_bytes(&self) -> usize {
        match &self.object {
            ChangedObject::Job { record, .. } => job_bytes(record),
            ChangedObject::Pod { record, .. } => {
                let containers: usize = record.containers.iter().map(container_bytes).sum();
                RECORD_BYTES + record.message.len() + record.unschedulable_message.len() + containers
            }
            ChangedObject::Node(record) => {
                let conditions =
                    record.conditions.iter().map(|condition| RECORD_BYTES + condition.message.len());
                RECORD_BYTES * 2 + map_bytes(&record.labels) + conditions.sum::<usize>()
            }
            ChangedObject::Event(record) => RECORD_BYTES + record.message.len(),
            ChangedObject::ConfigMap(record) => {
                let keys = record.map.data.len() + record.map.binary_data.len();
                RECORD_BYTES + keys * 2 * TEXT_BYTES + record.map.content_bytes()
            }
        }
    }

    /// Whose template the event holds, or will once somebody has looked for it.
    fn template(&self) -> Option<(JobUid, &OnceLock<Arc<TemplateRecord>>)> {
        match &self.object {
            ChangedObject::Job { record, template, .. } => Some((record.uid, template)),
            ChangedObject::Pod { record, template, .. } => Some((record.job, template)),
            ChangedObject::Node(_) | ChangedObject::Event(_) | ChangedObject::ConfigMap(_) => None,
        }
    }
}

/// About what a record takes beside its texts.
const RECORD_BYTES: usize = 512;

/// About what the record of a container takes beside its texts, and the end of its last run.
const CONTAINER_BYTES: usize = 96;
const TERMINATION_BYTES: usize = 64;

/// About what a text takes beside its characters.
const TEXT_BYTES: usize = 32;

fn map_bytes(map: &StringMap) -> usize {
    map.iter().map(|(key, value)| key.len() + value.len() + 2 * TEXT_BYTES).sum()
}

fn container_bytes(record: &ContainerRecord) -> usize {
    let texts = |one: &str, other: &str| one.len() + other.len() + 2 * TEXT_BYTES;
    let waiting = match &record.state {
        ContainerRunState::Waiting { reason, message } => texts(reason, message),
        _ => 0,
    };
    let termination = record.termination.as_ref();
    let termination = termination.map_or(0, |end| texts(&end.reason, &end.message) + TERMINATION_BYTES);
    CONTAINER_BYTES + texts(&record.container_id, &record.image_id) + waiting + termination
}

fn job_bytes(record: &JobRecord) -> usize {
    let metadata = &record.metadata;
    let texts = map_bytes(&metadata.labels) + map_bytes(&metadata.annotations);
    RECORD_BYTES * 2 + record.status.completed_indexes.len() + texts
}

fn template_bytes(record: &TemplateRecord) -> usize {
    let template = &record.template;
    let spec = &template.spec;
    let containers = spec.init_containers.iter().chain(&spec.containers);
    // The texts, and the structures that hold them.
    let structures = containers.map(|container| {
        let texts = container.command.len() + container.args.len();
        size_of_val(container) + size_of_val(&container.env[..]) + texts * TEXT_BYTES
    });
    let maps = map_bytes(&template.labels) + map_bytes(&template.annotations);
    let volumes = size_of_val(&spec.volumes[..]);
    RECORD_BYTES * 2 + maps + pod_spec_bytes(spec) + structures.sum::<usize>() + volumes
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

    /// Changes of a Job with a template of so many bytes, from its creation to the end of its last trace.
    fn job_comes_and_goes(hub: &WatchHub, job: JobUid, revision: u64, bytes: usize) {
        let mut template = TemplateRecord {
            job,
            namespace: "default".to_owned(),
            job_name: "a".to_owned(),
            owned: true,
            indexed: false,
            template: stint_api::PodTemplateSpec::default(),
            leftover: None,
        };
        let command = vec!["x".repeat(bytes)];
        template.template.spec.containers = vec![stint_api::Container { command, ..Default::default() }];
        let template = Arc::new(template);
        let record = Arc::new(JobRecord {
            uid: job,
            metadata: stint_api::ObjectMeta::default(),
            request_id: String::new(),
            spec: stint_core::JobSpecRecord {
                parallelism: 1,
                completions: Some(1),
                active_deadline_seconds: None,
                backoff_limit: 6,
                ttl_seconds_after_finished: None,
                indexed: false,
                suspend: false,
                replace_terminating: false,
                backoff_base_ms: 1,
                backoff_cap_ms: 1,
                managed_by: None,
                manual_selector: None,
            },
            status: stint_core::JobStatusRecord::default(),
        });
        let change = |key, revision, kind| RowChange { key, revision: Revision(revision), kind };
        let (job_key, template_key) = (RowKey::Job(job), RowKey::Template(job));
        hub.applied(
            &[
                change(job_key.clone(), revision, RowChangeKind::Added(Row::Job(Arc::clone(&record)))),
                change(template_key.clone(), 0, RowChangeKind::Added(Row::Template(Arc::clone(&template)))),
            ],
            Revision(revision),
        );
        hub.applied(
            &[
                change(job_key, revision + 1, RowChangeKind::Deleted(Row::Job(record))),
                change(template_key, 0, RowChangeKind::Deleted(Row::Template(template))),
            ],
            Revision(revision + 1),
        );
    }

    #[test]
    fn r15_templates_of_jobs_that_come_and_go_are_counted_and_let_go() {
        const TEMPLATE_BYTES: usize = 100_000;
        let hub = hub_at(0, HistoryLimits { events_max: usize::MAX, bytes_max: 10 * TEMPLATE_BYTES });
        for number in 1..=200 {
            job_comes_and_goes(&hub, JobUid(u128::from(number)), 2 * number, TEMPLATE_BYTES);
            let history = hub.history.lock();
            assert!(history.bytes <= 10 * TEMPLATE_BYTES, "{}", history.bytes);
            assert!(history.held_templates.len() <= 10);
            assert!(history.remembered.deleted_templates.len() <= 11);
            assert_eq!((history.remembered.jobs.len(), history.remembered.bytes), (0, 0));
        }
        // What is in the history can still be shown.
        let chunk = hub.read_after(hub.compacted(), 100).expect("kept");
        assert!(chunk.events.len() >= 10);
        for event in &chunk.events {
            assert!(event.template().expect("of a Job").1.get().is_some(), "{:?}", event.revision);
        }
        // And once it is compacted, nothing is left.
        feed(&hub, 1_000..=3_000);
        let history = hub.history.lock();
        assert_eq!((history.held_templates.len(), history.remembered.deleted_templates.len()), (0, 0));
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
