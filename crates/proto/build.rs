//! Generates the Rust code of `proto/stint/v1` without protoc.

use prost::Message;
use std::{env, error::Error, fs, path::Path};

/// Root of all imports, seen from this crate.
const PROTO_ROOT: &str = "../../proto";
/// The public wire, relative to [`PROTO_ROOT`]. The servers' own formats are not compiled here.
const PUBLIC_WIRE: &str = "stint/v1";

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(PROTO_ROOT).join(PUBLIC_WIRE);
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
    let out_dir = env::var("OUT_DIR")?;
    fs::write(Path::new(&out_dir).join("stint.v1.bin"), descriptors.encode_to_vec())?;

    tonic_prost_build::configure()
        // Sorted maps: the same object is the same bytes everywhere.
        .btree_map(".")
        // Log pieces and uids are shared, not copied.
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
