//! One server process: starting its parts in order, stopping them in order.
//!
//! Owns: that order, the tasks. Does not own: the parts.
//!
//! Invariants: nothing is served before replication has its place; at the end leadership is handed over before streams end,
//! and replication stops last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use stint_daemon::endpoint::Observed;
use stint_raft::{
    AppliedBatch, AppliedPosition, ApplyObserver, PeerListen, RaftNode, RaftNodeConfig, Thresholds, Timing,
};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::auth::Authenticator;
use crate::config::ServerConfig;
use crate::ended_pods::EndedPods;
use crate::error::{self, Error};
use crate::forwarding::{Entrance, Front};
use crate::grpc::{LateServices, SERVICE_NAMES, serve_clients, services};
use crate::intake::Intake;
use crate::leases::Leases;
use crate::limits::{
    DRAIN_MS, ENDED_PODS_FIRST_SWEEP_MS, ENDED_PODS_SWEEP_MS, REPLICATION_STOP_MS, SESSION_STREAMS_MAX,
    SNAPSHOTS_SAVED_MAX, STEP_DOWN_MS,
};
use crate::listing::Lists;
use crate::log_archive::LogArchive;
use crate::metrics::{AppliedFigures, Parts, RequestFigures, ServerFigures};
use crate::pod_collection;
use crate::proposer::Proposer;
use crate::reads::Reads;
use crate::services::Context;
use crate::session::SessionContext;
use crate::sessions::{Sessions, send_orders};
use crate::settings::GivenSettings;
use crate::timers;
use crate::watch::{HistoryLimits, WatchHub};
use crate::watching::Watches;

/// Starts servers.
#[derive(Debug)]
pub struct Server;

/// A server at work. Dropping it stops it as a crash would, without a word to the others; [`RunningServer::shutdown`] does
/// so in order.
pub struct RunningServer {
    name: Arc<str>,
    client_address: SocketAddr,
    raft: Arc<RaftNode>,
    lists: Arc<Lists>,
    health: HealthReporter,
    figures: ServerFigures,
    /// Ends streams and loops.
    stop: CancellationToken,
    /// Lets the client port take no more.
    drain: CancellationToken,
    serving: AbortOnDrop<Result<(), tonic::transport::Error>>,
    _tasks: JoinSet<()>,
}

/// Passes on what was applied.
struct Observer {
    hub: Arc<WatchHub>,
    ended_pods: Arc<EndedPods>,
    sessions: Arc<Sessions>,
    figures: Arc<AppliedFigures>,
}

impl ApplyObserver for Observer {
    fn applied(&self, batch: &AppliedBatch) {
        self.ended_pods.applied(&batch.changes);
        self.hub.applied(&batch.changes, batch.revision);
        self.sessions.order(&batch.orders);
        self.figures.applied(batch);
    }

    fn took(&self, elapsed: Duration) {
        self.figures.took(elapsed);
    }

    fn snapshot_installed(&self, position: AppliedPosition) {
        self.hub.reset(position.revision);
    }
}

/// A task that ends with its handle.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Server {
    /// Starts a server: takes its ports, finds its place in the cluster, serves.
    ///
    /// Returns when it is a member, which can take as long as the other initial members are away; until then clients are
    /// told to come again. Dropping the future gives the start up and leaves nothing behind.
    ///
    /// # Errors
    /// If the configuration or the data folder cannot be used, a port is taken, or a person must decide.
    pub async fn start(config: ServerConfig) -> Result<RunningServer, Error> {
        config.validate()?;
        let authenticator = Authenticator::new(&config);
        let name: Arc<str> = Arc::from(config.name.as_str());
        let (listener, client_address) = config.listen.bind()?;
        let (peer_listener, _) = config.peer_listen.bind()?;
        let advertise_client = config.client_address(client_address)?;
        let given = Arc::new(config.settings.clone());
        let log_archive = config.log_archive.as_deref().map(LogArchive::open).transpose();
        let log_archive =
            log_archive.map_err(|failed| Error::InvalidConfig { message: failed.to_string() })?;

        let (stop, drain) = (CancellationToken::new(), CancellationToken::new());
        let stop_guard = stop.clone().drop_guard();
        let hub = Arc::new(WatchHub::new(HistoryLimits::default()));
        let (sessions, orders) = Sessions::new();
        let ended_pods = Arc::new(EndedPods::default());
        let (applied, requests) = (Arc::new(AppliedFigures::default()), RequestFigures::default());
        let observer = Observer {
            hub: Arc::clone(&hub),
            ended_pods: Arc::clone(&ended_pods),
            sessions: Arc::clone(&sessions),
            figures: Arc::clone(&applied),
        };

        let (health, health_service) = tonic_health::server::health_reporter();
        say_health(&health, ServingStatus::NotServing).await;
        let (for_clients, for_peers) = (LateServices::default(), LateServices::default());
        let serving = serve_clients(listener, for_clients.clone(), health_service, drain.clone());
        let serving = AbortOnDrop(tokio::spawn(serving));
        tracing::info!(server = %name, %client_address, "listens for clients");

        let raft_config = raft_config(config, peer_listener, advertise_client);
        let raft = Arc::new(RaftNode::start(raft_config, Arc::new(observer), for_peers.routes()).await?);
        applied.follow(raft.leadership());
        hub.begin_at(raft.with_state(|state| state.revision()));
        check_settings(&raft, &given)?;

        let proposer = Proposer::start(Arc::clone(&raft));
        let reads = Reads::new(Arc::clone(&raft));
        let lists = Arc::new(Lists::default());
        let watches = Watches::new(Arc::clone(&raft), reads.clone(), Arc::clone(&hub), stop.clone());
        let leases = Leases::start(
            Arc::clone(&raft),
            proposer.clone(),
            Arc::clone(&sessions),
            Duration::from_millis(given.node_lease_ms()),
            stop.clone(),
        );
        let leases = leases.map_err(|failed| Error::InvalidConfig { message: failed.to_string() })?;
        let figures = ServerFigures::new(Parts {
            raft: Arc::clone(&raft),
            proposer: proposer.clone(),
            leases: leases.clone(),
            sessions: Arc::clone(&sessions),
            watches: watches.clone(),
            applied,
            requests: requests.clone(),
        });
        let context = Context {
            name: Arc::clone(&name),
            raft: Arc::clone(&raft),
            proposer: proposer.clone(),
            reads: reads.clone(),
            lists: Arc::clone(&lists),
            watches,
            sessions: Arc::clone(&sessions),
            given,
            log_archive,
            snapshots_saved: Arc::new(Semaphore::new(SNAPSHOTS_SAVED_MAX)),
            stop: stop.clone(),
        };
        let session_context = SessionContext {
            context: context.clone(),
            leases,
            ended_pods: Arc::clone(&ended_pods),
            log_tails: Arc::default(),
            streams: Arc::new(Semaphore::new(SESSION_STREAMS_MAX)),
        };
        let routes = services(&context, session_context)?;
        let intake = Intake::default();
        let front = |entrance| {
            let (routes, intake, raft) = (routes.clone(), intake.clone(), Arc::clone(&raft));
            Front::new(routes, entrance, intake, raft, &name, stop.clone(), requests.clone())
        };
        for_peers.open(front(Entrance::Peers));
        for_clients.open(front(Entrance::Clients(authenticator)));
        say_health(&health, ServingStatus::Serving).await;

        let mut tasks = JoinSet::new();
        tasks.spawn(timers::run(Arc::clone(&raft), proposer.clone(), stop.clone()));
        tasks.spawn(pod_collection::run(Arc::clone(&raft), reads.clone(), proposer, stop.clone()));
        tasks.spawn(send_orders(Arc::clone(&raft), sessions, orders));
        tasks.spawn(sweep_ended_pods(Arc::clone(&raft), reads, ended_pods));
        Ok(RunningServer {
            name,
            client_address,
            raft,
            lists,
            health,
            figures,
            stop: stop_guard.disarm(),
            drain,
            serving,
            _tasks: tasks,
        })
    }
}

impl RunningServer {
    /// Where clients and agents are served.
    pub fn client_address(&self) -> SocketAddr {
        self.client_address
    }

    /// Where the other servers are served.
    pub fn peer_address(&self) -> SocketAddr {
        self.raft.peer_address()
    }

    /// What it tells of itself.
    pub fn observed(&self) -> Arc<dyn Observed> {
        Arc::new(self.figures.clone())
    }

    /// True while this server leads and its state holds every earlier entry.
    pub fn is_leader(&self) -> bool {
        let leadership = self.raft.leadership();
        let leadership = leadership.borrow();
        leadership.is_leader && leadership.established
    }

    /// Waits until somebody leads, this server or another.
    pub async fn wait_for_leader(&self) {
        let mut leadership = self.raft.leadership();
        let led = leadership.wait_for(|now| now.established || (!now.is_leader && now.leader.is_some()));
        // Replication has ended: `wait` says so.
        let _ = led.await;
    }

    /// Comes when the server cannot go on: its storage or its port has failed. The process must end then.
    pub async fn wait(&mut self) -> Error {
        tokio::select! {
            reason = self.raft.fatal() => Error::Fatal { reason },
            ended = &mut self.serving.0 => match ended {
                Ok(Err(source)) => Error::Serve { address: self.client_address, source },
                Ok(Ok(())) => Error::Defect { message: "the client port ended by itself".to_owned() },
                Err(failed) => Error::Defect { message: failed.to_string() },
            },
        }
    }

    /// Stops in order: says that it serves no more, hands leadership over, ends streams, lets open requests end for a
    /// bounded time, stops replication.
    pub async fn shutdown(mut self) {
        tracing::info!(server = %self.name, "stops");
        say_health(&self.health, ServingStatus::NotServing).await;
        let handed_over =
            tokio::time::timeout(Duration::from_millis(STEP_DOWN_MS), self.raft.step_down()).await;
        if handed_over.is_err() {
            tracing::warn!(server = %self.name, "leadership was not handed over in time");
        }
        self.stop.cancel();
        self.lists.close_all();
        self.drain.cancel();
        // Who watches our health has been told, and would else be waited for.
        for service in SERVICE_NAMES {
            self.health.clear_service_status(service).await;
        }
        if tokio::time::timeout(Duration::from_millis(DRAIN_MS), &mut self.serving.0).await.is_err() {
            tracing::warn!(server = %self.name, "requests that had not ended were cut off");
        }
        let raft = RaftNode::clone(&self.raft);
        if tokio::time::timeout(Duration::from_millis(REPLICATION_STOP_MS), raft.shutdown()).await.is_err() {
            tracing::warn!(server = %self.name, "replication did not stop in time");
        }
        tracing::info!(server = %self.name, "has stopped");
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.stop.cancel();
        self.lists.close_all();
        // The services that the peer port serves hold replication, and replication the peer port: only a shutdown takes
        // them apart. A second one, after an orderly one, finds nothing to do.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let raft = RaftNode::clone(&self.raft);
            runtime.spawn(raft.shutdown());
        }
    }
}

impl std::fmt::Debug for RunningServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RunningServer")
            .field("name", &self.name)
            .field("client_address", &self.client_address)
            .finish_non_exhaustive()
    }
}

/// Flags that have no effect: those that can't have one are refused, the others told. A server that joins learns of the
/// cluster's settings later; `status` tells of them then.
fn check_settings(raft: &RaftNode, given: &GivenSettings) -> Result<(), Error> {
    let Some(settings) = raft.with_state(|state| state.settings().cloned()) else { return Ok(()) };
    for difference in given.differences(&settings) {
        tracing::warn!("{difference}");
    }
    given.check_lease_of(&settings)
}

/// Says it for the server as a whole, which is all that there is, and under each name that may be asked for.
async fn say_health(health: &HealthReporter, status: ServingStatus) {
    for service in SERVICE_NAMES {
        health.set_service_status(service, status).await;
    }
}

fn raft_config(config: ServerConfig, peer_listener: TcpListener, advertise_client: String) -> RaftNodeConfig {
    let mut thresholds = Thresholds::default();
    if let Some(entries) = config.snapshot_log_entries {
        thresholds.snapshot_entries = entries;
        thresholds.log_entries_kept = thresholds.log_entries_kept.min(entries);
        thresholds.replication_lag_entries =
            thresholds.replication_lag_entries.max(entries.saturating_add(1));
    }
    if let Some(entries) = config.log_entries_kept {
        thresholds.log_entries_kept = entries;
    }
    let initial_members = config
        .initial_cluster
        .into_iter()
        .map(|member| stint_raft::InitialMember { name: member.name, peer_address: member.peer_address });
    RaftNodeConfig {
        name: config.name,
        storage: config.storage,
        peer_listen: PeerListen::Bound(peer_listener),
        advertise_peer: config.advertise_peer,
        advertise_client,
        initial_members: initial_members.collect(),
        token: config.token.map(|token| token.secret().as_bytes().to_vec()),
        settings: config.settings.initial(),
        thresholds,
        timing: Timing::default(),
        bootstrap_patience: None,
    }
}

/// Now and then, on the leader: looks for Pods whose logs agents keep and that are gone.
async fn sweep_ended_pods(raft: Arc<RaftNode>, reads: Reads, ended_pods: Arc<EndedPods>) {
    tokio::time::sleep(Duration::from_millis(ENDED_PODS_FIRST_SWEEP_MS)).await;
    loop {
        let leads = raft.leadership().borrow().established;
        let asked = if leads { ended_pods.take_asked() } else { Default::default() };
        if !asked.is_empty() {
            let ended_pods = Arc::clone(&ended_pods);
            let looked = reads.rows(false, move |rows| {
                ended_pods
                    .look_through(rows.view(), asked)
                    .map_err(|failed| error::internal("looking through Pods", &failed))
            });
            if let Err(failed) = looked.await {
                tracing::debug!(%failed, "Pods were not looked through");
            }
        }
        tokio::time::sleep(Duration::from_millis(ENDED_PODS_SWEEP_MS)).await;
    }
}
