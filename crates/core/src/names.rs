//! Names: an index of objects by (namespace, name), and the names of Pods (J40).
//!
//! Invariant: no two Pods of one Job, and no two Pods of Jobs of one name, ever have the same name: suffixes run through
//! a cycle of all suffixes, NonIndexed Jobs over its even places, Indexed Jobs over its odd ones (`a-0-…` may be a Pod of
//! the Indexed Job `a` or of the NonIndexed Job `a-0`), and a new Job of a name whose Pods are still there goes on where
//! the old one stopped. Only prefixes that had to be cut can meet; those are checked against the unfinished Pods.

use std::collections::BTreeMap;

use crate::limits::POD_NAME_PREFIX_BYTES_MAX;

/// Objects by namespace and name.
#[derive(Debug, Clone)]
pub(crate) struct NameIndex<T> {
    namespaces: BTreeMap<String, BTreeMap<String, T>>,
}

impl<T> Default for NameIndex<T> {
    fn default() -> Self {
        NameIndex { namespaces: BTreeMap::new() }
    }
}

impl<T: Copy + PartialEq> NameIndex<T> {
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<T> {
        self.namespaces.get(namespace)?.get(name).copied()
    }

    pub(crate) fn insert(&mut self, namespace: &str, name: &str, value: T) {
        match self.namespaces.get_mut(namespace) {
            Some(names) => names.insert(name.to_owned(), value),
            None => self.namespaces.entry(namespace.to_owned()).or_default().insert(name.to_owned(), value),
        };
    }

    /// Removes the name if it stands for `value`.
    pub(crate) fn remove(&mut self, namespace: &str, name: &str, value: T) {
        let Some(names) = self.namespaces.get_mut(namespace) else { return };
        if names.get(name) == Some(&value) {
            names.remove(name);
        }
        if names.is_empty() {
            self.namespaces.remove(namespace);
        }
    }
}

/// Characters of a suffix: no vowels, nothing that looks like something else.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Characters in a suffix.
const SUFFIX_BYTES: usize = 5;

/// 27^5: how many suffixes there are.
const SUFFIXES: u64 = 14_348_907;

/// Places in the cycle of one Job: half of the suffixes.
pub(crate) const SLOTS: u32 = 7_174_453;

/// Shares no factor with 27^5, so that places next to each other give suffixes far apart.
const STRIDE: u64 = 8_675_309;

/// The name of a Pod: `<job>-` or `<job>-<index>-`, cut to 58 bytes but for the index, and the suffix of its slot.
pub(crate) fn pod_name(job_name: &str, index: Option<u32>, slot: u32) -> String {
    let tail = match index {
        Some(index) => format!("-{index}-"),
        None => "-".to_owned(),
    };
    let mut cut = job_name.len().min(POD_NAME_PREFIX_BYTES_MAX.saturating_sub(tail.len()));
    while !job_name.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut name = String::with_capacity(cut + tail.len() + SUFFIX_BYTES);
    name.push_str(&job_name[..cut]);
    name.push_str(&tail);
    let place = 2 * u64::from(slot % SLOTS) + u64::from(index.is_some());
    let mut rest = place.wrapping_mul(STRIDE) % SUFFIXES;
    for _ in 0..SUFFIX_BYTES {
        name.push(char::from(ALPHABET[(rest % 27) as usize]));
        rest /= 27;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn j40_names_are_unique_cut_and_keep_the_index() {
        let mut seen = BTreeSet::new();
        for slot in 0..50_000 {
            assert!(seen.insert(pod_name("a-0", None, slot)));
            assert!(seen.insert(pod_name("a", Some(0), slot)));
        }
        let name = pod_name("pi", None, 3);
        assert_eq!(name.len(), 8);
        assert!(name.starts_with("pi-"));
        assert!(name[3..].bytes().all(|byte| ALPHABET.contains(&byte)), "{name}");
        let long = pod_name(&"x".repeat(63), Some(12), 0);
        assert_eq!(long.len(), POD_NAME_PREFIX_BYTES_MAX + SUFFIX_BYTES);
        assert!(long[..58].ends_with("x-12-"), "{long}");
        assert_eq!(pod_name(&"é".repeat(40), None, 0).chars().filter(|c| *c == 'é').count(), 28);
    }
}
