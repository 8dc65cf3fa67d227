//! A registry on loopback that serves what it is given, and fails as it is told.

use super::{INDEX_TYPE, MANIFEST_TYPE, TestImage, digest};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a registry does instead of answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 404.
    NotFound,
    /// 500.
    Broken,
    /// Answers so much later.
    Slow(Duration),
    /// One bit is another.
    Corrupt,
    /// Ends early.
    Cut,
}

/// Serves until it is dropped.
pub struct Registry {
    address: SocketAddr,
    shared: Arc<Mutex<Served>>,
    serving: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

#[derive(Default)]
struct Served {
    /// By `repository:tag` and `repository@digest`: bytes and media type.
    manifests: BTreeMap<String, (Vec<u8>, &'static str)>,
    blobs: BTreeMap<String, Vec<u8>>,
    /// By a part of the path.
    faults: Vec<(String, Fault)>,
    credentials: Option<Credentials>,
    requests: Vec<String>,
    address: String,
}

#[derive(Clone)]
struct Credentials {
    name: String,
    password: String,
    /// Asked for at `/token`, instead of with each request.
    by_token: bool,
}

const TOKEN: &str = "a-token-of-the-tests";

impl Registry {
    /// Begins to serve, on a port of the system's choice, within the current tokio runtime.
    pub async fn start() -> Registry {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = Served { address: address.to_string(), ..Served::default() };
        let shared = Arc::new(Mutex::new(served));
        let registry = Registry { address, shared, serving: Mutex::default() };
        registry.serve(listener);
        registry
    }

    /// Serves on another socket too, such as one of another network namespace. The same tokio runtime is needed.
    pub fn serve_also(&self, listener: std::net::TcpListener) {
        listener.set_nonblocking(true).unwrap();
        self.serve(tokio::net::TcpListener::from_std(listener).unwrap());
    }

    fn serve(&self, listener: tokio::net::TcpListener) {
        let router = axum::Router::new().fallback(any(answer)).with_state(self.shared.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        self.serving.lock().unwrap().push(serving);
    }

    /// Host and port.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The port alone.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// For `--registry-mirror`.
    pub fn mirror_of(&self, registry: &str) -> String {
        format!("{registry}={}", self.address)
    }

    /// Serves an image as `repository:tag`, such as `library/perl:5.34`.
    pub fn add(&self, name: &str, image: &TestImage) {
        let mut served = self.shared.lock().unwrap();
        let (repository, _) = name.split_once(':').unwrap();
        let manifest = (image.blobs[&image.manifest_digest].clone(), MANIFEST_TYPE);
        served.manifests.insert(format!("{repository}@{}", image.manifest_digest), manifest.clone());
        served.manifests.insert(name.to_owned(), manifest);
        served.blobs.extend(image.blobs.clone());
    }

    /// Serves an image through an index of platforms; answers the digest of the index.
    pub fn add_index(&self, name: &str, image: &TestImage) -> String {
        self.add(name, image);
        let (index_digest, bytes) = image.index();
        let (repository, _) = name.split_once(':').unwrap();
        let mut served = self.shared.lock().unwrap();
        served.manifests.insert(format!("{repository}@{index_digest}"), (bytes.clone(), INDEX_TYPE));
        served.manifests.insert(name.to_owned(), (bytes, INDEX_TYPE));
        index_digest
    }

    /// From now on, for paths that contain this.
    pub fn fail(&self, path_part: &str, fault: Fault) {
        self.shared.lock().unwrap().faults.push((path_part.to_owned(), fault));
    }

    /// No more faults.
    pub fn heal(&self) {
        self.shared.lock().unwrap().faults.clear();
    }

    /// Wants a name and a password with each request.
    pub fn require_basic(&self, name: &str, password: &str) {
        self.require(name, password, false);
    }

    /// Wants a token, which there is for a name and a password.
    pub fn require_token(&self, name: &str, password: &str) {
        self.require(name, password, true);
    }

    fn require(&self, name: &str, password: &str, by_token: bool) {
        let credentials = Credentials { name: name.to_owned(), password: password.to_owned(), by_token };
        self.shared.lock().unwrap().credentials = Some(credentials);
    }

    /// Paths that were asked for, in order, which contain this.
    pub fn requests(&self, path_part: &str) -> Vec<String> {
        let served = self.shared.lock().unwrap();
        served.requests.iter().filter(|path| path.contains(path_part)).cloned().collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Whole after any panic.
        let serving = self.serving.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        serving.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

async fn answer(State(shared): State<Arc<Mutex<Served>>>, request: Request<Body>) -> Response {
    let path = request.uri().path().to_owned();
    let fault = {
        let mut served = shared.lock().unwrap();
        if let Some(response) = refuse(&served, &path, request.headers()) {
            return response;
        }
        served.requests.push(path.clone());
        served.faults.iter().find(|(part, _)| path.contains(part.as_str())).map(|(_, fault)| *fault)
    };
    match fault {
        Some(Fault::NotFound) => return not_found(),
        Some(Fault::Broken) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Some(Fault::Slow(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::Corrupt | Fault::Cut) | None => {}
    }
    let Some((mut bytes, media_type)) = find(&shared.lock().unwrap(), &path) else { return not_found() };
    match fault {
        Some(Fault::Corrupt) => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        Some(Fault::Cut) => bytes.truncate(bytes.len() / 2),
        _ => {}
    }
    let mut response = Response::new(Body::from(bytes.clone()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, media_type.parse().unwrap());
    if path.contains("/manifests/") {
        headers.insert("docker-content-digest", digest(&bytes).parse().unwrap());
    }
    response
}

fn find(served: &Served, path: &str) -> Option<(Vec<u8>, &'static str)> {
    let octets = "application/octet-stream";
    let path = path.strip_prefix("/v2/")?;
    if path.is_empty() {
        return Some((b"{}".to_vec(), "application/json"));
    }
    if let Some((_, digest)) = path.split_once("/blobs/") {
        return served.blobs.get(digest).map(|bytes| (bytes.clone(), octets));
    }
    let (repository, reference) = path.split_once("/manifests/")?;
    let separator = if reference.contains(':') { '@' } else { ':' };
    served.manifests.get(&format!("{repository}{separator}{reference}")).cloned()
}

/// Who does not say the right thing is told what to say.
fn refuse(served: &Served, path: &str, headers: &HeaderMap) -> Option<Response> {
    use base64::Engine as _;
    let Credentials { name, password, by_token } = served.credentials.as_ref()?;
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or("");
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
    let is_known = given == format!("Basic {basic}");
    if *by_token && path == "/token" {
        let token = format!(r#"{{"token": "{TOKEN}"}}"#);
        let status = if is_known { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        return Some((status, token).into_response());
    }
    let (is_allowed, challenge) = match by_token {
        true => {
            let realm = format!("http://{}/token", served.address);
            (given == format!("Bearer {TOKEN}"), format!(r#"Bearer realm="{realm}",service="tests""#))
        }
        false => (is_known, r#"Basic realm="tests""#.to_owned()),
    };
    if is_allowed {
        return None;
    }
    Some((StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)], "").into_response())
}

fn not_found() -> Response {
    let body = r#"{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "there is none"}]}"#;
    (StatusCode::NOT_FOUND, body).into_response()
}
