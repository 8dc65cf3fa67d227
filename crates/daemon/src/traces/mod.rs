//! Traces of a process, exported by OTLP.
//!
//! Owns: which spans are exported and where to, how spans of several processes become one trace, telling of what is over already.
//! Does not own: which spans there are: those of `tracing`, in the crates that make them. They are of level debug, so that they
//! cost nothing and are in no log unless somebody asks for them.
//!
//! Invariants: without a collector nothing of this is there but a look at whether it is; with one, nobody ever waits for it; what is
//! exported are spans of our own crates and what they log inside them as warnings and errors, no text of anybody else's.
//!
//! One trace tells of one object, and its id is the object's uid: a server and an agent tell of the same Pod without having to
//! agree on anything, and whoever has the uid has the trace. Its first span comes from whoever knows of the end of the whole, the
//! leader; the spans of the others name it as their parent before it is there.

mod sampling;
mod way_out;

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
    TracerProvider,
};
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanLinks, SpanProcessor};
use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};
use tonic::transport::{ClientTlsConfig, Endpoint};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::limits::{SPANS_EXPORT_TIMEOUT, SPANS_LAST_EXPORT_TIMEOUT};
use way_out::WayOut;

pub use opentelemetry::KeyValue;
pub use sampling::Ratio;
pub use way_out::register;

/// Metadata in which callers say which trace their request is of, as W3C's Trace Context describes it.
pub const TRACEPARENT: &str = "traceparent";

/// What our crates are called, and nobody else's.
const OWN_TARGETS: &str = "stint";

/// Who tells of itself.
#[derive(Debug, Clone, Copy)]
pub struct Service<'a> {
    /// What it is: `service.name`.
    pub name: &'static str,
    /// Which of them: `service.instance.id`.
    pub instance: &'a str,
}

/// Why traces can't be exported.
#[derive(Debug, thiserror::Error)]
#[error("traces can't be exported to --otlp-endpoint {endpoint}: {problem}")]
pub struct StartError {
    endpoint: String,
    problem: String,
}

/// Export of traces, from its start to its end.
#[derive(Debug)]
pub(crate) struct Traces {
    provider: SdkTracerProvider,
    teller: Teller,
}

/// Tells of what is over. One for the process, as the log is.
static TELLER: OnceLock<Teller> = OnceLock::new();

#[derive(Debug, Clone)]
struct Teller {
    way_out: WayOut,
    ratio: Ratio,
}

impl Traces {
    /// Begins to export to `endpoint`, whether or not anybody listens there. Needs a tokio runtime that lasts as long as this.
    ///
    /// # Errors
    /// If the endpoint, the authorities that are trusted or OpenTelemetry's own variables can't be used.
    pub(crate) fn start(endpoint: &str, ratio: Ratio, service: Service<'_>) -> Result<Traces, StartError> {
        let failed = |problem: String| StartError { endpoint: endpoint.to_owned(), problem };
        let address = Endpoint::from_shared(endpoint.to_owned()).map_err(|error| failed(chain(&error)))?;
        let address = match address.uri().scheme_str() {
            Some("https") => address
                .tls_config(ClientTlsConfig::new().with_native_roots())
                .map_err(|error| failed(chain(&error)))?,
            _ => address,
        };
        let channel =
            address.connect_timeout(SPANS_EXPORT_TIMEOUT).timeout(SPANS_EXPORT_TIMEOUT).connect_lazy();
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_channel(channel)
            .with_timeout(SPANS_EXPORT_TIMEOUT)
            .build()
            .map_err(|error| failed(chain(&error)))?;
        // With what OTEL_RESOURCE_ATTRIBUTES says.
        let resource = Resource::builder()
            .with_service_name(service.name)
            .with_attributes([
                KeyValue::new("service.instance.id", service.instance.to_owned()),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            ])
            .build();
        Ok(Traces::new(WayOut::start(exporter, endpoint, &resource), ratio))
    }

    fn new(way_out: WayOut, ratio: Ratio) -> Traces {
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(ratio)))
            .with_span_processor(way_out.clone())
            .build();
        Traces { provider, teller: Teller { way_out, ratio } }
    }

    /// What makes spans of `tracing` into spans that are exported.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: tracing::Subscriber + for<'span> LookupSpan<'span>,
    {
        let layer = tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer(OWN_TARGETS))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false);
        layer.with_filter(filter_fn(is_exported).with_max_level_hint(LevelFilter::DEBUG))
    }

    /// Lets what is over be told from anywhere; only the first call of a process counts.
    pub(crate) fn publish(&self) {
        let _ = TELLER.set(self.teller.clone());
    }

    /// Exports what is left, within a bound, and ends.
    pub(crate) fn end(&self) {
        // What is not taken in time is lost: that was told while it lasted.
        let _ = self.provider.shutdown_with_timeout(SPANS_LAST_EXPORT_TIMEOUT);
    }
}

/// Spans of ours, and the warnings inside them.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    let most = if metadata.is_span() { Level::DEBUG } else { Level::WARN };
    metadata.target().starts_with(OWN_TARGETS) && *metadata.level() <= most
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

/// Whether anything is exported. Costs a load.
pub fn is_on() -> bool {
    TELLER.get().is_some()
}

/// Makes a span part of the trace of an object, by the object's uid. Before anything else is done with the span.
pub fn join(span: &Span, object: u128) {
    if let Some(teller) = TELLER.get() {
        teller.join(span, object);
    }
}

/// Makes a span part of a caller's trace, by what its [`TRACEPARENT`] says; what can't be read says nothing. Before anything else is
/// done with the span.
pub fn continue_from(span: &Span, traceparent: Option<&str>) {
    if let (true, Some(traceparent)) = (is_on(), traceparent) {
        set_parent(span, read_traceparent(traceparent));
    }
}

/// The [`TRACEPARENT`] of what is asked of others on behalf of the present span; none if nothing is exported.
pub fn traceparent() -> Option<String> {
    if !is_on() {
        return None;
    }
    let context = Span::current().context();
    let own = context.span().span_context().clone();
    own.is_valid().then(|| write_traceparent(&own))
}

/// Something that is over, and of which only now is known that it was.
#[derive(Debug)]
pub struct Past<'a> {
    /// What it was.
    pub name: &'static str,
    /// Milliseconds since 1970.
    pub begun_at_ms: i64,
    /// The same.
    pub ended_at_ms: i64,
    /// What is known of it.
    pub attributes: &'a [KeyValue],
    /// It has failed.
    pub failed: bool,
    /// An object that it belongs to and that has a trace of its own.
    pub belongs_to: Option<u128>,
}

/// Tells of the whole life of an object, by its uid: of the span that all others of its trace belong to.
pub fn tell_whole(object: u128, past: &Past<'_>) {
    if let Some(teller) = TELLER.get() {
        teller.tell(object, past, root_of(object), SpanId::INVALID);
    }
}

/// Tells of a part of it; `number` tells the parts apart, from 1 on.
pub fn tell_part(object: u128, number: u64, past: &Past<'_>) {
    if let Some(teller) = TELLER.get() {
        let root = root_of(object);
        teller.tell(object, past, part_of(root, number), root);
    }
}

impl Teller {
    fn join(&self, span: &Span, object: u128) {
        set_parent(span, Context::new().with_remote_span_context(self.context(object, root_of(object))));
    }

    fn context(&self, object: u128, span: SpanId) -> SpanContext {
        let trace = TraceId::from_bytes(object.to_be_bytes());
        let flags = TraceFlags::default().with_sampled(self.ratio.has(trace));
        SpanContext::new(trace, span, flags, true, TraceState::default())
    }

    fn tell(&self, object: u128, past: &Past<'_>, own: SpanId, parent: SpanId) {
        let span_context = self.context(object, own);
        if !span_context.is_sampled() {
            return;
        }
        let mut links = SpanLinks::default();
        if let Some(whole) = past.belongs_to {
            links.links.push(Link::with_context(self.context(whole, root_of(whole))));
        }
        self.way_out.on_end(SpanData {
            span_context,
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: Cow::Borrowed(past.name),
            start_time: time(past.begun_at_ms),
            // Two clocks may have been looked at.
            end_time: time(past.ended_at_ms.max(past.begun_at_ms)),
            attributes: past.attributes.to_vec(),
            dropped_attributes_count: 0,
            events: Default::default(),
            links,
            status: if past.failed { Status::error("") } else { Status::Unset },
            instrumentation_scope: InstrumentationScope::builder(OWN_TARGETS).build(),
        });
    }
}

fn set_parent(span: &Span, parent: Context) {
    // One that nobody looks at has none, nor needs one.
    let _ = span.set_parent(parent);
}

/// The first span of an object's trace: whoever knows the uid knows it.
fn root_of(object: u128) -> SpanId {
    SpanId::from_bytes((object as u64).max(1).to_be_bytes())
}

fn part_of(root: SpanId, number: u64) -> SpanId {
    let root = u64::from_be_bytes(root.to_bytes());
    SpanId::from_bytes(root.wrapping_add(number).max(1).to_be_bytes())
}

fn time(at_ms: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(at_ms).unwrap_or(0))
}

/// One header.
struct Header<'a>(&'a str);

impl Extractor for Header<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

fn read_traceparent(text: &str) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Header(text))
}

fn write_traceparent(span: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8())
}

#[cfg(test)]
mod tests;
