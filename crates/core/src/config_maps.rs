//! ConfigMaps: creation, update, deletion.
//!
//! Owns: preconditions, limits, what of them memory keeps. Does not own: validation of a new one, which happens before the
//! log (crate `api`); what Pods get of them (crate `server`).
//!
//! Invariant: memory holds names, revisions and sizes; contents are in rows alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use stint_api::{ConfigMap, ConfigMapUid, ObjectMeta, Revision, invalid_message, validation};

use crate::command::{CreateConfigMap, DeleteConfigMap, UpdateConfigMap};
use crate::compose;
use crate::limits::{CONFIG_MAPS_BYTES_MAX, CONFIG_MAPS_MAX};
use crate::record::ConfigMapRecord;
use crate::reply::{Rejection, RejectionReason, Reply};
use crate::row::{Row, RowChangeKind, RowKey, RowsNeeded, RowsRead};
use crate::state::State;

/// What memory keeps of all ConfigMaps.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigMapTable {
    /// By namespace and name.
    maps: BTreeMap<(String, String), ConfigMapState>,
    /// Of all contents.
    bytes: u64,
}

/// What memory keeps of a ConfigMap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ConfigMapState {
    uid: ConfigMapUid,
    revision: Revision,
    /// Of its contents.
    bytes: u64,
}

impl ConfigMapTable {
    pub(crate) fn load(&mut self, record: &ConfigMapRecord, revision: Revision) {
        let metadata = &record.map.metadata;
        let bytes = content_bytes(&record.map);
        let state = ConfigMapState { uid: record.uid, revision, bytes };
        let replaced = self.maps.insert((metadata.namespace.clone(), metadata.name.clone()), state);
        self.bytes = self.bytes.saturating_sub(replaced.map_or(0, |replaced| replaced.bytes));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn get(&self, namespace: &str, name: &str) -> Option<ConfigMapState> {
        self.maps.get(&(namespace.to_owned(), name.to_owned())).copied()
    }

    fn remove(&mut self, namespace: &str, name: &str) {
        let removed = self.maps.remove(&(namespace.to_owned(), name.to_owned()));
        self.bytes = self.bytes.saturating_sub(removed.map_or(0, |removed| removed.bytes));
    }
}

impl State {
    pub(crate) fn rows_of_config_map(&self, namespace: &str, name: &str) -> RowsNeeded {
        match self.config_maps.get(namespace, name) {
            Some(_) => RowsNeeded { keys: vec![key_of(namespace, name)], ranges: Vec::new() },
            None => RowsNeeded::default(),
        }
    }

    pub(crate) fn create_config_map(&mut self, command: &CreateConfigMap) -> Reply {
        let metadata = &command.map.metadata;
        let (namespace, name) = (metadata.namespace.as_str(), metadata.name.as_str());
        if let Some(rejection) = refuse(name, validation::validate_config_map(&command.map)) {
            return Reply::Rejected(rejection);
        }
        if name.is_empty() {
            let message = "a configmap needs a name: give one".to_owned();
            return Reply::Rejected(Rejection::new(RejectionReason::Invalid, message));
        }
        if self.config_maps.get(namespace, name).is_some() {
            let message = format!("configmap {name} already exists: replace it or choose another name");
            return Reply::Rejected(Rejection::new(RejectionReason::AlreadyExists, message));
        }
        if let Some(rejection) = self.no_room_for_config_map(&command.map, None) {
            return Reply::Rejected(rejection);
        }
        let metadata = ObjectMeta {
            uid: String::new(),
            resource_version: Revision(0),
            generation: 0,
            creation_timestamp: Some(self.meta.time),
            deletion_timestamp: None,
            deletion_grace_period_seconds: None,
            ..metadata.clone()
        };
        let map = ConfigMap { metadata, ..command.map.clone() };
        self.write_config_map(ConfigMapRecord { uid: command.uid, map }, RowChangeKind::Added);
        self.done()
    }

    pub(crate) fn update_config_map(&mut self, command: &UpdateConfigMap, rows: &RowsRead) -> Reply {
        let metadata = &command.map.metadata;
        let (state, record) =
            match self.present_config_map(&metadata.namespace, &metadata.name, command.uid, rows) {
                Ok(present) => present,
                Err(rejection) => return Reply::Rejected(rejection),
            };
        if let Some(rejection) = other_revision(&metadata.name, state.revision, command.resource_version) {
            return Reply::Rejected(rejection);
        }
        let old = compose::config_map(&record, state.revision);
        if let Some(rejection) =
            refuse(&metadata.name, validation::validate_config_map_update(&old, &command.map))
        {
            return Reply::Rejected(rejection);
        }
        if let Some(rejection) = self.no_room_for_config_map(&command.map, Some(state.bytes)) {
            return Reply::Rejected(rejection);
        }
        let metadata = ObjectMeta {
            labels: metadata.labels.clone(),
            annotations: metadata.annotations.clone(),
            owner_references: metadata.owner_references.clone(),
            ..record.map.metadata.clone()
        };
        let map = ConfigMap { metadata, ..command.map.clone() };
        if map != record.map {
            self.write_config_map(ConfigMapRecord { uid: record.uid, map }, RowChangeKind::Modified);
        }
        self.done()
    }

    pub(crate) fn delete_config_map(&mut self, command: &DeleteConfigMap, rows: &RowsRead) -> Reply {
        let (state, record) =
            match self.present_config_map(&command.namespace, &command.name, command.uid, rows) {
                Ok(present) => present,
                Err(rejection) => return Reply::Rejected(rejection),
            };
        if let Some(rejection) = other_revision(&command.name, state.revision, command.resource_version) {
            return Reply::Rejected(rejection);
        }
        self.config_maps.remove(&command.namespace, &command.name);
        let revision = self.next_revision();
        let key = key_of(&command.namespace, &command.name);
        self.push(key, revision, RowChangeKind::Deleted(Row::ConfigMap(record)));
        self.done()
    }

    fn present_config_map(
        &self,
        namespace: &str,
        name: &str,
        wanted: Option<ConfigMapUid>,
        rows: &RowsRead,
    ) -> Result<(ConfigMapState, Arc<ConfigMapRecord>), Rejection> {
        let state = self.config_maps.get(namespace, name);
        let row = rows.keys.first().and_then(Option::as_ref).map(|stored| &stored.row);
        let (Some(state), Some(Row::ConfigMap(record))) = (state, row) else {
            let message = format!("configmap {name} not found in namespace {namespace}");
            return Err(Rejection::new(RejectionReason::NotFound, message));
        };
        if let Some(wanted) = wanted.filter(|wanted| *wanted != state.uid) {
            let uid = state.uid;
            let message =
                format!("configmap {name} has uid {uid}, not {wanted}: it was created anew; read it again");
            return Err(Rejection::new(RejectionReason::Conflict, message));
        }
        Ok((state, Arc::clone(record)))
    }

    /// `replaced`: bytes of the contents that go; none for a new one.
    fn no_room_for_config_map(&self, map: &ConfigMap, replaced: Option<u64>) -> Option<Rejection> {
        let table = &self.config_maps;
        let kept = table.bytes.saturating_sub(replaced.unwrap_or(0));
        let message = if replaced.is_none() && table.maps.len() >= CONFIG_MAPS_MAX {
            format!("the cluster has {CONFIG_MAPS_MAX} configmaps, its limit: delete some")
        } else if kept.saturating_add(content_bytes(map)) > CONFIG_MAPS_BYTES_MAX {
            format!(
                "the configmaps of the cluster would have more than {CONFIG_MAPS_BYTES_MAX} bytes: delete some"
            )
        } else {
            return None;
        };
        Some(Rejection::new(RejectionReason::LimitExceeded, message))
    }

    fn write_config_map(&mut self, record: ConfigMapRecord, change: fn(Row) -> RowChangeKind) {
        let revision = self.next_revision();
        self.config_maps.load(&record, revision);
        let metadata = &record.map.metadata;
        let key = key_of(&metadata.namespace, &metadata.name);
        self.push(key, revision, change(Row::ConfigMap(Arc::new(record))));
    }
}

fn key_of(namespace: &str, name: &str) -> RowKey {
    RowKey::ConfigMap { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn content_bytes(map: &ConfigMap) -> u64 {
    u64::try_from(map.content_bytes()).unwrap_or(u64::MAX)
}

fn other_revision(name: &str, revision: Revision, wanted: Option<Revision>) -> Option<Rejection> {
    let wanted = wanted.filter(|wanted| *wanted != revision)?;
    let message = format!(
        "configmap {name} is at resourceVersion {revision}, not {wanted}: read it again and repeat the change"
    );
    Some(Rejection::new(RejectionReason::Conflict, message))
}

fn refuse(name: &str, errors: Vec<stint_api::FieldError>) -> Option<Rejection> {
    if errors.is_empty() {
        return None;
    }
    let mut rejection = Rejection::new(RejectionReason::Invalid, invalid_message("ConfigMap", name, &errors));
    rejection.field_violations =
        errors.into_iter().map(|error| (error.field.clone(), error.detail())).collect();
    Some(rejection)
}
