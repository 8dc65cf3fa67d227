//! Behaviour as data: every script in `testdata`, and the recorded logs with the hash that they must end in.
#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

mod script;

use std::fmt::Write;

use script::{Interpreter, run, scripts_in, updating};

/// Each script gives the output that is written in it, and names the rules that it shows.
#[test]
fn scripts() {
    let paths = scripts_in("");
    let count = paths.len();
    let mut failures = String::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a readable script");
        let first = text.lines().next().unwrap_or("");
        assert!(first.starts_with("# ") && first.contains(':'), "{}: says nothing first", path.display());
        let produced = run(&path, &text);
        if produced == text {
            continue;
        }
        if updating() {
            std::fs::write(&path, produced).expect("a writable script");
            continue;
        }
        writeln!(failures, "{}:", path.display()).unwrap();
        for (number, (expected, got)) in text.lines().zip(produced.lines()).enumerate() {
            if expected != got {
                writeln!(failures, "  line {}:\n  - {expected}\n  + {got}", number + 1).unwrap();
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{failures}UPDATE=1 rewrites the output");
    assert!(count >= 40, "only {count} scripts");
}

/// A recorded log ends in the hash that was recorded with it, also if the state is loaded from rows half-way (decision
/// 1: `apply` must not change unnoticed). `UPDATE=1` records anew.
#[test]
fn recorded_logs() {
    let paths = scripts_in("recorded");
    assert!(!paths.is_empty());
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a readable log");
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("hash ")).collect();
        let play = |reload_at: Option<usize>| {
            let mut interpreter = Interpreter::new();
            for (number, line) in lines.iter().enumerate() {
                if reload_at == Some(number) {
                    interpreter.harness.state = interpreter.harness.rows.load();
                }
                if !line.is_empty() && !line.starts_with('#') {
                    interpreter.entry(line, &format!("{}:{}", path.display(), number + 1));
                }
            }
            interpreter.harness.state.hash()
        };
        let hash = play(None);
        for quarter in 1..4 {
            assert_eq!(hash, play(Some(lines.len() * quarter / 4)), "{}: reloaded", path.display());
        }
        let recorded = format!("{}\nhash {hash:016x}\n", lines.join("\n").trim_end());
        if recorded != text && updating() {
            std::fs::write(&path, recorded).expect("a writable log");
        } else {
            assert_eq!(
                recorded.lines().last(),
                text.lines().last(),
                "{}: UPDATE=1 records anew",
                path.display()
            );
        }
    }
}
