//! Generates the client of the container engines' interface, without protoc, if the runtime `cri` is wanted.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "cri")]
    {
        println!("cargo:rerun-if-changed=proto/cri.proto");
        let descriptors = protox::compile(["cri.proto"], ["proto"])?;
        // Sorted maps: the same object is the same bytes everywhere. Of the server side only tests would have a use.
        tonic_prost_build::configure().btree_map(".").build_server(false).compile_fds(descriptors)?;
    }
    Ok(())
}
