//! Writing to stdout and stderr.
//!
//! Owns: the two streams. Does not own: what is written.
//!
//! Invariant: a reader that went away (`stint get pods | head -1`) ends the command quietly, as other commands do.

use std::io::{self, Write};

/// Writes data as it is.
pub fn data(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stop_if_nobody_reads(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// Writes one line of data.
pub fn line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stop_if_nobody_reads(writeln!(stdout, "{text}").and_then(|()| stdout.flush()))
}

/// Tells the user something that is not data.
pub fn note(text: &str) {
    // Nobody can be told that stderr is gone.
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Tells the user why the command failed.
pub fn error(error: &anyhow::Error) {
    note(&format!("error: {error:#}"));
}

fn stop_if_nobody_reads(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other,
    }
}
