//! What a process tells of itself while it runs: its log, and its traces if somebody wants them.
//!
//! Owns: setting up tracing. Does not own: what is logged and traced, the way to stderr (`log_output`), that to a collector
//! (`traces`).

use std::io;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::arguments::{LogFormat, ProcessArguments};
use crate::log_output::LogOutput;
use crate::traces::{self, Service, Traces};

/// Why a process can't tell of itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses a thread.
    #[error("the thread that writes the log can't be started: {0}")]
    Thread(#[from] io::Error),
    /// Traces.
    #[error(transparent)]
    Traces(#[from] traces::StartError),
}

/// What is told, on its way out.
#[derive(Debug)]
pub struct Telling {
    log: LogOutput,
    traces: Option<Traces>,
}

/// Starts the log of this process, on stderr, and the export of its traces, if the arguments name a collector: that needs a tokio
/// runtime, which lasts until [`Telling::end`]. `level` is what is logged unless the arguments say something that can be
/// understood, `colors` are for texts alone, `service` is who the traces are of. Only the first call of a process counts.
///
/// # Errors
/// If the thread that writes can't be started, or traces can't be exported as the arguments say.
pub fn start(
    arguments: &ProcessArguments,
    level: &str,
    colors: bool,
    service: Service<'_>,
) -> Result<Telling, Error> {
    let output = LogOutput::start(io::stderr())?;
    let writer = output.clone();
    let format = fmt::layer().with_writer(move || writer.clone());
    let format = match arguments.log_format {
        LogFormat::Text => format.with_ansi(colors).boxed(),
        // What spans know is said beside what the event knows: one flat object is what collectors search in.
        LogFormat::Json => format.json().flatten_event(true).with_span_list(false).boxed(),
    };
    let asked = arguments.log_level.as_deref().and_then(|asked| EnvFilter::try_new(asked).ok());
    let filter = asked.unwrap_or_else(|| EnvFilter::new(level));
    let ratio = arguments.otlp_sample_ratio;
    let endpoint = arguments.otlp_endpoint.as_deref();
    let traces = endpoint.map(|endpoint| Traces::start(endpoint, ratio, service)).transpose()?;
    // Each has a filter of its own: what is traced is in no log that did not ask for it.
    let layers = tracing_subscriber::registry().with(format.with_filter(filter));
    let started = match &traces {
        Some(traces) => layers.with(traces.layer()).try_init(),
        None => layers.try_init(),
    };
    // Otherwise another one is there already: whoever set it up wants it.
    if let (Ok(()), Some(traces), Some(endpoint)) = (started, &traces, endpoint) {
        traces.publish();
        tracing::info!(endpoint, %ratio, "exports traces");
    }
    Ok(Telling { log: output, traces })
}

impl Telling {
    /// Waits, within a bound, until all that was told is out.
    pub fn end(&self) {
        if let Some(traces) = &self.traces {
            traces.end();
        }
        self.log.flush();
    }
}
