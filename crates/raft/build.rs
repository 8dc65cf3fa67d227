//! Generates the Rust code of `proto/stint/internal/v1` without protoc.

use std::{error::Error, fs, path::Path};

/// Root of all imports, seen from this crate.
const PROTO_ROOT: &str = "../../proto";
/// The servers' own formats, relative to [`PROTO_ROOT`]. The public wire is crate `proto`'s.
const INTERNAL_WIRE: &str = "stint/internal/v1";

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(PROTO_ROOT).join(INTERNAL_WIRE);
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            println!("cargo:rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
    // The order of a folder's entries is the file system's; the output must not depend on it.
    files.sort();
    let descriptors = protox::compile(&files, [PROTO_ROOT])?;
    tonic_prost_build::configure()
        // Sorted maps: the same object is the same bytes everywhere.
        .btree_map(".")
        // Entries are shared, not copied.
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
