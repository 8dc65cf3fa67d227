//! What a server tells of itself: figures for Prometheus, and whether it is alive and ready.
//!
//! Owns: the names of the figures, looking up what is not counted all the time. Does not own: the port (`stint-daemon`), what
//! each part counts (there, in its own figures). Each figure is described in deploy/METRICS.md.

mod applied;
mod requests;

pub use applied::AppliedFigures;
pub use requests::RequestFigures;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::Duration;
use stint_core::StateCounts;
use stint_daemon::endpoint::{Answer, Observed};
use stint_daemon::figures::{DiskGauges, Figures, gauge_value};
use stint_raft::{MemberRole, RaftNode, RaftProgress, RaftStatus, StorageFigures};

use crate::leases::Leases;
use crate::limits::READY_APPLY_MS;
use crate::proposer::Proposer;
use crate::sessions::Sessions;
use crate::watching::Watches;

/// One label with one of a few words.
type Word = [(&'static str, &'static str); 1];
/// Which member.
type ByMember = [(&'static str, String); 1];

/// The parts that are looked at.
pub struct Parts {
    /// Replication.
    pub raft: Arc<RaftNode>,
    /// Writes.
    pub proposer: Proposer,
    /// Leases.
    pub leases: Leases,
    /// Sessions of agents.
    pub sessions: Arc<Sessions>,
    /// Watches.
    pub watches: Watches,
    /// What was applied.
    pub applied: Arc<AppliedFigures>,
    /// Requests.
    pub requests: RequestFigures,
}

/// See the module. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct ServerFigures(Arc<Inner>);

struct Inner {
    raft: Arc<RaftNode>,
    proposer: Proposer,
    sessions: Arc<Sessions>,
    watches: Watches,
    figures: Figures,
    gauges: Gauges,
}

/// What is looked up when it is asked for.
struct Gauges {
    term: Gauge,
    is_leader: Gauge,
    has_leader: Gauge,
    members: Family<Word, Gauge>,
    alarms: Gauge,
    last_log_index: Gauge,
    committed_index: Gauge,
    applied_index: Gauge,
    snapshot_index: Gauge,
    purged_index: Gauge,
    log_bytes: Gauge,
    lag: Family<ByMember, Gauge>,
    reachable: Family<ByMember, Gauge>,
    revision: Gauge,
    proposer_waiting: Gauge,
    sessions: Gauge,
    watches: Gauge,
    jobs: Family<Word, Gauge>,
    pods: Family<Word, Gauge>,
    pods_waiting: Gauge,
    nodes: Family<Word, Gauge>,
    events: Gauge,
    storage: StorageGauges,
}

/// What the storage tells of itself.
struct StorageGauges {
    table_bytes: Gauge,
    write_ahead_log_bytes: Gauge,
    memory_bytes: Gauge,
    cache_bytes: Gauge,
    unmerged_files: Gauge,
    pending_compaction_bytes: Gauge,
    compactions: Gauge,
    flushes: Gauge,
    writes_stopped: Gauge,
    delayed_write_rate: Gauge,
    disk: DiskGauges,
}

impl ServerFigures {
    /// Of these parts.
    pub fn new(parts: Parts) -> ServerFigures {
        let mut figures = Figures::default();
        let gauges = Gauges::new(&mut figures);
        parts.applied.register(&mut figures);
        parts.proposer.figures().register(&mut figures);
        parts.leases.figures().register(&mut figures);
        let help = "Time of writes that are on the disk when they return: log entries and votes";
        let sync_seconds = parts.raft.storage_figures().sync_seconds;
        figures.histogram("storage_sync_seconds", help, &sync_seconds);
        let registry: &mut Registry = figures.registry();
        registry.register_collector(Box::new(parts.requests));
        ServerFigures(Arc::new(Inner {
            raft: parts.raft,
            proposer: parts.proposer,
            sessions: parts.sessions,
            watches: parts.watches,
            figures,
            gauges,
        }))
    }
}

impl Inner {
    /// Looks everything up, at the disk too, and says it.
    fn read(&self) -> String {
        let storage = self.raft.storage_figures();
        let (counts, revision) = self.raft.with_state(|state| (state.counts(), state.revision()));
        let (status, progress) = (self.raft.status(), self.raft.progress());
        let is_leader = self.raft.leadership().borrow().is_leader;
        let waiting = self.proposer.waiting();
        let (sessions, watches) = (self.sessions.len(), self.watches.open());
        self.figures.encode(|| {
            self.gauges.of_raft(&status, &progress, is_leader);
            self.gauges.of_state(&counts);
            self.gauges.revision.set(gauge_value(revision.0));
            self.gauges.proposer_waiting.set(gauge_value(waiting));
            self.gauges.sessions.set(gauge_value(sessions));
            self.gauges.watches.set(gauge_value(watches));
            self.gauges.storage.set(&storage);
        })
    }
}

impl Observed for ServerFigures {
    fn alive(&self) -> Answer<'_, Result<(), String>> {
        // Whoever holds the state for ever holds this up too, and whoever asks gives up then.
        let raft = Arc::clone(&self.0.raft);
        Box::pin(async move {
            let looked = tokio::task::spawn_blocking(move || raft.with_state(|state| state.revision()));
            looked.await.map(|_| ()).map_err(|failed| failed.to_string())
        })
    }

    fn ready(&self) -> Answer<'_, Result<(), String>> {
        let raft = &self.0.raft;
        Box::pin(async move {
            if raft.status().leader.is_none() {
                return Err("no leader is known".to_owned());
            }
            let leadership = raft.leadership().borrow().clone();
            if leadership.is_leader && !leadership.established {
                return Err("it leads, and has not applied what was committed before".to_owned());
            }
            let committed = raft.progress().committed_index;
            let patience = Duration::from_millis(READY_APPLY_MS);
            let applied = raft.wait_applied(committed, patience).await;
            applied.map_err(|_| format!("log entry {committed} is committed, and not applied here yet"))
        })
    }

    fn metrics(&self) -> Answer<'_, String> {
        let server = Arc::clone(&self.0);
        Box::pin(async move { tokio::task::spawn_blocking(move || server.read()).await.unwrap_or_default() })
    }
}

impl Gauges {
    fn new(figures: &mut Figures) -> Gauges {
        Gauges {
            term: figures.gauge("raft_term", "Term of Raft"),
            is_leader: figures.gauge("raft_is_leader", "1 if this server leads"),
            has_leader: figures.gauge("raft_has_leader", "1 if this server knows a leader that is alive"),
            members: figures.gauges("raft_members", "Members of the cluster, by role"),
            alarms: figures.gauge(
                "raft_alarms",
                "Alarms of this server that stint status shows, but for SettingWithoutEffect",
            ),
            last_log_index: figures.gauge("raft_last_log_index", "Last entry in the log of this server"),
            committed_index: figures
                .gauge("raft_committed_index", "Last entry that this server knows to be committed"),
            applied_index: figures.gauge("raft_applied_index", "Last entry that this server has applied"),
            snapshot_index: figures
                .gauge("raft_snapshot_index", "Last entry of the newest snapshot of this server"),
            purged_index: figures
                .gauge("raft_purged_index", "Last entry that was cut off the log of this server"),
            log_bytes: figures.gauge("raft_log_bytes", "Bytes of the entries in the log of this server"),
            lag: figures.gauges(
                "raft_member_lag_entries",
                "On the leader: entries by which a member's log is behind",
            ),
            reachable: figures
                .gauges("raft_member_reachable", "On the leader: 1 if a member has answered lately"),
            revision: figures.gauge("revision", "Revision of the last row change"),
            proposer_waiting: figures
                .gauge("proposer_waiting_commands", "Commands that wait for a place in a log entry"),
            sessions: figures.gauge("agent_sessions", "Agents that have a session with this server"),
            watches: figures.gauge("watches", "Watches that are open on this server"),
            jobs: figures.gauges("jobs", "Jobs, by whether they are finished"),
            pods: figures.gauges("pods", "Unfinished Pods, by phase"),
            pods_waiting: figures.gauge("pods_waiting", "Pods that no node has been found for"),
            nodes: figures.gauges("nodes", "Nodes, by whether their lease is live"),
            events: figures.gauge("events", "Events that are kept"),
            storage: StorageGauges::new(figures),
        }
    }

    fn of_raft(&self, status: &RaftStatus, progress: &RaftProgress, is_leader: bool) {
        self.term.set(gauge_value(status.term));
        self.is_leader.set(i64::from(is_leader));
        self.has_leader.set(i64::from(status.leader.is_some()));
        self.alarms.set(gauge_value(status.alarms.len()));
        for (name, role) in [("voter", MemberRole::Voter), ("learner", MemberRole::Learner)] {
            let members = status.members.iter().filter(|member| member.role == role).count();
            self.members.get_or_create(&[("role", name)]).set(gauge_value(members));
        }
        self.last_log_index.set(gauge_value(progress.last_log_index));
        self.committed_index.set(gauge_value(progress.committed_index));
        self.applied_index.set(gauge_value(progress.applied_index));
        self.snapshot_index.set(gauge_value(progress.snapshot_index));
        self.purged_index.set(gauge_value(progress.purged_index));
        self.log_bytes.set(gauge_value(progress.log_bytes));
        // Those of members that are gone, or of a time when this server led, are no more.
        self.lag.clear();
        self.reachable.clear();
        for member in &status.members {
            let label = [("member", member.name.clone())];
            if let Some(lag) = member.lag {
                self.lag.get_or_create(&label).set(gauge_value(lag));
            }
            if let Some(reachable) = member.reachable {
                self.reachable.get_or_create(&label).set(i64::from(reachable));
            }
        }
    }

    fn of_state(&self, counts: &StateCounts) {
        let set = |family: &Family<Word, Gauge>, label: &'static str, word: &'static str, count: usize| {
            family.get_or_create(&[(label, word)]).set(gauge_value(count));
        };
        set(&self.jobs, "state", "unfinished", counts.unfinished_jobs);
        set(&self.jobs, "state", "finished", counts.jobs.saturating_sub(counts.unfinished_jobs));
        set(&self.pods, "phase", "Pending", counts.pods_pending);
        set(&self.pods, "phase", "Running", counts.pods_running);
        self.pods_waiting.set(gauge_value(counts.pods_unbound));
        set(&self.nodes, "lease", "live", counts.nodes_live);
        set(&self.nodes, "lease", "over", counts.nodes.saturating_sub(counts.nodes_live));
        self.events.set(gauge_value(counts.events));
    }
}

impl StorageGauges {
    fn new(figures: &mut Figures) -> StorageGauges {
        StorageGauges {
            table_bytes: figures.gauge("storage_table_bytes", "Bytes of RocksDB's table files"),
            write_ahead_log_bytes: figures.gauge("storage_wal_bytes", "Bytes of RocksDB's write-ahead log"),
            memory_bytes: figures
                .gauge("storage_memory_bytes", "Bytes of rows in memory that are in no table file yet"),
            cache_bytes: figures.gauge("storage_cache_bytes", "Bytes of table files that are kept in memory"),
            unmerged_files: figures.gauge("storage_unmerged_files", "Table files that were not merged yet"),
            pending_compaction_bytes: figures.gauge(
                "storage_pending_compaction_bytes",
                "Bytes that RocksDB has to merge, by its own estimate",
            ),
            compactions: figures.gauge("storage_compactions", "Merges of table files that are under way"),
            flushes: figures.gauge("storage_flushes", "Writes of memory to table files that are under way"),
            writes_stopped: figures
                .gauge("storage_writes_stopped", "1 while RocksDB lets nothing be written"),
            delayed_write_rate: figures.gauge(
                "storage_delayed_write_bytes_per_second",
                "What RocksDB slows writes down to; 0 if it does not",
            ),
            disk: DiskGauges::new(figures),
        }
    }

    fn set(&self, figures: &StorageFigures) {
        let engine = &figures.engine;
        self.table_bytes.set(gauge_value(engine.table_bytes));
        self.write_ahead_log_bytes.set(gauge_value(engine.write_ahead_log_bytes));
        self.memory_bytes.set(gauge_value(engine.memory_bytes));
        self.cache_bytes.set(gauge_value(engine.cache_bytes));
        self.unmerged_files.set(gauge_value(engine.unmerged_files));
        self.pending_compaction_bytes.set(gauge_value(engine.pending_compaction_bytes));
        self.compactions.set(gauge_value(engine.compactions));
        self.flushes.set(gauge_value(engine.flushes));
        self.writes_stopped.set(i64::from(engine.writes_stopped));
        self.delayed_write_rate.set(gauge_value(engine.delayed_write_rate));
        self.disk.set(engine.disk_bytes, engine.disk_free_bytes);
    }
}
