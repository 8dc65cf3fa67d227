//! How the engine is, looked at from time to time.
//!
//! Owns: whether it answers and is ready, what it is known to do wrong, and where its images are. Does not own: what becomes of
//! containers meanwhile: they go on, and what is to be started waits.

use super::cgroup::CgroupDriver;
use super::engine::{EngineStatus, Refusal};
use super::{Condition, Shared, engine_faults};
use crate::limits;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stint_api::ENGINE_UNAVAILABLE;

/// What was seen last.
#[derive(Debug)]
pub(super) struct Health {
    /// How its control groups are named, for as long as this agent runs.
    driver: CgroupDriver,
    /// Pods are to have a network of their own.
    needs_network: bool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Why the engine can't be used.
    problem: Option<String>,
    /// Why Pods get no network.
    network_problem: Option<String>,
    /// Why the end of what containers write may be missing.
    lost_output: Option<String>,
    image_folders: Vec<PathBuf>,
}

/// What a node says whose engine can't be used.
pub(super) fn unavailable(problem: &str) -> Condition {
    let message = format!(
        "the container engine can't be used: {problem}; containers that run go on, none is started: see to the engine"
    );
    Condition { kind: ENGINE_UNAVAILABLE, message }
}

impl Health {
    pub fn new(driver: CgroupDriver, needs_network: bool) -> Health {
        Health { driver, needs_network, seen: Mutex::default() }
    }

    /// What the node should say of it.
    pub fn conditions(&self) -> Vec<Condition> {
        let seen = self.lock();
        let network = seen.network_problem.as_ref().map(|why| Condition {
            kind: "NetworkUnavailable",
            message: format!(
                "Pods get no network of their own: {why}; set up a CNI plug-in, or use the host's network"
            ),
        });
        let logs = seen.lost_output.clone().map(|message| Condition { kind: "LogsDegraded", message });
        seen.problem.as_deref().map(unavailable).into_iter().chain(network).chain(logs).collect()
    }

    /// Whether it could be used when it was looked at last.
    pub fn is_good(&self) -> bool {
        self.lock().problem.is_none()
    }

    /// Where the engine keeps images, if it has told.
    pub fn image_folders(&self) -> Vec<PathBuf> {
        self.lock().image_folders.clone()
    }

    /// Its name and its version, which is another one after it was upgraded.
    pub fn note_version(&self, engine: &str, version: &str) {
        let lost_output = engine_faults::loses_output(engine, version);
        let known = std::mem::replace(&mut self.lock().lost_output, lost_output.clone());
        if let Some(problem) = lost_output.filter(|_| known.is_none()) {
            tracing::warn!(problem, "logs of containers may lack their end");
        }
    }

    /// What was seen.
    pub fn note(&self, status: Result<EngineStatus, Refusal>, image_folders: Vec<PathBuf>) {
        let mut seen = self.lock();
        let problem = match status {
            Ok(status) => {
                let network = status.not_ready.get("NetworkReady").filter(|_| self.needs_network);
                seen.network_problem = network.cloned();
                match status.not_ready.get("RuntimeReady") {
                    Some(why) => Some(Refusal::not_ready(why).message),
                    None if status.driver != self.driver => {
                        Some("its cgroup driver is another one than it was: start the agent again".to_owned())
                    }
                    None => None,
                }
            }
            Err(refusal) => Some(refusal.problem()),
        };
        match (&seen.problem, &problem) {
            (None, Some(problem)) => {
                tracing::warn!(problem, "the container engine can't be used; what it runs goes on, guarded");
            }
            (Some(_), None) => tracing::info!("the container engine can be used again"),
            _ => {}
        }
        seen.problem = problem;
        if !image_folders.is_empty() {
            seen.image_folders = image_folders;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Whole after any panic.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One look.
pub(super) async fn look(shared: &Shared) {
    let status = shared.engine.status().await;
    // One that does not answer is not waited for again before that is said.
    let folders = match &status {
        Ok(_) => {
            if let Ok((engine, version)) = shared.engine.version().await {
                shared.health.note_version(&engine, &version);
            }
            shared.engine.image_folders().await.unwrap_or_default()
        }
        Err(_) => Vec::new(),
    };
    shared.health.note(status, folders.into_iter().map(PathBuf::from).collect());
}

/// Looks for as long as the runtime lives.
pub(super) async fn watch(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(Duration::from_millis(limits::ENGINE_LOOK_MS)).await;
        look(&shared).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tonic::Code;

    fn status(not_ready: &[(&str, &str)]) -> EngineStatus {
        let texts = not_ready.iter().map(|(kind, why)| ((*kind).to_owned(), (*why).to_owned()));
        EngineStatus {
            not_ready: texts.collect::<BTreeMap<_, _>>(),
            driver: CgroupDriver::Cgroupfs,
            sandbox_image: None,
        }
    }

    #[test]
    fn an_engine_that_is_gone_or_not_ready_is_said_to_be() {
        let health = Health::new(CgroupDriver::Cgroupfs, true);
        let said = || health.conditions();
        assert!(said().is_empty() && health.is_good());
        health.note(Ok(status(&[])), vec![PathBuf::from("/images")]);
        assert!(said().is_empty());
        let gone = Refusal { action: "ask its status", code: Code::Unavailable, message: "gone".to_owned() };
        health.note(Err(gone), Vec::new());
        assert_eq!(said().len(), 1);
        assert_eq!(said()[0].kind, "EngineUnavailable");
        assert!(said()[0].message.contains("ask its status: gone") && !health.is_good());
        assert_eq!(health.image_folders(), [PathBuf::from("/images")], "they are where they were");
        health.note(Ok(status(&[("RuntimeReady", "starting: later")])), Vec::new());
        assert!(said()[0].message.contains("starting: later"));
        health.note(Ok(status(&[("NetworkReady", "no plug-in")])), Vec::new());
        assert_eq!((said().len(), said()[0].kind), (1, "NetworkUnavailable"));
        assert!(health.is_good(), "Pods of the host's network can be run");
        let other = EngineStatus { driver: CgroupDriver::Systemd, ..status(&[]) };
        health.note(Ok(other), Vec::new());
        assert!(said()[0].message.contains("cgroup driver"), "leases would not hold");
        health.note(Ok(status(&[])), Vec::new());
        assert!(said().is_empty());
        health.note_version("containerd", "1.6.20~ds1");
        assert_eq!((said().len(), said()[0].kind), (1, "LogsDegraded"));
        assert!(health.is_good(), "containers run");
        health.note_version("containerd", "1.7.24");
        assert!(said().is_empty(), "it was upgraded");
        let on_host = Health::new(CgroupDriver::Cgroupfs, false);
        on_host.note(Ok(status(&[("NetworkReady", "no plug-in")])), Vec::new());
        assert!(on_host.conditions().is_empty());
    }
}
