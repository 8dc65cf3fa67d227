//! A Pod as the servers want it run.
//!
//! Owns: reading the template, keeping it for a later agent, what the machine and the log server have to know of it. Does not
//! own: what it becomes for a runtime (`specs`, `volumes`).

use prost::Message;
use std::path::{Path, PathBuf};
use std::time::Duration;
use stint_api::{Container, LifecycleHandler, PodSpec, Probe, RestartPolicy, VolumeSource};
use stint_api::{PodUid, TerminationMessagePolicy};
use stint_proto::v1;

use super::actions::Action;
use super::machine::{Hook, Index};
use super::plan::{ContainerPlan, PodPlan, ProbeKind, ProbePlan};
use crate::journal::number_of;
use crate::limits;

/// File of a Pod's folder that says what it is, for an agent that finds it running.
const FILE: &str = "pod";

/// See the module.
#[derive(Debug, Clone)]
pub struct PodTemplate {
    /// Without the spec.
    to_run: v1::PodToRun,
    spec: PodSpec,
    /// Why the spec can't be read; empty: it can.
    problem: String,
    /// The Pod's own folder.
    folder: PathBuf,
}

impl PodTemplate {
    /// Of a Pod whose folder is `folder`.
    pub fn new(mut to_run: v1::PodToRun, folder: PathBuf) -> PodTemplate {
        // Kilobytes, which there is no need to have twice.
        let read = PodSpec::try_from(to_run.spec.take().unwrap_or_default());
        let (spec, problem) = match read {
            Ok(spec) => (spec, String::new()),
            Err(error) => (PodSpec::default(), format!("the pod's spec can't be read: {error}")),
        };
        PodTemplate { to_run, spec, problem, folder }
    }

    /// As an earlier agent has kept it. None if it can't be read.
    pub fn read(folder: &Path) -> Option<PodTemplate> {
        let bytes = std::fs::read(folder.join(FILE)).ok()?;
        let to_run = v1::PodToRun::decode(&bytes[..]).ok()?;
        Some(PodTemplate::new(to_run, folder.to_owned()))
    }

    /// Keeps it for a later agent. The folder must be there.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn keep(&self) -> std::io::Result<()> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let temporary = self.folder.join(format!("{FILE}.new"));
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let to_run = v1::PodToRun { spec: Some(self.spec.clone().into()), ..self.to_run.clone() };
        // It serves until the host is booted again: no fsync.
        file.write_all(&to_run.encode_to_vec())?;
        std::fs::rename(&temporary, self.folder.join(FILE))
    }

    /// As the servers said it, but for the spec.
    pub fn to_run(&self) -> &v1::PodToRun {
        &self.to_run
    }

    /// What it is made of.
    pub fn spec(&self) -> &PodSpec {
        &self.spec
    }

    /// Which Pod.
    pub fn uid(&self) -> PodUid {
        PodUid(number_of(&self.to_run.uid))
    }

    /// The Pod's own folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What its containers call the host.
    pub fn hostname(&self) -> &str {
        let name = self.spec.hostname.as_deref().filter(|name| !name.is_empty());
        let name = name.unwrap_or(&self.to_run.name);
        let end = name.len().min(limits::HOSTNAME_BYTES_MAX);
        name.get(..end).unwrap_or(name).trim_end_matches(['-', '.'])
    }

    /// Its own grace.
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.to_run.termination_grace_period_ms)
    }

    /// Place of a container.
    ///
    /// # Errors
    /// That it has no such one, for people.
    pub fn index_of(&self, container: &str) -> Result<Index, String> {
        let index = self.containers().position(|known| known.name == container);
        index.ok_or_else(|| match self.problem.as_str() {
            "" => format!("the pod has no container {container:?}"),
            problem => problem.to_owned(),
        })
    }

    /// The container at a place.
    pub fn container(&self, index: Index) -> Option<&Container> {
        let init = self.spec.init_containers.len();
        self.spec.init_containers.get(index).or_else(|| self.spec.containers.get(index.checked_sub(init)?))
    }

    /// All of them, by their places: init containers and sidecars in their order, then the others.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.spec.init_containers.iter().chain(&self.spec.containers)
    }

    /// Those that run beside each other when the Pod runs.
    pub fn app_containers(&self) -> &[Container] {
        &self.spec.containers
    }

    /// Name of the container at a place; empty if there is none.
    pub fn name_of(&self, index: Index) -> &str {
        self.container(index).map_or("", |container| container.name.as_str())
    }

    /// True if it has just one container of any kind.
    pub fn is_single(&self) -> bool {
        self.spec.init_containers.len() + self.spec.containers.len() <= 1
    }

    /// The container whose log is meant if none is named.
    pub fn main_container(&self) -> &str {
        self.spec.containers.first().map_or("", |container| container.name.as_str())
    }

    /// True if a volume is a path of the host.
    pub fn shows_host_paths(&self) -> bool {
        self.spec.volumes.iter().any(|volume| matches!(volume.source, VolumeSource::HostPath(_)))
    }

    /// True if the content of a volume is given.
    pub fn has_given_volumes(&self) -> bool {
        !self.to_run.volume_files.is_empty()
    }

    /// Something that a container refers to was not there when the servers looked.
    pub fn lacks_references(&self) -> bool {
        !self.to_run.config_errors.is_empty()
    }

    /// True if `newer` is this Pod, looked up anew with another outcome.
    pub fn is_renewed_by(&self, newer: &PodTemplate) -> bool {
        let names = |template: &PodTemplate| -> Vec<String> {
            template.containers().map(|container| container.name.clone()).collect()
        };
        let is_another = (&self.to_run, &self.spec) != (&newer.to_run, &newer.spec);
        self.lacks_references() && is_another && names(self) == names(newer)
    }

    /// What the machine has to know. With `uses_images` something may have to be fetched before a container starts.
    pub fn plan(&self, uses_images: bool) -> PodPlan {
        let plan = |(index, container): (Index, &Container)| {
            let lifecycle = container.lifecycle.as_ref();
            ContainerPlan {
                name: container.name.clone(),
                is_sidecar: index < self.spec.init_containers.len()
                    && container.restart_policy == Some(RestartPolicy::Always),
                needs_image: uses_images,
                config_error: self.to_run.config_errors.get(&container.name).cloned().unwrap_or_default(),
                post_start: lifecycle.is_some_and(|lifecycle| lifecycle.post_start.is_some()),
                pre_stop: lifecycle.is_some_and(|lifecycle| lifecycle.pre_stop.is_some()),
                probes: ProbeKind::ALL.map(|kind| probe_of(container, kind).map(probe_plan)),
            }
        };
        PodPlan { containers: self.containers().enumerate().map(plan).collect(), grace: self.grace() }
    }

    /// What a hook does.
    pub fn hook(&self, index: Index, hook: Hook) -> Action {
        let lifecycle = self.container(index).and_then(|container| container.lifecycle.as_ref());
        let handler = lifecycle.and_then(|lifecycle| match hook {
            Hook::PostStart => lifecycle.post_start.as_ref(),
            Hook::PreStop => lifecycle.pre_stop.as_ref(),
        });
        match handler {
            None => Action::None,
            Some(LifecycleHandler::Exec(exec)) => Action::Exec(exec.command.clone()),
            Some(LifecycleHandler::Sleep(sleep)) => {
                Action::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0)))
            }
        }
    }

    /// What a probe does, and how long it may take.
    pub fn probe(&self, index: Index, kind: ProbeKind) -> (Action, Duration) {
        match self.container(index).and_then(|container| probe_of(container, kind)) {
            None => (Action::None, limits::PROBE_TIMEOUT_MIN),
            Some(probe) => (Action::Exec(probe.exec.command.clone()), seconds(probe.timeout_seconds, 1)),
        }
    }

    /// What stops a container.
    pub fn stop_signal(&self, index: Index) -> Option<i32> {
        let lifecycle = self.container(index)?.lifecycle.as_ref()?;
        let name = lifecycle.stop_signal.as_deref()?;
        name.parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
    }

    /// Whether the end of its log stands for what a failed container has not said itself.
    pub fn falls_back_to_log(&self, index: Index) -> bool {
        let policy = self.container(index).and_then(|one| one.termination_message_policy.as_ref());
        policy == Some(&TerminationMessagePolicy::FallbackToLogsOnError)
    }
}

fn probe_of(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
    }
}

/// Zero stands for Kubernetes' default.
fn probe_plan(probe: &Probe) -> ProbePlan {
    let count =
        |number: i32, default: u32| u32::try_from(number).ok().filter(|it| *it > 0).unwrap_or(default);
    let grace = probe.termination_grace_period_seconds;
    ProbePlan {
        initial_delay: seconds(probe.initial_delay_seconds, 0),
        period: seconds(probe.period_seconds, 10),
        success_threshold: count(probe.success_threshold, 1),
        failure_threshold: count(probe.failure_threshold, 3),
        grace: grace.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0))),
    }
}

fn seconds(number: i32, default: u64) -> Duration {
    Duration::from_secs(u64::try_from(number).ok().filter(|seconds| *seconds > 0).unwrap_or(default))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::{ExecAction, Lifecycle, SleepAction};

    fn template(spec: PodSpec) -> PodTemplate {
        let to_run = v1::PodToRun {
            uid: vec![7; 16].into(),
            name: "a-pod".to_owned(),
            spec: Some(spec.into()),
            termination_grace_period_ms: 30_000,
            config_errors: [("app".to_owned(), "no configmap".to_owned())].into(),
            ..v1::PodToRun::default()
        };
        PodTemplate::new(to_run, PathBuf::from("/nowhere"))
    }

    fn container(name: &str) -> Container {
        Container { name: name.to_owned(), ..Container::default() }
    }

    #[test]
    fn the_machine_is_told_of_kinds_hooks_and_probes() {
        let exec = ExecAction { command: vec!["true".to_owned()] };
        let lifecycle = Lifecycle {
            post_start: Some(LifecycleHandler::Sleep(SleepAction { seconds: 3 })),
            pre_stop: None,
            stop_signal: Some("SIGUSR1".to_owned()),
        };
        let probe = Probe { exec, period_seconds: 7, ..Probe::default() };
        let sidecar = Container { restart_policy: Some(RestartPolicy::Always), ..container("side") };
        let app = Container {
            lifecycle: Some(lifecycle),
            liveness_probe: Some(probe),
            restart_policy: Some(RestartPolicy::Always),
            ..container("app")
        };
        let spec = PodSpec {
            init_containers: vec![container("init"), sidecar],
            containers: vec![app],
            hostname: Some("h".to_owned()),
            ..PodSpec::default()
        };
        let template = template(spec);
        let plan = template.plan(false);
        let kinds: Vec<_> = plan.containers.iter().map(|one| (one.name.as_str(), one.is_sidecar)).collect();
        assert_eq!(kinds, [("init", false), ("side", true), ("app", false)]);
        let app = &plan.containers[2];
        assert!(app.post_start && !app.pre_stop && app.config_error == "no configmap");
        let liveness = app.probe(ProbeKind::Liveness).unwrap();
        assert_eq!((liveness.period, liveness.failure_threshold), (Duration::from_secs(7), 3));
        assert_eq!(template.hook(2, Hook::PostStart), Action::Sleep(Duration::from_secs(3)));
        assert_eq!(template.probe(2, ProbeKind::Liveness).1, Duration::from_secs(1));
        assert_eq!((template.stop_signal(2), template.stop_signal(0)), (Some(10), None));
        assert_eq!(
            (template.main_container(), template.hostname(), template.is_single()),
            ("app", "h", false)
        );
        assert_eq!(template.index_of("side"), Ok(1));
        assert_eq!(template.index_of("x").unwrap_err(), "the pod has no container \"x\"");
    }

    #[test]
    fn a_later_agent_reads_what_an_earlier_one_kept() {
        let folder = tempfile::tempdir().unwrap();
        let spec = PodSpec { containers: vec![container("app")], ..PodSpec::default() };
        let before = PodTemplate { folder: folder.path().to_owned(), ..template(spec) };
        before.keep().unwrap();
        let after = PodTemplate::read(folder.path()).unwrap();
        assert_eq!((after.to_run(), after.spec()), (before.to_run(), before.spec()));
        assert_eq!(after.uid(), before.uid());
        std::fs::write(folder.path().join(FILE), [0xff; 9]).unwrap();
        assert!(PodTemplate::read(folder.path()).is_none());
    }
}
