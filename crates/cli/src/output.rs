//! Writing to stdout and stderr.
//!
//! Owns: the two streams, and keeping what is printed above a progress that is shown. Does not own: what is written.
//!
//! Invariant: a reader that went away (`stint get pods | head -1`) ends the command quietly, as other commands do.

use anyhow::{Context, Result};
use indicatif::MultiProgress;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::color::{Stream, Tone, paint};
use crate::hints;

/// What is shown of a line of an error.
const ERROR_CHARACTERS_MAX: usize = 4_000;

/// What is shown at the foot of the terminal.
static FOOT: Mutex<Option<MultiProgress>> = Mutex::new(None);

/// Shows a progress at the foot of the terminal from now on, or none any more. What is printed appears above it.
pub fn show_at_foot(progress: Option<MultiProgress>) {
    *FOOT.lock().unwrap_or_else(PoisonError::into_inner) = progress;
}

/// True if what goes to stdout appears above a progress: then only whole lines may be printed.
pub fn is_above_foot() -> bool {
    FOOT.lock().unwrap_or_else(PoisonError::into_inner).is_some() && io::stdout().is_terminal()
}

/// Writes with the foot of the terminal out of the way.
fn above_foot<T>(is_terminal: bool, write: impl FnOnce() -> T) -> T {
    let foot = is_terminal.then(|| FOOT.lock().unwrap_or_else(PoisonError::into_inner).clone()).flatten();
    match foot {
        Some(foot) => foot.suspend(write),
        None => write(),
    }
}

/// Exit code when nobody reads stdout any more: what a shell sees of other commands, which SIGPIPE ends. Not 0: `stint run`
/// must not seem to have seen its Job complete.
pub const NOBODY_READS: u8 = 128 + 13;

/// True once data could not be written, though somebody may still read.
static DATA_WAS_LOST: AtomicBool = AtomicBool::new(false);

/// Whether data could not be written. A command that went on all the same must not end as if all had been well.
pub fn was_data_lost() -> bool {
    DATA_WAS_LOST.load(Ordering::Relaxed)
}

/// The end of a command whose data was written by somebody else, and was not.
pub fn not_written(failed: io::Error) -> ExitCode {
    if failed.kind() == io::ErrorKind::BrokenPipe {
        return ExitCode::from(NOBODY_READS);
    }
    error(&anyhow::Error::from(failed).context("stdout can't be written"));
    ExitCode::FAILURE
}

/// Writes data as it is.
pub fn data(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let is_terminal = stdout.is_terminal();
    let written = above_foot(is_terminal, || stdout.write_all(bytes).and_then(|()| stdout.flush()));
    stop_if_nobody_reads(written)
}

/// Writes one line of data.
pub fn line(text: &str) -> Result<()> {
    data(format!("{text}\n").as_bytes())
}

/// Stdout for bytes that come while other things go on: a reader that takes its time holds up nothing else.
pub fn stdout_stream() -> Result<tokio::fs::File> {
    stream(io::stdout().as_fd())
}

/// Stderr likewise.
pub fn stderr_stream() -> Result<tokio::fs::File> {
    stream(io::stderr().as_fd())
}

fn stream(descriptor: BorrowedFd<'_>) -> Result<tokio::fs::File> {
    let own = descriptor.try_clone_to_owned().context("the output can't be opened")?;
    Ok(std::fs::File::from(own).into())
}

/// Tells the user something that is not data.
pub fn note(text: &str) {
    // Nobody can be told that stderr is gone.
    above_foot(io::stderr().is_terminal(), || drop(writeln!(io::stderr().lock(), "{text}")));
}

/// Tells the user what was accepted without effect, or will surprise.
pub fn warning(text: &str) {
    note(&format!("{} {text}", paint(Stream::Stderr, Tone::Doubtful, "warning:")));
}

/// Tells the user what to do next.
pub fn hint(text: &str) {
    note(&format!("{} {text}", paint(Stream::Stderr, Tone::Hint, "hint:")));
}

/// Tells the user why the command failed, and what to do about it.
pub fn error(error: &anyhow::Error) {
    error_with_hint(error, hints::next_step(error));
}

/// The same, where more is known about what to do than the error itself tells.
pub fn error_with_hint(error: &anyhow::Error, next_step: Option<&str>) {
    note(&format!("{} {}", paint(Stream::Stderr, Tone::Bad, "error:"), words_of(error)));
    if let Some(next_step) = next_step {
        hint(next_step);
    }
}

/// An error and its causes, each once: some errors tell their cause themselves.
fn words_of(error: &anyhow::Error) -> String {
    let mut words = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !words.contains(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words.lines().map(cut).collect::<Vec<_>>().join("\n")
}

/// A line of an error as it is shown: who gives a megabyte as a name does not want it back, several times.
fn cut(line: &str) -> String {
    match line.char_indices().nth(ERROR_CHARACTERS_MAX) {
        Some((end, _)) => format!("{} … ({} bytes more)", &line[..end], line.len() - end),
        None => line.to_owned(),
    }
}

fn stop_if_nobody_reads(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(NOBODY_READS.into()),
        other => {
            DATA_WAS_LOST.fetch_or(other.is_err(), Ordering::Relaxed);
            other.context("stdout can't be written")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_cause_is_told_once() {
        let nested = anyhow!("no such file").context("x.yaml can't be read").context("job \"x\"");
        assert_eq!(words_of(&nested), "job \"x\": x.yaml can't be read: no such file");
        let told = anyhow!("address in use").context("could not listen (address in use): is another there?");
        assert_eq!(words_of(&told), "could not listen (address in use): is another there?");
    }

    #[test]
    fn what_is_endless_is_cut_and_what_is_long_is_not() {
        let list = vec!["a.yaml: line 3: a problem"; 1_000].join("\n");
        assert_eq!(words_of(&anyhow!("{list}")), list, "each line is one problem");
        let name = "ü".repeat(1 << 20);
        let words = words_of(&anyhow!("{name} not found"));
        assert!(words.chars().count() < ERROR_CHARACTERS_MAX + 50, "{}", words.len());
        assert!(words.ends_with(&format!(" … ({} bytes more)", 2 * ((1 << 20) - ERROR_CHARACTERS_MAX) + 10)));
    }
}
