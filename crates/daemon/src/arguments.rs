//! What the command lines of servers and agents say about the process itself.
//!
//! Owns: those flags. Does not own: what is done about them (`logging`, `endpoint`).

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Flags of each process.
#[derive(Debug, Clone, Args)]
pub struct ProcessArguments {
    /// File of settings in TOML, with the flags' names as its keys; none is read if it is not given
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How the log on stderr is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug or trace; also by module, such as info,stint_server=debug [default: info]
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    pub log_level: Option<String>,
    /// Where metrics and health are served over HTTP: /metrics, /healthz, /readyz, to whoever asks [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<String>,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object per line
    Json,
}

fn filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
