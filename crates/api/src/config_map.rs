//! ConfigMaps: texts and bytes that Pods of a namespace read as environment or files.
//!
//! Owns: the type. Does not own: validation, where the contents are kept (`core`), how Pods get them (`server`).

use crate::meta::ObjectMeta;
use std::collections::BTreeMap;

/// Configuration that is kept apart from the Jobs that use it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigMap {
    /// Name, labels, versions.
    pub metadata: ObjectMeta,
    /// Texts by key.
    pub data: BTreeMap<String, String>,
    /// Bytes by key; no key is in both.
    pub binary_data: BTreeMap<String, Vec<u8>>,
    /// True: nothing but metadata can be changed any more, nor this.
    pub immutable: Option<bool>,
}

impl ConfigMap {
    /// Bytes of all values, by which it is limited.
    pub fn content_bytes(&self) -> usize {
        let texts: usize = self.data.values().map(String::len).sum();
        texts + self.binary_data.values().map(Vec::len).sum::<usize>()
    }
}
