//! The port over which metrics and health are read, by HTTP/1.1: `/metrics`, `/healthz`, `/readyz`.
//!
//! Owns: the port, its limits, answering while the process still starts. Does not own: what is measured ([`Observed`]), what the
//! system knows of the process (`process`).
//!
//! Invariants: nothing can be changed over it; how many ask and how slowly is bounded, and costs those that are asked nothing but
//! their answer.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::prometheus_text;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinHandle};

use crate::limits::{
    METRICS_ACCEPT_PAUSE, METRICS_ANSWER_TIMEOUT, METRICS_CONNECTION_TIMEOUT, METRICS_CONNECTIONS_MAX,
    METRICS_HEADER_TIMEOUT,
};
use crate::process::ProcessFigures;

/// An answer that may have to be waited for.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a server or an agent tells of itself.
pub trait Observed: Send + Sync + 'static {
    /// Whether it still does its work.
    ///
    /// # Errors
    /// What is wrong: it should be started anew.
    fn alive(&self) -> Answer<'_, Result<(), String>>;

    /// Whether it can do its work now.
    ///
    /// # Errors
    /// What it waits for.
    fn ready(&self) -> Answer<'_, Result<(), String>>;

    /// What it measures, as Prometheus' text.
    fn metrics(&self) -> Answer<'_, String>;
}

/// The port. Dropping it closes it.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    observed: Late,
    serving: JoinHandle<()>,
}

/// The one that is observed, once it has started.
#[derive(Clone, Default)]
struct Late(Arc<OnceLock<Arc<dyn Observed>>>);

impl std::fmt::Debug for Late {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Late").field(&self.0.get().is_some()).finish()
    }
}

/// Why there is no port.
#[derive(Debug, thiserror::Error)]
#[error(
    "--metrics-listen {address:?} can't be listened on: {problem}; write ADDRESS:PORT of this host, such as 127.0.0.1:7442"
)]
pub struct ListenError {
    address: String,
    problem: String,
}

impl Endpoint {
    /// Opens the port. Until [`Endpoint::observe`] only the process itself is known: alive, and not ready.
    ///
    /// # Errors
    /// If the address is none, or can't be had.
    pub async fn open(address: &str) -> Result<Endpoint, ListenError> {
        let failed = |problem: String| ListenError { address: address.to_owned(), problem };
        let mut addresses = address.to_socket_addrs().map_err(|error| failed(error.to_string()))?;
        let first = addresses.next().ok_or_else(|| failed("it has no address".to_owned()))?;
        let listener = TcpListener::bind(first).await.map_err(|error| failed(error.to_string()))?;
        let address = listener.local_addr().map_err(|error| failed(error.to_string()))?;
        let observed = Late::default();
        let port = Arc::new(Port { observed: observed.clone(), process: ProcessFigures::new() });
        let serving = tokio::spawn(serve(listener, port));
        tracing::info!(%address, "serves metrics");
        Ok(Endpoint { address, observed, serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells of this one from now on; only the first call counts.
    pub fn observe(&self, observed: Arc<dyn Observed>) {
        // Set once, when it has started.
        let _ = self.observed.0.set(observed);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Port {
    observed: Late,
    process: ProcessFigures,
}

async fn serve(listener: TcpListener, port: Arc<Port>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "could not accept a connection for metrics");
                tokio::time::sleep(METRICS_ACCEPT_PAUSE).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        // Those that say nothing must not keep a probe waiting, which would have this process started anew.
        if open.len() >= METRICS_CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let port = Arc::clone(&port);
        let connection = tokio::spawn(async move {
            let service = service_fn(move |request| {
                let port = Arc::clone(&port);
                async move { Ok::<_, Infallible>(port.answer(&request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(METRICS_HEADER_TIMEOUT)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // Whoever asked is gone, or too slow.
            let _ = tokio::time::timeout(METRICS_CONNECTION_TIMEOUT, connection).await;
        });
        open.push_back(connection.abort_handle());
    }
}

impl Port {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n".to_owned());
        }
        match request.uri().path() {
            "/metrics" => self.metrics().await,
            "/healthz" => match self.observed.0.get() {
                Some(observed) => health(observed.alive()).await,
                // It may wait for other servers as long as it has to.
                None => text(StatusCode::OK, "ok\n".to_owned()),
            },
            "/readyz" => match self.observed.0.get() {
                Some(observed) => health(observed.ready()).await,
                None => text(StatusCode::SERVICE_UNAVAILABLE, "not ready: it is starting\n".to_owned()),
            },
            _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n".to_owned()),
        }
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        let mut all = self.process.encode();
        if let Some(observed) = self.observed.0.get() {
            match tokio::time::timeout(METRICS_ANSWER_TIMEOUT, observed.metrics()).await {
                Ok(own) => all.push_str(&own),
                Err(_) => return text(StatusCode::SERVICE_UNAVAILABLE, stuck()),
            }
        }
        let mut response = text(StatusCode::OK, all);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(prometheus_text::CONTENT_TYPE));
        response
    }
}

async fn health(asked: Answer<'_, Result<(), String>>) -> Response<Full<Bytes>> {
    match tokio::time::timeout(METRICS_ANSWER_TIMEOUT, asked).await {
        Ok(Ok(())) => text(StatusCode::OK, "ok\n".to_owned()),
        Ok(Err(reason)) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, stuck()),
    }
}

fn stuck() -> String {
    format!("no answer within {} s\n", METRICS_ANSWER_TIMEOUT.as_secs())
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn ask(endpoint: &Endpoint, request: &str) -> String {
        let mut stream = TcpStream::connect(endpoint.address()).await.unwrap();
        stream.write_all(format!("{request} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[derive(Default)]
    struct Subject {
        ready: AtomicBool,
    }

    impl Observed for Subject {
        fn alive(&self) -> Answer<'_, Result<(), String>> {
            Box::pin(async { Err("it has ended".to_owned()) })
        }

        fn ready(&self) -> Answer<'_, Result<(), String>> {
            let ready = self.ready.load(Ordering::Relaxed);
            Box::pin(async move { ready.then_some(()).ok_or_else(|| "no leader is known".to_owned()) })
        }

        fn metrics(&self) -> Answer<'_, String> {
            Box::pin(async { "own 1\n".to_owned() })
        }
    }

    #[tokio::test]
    async fn health_and_metrics_are_told_from_the_start_on() {
        let endpoint = Endpoint::open("127.0.0.1:0").await.unwrap();
        assert!(ask(&endpoint, "GET /healthz").await.starts_with("HTTP/1.1 200"));
        assert!(ask(&endpoint, "GET /readyz").await.contains("503 Service Unavailable"));
        let early = ask(&endpoint, "GET /metrics").await;
        assert!(
            early.contains("text/plain; version=0.0.4") && early.contains("\nprocess_open_fds "),
            "{early}"
        );
        let subject = Arc::new(Subject::default());
        endpoint.observe(subject.clone());
        let waits = ask(&endpoint, "GET /readyz").await;
        assert!(waits.contains("503") && waits.ends_with("no leader is known\n"), "{waits}");
        subject.ready.store(true, Ordering::Relaxed);
        assert!(ask(&endpoint, "GET /readyz").await.ends_with("ok\n"));
        assert!(ask(&endpoint, "GET /healthz").await.ends_with("it has ended\n"));
        let all = ask(&endpoint, "GET /metrics").await;
        assert!(all.ends_with("own 1\n") && all.contains("\nprocess_cpu_seconds_total "), "{all}");
        assert!(ask(&endpoint, "GET /").await.contains("404"));
        assert!(ask(&endpoint, "POST /metrics").await.contains("405"));
    }

    #[tokio::test]
    async fn those_that_say_nothing_keep_nobody_waiting() {
        const MORE: usize = 8;
        let endpoint = Endpoint::open("127.0.0.1:0").await.unwrap();
        let mut silent = Vec::new();
        for _ in 0..METRICS_CONNECTIONS_MAX + MORE {
            silent.push(TcpStream::connect(endpoint.address()).await.unwrap());
        }
        assert!(ask(&endpoint, "GET /healthz").await.starts_with("HTTP/1.1 200"));
        let kept = &silent[MORE + 1..];
        for stream in kept {
            let read = stream.try_read(&mut [0]).map_err(|error| error.kind());
            assert_eq!(read, Err(std::io::ErrorKind::WouldBlock), "it was waited for its end");
        }
        for stream in &mut silent[..=MORE] {
            // Closed, or reset: the oldest.
            assert_eq!(stream.read(&mut [0]).await.unwrap_or_default(), 0);
        }
    }

    #[tokio::test]
    async fn an_address_that_is_taken_or_none_is_named() {
        let endpoint = Endpoint::open("127.0.0.1:0").await.unwrap();
        for address in [endpoint.address().to_string(), "here".to_owned()] {
            let error = Endpoint::open(&address).await.unwrap_err().to_string();
            assert!(error.starts_with(&format!("--metrics-listen {address:?} can't")), "{error}");
        }
        let address = endpoint.address();
        drop(endpoint);
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
