//! Which crate may use which: architecture that only a document kept would be gone in a month.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// For each crate, the crates of the workspace that it uses, and no others.
const ALLOWED: &[(&str, &[&str])] = &[
    ("stint-api", &[]),
    ("stint-core", &["stint-api"]),
    ("stint-lease", &["stint-api"]),
    ("stint-proto", &["stint-api"]),
    ("stint-kube", &["stint-api"]),
    ("stint-logs", &[]),
    ("stint-daemon", &[]),
    ("stint-runtime", &["stint-api", "stint-logs"]),
    ("stint-raft", &["stint-api", "stint-core"]),
    (
        "stint-server",
        &[
            "stint-api",
            "stint-core",
            "stint-daemon",
            "stint-lease",
            "stint-logs",
            "stint-proto",
            "stint-raft",
        ],
    ),
    (
        "stint-agent",
        &["stint-api", "stint-daemon", "stint-lease", "stint-logs", "stint-runtime", "stint-proto"],
    ),
    ("stint-client", &["stint-api", "stint-proto"]),
    ("stint", &["stint-api", "stint-client", "stint-daemon", "stint-kube", "stint-server", "stint-agent"]),
    ("stint-tests", &[]),
    ("stint-bench", &["stint-api", "stint-client", "stint-runtime", "stint-tests"]),
];

#[test]
fn each_crate_uses_those_that_it_may() {
    // Not by the crate for it: what that asks of serde_json would have most of the tree compiled a second time, for tests alone.
    let metadata = cargo(&["metadata", "--offline", "--format-version", "1", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let name_of = |package: &Value| package["name"].as_str().unwrap().to_owned();
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ALLOWED.iter().map(|(name, uses)| (*name, uses.iter().copied().collect())).collect();
    let ours: BTreeSet<String> = packages.iter().map(name_of).collect();
    assert!(ours.contains("stint-core"), "the workspace was found: {ours:?}");
    for package in packages {
        let name = name_of(package);
        let may_use = allowed.get(name.as_str());
        let may_use = may_use.unwrap_or_else(|| panic!("{name} is not in the table of this test"));
        // What only tests use is nobody's architecture.
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let uses = dependencies.filter(|one| one["kind"] != "dev").map(name_of);
        let uses: BTreeSet<String> = uses.filter(|name| ours.contains(name)).collect();
        let uses: BTreeSet<&str> = uses.iter().map(String::as_str).collect();
        let forbidden: Vec<_> = uses.difference(may_use).collect();
        assert!(forbidden.is_empty(), "{name} must not use {forbidden:?}");
        let unused: Vec<_> = may_use.difference(&uses).collect();
        assert!(unused.is_empty(), "{name} does not use {unused:?}: take it out of the table of this test");
    }
}

#[test]
fn the_agent_links_neither_rocksdb_nor_openraft() {
    let tree = cargo(&[
        "tree",
        "--offline",
        "--package",
        "stint-agent",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
    ]);
    assert!(tree.contains("tonic v"), "the tree was read: {tree}");
    for forbidden in ["rocksdb", "openraft", "stint-core", "stint-raft"] {
        assert!(!tree.lines().any(|line| line.starts_with(forbidden)), "stint-agent links {forbidden}");
    }
}

/// What Cargo prints.
fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
