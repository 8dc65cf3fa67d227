//! What an agent tells of itself: figures for Prometheus, and whether it is alive and ready.
//!
//! Owns: the names of the figures, what is counted all the time. Does not own: the port (`stint-daemon`); what the worker knows is
//! asked of it, so that a worker that is stuck is seen. Each figure is described in deploy/METRICS.md.

use nix::sys::statvfs::Statvfs;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use stint_daemon::endpoint::{Answer, Observed};
use stint_daemon::figures::{DiskGauges, Figures, GaugeIfKnown, doubling, gauge_value};
use tokio::sync::{mpsc, oneshot};

use crate::folder_size::FolderSize;

/// One label with one of a few words.
type Word = [(&'static str, &'static str); 1];
/// How the runs of containers have ended.
const OUTCOMES: [&str; 5] = ["Succeeded", "Failed", "StartFailed", "LeaseExpired", "NotStarted"];

/// What the worker counts as it goes. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct WorkerCounters {
    pub starts: Counter,
    pub start_seconds: Histogram,
    pub run_ends: Family<Word, Counter>,
    pub lease_renewals: Counter,
    pub lease_losses: Counter,
    pub registrations: Counter,
    pub sessions: Counter,
}

impl Default for WorkerCounters {
    fn default() -> WorkerCounters {
        WorkerCounters {
            starts: Counter::default(),
            // From a millisecond to half an hour: images are pulled.
            start_seconds: doubling(0.001, 21),
            run_ends: Family::default(),
            lease_renewals: Counter::default(),
            lease_losses: Counter::default(),
            registrations: Counter::default(),
            sessions: Counter::default(),
        }
    }
}

impl WorkerCounters {
    /// A run has ended; one of [`OUTCOMES`].
    pub fn run_ended(&self, outcome: &'static str) {
        self.run_ends.get_or_create(&[("outcome", outcome)]).inc();
    }
}

/// What the worker knows at one moment.
#[derive(Debug, Clone, Default)]
pub struct WorkerFacts {
    /// Pods that are held, by phase and runtime.
    pub pods: BTreeMap<(&'static str, &'static str), usize>,
    /// Pods whose sandboxes are being removed.
    pub closing: usize,
    /// How long the lease still lasts; none: there is none.
    pub lease_left: Option<Duration>,
    /// A server has taken the session.
    pub has_session: bool,
    /// Reports that no server has acknowledged.
    pub reports_waiting: usize,
    /// What the node says of itself, by type: true if it does.
    pub conditions: BTreeMap<String, bool>,
}

/// Asks the worker.
pub type Questions = mpsc::UnboundedSender<oneshot::Sender<WorkerFacts>>;

/// See the module. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct AgentFigures(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    questions: Questions,
    data_dir: PathBuf,
    figures: Figures,
    gauges: Gauges,
    log_size: FolderSize,
}

/// What is looked up when it is asked for.
#[derive(Debug)]
struct Gauges {
    pods: Family<[(&'static str, &'static str); 2], Gauge>,
    closing: Gauge,
    lease_left: Gauge<f64, AtomicU64>,
    has_lease: Gauge,
    has_session: Gauge,
    reports_waiting: Gauge,
    conditions: Family<[(&'static str, String); 1], Gauge>,
    log_bytes: GaugeIfKnown,
    disk: DiskGauges,
}

impl AgentFigures {
    /// Of a worker that answers these questions and counts there, and of its folder.
    pub fn new(questions: Questions, counters: &WorkerCounters, data_dir: &Path) -> AgentFigures {
        let mut figures = Figures::default();
        for outcome in OUTCOMES {
            drop(counters.run_ends.get_or_create(&[("outcome", outcome)]));
        }
        figures.counter("agent_starts", "Runs of containers that were begun", &counters.starts);
        let help = "Time from the beginning of a run, once it is in the journal, to its container running";
        figures.histogram("agent_start_seconds", help, &counters.start_seconds);
        figures.counters("agent_run_ends", "Runs of containers that have ended", &counters.run_ends);
        let help = "Heartbeats that a server has answered: each renews the lease";
        figures.counter("agent_lease_renewals", help, &counters.lease_renewals);
        let help = "Leases that have run out: all Pods were killed";
        figures.counter("agent_lease_losses", help, &counters.lease_losses);
        figures.counter(
            "agent_registrations",
            "Registrations that a server has taken",
            &counters.registrations,
        );
        figures.counter(
            "agent_sessions_opened",
            "Sessions that were opened towards servers",
            &counters.sessions,
        );
        let gauges = Gauges::new(&mut figures);
        let log_size = FolderSize::of(data_dir.join("logs"));
        let data_dir = data_dir.to_owned();
        AgentFigures(Arc::new(Inner { questions, data_dir, figures, gauges, log_size }))
    }

    /// None: the worker has ended.
    async fn facts(&self) -> Option<WorkerFacts> {
        let (question, answer) = oneshot::channel();
        self.0.questions.send(question).ok()?;
        answer.await.ok()
    }
}

impl Observed for AgentFigures {
    fn alive(&self) -> Answer<'_, Result<(), String>> {
        Box::pin(async { self.facts().await.map(|_| ()).ok_or_else(|| "the agent has ended".to_owned()) })
    }

    fn ready(&self) -> Answer<'_, Result<(), String>> {
        Box::pin(async {
            let facts = self.facts().await.ok_or_else(|| "the agent has ended".to_owned())?;
            match (facts.lease_left, facts.has_session) {
                (None, _) => Err("it has no lease: no server has taken its registration".to_owned()),
                (Some(_), false) => Err("it has no session with a server".to_owned()),
                (Some(_), true) => Ok(()),
            }
        })
    }

    fn metrics(&self) -> Answer<'_, String> {
        Box::pin(async {
            let log_bytes = self.0.log_size.bytes().await;
            let facts = self.facts().await;
            let agent = Arc::clone(&self.0);
            // It looks at the disk.
            let read = tokio::task::spawn_blocking(move || {
                let disk = nix::sys::statvfs::statvfs(&agent.data_dir).ok();
                agent.figures.encode(|| agent.gauges.set(facts.as_ref(), log_bytes, disk.as_ref()))
            });
            read.await.unwrap_or_default()
        })
    }
}

impl Gauges {
    fn new(figures: &mut Figures) -> Gauges {
        let lease_left = Gauge::default();
        let help = "How long the lease still lasts; 0 without one";
        figures.registry().register("agent_lease_left_seconds", help, lease_left.clone());
        Gauges {
            pods: figures.gauges("agent_pods", "Pods that the agent holds, by phase and runtime"),
            closing: figures.gauge("agent_pods_closing", "Ended Pods whose surroundings are being removed"),
            lease_left,
            has_lease: figures.gauge("agent_has_lease", "1 while the agent has a lease"),
            has_session: figures.gauge("agent_has_session", "1 while a server has taken the agent's session"),
            reports_waiting: figures
                .gauge("agent_reports_waiting", "Reports that no server has acknowledged"),
            conditions: figures.gauges("agent_condition", "1 if the node says so of itself"),
            log_bytes: figures
                .gauge_if_known("agent_log_bytes", "Bytes of the logs of containers on this node"),
            disk: DiskGauges::new(figures),
        }
    }

    /// What could not be looked at stays as it was.
    fn set(&self, facts: Option<&WorkerFacts>, log_bytes: Option<u64>, disk: Option<&Statvfs>) {
        if let Some(facts) = facts {
            self.set_facts(facts);
        }
        if let Some(bytes) = log_bytes {
            self.log_bytes.get_or_create(&[]).set(gauge_value(bytes));
        }
        if let Some(disk) = disk {
            let bytes = |blocks: u64| blocks.saturating_mul(disk.fragment_size());
            self.disk.set(bytes(disk.blocks()), bytes(disk.blocks_available()));
        }
    }

    fn set_facts(&self, facts: &WorkerFacts) {
        self.pods.clear();
        for ((phase, runtime), count) in &facts.pods {
            self.pods.get_or_create(&[("phase", phase), ("runtime", runtime)]).set(gauge_value(*count));
        }
        self.closing.set(gauge_value(facts.closing));
        self.lease_left.set(facts.lease_left.unwrap_or_default().as_secs_f64());
        self.has_lease.set(i64::from(facts.lease_left.is_some()));
        self.has_session.set(i64::from(facts.has_session));
        self.reports_waiting.set(gauge_value(facts.reports_waiting));
        self.conditions.clear();
        for (condition, holds) in &facts.conditions {
            self.conditions.get_or_create(&[("type", condition.clone())]).set(i64::from(*holds));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_worker_is_asked_and_one_that_has_ended_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("logs/pod")).unwrap();
        std::fs::write(folder.path().join("logs/pod/0.log"), "12345").unwrap();
        let (questions, mut asked) = mpsc::unbounded_channel::<oneshot::Sender<WorkerFacts>>();
        let counters = WorkerCounters::default();
        counters.run_ended("Failed");
        let agent = AgentFigures::new(questions, &counters, folder.path());
        let worker = tokio::spawn(async move {
            let mut facts = WorkerFacts::default();
            for turn in 0..4 {
                let Some(answer) = asked.recv().await else { return };
                drop(answer.send(facts.clone()));
                match turn {
                    0 => facts.lease_left = Some(Duration::from_millis(1500)),
                    1 => facts.has_session = true,
                    _ => drop(facts.pods.insert(("Running", "process"), 2)),
                }
            }
        });
        assert!(agent.ready().await.unwrap_err().contains("no lease"));
        assert!(agent.ready().await.unwrap_err().contains("no session"));
        assert!(agent.ready().await.is_ok());
        let text = agent.metrics().await;
        for line in [
            "stint_agent_pods{phase=\"Running\",runtime=\"process\"} 2",
            "stint_agent_lease_left_seconds 1.5",
            "stint_agent_run_ends_total{outcome=\"Failed\"} 1",
            "stint_agent_run_ends_total{outcome=\"Succeeded\"} 0",
            "stint_agent_log_bytes 5",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        worker.await.unwrap();
        assert!(agent.alive().await.is_err());
    }
}
