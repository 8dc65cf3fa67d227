//! The agent's own log, on its way to stderr.
//!
//! Owns: a thread that writes, a bounded queue before it. Does not own: what is logged.
//!
//! Invariant: whoever logs never waits. Stderr may be a pipe that nobody reads, or a journal that hangs, and the loop that
//! logs is the one that has to kill Pods in time (A4). Lines without room are dropped, and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::limits::{LOG_LAST_LINES_TIMEOUT, LOG_LINES_WAITING_MAX};

/// Takes lines. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogOutput {
    lines: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Line {
    Text(Vec<u8>),
    /// Everything before it has been written.
    Flush(SyncSender<()>),
}

impl LogOutput {
    /// Starts the thread.
    ///
    /// # Errors
    /// If none can be started.
    pub fn start(output: impl Write + Send + 'static) -> io::Result<LogOutput> {
        let (lines, waiting) = sync_channel(LOG_LINES_WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = dropped.clone();
        std::thread::Builder::new()
            .name("log-output".to_owned())
            .spawn(move || write_lines(output, &waiting, &counter))?;
        Ok(LogOutput { lines, dropped })
    }

    /// Waits for what was logged so far, within a bound.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.lines.try_send(Line::Flush(done)).is_ok() {
            // Late or never: whoever reads stderr does not.
            let _: Result<(), _> = written.recv_timeout(LOG_LAST_LINES_TIMEOUT);
        }
    }
}

/// One call is one line.
impl Write for LogOutput {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lines.try_send(Line::Text(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_lines(mut output: impl Write, waiting: &Receiver<Line>, dropped: &AtomicU64) {
    while let Ok(line) = waiting.recv() {
        // Nobody can be told about an error of the log's own output.
        match line {
            Line::Text(text) => drop(output.write_all(&text)),
            Line::Flush(done) => {
                drop(output.flush());
                let _: Result<(), _> = done.send(());
            }
        }
        let count = dropped.swap(0, Ordering::Relaxed);
        if count > 0 {
            drop(writeln!(output, "{count} lines of the log were dropped: its reader was too slow"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Writes wait as long as the lock is held.
    #[derive(Clone, Default)]
    struct Held(Arc<Mutex<Vec<u8>>>);

    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whoever_logs_never_waits_and_is_told_what_was_lost() {
        let held = Held::default();
        let mut output = LogOutput::start(held.clone()).unwrap();
        output.write_all(b"first\n").unwrap();
        LogOutput::flush(&output);
        let lock = held.0.lock().unwrap();
        assert_eq!(*lock, b"first\n");
        for _ in 0..LOG_LINES_WAITING_MAX + 50 {
            output.write_all(b"line\n").unwrap();
        }
        drop(lock);
        while !String::from_utf8_lossy(&held.0.lock().unwrap()).contains("were dropped") {
            std::thread::yield_now();
        }
        LogOutput::flush(&output);
        output.write_all(b"last\n").unwrap();
        LogOutput::flush(&output);
        let text = String::from_utf8(held.0.lock().unwrap().clone()).unwrap();
        assert!(text.ends_with("last\n"), "{text}");
        let kept = text.lines().filter(|line| *line == "line").count();
        assert!((LOG_LINES_WAITING_MAX..LOG_LINES_WAITING_MAX + 50).contains(&kept), "{kept}");
    }
}
