//! ConfigMaps: texts and bytes that Pods of a namespace read as environment or files.
//!
//! Owns: the type, what a key may look like. Does not own: validation of the whole, where the contents are kept (`core`), how Pods get them (`server`).

use crate::limits::CONFIG_MAP_KEY_BYTES_MAX;
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

/// Checks a key of a ConfigMap, which is also the name of a file.
///
/// # Errors
/// What is wrong, in Kubernetes' words.
pub fn check_key(key: &str) -> Result<(), String> {
    if key.len() > CONFIG_MAP_KEY_BYTES_MAX {
        return Err(format!("must be no more than {CONFIG_MAP_KEY_BYTES_MAX} bytes"));
    }
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Err(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name', \
                    or 'KEY_NAME', or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    }
    match key {
        "." => Err("must not be '.'".to_owned()),
        ".." => Err("must not be '..'".to_owned()),
        _ if key.starts_with("..") => Err("must not start with '..'".to_owned()),
        _ => Ok(()),
    }
}
