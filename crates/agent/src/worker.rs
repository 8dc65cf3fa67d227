//! The agent's loop: one task that holds all of its state and waits for no disk and no network.
//!
//! Owns: which session there is, what is said in it, which runs go on. Does not own: the rules (crate `lease`): this file
//! carries out their effects.

mod adoption;
#[cfg(test)]
mod adoption_tests;
mod conditions;
mod facts;
mod pods;
mod registration;

use conditions::ToldConditions;
use registration::RegistrationContent;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;
use stint_api::{Incarnation, PodUid, Revision};
use stint_daemon::endpoint::Observed;
use stint_lease::{AgentLease, BootInstant, DesiredPod, HeldPods, LeaseState};
use stint_proto::auth::{BearerInterceptor, BearerToken};
use stint_proto::v1;
use stint_runtime::{LogStore, Runtime, ShortWork};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::channels::ChannelServer;
use crate::claim::claim_node;
use crate::config::AgentConfig;
use crate::data_folder;
use crate::error::Error;
use crate::host;
use crate::journal::{Change, Journal, Memory};
use crate::journal_thread::JournalWriter;
use crate::leftovers::Leftovers;
use crate::limits;
use crate::live_pods::LivePods;
use crate::log_archive::LogArchiver;
use crate::log_tails::LogTails;
use crate::logs::{KnownPod, LogServer};
use crate::metrics::{AgentFigures, Questions, WorkerCounters, WorkerFacts};
use crate::node_conditions::{self, Conditions};
use crate::outbox::Outbox;
use crate::pod::{Ended, PodHandle, PodNews, PodOrder, PodTemplate, Rules, RunEnd, Surroundings};
use crate::runtimes;
use crate::session::{self, End, SessionEvent};
use crate::usage::Meter;

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    task: JoinHandle<Result<(), Error>>,
    wanted: watch::Sender<Wanted>,
    figures: AgentFigures,
}

/// What the owner of an agent wants of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// That it works.
    Work,
    /// That it ends, and what runs goes on.
    Leave,
    /// That it ends with everything that runs.
    Stop,
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
        let lock = data_folder::lock(&config.data_dir)?;
        // Pods are given absolute paths, and start elsewhere than the agent did.
        config.data_dir = std::fs::canonicalize(&config.data_dir).map_err(|error| Error::Folder {
            path: config.data_dir.clone(),
            problem: format!("can't be found ({error})"),
        })?;
        let journal = Journal::open(&config.data_dir)?;
        let sole = claim_node(&config.data_dir, journal.memory().node_uid, config.pod_uids)?;
        let store = LogStore::open(&config.data_dir.join("logs"))?;
        let runtimes = runtimes::start(&config, &store, journal.memory().node_uid, sole.pod_uids).await?;
        data_folder::check_passage(&config.data_dir, &runtimes)?;
        let token = config.token.as_deref().map(BearerToken::new).transpose();
        let token = token.map_err(|error| Error::Argument {
            argument: "--token-file",
            value: "…".to_owned(),
            problem: error.to_string(),
        })?;
        let (wanted, wanted_receiver) = watch::channel(Wanted::Work);
        let worker = Worker::new(config, BearerInterceptor::new(token), journal, store, runtimes.into())?;
        let figures = worker.figures();
        let task = tokio::spawn(async move {
            let outcome = worker.run(wanted_receiver).await;
            drop((lock, sole));
            outcome
        });
        Ok(Agent { task, wanted, figures })
    }

    /// What it tells of itself.
    pub fn observed(&self) -> Arc<dyn Observed> {
        Arc::new(self.figures.clone())
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
        self.wanted.send_replace(Wanted::Stop);
        self.wait().await
    }

    /// Ends and leaves its Pods running, under the lease that it has: the next agent of the folder takes them over.
    ///
    /// # Errors
    /// What ended it before.
    pub async fn leave(mut self) -> Result<(), Error> {
        self.wanted.send_replace(Wanted::Leave);
        self.wait().await
    }
}

/// Events of the worker's own tasks.
#[derive(Debug)]
enum Internal {
    /// The number of a registration is in the journal.
    RegistrationDurable,
    /// The delay before a run is over.
    BeginDue { pod: PodUid, run: RunKey, incarnation: Incarnation },
    /// The run is in the journal: it may be started.
    StartDurable { pod: PodUid, run: RunKey, incarnation: Incarnation },
    /// The ends of these are in the journal.
    EndDurable { containers: Vec<Ended> },
}

/// A run of a container of some Pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct RunKey {
    container: String,
    restart_count: u32,
}

/// A Pod that is held or whose last runs still have to end.
#[derive(Debug, Default)]
struct PodState {
    /// What to run; not there for a Pod that was stopped before it was known.
    template: Option<Arc<PodTemplate>>,
    /// From the moment on at which something of it is begun.
    handle: Option<PodHandle>,
    /// Runs that were handed over to it and have not ended, by container.
    live: BTreeMap<String, u32>,
    /// Of those the ones whose containers do not run yet, and when each was begun.
    starting: BTreeMap<String, BootInstant>,
    /// Runs that are on their way through the journal and are not to be started any more.
    called_off: BTreeSet<RunKey>,
    /// Runs that have ended as the whole Pod does, which is said together.
    failing: Vec<(RunKey, RunEnd, Option<Ended>)>,
    /// It is killed because the lease ran out (A12).
    lease_expired: bool,
}

impl PodState {
    fn has_runs(&self) -> bool {
        !self.live.is_empty()
    }

    /// A run that was handed over has ended.
    fn remove_run(&mut self, run: &RunKey) {
        if self.live.get(&run.container) == Some(&run.restart_count) {
            self.live.remove(&run.container);
            self.starting.remove(&run.container);
        }
    }
}

/// The present stream.
struct Session {
    number: u64,
    address: String,
    outgoing: mpsc::Sender<v1::AgentMessage>,
    reader: JoinHandle<()>,
    logs: LogServer,
    channels: ChannelServer,
    /// For what may wait behind everything else.
    in_the_background: mpsc::Sender<v1::AgentMessage>,
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
    /// What kind of host it is, for people.
    host: v1::NodeInfo,
    journal: JournalWriter,
    journal_failed: oneshot::Receiver<Error>,
    memory: Memory,
    store: LogStore,
    leftovers: Leftovers,
    /// Pods of which nothing runs, and whose sandboxes are being removed.
    closing: BTreeSet<PodUid>,
    surroundings: Surroundings,
    /// See [`Surroundings::start_before`].
    start_before: watch::Sender<Duration>,
    lease: AgentLease,
    held: HeldPods,
    pods: BTreeMap<PodUid, PodState>,
    /// Those of them of which something was begun, and that have not said anything since.
    beginning: BTreeSet<PodUid>,
    counters: WorkerCounters,
    /// What others want to know.
    questions: (Questions, mpsc::UnboundedReceiver<oneshot::Sender<WorkerFacts>>),
    /// Ends that the servers have taken since they were last asked for the desired set.
    ends_since_asked: usize,
    asked_at: BootInstant,
    /// Pods that were closed since memory was given back to the system.
    closed: usize,
    live: LivePods,
    meter: Meter,
    /// What the node says of itself.
    conditions: watch::Receiver<Conditions>,
    told_conditions: ToldConditions,
    log_tails: LogTails,
    log_archiver: LogArchiver,
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
    /// Its number is there: it may be sent, and says this however often it is.
    registration: Option<Arc<RegistrationContent>>,
    /// Everything is being killed: before the next registration nothing of any Pod is left.
    must_clear: bool,
    /// What went wrong lately, so that the same is said once in a while only.
    problems: Problems,
    news: mpsc::UnboundedReceiver<PodNews>,
    internal: (mpsc::UnboundedSender<Internal>, mpsc::UnboundedReceiver<Internal>),
    stream: (mpsc::Sender<SessionEvent>, mpsc::Receiver<SessionEvent>),
    is_stopping: bool,
    /// The agent ends, and its Pods go on.
    is_leaving: bool,
    /// When the runtime kills everything, if this process can't.
    fence: Option<Duration>,
    /// The last Pod of which the servers were to look again what it refers to.
    references_cursor: PodUid,
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
    Pod(PodNews),
    Internal(Internal),
    Session(SessionEvent),
    Question(oneshot::Sender<WorkerFacts>),
    Time,
}

impl Worker {
    fn new(
        config: AgentConfig,
        interceptor: BearerInterceptor,
        journal: Journal,
        store: LogStore,
        runtimes: Arc<[Arc<dyn Runtime>]>,
    ) -> Result<Worker, Error> {
        let memory = journal.memory().clone();
        let failed = |source| Error::Journal { path: config.data_dir.join("journal"), source };
        let (journal, journal_failed) = JournalWriter::start(journal).map_err(failed)?;
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let mut outbox = Outbox::default();
        for (number, report) in &memory.unacknowledged {
            outbox.push(report.clone(), Some(*number));
        }
        let (start_before, start_before_receiver) = watch::channel(Duration::ZERO);
        let (news_sender, news) = mpsc::unbounded_channel();
        let host_addresses = host::addresses(&config.servers);
        let host = host::describe(&host_addresses);
        let live = LivePods::default();
        let log_archiver = LogArchiver::start(store.clone());
        let conditions = node_conditions::watch(config.pressure, &config.data_dir, runtimes.clone());
        let work = ShortWork::start("pods").map_err(|error| Error::Folder {
            path: config.data_dir.clone(),
            problem: format!("can't be worked in, as the system refuses threads ({error})"),
        })?;
        let surroundings = Surroundings {
            node: config.name.as_str().into(),
            runtimes,
            store: store.clone(),
            host_addresses: host_addresses.into(),
            rules: Arc::new(Rules { policy: config.policy.clone(), data_dir: config.data_dir.clone() }),
            pod_disk: config.pod_disk.clone(),
            disk_looks: Arc::new(Semaphore::new(1)),
            work,
            start_before: start_before_receiver,
            live: live.clone(),
            news: news_sender,
        };
        Ok(Worker {
            meter: Meter::new(live.clone()),
            conditions,
            told_conditions: ToldConditions::default(),
            log_tails: LogTails::start(store.clone(), log_archiver.clone()),
            log_archiver,
            live,
            addresses: config.servers.iter().cloned().collect(),
            leftovers: Leftovers::start(&config.data_dir, store.clone()),
            closing: BTreeSet::new(),
            config,
            interceptor,
            boot_id: boot_id.trim().to_owned(),
            host,
            journal,
            journal_failed,
            memory,
            store,
            surroundings,
            start_before,
            lease: AgentLease::default(),
            held: HeldPods::default(),
            pods: BTreeMap::new(),
            beginning: BTreeSet::new(),
            counters: WorkerCounters::default(),
            questions: mpsc::unbounded_channel(),
            ends_since_asked: 0,
            asked_at: BootInstant::default(),
            closed: 0,
            outbox,
            session: None,
            sessions: 0,
            next_attempt_at: BootInstant::default(),
            redirects: 0,
            unreachable: BTreeSet::new(),
            relay_next: false,
            is_to_forget: false,
            is_registering: false,
            registration: None,
            must_clear: false,
            problems: Problems::default(),
            news,
            internal: mpsc::unbounded_channel(),
            stream: mpsc::channel(limits::INCOMING_MESSAGES_MAX),
            is_stopping: false,
            is_leaving: false,
            fence: None,
            references_cursor: PodUid::default(),
        })
    }

    async fn run(mut self, mut wanted: watch::Receiver<Wanted>) -> Result<(), Error> {
        self.adopt().await?;
        let outcome = loop {
            tokio::select! {
                biased;
                wanted = asked_to_end(&mut wanted) => break match wanted {
                    Wanted::Stop => self.stop().await,
                    Wanted::Leave | Wanted::Work => {
                        self.leave().await;
                        Ok(())
                    }
                },
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
        let moment = now();
        let wakeup = self.lease.next_wakeup(moment, self.is_established());
        let reports_due = self.reports_due_at().map(|due_at| due_at.since(moment));
        let sleep = wakeup.into_iter().chain(reports_due).fold(limits::SLEEP_MAX, Duration::min);
        let event = tokio::select! {
            biased;
            failure = &mut self.journal_failed => {
                // Dropped without an error only when the thread panicked.
                let source = std::io::Error::other("the journal's thread has ended");
                let path = self.config.data_dir.join("journal");
                return Err(failure.unwrap_or(Error::Journal { path, source }));
            }
            Some(news) = self.news.recv() => Event::Pod(news),
            Some(event) = self.internal.1.recv() => Event::Internal(event),
            Some(event) = self.stream.1.recv() => Event::Session(event),
            Some(answer) = self.questions.1.recv() => Event::Question(answer),
            () = tokio::time::sleep(sleep) => Event::Time,
        };
        // While this waited, the process may have been stopped: what happened since the lease ran out is seen in that light.
        self.expire_lease(now());
        match event {
            Event::Pod(news) => self.pod_news(news),
            Event::Internal(event) => self.internal_event(event),
            Event::Session(event) => self.session_event(event)?,
            // Whoever asked may have given up.
            Event::Question(answer) => drop(answer.send(self.facts())),
            Event::Time => {}
        }
        Ok(())
    }

    /// Kills everything once the lease has run out.
    fn expire_lease(&mut self, now: BootInstant) {
        if self.lease.advance(now) {
            // First of all: whoever reads what is logged may be stopped.
            self.kill_all(true);
            self.counters.lease_losses.inc();
            tracing::warn!(node = %self.config.name, "the lease ran out: all pods are killed");
            // A registration comes first in a session: the next one is opened once everything is dead (A4).
            self.close_session("the lease ran out", Duration::ZERO);
        }
    }

    /// Keeps the runtime's fence behind the lease. Without a lease it stays where it is: what an earlier agent left has its own.
    fn move_fence(&mut self) {
        let deadline = match self.lease.state() {
            LeaseState::Held { deadline, .. } => deadline,
            LeaseState::Lost { .. } | LeaseState::Unregistered => BootInstant::default(),
        };
        self.start_before.send_if_modified(|known| std::mem::replace(known, deadline.0) != deadline.0);
        let fence = deadline.plus(limits::FENCE_DELAY).0;
        if deadline != BootInstant::default() && self.fence != Some(fence) {
            self.fence = Some(fence);
            self.surroundings.runtimes.iter().for_each(|runtime| runtime.set_deadline(fence));
        }
    }

    /// What time makes due: the end of the lease, heartbeats, a new session, reports.
    fn advance(&mut self) {
        let now = now();
        self.expire_lease(now);
        self.move_fence();
        self.close_silent_session(now);
        if self.session.is_none() && now >= self.next_attempt_at {
            self.open_session(now);
        }
        let is_due = self.lease.is_heartbeat_due(now);
        if is_due && self.is_established() {
            self.heartbeat(now);
        }
        self.ask_after_many_ends(now);
        self.send_reports(now);
        self.say_conditions(now);
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
            self.ask_for_desired_set(incarnation, true);
        }
        self.give_back_memory();
    }

    /// A Pod that has ended is held until a set leaves it out. When many have, that should not take long.
    fn ask_after_many_ends(&mut self, now: BootInstant) {
        let LeaseState::Held { incarnation, .. } = self.lease.state() else { return };
        let is_due = self.ends_since_asked >= limits::ENDS_PER_DESIRED_SET
            && now.since(self.asked_at) >= limits::DESIRED_SET_PAUSE_MIN;
        if is_due && self.is_established() {
            self.ask_for_desired_set(incarnation, false);
        }
    }

    /// Once many Pods have ended and none begins.
    fn give_back_memory(&mut self) {
        if self.closed >= limits::PODS_PER_MEMORY_GIVEN_BACK && self.beginning.is_empty() {
            self.closed = 0;
            tokio::task::spawn_blocking(stint_runtime::give_back_memory);
        }
    }

    /// Asks what is to be held (A8), and with `about_ended` also which ended Pods are gone.
    fn ask_for_desired_set(&mut self, incarnation: Incarnation, about_ended: bool) {
        let mut asked = Vec::new();
        if about_ended {
            let ended: BTreeSet<PodUid> =
                self.memory.started.keys().filter(|pod| !self.pods.contains_key(pod)).copied().collect();
            asked = self.held.ended_to_ask(&ended);
        }
        self.asked_at = now();
        self.ends_since_asked = 0;
        let looked_up = self.references_to_ask();
        // Of those that are named here the set does not say what to run.
        let is_known = |pod: &PodUid| {
            !looked_up.contains(pod) && self.pods.get(pod).is_some_and(|state| state.template.is_some())
        };
        let held_pods = v1::HeldPods {
            incarnation: incarnation.0,
            unfinished_pods: self.held.uids().filter(is_known).map(stint_proto::uid::uid_to_wire).collect(),
            ended_pods: asked.into_iter().map(stint_proto::uid::uid_to_wire).collect(),
        };
        self.send(v1::agent_message::Message::HeldPods(held_pods));
    }

    /// Pods whose containers refer to something that was not there: the servers are to look again. In turn, if there are many.
    fn references_to_ask(&mut self) -> BTreeSet<PodUid> {
        let lacks = |state: &PodState| state.template.as_deref().is_some_and(PodTemplate::lacks_references);
        let lacking = |pods: &BTreeMap<PodUid, PodState>, range: (Bound<PodUid>, Bound<PodUid>)| {
            let lacking = pods.range(range).filter(|(_, state)| lacks(state)).map(|(pod, _)| *pod);
            lacking.take(limits::REFERENCES_ASKED_MAX).collect::<Vec<_>>()
        };
        let after = (Bound::Excluded(self.references_cursor), Bound::Unbounded);
        let before = (Bound::Unbounded, Bound::Included(self.references_cursor));
        let mut asked = lacking(&self.pods, after);
        asked.extend(lacking(&self.pods, before));
        asked.truncate(limits::REFERENCES_ASKED_MAX);
        self.references_cursor = asked.last().copied().unwrap_or_default();
        asked.into_iter().collect()
    }

    /// When those that wait may be sent; none if none may be before something else happens.
    fn reports_due_at(&self) -> Option<BootInstant> {
        let may_send = self.is_established() && matches!(self.lease.state(), LeaseState::Held { .. });
        self.outbox.due_at(self.beginning.len()).filter(|_| may_send)
    }

    fn send_reports(&mut self, now: BootInstant) {
        let LeaseState::Held { incarnation, .. } = self.lease.state() else { return };
        while self.is_established() {
            let Some(reports) = self.outbox.next_message(now, self.beginning.len()) else { return };
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
        self.log_tails.session_lost();
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
            Message::HeartbeatAnswer(answer) => {
                self.counters.lease_renewals.inc();
                self.lease.answered(answer.seq, now());
                self.learn_addresses(&answer.server_addresses);
            }
            Message::DesiredSet(set) => self.desired_set(set),
            Message::Order(order) => self.order(order),
            Message::ReportAck(acknowledged) => self.reports_acknowledged(&acknowledged),
            Message::NodeConditionsAck(ack) => self.told_conditions.acknowledged(&ack),
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
            Message::ChannelOpen(open) => self.channel_open(open),
            Message::ChannelInput(input) => {
                if let Some(session) = &mut self.session {
                    session.channels.input(input);
                }
            }
            Message::ChannelCredit(credit) => {
                if let Some(session) = &mut self.session {
                    session.channels.credit(&credit);
                }
            }
            Message::ChannelCancel(cancel) => {
                if let Some(session) = &mut self.session {
                    session.channels.cancel(cancel.channel_id);
                }
            }
            Message::LogTailCredit(credit) => self.log_tails.credit(&credit),
            Message::LogTailAck(ack) => self.log_tails.acknowledged(ack),
            Message::UsageRequest(request) => {
                if let Some(session) = &self.session {
                    self.meter.answer(request, session.in_the_background.clone());
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
        let seqs = acknowledged.counted.iter().chain(&acknowledged.ignored);
        let changes: Vec<_> =
            seqs.filter_map(|seq| self.outbox.acknowledged(*seq)).map(Change::Acknowledged).collect();
        // Of the reports, only those of ends are in the journal.
        self.ends_since_asked += changes.len();
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
        let internal = self.internal.0.clone();
        // The agent may have stopped.
        self.journal.write_then(changes, move || drop(internal.send(then)));
    }

    fn internal_event(&mut self, event: Internal) {
        match event {
            Internal::RegistrationDurable => {
                self.is_registering = false;
                self.registration = Some(Arc::new(RegistrationContent::new(self)));
            }
            Internal::BeginDue { pod, run, incarnation } => self.begin_due(pod, run, incarnation),
            Internal::StartDurable { pod, run, incarnation } => self.start_durable(pod, run, incarnation),
            Internal::EndDurable { containers } => {
                for Ended(container) in containers {
                    tokio::spawn(async move { container.release().await });
                }
            }
        }
    }

    /// Ends, and leaves what runs to the next agent of the folder.
    async fn leave(&mut self) {
        let pods = self.pods.values().filter(|pod| pod.has_runs()).count();
        tracing::info!(node = %self.config.name, pods, "ends, and leaves its pods running");
        self.is_leaving = true;
        self.surroundings.runtimes.iter().for_each(|runtime| runtime.let_go());
        // What was told and is being committed would be told again by the next agent; and nothing is to be bound to a node that does
        // not start it.
        let acknowledged = async {
            while self.is_established()
                && (self.outbox.has_journaled() || !self.conditions_are_known())
                && self.turn().await.is_ok()
            {}
        };
        drop(tokio::time::timeout(limits::ACKNOWLEDGEMENT_PATIENCE, acknowledged).await);
        let durable = self.journal.write_durably(Vec::new());
        drop(tokio::time::timeout(limits::HAND_OVER_TIMEOUT, durable).await);
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
        let all_dead = self.until_all_dead().await;
        self.close_all();
        if all_dead && matches!(self.lease.state(), LeaseState::Held { .. }) {
            self.begin_hand_over();
            let hand_over = async {
                while !self.is_established() {
                    self.turn().await?;
                }
                Ok::<(), Error>(())
            };
            match tokio::time::timeout(limits::HAND_OVER_TIMEOUT, hand_over).await {
                Ok(outcome) => {
                    outcome?;
                    self.until_tails_sent().await?;
                }
                // What was not acknowledged stays in the journal.
                Err(_) => {
                    tracing::warn!(node = %self.config.name, "no server has taken the last reports in time")
                }
            }
        }
        let durable = self.journal.write_durably(Vec::new());
        drop(tokio::time::timeout(limits::HAND_OVER_TIMEOUT, durable).await);
        self.until_all_closed().await;
        Ok(())
    }

    /// Waits a little until the servers have the last output of what was ended: this host may never come back. What they do not
    /// have then, the next agent of the folder sends.
    async fn until_tails_sent(&mut self) -> Result<(), Error> {
        let mut flushed = self.log_tails.flushed();
        let sent = async {
            loop {
                tokio::select! {
                    biased;
                    // An error: nobody sends any.
                    _ = &mut flushed => return Ok(()),
                    outcome = self.turn() => outcome?,
                }
            }
        };
        tokio::time::timeout(limits::LAST_TAILS_TIMEOUT, sent).await.unwrap_or(Ok(()))
    }

    /// Before the hand-over, which forgets Pods of which nothing runs.
    fn close_all(&mut self) {
        for (pod, state) in &self.pods {
            if let Some(handle) = state.handle.as_ref().filter(|_| !state.has_runs()) {
                self.closing.insert(*pod);
                handle.order(PodOrder::Close);
            }
        }
    }

    /// Waits a little until nothing is left of sandboxes. What is left then, the next agent of the folder removes.
    async fn until_all_closed(&mut self) {
        let closed = async {
            while !self.closing.is_empty() {
                let Some(news) = self.news.recv().await else { return };
                self.pod_news(news);
            }
        };
        drop(tokio::time::timeout(limits::CLOSE_PATIENCE, closed).await);
    }

    /// Waits until no run is left, as long as killing may take. False if some are.
    async fn until_all_dead(&mut self) -> bool {
        let budget = self.lease.numbers().map_or(Duration::from_secs(2), |numbers| numbers.kill_budget);
        let everything_ended = async {
            while self.has_runs() {
                let Some(news) = self.news.recv().await else { return };
                self.pod_news(news);
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
        let template = self.pods.get(&uid).and_then(|state| state.template.as_deref());
        let runs = self.memory.started.get(&uid).map(|started| &started.runs);
        let begun_runs: BTreeMap<String, u32> =
            runs.into_iter().flatten().map(|(name, run)| (name.clone(), run.restart_count)).collect();
        let is_known = runs.is_some() || self.pods.contains_key(&uid);
        let sole = begun_runs.keys().next().filter(|_| begun_runs.len() == 1).map(String::as_str);
        let container = template.map(PodTemplate::main_container).or(sole).unwrap_or_default().to_owned();
        let known = is_known.then_some(KnownPod { uid, container, begun_runs });
        if let Some(session) = &mut self.session {
            session.logs.begin(request, known);
        }
    }

    fn channel_open(&mut self, open: v1::ChannelOpen) {
        let uid = PodUid(crate::journal::number_of(&open.pod_uid));
        let is_known = self.pods.contains_key(&uid) || self.memory.started.contains_key(&uid);
        if let Some(session) = &mut self.session {
            session.channels.open(open, is_known);
        }
    }

    fn revision_of_set(set: &v1::DesiredSet) -> Revision {
        Revision(set.revision)
    }
}

/// Resolves when the agent is asked to end, or its handle is gone.
async fn asked_to_end(wanted: &mut watch::Receiver<Wanted>) -> Wanted {
    wanted.wait_for(|wanted| *wanted != Wanted::Work).await.map_or(Wanted::Leave, |wanted| *wanted)
}

/// CLOCK_BOOTTIME: the clock of leases, which goes on while the host sleeps.
pub fn now() -> BootInstant {
    match nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME) {
        Ok(time) => BootInstant(time.into()),
        // Linux has it since 2.6.39. Without a clock nothing may run: the end of time is after every deadline.
        Err(_) => BootInstant(Duration::MAX),
    }
}
