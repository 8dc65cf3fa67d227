//! From text or JSON to API types.
//!
//! Owns: the order of the steps: parse ([`tree`]), check names and types against Kubernetes' schema ([`schema`]), convert
//! ([`job`], [`template`]).

mod config_map;
mod container;
mod convert;
mod job;
mod manifest;
mod schema;
mod security;
mod template;
mod tree;
mod volume;

pub use manifest::{ManifestObject, job_from_json, read_manifest, read_objects};
