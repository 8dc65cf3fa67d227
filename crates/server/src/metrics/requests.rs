//! Requests, by method and by how they were answered: as figures, and each as a span, for traces.
//!
//! Owns: which methods are told apart, when a request is over. Does not own: the requests (`forwarding`).
//!
//! Invariants: what callers send can't make more figures, nor more names of spans, than the wire has methods; of what they send
//! nothing is in a span but the ids of objects and of the request.

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as _, Frame, SizeHint};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::histogram::Histogram;
use prost::Message;
use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;
use stint_daemon::figures::doubling;
use stint_daemon::traces::{self, TRACEPARENT};
use stint_proto::FILE_DESCRIPTOR_SET;
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::{Span, field};

/// Codes of gRPC, by their numbers.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
/// What is no method of ours: reflection, health, what does not exist.
const OTHER: &str = "other";
/// Entrances, as [`RequestFigures::begin`] counts them.
const PORTS: [&str; 2] = ["clients", "peers"];

/// See the module. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct RequestFigures {
    methods: Arc<BTreeMap<String, Arc<Method>>>,
    other: Arc<Method>,
}

#[derive(Debug)]
struct Method {
    answered: [[AtomicU64; CODES.len()]; PORTS.len()],
    /// Something was.
    is_used: AtomicBool,
    seconds: Histogram,
}

/// A request that is being answered. It is counted when this is dropped, at the latest.
#[derive(Debug)]
pub struct OpenRequest {
    method: Arc<Method>,
    port: usize,
    begun_at: Instant,
    code: Option<Code>,
    span: Span,
}

impl Default for RequestFigures {
    fn default() -> RequestFigures {
        // The description was made with the code.
        let described = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
        let mut methods = BTreeMap::new();
        for file in described.file.iter().filter(|file| file.package().starts_with("stint.")) {
            for service in &file.service {
                for method in &service.method {
                    let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                    methods.insert(name, Arc::new(Method::new()));
                }
            }
        }
        RequestFigures { methods: Arc::new(methods), other: Arc::new(Method::new()) }
    }
}

impl Method {
    fn new() -> Method {
        // From 100 µs to some seconds.
        Method {
            answered: Default::default(),
            is_used: AtomicBool::new(false),
            seconds: doubling(0.000_1, 16),
        }
    }
}

impl RequestFigures {
    /// A request has come in, from a client or from a peer. It goes on with the trace that its headers name, if there are any.
    pub fn begin(&self, path: &str, headers: Option<&HeaderMap>, from_peer: bool) -> OpenRequest {
        let (name, method) = match self.methods.get_key_value(path.trim_start_matches('/')) {
            Some((name, method)) => (name.as_str(), method),
            None => (OTHER, &self.other),
        };
        let port = usize::from(from_peer);
        let span = tracing::debug_span!(
            "request",
            otel.name = name,
            otel.kind = "server",
            otel.status_code = field::Empty,
            rpc.system.name = "grpc",
            rpc.method = name,
            rpc.response.status_code = field::Empty,
            port = PORTS.get(port),
            request.id = field::Empty,
            job.uid = field::Empty,
        );
        let parent = headers.and_then(|headers| headers.get(TRACEPARENT));
        traces::continue_from(&span, parent.and_then(|value| value.to_str().ok()));
        OpenRequest { method: Arc::clone(method), port, begun_at: Instant::now(), code: None, span }
    }

    fn all(&self) -> impl Iterator<Item = (&str, &Method)> {
        let known = self.methods.iter().map(|(name, method)| (name.as_str(), &**method));
        known.chain(std::iter::once((OTHER, &*self.other)))
    }
}

impl OpenRequest {
    /// What is done for it belongs in here.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// The answer begins; it is over when its body is.
    pub fn answered(mut self, response: Response<Body>) -> Response<Body> {
        self.method.is_used.store(true, Ordering::Relaxed);
        self.method.seconds.observe(self.begun_at.elapsed().as_secs_f64());
        if self.note(response.headers()) || response.body().is_end_stream() {
            return response;
        }
        response.map(|body| Body::new(CountedBody { body, request: Some(self) }))
    }

    /// True if the headers tell of the end.
    fn note(&mut self, headers: &HeaderMap) -> bool {
        let code = Status::from_header_map(headers).map(|status| status.code());
        self.code = code.or(self.code);
        code.is_some()
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        // Nobody has read the answer to its end.
        let code = self.code.unwrap_or(Code::Cancelled);
        let number = usize::try_from(i32::from(code)).unwrap_or(0);
        if let Some(counter) = self.method.answered.get(self.port).and_then(|codes| codes.get(number)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        // It ends now, not when it was last worked on.
        let _end = self.span.enter();
        self.span.record("rpc.response.status_code", CODES.get(number));
        if is_of_the_server(code) {
            self.span.record("otel.status_code", "ERROR");
        }
    }
}

/// Codes that say that the server could not do what it should, rather than that it was asked for something odd.
fn is_of_the_server(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// An answer whose end is looked at.
struct CountedBody {
    body: Body,
    /// None once it is over.
    request: Option<OpenRequest>,
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref()
                    && let Some(mut request) = self.request.take()
                {
                    request.note(trailers);
                }
            }
            Poll::Ready(Some(Err(failed))) => {
                if let Some(mut request) = self.request.take() {
                    request.code = Some(failed.code());
                }
            }
            Poll::Ready(None) => drop(self.request.take()),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Collector for RequestFigures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let help =
            "Requests that were answered, by method, by the port that they came through and by gRPC's code";
        let mut counters = encoder.encode_descriptor("rpcs", help, None, MetricType::Counter)?;
        for (name, method) in self.all() {
            for (port, codes) in PORTS.iter().zip(&method.answered) {
                for (code, counter) in CODES.iter().zip(codes) {
                    let count = counter.load(Ordering::Relaxed);
                    if count > 0 {
                        let labels = [("method", name), ("port", *port), ("code", *code)];
                        ConstCounter::new(count).encode(counters.encode_family(&labels)?)?;
                    }
                }
            }
        }
        let help = "Time from a request's arrival to the beginning of its answer";
        let mut seconds = encoder.encode_descriptor("rpc_seconds", help, None, MetricType::Histogram)?;
        for (name, method) in self.all().filter(|(_, method)| method.is_used.load(Ordering::Relaxed)) {
            method.seconds.encode(seconds.encode_family(&[("method", name)])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use stint_daemon::figures::Figures;

    fn text(requests: &RequestFigures) -> String {
        let mut figures = Figures::default();
        figures.registry().register_collector(Box::new(requests.clone()));
        figures.encode(|| {})
    }

    #[tokio::test]
    async fn each_request_is_counted_once_by_its_end() {
        let requests = RequestFigures::default();
        let refused = requests.begin("/stint.v1.Jobs/Get", None, false);
        drop(refused.answered(Status::not_found("x").into_http()));
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        let frames: [Result<Frame<Bytes>, Status>; 2] =
            [Ok(Frame::data(Bytes::from_static(b"x"))), Ok(Frame::trailers(trailers))];
        let body = http_body_util::StreamBody::new(tokio_stream::iter(frames));
        let served =
            requests.begin("/stint.v1.Jobs/List", None, true).answered(Response::new(Body::new(body)));
        assert!(!text(&requests).contains("Jobs/List\",port"), "it is not over");
        served.into_body().collect().await.unwrap();
        let left = requests.begin("/stint.v1.Jobs/Watch", None, false);
        drop(left.answered(Response::new(Body::new(http_body_util::Full::new(Bytes::from_static(b"x"))))));
        for made_up in ["/stint.v1.Jobs/MadeUp", "/a", "/b"] {
            drop(requests.begin(made_up, None, false).answered(Status::unimplemented("x").into_http()));
        }
        let text = text(&requests);
        for line in [
            "stint_rpcs_total{method=\"stint.v1.Jobs/Get\",port=\"clients\",code=\"NotFound\"} 1",
            "stint_rpcs_total{method=\"stint.v1.Jobs/List\",port=\"peers\",code=\"OK\"} 1",
            "stint_rpcs_total{method=\"stint.v1.Jobs/Watch\",port=\"clients\",code=\"Canceled\"} 1",
            "stint_rpcs_total{method=\"other\",port=\"clients\",code=\"Unimplemented\"} 3",
            "stint_rpc_seconds_count{method=\"stint.v1.Jobs/Get\"} 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn codes_have_grpcs_numbers() {
        for (number, name) in CODES.iter().enumerate() {
            let code = Code::from(i32::try_from(number).unwrap());
            let told = format!("{code:?}").replace("Cancelled", "Canceled").replace("Ok", "OK");
            assert_eq!(&told, name);
        }
    }
}
