//! The agent's loop: one task that holds all of its state and waits for no disk and no network.
//!
//! Owns: which session there is, what is said in it, which runs go on. Does not own: the rules (crate `lease`): this file
//! carries out their effects.

mod pods;
mod registration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use stint_api::{Incarnation, NodeUid, PodUid, Revision};
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
use crate::leftovers::Leftovers;
use crate::limits;
use crate::logs::{KnownPod, LogServer};
use crate::outbox::Outbox;
use crate::session::{self, End, SessionEvent};

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
    pub async fn start(mut config: AgentConfig) -> Result<Agent, Error> {
        config.check()?;
        // Shims and their Pods have working folders of their own: a relative path would mean another place there.
        config.data_dir = std::path::absolute(&config.data_dir).map_err(|error| Error::Folder {
            path: config.data_dir.clone(),
            problem: format!("has no absolute path ({error}): give one"),
        })?;
        let lock = lock_folder(&config.data_dir)?;
        // Pods are given absolute paths, and start elsewhere than the agent did.
        config.data_dir = std::fs::canonicalize(&config.data_dir).map_err(|error| Error::Folder {
            path: config.data_dir.clone(),
            problem: format!("can't be found ({error})"),
        })?;
        let journal = Journal::open(&config.data_dir)?;
        let sole = claim_node_uid(&config.data_dir, journal.memory().node_uid)?;
        let store = LogStore::open(&config.data_dir.join("logs"))?;
        let options = ProcessRuntimeOptions {
            logs: store.clone(),
            shims: config.data_dir.join("shims"),
            shim_program: None,
            force_degraded: false,
        };
        let runtime = ProcessRuntime::new(options).await?;
        end_what_was_left(&runtime).await?;
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
            drop((lock, sole));
            outcome
        });
        Ok(Agent { task, stop })
    }

    /// Waits until the agent ends by itself, which it does only for an error.
    ///
    /// # Errors
    /// What ended it.
    pub async fn wait(&mut self) -> Result<(), Error> {
        match (&mut self.task).await {
            Ok(outcome) => outcome,
            Err(failure) => Err(Error::Panicked(failure.to_string())),
        }
    }

    /// Ends all Pods, within their grace and a bound, hands over what they were to the servers, and ends.
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

impl PodState {
    fn container_name(&self) -> &str {
        let spec = self.to_run.as_ref().and_then(|to_run| to_run.spec.as_ref());
        spec.and_then(|spec| spec.containers.first()).map_or("", |container| container.name.as_str())
    }
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
    leftovers: Leftovers,
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
    /// Servers in a row that have only said that another one leads.
    redirects: u32,
    /// Servers that could not be connected to when that was tried last.
    unreachable: BTreeSet<String>,
    /// The next server is to relay to the leader, which can't be reached from here (A3).
    relay_next: bool,
    /// The servers are of another cluster: everything of the old one is forgotten once its Pods are dead (A2).
    is_to_forget: bool,
    /// A registration's number is on its way to the disk.
    is_registering: bool,
    /// Its number is there: it may be sent.
    registration_ready: bool,
    /// What went wrong lately, so that the same is said once in a while only.
    problems: Problems,
    runs: (mpsc::UnboundedSender<RunEvent>, mpsc::UnboundedReceiver<RunEvent>),
    internal: (mpsc::UnboundedSender<Internal>, mpsc::UnboundedReceiver<Internal>),
    stream: (mpsc::Sender<SessionEvent>, mpsc::Receiver<SessionEvent>),
    is_stopping: bool,
    /// When the runtime kills everything, if this process can't.
    runtime_deadline: Option<Duration>,
}

/// What has been said of late: with several servers that can't be used each has a problem of its own, again and again.
#[derive(Debug, Default)]
struct Problems {
    said: BTreeSet<String>,
    since: BootInstant,
}

impl Problems {
    /// True if this was not said since the last registration, or for a while.
    fn is_news(&mut self, problem: &str, now: BootInstant) -> bool {
        if now.since(self.since) >= limits::PROBLEM_REPEAT || self.said.len() >= limits::PROBLEMS_MAX {
            self.said.clear();
            self.since = now;
        }
        self.said.insert(problem.to_owned())
    }

    fn clear(&mut self) {
        self.said.clear();
    }
}

/// What the loop wakes up for.
enum Event {
    Run(RunEvent),
    Internal(Internal),
    Session(SessionEvent),
    Time,
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
            leftovers: Leftovers::start(&config.data_dir, store.clone()),
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
            redirects: 0,
            unreachable: BTreeSet::new(),
            relay_next: false,
            is_to_forget: false,
            is_registering: false,
            registration_ready: false,
            problems: Problems::default(),
            runs: mpsc::unbounded_channel(),
            internal: mpsc::unbounded_channel(),
            stream: mpsc::channel(limits::INCOMING_MESSAGES_MAX),
            is_stopping: false,
            runtime_deadline: None,
        })
    }

    async fn run(mut self, mut stopped: watch::Receiver<bool>) -> Result<(), Error> {
        // Nothing runs now, and a crash may have come before a removal.
        self.leftovers.nothing_runs(|pod| self.memory.started.contains(&pod));
        let outcome = loop {
            tokio::select! {
                biased;
                () = asked_to_stop(&mut stopped) => break self.stop().await,
                outcome = self.turn() => if outcome.is_err() { break outcome },
            }
        };
        if outcome.is_err() {
            self.kill_all(false);
            self.until_all_dead().await;
        }
        outcome
    }

    /// One round of the loop: what time makes due, then the next thing that happens. May be dropped while it waits.
    async fn turn(&mut self) -> Result<(), Error> {
        self.advance();
        let wakeup = self.lease.next_wakeup(now(), self.is_established());
        let sleep = wakeup.unwrap_or(limits::SLEEP_MAX).min(limits::SLEEP_MAX);
        let event = tokio::select! {
            biased;
            failure = &mut self.journal_failed => {
                // Dropped without an error only when the thread panicked.
                let source = std::io::Error::other("the journal's thread has ended");
                let path = self.config.data_dir.join("journal");
                return Err(failure.unwrap_or(Error::Journal { path, source }));
            }
            Some(event) = self.runs.1.recv() => Event::Run(event),
            Some(event) = self.internal.1.recv() => Event::Internal(event),
            Some(event) = self.stream.1.recv() => Event::Session(event),
            () = tokio::time::sleep(sleep) => Event::Time,
        };
        // While this waited, the process may have been stopped: what happened since the lease ran out is seen in that light.
        self.expire_lease(now());
        match event {
            Event::Run(event) => self.run_event(event),
            Event::Internal(event) => self.internal_event(event),
            Event::Session(event) => self.session_event(event)?,
            Event::Time => {}
        }
        Ok(())
    }

    /// Kills everything once the lease has run out.
    fn expire_lease(&mut self, now: BootInstant) {
        if self.lease.advance(now) {
            // First of all: whoever reads what is logged may be stopped.
            self.kill_all(true);
            tracing::warn!(node = %self.config.name, "the lease ran out: all pods are killed");
            // A registration comes first in a session: the next one is opened once everything is dead (A4).
            self.close_session("the lease ran out", Duration::ZERO);
        }
    }

    /// Keeps the runtime's deadline behind the lease.
    fn move_deadline(&mut self) {
        let LeaseState::Held { deadline, .. } = self.lease.state() else { return };
        let deadline = deadline.plus(limits::FENCE_DELAY).0;
        if self.runtime_deadline != Some(deadline) {
            self.runtime_deadline = Some(deadline);
            self.runtime.set_deadline(deadline);
        }
    }

    /// What time makes due: the end of the lease, heartbeats, a new session, reports.
    fn advance(&mut self) {
        let now = now();
        self.expire_lease(now);
        self.move_deadline();
        self.close_silent_session(now);
        if self.session.is_none() && now >= self.next_attempt_at {
            self.open_session(now);
        }
        let is_due = self.lease.is_heartbeat_due(now);
        if is_due && self.is_established() {
            self.heartbeat(now);
        }
        self.send_reports();
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
        // Of those that are named here the set does not say what to run.
        let is_known = |pod: &PodUid| self.pods.get(pod).is_some_and(|state| state.to_run.is_some());
        let held_pods = v1::HeldPods {
            incarnation: incarnation.0,
            unfinished_pods: self.held.uids().filter(is_known).map(stint_proto::uid::uid_to_wire).collect(),
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
            // While a lease runs, another server may well be quicker.
            Some(numbers) if matches!(self.lease.state(), LeaseState::Held { .. }) => {
                let most = limits::CONNECT_TIMEOUT + limits::ANSWER_TIMEOUT;
                numbers.heartbeat_interval.max(limits::FIRST_ANSWER_PATIENCE_MIN).min(most)
            }
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
        if self.problems.is_news(reason, now()) {
            tracing::info!(node = %self.config.name, server = %session.address, reason, "the session has ended");
        }
    }

    fn session_event(&mut self, event: SessionEvent) -> Result<(), Error> {
        let current = self.session.as_ref().map(|session| session.number);
        match event {
            SessionEvent::Closed(number, End::Over(reason)) if current == Some(number) => {
                self.close_session(&reason, Duration::ZERO);
            }
            SessionEvent::Closed(number, End::Unreachable(reason)) if current == Some(number) => {
                let address = self.session.as_ref().map(|session| session.address.clone());
                self.unreachable.extend(address);
                self.close_session(&reason, Duration::ZERO);
            }
            SessionEvent::Message(number, message) if current == Some(number) => {
                if let Some(session) = &mut self.session {
                    session.last_heard_at = now();
                    self.unreachable.remove(&session.address);
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
        let told_by = self.session.as_ref().map(|session| session.address.clone());
        self.close_session("another server leads", Duration::ZERO);
        // A3: a leader that was just tried in vain is reached through the server that told of it. The next time it is tried
        // directly again.
        self.relay_next = self.unreachable.remove(leader_address);
        let next = if self.relay_next { told_by } else { Some(leader_address.to_owned()) };
        if let Some(next) = next {
            self.addresses.retain(|address| *address != next);
            self.addresses.push_front(next);
        }
        self.addresses.truncate(2 * limits::SERVER_ADDRESSES_MAX);
        // Servers that point at each other are asked again at the usual pace.
        self.redirects += 1;
        if self.redirects <= limits::REDIRECTS_MAX {
            self.next_attempt_at = now();
        }
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

    /// Ends everything, says what can be said, ends.
    ///
    /// Pods get their grace, within a bound, under a lease that is renewed meanwhile. Those that succeed are reported. Then
    /// the node registers once more, with nothing that runs and no room: this counts the rest as lost at once (A2), so that
    /// they run elsewhere before the lease would have run out, and nothing is bound here any more.
    async fn stop(&mut self) -> Result<(), Error> {
        self.is_stopping = true;
        self.stop_all();
        let graceful = async {
            while self.has_runs() {
                self.turn().await?;
            }
            Ok::<(), Error>(())
        };
        if let Ok(outcome) = tokio::time::timeout(limits::STOP_GRACE_MAX, graceful).await {
            outcome?;
        }
        self.kill_all(false);
        if self.until_all_dead().await && matches!(self.lease.state(), LeaseState::Held { .. }) {
            self.begin_hand_over();
            let hand_over = async {
                while !self.is_established() {
                    self.turn().await?;
                }
                Ok::<(), Error>(())
            };
            match tokio::time::timeout(limits::HAND_OVER_TIMEOUT, hand_over).await {
                Ok(outcome) => outcome?,
                // What was not acknowledged stays in the journal.
                Err(_) => {
                    tracing::warn!(node = %self.config.name, "no server has taken the last reports in time")
                }
            }
        }
        let durable = self.journal.write_durably(Vec::new());
        drop(tokio::time::timeout(limits::HAND_OVER_TIMEOUT, durable).await);
        Ok(())
    }

    /// Waits until no run is left, as long as killing may take. False if some are.
    async fn until_all_dead(&mut self) -> bool {
        let budget = self.lease.numbers().map_or(Duration::from_secs(2), |numbers| numbers.kill_budget);
        let everything_ended = async {
            while self.has_runs() {
                let Some(event) = self.runs.1.recv().await else { return };
                self.run_event(event);
            }
        };
        let all_dead = tokio::time::timeout(budget, everything_ended).await.is_ok();
        if !all_dead {
            tracing::warn!(node = %self.config.name, "some processes could not be killed in time");
        }
        all_dead
    }

    fn log_request(&mut self, request: &v1::LogRequest) {
        let uid = PodUid(crate::journal::number_of(&request.pod_uid));
        let state = self.pods.get(&uid);
        let is_known = state.is_some() || self.memory.started.contains(&uid);
        let known = is_known.then(|| KnownPod {
            uid,
            container: state.map(PodState::container_name).unwrap_or_default().to_owned(),
            begun_run: self.held.begun_run(uid),
        });
        if let Some(session) = &mut self.session {
            session.logs.begin(request, known);
        }
    }

    fn revision_of_set(set: &v1::DesiredSet) -> Revision {
        Revision(set.revision)
    }
}

/// Kills what an agent of this folder left that did not end in order, before anything is registered: it is counted as lost.
async fn end_what_was_left(runtime: &dyn Runtime) -> Result<(), Error> {
    for pod in runtime.recover().await? {
        for container in &pod.containers {
            container.kill().await;
            container.wait().await;
        }
        pod.sandbox.close().await?;
    }
    Ok(())
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

/// A copy of a folder has a lock of its own, but the same node uid: two agents of one host that take each other's Pods for
/// their own would run them twice (A1, R6). The name is freed with the process, however it ends.
fn claim_node_uid(folder: &Path, node_uid: NodeUid) -> Result<UnixListener, Error> {
    use std::os::linux::net::SocketAddrExt;
    let failed = |problem: String| Error::Folder { path: folder.to_owned(), problem };
    let name = format!("stint-agent/{node_uid}");
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name.as_bytes())
        .map_err(|error| failed(format!("its node can't be claimed ({error})")))?;
    UnixListener::bind_addr(&address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => failed(format!(
            "is a copy of the folder of another agent that runs on this host (node uid {node_uid}): give an empty folder"
        )),
        _ => failed(format!("its node can't be claimed ({error})")),
    })
}

fn lock_folder(folder: &Path) -> Result<Flock<File>, Error> {
    use std::os::unix::fs::DirBuilderExt;
    let unusable = |problem: String| Error::Folder { path: folder.to_owned(), problem };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        unusable(format!("can't be made ({error}): give a folder that this user may write to"))
    })?;
    let file = File::create(folder.join("lock"))
        .map_err(|error| unusable(format!("can't be written to ({error})")))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => {
            unusable("is used by another agent: give each agent a folder of its own".to_owned())
        }
        errno => unusable(format!("can't be locked ({}): give a folder on a local disk", errno.desc())),
    })
}
