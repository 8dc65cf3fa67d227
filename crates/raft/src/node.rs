//! One control-plane server as its process sees it: start it, propose, read, change members, stop it.
//!
//! Owns: configuration, the order of starting and stopping, the public interface of this crate. Does not own: the parts
//! behind it (modules `bootstrap`, `running`, `membership`, `peer`, and storage).
//!
//! Invariants: a server answers peers before it has its place, since others need its answer to find theirs; openraft is
//! built only with an id that the folder holds.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use openraft::{Config, SnapshotPolicy};
use parking_lot::Mutex;
use stint_api::{MemberId, Timestamp};
use stint_core::{Command, PlacementPolicy, State};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::transport::{Channel, Server};

use crate::bootstrap::{self, BootstrapRecord, InitialMember, Newcomer, Place};
use crate::clock::ClockReadings;
use crate::error::Error;
use crate::folder::DataFolder;
use crate::limits::{
    ELECTION_TIMEOUT_MAX_MS, ELECTION_TIMEOUT_MIN_MS, ENTRIES_KEPT_BEHIND_SNAPSHOT, HEARTBEAT_INTERVAL_MS,
    HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_KEEPALIVE_INTERVAL_MS, HTTP2_KEEPALIVE_TIMEOUT_MS,
    HTTP2_STREAM_WINDOW_BYTES, LINEARIZABLE_APPLY_TIMEOUT_MS, LOG_BYTES_KEPT_BEHIND_SNAPSHOT,
    PAYLOAD_ENTRIES_MAX, PEER_MESSAGE_BYTES_MAX, REPLICATION_BACKOFF, REPLICATION_LAG_ENTRIES,
    SNAPSHOT_AFTER_ENTRIES, SNAPSHOT_AFTER_LOG_BYTES, SNAPSHOT_TRANSFER_TIMEOUT_MS,
};
use crate::membership::{MemberSelector, MembershipError};
use crate::peer::connection::{self, PeerContext};
use crate::peer::handshake::{HandshakeKey, LocalIdentity};
use crate::peer::service::PeerService;
use crate::peer::transport::{Lane, NetworkFactory, Transport};
use crate::place::{Home, StorageLocation};
use crate::running::{Parts, ProposeError, Raft, ReadError, ReadIndex, Running};
use crate::saved_snapshot::{self, SavedSnapshotHeader};
use crate::state_machine::{AppliedPosition, ApplyObserver};
use crate::status::{Leadership, RaftProgress, RaftStatus};
use crate::storage::StorageControl;
use crate::types::{ApplyResponse, MemberInfo};
use crate::view::{RowReader, StorageFigures};
use crate::wire::peer_server::PeerServer;

/// How a server takes part in its cluster.
pub struct RaftNodeConfig {
    /// `--name`.
    pub name: String,
    /// Where log, vote and rows are kept.
    pub storage: StorageLocation,
    /// `--peer-listen`.
    pub peer_listen: PeerListen,
    /// `--advertise-peer`, `host:port`. None: this server's entry in `initial_members`, or the address it listens on.
    pub advertise_peer: Option<String>,
    /// `--advertise`, `host:port`: where clients and agents reach this server.
    pub advertise_client: String,
    /// `--initial-cluster`; empty: a single server.
    pub initial_members: Vec<InitialMember>,
    /// The cluster token. None: loopback or `--insecure`.
    pub token: Option<Vec<u8>>,
    /// What the cluster is initialized with.
    pub settings: InitialSettings,
    /// When snapshots are made, and how much log is kept.
    pub thresholds: Thresholds,
    /// Heartbeats and elections.
    pub timing: Timing,
    /// How long to look for a place in the cluster before giving up; none: for ever, saying why in the log.
    pub bootstrap_patience: Option<Duration>,
}

/// Where the peer port listens.
pub enum PeerListen {
    /// Bound when the server starts; port 0: any.
    Address(SocketAddr),
    /// Bound by the caller, who can tell others the port before the server starts.
    Bound(TcpListener),
}

/// What a new cluster is initialized with; later changes are commands.
#[derive(Debug, Clone)]
pub struct InitialSettings {
    /// L of the agent protocol, in milliseconds.
    pub node_lease_ms: u64,
    /// Where Pods go that fit on several nodes.
    pub placement_policy: PlacementPolicy,
    /// How long an event is kept after its last occurrence, in milliseconds.
    pub event_retention_ms: u64,
    /// What runs Pods that name no runtime; empty: the first runtime of each node.
    pub default_runtime: String,
    /// Ended Pods that are kept; 0: all.
    pub ended_pods_max: u32,
}

/// When snapshots are made, and how much log is kept.
#[derive(Debug, Clone, Copy)]
pub struct Thresholds {
    /// Entries after which the next snapshot is made.
    pub snapshot_entries: u64,
    /// Entries kept in the log behind a snapshot, for followers that are a little late.
    pub log_entries_kept: u64,
    /// Bytes of log after which the next snapshot is made, even if these are fewer entries.
    pub snapshot_log_bytes: u64,
    /// Bytes kept in the log behind a snapshot, even if these are fewer entries.
    pub log_bytes_kept: u64,
    /// A follower that lags by more entries is sent a snapshot; must be more than `snapshot_entries`.
    pub replication_lag_entries: u64,
}

/// Heartbeats and elections, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Between two heartbeats of the leader.
    pub heartbeat_ms: u64,
    /// An election begins at the earliest so long after the last heartbeat.
    pub election_min_ms: u64,
    /// And at the latest so long after it.
    pub election_max_ms: u64,
}

/// A running member. Cheap to clone. When the last clone is dropped, the server is gone for its peers at once and ends;
/// [`RaftNode::shutdown`] does so in order.
#[derive(Clone)]
pub struct RaftNode {
    shared: Arc<Shared>,
    running: Arc<Running>,
    tasks: Arc<Tasks>,
    stored: Arc<Stored>,
    peer_address: SocketAddr,
}

/// What must outlive openraft.
struct Stored {
    control: Mutex<Option<StorageControl>>,
    /// Keeps the folder locked.
    _folder: Option<DataFolder>,
}

/// What the peer service needs from the moment it listens.
pub(crate) struct Shared {
    pub(crate) newcomer: Newcomer,
    pub(crate) context: Arc<PeerContext>,
    /// Set once, when this server has its place.
    pub(crate) running: OnceLock<Arc<Running>>,
}

/// Ends what it holds when dropped, so that a start that fails or is given up leaves nothing behind.
struct Tasks {
    context: Arc<PeerContext>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds {
            snapshot_entries: SNAPSHOT_AFTER_ENTRIES,
            log_entries_kept: ENTRIES_KEPT_BEHIND_SNAPSHOT,
            snapshot_log_bytes: SNAPSHOT_AFTER_LOG_BYTES,
            log_bytes_kept: LOG_BYTES_KEPT_BEHIND_SNAPSHOT,
            replication_lag_entries: REPLICATION_LAG_ENTRIES,
        }
    }
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            heartbeat_ms: HEARTBEAT_INTERVAL_MS,
            election_min_ms: ELECTION_TIMEOUT_MIN_MS,
            election_max_ms: ELECTION_TIMEOUT_MAX_MS,
        }
    }
}

impl RaftNode {
    /// Starts a server: opens its folder, answers peers, finds its place in the cluster, joins it.
    ///
    /// `extra_peer_routes` are served on the peer port too; their requests carry
    /// [`crate::peer::PeerIdentity`] in their extensions. A peer without a member id is authenticated but no member
    /// yet: such routes must refuse it.
    ///
    /// Returns when the server is a member; that can take as long as the other initial members are away. Fails if the
    /// folder cannot be used, the port not be bound, or if this server can have no place without a person's help.
    pub async fn start(
        config: RaftNodeConfig,
        observer: Arc<dyn ApplyObserver>,
        extra_peer_routes: Routes,
    ) -> Result<RaftNode, Error> {
        let raft_config = Arc::new(raft_config(&config)?);
        let listener = bind(config.peer_listen).await?;
        let peer_address = listener.local_addr().map_err(Error::Listen)?;
        let (location, name) = (config.storage, config.name.clone());
        let mut home = blocking(move || Home::open(&location, &name)).await?;
        let own_entry = config.initial_members.iter().find(|member| member.name == config.name);
        let newcomer = Newcomer {
            name: config.name.clone(),
            folder_uid: home.folder_uid(),
            peer_address: config
                .advertise_peer
                .or_else(|| own_entry.map(|member| member.peer_address.clone()))
                .unwrap_or_else(|| peer_address.to_string()),
            client_address: config.advertise_client,
            initial_members: config.initial_members,
        };
        // Without randomness a server could not tell a copy of it from itself, and takes it for itself.
        let instance = getrandom::u64().unwrap_or_default();
        let context = Arc::new(PeerContext::new(
            HandshakeKey::new(config.token.as_deref()),
            LocalIdentity {
                cluster_id: home.held().map(|place| place.cluster_id),
                member_id: home.held().map(|place| place.member_id),
                name: config.name,
                instance,
            },
        ));
        let shared = Arc::new(Shared {
            newcomer: newcomer.clone(),
            context: context.clone(),
            running: OnceLock::new(),
        });
        let tasks = Arc::new(Tasks::new(context.clone()));
        tasks.spawn(serve(listener, shared.clone(), extra_peer_routes));

        let place = match known_place(&home) {
            Some(place) => place,
            None => {
                let place = bootstrap::find_place(&newcomer, &context, config.bootstrap_patience).await?;
                let taken = place.clone();
                home = blocking(move || home.take(&taken).map(|()| home)).await?;
                context.set_identity(LocalIdentity {
                    cluster_id: Some(place.cluster_id),
                    member_id: Some(place.member_id),
                    name: newcomer.name.clone(),
                    instance,
                });
                place
            }
        };
        let transport = Arc::new(Transport::new(context.clone()));
        let (storage, folder) = blocking(move || home.open_storage(observer)).await?;
        let state = storage.state_machine.reader();
        let log_growth = storage.log_store.growth();
        let network = NetworkFactory(transport.clone());
        let raft =
            Raft::new(place.member_id.0, raft_config, network, storage.log_store, storage.state_machine)
                .await
                .map_err(|error| Error::Raft(error.to_string()))?;
        if place.initializes {
            initialize(&raft, &place).await?;
        }
        let running = Arc::new(Running::new(Parts {
            own: place.member_id,
            cluster_id: place.cluster_id,
            record: place.record,
            newcomer,
            settings: config.settings,
            thresholds: config.thresholds,
            raft,
            state,
            log_growth,
            snapshots: storage.snapshots,
            context,
            transport,
        }));
        tasks.spawn(running.clone().follow());
        tasks.spawn(running.clone().do_duties());
        tasks.spawn(running.clone().watch_storage());
        tasks.spawn(running.clone().watch_removal());
        // Nobody else sets it.
        let _ = shared.running.set(running.clone());
        tracing::info!(
            member = running.own.0,
            cluster = %running.cluster_id,
            peer_address = %peer_address,
            "this server is a member"
        );
        let stored = Stored { control: Mutex::new(Some(storage.control)), _folder: folder };
        Ok(RaftNode { shared, running, tasks, stored: Arc::new(stored), peer_address })
    }

    /// Proposes one entry with these commands, stamped with the cluster's time; returns when it is applied here.
    pub async fn propose(&self, commands: Vec<Command>) -> Result<ApplyResponse, ProposeError> {
        self.running.propose(commands).await
    }

    /// Confirms by a quorum round begun after this call that this server leads (A5). Concurrent calls share rounds. Does
    /// not wait for apply.
    pub async fn read_index(&self) -> Result<ReadIndex, ReadError> {
        self.running.shared_read_index().await
    }

    /// Waits until an entry is applied here.
    pub async fn wait_applied(&self, log_index: u64, timeout: Duration) -> Result<(), ReadError> {
        self.running.wait_applied(log_index, timeout).await
    }

    /// Position of the last entry applied here, as it grows.
    pub fn applied(&self) -> watch::Receiver<AppliedPosition> {
        self.running.state.applied()
    }

    /// After it, a read of the state or of rows sees every write that was acknowledged before the call (R10).
    pub async fn linearizable(&self) -> Result<(), ReadError> {
        let index = self.read_index().await?;
        let timeout = Duration::from_millis(LINEARIZABLE_APPLY_TIMEOUT_MS);
        self.wait_applied(index.log_index, timeout).await
    }

    /// As [`RaftNode::linearizable`], on any member: one that does not lead asks the leader for the index.
    pub async fn linearizable_anywhere(&self) -> Result<(), ReadError> {
        let log_index = self.running.read_index_of_leader().await?;
        self.wait_applied(log_index, Duration::from_millis(LINEARIZABLE_APPLY_TIMEOUT_MS)).await
    }

    /// Saves a snapshot of what this server has applied: gives it to `send` piece by piece, on a thread that may block. The
    /// first error of `send` ends it. `server_version` is written into its header.
    ///
    /// # Errors
    /// If the cluster was not initialized, or rows can't be read.
    pub async fn save_snapshot<F>(&self, server_version: &str, send: F) -> Result<SavedSnapshotHeader, Error>
    where
        F: FnMut(Bytes) -> Result<(), Error> + Send + 'static,
    {
        let applied = self.running.applied_index();
        let origin = saved_snapshot::Origin {
            cluster_id: self.running.cluster_id,
            saved_at: Timestamp(ClockReadings::now().wall_ms),
            saved_by: self.running.newcomer.name.clone(),
            server_version: server_version.to_owned(),
        };
        self.rows().save(applied, origin, send).await
    }

    /// Reads the state in memory. Must be short: apply waits.
    pub fn with_state<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        self.running.with_state(read)
    }

    /// Reads rows: each read is a consistent view, at least as new as the log index that it asks for.
    pub fn rows(&self) -> RowReader {
        self.running.state.rows().clone()
    }

    /// Who leads, as it changes.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.running.watch_leadership()
    }

    /// This server's id.
    pub fn member_id(&self) -> MemberId {
        self.running.own
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> stint_api::ClusterId {
        self.running.cluster_id
    }

    /// Where the peer port listens.
    pub fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// What this server knows of the cluster; complete only on the leader.
    pub fn status(&self) -> RaftStatus {
        self.running.status()
    }

    /// How far this server's log has come.
    pub fn progress(&self) -> RaftProgress {
        self.running.progress()
    }

    /// What the storage tells of itself. Blocks on the disk.
    pub fn storage_figures(&self) -> StorageFigures {
        self.running.state.rows().figures()
    }

    /// A channel to another member's peer port, for the extra routes there. Connects when used.
    pub fn peer_channel(&self, member: MemberId) -> Channel {
        self.running.transport.channel(member, Lane::Forward)
    }

    /// On the leader: makes a place for a new server, which then joins when it is started with an empty folder. The id
    /// given is that of the place; the server gets its own when it joins.
    pub async fn add_member(&self, info: MemberInfo) -> Result<MemberId, MembershipError> {
        self.running.add_member(info).await
    }

    /// On the leader: removes a member. Refused if the voters that answer and follow would be no majority afterwards, and for
    /// a name that several members have of which one answers.
    pub async fn remove_member(&self, which: MemberSelector<'_>) -> Result<(), MembershipError> {
        self.running.remove_member(which).await
    }

    /// On the leader: removes a member, dead or alive, and makes a place for a new server. Refused as
    /// [`RaftNode::remove_member`] is.
    pub async fn replace_member(
        &self,
        which: MemberSelector<'_>,
        info: MemberInfo,
    ) -> Result<MemberId, MembershipError> {
        self.running.replace_member(which, info).await
    }

    /// On the leader: hands leadership to this voter; none: to the one whose log is longest.
    pub async fn transfer_leadership(&self, to: Option<MemberSelector<'_>>) -> Result<(), MembershipError> {
        self.running.transfer_leadership(to).await
    }

    /// Hands leadership over if this server has it and another can take it: what SIGTERM does first.
    pub async fn step_down(&self) {
        if !self.running.leadership().is_leader {
            return;
        }
        match self.running.transfer_leadership(None).await {
            Ok(()) => tracing::info!("leadership was handed over"),
            Err(error) => tracing::info!(%error, "leadership was not handed over"),
        }
    }

    /// Comes when this server can't go on: storage or openraft has failed. The process must end then.
    pub async fn fatal(&self) -> String {
        let mut fatal = self.running.watch_fatal();
        let reason = match fatal.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone(),
            Err(_) => None,
        };
        reason.unwrap_or_else(|| "this server has ended".to_owned())
    }

    /// Stops at once. Call [`RaftNode::step_down`] first to spare the others an election.
    pub async fn shutdown(self) {
        self.shared.context.close();
        if let Err(error) = self.running.raft.shutdown().await {
            tracing::warn!(%error, "openraft did not stop cleanly");
        }
        self.tasks.abort();
        let control = self.stored.control.lock().take();
        if let Some(control) = control {
            if let Err(error) = control.flush().await {
                tracing::warn!(%error, "storage did not stop cleanly");
            }
            control.close().await;
        }
    }

    /// For tests: cuts this server off from all others, or joins it to them again.
    #[cfg(test)]
    pub(crate) fn isolate(&self, isolated: bool) {
        match isolated {
            true => self.shared.context.close(),
            false => self.shared.context.reopen(),
        }
    }
}

impl Tasks {
    fn new(context: Arc<PeerContext>) -> Tasks {
        Tasks { context, handles: Mutex::default() }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handles.lock().push(tokio::spawn(task));
    }

    fn abort(&self) {
        self.context.close();
        for handle in self.handles.lock().drain(..) {
            handle.abort();
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.abort();
    }
}

async fn bind(listen: PeerListen) -> Result<TcpListener, Error> {
    match listen {
        PeerListen::Address(address) => TcpListener::bind(address).await.map_err(Error::Listen),
        PeerListen::Bound(listener) => Ok(listener),
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, extra: Routes) {
    let incoming = connection::accept(listener, shared.context.clone());
    let service = PeerServer::new(PeerService(shared))
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX);
    let served = Server::builder()
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(Duration::from_millis(HTTP2_KEEPALIVE_INTERVAL_MS)))
        .http2_keepalive_timeout(Some(Duration::from_millis(HTTP2_KEEPALIVE_TIMEOUT_MS)))
        .add_routes(extra.add_service(service))
        .serve_with_incoming(incoming)
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the peer port has failed");
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::Raft(format!("a step of the start has ended: {error}"))))
}

/// The place that the folder holds.
fn known_place(home: &Home) -> Option<Place> {
    let held = home.held()?;
    // The process may have ended between taking its place and initializing; openraft refuses to initialize twice.
    let initializes = held.record.as_ref().is_some_and(|record| is_initializer(record, held.member_id));
    Some(Place {
        member_id: held.member_id,
        cluster_id: held.cluster_id,
        record: held.record.clone(),
        initializes,
    })
}

fn is_initializer(record: &BootstrapRecord, member_id: MemberId) -> bool {
    record.members.iter().min_by(|one, other| one.name.cmp(&other.name)).map(|member| member.member_id)
        == Some(member_id)
}

/// Only the first by name of the initial members does this, and only while its log is empty.
async fn initialize(raft: &Raft, place: &Place) -> Result<(), Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Raft(format!("could not initialize: {error}"));
    if raft.is_initialized().await.map_err(|error| failed(&error))? {
        return Ok(());
    }
    let Some(record) = &place.record else { return Ok(()) };
    let members: std::collections::BTreeMap<u64, MemberInfo> = record
        .members
        .iter()
        .map(|member| {
            let info = MemberInfo {
                name: member.name.clone(),
                peer_address: member.peer_address.clone(),
                client_address: member.client_address.clone(),
            };
            (member.member_id.0, info)
        })
        .collect();
    tracing::info!(cluster = %place.cluster_id, members = members.len(), "initializes the cluster");
    raft.initialize(members).await.map_err(|error| failed(&error))
}

fn raft_config(config: &RaftNodeConfig) -> Result<Config, Error> {
    let (thresholds, timing) = (&config.thresholds, &config.timing);
    Config {
        cluster_name: "stint".to_owned(),
        heartbeat_interval: timing.heartbeat_ms,
        heartbeat_min_interval: Some(timing.heartbeat_ms / 2),
        election_timeout_min: timing.election_min_ms,
        election_timeout_max: timing.election_max_ms,
        enable_pre_vote: Some(true),
        // A leader that comes back must be elected: nothing may be assumed about the time it was away.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(thresholds.snapshot_entries),
        max_in_snapshot_log_to_keep: thresholds.log_entries_kept,
        // Must exceed the distance between snapshots, or a snapshot would not end the lag.
        replication_lag_threshold: thresholds.replication_lag_entries.max(thresholds.snapshot_entries + 1),
        max_payload_entries: PAYLOAD_ENTRIES_MAX,
        install_snapshot_timeout: SNAPSHOT_TRANSFER_TIMEOUT_MS,
        backoff: REPLICATION_BACKOFF.to_owned(),
        ..Config::default()
    }
    .validate()
    .map_err(|error| Error::Raft(error.to_string()))
}

#[cfg(test)]
mod tests;
