//! The engine is met: at once, or when it comes up.
//!
//! Owns: what is made of the options before and after. Does not own: how the engine is from then on (`health`), what it has
//! (`recovery`).
//!
//! An engine that was met by an earlier agent of this folder need not answer for the guard to be started and for containers to
//! be taken over. With one that never was there are none, and so nothing to guard.

use super::cgroup::{CgroupDriver, PodCgroups};
use super::engine::{Engine, EngineStatus, Refusal};
use super::guard::{self, Guard};
use super::health::{self, Health};
use super::images::Images;
use super::ledger::{EngineFacts, Ledger};
use super::sources::Sources;
use super::{Condition, CriNetwork, CriRuntimeOptions, Shared, follow_events, list_states, recovery};
use crate::{Error, limits};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;

/// The engine, met or not.
pub(super) struct Meeting {
    options: CriRuntimeOptions,
    engine: Engine,
    ledger: Ledger,
    /// Control groups of version 2.
    pub has_unified_groups: bool,
    shared: OnceLock<Arc<Shared>>,
    waiting: Mutex<Waiting>,
    /// What looks after all containers; ends with the runtime.
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// Until it is met.
struct Waiting {
    /// Why it can't be used.
    problem: String,
    /// What the guard is told as soon as there is one.
    deadline: Duration,
}

impl Meeting {
    /// Meets the engine, or goes on trying to.
    pub async fn begin(options: CriRuntimeOptions) -> Result<Arc<Meeting>, Error> {
        let engine = Engine::new(&options.socket, program_of(&options))?;
        let cgroups = PodCgroups::new(&options.node_uid, CgroupDriver::Cgroupfs);
        let cgroups = cgroups.map_err(|source| Error::Guard {
            program: program_of(&options),
            action: "find control groups",
            source,
        })?;
        let ledger = Ledger::new(options.directory.join("runs"));
        let waiting = Waiting { problem: String::new(), deadline: Duration::MAX };
        let meeting = Arc::new(Meeting {
            options,
            engine,
            ledger,
            has_unified_groups: cgroups.is_v2(),
            shared: OnceLock::new(),
            waiting: Mutex::new(waiting),
            tasks: Mutex::default(),
        });
        let patience = Duration::from_millis(limits::ENGINE_MEET_MS);
        let silence = || Refusal::silence("ask its version", patience);
        let met = tokio::time::timeout(patience, meeting.meet()).await.unwrap_or_else(|_| Err(silence()));
        match (met, meeting.ledger.engine()) {
            (Ok((facts, status)), _) => meeting.set_up(facts, Ok(status), false).await?,
            (Err(refusal), Some(facts)) => {
                let problem = refusal.problem();
                tracing::warn!(
                    problem,
                    "the container engine can't be used now; what it runs goes on, guarded"
                );
                meeting.set_up(facts, Err(refusal), false).await?;
            }
            (Err(refusal), None) => {
                if guard::is_there(&meeting.options.directory) {
                    // Something may run of which nothing is known here.
                    return Err(meeting.engine.error(refusal));
                }
                let problem = refusal.problem();
                tracing::warn!(
                    problem,
                    "the container engine can't be used yet; no container is started until it can"
                );
                meeting.lock().problem = problem;
                let task = tokio::spawn(meeting.clone().meet_later());
                meeting.look_after(vec![task]);
            }
        }
        Ok(meeting)
    }

    /// All that needs the engine to have been met.
    ///
    /// # Errors
    /// Why it has not been.
    pub fn shared(&self) -> Result<&Arc<Shared>, Error> {
        self.shared.get().ok_or_else(|| Error::Engine {
            socket: self.options.socket.clone(),
            action: "use it",
            message: self.lock().problem.clone(),
        })
    }

    /// See [`Runtime::conditions`](crate::Runtime::conditions).
    pub fn conditions(&self) -> Vec<Condition> {
        match self.shared.get() {
            Some(shared) => shared.health.conditions(),
            None => vec![health::unavailable(&self.lock().problem)],
        }
    }

    /// See [`Runtime::set_deadline`](crate::Runtime::set_deadline).
    pub fn set_deadline(&self, moment: Duration) {
        let mut waiting = self.lock();
        match self.shared.get() {
            Some(shared) => shared.guard.set_deadline(moment),
            None => waiting.deadline = moment,
        }
    }

    /// Ends what looks after containers; they go on.
    pub fn end(&self) {
        self.lock_tasks().drain(..).for_each(|task| task.abort());
    }

    async fn meet(&self) -> Result<(EngineFacts, EngineStatus), Refusal> {
        let (name, version) = self.engine.version().await?;
        let status = self.engine.status().await?;
        if let Some(why) = status.not_ready.get("RuntimeReady") {
            return Err(Refusal::not_ready(why));
        }
        let is_systemd = status.driver == CgroupDriver::Systemd;
        tracing::info!(engine = name, version, systemd = is_systemd, "container engine found");
        let facts = EngineFacts { name, driver: status.driver, sandbox_image: status.sandbox_image.clone() };
        Ok((facts, status))
    }

    async fn meet_later(self: Arc<Meeting>) {
        let (mut pause, longest) = limits::ENGINE_MEET_PAUSE_MS;
        loop {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            pause = (pause * 2).min(longest);
            let problem = match self.meet().await {
                Ok((facts, status)) => match self.set_up(facts, Ok(status), true).await {
                    Ok(()) => return,
                    Err(error) => error.to_string(),
                },
                Err(refusal) => refusal.problem(),
            };
            let known = std::mem::replace(&mut self.lock().problem, problem.clone());
            if known != problem {
                tracing::warn!(problem, "the container engine can't be used yet");
            }
        }
    }

    /// Starts the guard and everything that looks after containers. `is_late`: nothing was left to be looked for.
    async fn set_up(
        &self,
        facts: EngineFacts,
        seen: Result<EngineStatus, Refusal>,
        is_late: bool,
    ) -> Result<(), Error> {
        let options = &self.options;
        let program = program_of(options);
        let failed = |action| {
            let program = program.clone();
            move |source| Error::Guard { program, action, source }
        };
        let cgroups =
            PodCgroups::new(&options.node_uid, facts.driver).map_err(failed("find control groups"))?;
        let guard = Guard::start(program.clone(), &options.directory, cgroups.clone()).await?;
        // Before anything is made there: an agent that comes when the engine is down must know where to look.
        self.ledger.keep_engine(&facts).map_err(failed("write what it is to know"))?;
        let mut images =
            Images::new(self.engine.clone(), options.credentials.clone(), options.mirrors.clone());
        (images.disk, images.age_min) = (options.image_disk, options.image_age_min);
        images.kept = facts.sandbox_image;
        let health = Health::new(facts.driver, options.network == CriNetwork::Pod);
        let was_met = seen.is_ok();
        health.note(seen, Vec::new());
        let shared = Arc::new(Shared {
            engine: self.engine.clone(),
            engine_name: facts.name,
            cgroups,
            guard,
            images,
            logs: options.logs.clone(),
            node_uid: options.node_uid.clone(),
            network: options.network,
            policy: options.policy.clone(),
            sources: Sources::new(options.directory.join("sources")),
            ledger: self.ledger.clone(),
            owners: options.owners,
            collect_pause: options.collect_pause,
            pods: Mutex::default(),
            starts: Semaphore::new(limits::ENGINE_STARTS_CONCURRENT_MAX),
            states: watch::Sender::default(),
            list_now: Notify::new(),
            recovered: AtomicBool::new(is_late),
            is_let_go: AtomicBool::new(false),
            health,
        });
        if was_met {
            health::look(&shared).await;
        }
        self.look_after(vec![
            tokio::spawn(list_states(shared.clone())),
            tokio::spawn(follow_events(shared.clone())),
            tokio::spawn(recovery::collect(shared.clone())),
            tokio::spawn(health::watch(shared.clone())),
        ]);
        let waiting = self.lock();
        shared.guard.set_deadline(waiting.deadline);
        // Only here, and once.
        let _ = self.shared.set(shared);
        Ok(())
    }

    fn look_after(&self, tasks: Vec<JoinHandle<()>>) {
        self.lock_tasks().extend(tasks);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Whole after any panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_tasks(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        // As above.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn program_of(options: &CriRuntimeOptions) -> PathBuf {
    options.guard_program.clone().unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}
