use super::*;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1 as wire;
use opentelemetry_sdk::error::OTelSdkResult;
use std::io::Write;
use std::sync::{Arc, Mutex};
use tracing_subscriber::layer::SubscriberExt;

/// Lines that something logs in this thread.
pub(super) fn logged(what: impl FnOnce()) -> Vec<String> {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(log, what);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Keeps what is exported.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl opentelemetry_sdk::trace::SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// What is exported of what somebody traces in this thread.
fn exported(ratio: f64, what: impl FnOnce(&Teller)) -> Vec<SpanData> {
    let kept = Kept::default();
    let way_out = WayOut::start(kept.clone(), "the test's", &Resource::builder_empty().build());
    let traces = Traces::new(way_out, Ratio::new(ratio).unwrap());
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    tracing::subscriber::with_default(subscriber, || what(&traces.teller));
    traces.provider.shutdown_with_timeout(Duration::from_secs(60)).unwrap();
    let mut spans = kept.0.lock().unwrap().clone();
    spans.sort_by(|one, other| one.name.cmp(&other.name));
    spans
}

/// A uid that half of all shares have.
const OBJECT: u128 = 0x0123_4567_89ab_4def_8080_0000_0000_0007;

#[test]
fn spans_of_an_object_are_one_trace_whoever_tells_of_it() {
    // Two processes that share nothing.
    let of_agent = exported(1.0, |teller| {
        let span = tracing::debug_span!("run", pod.uid = "x", outcome = tracing::field::Empty);
        teller.join(&span, OBJECT);
        span.in_scope(|| tracing::debug_span!("start").in_scope(|| ()));
        span.record("outcome", "Succeeded");
    });
    let of_server = exported(1.0, |teller| {
        let whole = Past {
            name: "pod",
            begun_at_ms: 1_500,
            ended_at_ms: 1_000,
            attributes: &[KeyValue::new("pod.uid", "x")],
            failed: true,
            belongs_to: Some(77),
        };
        let part = Past { name: "placement", belongs_to: None, failed: false, ended_at_ms: 2_000, ..whole };
        teller.tell(OBJECT, &whole, root_of(OBJECT), SpanId::INVALID);
        teller.tell(OBJECT, &part, part_of(root_of(OBJECT), 1), root_of(OBJECT));
    });
    let ([run, start], [placement, pod]) = (&of_agent[..], &of_server[..]) else {
        panic!("{of_agent:?} {of_server:?}")
    };
    for span in [run, start, placement, pod] {
        assert_eq!(span.span_context.trace_id(), TraceId::from_bytes(OBJECT.to_be_bytes()), "{span:?}");
    }
    let id = |span: &SpanData| span.span_context.span_id();
    assert_eq!(pod.parent_span_id, SpanId::INVALID);
    assert_eq!([run.parent_span_id, placement.parent_span_id], [id(pod); 2]);
    assert_eq!(start.parent_span_id, id(run));
    assert_ne!(id(placement), id(pod));
    assert!(run.attributes.contains(&KeyValue::new("outcome", "Succeeded")), "{run:?}");
    assert_eq!(pod.links[0].span_context.trace_id(), TraceId::from_bytes(77_u128.to_be_bytes()));
    assert_eq!(pod.status, Status::error(""));
    assert_eq!((pod.start_time, pod.end_time), (time(1_500), time(1_500)), "no span ends before it begins");
    assert_eq!(placement.end_time, time(2_000));
}

#[test]
fn what_is_not_in_the_share_is_not_exported_unless_a_caller_says_so() {
    let trace = |teller: &Teller| {
        let of_object = tracing::debug_span!("of object");
        teller.join(&of_object, OBJECT);
        of_object.in_scope(|| tracing::debug_span!("below").in_scope(|| ()));
        teller.tell(
            OBJECT,
            &Past {
                name: "whole",
                begun_at_ms: 1,
                ended_at_ms: 2,
                attributes: &[],
                failed: false,
                belongs_to: None,
            },
            root_of(OBJECT),
            SpanId::INVALID,
        );
        for (name, flags) in [("asked for", "01"), ("not asked for", "00")] {
            let span = tracing::debug_span!("request", otel.name = name);
            let parent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
            set_parent(&span, read_traceparent(&parent));
            let own = span.context().span().span_context().clone();
            let passed_on = write_traceparent(&own);
            assert!(passed_on.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{passed_on}");
            assert!(passed_on.ends_with(&format!("-{flags}")), "{passed_on}");
            assert!(!passed_on.contains("b7ad6b7169203331"), "{passed_on}");
        }
    };
    let names = |ratio| exported(ratio, trace).into_iter().map(|span| span.name).collect::<Vec<_>>();
    assert_eq!(names(0.4), ["asked for"]);
    assert_eq!(names(0.6), ["asked for", "below", "of object", "whole"]);
}

#[test]
fn a_traceparent_that_is_none_begins_a_trace_of_its_own() {
    for bad in [
        "",
        "x",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        &"0".repeat(100_000),
    ] {
        let spans = exported(1.0, |_| set_parent(&tracing::debug_span!("request"), read_traceparent(bad)));
        assert_eq!(spans.len(), 1, "{bad:?}");
        assert_eq!(spans[0].parent_span_id, SpanId::INVALID, "{bad:?}");
    }
}

#[test]
fn only_our_own_spans_and_warnings_inside_them_are_exported() {
    let spans = exported(1.0, |_| {
        tracing::debug_span!("ours").in_scope(|| {
            tracing::warn!("a warning");
            tracing::info!("what goes on");
            tracing::warn!(target: "h2::client", "theirs");
            tracing::error_span!(target: "hyper", "theirs").in_scope(|| ());
        });
        tracing::trace_span!("too fine").in_scope(|| ());
    });
    let [ours] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(ours.name, "ours");
    let events: Vec<&str> = ours.events.iter().map(|event| &*event.name).collect();
    assert_eq!(events, ["a warning"]);
    let keys: Vec<&str> = ours.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert!(keys.is_empty(), "no paths of source files, no threads: {keys:?}");
}

/// A collector: keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<wire::ResourceSpans>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.lock().unwrap().extend(request.into_inner().resource_spans);
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_is_told_who_tells_it_at_the_latest_at_the_end() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collector = Collector::default();
    let service = TraceServiceServer::new(collector.clone());
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let serving =
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    let service = Service { name: "stint-test", instance: "t1" };
    let traces = Traces::start(&endpoint, Ratio::ALL, service).unwrap();
    let subscriber = tracing_subscriber::registry().with(traces.layer());
    tracing::subscriber::with_default(subscriber, || {
        tracing::debug_span!("request", rpc.method = "a/B").in_scope(|| ());
    });
    tokio::task::spawn_blocking(move || {
        traces.provider.shutdown_with_timeout(Duration::from_secs(60)).unwrap();
    })
    .await
    .unwrap();
    let received = collector.0.lock().unwrap().clone();
    let [of_process] = &received[..] else { panic!("{received:?}") };
    let resource = of_process.resource.as_ref().unwrap();
    for (key, expected) in [
        ("service.name", "stint-test"),
        ("service.instance.id", "t1"),
        ("service.version", env!("CARGO_PKG_VERSION")),
    ] {
        let found = resource.attributes.iter().find(|attribute| attribute.key == key);
        let value = found.and_then(|found| found.value.clone()).and_then(|value| value.value);
        assert_eq!(value, Some(any_value::Value::StringValue(expected.to_owned())), "{key}");
    }
    let span = &of_process.scope_spans[0].spans[0];
    assert_eq!((span.name.as_str(), span.attributes[0].key.as_str()), ("request", "rpc.method"));
    serving.abort();
}

#[tokio::test]
async fn tls_has_what_the_system_trusts() {
    let service = Service { name: "stint-test", instance: "t1" };
    // Without a certificate on the system it is refused, in words.
    match Traces::start("https://127.0.0.1:1", Ratio::ALL, service) {
        Ok(traces) => traces.end(),
        Err(error) => {
            let said = error.to_string();
            assert!(
                said.starts_with("traces can't be exported to --otlp-endpoint https://127.0.0.1:1: "),
                "{said}"
            );
        }
    }
}
