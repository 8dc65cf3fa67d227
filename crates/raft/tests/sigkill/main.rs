//! Storage that is killed: SIGKILL at random moments under load, SIGKILL at each step of a snapshot install, flipped bytes
//! (R1, R2, R14; decision 12). On the real engine, in processes of their own.
//!
//! Owns: who is killed when, and what must be there afterwards. Does not own: what the killed process does (module `child`),
//! what a log must do (module `model`).

#![allow(clippy::print_stdout, reason = "a test without libtest says itself what it does")]

mod child;
mod damage;
mod install;
mod model;
mod random_kills;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::Instant;

type Test = (&'static str, fn());

const TESTS: [Test; 3] = [
    (
        "r1_r2_two_hundred_sigkills_under_load_lose_nothing_acknowledged",
        random_kills::two_hundred_sigkills_under_load_lose_nothing_acknowledged,
    ),
    (
        "a_sigkill_at_each_step_of_an_install_leaves_the_old_or_the_new",
        install::a_sigkill_at_each_step_of_an_install_leaves_the_old_or_the_new,
    ),
    ("a_flipped_byte_is_refused_with_what_to_do", damage::a_flipped_byte_is_refused_with_what_to_do),
];

/// No libtest: this program is also the process that is killed. A failing test panics and so ends the program with an error.
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((first, rest)) = arguments.split_first()
        && first == child::ARGUMENT
    {
        child::run(rest);
        return ExitCode::SUCCESS;
    }
    // As with libtest, a word is a part of a test's name; its flags mean nothing here.
    let wanted = arguments.iter().find(|argument| argument.starts_with(char::is_alphabetic));
    for (name, test) in TESTS {
        if wanted.is_some_and(|wanted| !name.contains(wanted.as_str())) {
            continue;
        }
        let begun = Instant::now();
        test();
        println!("test {name} ... ok ({:.1} s)", begun.elapsed().as_secs_f32());
    }
    ExitCode::SUCCESS
}
