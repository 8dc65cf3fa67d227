//! The agent's loop: one task that holds all of its state and waits for no disk and no network.
//!
//! Owns: which session there is, what is said in it, which runs go on. Does not own: the rules (crate `lease`): this file
//! carries out their effects.

mod pods;
mod registration;

use nix::fcntl::{Flock, FlockArg};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use stint_api::{Incarnation, PodUid, Revision};
use stint_lease::{AgentLease, BootInstant, DesiredPod, HeldPods, LeaseState};
use stint_proto::auth::{BearerInterceptor, BearerToken};
use stint_proto::v1;
use stint_runtime::{LogStore, ProcessRuntime, ProcessRuntimeOptions, Runtime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::config::AgentConfig;
use crate::containers::{Run, RunEvent};
use crate::error::Error;
use crate::journal::{Change, Journal, Memory};
use crate::journal_thread::JournalWriter;
use crate::limits;
use crate::logs::LogServer;
use crate::outbox::Outbox;
use crate::session::{self, SessionEvent};

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    task: JoinHandle<Result<(), Error>>,
    stop: watch::Sender<bool>,
}

impl Agent {
    /// Locks the data folder, reads the journal and begins to look for the servers. Needs a tokio runtime.
    ///
    /// # Errors
    /// If an argument, the folder, the journal or the runtime can't be used.
    pub async fn start(config: AgentConfig) -> Result<Agent, Error> {
        config.check()?;
        let lock = lock_folder(&config.data_dir)?;
        let journal = Journal::open(&config.data_dir)?;
        let store = LogStore::open(&config.data_dir.join("logs"))?;
        let options =
            ProcessRuntimeOptions { logs: store.clone(), shim_program: None, force_degraded: false };
        let runtime = ProcessRuntime::new(options).await?;
        let token = config.token.as_deref().map(BearerToken::new).transpose();
        let token = token.map_err(|error| Error::Argument {
            argument: "--token-file",
            value: "…".to_owned(),
            problem: error.to_string(),
        })?;
        let (stop, stopped) = watch::channel(false);
        let worker = Worker::new(config, BearerInterceptor::new(token), journal, store, Arc::new(runtime))?;
        let task = tokio::spawn(async move {
            let outcome = worker.run(stopped).await;
            drop(lock);
            outcome
        });
        Ok(Agent { task, stop })
    }

    /// Waits until the agent ends by itself, which it does only for an error.
    ///
    /// # Errors
    /// What ended it.
    pub async fn wait(&mut self) -> Result<(), Error> {
        (&mut self.task).await.unwrap_or(Ok(()))
    }

    /// Kills all Pods, says the last reports, and ends.
    ///
    /// # Errors
    /// What ended it before.
    pub async fn stop(mut self) -> Result<(), Error> {
        self.stop.send_replace(true);
        self.wait().await
    }
}

/// Events of the worker's own tasks.
#[derive(Debug)]
enum Internal {
    /// The number of a registration is in the journal.
    RegistrationDurable,
    /// The delay before a run is over.
    BeginDue { pod: PodUid, restart_count: u32, incarnation: Incarnation },
    /// The Pod is in the journal: the run may be started.
    StartDurable { pod: PodUid, restart_count: u32, incarnation: Incarnation },
}

/// A Pod that is held or whose last run still has to end.
#[derive(Debug)]
struct PodState {
    /// What to run; not there for a Pod that was stopped before it was known.
    to_run: Option<v1::PodToRun>,
    run: Option<(u32, Run)>,
    /// The run that was begun is not to be started any more.
    start_cancelled: bool,
    /// It is killed because the lease ran out (A12).
    lease_expired: bool,
}

/// The present stream.
struct Session {
    number: u64,
    address: String,
    outgoing: mpsc::Sender<v1::AgentMessage>,
    reader: JoinHandle<()>,
    logs: LogServer,
    /// What the lease of the registration counts from; none for Resume.
    registration_counts_from: Option<BootInstant>,
    /// The server took us.
    is_established: bool,
    last_heard_at: BootInstant,
    heartbeats: u64,
    orders_taken: u32,
    set_parts: Vec<DesiredPod>,
}

struct Worker {
    config: AgentConfig,
    interceptor: BearerInterceptor,
    boot_id: String,
    journal: JournalWriter,
    journal_failed: oneshot::Receiver<Error>,
    memory: Memory,
    store: LogStore,
    runtime: Arc<dyn Runtime>,
    lease: AgentLease,
    held: HeldPods,
    pods: BTreeMap<PodUid, PodState>,
    outbox: Outbox,
    session: Option<Session>,
    sessions: u64,
    /// Where to connect next, best first.
    addresses: VecDeque<String>,
    next_attempt_at: BootInstant,
    /// A registration's number is on its way to the disk.
    is_registering: bool,
    /// Its number is there: it may be sent.
    registration_ready: bool,
    /// The last thing that went wrong, so that the same is said once.
    last_problem: String,
    runs: (mpsc::UnboundedSender<RunEvent>, mpsc::UnboundedReceiver<RunEvent>),
    internal: (mpsc::UnboundedSender<Internal>, mpsc::UnboundedReceiver<Internal>),
    stream: (mpsc::Sender<SessionEvent>, mpsc::Receiver<SessionEvent>),
    is_stopping: bool,
}

impl Worker {
    fn new(
        config: AgentConfig,
        interceptor: BearerInterceptor,
        journal: Journal,
        store: LogStore,
        runtime: Arc<dyn Runtime>,
    ) -> Result<Worker, Error> {
        let memory = journal.memory().clone();
        let failed = |source| Error::Journal { path: config.data_dir.join("journal"), source };
        let (journal, journal_failed) = JournalWriter::start(journal).map_err(failed)?;
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let mut outbox = Outbox::default();
        memory.unacknowledged.values().for_each(|report| outbox.push(report.clone()));
        Ok(Worker {
            addresses: config.servers.iter().cloned().collect(),
            config,
            interceptor,
            boot_id: boot_id.trim().to_owned(),
            journal,
            journal_failed,
            memory,
            store,
            runtime,
            lease: AgentLease::default(),
            held: HeldPods::default(),
            pods: BTreeMap::new(),
            outbox,
            session: None,
            sessions: 0,
            next_attempt_at: BootInstant::default(),
            is_registering: false,
            registration_ready: false,
            last_problem: String::new(),
            runs: mpsc::unbounded_channel(),
            internal: mpsc::unbounded_channel(),
            stream: mpsc::channel(limits::OUTGOING_MESSAGES_MAX),
            is_stopping: false,
        })
    }

    async fn run(mut self, mut stopped: watch::Receiver<bool>) -> Result<(), Error> {
        self.remove_unknown_folders().await;
        loop {
            self.advance()?;
            let wakeup = self.lease.next_wakeup(now(), self.is_established());
            let sleep = wakeup.unwrap_or(limits::SLEEP_MAX).min(limits::SLEEP_MAX);
            tokio::select! {
                biased;
                failure = &mut self.journal_failed => {
                    // Dropped without an error only when the thread panicked.
                    self.kill_all(false);
                    let source = std::io::Error::other("the journal's thread has ended");
                    let path = self.config.data_dir.join("journal");
                    return Err(failure.unwrap_or(Error::Journal { path, source }));
                }
                () = asked_to_stop(&mut stopped) => {
                    self.stop().await;
                    return Ok(());
                }
                Some(event) = self.runs.1.recv() => self.run_event(event),
                Some(event) = self.internal.1.recv() => self.internal_event(event),
                Some(event) = self.stream.1.recv() => self.session_event(event)?,
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// What time makes due: the end of the lease, heartbeats, a new session, reports.
    fn advance(&mut self) -> Result<(), Error> {
        let now = now();
        if self.lease.advance(now) {
            tracing::warn!(node = %self.config.name, "the lease ran out: killing all pods");
            self.kill_all(true);
            // A registration comes first in a session: the next one is opened once everything is dead (A4).
            self.close_session("the lease ran out", Duration::ZERO);
        }
        self.close_silent_session(now);
        if self.session.is_none() && now >= self.next_attempt_at {
            self.open_session(now);
        }
        let is_due = self.lease.is_heartbeat_due(now);
        if is_due && self.is_established() {
            self.heartbeat(now);
        }
        self.send_reports();
        Ok(())
    }

    fn is_established(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_established)
    }

    fn heartbeat(&mut self, now: BootInstant) {
        let LeaseState::Held { incarnation, .. } = self.lease.state() else { return };
        let seq = self.lease.heartbeat_sent(now);
        self.send(v1::agent_message::Message::Heartbeat(v1::Heartbeat { incarnation: incarnation.0, seq }));
        let Some(session) = &mut self.session else { return };
        session.heartbeats += 1;
        if session.heartbeats % limits::HEARTBEATS_PER_DESIRED_SET == 0 {
            self.ask_for_desired_set(incarnation);
        }
    }

    fn ask_for_desired_set(&mut self, incarnation: Incarnation) {
        let ended: BTreeSet<PodUid> =
            self.memory.started.iter().filter(|pod| !self.pods.contains_key(pod)).copied().collect();
        let asked = self.held.ended_to_ask(&ended);
        let held_pods = v1::HeldPods {
            incarnation: incarnation.0,
            unfinished_pods: self.held.uids().map(stint_proto::uid::uid_to_wire).collect(),
            ended_pods: asked.into_iter().map(stint_proto::uid::uid_to_wire).collect(),
        };
        self.send(v1::agent_message::Message::HeldPods(held_pods));
    }

    fn send_reports(&mut self) {
        let LeaseState::Held { incarnation, .. } = self.lease.state() else { return };
        while self.is_established() {
            let Some(reports) = self.outbox.next_message() else { return };
            self.send(v1::agent_message::Message::Reports(v1::Reports {
                incarnation: incarnation.0,
                reports,
            }));
        }
    }

    /// Says something in the present session. One that can't take it any more is given up.
    fn send(&mut self, message: v1::agent_message::Message) {
        let Some(session) = &self.session else { return };
        let message = v1::AgentMessage { message: Some(message) };
        if session.outgoing.try_send(message).is_err() {
            self.close_session("the server does not read", Duration::ZERO);
        }
    }

    fn close_silent_session(&mut self, now: BootInstant) {
        let Some(session) = &self.session else { return };
        let patience = match self.lease.numbers() {
            Some(numbers) if session.is_established => numbers.heartbeat_interval * 2,
            _ => limits::CONNECT_TIMEOUT + limits::ANSWER_TIMEOUT,
        };
        if now.since(session.last_heard_at) > patience {
            self.close_session("the server is silent", Duration::ZERO);
        }
    }

    fn close_session(&mut self, reason: &str, pause: Duration) {
        let Some(session) = self.session.take() else { return };
        session.reader.abort();
        self.outbox.session_lost();
        if self.addresses.front() == Some(&session.address) {
            // Another server may know better, or be up.
            self.addresses.rotate_left(1);
        }
        self.next_attempt_at = now().plus(pause.max(limits::RECONNECT_PAUSE));
        if self.last_problem != reason {
            self.last_problem = reason.to_owned();
            tracing::info!(node = %self.config.name, server = %session.address, reason, "the session has ended");
        }
    }

    fn session_event(&mut self, event: SessionEvent) -> Result<(), Error> {
        let current = self.session.as_ref().map(|session| session.number);
        match event {
            SessionEvent::Closed(number, reason) if current == Some(number) => {
                self.close_session(&reason, Duration::ZERO);
            }
            SessionEvent::Message(number, message) if current == Some(number) => {
                if let Some(session) = &mut self.session {
                    session.last_heard_at = now();
                }
                if let Some(message) = message.message {
                    self.message(message)?;
                }
            }
            // Of a session that was given up.
            SessionEvent::Closed(..) | SessionEvent::Message(..) => {}
        }
        Ok(())
    }

    fn message(&mut self, message: v1::server_message::Message) -> Result<(), Error> {
        use v1::server_message::Message;
        match message {
            Message::Registered(registered) => self.registered(&registered),
            Message::Refused(refused) => return self.refused(&refused),
            Message::NotLeader(not_leader) => self.not_leader(&not_leader.leader_address),
            Message::HeartbeatAnswer(answer) => self.lease.answered(answer.seq, now()),
            Message::DesiredSet(set) => self.desired_set(set),
            Message::Order(order) => self.order(order),
            Message::ReportAck(acknowledged) => self.reports_acknowledged(&acknowledged),
            Message::LogRequest(request) => self.log_request(&request),
            Message::LogCredit(credit) => {
                if let Some(session) = &mut self.session {
                    session.logs.credit(&credit);
                }
            }
            Message::LogCancel(cancel) => {
                if let Some(session) = &mut self.session {
                    session.logs.cancel(cancel.request_id);
                }
            }
        }
        Ok(())
    }

    fn not_leader(&mut self, leader_address: &str) {
        if leader_address.is_empty() {
            self.close_session("the server does not lead, and knows no leader", Duration::ZERO);
            return;
        }
        self.close_session("another server leads", Duration::ZERO);
        self.addresses.retain(|address| address != leader_address);
        self.addresses.push_front(leader_address.to_owned());
        self.next_attempt_at = now();
        self.addresses.truncate(2 * limits::SERVER_ADDRESSES_MAX);
    }

    fn reports_acknowledged(&mut self, acknowledged: &v1::ReportAck) {
        let mut changes = Vec::new();
        for seq in acknowledged.counted.iter().chain(&acknowledged.ignored) {
            let Some(report) = self.outbox.acknowledged(*seq) else { continue };
            let uid = PodUid(crate::journal::number_of(&report.pod_uid));
            if self.memory.unacknowledged.get(&uid) == Some(&report) {
                changes.push(Change::Acknowledged(report.pod_uid.to_vec()));
            }
        }
        self.remember(changes);
    }

    /// Writes changes to the journal some time soon, and to the memory now.
    fn remember(&mut self, changes: Vec<Change>) {
        if !changes.is_empty() {
            changes.iter().for_each(|change| self.memory.apply(change));
            self.journal.write(changes);
        }
    }

    /// Writes changes to the journal; gives `then` back as an event once they are durable.
    fn remember_durably(&mut self, changes: Vec<Change>, then: Internal) {
        changes.iter().for_each(|change| self.memory.apply(change));
        let durable = self.journal.write_durably(changes);
        let internal = self.internal.0.clone();
        tokio::spawn(async move {
            if durable.await.is_ok() {
                // The agent may have stopped.
                drop(internal.send(then));
            }
        });
    }

    fn internal_event(&mut self, event: Internal) {
        match event {
            Internal::RegistrationDurable => {
                self.is_registering = false;
                self.registration_ready = true;
            }
            Internal::BeginDue { pod, restart_count, incarnation } => {
                self.begin_due(pod, restart_count, incarnation)
            }
            Internal::StartDurable { pod, restart_count, incarnation } => {
                self.start_durable(pod, restart_count, incarnation);
            }
        }
    }

    /// Kills everything, says what can be said, ends. Pods that were killed are lost with the node's registration.
    async fn stop(&mut self) {
        self.is_stopping = true;
        self.kill_all(false);
        let budget = self.lease.numbers().map_or(Duration::from_secs(2), |numbers| numbers.kill_budget);
        let everything_ended = async {
            while self.pods.values().any(|pod| pod.run.is_some()) {
                let Some(event) = self.runs.1.recv().await else { return };
                self.run_event(event);
            }
        };
        if tokio::time::timeout(budget, everything_ended).await.is_err() {
            tracing::warn!(node = %self.config.name, "some processes could not be killed in time");
        }
        let last_reports = async {
            while !self.outbox.is_empty() && self.session.is_some() {
                self.send_reports();
                let Some(event) = self.stream.1.recv().await else { return };
                if self.session_event(event).is_err() {
                    return;
                }
            }
        };
        // What was not acknowledged stays in the journal.
        drop(tokio::time::timeout(limits::LAST_REPORTS_TIMEOUT, last_reports).await);
        drop(self.journal.write_durably(Vec::new()).await);
    }

    fn log_request(&mut self, request: &v1::LogRequest) {
        let uid = PodUid(crate::journal::number_of(&request.pod_uid));
        let id = self.log_of(uid, request);
        if let Some(session) = &mut self.session {
            session.logs.begin(request, id);
        }
    }

    fn pod_folder(&self, pod: PodUid) -> PathBuf {
        self.config.data_dir.join("pods").join(pod.to_string())
    }

    fn revision_of_set(set: &v1::DesiredSet) -> Revision {
        Revision(set.revision)
    }
}

/// Resolves when the agent is asked to stop, or its handle is gone.
async fn asked_to_stop(stopped: &mut watch::Receiver<bool>) {
    drop(stopped.wait_for(|stop| *stop).await);
}

/// CLOCK_BOOTTIME: the clock of leases, which goes on while the host sleeps.
pub fn now() -> BootInstant {
    match nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME) {
        Ok(time) => BootInstant(time.into()),
        // Linux has it since 2.6.39. Without a clock nothing may run: the end of time is after every deadline.
        Err(_) => BootInstant(Duration::MAX),
    }
}

fn lock_folder(folder: &std::path::Path) -> Result<Flock<File>, Error> {
    use std::os::unix::fs::DirBuilderExt;
    let unusable = |problem: String| Error::Folder { path: folder.to_owned(), problem };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        unusable(format!("can't be made ({error}): give a folder that this user may write to"))
    })?;
    let file = File::create(folder.join("lock"))
        .map_err(|error| unusable(format!("can't be written to ({error})")))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| unusable("is used by another agent: give each agent a folder of its own".to_owned()))
}
