//! The one layer in front of all services: authenticates, then answers here or forwards to the leader (decision 9).
//!
//! Owns: which requests only the leader answers, the hop to it, what a broken hop means to the caller. Does not own: who leads
//! (`stint-raft`), what requests do (`services`).
//!
//! Invariants: a request is forwarded at most once and never sent again; it makes one hop; a write whose hop broke after
//! it was sent has an unknown outcome, and one that was never sent says so; a forwarded stream ends when this server stops.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use prost::Message;
use stint_api::MemberId;
use stint_daemon::traces::{self, TRACEPARENT};
use stint_proto::{RELAY_METADATA, v1};
use stint_raft::{PeerIdentity, RaftNode};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;
use tower::{Service, ServiceExt};
use tracing::Instrument;

use crate::auth::{Authenticator, forwarded_identity, mark_forwarded, strip_forwarded};
use crate::error;
use crate::identity::Identity;
use crate::intake::{Intake, with_reason};
use crate::limits::LEADER_WAIT_MS;
use crate::metrics::RequestFigures;

/// Through which port a request came.
#[derive(Debug, Clone)]
pub enum Entrance {
    /// The client port: callers show a token.
    Clients(Authenticator),
    /// The peer port: callers are servers and say for whom they ask.
    Peers,
}

/// The layer around the services of one port.
#[derive(Clone)]
pub struct Front<S> {
    inner: S,
    entrance: Arc<Entrance>,
    intake: Intake,
    raft: Arc<RaftNode>,
    own_name: Arc<str>,
    /// Ends streams.
    stop: CancellationToken,
    requests: RequestFigures,
}

/// Who answers a request.
#[derive(Debug, Clone, Copy)]
enum Answerer {
    /// Whoever is asked.
    Anyone,
    /// Whoever is asked, by as many messages as the caller likes.
    Stream,
    /// The leader; agents are told where it is instead of being forwarded, unless they ask for it.
    LeaderOfSession,
    /// The leader, or for a stale read whoever is asked.
    Reader(fn(Bytes) -> bool),
    /// The leader.
    Leader(Effect),
    /// The leader, by a stream in each direction for as long as both like; what it is about changes something.
    LeaderOfChannel,
}

/// Whether a request may change something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Reads,
    Writes,
}

/// What is known of the leader.
enum Leading {
    Here,
    There(MemberId),
    Nowhere,
}

impl<S> Front<S> {
    /// Puts the layer in front of `inner`. `own_name` is the hop mark; `stop` ends streams that are forwarded, as the
    /// services end their own; `requests` counts.
    pub fn new(
        inner: S,
        entrance: Entrance,
        intake: Intake,
        raft: Arc<RaftNode>,
        own_name: &str,
        stop: CancellationToken,
        requests: RequestFigures,
    ) -> Front<S> {
        let (entrance, own_name) = (Arc::new(entrance), Arc::from(own_name));
        Front { inner, entrance, intake, raft, own_name, stop, requests }
    }
}

impl Entrance {
    /// Who asks. Takes away what only peers may say.
    fn identify(&self, request: &mut Request<Body>) -> Result<Identity, Box<Status>> {
        match self {
            Entrance::Clients(authenticator) => {
                strip_forwarded(request.headers_mut());
                authenticator.authenticate(request.headers())
            }
            Entrance::Peers => {
                // The handshake has shown that it is a peer; one without an id is no member yet and asks for nobody.
                let member = request.extensions().get::<PeerIdentity>().and_then(|peer| peer.member_id);
                if member.is_none() {
                    return Err(Box::new(error::unauthenticated()));
                }
                forwarded_identity(request.headers())
            }
        }
    }
}

impl<S> Service<Request<Body>> for Front<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The inner service is made ready for each request by `oneshot`.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let front = self.clone();
        let from_peer = matches!(*self.entrance, Entrance::Peers);
        let identity = self.entrance.identify(&mut request);
        // Whoever may not come in decides nothing about traces either.
        let open =
            self.requests.begin(request.uri().path(), identity.is_ok().then(|| request.headers()), from_peer);
        let span = open.span().clone();
        let answer = async move {
            let answered = match identity {
                Ok(identity) => front.answer(request, identity).await,
                Err(refused) => Err(refused),
            };
            Ok(open.answered(answered.unwrap_or_else(|status| status.into_http())))
        };
        Box::pin(answer.instrument(span))
    }
}

impl<S> Front<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    async fn answer(
        self,
        mut request: Request<Body>,
        identity: Identity,
    ) -> Result<Response<Body>, Box<Status>> {
        let answerer = answerer(request.uri().path());
        request.extensions_mut().insert(identity.clone());
        let (peer, relay) = (matches!(*self.entrance, Entrance::Peers), relay_asked(request.headers()));
        let (effect, message, _room) = match answerer {
            // The session itself says where the leader is; a relayed one must not be relayed again.
            Answerer::LeaderOfSession if peer || !relay => return self.here(request).await,
            Answerer::LeaderOfSession => (Effect::Writes, None, None),
            Answerer::Stream => return self.here(request).await,
            Answerer::Anyone | Answerer::Reader(_) | Answerer::Leader(_) | Answerer::LeaderOfChannel => {
                let taken = self.intake.take(request).await?;
                request = taken.request;
                let effect = match answerer {
                    Answerer::Leader(effect) => effect,
                    Answerer::LeaderOfChannel => Effect::Writes,
                    _ => Effect::Reads,
                };
                (effect, taken.message, Some(taken.room))
            }
        };
        let here = match answerer {
            Answerer::Anyone => true,
            Answerer::Reader(stale) => message.is_some_and(stale),
            Answerer::LeaderOfSession
            | Answerer::Stream
            | Answerer::Leader(_)
            | Answerer::LeaderOfChannel => false,
        };
        if here {
            return self.here(request).await;
        }
        match self.leader().await {
            Leading::Here => self.here(request).await,
            Leading::There(leader) if !peer => {
                if !is_stream(answerer) {
                    return self.forward(request, leader, &identity, effect).await;
                }
                // What an agent says is passed on by the hop for as long as it may say more, heard or not.
                let request = request.map(|body| self.until_stop(body, None));
                tokio::select! {
                    response = self.forward(request, leader, &identity, effect) => {
                        Ok(response?.map(|body| self.until_stop(body, Some(error::stopping()))))
                    }
                    () = self.stop.cancelled() => Err(Box::new(error::stopping())),
                }
            }
            Leading::There(_) | Leading::Nowhere => Err(Box::new(error::not_leader(&self.raft))),
        }
    }

    async fn here(self, request: Request<Body>) -> Result<Response<Body>, Box<Status>> {
        match self.inner.oneshot(request).await {
            Ok(response) => Ok(with_reason(response)),
            Err(never) => match never {},
        }
    }

    /// Who leads; waits a moment while nobody is known to.
    async fn leader(&self) -> Leading {
        let mut leadership = self.raft.leadership();
        let known = leadership.wait_for(|leadership| {
            (leadership.is_leader && leadership.established)
                || (!leadership.is_leader && leadership.leader.is_some())
        });
        match tokio::time::timeout(Duration::from_millis(LEADER_WAIT_MS), known).await {
            Ok(Ok(leadership)) if leadership.is_leader => Leading::Here,
            Ok(Ok(leadership)) => {
                leadership.leader.as_ref().map_or(Leading::Nowhere, |leader| Leading::There(leader.id))
            }
            Ok(Err(_)) | Err(_) => Leading::Nowhere,
        }
    }

    async fn forward(
        &self,
        mut request: Request<Body>,
        leader: MemberId,
        identity: &Identity,
        effect: Effect,
    ) -> Result<Response<Body>, Box<Status>> {
        mark_forwarded(request.headers_mut(), identity, &self.own_name);
        // What the leader does is a part of what is done here.
        if let Some(here) = traces::traceparent().and_then(|here| HeaderValue::from_str(&here).ok()) {
            request.headers_mut().insert(TRACEPARENT, here);
        }
        let path = request.uri().path().to_owned();
        match self.raft.peer_channel(leader).oneshot(request).await {
            Ok(response) => {
                Ok(response.map(|body| Body::new(MendedBody { body, effect, state: BodyState::Open })))
            }
            Err(failed) => {
                tracing::debug!(%leader, path, error = %chain(&failed), "forwarding failed");
                if was_never_sent(&failed) {
                    return Err(Box::new(error::leader_unreachable()));
                }
                Err(Box::new(broken_hop(effect)))
            }
        }
    }

    /// `end` is what is said at the stop; requests have nothing to say then.
    fn until_stop(&self, body: Body, end: Option<Status>) -> Body {
        let stop = Box::pin(self.stop.clone().cancelled_owned());
        Body::new(StoppableBody { body: Some(body), stop, end })
    }
}

/// Whether the leader answers by a stream that may never end by itself: it must not hold up the end of this server. Other
/// answers are let through to their end, which is near, since to cut them off would leave their outcome open.
fn is_stream(answerer: Answerer) -> bool {
    match answerer {
        Answerer::LeaderOfSession | Answerer::LeaderOfChannel | Answerer::Leader(Effect::Reads) => true,
        Answerer::Anyone | Answerer::Stream | Answerer::Reader(_) | Answerer::Leader(Effect::Writes) => false,
    }
}

/// The table of who answers what. A method that is not in it goes to the leader as a write: the careful choice.
fn answerer(path: &str) -> Answerer {
    match path {
        "/stint.v1.Agent/Session" => Answerer::LeaderOfSession,
        // A follower has everything too, and spares the leader the work.
        "/stint.v1.Cluster/Status" | "/stint.v1.Cluster/SaveSnapshot" => Answerer::Anyone,
        "/stint.v1.Jobs/Get" => {
            Answerer::Reader(|bytes| decoded::<v1::GetJobRequest>(bytes, |request| request.stale))
        }
        "/stint.v1.Jobs/List" => {
            Answerer::Reader(|bytes| decoded::<v1::ListJobsRequest>(bytes, |request| request.stale))
        }
        "/stint.v1.Pods/Get" => {
            Answerer::Reader(|bytes| decoded::<v1::GetPodRequest>(bytes, |request| request.stale))
        }
        "/stint.v1.Pods/List" => {
            Answerer::Reader(|bytes| decoded::<v1::ListPodsRequest>(bytes, |request| request.stale))
        }
        "/stint.v1.Nodes/Get" => {
            Answerer::Reader(|bytes| decoded::<v1::GetNodeRequest>(bytes, |request| request.stale))
        }
        "/stint.v1.Nodes/List" => {
            Answerer::Reader(|bytes| decoded::<v1::ListNodesRequest>(bytes, |request| request.stale))
        }
        "/stint.v1.Events/List" => {
            Answerer::Reader(|bytes| decoded::<v1::ListEventsRequest>(bytes, |request| request.stale))
        }
        "/stint.v1.Jobs/Watch"
        | "/stint.v1.Pods/Watch"
        | "/stint.v1.Pods/Logs"
        | "/stint.v1.Pods/Usage"
        | "/stint.v1.Nodes/Usage"
        | "/stint.v1.Nodes/Watch"
        | "/stint.v1.Events/Watch"
        | "/stint.v1.Insight/Explain"
        | "/stint.v1.Insight/History"
        | "/stint.v1.Insight/Overview" => Answerer::Leader(Effect::Reads),
        "/stint.v1.Pods/Exec" | "/stint.v1.Pods/Attach" | "/stint.v1.Pods/PortForward" => {
            Answerer::LeaderOfChannel
        }
        path if path.starts_with("/stint.v1.") => Answerer::Leader(Effect::Writes),
        // Reflection, and what does not exist.
        _ => Answerer::Stream,
    }
}

fn relay_asked(headers: &HeaderMap) -> bool {
    headers.get(RELAY_METADATA).is_some_and(|value| value.as_bytes() == b"true")
}

fn decoded<M: Message + Default>(bytes: Bytes, stale: fn(&M) -> bool) -> bool {
    M::decode(bytes).is_ok_and(|message| stale(&message))
}

fn broken_hop(effect: Effect) -> Status {
    match effect {
        Effect::Reads => error::leader_unreachable(),
        Effect::Writes => error::outcome_unknown("the connection to the leader broke"),
    }
}

fn was_never_sent(failed: &tonic::transport::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(failed);
    while let Some(error) = next {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        next = error.source();
    }
    false
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

/// A forwarded response whose breaking is told in stint's words instead of the transport's.
struct MendedBody {
    body: Body,
    effect: Effect,
    state: BodyState,
}

#[derive(PartialEq, Eq)]
enum BodyState {
    Open,
    Ended,
}

impl http_body::Body for MendedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.state == BodyState::Ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Err(_))) => {
                self.state = BodyState::Ended;
                Poll::Ready(Some(trailers_of(&broken_hop(self.effect))))
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.state == BodyState::Ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// One direction of a forwarded stream, which ends when this server stops.
struct StoppableBody {
    /// None once it was ended.
    body: Option<Body>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    end: Option<Status>,
}

impl http_body::Body for StoppableBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(body) = this.body.as_mut() else { return Poll::Ready(None) };
        // Before the body: a stream that always has more must end too.
        if this.stop.as_mut().poll(context).is_ready() {
            this.body = None;
            return Poll::Ready(this.end.as_ref().map(trailers_of));
        }
        Pin::new(body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

fn trailers_of(status: &Status) -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_wire_has_its_place() {
        let is = |path: &str, place: fn(&Answerer) -> bool| assert!(place(&answerer(path)), "{path}");
        is("/stint.v1.Jobs/Create", |place| matches!(place, Answerer::Leader(Effect::Writes)));
        is("/stint.v1.Jobs/Watch", |place| matches!(place, Answerer::Leader(Effect::Reads)));
        is("/stint.v1.Cluster/Status", |place| matches!(place, Answerer::Anyone));
        is("/stint.v1.Cluster/SaveSnapshot", |place| matches!(place, Answerer::Anyone));
        is("/stint.v1.Cluster/AddMember", |place| matches!(place, Answerer::Leader(Effect::Writes)));
        is("/stint.v1.Agent/Session", |place| matches!(place, Answerer::LeaderOfSession));
        is("/stint.v1.Pods/Exec", |place| matches!(place, Answerer::LeaderOfChannel));
        is("/stint.v1.Pods/Attach", |place| matches!(place, Answerer::LeaderOfChannel));
        is("/stint.v1.Pods/PortForward", |place| matches!(place, Answerer::LeaderOfChannel));
        is("/stint.v1.Pods/Usage", |place| matches!(place, Answerer::Leader(Effect::Reads)));
        is("/stint.v1.Insight/Explain", |place| matches!(place, Answerer::Leader(Effect::Reads)));
        is("/stint.v1.Jobs/Unheard", |place| matches!(place, Answerer::Leader(Effect::Writes)));
        is("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", |place| {
            matches!(place, Answerer::Stream)
        });
        for method in ["Get", "List"] {
            let Answerer::Reader(stale) = answerer(&format!("/stint.v1.Jobs/{method}")) else {
                panic!("a read")
            };
            assert!(!stale(Bytes::new()) && !stale(Bytes::from_static(b"\xff\xff")));
        }
        let Answerer::Reader(stale) = answerer("/stint.v1.Jobs/Get") else { panic!("a read") };
        for wanted in [true, false] {
            let request = v1::GetJobRequest { stale: wanted, ..v1::GetJobRequest::default() };
            assert_eq!(stale(request.encode_to_vec().into()), wanted);
        }
    }
}
