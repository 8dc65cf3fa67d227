//! Spans of what is done for a Pod: parts of the Pod's trace, and at level debug what the log says beside their lines.
//!
//! Owns: which there are and what is in them. Does not own: when they begin and end (`task`), the span of the Pod's whole life, which
//! the leader tells.
//!
//! Invariant: nothing that the Pod's owner has written is in them but names: no command, no environment, no last words.

use stint_api::{CONTROLLER_UID_LABELS, Incarnation};
use stint_daemon::traces;
use tracing::{Span, field};

use super::machine::RunEnd;
use super::template::PodTemplate;

/// What all spans of a Pod say.
#[derive(Debug, Clone, Copy)]
pub struct Spans<'a> {
    pub template: &'a PodTemplate,
    pub node: &'a str,
    pub incarnation: Incarnation,
}

macro_rules! span_of_pod {
    ($spans:expr, $name:literal $(, $($fields:tt)+)?) => {{
        let spans = $spans;
        let span = tracing::debug_span!(
            $name,
            job.uid = spans.job_uid(),
            pod.uid = %spans.template.uid(),
            node = spans.node,
            // Traces have no unsigned numbers.
            incarnation = i64::try_from(spans.incarnation.0).unwrap_or(i64::MAX),
            $($($fields)+)?
        );
        traces::join(&span, spans.template.uid().0);
        span
    }};
}

impl Spans<'_> {
    /// What its containers share is made.
    pub fn open(self) -> Span {
        span_of_pod!(self, "open", runtime = self.template.to_run().runtime)
    }

    /// The image of a container is fetched, or found.
    pub fn image(self, container: &str) -> Span {
        span_of_pod!(self, "image", container)
    }

    /// One run of a container, from its start to its end; `is_adopted` if an earlier agent has started it.
    pub fn run(self, container: &str, restart_count: u32, is_adopted: bool) -> Span {
        span_of_pod!(
            self,
            "run",
            container,
            restart_count = i64::from(restart_count),
            adopted = is_adopted,
            outcome = field::Empty,
            exit_code = field::Empty,
            reason = field::Empty,
            otel.status_code = field::Empty,
        )
    }

    fn job_uid(&self) -> Option<&str> {
        self.template.to_run().labels.get(CONTROLLER_UID_LABELS[0]).map(String::as_str)
    }
}

/// The present run is being started.
pub fn start() -> Span {
    tracing::debug_span!("start")
}

/// The present run has ended so; none: it was never begun.
pub fn note_end(end: Option<&RunEnd>) {
    let span = Span::current();
    let (outcome, termination) = match end {
        Some(RunEnd::Exited(termination)) if termination.exit_code == 0 => ("Succeeded", Some(termination)),
        Some(RunEnd::Exited(termination)) => ("Failed", Some(termination)),
        Some(RunEnd::Fenced(termination)) => ("LeaseExpired", Some(termination)),
        Some(RunEnd::StartFailed(termination)) => ("StartFailed", Some(termination)),
        Some(RunEnd::NotStarted) | None => ("NotStarted", None),
    };
    span.record("outcome", outcome);
    if let Some(termination) = termination {
        span.record("exit_code", termination.exit_code).record("reason", termination.reason.as_str());
        if outcome != "Succeeded" {
            span.record("otel.status_code", "ERROR");
        }
    }
}
