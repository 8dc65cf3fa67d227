//! ConfigMaps: keys, size, immutability.

use crate::config_map::ConfigMap;
use crate::limits;
use crate::validation::{validate_config_map, validate_config_map_update};

/// What breaks a rule, and what is said.
type Case = (fn(&mut ConfigMap), &'static str);

fn valid() -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = "settings".to_owned();
    map.metadata.namespace = "default".to_owned();
    map.data.insert("a.txt".to_owned(), "text".to_owned());
    map.binary_data.insert("B_b-1".to_owned(), vec![0, 255]);
    map
}

#[test]
fn bad_config_maps_are_refused_in_kubernetes_words() {
    assert_eq!(validate_config_map(&valid()), []);
    let cases: [Case; 8] = [
        (|map| map.metadata.name.clear(), "metadata.name: Required value"),
        (|map| map.metadata.name = "A".into(), "metadata.name: Invalid value: \"A\""),
        (|map| map.metadata.namespace = "..".into(), "metadata.namespace: Invalid value"),
        (
            |map| drop(map.data.insert("a/b".into(), String::new())),
            "data[a/b]: Invalid value: \"a/b\": a valid config key",
        ),
        (
            |map| drop(map.binary_data.insert("..".into(), Vec::new())),
            "binaryData[..]: Invalid value: \"..\"",
        ),
        (
            |map| drop(map.binary_data.insert("a.txt".into(), Vec::new())),
            "binaryData[a.txt]: Invalid value: \"a.txt\": duplicate of key present in data[a.txt]",
        ),
        (
            |map| drop(map.data.insert("big".into(), "x".repeat(limits::CONFIG_MAP_BYTES_MAX))),
            "data: Too long: may not be more than 1048576 bytes",
        ),
        (
            |map| map.data = (0..1025).map(|number| (number.to_string(), String::new())).collect(),
            "data: Too many: 1026: must have at most 1024 items",
        ),
    ];
    for (change, expected) in cases {
        let mut map = valid();
        change(&mut map);
        let errors: Vec<String> = validate_config_map(&map).iter().map(ToString::to_string).collect();
        assert!(errors.iter().any(|error| error.contains(expected)), "expected {expected:?} in {errors:?}");
    }
}

#[test]
fn an_immutable_config_map_keeps_its_contents() {
    let old = ConfigMap { immutable: Some(true), ..valid() };
    let mut new = old.clone();
    new.metadata.labels.insert("a".to_owned(), "b".to_owned());
    assert_eq!(validate_config_map_update(&old, &new), []);
    let changes: [Case; 3] = [
        (|map| map.immutable = None, "immutable: Forbidden: field is immutable when `immutable` is set"),
        (|map| map.data.clear(), "data: Forbidden: field is immutable"),
        (|map| map.binary_data.clear(), "binaryData: Forbidden: field is immutable"),
    ];
    for (change, expected) in changes {
        let mut new = old.clone();
        change(&mut new);
        let errors: Vec<String> =
            validate_config_map_update(&old, &new).iter().map(ToString::to_string).collect();
        assert!(errors.iter().any(|error| error.starts_with(expected)), "{expected}: {errors:?}");
    }
    let mutable = valid();
    let mut new = mutable.clone();
    new.data.clear();
    new.immutable = Some(true);
    assert_eq!(validate_config_map_update(&mutable, &new), []);
}
