//! How a container is started in its Pod's sandbox, and what is left when that fails.
//!
//! Owns: the steps of a start, the lease under which it may happen, what becomes of a start that the engine leaves open. Does not
//! own: the sandbox, what follows a start (`container`).

use super::NAME;
use super::api::CreateContainerRequest;
use super::config::container_config;
use super::container::{CriContainer, Facts, time_of};
use super::engine::Answer;
use super::guard_process::now;
use super::ledger::{RunRecord, StartedRecord};
use super::sandbox::{CriSandbox, blocking};
use crate::{
    BoxFuture, ContainerId, ContainerSpec, Error, Exit, ExitReason, Rootfs, RunningContainer, limits,
};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Runs of a container whose names are told apart from those of further tries.
const RUNS_BITS: u32 = 20;

impl CriSandbox {
    /// Everything about a start but giving it up when nobody waits for it any more.
    pub(super) async fn start_container(
        self: Arc<Self>,
        spec: ContainerSpec,
        mut killed: BoxFuture<'static, ()>,
    ) -> Result<Arc<dyn RunningContainer>, Error> {
        let shared = self.shared.clone();
        let container = || spec.id.container_name().to_owned();
        let prepared = async {
            // Never closed.
            let permit = shared.starts.acquire().await;
            // For one that waited too long the engine need do nothing.
            if self.lease_left(&spec).is_zero() {
                return Err(Error::StartTooLate { container: container() });
            }
            self.create(&spec).await.map(|created| (permit, created))
        };
        let (_permit, (container_id, stop_signal)) = tokio::select! {
            biased;
            // What was made of it is not started, and goes with its Pod.
            () = &mut killed => return Err(Error::StartKilled { container: container() }),
            prepared = prepared => prepared?,
        };
        if self.lease_left(&spec).is_zero() {
            self.discard(&spec.id, container_id);
            return Err(Error::StartTooLate { container: container() });
        }
        let facts = Facts {
            id: spec.id.clone(),
            container_id,
            image_ref: String::new(),
            log_limits: spec.log_limits,
            stop_signal,
            streams: spec.streams,
            started_at: None,
        };
        // First of all: from now on it may run, whatever becomes of this process.
        if let Err(source) = self.keep_run(&facts, None).await {
            self.discard(&spec.id, facts.container_id);
            let action = "write down that it is started";
            return Err(Error::StartResources { container: container(), action, source });
        }
        let mut start = Box::pin(shared.engine.start_container(facts.container_id.clone()));
        let answer = tokio::select! {
            biased;
            () = &mut killed => {
                self.condemn(&facts.container_id).await;
                self.discard(&spec.id, facts.container_id);
                return Err(Error::StartKilled { container: container() });
            }
            answer = &mut start => Some(answer),
            () = self.lease_over(&spec) => None,
        };
        match answer {
            Some(Ok(())) => Ok(self.started(facts).await),
            Some(Err(refusal)) if let Some(failure) = start_failure(&refusal.message) => {
                Ok(self.not_started(facts, failure))
            }
            answer => tokio::select! {
                biased;
                settled = self.settle(&spec, facts, answer, start) => settled,
                // The control group stays as it is until the Pod is closed.
                () = &mut killed => Err(Error::StartKilled { container: container() }),
            },
        }
    }

    /// How long the lease still lasts under which a container may start. It may have been renewed since the start was asked for:
    /// then the guard knows.
    fn lease_left(&self, spec: &ContainerSpec) -> Duration {
        let Some(asked) = spec.start_before else { return Duration::MAX };
        self.shared.guard.deadline().map_or(asked, |renewed| renewed.max(asked)).saturating_sub(now())
    }

    /// Resolves when the lease has run out.
    async fn lease_over(&self, spec: &ContainerSpec) {
        loop {
            let left = self.lease_left(spec);
            if left.is_zero() {
                return;
            }
            // Another clock, which stands still while the host sleeps.
            tokio::time::sleep(left.min(Duration::from_millis(limits::ENGINE_SANDBOX_MS))).await;
        }
    }

    /// Makes a container in the engine; answers the engine's id and its stop signal.
    async fn create(&self, spec: &ContainerSpec) -> Result<(String, Option<i32>), Error> {
        let engine = &self.shared.engine;
        let Some(image) = &spec.image else {
            let what = format!("container {:?} has no image", spec.id.container_name());
            return Err(Error::Unsupported { runtime: NAME, what });
        };
        let policy = &self.shared.policy;
        policy.check_container(Rootfs::Image, spec).map_err(|violation| Error::NotAllowed {
            of: format!("container {:?}", spec.id.container_name()),
            violation,
        })?;
        let image = self.shared.images.get(image).await?;
        let facts = self.lock_state().facts.clone();
        let is_v2 = self.shared.cgroups.is_v2();
        let mut spec = spec.clone();
        let processes = spec.resources.processes_max.into_iter().chain(policy.processes_per_container);
        spec.resources.processes_max = processes.min();
        let (sources, directory) = (self.shared.sources.clone(), facts.directory.clone());
        let holding = tokio::task::spawn_blocking(move || {
            sources.hold(&directory, &spec.id, &mut spec.mounts).map(|()| spec)
        });
        let spec = holding.await.unwrap_or_else(|failure| {
            let source = io::Error::other(failure.to_string());
            let container = self.uid.clone();
            Err(Error::StartResources { container, action: "hold what it sees of the host", source })
        })?;
        let mut config =
            container_config(&facts, &spec, &self.shared.node_uid, &image.id, image.user, is_v2)?;
        let tries = self.lock_state().discarded.get(&spec.id).copied().unwrap_or(0);
        if let Some(metadata) = &mut config.metadata {
            // A part of its name and of nothing else: which run it is stands in its labels.
            metadata.attempt = metadata.attempt.wrapping_add(tries << RUNS_BITS);
        }
        self.remove_earlier_runs(&spec.id).await;
        if let Err(error) = self.shared.logs.remove_earlier_runs(&spec.id).await {
            // There is another try with the next run.
            tracing::warn!(container = %spec.id, %error, "logs of earlier runs can't be removed");
        }
        let request = CreateContainerRequest {
            pod_sandbox_id: self.ready().await?,
            config: Some(config),
            sandbox_config: Some(self.config()),
        };
        match engine.create_container(request).await {
            Ok(id) => Ok((id, spec.stop_signal.or(image.stop_signal))),
            Err(refusal) => {
                // It may have one of that name all the same, which goes with its sandbox.
                *self.lock_state().discarded.entry(spec.id.clone()).or_default() += 1;
                Err(engine.error(refusal))
            }
        }
    }

    /// The engine need not keep those whose end was told.
    async fn remove_earlier_runs(&self, id: &ContainerId) {
        let earlier: Vec<_> = {
            let state = self.lock_state();
            let same =
                state.containers.values().filter(|other| other.id().container_name() == id.container_name());
            same.filter(|other| other.has_ended()).cloned().collect()
        };
        for container in earlier {
            if self.shared.engine.remove_container(container.container_id()).await.is_ok() {
                self.lock_state().containers.remove(container.id());
            }
        }
    }

    async fn started(&self, mut facts: Facts) -> Arc<dyn RunningContainer> {
        let mut pid = None;
        let mut started_at = SystemTime::now();
        // Without an answer it is looked after all the same, by the list.
        if let Ok((status, its_pid)) = self.shared.engine.container_status(&facts.container_id).await {
            pid = its_pid;
            started_at = time_of(status.started_at).unwrap_or(started_at);
            facts.image_ref = status.image_ref;
        }
        facts.started_at = Some(started_at);
        let record = StartedRecord { at: started_at, image_ref: facts.image_ref.clone(), pid };
        // Without it an agent that finds the engine down knows less of it.
        if let Err(error) = self.keep_run(&facts, Some(record)).await {
            tracing::warn!(container = %facts.id, %error, "that it runs can't be written down");
        }
        let container = CriContainer::new(&self.shared, facts, pid);
        self.insert(container.clone());
        container
    }

    /// The engine could not start it, for the container's own reasons: that is an end.
    fn not_started(&self, facts: Facts, (exit_code, message): (i32, String)) -> Arc<dyn RunningContainer> {
        // Whatever the reason, nothing of it may be left.
        self.discard(&facts.id, facts.container_id.clone());
        // An agent that comes before its end is on record finds the same.
        self.shared.ledger.forget_run(&facts.id);
        let exit = Exit {
            exit_code,
            signal: None,
            reason: ExitReason::StartError,
            message,
            finished_at: SystemTime::now(),
            log_bytes_dropped: 0,
            fenced: false,
        };
        CriContainer::never_ran(&self.shared, Facts { stop_signal: None, ..facts }, exit)
    }

    /// Ends a start that failed for reasons of the engine's, or whose time is over (no answer), and finds out whether the
    /// container has run meanwhile: a run that has begun has an end, and is not begun again.
    async fn settle(
        &self,
        spec: &ContainerSpec,
        facts: Facts,
        answer: Option<Answer<()>>,
        start: impl Future<Output = Answer<()>>,
    ) -> Result<Arc<dyn RunningContainer>, Error> {
        self.condemn(&facts.container_id).await;
        let is_late = answer.is_none();
        let answer = match answer {
            Some(answer) => Some(answer),
            // What was started of it is killed, which brings the start to an end.
            None => self.while_killing(spec, &facts, start).await,
        };
        let has_begun = match &answer {
            Some(Ok(())) => true,
            Some(Err(refusal)) if !refusal.is_silence() => false,
            _ => self.while_killing(spec, &facts, self.has_begun(&facts.container_id)).await == Some(true),
        };
        if has_begun {
            tracing::warn!(container = %facts.id, "it was started without an answer in time, and is killed");
            let container = self.started(facts).await;
            drop(container.kill());
            return Ok(container);
        }
        self.discard(&spec.id, facts.container_id);
        self.shared.ledger.forget_run(&spec.id);
        match answer {
            Some(Err(refusal)) if !is_late => Err(resources_error(spec, refusal.message)),
            _ => Err(Error::StartTooLate { container: spec.id.container_name().to_owned() }),
        }
    }

    /// Waits for something while all that the engine still starts of a container is killed; not for long once the lease has run
    /// out: everything ends then.
    async fn while_killing<T>(
        &self,
        spec: &ContainerSpec,
        facts: &Facts,
        wanted: impl Future<Output = T>,
    ) -> Option<T> {
        let begun = Instant::now();
        tokio::pin!(wanted);
        loop {
            tokio::select! {
                biased;
                value = &mut wanted => return Some(value),
                () = tokio::time::sleep(Duration::from_millis(limits::CONDEMNED_PASS_MS)) => {}
            }
            self.kill(&facts.container_id, Duration::ZERO).await;
            let is_long = begun.elapsed() >= Duration::from_millis(limits::ENGINE_SILENCE_MS);
            if is_long && self.lease_left(spec).is_zero() {
                return None;
            }
        }
    }

    /// Resolves when the engine says whether a container was ever started.
    async fn has_begun(&self, container_id: &str) -> bool {
        loop {
            match self.shared.engine.container_status(container_id).await {
                Ok((status, _)) => return status.started_at > 0,
                Err(refusal) if refusal.is_not_found() => return false,
                Err(_) => tokio::time::sleep(Duration::from_millis(limits::ENGINE_RETRY_MS)).await,
            }
        }
    }

    /// Resolves when nothing of a container runs, and nothing will, whatever the engine still does.
    async fn condemn(&self, container_id: &str) {
        let (cgroups, uid, id) = (self.shared.cgroups.clone(), self.uid.clone(), container_id.to_owned());
        let condemned = tokio::task::spawn_blocking(move || cgroups.condemn_container(&uid, &id));
        let _ = condemned.await;
        self.kill(container_id, Duration::from_millis(limits::KILL_PATIENCE_MS)).await;
    }

    /// Kills what runs in one of its containers, for at most `patience`.
    pub(super) async fn kill(&self, container_id: &str, patience: Duration) {
        let (cgroups, uid, id) = (self.shared.cgroups.clone(), self.uid.clone(), container_id.to_owned());
        let killed = tokio::task::spawn_blocking(move || cgroups.kill_container(&uid, &id, patience));
        let _ = killed.await;
    }

    /// A container that an earlier agent has left never ran, and is not going to.
    pub(super) fn never_began(&self, run: &ContainerId, container_id: String) {
        self.discard(run, container_id);
        self.shared.ledger.forget_run(run);
    }

    /// A run of which it is not known whether it ran. Resolves when nothing of it runs, and nothing will.
    pub(super) async fn give_up(&self, run: &ContainerId, container_id: String) {
        self.condemn(&container_id).await;
        self.discard(run, container_id);
    }

    async fn keep_run(&self, facts: &Facts, started: Option<StartedRecord>) -> io::Result<()> {
        let record = RunRecord {
            id: facts.id.clone(),
            container_id: facts.container_id.clone(),
            log_limits: facts.log_limits,
            stop_signal: facts.stop_signal,
            streams: facts.streams,
            started,
        };
        let ledger = self.shared.ledger.clone();
        let log = self.shared.log_of(&record.id, record.log_limits);
        let keep = move || {
            if record.started.is_none() {
                log.forget_start()?;
            }
            ledger.keep_run(&record)
        };
        blocking(keep).await
    }

    /// Removes a container in the background, until the engine confirms it; kills what the engine starts of it meanwhile.
    pub(super) fn discard(&self, run: &ContainerId, container_id: String) {
        let (shared, uid) = (self.shared.clone(), self.uid.clone());
        *self.lock_state().discarded.entry(run.clone()).or_default() += 1;
        tokio::spawn(async move {
            let (cgroups, id) = (shared.cgroups.clone(), container_id.clone());
            let remove = async {
                while shared.engine.remove_container(&container_id).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(limits::ENGINE_RETRY_MS)).await;
                }
            };
            // While the engine works too: it waits for the end of what it killed, and what is frozen does not end by that.
            let kill = async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(limits::CONDEMNED_PASS_MS)).await;
                    let (cgroups, uid, id) = (cgroups.clone(), uid.clone(), id.clone());
                    let pass = move || cgroups.kill_container(&uid, &id, Duration::ZERO);
                    let _ = tokio::task::spawn_blocking(pass).await;
                }
            };
            tokio::select! {
                () = remove => {}
                () = kill => {}
            }
        });
    }
}

fn resources_error(spec: &ContainerSpec, message: String) -> Error {
    let container = spec.id.container_name().to_owned();
    Error::StartResources { container, action: "have the engine start it", source: io::Error::other(message) }
}

/// Exit code and message, if the container itself is the reason why it can't be started (as shells have it: 127 if there is no
/// such program, 126 if it can't be executed). `None`: the host lacks something, and another try may succeed.
fn start_failure(message: &str) -> Option<(i32, String)> {
    let has = |text: &str| message.contains(text);
    let lacks = [
        "resource temporarily unavailable",
        "cannot allocate memory",
        "too many open files",
        "no space left",
        // The engine ended, or gave it up because somebody else had.
        "context canceled",
        "context deadline exceeded",
        "ttrpc: closed",
        "transport is closing",
        "connection refused",
    ];
    // What the engine itself refuses, such as a sandbox that was killed meanwhile, is no fault of the container's either.
    let is_of_the_runtime = ["OCI runtime", "runc", "crun"].iter().any(|text| has(text));
    if !is_of_the_runtime || lacks.iter().any(|text| has(text)) {
        return None;
    }
    // The engine's own words come last.
    let shown = message.rsplit("runc create failed: ").next().unwrap_or(message).to_owned();
    let exit_code = if has("executable file not found") || (has("exec") && has("no such file or directory")) {
        127
    } else if has("permission denied") || has("exec format error") || has("is a directory") {
        126
    } else {
        128
    };
    Some((exit_code, shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_the_container_are_ends_and_those_of_the_host_are_not() {
        let runc = |text: &str| {
            format!(
                "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: {text}: unknown"
            )
        };
        let check = |text: &str, expected: Option<i32>| {
            assert_eq!(start_failure(&runc(text)).map(|(code, _)| code), expected, "{text}");
        };
        check(
            r#"unable to start container process: exec: "nope": executable file not found in $PATH"#,
            Some(127),
        );
        check(
            r#"unable to start container process: exec: "/nope": stat /nope: no such file or directory"#,
            Some(127),
        );
        check(r#"unable to start container process: exec: "/etc/passwd": permission denied"#, Some(126));
        check("error mounting \"/x\" to rootfs at \"/y\": not a directory", Some(128));
        check(
            "unable to start container process: fork/exec /proc/self/exe: resource temporarily unavailable",
            None,
        );
        check("ttrpc: closed", None);
        check("context canceled", None);
        assert_eq!(start_failure("sandbox container \"3ef5\" is not running"), None);
        assert_eq!(start_failure("failed to get sandbox container task: no running task found"), None);
        let (_, shown) = start_failure(&runc("exec: \"nope\": executable file not found in $PATH")).unwrap();
        assert!(shown.starts_with("exec: \"nope\""), "{shown}");
    }
}
