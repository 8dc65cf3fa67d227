//! What readers see: objects composed from rows and from changes, and the filters that lists and watches share.
//!
//! Owns: finding the template that a Job's or Pod's record needs, filters by namespace, name, labels, Job, node and
//! object. Does not own: composing itself (`stint_core::compose`), the wire form (`stint-proto`), paging, streams.
//!
//! Invariant: a list and a watch with the same filter see the same objects.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Bound;
use std::sync::Arc;

use stint_api::{ConfigMap, JobUid, LabelSelector, NodeName, Revision, StringMap};
use stint_core::{
    ConfigMapRecord, EventRecord, JobRecord, NodeRecord, PodKey, PodRecord, Row, RowKey, StoredRow,
    TemplateRecord, compose,
};
use stint_proto::v1;
use stint_raft::{RaftNode, RowView};
use tonic::Status;

use crate::error;
use crate::watch::{ChangeKind, ChangedObject, WatchEvent, WatchHub};

/// Namespace of requests that name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// A kind of object together with a filter of it: what one list or one watch asks for.
pub trait Query: Hash + Send + Sync + 'static {
    /// The object on the wire.
    type Object: prost::Message + Send + 'static;
    /// One message of a watch.
    type Event: Send + 'static;

    /// The rows that a list must look at.
    fn range(&self, reader: &RowReader<'_>) -> Result<(Bound<RowKey>, Bound<RowKey>), Status>;

    /// The object of one of these rows, if it passes the filter.
    fn listed(
        &self,
        reader: &mut RowReader<'_>,
        key: &RowKey,
        stored: &StoredRow,
    ) -> Result<Option<Self::Object>, Status>;

    /// True for changes of this kind of object that may pass the filter.
    fn concerns(&self, event: &WatchEvent) -> bool;

    /// What a change is for a watch with this filter. The event's template is known by now.
    fn changed(&self, event: &WatchEvent, raft: &RaftNode) -> Option<(ChangeKind, Self::Object)>;

    /// Makes a message of a watch.
    fn event(kind: v1::WatchEventType, object: Option<Self::Object>, revision: Revision) -> Self::Event;
}

/// Reads rows of one view, and remembers the templates it met.
pub struct RowReader<'view> {
    view: &'view RowView<'view>,
    raft: Arc<RaftNode>,
    templates: HashMap<JobUid, Arc<TemplateRecord>>,
}

impl<'view> RowReader<'view> {
    /// A reader of one view.
    pub fn new(view: &'view RowView<'view>, raft: Arc<RaftNode>) -> RowReader<'view> {
        RowReader { view, raft, templates: HashMap::new() }
    }

    /// The view that is read.
    pub fn view(&self) -> &'view RowView<'view> {
        self.view
    }

    /// One row.
    pub fn get(&self, key: &RowKey) -> Result<Option<StoredRow>, Status> {
        self.view.get(key).map_err(|failed| error::internal("reading a row", &failed))
    }

    /// The Job of a name.
    pub fn job_by_name(&mut self, namespace: &str, name: &str) -> Result<Option<api::Job>, Status> {
        let Some(uid) = self.job_uid(namespace, name)? else { return Ok(None) };
        let Some((record, revision)) = self.job_record(uid)? else { return Ok(None) };
        let Some(template) = self.template(uid)? else { return Ok(None) };
        Ok(Some(compose::job(&record, &template, revision)))
    }

    /// The uid of the Job of a name.
    pub fn job_uid(&self, namespace: &str, name: &str) -> Result<Option<JobUid>, Status> {
        let key = RowKey::JobName { namespace: namespace.to_owned(), name: name.to_owned() };
        Ok(self.get(&key)?.and_then(|stored| match stored.row {
            Row::JobName(uid) => Some(uid),
            _ => None,
        }))
    }

    /// Where the row of the Pod of a name is.
    pub fn pod_key(&self, namespace: &str, name: &str) -> Result<Option<PodKey>, Status> {
        let key = RowKey::PodName { namespace: namespace.to_owned(), name: name.to_owned() };
        Ok(self.get(&key)?.and_then(|stored| match stored.row {
            Row::PodName(key) => Some(key),
            _ => None,
        }))
    }

    /// The Pod of a name: its record and revision.
    pub fn pod_by_name(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<(Arc<PodRecord>, Revision)>, Status> {
        let Some(key) = self.pod_key(namespace, name)? else { return Ok(None) };
        Ok(self.get(&RowKey::Pod(key))?.and_then(|stored| match stored.row {
            Row::Pod(record) => Some((record, stored.revision)),
            _ => None,
        }))
    }

    /// The Node of a name.
    pub fn node_by_name(&self, name: &NodeName) -> Result<Option<api::Node>, Status> {
        Ok(self.get(&RowKey::Node(name.clone()))?.and_then(|stored| match stored.row {
            Row::Node(record) => Some(composed_node(&record, stored.revision, &self.raft)),
            _ => None,
        }))
    }

    /// The ConfigMap of a name.
    pub fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, Status> {
        let key = RowKey::ConfigMap { namespace: namespace.to_owned(), name: name.to_owned() };
        Ok(self.get(&key)?.and_then(|stored| match stored.row {
            Row::ConfigMap(record) => Some(compose::config_map(&record, stored.revision)),
            _ => None,
        }))
    }

    /// A Job's template.
    pub fn template(&mut self, job: JobUid) -> Result<Option<Arc<TemplateRecord>>, Status> {
        if let Some(template) = self.templates.get(&job) {
            return Ok(Some(Arc::clone(template)));
        }
        let Some(StoredRow { row: Row::Template(template), .. }) = self.get(&RowKey::Template(job))? else {
            return Ok(None);
        };
        // A list that meets very many Jobs reads some templates twice rather than keep them all.
        if self.templates.len() >= TEMPLATES_REMEMBERED_MAX {
            self.templates.clear();
        }
        self.templates.insert(job, Arc::clone(&template));
        Ok(Some(template))
    }

    /// Composes a Pod of this view.
    pub fn compose_pod(
        &mut self,
        record: &PodRecord,
        revision: Revision,
    ) -> Result<Option<api::Pod>, Status> {
        Ok(self.template(record.job)?.map(|template| compose::pod(record, &template, revision)))
    }

    fn job_record(&self, uid: JobUid) -> Result<Option<(Arc<JobRecord>, Revision)>, Status> {
        Ok(self.get(&RowKey::Job(uid))?.and_then(|stored| match stored.row {
            Row::Job(record) => Some((record, stored.revision)),
            _ => None,
        }))
    }
}

/// Templates that one list remembers.
const TEMPLATES_REMEMBERED_MAX: usize = 1_024;

/// Finds the template that an event needs to be composed, wherever it still is. False if it is nowhere: then the event
/// cannot be shown.
pub async fn resolve_template(event: &WatchEvent, raft: &RaftNode, hub: &WatchHub) -> bool {
    let (job, cell) = match &event.object {
        ChangedObject::Job { record, template, .. } => (record.uid, template),
        ChangedObject::Pod { record, template, .. } => (record.job, template),
        ChangedObject::Node(_) | ChangedObject::Event(_) | ChangedObject::ConfigMap(_) => return true,
    };
    if cell.get().is_some() {
        return true;
    }
    let mut found = raft.with_state(|state| state.template(&job).cloned());
    if found.is_none() {
        let applied = raft.applied().borrow().index().unwrap_or(0);
        let stored = raft.rows().read(applied, move |view| view.get(&RowKey::Template(job))).await;
        found = stored.ok().flatten().and_then(|stored| match stored.row {
            Row::Template(template) => Some(template),
            _ => None,
        });
    }
    // Last, since it may have been deleted between the looks above.
    match found.or_else(|| hub.deleted_template(job)) {
        Some(template) => {
            // Another watch may have been faster; both found the same.
            let _ = cell.set(template);
            true
        }
        None => false,
    }
}

fn composed_node(record: &NodeRecord, revision: Revision, raft: &RaftNode) -> api::Node {
    let requested = raft.with_state(|state| state.requested_on(&record.name));
    compose::node(record, requested, revision)
}

use stint_api as api;

/// The namespace that a request means; None: all of them.
pub fn namespace_of(namespace: String, all_namespaces: bool) -> Option<String> {
    match (all_namespaces, namespace.is_empty()) {
        (true, _) => None,
        (false, true) => Some(DEFAULT_NAMESPACE.to_owned()),
        (false, false) => Some(namespace),
    }
}

/// Parses a label selector; empty text selects everything.
pub fn selector_of(text: &str) -> Result<LabelSelector, Status> {
    stint_api::selector::parse(text).map_err(|failed| error::bad_request("labelSelector", failed.to_string()))
}

/// Text that limits nothing if it is empty.
fn allows(wanted: &str, found: &str) -> bool {
    wanted.is_empty() || wanted == found
}

fn in_namespace(wanted: Option<&String>, found: &str) -> bool {
    wanted.is_none_or(|wanted| wanted == found)
}

/// What a change of an object means to a filter that it passed before or not, and passes now or not.
fn seen_through(kind: ChangeKind, before: bool, now: bool) -> Option<ChangeKind> {
    match (kind, before, now) {
        (ChangeKind::Added, _, true) | (ChangeKind::Modified, false, true) => Some(ChangeKind::Added),
        (ChangeKind::Modified, true, true) => Some(ChangeKind::Modified),
        (ChangeKind::Modified, true, false) => Some(ChangeKind::Deleted),
        (ChangeKind::Deleted, _, true) => Some(ChangeKind::Deleted),
        _ => None,
    }
}

/// Which Jobs.
#[derive(Debug, Default, Hash)]
pub struct JobQuery {
    /// None: all.
    pub namespace: Option<String>,
    /// Empty: all.
    pub name: String,
    /// Which labels.
    pub selector: LabelSelector,
}

impl JobQuery {
    fn passes(&self, namespace: &str, name: &str, labels: &StringMap) -> bool {
        in_namespace(self.namespace.as_ref(), namespace)
            && allows(&self.name, name)
            && self.selector.matches(labels)
    }
}

impl Query for JobQuery {
    type Object = v1::Job;
    type Event = v1::JobWatchEvent;

    fn range(&self, _: &RowReader<'_>) -> Result<(Bound<RowKey>, Bound<RowKey>), Status> {
        let first = |namespace: &str, name: &str| RowKey::JobName {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        Ok(match (&self.namespace, self.name.is_empty()) {
            (None, _) => (Bound::Included(first("", "")), Bound::Excluded(RowKey::Pod(FIRST_POD))),
            // No name has a control character: the namespace followed by one is after all of its names.
            (Some(namespace), true) => (
                Bound::Included(first(namespace, "")),
                Bound::Excluded(first(&format!("{namespace}\u{1}"), "")),
            ),
            (Some(namespace), false) => {
                let key = first(namespace, &self.name);
                (Bound::Included(key.clone()), Bound::Included(key))
            }
        })
    }

    fn listed(
        &self,
        reader: &mut RowReader<'_>,
        key: &RowKey,
        stored: &StoredRow,
    ) -> Result<Option<v1::Job>, Status> {
        let (RowKey::JobName { namespace, name }, Row::JobName(uid)) = (key, &stored.row) else {
            return Ok(None);
        };
        if !in_namespace(self.namespace.as_ref(), namespace) || !allows(&self.name, name) {
            return Ok(None);
        }
        let Some((record, revision)) = reader.job_record(*uid)? else { return Ok(None) };
        if !self.selector.matches(&record.metadata.labels) {
            return Ok(None);
        }
        Ok(reader.template(*uid)?.map(|template| compose::job(&record, &template, revision).into()))
    }

    fn concerns(&self, event: &WatchEvent) -> bool {
        let ChangedObject::Job { record, .. } = &event.object else { return false };
        in_namespace(self.namespace.as_ref(), &record.metadata.namespace)
            && allows(&self.name, &record.metadata.name)
    }

    fn changed(&self, event: &WatchEvent, _: &RaftNode) -> Option<(ChangeKind, v1::Job)> {
        let ChangedObject::Job { record, template, before } = &event.object else { return None };
        let passes = |record: &JobRecord| {
            self.passes(&record.metadata.namespace, &record.metadata.name, &record.metadata.labels)
        };
        // A record that nobody remembers may have passed: one DELETED too many is harmless, one too few is not.
        let passed = before.as_ref().is_none_or(|before| passes(before));
        let now = passes(record);
        let kind = seen_through(event.kind, passed, now)?;
        Some((kind, compose::job(record, template.get()?, event.revision).into()))
    }

    fn event(kind: v1::WatchEventType, job: Option<v1::Job>, revision: Revision) -> v1::JobWatchEvent {
        v1::JobWatchEvent { r#type: kind.into(), job, revision: revision.0 }
    }
}

/// Which Pods.
#[derive(Debug, Default, Hash)]
pub struct PodQuery {
    /// None: all.
    pub namespace: Option<String>,
    /// Empty: all.
    pub name: String,
    /// Which labels.
    pub selector: LabelSelector,
    /// Empty: of all Jobs.
    pub job_name: String,
    /// Empty: on all nodes, and on none.
    pub node_name: String,
}

const FIRST_POD: PodKey = PodKey { job: JobUid(0), created_revision: Revision(0) };
const LAST_POD: PodKey = PodKey { job: JobUid(u128::MAX), created_revision: Revision(u64::MAX) };

impl PodQuery {
    fn passes(&self, record: &PodRecord, template: &TemplateRecord) -> bool {
        in_namespace(self.namespace.as_ref(), &template.namespace)
            && allows(&self.name, &record.name)
            && allows(&self.job_name, &template.job_name)
    }

    fn on_node(&self, record: &PodRecord) -> bool {
        allows(&self.node_name, record.node.as_ref().map_or("", NodeName::as_str))
    }
}

impl Query for PodQuery {
    type Object = v1::Pod;
    type Event = v1::PodWatchEvent;

    fn range(&self, reader: &RowReader<'_>) -> Result<(Bound<RowKey>, Bound<RowKey>), Status> {
        let all = (Bound::Included(RowKey::Pod(FIRST_POD)), Bound::Included(RowKey::Pod(LAST_POD)));
        let Some(namespace) = &self.namespace else { return Ok(all) };
        if !self.name.is_empty() {
            let key = reader.pod_key(namespace, &self.name)?;
            // A Pod that does not exist: a range without any row.
            let key = key.unwrap_or(FIRST_POD);
            return Ok((Bound::Included(RowKey::Pod(key)), Bound::Included(RowKey::Pod(key))));
        }
        if !self.job_name.is_empty()
            && let Some(job) = reader.job_uid(namespace, &self.job_name)?
        {
            let first = PodKey { job, created_revision: Revision(0) };
            let last = PodKey { job, created_revision: Revision(u64::MAX) };
            return Ok((Bound::Included(RowKey::Pod(first)), Bound::Included(RowKey::Pod(last))));
        }
        Ok(all)
    }

    fn listed(
        &self,
        reader: &mut RowReader<'_>,
        _: &RowKey,
        stored: &StoredRow,
    ) -> Result<Option<v1::Pod>, Status> {
        let Row::Pod(record) = &stored.row else { return Ok(None) };
        if !self.on_node(record) || !allows(&self.name, &record.name) {
            return Ok(None);
        }
        let Some(template) = reader.template(record.job)? else { return Ok(None) };
        if !self.passes(record, &template) {
            return Ok(None);
        }
        let pod = compose::pod(record, &template, stored.revision);
        Ok(self.selector.matches(&pod.metadata.labels).then(|| pod.into()))
    }

    fn concerns(&self, event: &WatchEvent) -> bool {
        matches!(&event.object, ChangedObject::Pod { record, .. } if allows(&self.name, &record.name))
    }

    fn changed(&self, event: &WatchEvent, _: &RaftNode) -> Option<(ChangeKind, v1::Pod)> {
        let ChangedObject::Pod { record, template, newly_bound } = &event.object else { return None };
        let template = template.get()?;
        if !self.passes(record, template) {
            return None;
        }
        let pod = compose::pod(record, template, event.revision);
        if !self.selector.matches(&pod.metadata.labels) {
            return None;
        }
        let (before, now) = if self.node_name.is_empty() {
            (true, true)
        } else {
            // A Pod comes to a node when it is bound, and leaves it only to be unbound.
            (!newly_bound, self.on_node(record))
        };
        let leaves_another = !now && record.node.is_some();
        let kind = if leaves_another { None } else { seen_through(event.kind, before, now) };
        kind.map(|kind| (kind, pod.into()))
    }

    fn event(kind: v1::WatchEventType, pod: Option<v1::Pod>, revision: Revision) -> v1::PodWatchEvent {
        v1::PodWatchEvent { r#type: kind.into(), pod, revision: revision.0 }
    }
}

/// Which Nodes.
#[derive(Debug, Default, Hash)]
pub struct NodeQuery {
    /// Empty: all.
    pub name: String,
    /// Which labels.
    pub selector: LabelSelector,
}

impl NodeQuery {
    fn passes(&self, record: &NodeRecord) -> bool {
        allows(&self.name, record.name.as_str()) && self.selector.matches(&record.labels)
    }
}

impl Query for NodeQuery {
    type Object = v1::Node;
    type Event = v1::NodeWatchEvent;

    fn range(&self, _: &RowReader<'_>) -> Result<(Bound<RowKey>, Bound<RowKey>), Status> {
        Ok((Bound::Included(RowKey::Node(NodeName::new(""))), Bound::Excluded(RowKey::Job(JobUid(0)))))
    }

    fn listed(
        &self,
        reader: &mut RowReader<'_>,
        _: &RowKey,
        stored: &StoredRow,
    ) -> Result<Option<v1::Node>, Status> {
        let Row::Node(record) = &stored.row else { return Ok(None) };
        Ok(self.passes(record).then(|| composed_node(record, stored.revision, &reader.raft).into()))
    }

    fn concerns(&self, event: &WatchEvent) -> bool {
        matches!(&event.object, ChangedObject::Node(record) if allows(&self.name, record.name.as_str()))
    }

    fn changed(&self, event: &WatchEvent, raft: &RaftNode) -> Option<(ChangeKind, v1::Node)> {
        let ChangedObject::Node(record) = &event.object else { return None };
        // Labels of a node change only with a registration; a watch that lost a node that way sees it as deleted.
        let kind = seen_through(event.kind, true, self.passes(record))?;
        Some((kind, composed_node(record, event.revision, raft).into()))
    }

    fn event(kind: v1::WatchEventType, node: Option<v1::Node>, revision: Revision) -> v1::NodeWatchEvent {
        v1::NodeWatchEvent { r#type: kind.into(), node, revision: revision.0 }
    }
}

/// Which Events.
#[derive(Debug, Default, Hash)]
pub struct EventQuery {
    /// None: all, and those of Nodes.
    pub namespace: Option<String>,
    /// Which objects.
    pub filter: v1::EventFilter,
}

impl EventQuery {
    fn passes(&self, record: &EventRecord) -> bool {
        let object = &record.regarding;
        let of_node = object.kind == "Node" && self.filter.regarding_kind == "Node";
        (of_node || in_namespace(self.namespace.as_ref(), &object.namespace))
            && allows(&self.filter.regarding_kind, &object.kind)
            && allows(&self.filter.regarding_name, &object.name)
            && allows(&self.filter.regarding_uid, &object.uid)
    }
}

impl Query for EventQuery {
    type Object = v1::Event;
    type Event = v1::EventWatchEvent;

    fn range(&self, _: &RowReader<'_>) -> Result<(Bound<RowKey>, Bound<RowKey>), Status> {
        let key = |kind: &str, object: &str| RowKey::Event {
            kind: kind.to_owned(),
            object: object.to_owned(),
            reason: String::new(),
        };
        let v1::EventFilter { regarding_kind: kind, regarding_uid: uid, .. } = &self.filter;
        if kind.is_empty() {
            let end = RowKey::Tombstone {
                namespace: String::new(),
                name: String::new(),
                request_id: String::new(),
            };
            return Ok((Bound::Included(key("", "")), Bound::Excluded(end)));
        }
        if uid.is_empty() || kind == "Node" {
            return Ok((Bound::Included(key(kind, "")), Bound::Excluded(key(&format!("{kind}\u{1}"), ""))));
        }
        Ok((Bound::Included(key(kind, uid)), Bound::Excluded(key(kind, &format!("{uid}\u{1}")))))
    }

    fn listed(
        &self,
        _: &mut RowReader<'_>,
        _: &RowKey,
        stored: &StoredRow,
    ) -> Result<Option<v1::Event>, Status> {
        let Row::Event(record) = &stored.row else { return Ok(None) };
        Ok(self.passes(record).then(|| compose::event(record, stored.revision).into()))
    }

    fn concerns(&self, event: &WatchEvent) -> bool {
        matches!(&event.object, ChangedObject::Event(record) if self.passes(record))
    }

    fn changed(&self, event: &WatchEvent, _: &RaftNode) -> Option<(ChangeKind, v1::Event)> {
        let ChangedObject::Event(record) = &event.object else { return None };
        let kind = seen_through(event.kind, true, self.passes(record))?;
        Some((kind, compose::event(record, event.revision).into()))
    }

    fn event(kind: v1::WatchEventType, event: Option<v1::Event>, revision: Revision) -> v1::EventWatchEvent {
        v1::EventWatchEvent { r#type: kind.into(), event, revision: revision.0 }
    }
}

/// Which ConfigMaps.
#[derive(Debug, Default, Hash)]
pub struct ConfigMapQuery {
    /// None: all.
    pub namespace: Option<String>,
    /// Empty: all.
    pub name: String,
    /// Which labels.
    pub selector: LabelSelector,
}

impl ConfigMapQuery {
    fn names(&self, record: &ConfigMapRecord) -> bool {
        let metadata = &record.map.metadata;
        in_namespace(self.namespace.as_ref(), &metadata.namespace) && allows(&self.name, &metadata.name)
    }

    fn passes(&self, record: &ConfigMapRecord) -> bool {
        self.names(record) && self.selector.matches(&record.map.metadata.labels)
    }
}

impl Query for ConfigMapQuery {
    type Object = v1::ConfigMap;
    type Event = v1::ConfigMapWatchEvent;

    fn range(&self, _: &RowReader<'_>) -> Result<(Bound<RowKey>, Bound<RowKey>), Status> {
        let first = |namespace: &str, name: &str| RowKey::ConfigMap {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        Ok(match (&self.namespace, self.name.is_empty()) {
            (None, _) => (Bound::Included(first("", "")), Bound::Unbounded),
            (Some(namespace), true) => (
                Bound::Included(first(namespace, "")),
                Bound::Excluded(first(&format!("{namespace}\u{1}"), "")),
            ),
            (Some(namespace), false) => {
                let key = first(namespace, &self.name);
                (Bound::Included(key.clone()), Bound::Included(key))
            }
        })
    }

    fn listed(
        &self,
        _: &mut RowReader<'_>,
        _: &RowKey,
        stored: &StoredRow,
    ) -> Result<Option<v1::ConfigMap>, Status> {
        let Row::ConfigMap(record) = &stored.row else { return Ok(None) };
        Ok(self.passes(record).then(|| compose::config_map(record, stored.revision).into()))
    }

    fn concerns(&self, event: &WatchEvent) -> bool {
        matches!(&event.object, ChangedObject::ConfigMap(record) if self.names(record))
    }

    fn changed(&self, event: &WatchEvent, _: &RaftNode) -> Option<(ChangeKind, v1::ConfigMap)> {
        let ChangedObject::ConfigMap(record) = &event.object else { return None };
        // What its labels were is not remembered: one DELETED too many is harmless, one too few is not.
        let kind = seen_through(event.kind, true, self.passes(record))?;
        Some((kind, compose::config_map(record, event.revision).into()))
    }

    fn event(
        kind: v1::WatchEventType,
        config_map: Option<v1::ConfigMap>,
        revision: Revision,
    ) -> v1::ConfigMapWatchEvent {
        v1::ConfigMapWatchEvent { r#type: kind.into(), config_map, revision: revision.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r11_an_object_that_comes_to_match_is_added_and_one_that_ceases_to_is_deleted() {
        use ChangeKind::{Added, Deleted, Modified};
        for (kind, before, now, seen) in [
            (Added, false, true, Some(Added)),
            (Added, false, false, None),
            (Modified, false, true, Some(Added)),
            (Modified, true, true, Some(Modified)),
            (Modified, true, false, Some(Deleted)),
            (Modified, false, false, None),
            (Deleted, true, true, Some(Deleted)),
            (Deleted, true, false, None),
        ] {
            assert_eq!(seen_through(kind, before, now), seen, "{kind:?} {before} {now}");
        }
    }

    #[test]
    fn an_empty_namespace_is_the_default_one() {
        assert_eq!(namespace_of(String::new(), false).as_deref(), Some("default"));
        assert_eq!(namespace_of("a".to_owned(), false).as_deref(), Some("a"));
        assert_eq!(namespace_of("a".to_owned(), true), None);
    }
}
