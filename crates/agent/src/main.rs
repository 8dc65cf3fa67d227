//! The `stint-agent` binary.
fn main() {}
