//! The log of a process: its form, and what is in it.
//!
//! Owns: setting up tracing. Does not own: what is logged, the way to stderr (`log_output`).

use std::io;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::arguments::{LogFormat, ProcessArguments};
use crate::log_output::LogOutput;

/// Starts the log of this process, on stderr. `level` is what is logged unless the arguments say something else, `colors` are for
/// texts alone. Only the first call of a process counts.
///
/// # Errors
/// If the thread that writes can't be started.
pub fn start(arguments: &ProcessArguments, level: &str, colors: bool) -> io::Result<LogOutput> {
    let output = LogOutput::start(io::stderr())?;
    let writer = output.clone();
    let format = fmt::layer().with_writer(move || writer.clone());
    let format = match arguments.log_format {
        LogFormat::Text => format.with_ansi(colors).boxed(),
        // What spans know is said beside what the event knows: one flat object is what collectors search in.
        LogFormat::Json => format.json().flatten_event(true).with_span_list(false).boxed(),
    };
    // It was looked at when the arguments were read.
    let filter = EnvFilter::new(arguments.log_level.as_deref().unwrap_or(level));
    // Another one is there already: whoever set it up wants it.
    let _ = tracing_subscriber::registry().with(filter).with(format).try_init();
    Ok(output)
}
