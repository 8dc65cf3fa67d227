//! The task of one Pod: carries out what its machine wants.
//!
//! Owns: calls to the runtime, each in a task of its own, so that none holds up a stop or a kill. Does not own: what is done
//! when (`machine`), whether the lease allows it, the journal, the wire.
//!
//! Invariant: when the task is dropped, containers go on: a later agent finds them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use stint_api::{Incarnation, PodUid, Quantity};
use stint_lease::BootInstant;
use stint_proto::v1;
use stint_runtime::{
    ContainerId, ContainerSpec, Error, Exit, Feature, ImageReason, ImageSpec, LogStore, PodSandbox, Rootfs,
    RunningContainer, Runtime, ShortWork,
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::Instrument;

use super::disk::{DiskBounds, EVICTED};
use super::judgement::{Rules, judge};
use super::machine::{Hook, ImageProblem, Index, PodEffect, PodEvent, PodFact, PodMachine, RunEnd};
use super::notices::{Notices, Subject};
use super::plan::{PodPlan, ProbeKind};
use super::spans::{self, Spans};
use super::specs::Addresses;
use super::template::PodTemplate;
use super::{ends, hosts, last_words, specs, volumes};
use crate::limits;
use crate::live_pods::LivePods;
use crate::worker::now;

/// What stops a container that says nothing else.
const SIGTERM: i32 = 15;

/// Why a Pod ends that asks for what its node does not allow or have (P4).
const NOT_ALLOWED: &str = "NotAllowed";

/// What is said of work in a Pod's folder that came to no end.
const PANICKED: &str = "making what is in the pod's folder has panicked";

/// What a Pod is told.
#[derive(Debug, Clone)]
pub enum PodOrder {
    /// A run of a container is wanted now; it is in the journal.
    Begin {
        /// Which container.
        container: String,
        /// Which run.
        run: u32,
    },
    /// A container is to stop.
    StopContainer {
        /// Which container.
        container: String,
        /// From now.
        grace: Duration,
    },
    /// Everything is to stop.
    Stop {
        /// From now.
        grace: Duration,
    },
    /// Everything is to end now.
    Kill,
    /// What its containers refer to was looked up anew.
    Renew(Arc<PodTemplate>),
    /// Nothing of it runs nor will: what its containers shared goes.
    Close,
}

/// What a Pod tells.
#[derive(Debug)]
pub struct PodNews {
    /// Which Pod.
    pub pod: PodUid,
    /// What.
    pub news: News,
}

/// See [`PodNews`].
#[derive(Debug)]
pub enum News {
    /// Something that need not survive a restart of the agent.
    Report(v1::pod_report::Kind),
    /// Nothing of a run is left.
    Ended {
        /// Which container.
        container: String,
        /// Which run.
        run: u32,
        /// How.
        end: RunEnd,
        /// The Pod is ended as a whole, which says more: [`News::Failed`] follows.
        is_failing: bool,
        /// To be released once its end is on record; none if it never was.
        container_of: Option<Ended>,
    },
    /// The Pod could not be here, and nothing of it is left.
    Failed {
        /// One word.
        reason: String,
        /// For people.
        message: String,
    },
    /// After [`PodOrder::Close`]: nothing is left but its folder.
    Closed,
}

/// A container whose end is not on record yet.
pub struct Ended(pub Arc<dyn RunningContainer>);

impl std::fmt::Debug for Ended {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0.id())
    }
}

/// What all Pods of an agent have in common.
#[derive(Clone)]
pub struct Surroundings {
    /// Name of the node.
    pub node: Arc<str>,
    /// What runs them; the first is for Pods that name none.
    pub runtimes: Arc<[Arc<dyn Runtime>]>,
    /// Their logs.
    pub store: LogStore,
    /// Addresses of the host, the preferred one first.
    pub host_addresses: Arc<[IpAddr]>,
    /// What Pods may ask for.
    pub rules: Arc<Rules>,
    /// What one Pod may take of the node's disk.
    pub pod_disk: Option<Quantity>,
    /// Lets one Pod at a time be looked at for that.
    pub disk_looks: Arc<Semaphore>,
    /// For what is made in the folders of Pods. What is looked up there at an end goes elsewhere: a disk that takes no more holds
    /// up starts alone.
    pub work: ShortWork,
    /// By CLOCK_BOOTTIME: nothing is started at or after this moment (A9). Zero without a lease.
    pub start_before: watch::Receiver<Duration>,
    /// Those that run, for whoever wants into them.
    pub live: LivePods,
    /// Where everything that they tell goes.
    pub news: mpsc::UnboundedSender<PodNews>,
}

impl Surroundings {
    /// What runs the Pods that name `runtime`; none if this node has no such.
    pub fn runtime(&self, runtime: &str) -> Option<&Arc<dyn Runtime>> {
        match runtime {
            "" => self.runtimes.first(),
            name => self.runtimes.iter().find(|one| one.name() == name),
        }
    }

    /// Makes something in a Pod's folder; none if that has panicked. What looks at paths of the host is kept apart: they may be
    /// on a file system that hangs, and must hold up no other Pod.
    async fn in_folder<T: Send + 'static>(
        &self,
        template: &PodTemplate,
        what: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if template.shows_host_paths() {
            tokio::task::spawn_blocking(what).await.ok()
        } else {
            self.work.run(what).await
        }
    }

    pub(crate) fn runtime_of(&self, template: &PodTemplate) -> Option<&Arc<dyn Runtime>> {
        self.runtime(&template.to_run().runtime)
    }

    fn plan_of(&self, template: &PodTemplate) -> PodPlan {
        let runtime = self.runtime_of(template);
        template.plan(runtime.is_some_and(|runtime| runtime.features().contains(&Feature::Images)))
    }
}

/// A Pod that something was begun of, or is to be. Its task ends when this is dropped.
#[derive(Debug)]
pub struct PodHandle {
    orders: mpsc::UnboundedSender<PodOrder>,
}

/// What an earlier agent has left of a Pod.
pub struct LeftPod {
    /// What its containers share.
    pub sandbox: Arc<dyn PodSandbox>,
    /// Those that run, or have ended since.
    pub containers: Vec<Arc<dyn RunningContainer>>,
}

impl PodHandle {
    /// A Pod of which nothing runs, bound to this registration of the node. Needs a tokio runtime.
    pub fn new(
        template: Arc<PodTemplate>,
        surroundings: Surroundings,
        incarnation: Incarnation,
    ) -> PodHandle {
        let machine = PodMachine::new(surroundings.plan_of(&template));
        PodHandle::spawn(PodTask::new(template, surroundings, incarnation, machine))
    }

    /// A Pod that was found running.
    pub fn adopted(
        template: Arc<PodTemplate>,
        surroundings: Surroundings,
        incarnation: Incarnation,
        left: LeftPod,
    ) -> PodHandle {
        let place = |container: &Arc<dyn RunningContainer>| {
            let index = template.index_of(container.id().container_name()).ok()?;
            Some((index, container.id().restart_count()))
        };
        let runs: Vec<(Index, u32)> = left.containers.iter().filter_map(place).collect();
        let machine = PodMachine::adopted(surroundings.plan_of(&template), &runs, now());
        let mut task = PodTask::new(template, surroundings, incarnation, machine);
        task.has_sandbox(left.sandbox);
        for container in left.containers {
            if let Ok(index) = task.template.index_of(container.id().container_name()) {
                let (run, has_run) = (container.id().restart_count(), container.started_at().is_some());
                task.attend_adopted(index, container);
                if has_run {
                    // The earlier agent may have ended before it said so.
                    task.tell_running(index, run);
                }
            }
        }
        PodHandle::spawn(task)
    }

    fn spawn(task: PodTask) -> PodHandle {
        let (orders, received) = mpsc::unbounded_channel();
        tokio::spawn(task.run(received));
        PodHandle { orders }
    }

    /// Tells it something.
    pub fn order(&self, order: PodOrder) {
        // It lives as long as this.
        drop(self.orders.send(order));
    }
}

/// What the tasks of a Pod's task say.
enum Happened {
    Event(PodEvent),
    Opened(Arc<dyn PodSandbox>),
    Started { index: Index, run: u32, container: Arc<dyn RunningContainer> },
    Ended { index: Index, run: u32, end: RunEnd, container: Arc<dyn RunningContainer> },
    Failing { reason: String, message: String },
    Notice { reason: &'static str, message: String },
}

/// Where they say it. In boxes: a channel has room for dozens, of which hardly one is ever used.
#[derive(Clone)]
struct Happenings(mpsc::UnboundedSender<Box<Happened>>);

impl Happenings {
    fn new() -> (Happenings, mpsc::UnboundedReceiver<Box<Happened>>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Happenings(sender), receiver)
    }

    fn tell(&self, happened: Happened) {
        // The Pod may be over.
        drop(self.0.send(Box::new(happened)));
    }
}

/// Why what the containers share is not there.
enum OpenProblem {
    /// It may be there later.
    Passing(String),
    /// It never will be here.
    Lasting(String),
}

struct PodTask {
    template: Arc<PodTemplate>,
    surroundings: Surroundings,
    incarnation: Incarnation,
    machine: PodMachine,
    sandbox: Option<Arc<dyn PodSandbox>>,
    /// Makes it.
    opening: Option<JoinHandle<()>>,
    runs: BTreeMap<Index, LiveRun>,
    happened: (Happenings, mpsc::UnboundedReceiver<Box<Happened>>),
    is_failing: bool,
    /// What goes on as long as the Pod does.
    background: JoinSet<()>,
    notices: Notices,
}

/// A run that is being started or goes on.
struct LiveRun {
    run: u32,
    container: Option<Arc<dyn RunningContainer>>,
    kill: watch::Sender<bool>,
    /// Its hooks and probes.
    visits: JoinSet<()>,
}

impl PodTask {
    fn new(
        template: Arc<PodTemplate>,
        surroundings: Surroundings,
        incarnation: Incarnation,
        machine: PodMachine,
    ) -> PodTask {
        PodTask {
            template,
            surroundings,
            incarnation,
            machine,
            sandbox: None,
            opening: None,
            runs: BTreeMap::new(),
            happened: Happenings::new(),
            is_failing: false,
            background: JoinSet::new(),
            notices: Notices::default(),
        }
    }

    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<PodOrder>) {
        loop {
            let wakeup = self.machine.next_wakeup();
            let due = async {
                match wakeup {
                    Some(moment) => tokio::time::sleep(moment.since(now())).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(PodOrder::Close) => return self.close().await,
                    Some(order) => self.event_of(order),
                    // The agent ends, and leaves what runs to the next one.
                    None => return self.surroundings.live.closed(self.template.uid()),
                },
                Some(happened) = self.happened.1.recv() => self.take(*happened),
                () = due => Some(PodEvent::Tick),
            };
            if let Some(event) = event {
                self.handle(event);
            }
        }
    }

    async fn close(mut self) {
        self.surroundings.live.closed(self.template.uid());
        // Nobody else would ever close what is being opened just now.
        if let Some(opening) = self.opening.take() {
            // An error is a panic: nothing was opened.
            drop(opening.await);
        }
        while let Ok(happened) = self.happened.1.try_recv() {
            if let Happened::Opened(sandbox) = *happened {
                self.sandbox = Some(sandbox);
            }
        }
        if let Some(sandbox) = &self.sandbox
            && let Err(error) = sandbox.close().await
        {
            tracing::warn!(pod.uid = %self.template.uid(), %error, "what a pod's containers shared can't be removed");
        }
        self.tell(News::Closed);
    }

    fn event_of(&mut self, order: PodOrder) -> Option<PodEvent> {
        Some(match order {
            PodOrder::Begin { container, run } => match self.template.index_of(&container) {
                Ok(index) => PodEvent::Begin { container: index, run },
                Err(message) => {
                    let end = RunEnd::StartFailed(ends::start_failed(&message));
                    self.tell(News::Ended { container, run, end, is_failing: false, container_of: None });
                    return None;
                }
            },
            PodOrder::StopContainer { container, grace } => {
                PodEvent::StopContainer { container: self.template.index_of(&container).ok()?, grace }
            }
            PodOrder::Stop { grace } => PodEvent::Stop { grace },
            PodOrder::Renew(template) => {
                self.renew(template);
                return None;
            }
            PodOrder::Kill | PodOrder::Close => PodEvent::Kill,
        })
    }

    /// From now on it is run by this template.
    fn renew(&mut self, template: Arc<PodTemplate>) {
        let plan = self.surroundings.plan_of(&template);
        let config_errors = plan.containers.into_iter().map(|container| container.config_error).collect();
        self.template = template;
        let (kept, happened) = (self.template.clone(), self.happened.0.clone());
        tokio::spawn(async move {
            // Without a folder nothing runs that a later agent could find. And if it is not kept, that one asks anew.
            let kept = blocking(move || kept.keep().map_err(|error| error.to_string())).await;
            if let Err(error) = kept {
                tracing::debug!(error, "a pod that was looked up anew is not kept for the next agent");
            }
            happened.tell(Happened::Event(PodEvent::Renewed { config_errors }));
        });
    }

    fn take(&mut self, happened: Happened) -> Option<PodEvent> {
        Some(match happened {
            Happened::Event(event) => event,
            Happened::Opened(sandbox) => {
                self.has_sandbox(sandbox);
                PodEvent::Opened
            }
            Happened::Started { index, run, container } => {
                self.surroundings.live.started(self.template.uid(), container.clone());
                self.has_container(index, run, container);
                PodEvent::Started { container: index, run }
            }
            Happened::Ended { index, run, end, container } => {
                let name = container.id().container_name();
                self.surroundings.live.ended(self.template.uid(), name, run);
                self.has_container(index, run, container);
                PodEvent::Ended { container: index, run, end }
            }
            Happened::Failing { reason, message } => PodEvent::Fail { reason, message },
            Happened::Notice { reason, message } => {
                self.notice(v1::EventType::Normal, Subject::of_pod(reason), &message);
                return None;
            }
        })
    }

    fn has_sandbox(&mut self, sandbox: Arc<dyn PodSandbox>) {
        self.surroundings.live.opened(self.template.uid(), sandbox.clone());
        self.sandbox = Some(sandbox.clone());
        let bounds = DiskBounds::new(&self.template, self.surroundings.pod_disk.as_ref());
        let (looks, happened) = (self.surroundings.disk_looks.clone(), self.happened.0.clone());
        self.background.spawn(async move {
            let message = bounds.exceeded(sandbox, looks).await;
            happened.tell(Happened::Failing { reason: EVICTED.to_owned(), message });
        });
    }

    fn has_container(&mut self, index: Index, run: u32, container: Arc<dyn RunningContainer>) {
        if let Some(live) = self.runs.get_mut(&index).filter(|live| live.run == run) {
            live.container = Some(container);
        }
    }

    fn handle(&mut self, event: PodEvent) {
        self.is_failing |= matches!(event, PodEvent::Fail { .. });
        let failed = failure_of(&event);
        let effects = self.machine.handle(event, now());
        if let Some(failed) = failed {
            self.tell_failure(&failed, &effects);
        }
        for effect in effects {
            self.carry_out(effect);
        }
    }

    /// Tells people of a probe or a hook that has failed, and of what follows.
    fn tell_failure(&mut self, failed: &Failure, effects: &[PodEffect]) {
        let subject = Subject::of(failed.container, failed.reason, failed.kind);
        self.notice(v1::EventType::Warning, subject, &failed.message);
        let is_stopped = effects.iter().any(|effect| match effect {
            PodEffect::Terminate { container, .. } | PodEffect::Kill { container, .. } => {
                *container == failed.container
            }
            PodEffect::Hook { container, hook, .. } => {
                *container == failed.container && *hook == Hook::PreStop
            }
            _ => false,
        });
        if is_stopped && failed.reason != "FailedPreStopHook" {
            let message = format!("Stopping container {}", self.template.name_of(failed.container));
            let subject = Subject::of(failed.container, "Killing", "");
            self.notice(v1::EventType::Normal, subject, &message);
        }
    }

    /// Tells people, the same not too often.
    fn notice(&mut self, event_type: v1::EventType, subject: Subject, message: &str) {
        let Some(count) = self.notices.count(subject, now()) else { return };
        self.tell(News::Report(v1::pod_report::Kind::Notice(v1::PodNotice {
            r#type: event_type.into(),
            reason: subject.reason.to_owned(),
            message: ends::shortened(&ends::without_folder(message, &self.surroundings.rules.data_dir)),
            count,
        })));
    }

    fn carry_out(&mut self, effect: PodEffect) {
        match effect {
            PodEffect::Open => self.open(),
            PodEffect::Prepare { container, run } => self.prepare(container, run),
            PodEffect::Start { container, run } => self.start(container, run),
            PodEffect::Hook { container, run, hook } => self.begin_hook(container, run, hook),
            PodEffect::Probe { container, run, kind } => self.begin_probe(container, run, kind),
            PodEffect::Terminate { container, run } => {
                let signal = self.template.stop_signal(container).unwrap_or(SIGTERM);
                if let Some(container) = self.container(container, run) {
                    container.signal(signal);
                }
            }
            PodEffect::Kill { container, run } => {
                if let Some(live) = self.runs.get(&container).filter(|live| live.run == run) {
                    live.kill.send_replace(true);
                }
            }
            PodEffect::Tell(fact) => self.tell_fact(fact),
        }
    }

    fn container(&self, index: Index, run: u32) -> Option<&Arc<dyn RunningContainer>> {
        self.runs.get(&index).filter(|live| live.run == run)?.container.as_ref()
    }

    fn spans(&self) -> Spans<'_> {
        let (template, node) = (&*self.template, &*self.surroundings.node);
        Spans { template, node, incarnation: self.incarnation }
    }

    fn open(&mut self) {
        let (template, surroundings) = (self.template.clone(), self.surroundings.clone());
        let happened = self.happened.0.clone();
        let open = async move {
            let event = match open(template, surroundings).await {
                Ok(sandbox) => Happened::Opened(sandbox),
                Err(OpenProblem::Passing(message)) => Happened::Event(PodEvent::OpenFailed { message }),
                Err(OpenProblem::Lasting(message)) => {
                    Happened::Failing { reason: NOT_ALLOWED.to_owned(), message }
                }
            };
            happened.tell(event);
        };
        self.opening = Some(tokio::spawn(open.instrument(self.spans().open())));
    }

    fn prepare(&self, index: Index, run: u32) {
        let Some(sandbox) = self.sandbox.clone() else { return };
        let image = self.template.container(index).and_then(specs::image_spec);
        let happened = self.happened.0.clone();
        let span = match image {
            Some(_) => self.spans().image(self.template.name_of(index)),
            None => tracing::Span::none(),
        };
        let prepare = async move {
            let fetched = match image {
                Some(image) => fetch(sandbox.as_ref(), &image, &happened).await,
                None => Ok(()),
            };
            let result = fetched.map_err(image_problem);
            happened.tell(Happened::Event(PodEvent::Prepared { container: index, run, result }));
        };
        tokio::spawn(prepare.instrument(span));
    }

    fn start(&mut self, index: Index, run: u32) {
        let Some(sandbox) = self.sandbox.clone() else { return };
        let (kill, killed) = watch::channel(false);
        let visits = JoinSet::new();
        self.runs.insert(index, LiveRun { run, container: None, kill, visits });
        let start = Start {
            template: self.template.clone(),
            surroundings: self.surroundings.clone(),
            happened: self.happened.0.clone(),
            index,
            run,
            killed,
        };
        let span = self.spans().run(self.template.name_of(index), run, false);
        tokio::spawn(start.make(sandbox).instrument(span));
    }

    fn attend_adopted(&mut self, index: Index, container: Arc<dyn RunningContainer>) {
        let (kill, killed) = watch::channel(false);
        let run = container.id().restart_count();
        let visits = JoinSet::new();
        if container.started_at().is_some() {
            self.surroundings.live.started(self.template.uid(), container.clone());
        }
        self.runs.insert(index, LiveRun { run, container: Some(container.clone()), kill, visits });
        let start = Start {
            template: self.template.clone(),
            surroundings: self.surroundings.clone(),
            happened: self.happened.0.clone(),
            index,
            run,
            killed,
        };
        let span = self.spans().run(self.template.name_of(index), run, true);
        tokio::spawn(start.attend(container).instrument(span));
    }

    fn begin_hook(&mut self, index: Index, run: u32, hook: Hook) {
        let action = self.template.hook(index, hook);
        self.visit(index, run, move |container| async move {
            let result = action.carry_out(container.as_ref()).await;
            PodEvent::HookDone { container: index, run, hook, result }
        });
    }

    fn begin_probe(&mut self, index: Index, run: u32, kind: ProbeKind) {
        let (action, limit) = self.template.probe(index, kind);
        self.visit(index, run, move |container| async move {
            let result = match tokio::time::timeout(limit, action.carry_out(container.as_ref())).await {
                Ok(result) => result,
                Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
            };
            PodEvent::Probed { container: index, run, kind, result }
        });
    }

    /// Does something in a container that runs; ends with it.
    fn visit<F>(&mut self, index: Index, run: u32, what: impl FnOnce(Arc<dyn RunningContainer>) -> F)
    where
        F: Future<Output = PodEvent> + Send + 'static,
    {
        let Some(live) = self.runs.get_mut(&index).filter(|live| live.run == run) else { return };
        let Some(container) = live.container.clone() else { return };
        let (visit, happened) = (what(container), self.happened.0.clone());
        // Those that are done are forgotten.
        while live.visits.try_join_next().is_some() {}
        live.visits.spawn(async move { happened.tell(Happened::Event(visit.await)) });
    }

    fn tell(&self, news: News) {
        // The agent may have stopped.
        drop(self.surroundings.news.send(PodNews { pod: self.template.uid(), news }));
    }

    fn tell_running(&self, index: Index, run: u32) {
        let container = self.container(index, run);
        let started_at = container.and_then(|container| container.started_at());
        let own_addresses = self.sandbox.as_ref().map(|sandbox| sandbox.addresses()).unwrap_or_default();
        self.tell(News::Report(v1::pod_report::Kind::Running(v1::ContainerRunning {
            container: self.template.name_of(index).to_owned(),
            restart_count: run,
            started_at: started_at.map(|at| ends::wire_time(ends::timestamp_ms(at))),
            container_id: container.map(|container| container.runtime_id()).unwrap_or_default(),
            image_id: container.map(|container| container.image_id()).unwrap_or_default(),
            pod_addresses: own_addresses.iter().map(ToString::to_string).collect(),
        })));
    }

    fn tell_fact(&mut self, fact: PodFact) {
        use v1::pod_report::Kind;
        let name = |index: Index| self.template.name_of(index).to_owned();
        match fact {
            PodFact::Waiting { container, run, reason, message } => {
                let message = ends::without_folder(&message, &self.surroundings.rules.data_dir);
                self.tell(News::Report(Kind::Waiting(v1::ContainerWaiting {
                    container: name(container),
                    restart_count: run,
                    reason,
                    message: ends::shortened(&message),
                })));
            }
            PodFact::Running { container: index, run, started, ready } => {
                self.tell_running(index, run);
                if !ready {
                    self.tell_fact(PodFact::Readiness { container: index, run, started, ready });
                }
            }
            PodFact::Readiness { container, run, started, ready } => {
                let container = name(container);
                let readiness = v1::ContainerReadiness { container, restart_count: run, started, ready };
                self.tell(News::Report(Kind::Readiness(readiness)));
            }
            PodFact::Ended { container, run, end } => {
                let container_of = self.runs.remove(&container).and_then(|live| live.container).map(Ended);
                let (container, is_failing) = (name(container), self.is_failing);
                self.tell(News::Ended { container, run, end, is_failing, container_of });
            }
            PodFact::Failed { reason, message } => {
                let message = ends::without_folder(&message, &self.surroundings.rules.data_dir);
                self.tell(News::Failed { reason, message: ends::shortened(&message) });
            }
        }
    }
}

/// What people are to be told of.
struct Failure {
    container: Index,
    reason: &'static str,
    /// Which probe, if it is one.
    kind: &'static str,
    message: String,
}

fn failure_of(event: &PodEvent) -> Option<Failure> {
    let (container, reason, kind, message) = match event {
        PodEvent::Probed { container, kind, result: Err(problem), .. } => {
            let kind = match kind {
                ProbeKind::Startup => "Startup",
                ProbeKind::Liveness => "Liveness",
                ProbeKind::Readiness => "Readiness",
            };
            (*container, "Unhealthy", kind, format!("{kind} probe failed: {problem}"))
        }
        PodEvent::HookDone { container, hook: Hook::PostStart, result: Err(problem), .. } => {
            (*container, "FailedPostStartHook", "", format!("postStart hook failed: {problem}"))
        }
        PodEvent::HookDone { container, hook: Hook::PreStop, result: Err(problem), .. } => {
            (*container, "FailedPreStopHook", "", format!("preStop hook failed: {problem}"))
        }
        _ => return None,
    };
    Some(Failure { container, reason, kind, message })
}

/// Sees to it that the image is there. People are told of a pull that takes a while; one that does not is not worth it.
async fn fetch(sandbox: &dyn PodSandbox, image: &ImageSpec, happened: &Happenings) -> Result<(), Error> {
    let tell = |reason: &'static str, message: String| happened.tell(Happened::Notice { reason, message });
    let begun = std::time::Instant::now();
    let mut prepared = sandbox.prepare(image);
    tokio::select! {
        result = &mut prepared => return result,
        () = tokio::time::sleep(limits::PULL_NOTICE_AFTER) => {}
    }
    tell("Pulling", format!("Pulling image {:?}", image.reference));
    prepared.await?;
    let seconds = begun.elapsed().as_secs_f64();
    tell("Pulled", format!("Successfully pulled image {:?} in {seconds:.1} s", image.reference));
    Ok(())
}

async fn open(
    template: Arc<PodTemplate>,
    surroundings: Surroundings,
) -> Result<Arc<dyn PodSandbox>, OpenProblem> {
    let Some(runtime) = surroundings.runtime_of(&template) else {
        let names: Vec<&str> = surroundings.runtimes.iter().map(|runtime| runtime.name()).collect();
        let (asked, names) = (&template.to_run().runtime, names.join(", "));
        return Err(OpenProblem::Lasting(format!("this node has no runtime {asked:?}: it has {names}")));
    };
    let rootfs = match runtime.features().contains(&Feature::Images) {
        true => Rootfs::Image,
        false => Rootfs::Host,
    };
    let (made, rules) = (template.clone(), surroundings.rules.clone());
    let made = surroundings.in_folder(&template, move || {
        judge(&made, rootfs, &rules).map_err(OpenProblem::Lasting)?;
        volumes::make(&made).map_err(OpenProblem::Passing)
    });
    made.await.unwrap_or_else(|| Err(OpenProblem::Passing(PANICKED.to_owned())))?;
    let sandbox = match runtime.open_pod(specs::sandbox_spec(&template)).await {
        Ok(sandbox) => sandbox,
        Err(error) if is_lasting(&error) => return Err(OpenProblem::Lasting(error.to_string())),
        Err(error) => return Err(OpenProblem::Passing(error.to_string())),
    };
    if template.has_given_volumes() {
        let (made, owner) = (template.clone(), sandbox.owner());
        let made = surroundings.in_folder(&template, move || volumes::make_given(&made, owner)).await;
        if let Err(message) = made.unwrap_or_else(|| Err(PANICKED.to_owned())) {
            if let Err(error) = sandbox.close().await {
                tracing::warn!(pod.uid = %template.uid(), %error, "what a pod's containers shared can't be removed");
            }
            return Err(OpenProblem::Passing(message));
        }
    }
    Ok(sandbox)
}

/// True if another try on this node would not end otherwise.
fn is_lasting(error: &Error) -> bool {
    matches!(error, Error::Unsupported { .. } | Error::NotAllowed { .. })
}

/// True if the node lacks something that it may have later: descriptors, processes, memory, room on its disk, a container engine
/// that does what it is asked. That is no failure of the Pod.
fn is_of_the_node(error: &Error) -> bool {
    matches!(
        error,
        Error::StartResources { .. }
            | Error::Shim { .. }
            | Error::ShimFolder { .. }
            | Error::NoPodUid
            | Error::Log { .. }
            | Error::Image { .. }
            | Error::Images { .. }
            | Error::Engine { .. }
            | Error::Guard { .. }
    )
}

async fn blocking<T: Send + 'static>(
    what: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(what).await.map_err(|error| error.to_string())?
}

fn image_problem(error: Error) -> ImageProblem {
    let reason = match &error {
        Error::Image { reason, .. } => *reason,
        _ => ImageReason::ErrImagePull,
    };
    ImageProblem { reason: reason.as_str().to_owned(), message: error.to_string() }
}

/// Why a run could not be started.
enum StartProblem {
    Runtime(Error),
    /// It can't see what it asks to see.
    Volumes(String),
}

impl From<Error> for StartProblem {
    fn from(error: Error) -> StartProblem {
        StartProblem::Runtime(error)
    }
}

/// One run, from its start to its end.
struct Start {
    template: Arc<PodTemplate>,
    surroundings: Surroundings,
    happened: Happenings,
    index: Index,
    run: u32,
    killed: watch::Receiver<bool>,
}

impl Start {
    async fn make(mut self, sandbox: Arc<dyn PodSandbox>) {
        let (index, run) = (self.index, self.run);
        let event = match self.start(sandbox.as_ref()).instrument(spans::start()).await {
            Ok(container) => return self.attend(container).await,
            Err(StartProblem::Volumes(message)) => {
                let end = RunEnd::StartFailed(ends::start_failed(&self.said(&message)));
                PodEvent::Ended { container: index, run, end }
            }
            Err(StartProblem::Runtime(Error::StartKilled { .. })) => {
                let end = RunEnd::Exited(ends::killed_at_start());
                PodEvent::Ended { container: index, run, end }
            }
            Err(StartProblem::Runtime(Error::StartTooLate { .. })) => {
                self.never_began().await;
                PodEvent::TooLate { container: index, run }
            }
            Err(StartProblem::Runtime(error)) if is_of_the_node(&error) => {
                self.never_began().await;
                PodEvent::StartDelayed { container: index, run, message: self.said(&error.to_string()) }
            }
            Err(StartProblem::Runtime(error)) => {
                let message = self.said(&error.to_string());
                let end = RunEnd::StartFailed(ends::start_failed(&message));
                if is_lasting(&error) {
                    // The end of the whole Pod, which comes once that of this run has.
                    self.happened.tell(Happened::Failing { reason: NOT_ALLOWED.to_owned(), message });
                }
                PodEvent::Ended { container: index, run, end }
            }
        };
        match &event {
            PodEvent::Ended { end, .. } => spans::note_end(Some(end)),
            _ => spans::note_end(None),
        }
        self.happened.tell(Happened::Event(event));
    }

    /// A message as it may be told to the Pod's owner.
    fn said(&self, message: &str) -> String {
        ends::without_folder(message, &self.surroundings.rules.data_dir)
    }

    fn termination_file(&self) -> PathBuf {
        let name = self.template.name_of(self.index);
        specs::termination_file(self.template.folder(), name, self.run)
    }

    /// An agent that comes now finds that nothing of this run ever was.
    async fn never_began(&self) {
        let path = self.termination_file();
        // If it stays, the run counts as one of which nobody knows how it ended, should the agent end now.
        let _ = blocking(move || std::fs::remove_file(path).map_err(|error| error.to_string())).await;
    }

    async fn start(&mut self, sandbox: &dyn PodSandbox) -> Result<Arc<dyn RunningContainer>, StartProblem> {
        let name = self.template.name_of(self.index).to_owned();
        let mut spec = self.spec(sandbox).await?;
        let (mut killed, mut start_before) = (self.killed.clone(), self.surroundings.start_before.clone());
        let is_valid = |moment: &Duration| now() < BootInstant(*moment);
        // If the lease is not renewed, everything is killed before long.
        let start_before = tokio::select! {
            biased;
            () = until(&mut killed) => return Err(Error::StartKilled { container: name }.into()),
            moment = start_before.wait_for(is_valid) => match moment {
                Ok(moment) => *moment,
                Err(_) => return Err(Error::StartTooLate { container: name }.into()),
            },
        };
        spec.start_before = Some(start_before);
        Ok(sandbox.start(spec, Box::pin(async move { until(&mut killed).await })).await?)
    }

    async fn spec(&self, sandbox: &dyn PodSandbox) -> Result<ContainerSpec, StartProblem> {
        let (template, index, run) = (self.template.clone(), self.index, self.run);
        let host = self.surroundings.host_addresses.to_vec();
        let own = sandbox.addresses();
        let pod = if own.is_empty() { host.clone() } else { own };
        let runtime = self.surroundings.runtime_of(&template);
        let shows_files = runtime.is_some_and(|runtime| {
            let features = runtime.features();
            features.contains(&Feature::MountNamespaces) || features.contains(&Feature::Images)
        });
        let addresses = Addresses { pod, host };
        let has_own_host_name = sandbox.has_own_host_name();
        let mut spec =
            specs::container_spec(&template, index, run, &addresses, shows_files, has_own_host_name)?;
        let (env, container) = (spec.env.clone(), spec.id.container_name().to_owned());
        let rules = self.surroundings.rules.clone();
        let owner = sandbox.owner();
        let made = self.surroundings.in_folder(&self.template, move || {
            let path = specs::termination_file(template.folder(), template.name_of(index), run);
            last_words::make_file(&path, shows_files)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            last_words::remove_earlier(template.folder(), template.name_of(index), run)
                .map_err(|error| format!("last words of earlier runs: {error}"))?;
            if shows_files {
                hosts::make_file(&template, &addresses)?;
            }
            // Those that were not there when the Pod was opened.
            volumes::make_given(&template, owner)?;
            Ok(template.container(index).map(|one| volumes::mounts(&template, one, &env, &rules)))
        });
        let made = made.await.unwrap_or_else(|| Err(PANICKED.to_owned()));
        let mounts = made.map_err(|message| Error::StartResources {
            container,
            action: "make its files",
            source: std::io::Error::other(message),
        })?;
        spec.mounts.extend(mounts.transpose().map_err(StartProblem::Volumes)?.unwrap_or_default());
        if shows_files {
            spec.mounts.extend(hosts::mount(&self.template, &spec.mounts));
        }
        Ok(spec)
    }

    async fn attend(mut self, container: Arc<dyn RunningContainer>) {
        let (index, run) = (self.index, self.run);
        let started_at = container.started_at();
        if started_at.is_some() {
            let container = container.clone();
            self.happened.tell(Happened::Started { index, run, container });
        }
        let exit = tokio::select! {
            exit = container.wait() => exit,
            () = until(&mut self.killed) => {
                container.kill().await;
                container.wait().await
            }
        };
        let left = self.last_words(container.id(), &exit).await;
        let folder = &self.surroundings.rules.data_dir;
        let termination = ends::termination(&exit, started_at.map(ends::timestamp_ms), left, folder);
        let end = match exit.reason {
            stint_runtime::ExitReason::StartError => RunEnd::StartFailed(termination),
            // What ended well before it was killed has ended well; the servers say if that came too late (A11).
            _ if exit.fenced && exit.exit_code != 0 => RunEnd::Fenced(termination),
            _ => RunEnd::Exited(termination),
        };
        spans::note_end(Some(&end));
        self.happened.tell(Happened::Ended { index, run, end, container });
    }

    /// What a run has left to say about its end (P12).
    async fn last_words(&self, id: &ContainerId, exit: &Exit) -> String {
        let path = self.termination_file();
        let count = self.template.app_containers().len();
        let words = blocking(move || Ok(last_words::read_file(&path, count))).await.unwrap_or_default();
        if words.is_empty() && exit.exit_code != 0 && self.template.falls_back_to_log(self.index) {
            return last_words::end_of_log(&self.surroundings.store, id).await;
        }
        words
    }
}

async fn until(told: &mut watch::Receiver<bool>) {
    if told.wait_for(|told| *told).await.is_err() {
        // Nobody is left who could ask for it.
        std::future::pending().await
    }
}
