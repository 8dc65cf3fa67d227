//! Events (D14, decision 11): rows aggregated by (object, reason), bounded per object and in all, gone some time after
//! the last occurrence or with their object.
//!
//! Owns: the table, its queue, the texts that need no decision. Does not own: when something is worth an event.
//!
//! Invariant: an event never fails or delays a decision: past a limit the event that would expire first goes.
//!
//! A Pod's ordinary life (bound, started, ended) is in its own row and makes no events: 20,000 Pods a second would
//! otherwise leave 72 million events an hour. Pods have events about what is out of the ordinary only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stint_api::{EventType, JobUid, NodeName, ObjectReference, PodUid, Revision, Timestamp};

use crate::limits::{
    EVENT_MESSAGE_BYTES_MAX, EVENT_RETENTION_DEFAULT_MS, EVENTS_MAX, EVENTS_PER_OBJECT_MAX,
    EXPIRIES_PER_ENTRY_MAX,
};
use crate::record::{EventRecord, JobRecord};
use crate::row::{Row, RowChangeKind, RowKey};
use crate::state::State;

/// The component that decides about Jobs.
pub(crate) const JOB_CONTROLLER: &str = "job-controller";
/// The component that decides where Pods go.
pub(crate) const SCHEDULER: &str = "scheduler";
/// The component that decides about nodes.
pub(crate) const NODE_LIFECYCLE: &str = "node-lifecycle";
/// What a node's agent says of its Pods.
pub(crate) const AGENT: &str = "agent";

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EventObject {
    Job(JobUid),
    Pod(PodUid),
    Node(NodeName),
}

type EventKey = (EventObject, String);

#[derive(Debug, Clone)]
struct EventState {
    record: Arc<EventRecord>,
    revision: Revision,
    due: Timestamp,
}

/// Events by key and by when they expire.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventTable {
    events: BTreeMap<EventKey, EventState>,
    queue: BTreeSet<(Timestamp, EventKey)>,
}

/// What happened.
#[derive(Debug, Clone)]
pub(crate) struct Occurrence<'a> {
    pub(crate) event_type: EventType,
    pub(crate) reason: &'a str,
    pub(crate) message: String,
    pub(crate) source: &'static str,
    /// How often at once: one event stands for all Pods that a Job creates in one entry.
    pub(crate) count: u32,
}

impl<'a> Occurrence<'a> {
    pub(crate) fn normal(source: &'static str, reason: &'a str, message: String) -> Occurrence<'a> {
        Occurrence { event_type: EventType::Normal, reason, message, source, count: 1 }
    }

    pub(crate) fn warning(source: &'static str, reason: &'a str, message: String) -> Occurrence<'a> {
        Occurrence { event_type: EventType::Warning, reason, message, source, count: 1 }
    }
}

impl EventTable {
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// Everything, for the state's hash.
    pub(crate) fn contents(&self) -> impl Iterator<Item = (&Arc<EventRecord>, Revision, Timestamp)> {
        self.events.values().map(|event| (&event.record, event.revision, event.due))
    }

    /// Takes in a row; none if its object can't be read.
    pub(crate) fn load(
        &mut self,
        record: Arc<EventRecord>,
        revision: Revision,
        retention_ms: i64,
    ) -> Option<()> {
        let object = match record.regarding.kind.as_str() {
            "Job" => EventObject::Job(record.regarding.uid.parse().ok()?),
            "Pod" => EventObject::Pod(record.regarding.uid.parse().ok()?),
            "Node" => EventObject::Node(NodeName::new(&record.regarding.name)),
            _ => return None,
        };
        let key = (object, record.reason.clone());
        self.put(key, record, revision, retention_ms);
        Some(())
    }

    fn put(&mut self, key: EventKey, record: Arc<EventRecord>, revision: Revision, retention_ms: i64) {
        let due = record.last_at.plus_ms(retention_ms);
        if let Some(old) = self.events.insert(key.clone(), EventState { record, revision, due }) {
            self.queue.remove(&(old.due, key.clone()));
        }
        self.queue.insert((due, key));
    }

    fn remove(&mut self, key: &EventKey) -> Option<Arc<EventRecord>> {
        let event = self.events.remove(key)?;
        self.queue.remove(&(event.due, key.clone()));
        Some(event.record)
    }

    fn keys_of(&self, object: &EventObject) -> Vec<EventKey> {
        let from = (object.clone(), String::new());
        let of_object = self.events.range(from..).take_while(|((other, _), _)| other == object);
        of_object.map(|(key, _)| key.clone()).collect()
    }

    fn rearm_all(&mut self, retention_ms: i64) {
        self.queue.clear();
        for (key, event) in &mut self.events {
            event.due = event.record.last_at.plus_ms(retention_ms);
            self.queue.insert((event.due, key.clone()));
        }
    }
}

fn row_key(record: &EventRecord) -> RowKey {
    let regarding = &record.regarding;
    let object = if regarding.kind == "Node" { regarding.name.clone() } else { regarding.uid.clone() };
    RowKey::Event { kind: regarding.kind.clone(), object, reason: record.reason.clone() }
}

/// At most so many bytes of a message, in whole characters.
pub(crate) fn cut(mut message: String, bytes_max: usize) -> String {
    if message.len() > bytes_max {
        let mut end = bytes_max;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
    }
    message
}

impl State {
    /// How long an event is kept after its last occurrence.
    pub(crate) fn event_retention_ms(&self) -> i64 {
        self.meta.settings.as_ref().map_or(EVENT_RETENTION_DEFAULT_MS, |settings| {
            i64::try_from(settings.event_retention_ms).unwrap_or(i64::MAX)
        })
    }

    /// The retention has changed: every event is due at another time.
    pub(crate) fn event_retention_changed(&mut self) {
        let retention_ms = self.event_retention_ms();
        self.events.rearm_all(retention_ms);
    }

    /// Records something that happened to a Job.
    pub(crate) fn job_event(&mut self, job: &JobRecord, occurrence: Occurrence<'_>) {
        let regarding = ObjectReference {
            kind: "Job".to_owned(),
            namespace: job.metadata.namespace.clone(),
            name: job.metadata.name.clone(),
            uid: job.uid.to_string(),
        };
        self.record_event(EventObject::Job(job.uid), regarding, occurrence);
    }

    /// Records something that happened to an unfinished Pod.
    pub(crate) fn pod_event(&mut self, uid: PodUid, occurrence: Occurrence<'_>) {
        let Some(pod) = self.pods.get(&uid) else { return };
        let Some(group) = self.groups.get(&pod.record.job) else { return };
        let regarding = ObjectReference {
            kind: "Pod".to_owned(),
            namespace: group.template.namespace.clone(),
            name: pod.record.name.clone(),
            uid: uid.to_string(),
        };
        self.record_event(EventObject::Pod(uid), regarding, occurrence);
    }

    /// Records something that happened to a node.
    pub(crate) fn node_event(&mut self, name: &NodeName, occurrence: Occurrence<'_>) {
        let regarding = ObjectReference {
            kind: "Node".to_owned(),
            namespace: String::new(),
            name: name.to_string(),
            uid: self.nodes.get(name).map(|node| node.record.node_uid.to_string()).unwrap_or_default(),
        };
        self.record_event(EventObject::Node(name.clone()), regarding, occurrence);
    }

    fn record_event(&mut self, object: EventObject, regarding: ObjectReference, occurrence: Occurrence<'_>) {
        let key = (object, occurrence.reason.to_owned());
        let old = self.events.events.get(&key).map(|event| Arc::clone(&event.record));
        if old.is_none() {
            if self.events.keys_of(&key.0).len() >= EVENTS_PER_OBJECT_MAX {
                return;
            }
            if self.events.len() >= EVENTS_MAX {
                self.drop_first_event();
            }
        }
        let record = Arc::new(EventRecord {
            regarding,
            reason: occurrence.reason.to_owned(),
            event_type: occurrence.event_type,
            source: occurrence.source.to_owned(),
            message: cut(occurrence.message, EVENT_MESSAGE_BYTES_MAX),
            count: old.as_ref().map_or(0, |old| old.count).saturating_add(occurrence.count),
            first_at: old.as_ref().map_or(self.meta.time, |old| old.first_at),
            last_at: self.meta.time,
        });
        let revision = self.next_revision();
        let row = Row::Event(Arc::clone(&record));
        let kind = if old.is_some() { RowChangeKind::Modified(row) } else { RowChangeKind::Added(row) };
        self.push(row_key(&record), revision, kind);
        let retention_ms = self.event_retention_ms();
        self.events.put(key, record, revision, retention_ms);
    }

    /// Lets events expire.
    pub(crate) fn expire_events(&mut self) {
        for _ in 0..EXPIRIES_PER_ENTRY_MAX {
            if self.events.next_due().is_none_or(|due| due > self.meta.time) {
                break;
            }
            self.drop_first_event();
        }
    }

    fn drop_first_event(&mut self) {
        if let Some((_, key)) = self.events.queue.first().cloned() {
            self.delete_event(&key);
        }
    }

    fn delete_event(&mut self, key: &EventKey) {
        let Some(record) = self.events.remove(key) else { return };
        let revision = self.next_revision();
        self.push(row_key(&record), revision, RowChangeKind::Deleted(Row::Event(record)));
    }

    /// Events go with their object.
    pub(crate) fn delete_events_of(&mut self, object: &EventObject) {
        for key in self.events.keys_of(object) {
            self.delete_event(&key);
        }
    }

    pub(crate) fn delete_events_of_pod(&mut self, uid: PodUid) {
        self.delete_events_of(&EventObject::Pod(uid));
    }
}
