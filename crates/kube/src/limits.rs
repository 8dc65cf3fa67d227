//! Limits of what is read.
//!
//! Owns: the numbers. Does not own: limits of the objects themselves (crate `api`).

/// One manifest: 16 MiB, some 60 Jobs of the largest size, or tens of thousands of common ones.
pub const MANIFEST_BYTES_MAX: usize = 16 << 20;
/// Jobs in one manifest: more than documents, as one List holds many.
pub const MANIFEST_OBJECTS_MAX: usize = 10_000;
/// YAML documents in one manifest, empty ones included.
pub const DOCUMENTS_MAX: usize = 1_000;
/// Lists and mappings within each other; Kubernetes' own types stay below 20, and each level costs the parser some 40 KiB of
/// stack in a build without optimization.
pub const NESTING_MAX: usize = 24;
/// Values in one manifest, aliases expanded: keeps what is made of a small text small too.
pub const NODES_MAX: usize = 1_000_000;
/// Values that aliases may bring in.
pub const ALIASED_NODES_MAX: usize = 100_000;
/// Errors that are reported of one object; one wrong indentation can cause many.
pub const ERRORS_MAX: usize = 20;
/// Characters of a wrong key or value that an error shows.
pub const SHOWN_CHARACTERS_MAX: usize = 64;
