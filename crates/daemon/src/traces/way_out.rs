//! Spans on their way to the collector.
//!
//! Owns: the bound of what waits, counting what becomes of it, saying that it goes wrong. Does not own: gathering and sending
//! (the SDK, its exporter).
//!
//! Invariants: whoever ends a span never waits; a collector that is down, slow or silent costs a bounded queue, and is told of once.

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::{SPANS_EXPORT_INTERVAL, SPANS_PER_EXPORT_MAX, SPANS_PROBLEM_REPEAT, SPANS_WAITING_MAX};

/// Spans by what became of them. One for the process, as the log is.
static SPANS: LazyLock<Spans> = LazyLock::new(Spans::default);

#[derive(Debug, Clone)]
struct Spans {
    all: Family<[(&'static str, &'static str); 1], Counter>,
    exported: Counter,
    failed: Counter,
    dropped: Counter,
}

impl Default for Spans {
    fn default() -> Spans {
        let all = Family::<[(&str, &str); 1], Counter>::default();
        let [exported, failed, dropped] = ["exported", "failed", "dropped"]
            .map(|outcome| all.get_or_create(&[("outcome", outcome)]).clone());
        Spans { all, exported, failed, dropped }
    }
}

/// Lets what became of spans be read.
pub fn register(registry: &mut Registry) {
    let help = "Spans of traces that have ended, by what became of them";
    registry.register("stint_trace_spans", help, SPANS.all.clone());
}

/// Takes spans that have ended. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WayOut {
    next: Arc<BatchSpanProcessor>,
    waiting: Arc<AtomicUsize>,
    spans: Spans,
}

impl WayOut {
    /// Towards `exporter`, by a thread of its own. `collector` is what it is called in the log.
    pub fn start(exporter: impl SpanExporter + 'static, collector: &str, resource: &Resource) -> WayOut {
        WayOut::counting(exporter, collector, resource, SPANS.clone(), SPANS_EXPORT_INTERVAL)
    }

    fn counting(
        exporter: impl SpanExporter + 'static,
        collector: &str,
        resource: &Resource,
        spans: Spans,
        interval: Duration,
    ) -> WayOut {
        let waiting = Arc::new(AtomicUsize::new(0));
        let problem = Problem { collector: collector.to_owned(), state: Mutex::default() };
        let watched =
            Watched { next: exporter, waiting: Arc::clone(&waiting), spans: spans.clone(), problem };
        // All of them are set: what the environment says of them would go around our limits.
        let bounds = BatchConfigBuilder::default()
            .with_max_queue_size(SPANS_WAITING_MAX)
            .with_max_export_batch_size(SPANS_PER_EXPORT_MAX)
            .with_scheduled_delay(interval)
            .build();
        let mut next = BatchSpanProcessor::new(watched, bounds);
        next.set_resource(resource);
        WayOut { next: Arc::new(next), waiting, spans }
    }
}

impl SpanProcessor for WayOut {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= SPANS_WAITING_MAX {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            self.spans.dropped.inc();
            return;
        }
        // It has room for as many as may wait.
        self.next.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }
}

/// An exporter of which it is seen how it does.
#[derive(Debug)]
struct Watched<E> {
    next: E,
    waiting: Arc<AtomicUsize>,
    spans: Spans,
    problem: Problem,
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.waiting.fetch_sub(count, Ordering::AcqRel);
        let result = self.next.export(batch).await;
        match &result {
            Ok(()) => {
                self.spans.exported.inc_by(count as u64);
                self.problem.is_over();
            }
            Err(error) => {
                self.spans.failed.inc_by(count as u64);
                self.problem.is(error);
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

/// Says that exporting goes wrong, once.
#[derive(Debug)]
struct Problem {
    collector: String,
    state: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// It has not gone well since it was said.
    lasts: bool,
    at: Option<Instant>,
}

impl Problem {
    fn is(&self, error: &OTelSdkError) {
        let mut told = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if told.lasts || told.at.is_some_and(|at| at.elapsed() < SPANS_PROBLEM_REPEAT) {
            return;
        }
        *told = Told { lasts: true, at: Some(Instant::now()) };
        let collector = &self.collector;
        let error = match error {
            // Which part of the exporter it was is nothing to operators.
            OTelSdkError::InternalFailure(text) => {
                text.trim_start_matches("TonicTracesClient export failed with ")
            }
            error => &error.to_string(),
        };
        tracing::warn!(
            collector,
            error,
            "traces can't be exported and are lost meanwhile; the metric stint_trace_spans_total counts them"
        );
    }

    fn is_over(&self) {
        let mut told = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut told.lasts) {
            tracing::info!(collector = self.collector, "traces are exported again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{Tracer, TracerProvider};
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    /// A collector's place: answers as it is told, or hangs until it is let go.
    #[derive(Debug)]
    struct Scripted {
        fails: Arc<AtomicBool>,
        hangs: Mutex<Receiver<()>>,
    }

    impl SpanExporter for Scripted {
        async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
            // Goes on at once when the other end is gone.
            let _ = self.hangs.lock().unwrap().recv();
            match self.fails.load(Ordering::Relaxed) {
                true => Err(OTelSdkError::InternalFailure("nobody listens".to_owned())),
                false => Ok(()),
            }
        }
    }

    struct Subject {
        provider: SdkTracerProvider,
        spans: Spans,
        fails: Arc<AtomicBool>,
        lets_go: SyncSender<()>,
    }

    fn subject() -> Subject {
        let (lets_go, hangs) = sync_channel(1 << 16);
        let (fails, spans) = (Arc::new(AtomicBool::new(false)), Spans::default());
        let scripted = Scripted { fails: Arc::clone(&fails), hangs: Mutex::new(hangs) };
        let resource = Resource::builder_empty().build();
        let interval = Duration::from_millis(10);
        let way_out = WayOut::counting(scripted, "the test's", &resource, spans.clone(), interval);
        let provider =
            SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOn).with_span_processor(way_out);
        Subject { provider: provider.build(), spans, fails, lets_go }
    }

    fn until(what: impl Fn() -> bool) {
        let begun = Instant::now();
        while !what() {
            assert!(begun.elapsed() < Duration::from_secs(60), "not in time");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn end_spans(subject: &Subject, count: usize) {
        let tracer = subject.provider.tracer("test");
        (0..count).for_each(|_| drop(tracer.start("span")));
    }

    #[test]
    fn r15_a_collector_that_hangs_costs_a_bounded_queue_and_no_time() {
        let subject = subject();
        // Far more than may wait: nobody is held up, and what has no room is counted.
        let told = 3 * SPANS_WAITING_MAX;
        end_spans(&subject, told);
        let dropped = subject.spans.dropped.get() as usize;
        // Some may have been taken for a message before the others came.
        let kept = SPANS_WAITING_MAX..=SPANS_WAITING_MAX + SPANS_PER_EXPORT_MAX;
        assert!(kept.contains(&(told - dropped)), "{dropped}");
        let begun = Instant::now();
        let flushed = subject.provider.shutdown_with_timeout(Duration::from_millis(50));
        assert!(flushed.is_err() && begun.elapsed() < Duration::from_secs(30), "{flushed:?}");
        drop(subject.lets_go);
    }

    #[test]
    fn what_becomes_of_spans_is_counted() {
        let subject = subject();
        let let_all_go = || (0..100).for_each(|_| subject.lets_go.try_send(()).unwrap());
        let_all_go();
        end_spans(&subject, 7);
        until(|| subject.spans.exported.get() == 7);
        subject.fails.store(true, Ordering::Relaxed);
        end_spans(&subject, 5);
        until(|| subject.spans.failed.get() == 5);
        subject.fails.store(false, Ordering::Relaxed);
        let_all_go();
        end_spans(&subject, 3);
        assert!(subject.provider.shutdown_with_timeout(Duration::from_secs(60)).is_ok());
        assert_eq!((subject.spans.exported.get(), subject.spans.dropped.get()), (10, 0));
    }

    #[test]
    fn a_problem_is_told_when_it_begins_and_when_it_is_over() {
        let lines = crate::traces::tests::logged(|| {
            let problem = Problem { collector: "http://a:4317".to_owned(), state: Mutex::default() };
            let error = OTelSdkError::InternalFailure("nobody listens".to_owned());
            problem.is_over();
            (0..5).for_each(|_| problem.is(&error));
            (0..5).for_each(|_| problem.is_over());
            // It comes and goes: that was said of late.
            problem.is(&error);
            problem.is_over();
        });
        let expected = ["can't be exported", "exported again"];
        assert_eq!(lines.len(), expected.len(), "{lines:?}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.contains(expected) && line.contains("http://a:4317"), "{lines:?}");
        }
    }
}
