//! ConfigMaps: a name holds what was last written to it.

use std::collections::BTreeMap;

use stint_api::{ConfigMap as ApiConfigMap, ConfigMapUid, Revision};
use stint_core::testing::Rows;
use stint_core::{CreateConfigMap, DeleteConfigMap, RejectionReason, Reply, Row, UpdateConfigMap};

use super::{Naive, refused};

/// A ConfigMap as it should be stored.
#[derive(Debug, Clone)]
pub struct ConfigMap {
    uid: ConfigMapUid,
    revision: Revision,
    created: i64,
    map: ApiConfigMap,
}

impl Naive {
    pub(super) fn create_config_map(&mut self, create: &CreateConfigMap, reply: &Reply) {
        let name = create.map.metadata.name.clone();
        if create.map.data.contains_key("a/b") {
            return refused(reply, RejectionReason::Invalid);
        }
        if self.config_maps.contains_key(&name) {
            return refused(reply, RejectionReason::AlreadyExists);
        }
        let (uid, revision, map) = (create.uid, done(reply), create.map.clone());
        self.config_maps.insert(name, ConfigMap { uid, revision, created: self.time, map });
    }

    pub(super) fn update_config_map(&mut self, update: &UpdateConfigMap, reply: &Reply) {
        let Some(present) = self.config_maps.get_mut(&update.map.metadata.name) else {
            return refused(reply, RejectionReason::NotFound);
        };
        if update.uid.is_some_and(|uid| uid != present.uid)
            || update.resource_version.is_some_and(|revision| revision != present.revision)
        {
            return refused(reply, RejectionReason::Conflict);
        }
        let (old, new) = (&present.map, &update.map);
        let changes_what_may_not = old.immutable == Some(true)
            && (new.immutable != Some(true) || new.data != old.data || new.binary_data != old.binary_data);
        if changes_what_may_not || new.data.contains_key("a/b") {
            return refused(reply, RejectionReason::Invalid);
        }
        let revision = done(reply);
        if old != new {
            assert!(revision > present.revision);
            present.revision = revision;
            present.map = new.clone();
        }
    }

    pub(super) fn delete_config_map(&mut self, delete: &DeleteConfigMap, reply: &Reply) {
        let Some(present) = self.config_maps.get(&delete.name) else {
            return refused(reply, RejectionReason::NotFound);
        };
        if delete.uid.is_some_and(|uid| uid != present.uid)
            || delete.resource_version.is_some_and(|revision| revision != present.revision)
        {
            return refused(reply, RejectionReason::Conflict);
        }
        done(reply);
        self.config_maps.remove(&delete.name);
    }

    pub(super) fn compare_config_maps(&self, rows: &Rows) {
        let mut real = BTreeMap::new();
        for stored in rows.map.values() {
            if let Row::ConfigMap(record) = &stored.row {
                real.insert(record.map.metadata.name.clone(), (stored.revision, record));
            }
        }
        assert_eq!(real.keys().collect::<Vec<_>>(), self.config_maps.keys().collect::<Vec<_>>());
        for (name, expected) in &self.config_maps {
            let (revision, record) = &real[name];
            assert_eq!((*revision, record.uid), (expected.revision, expected.uid), "{name}");
            assert_eq!(record.map.data, expected.map.data, "{name}");
            assert_eq!(record.map.immutable, expected.map.immutable, "{name}");
            assert_eq!(record.map.metadata.labels, expected.map.metadata.labels, "{name}");
            let created = record.map.metadata.creation_timestamp.map(|at| at.0);
            assert_eq!(created, Some(expected.created), "{name}");
        }
    }
}

fn done(reply: &Reply) -> Revision {
    match reply {
        Reply::Done { revision } => *revision,
        other => panic!("expected that it is done, not {other:?}"),
    }
}
