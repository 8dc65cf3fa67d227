//! The `stint` command.
fn main() {}
