//! Rows: how records are keyed, read and changed.
//!
//! Owns: row keys and their order, row changes, what a command must be given to read. Does not own: bytes, storage.

use std::ops::Bound;
use std::sync::Arc;
use stint_api::{JobUid, NodeName, PodUid, Revision};

use crate::record::{
    ConfigMapRecord, EventRecord, HistoryRecord, JobRecord, LogTailRecord, MetaRecord, NodeRecord, PodRecord,
    TemplateRecord, TombstoneRecord,
};

/// Key of one row. The order of keys is the order of a snapshot and of scans; encodings must keep it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    /// The one [`MetaRecord`].
    Meta,
    /// A node by name.
    Node(NodeName),
    /// A Job by uid.
    Job(JobUid),
    /// A Job's template by the Job's uid.
    Template(JobUid),
    /// Index: Job by name.
    JobName {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// A Pod by its Job and creation.
    Pod(PodKey),
    /// Index: Pod by name.
    PodName {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// An event by the uid (for Nodes: the name) of its object and its reason.
    Event {
        /// `Job`, `Pod` or `Node`.
        kind: String,
        /// Uid or, for Nodes, name.
        object: String,
        /// Reason.
        reason: String,
    },
    /// A deleted Job's request.
    Tombstone {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Idempotency key.
        request_id: String,
    },
    /// A ConfigMap by name.
    ConfigMap {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// The last output of a run of a container.
    LogTail(LogTailKey),
    /// What was decided about a Job, by its uid; only of Jobs about which something out of the ordinary was.
    History(JobUid),
}

/// Whose last output it is. Last in the order of rows: rows that are read often stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogTailKey {
    /// The Pod.
    pub pod: PodUid,
    /// Where the container stands in the Pod's record: init containers first.
    pub container: u32,
    /// Which run of it.
    pub restart_count: u32,
}

/// Key of a Pod's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey {
    /// Its Job.
    pub job: JobUid,
    /// Revision at which it was created.
    pub created_revision: Revision,
}

/// One row's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// See [`RowKey::Meta`].
    Meta(Arc<MetaRecord>),
    /// See [`RowKey::Node`].
    Node(Arc<NodeRecord>),
    /// See [`RowKey::Job`].
    Job(Arc<JobRecord>),
    /// See [`RowKey::Template`].
    Template(Arc<TemplateRecord>),
    /// See [`RowKey::JobName`].
    JobName(JobUid),
    /// See [`RowKey::Pod`].
    Pod(Arc<PodRecord>),
    /// See [`RowKey::PodName`].
    PodName(PodKey),
    /// See [`RowKey::Event`].
    Event(Arc<EventRecord>),
    /// See [`RowKey::Tombstone`].
    Tombstone(Arc<TombstoneRecord>),
    /// See [`RowKey::ConfigMap`].
    ConfigMap(Arc<ConfigMapRecord>),
    /// See [`RowKey::LogTail`].
    LogTail(Arc<LogTailRecord>),
    /// See [`RowKey::History`].
    History(Arc<HistoryRecord>),
}

/// A row together with the revision of its last change; `Revision(0)` for rows that carry none
/// (Meta, templates, indexes, tombstones, tails of logs, histories).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow {
    /// `metadata.resourceVersion` of the object.
    pub revision: Revision,
    /// The content.
    pub row: Row,
}

/// One change of one row. Changes of Job, Pod, Node, Event and ConfigMap rows each have a revision of their own (decision 6);
/// Meta, templates, indexes, tombstones, tails of logs and histories have revision 0 and are not watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// Which row.
    pub key: RowKey,
    /// Revision of this change; 0 for rows that carry none.
    pub revision: Revision,
    /// What became of it.
    pub kind: RowChangeKind,
}

/// See [`RowChange`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowChangeKind {
    /// The row is new.
    Added(Row),
    /// The row was there.
    Modified(Row),
    /// The row is gone; its last content, for watchers; of the tail of a log all but the
    /// entries, of a history nothing.
    Deleted(Row),
}

/// What a command must be given to read before it can be applied (decision 5).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowsNeeded {
    /// Single rows.
    pub keys: Vec<RowKey>,
    /// Ranges, each bounded by a number of rows.
    pub ranges: Vec<RowRange>,
}

/// Rows from one key to another, at most `limit` of them, in key order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRange {
    /// Where to start.
    pub from: Bound<RowKey>,
    /// Where to end.
    pub to: Bound<RowKey>,
    /// At most so many rows.
    pub limit: usize,
}

/// The rows that were asked for: with the effects of every earlier command (decision 5).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowsRead {
    /// For each key asked for, in order.
    pub keys: Vec<Option<StoredRow>>,
    /// For each range asked for, in order.
    pub ranges: Vec<Vec<(RowKey, StoredRow)>>,
}
