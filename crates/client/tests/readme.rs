//! The programs in README.md are those in examples/, which are compiled with the tests and run by tests/run.sh.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

const README: &str = include_str!("../README.md");

const EXAMPLES: [&str; 3] = [
    include_str!("../examples/squares.rs"),
    include_str!("../examples/watching.rs"),
    include_str!("../examples/unknown_outcome.rs"),
];

#[test]
fn the_readme_shows_the_examples_as_they_are() {
    let shown: Vec<&str> =
        README.split("```rust\n").skip(1).map(|rest| rest.split_once("```").unwrap().0.trim_end()).collect();
    // What stands before the first `use` is not shown.
    let programs = EXAMPLES.map(|text| text[text.find("\nuse ").unwrap() + 1..].trim_end());
    assert_eq!(shown, programs);
}
