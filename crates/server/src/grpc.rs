//! The two ports as gRPC servers.
//!
//! Owns: assembling services, health and reflection; limits of connections and messages; answering while this server still
//! looks for its place. Does not own: what services do (`services`), the layer in front of them (`forwarding`), the peer port's
//! connections (`stint-raft`).

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use http::{Request, Response};
use stint_proto::limits::MESSAGE_BYTES_MAX;
use stint_proto::{FILE_DESCRIPTOR_SET, v1};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::{Service, ServiceExt};

use crate::connections;
use crate::error::{self, Error};
use crate::forwarding::Front;
use crate::limits::{HEADER_BYTES_MAX, KEEPALIVE_MS, STREAMS_PER_CONNECTION_MAX};
use crate::services::Context;
use crate::services::agent::AgentService;
use crate::services::cluster::ClusterService;
use crate::services::config_maps::ConfigMapsService;
use crate::services::events::EventsService;
use crate::services::insight::InsightService;
use crate::services::jobs::JobsService;
use crate::services::nodes::NodesService;
use crate::services::pods::PodsService;
use crate::session::SessionContext;

/// Whose health is told: the server's as a whole, and that of each service.
pub const SERVICE_NAMES: [&str; 9] = [
    "",
    v1::jobs_server::SERVICE_NAME,
    v1::pods_server::SERVICE_NAME,
    v1::config_maps_server::SERVICE_NAME,
    v1::nodes_server::SERVICE_NAME,
    v1::events_server::SERVICE_NAME,
    v1::insight_server::SERVICE_NAME,
    v1::cluster_server::SERVICE_NAME,
    v1::agent_server::SERVICE_NAME,
];

/// The services of one port, once this server is a member; until then callers are told to come again.
#[derive(Clone, Default)]
pub struct LateServices {
    services: Arc<OnceLock<Front<Routes>>>,
}

impl LateServices {
    /// Opens the port's services; only the first call counts.
    pub fn open(&self, services: Front<Routes>) {
        // Set once, when the server has started.
        let _ = self.services.set(services);
    }

    /// These services as the fallback of a port's routes.
    pub fn routes(&self) -> Routes {
        let services = self.clone().map_request(|request: Request<axum::body::Body>| request.map(Body::new));
        Routes::from(axum::Router::new().fallback_service(services))
    }
}

impl Service<Request<Body>> for LateServices {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.services.get() {
            Some(services) => services.clone().call(request),
            None => Box::pin(std::future::ready(Ok(
                error::not_leader_with(error::LeaderHint::default()).into_http()
            ))),
        }
    }
}

/// All services of this server.
///
/// # Errors
/// If their descriptions cannot be read, which is a defect.
pub fn services(context: &Context, sessions: SessionContext) -> Result<Routes, Error> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let jobs = v1::jobs_server::JobsServer::new(JobsService(context.clone()));
    let pods = v1::pods_server::PodsServer::new(PodsService(context.clone()));
    let config_maps = v1::config_maps_server::ConfigMapsServer::new(ConfigMapsService(context.clone()));
    let nodes = v1::nodes_server::NodesServer::new(NodesService(context.clone()));
    let events = v1::events_server::EventsServer::new(EventsService(context.clone()));
    let insight = v1::insight_server::InsightServer::new(InsightService(context.clone()));
    let cluster = v1::cluster_server::ClusterServer::new(ClusterService(context.clone()));
    let agent = v1::agent_server::AgentServer::new(AgentService(sessions));
    Ok(Routes::default()
        .add_service(jobs.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(pods.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(config_maps.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(nodes.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(events.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(insight.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(cluster.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(agent.max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .prepare())
}

/// Serves the client port until `drain`, then until its last request has ended.
///
/// # Errors
/// If the port fails.
pub async fn serve_clients(
    listener: TcpListener,
    services: LateServices,
    health: HealthServer<impl Health>,
    drain: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let keepalive = Some(Duration::from_millis(KEEPALIVE_MS));
    Server::builder()
        .http2_keepalive_interval(keepalive)
        .http2_keepalive_timeout(keepalive)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .add_routes(services.routes().add_service(health))
        .serve_with_incoming_shutdown(connections::accept(listener), drain.cancelled_owned())
        .await
}
