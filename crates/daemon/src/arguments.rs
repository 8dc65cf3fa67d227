//! What the command lines of servers and agents say about the process itself.
//!
//! Owns: those flags. Does not own: what is done about them (`logging`, `endpoint`, `traces`).

use clap::builder::TypedValueParser;
use clap::error::{Error, ErrorKind};
use clap::{Arg, Args, Command, ValueEnum};
use std::ffi::OsStr;
use std::path::PathBuf;
use url::Url;

use crate::traces::Ratio;

/// Flags of each process.
#[derive(Debug, Clone, Default, Args)]
pub struct ProcessArguments {
    /// File of settings in TOML, with the flags' names as its keys; none is read if it is not given
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How the log on stderr is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug or trace; also by module, such as info,stint_server=debug [default: info, of servers info,openraft=error]
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    pub log_level: Option<String>,
    /// Where metrics and health are served over HTTP: /metrics, /healthz, /readyz, to whoever asks [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<String>,
    /// Collector that traces are exported to by OTLP over gRPC, such as http://127.0.0.1:4317; https:// trusts the authorities
    /// that the system trusts [default: none]
    #[arg(long, value_name = "URL", value_parser = Discreet(endpoint))]
    pub otlp_endpoint: Option<String>,
    /// Share of traces that are exported, from 0 to 1; callers that bring a trace of their own decide for it
    #[arg(long, value_name = "RATIO", value_parser = ratio, default_value_t = Ratio::ALL)]
    pub otlp_sample_ratio: Ratio,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    #[default]
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

fn ratio(text: &str) -> Result<Ratio, String> {
    let ratio = text.parse().ok().and_then(Ratio::new);
    ratio.ok_or_else(|| "it is no number from 0 to 1: write 0.01 for one trace in a hundred".to_owned())
}

/// Judges a value in which credentials may stand: it is not repeated when it is refused, as that is in logs.
#[derive(Clone)]
pub struct Discreet(pub fn(&str) -> Result<(), String>);

impl TypedValueParser for Discreet {
    type Value = String;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<String, Error> {
        let problem = match value.to_str().map(|text| (text, self.0(text))) {
            Some((text, Ok(()))) => return Ok(text.to_owned()),
            Some((_, Err(problem))) => problem,
            None => "it is no text".to_owned(),
        };
        let flag = argument.map(|argument| format!(" of '{argument}'")).unwrap_or_default();
        let message = format!("the value{flag} can't be used: {problem}\n");
        Err(Error::raw(ErrorKind::ValueValidation, message).with_cmd(command))
    }
}

fn endpoint(text: &str) -> Result<(), String> {
    const EXAMPLE: &str = "write http://HOST:4317 or https://HOST:4317";
    // No other part of such a URL has one. What `config show` prints holds no secrets.
    if text.contains('@') {
        return Err("it holds credentials: give them in OTEL_EXPORTER_OTLP_HEADERS".to_owned());
    }
    let url = Url::parse(text).map_err(|error| format!("it is no URL ({error}): {EXAMPLE}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("it does not begin with http:// or https://: {EXAMPLE}"));
    }
    if url.path() != "/" || url.query().is_some() {
        return Err(format!("OTLP over gRPC has no path, and the port of gRPC is mostly 4317: {EXAMPLE}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        process: ProcessArguments,
    }

    fn read(words: &[&str]) -> Result<ProcessArguments, String> {
        let line = Line::try_parse_from([&["x"], words].concat());
        line.map(|line| line.process).map_err(|error| error.to_string())
    }

    #[test]
    fn where_traces_go_and_how_many_is_judged_when_it_is_read() {
        let nothing = read(&[]).unwrap();
        assert_eq!((nothing.otlp_endpoint, nothing.otlp_sample_ratio), (None, Ratio::ALL));
        for good in ["http://127.0.0.1:4317", "https://collector.example", "http://[::1]:4317/", "http://a:1"]
        {
            let read = read(&["--otlp-endpoint", good, "--otlp-sample-ratio", "0.25"]).unwrap();
            assert_eq!(read.otlp_endpoint.as_deref(), Some(good));
            assert_eq!(Some(read.otlp_sample_ratio), Ratio::new(0.25));
        }
        for (bad, says) in [
            ("", "http://HOST:4317"),
            ("localhost:4317", "does not begin with http://"),
            ("grpc://a:4317", "does not begin with http://"),
            ("http://", "it is no URL"),
            ("http://a b:4317", "it is no URL"),
            ("http://a:x", "it is no URL"),
            ("http://user:secret@a:4317", "OTEL_EXPORTER_OTLP_HEADERS"),
            ("http://user:secret@a:x", "OTEL_EXPORTER_OTLP_HEADERS"),
            ("http://a:4318/v1/traces", "has no path"),
            ("http://a:4317?x=1", "has no path"),
        ] {
            let said = read(&["--otlp-endpoint", bad]).unwrap_err();
            assert!(!said.contains("secret"), "{said:?} for {bad:?}");
            assert!(said.contains("--otlp-endpoint") && said.contains(says), "{bad:?}: {said}");
        }
        for bad in ["-0.1", "1.01", "NaN", "inf", "half", ""] {
            let said = read(&[&format!("--otlp-sample-ratio={bad}")[..]]).unwrap_err();
            assert!(said.contains("from 0 to 1"), "{bad:?}: {said}");
        }
    }
}
