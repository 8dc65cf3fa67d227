//! Scripts: commands and the expected output after them, as data.
//!
//! A script opens with a comment that says what it shows and which rules it cites. Then come blocks: commands, one entry
//! each (several commands joined by ` && ` are one entry), a line `----`, and the output of the block up to an empty
//! line. `UPDATE=1 cargo test -p stint-core --test scripts` rewrites the output; commit only differences you understand.
//!
//! | command | meaning |
//! |---|---|
//! | `node NAME cpu= memory= pods= label=K=V` | the agent registers; `number= nonce= boot= uid= prev= cluster= running= started= report=POD:WHAT` for A2; `again` repeats the last |
//! | `expire NAME`, `cordon`, `uncordon`, `drain`, `delete node NAME` | what leader and operators do |
//! | `conditions NAME TYPE=STATUS:MESSAGE …` | what the node says of itself, with `_` for blanks; `incarnation=`; also `node NAME condition=…` |
//! | `create job NAME …`, `update job NAME …`, `delete job NAME [background\|foreground\|orphan]` | see `job_spec` for the settings |
//! | `delete pod POD [grace=]` | Pods are called JOB/N: the Nth that the Job created |
//! | `report POD running\|exit=N\|start-failed\|not-started\|lease-expired` | `restart= incarnation= node=` override what is true |
//! | `finish JOB N WHAT` | the same report about the first N bound Pods of the Job, as one entry |
//! | `tail POD [container=N] [restart=N] [offset=N] [bytes=N] [last]` | the node sends the last output; `node= incarnation=` override what is true |
//! | `tick +10s`, `next`, `continue`, `settle` | time passes; the next timer fires; one `Continue`; as many as there is backlog for |
//! | `settings …`, `reserve`, `reload` | cluster settings; a member id; load the state from rows |
//! | `show jobs\|pods\|nodes\|events\|orders\|backlog\|rows\|tails\|tombstones`, `show pod POD`, `show desired NODE` | print |

mod interpreter;
mod show;

pub use interpreter::Interpreter;

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// All scripts in a folder below `testdata`, by name.
pub fn scripts_in(folder: &str) -> Vec<PathBuf> {
    // Below the package, where Cargo runs tests: not compiled in, as clones may share a target folder.
    let root = Path::new("testdata").join(folder);
    let entries = std::fs::read_dir(&root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    paths
}

/// True if the expected output is to be rewritten.
pub fn updating() -> bool {
    std::env::var_os("UPDATE").is_some_and(|value| value == "1")
}

/// Runs a script and returns it with the output that there is.
pub fn run(path: &Path, text: &str) -> String {
    let mut interpreter = Interpreter::new();
    let mut produced = String::new();
    let mut output = String::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        writeln!(produced, "{line}").unwrap();
        if line == "----" {
            // Skip what was expected.
            while lines.peek().is_some_and(|(_, line)| !line.is_empty()) {
                lines.next();
            }
            produced.push_str(&output);
            output.clear();
        } else if !line.is_empty() && !line.starts_with('#') {
            let place = format!("{}:{}: {line}", path.display(), number + 1);
            output.push_str(&interpreter.entry(line, &place));
        }
    }
    assert!(output.is_empty(), "{}: output after the last block:\n{output}", path.display());
    produced
}
