//! A container of a Pod: what it runs, with which environment, and how it is watched and restarted.
//!
//! Owns: the types. Does not own: which field is honoured, kept or refused (validation), behaviour (`core`), execution
//! (`runtime`).

use crate::pod::RestartPolicy;
use crate::quantity::Quantity;
use crate::security::SecurityContext;
use crate::volume::VolumeMount;
use crate::words::words;
use std::collections::BTreeMap;

/// Fields of a container that mean something inside Kubernetes alone: kept, shown, without effect (table 1.6).
pub const KEPT_CONTAINER_FIELDS: [&str; 1] = ["ports"];

/// One program of a Pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Container {
    /// Unique within the Pod, init containers included; a DNS label.
    pub name: String,
    /// What it is started from; not used by the process runtime.
    pub image: String,
    /// Whether the image is fetched; set by defaulting, from the image's tag.
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Program and first arguments; `$(VAR)` is expanded. Empty: the image's entrypoint.
    pub command: Vec<String>,
    /// Further arguments; `$(VAR)` is expanded.
    pub args: Vec<String>,
    /// Environment, in order.
    pub env: Vec<EnvVar>,
    /// Whole objects that become environment; what `env` names goes before them, and later ones before earlier ones.
    pub env_from: Vec<EnvFromSource>,
    /// Working folder; empty: the image's, for a process one of the Pod's own.
    pub working_dir: String,
    /// What the scheduler sets aside: `cpu`, `memory`.
    pub requests: BTreeMap<String, Quantity>,
    /// What the container may use at most; a limit without a request sets the request.
    pub limits: BTreeMap<String, Quantity>,
    /// Where volumes of the Pod appear.
    pub volume_mounts: Vec<VolumeMount>,
    /// User, groups and privileges; goes before the Pod's.
    pub security_context: Option<SecurityContext>,
    /// Of an init container: `Always` makes it a sidecar (P7). Of others: goes before the Pod's (P10).
    pub restart_policy: Option<RestartPolicy>,
    /// Exit codes that are treated otherwise than the policy says; the first that matches decides (P10).
    pub restart_policy_rules: Vec<ContainerRestartRule>,
    /// What is done after its start and before its stop.
    pub lifecycle: Option<Lifecycle>,
    /// Until it succeeds the container has not started, and the other probes wait.
    pub startup_probe: Option<Probe>,
    /// When it fails the container is stopped.
    pub liveness_probe: Option<Probe>,
    /// Whether the container is ready.
    pub readiness_probe: Option<Probe>,
    /// File whose content becomes the message of its termination (P12); empty: `/dev/termination-log`.
    pub termination_message_path: String,
    /// What else may become that message (P12). Default `File`.
    pub termination_message_policy: Option<TerminationMessagePolicy>,
    /// Standard input stays open for clients that attach; else there is none.
    pub stdin: bool,
    /// Standard input ends with the first client that came with input. Means nothing without `stdin`, nor with `tty`.
    pub stdin_once: bool,
    /// All streams are a terminal of the container's own.
    pub tty: bool,
    /// Fields that are stored and shown but have no effect, of [`KEPT_CONTAINER_FIELDS`]: name → JSON.
    pub kept_fields: BTreeMap<String, String>,
}

words! {
    /// Whether an image is fetched before a container starts.
    ImagePullPolicy {
        /// Each time; what is there already is not fetched again if the registry says that it is the same.
        Always = "Always",
        /// If the node does not have it.
        IfNotPresent = "IfNotPresent",
        /// The node must have it.
        Never = "Never",
    }
}

words! {
    /// Where the message of a termination comes from (P12).
    TerminationMessagePolicy {
        /// Only the file.
        File = "File",
        /// The end of the container's output, if it failed and the file is empty.
        FallbackToLogsOnError = "FallbackToLogsOnError",
    }
}

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value; `$(VAR)` of earlier variables is expanded. Empty if `value_from` is given.
    pub value: String,
    /// Where the value comes from.
    pub value_from: Option<EnvVarSource>,
}

/// Where the value of a variable comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvVarSource {
    /// A field of the Pod.
    FieldRef(FieldRef),
    /// What a container requests or may use.
    ResourceFieldRef(ResourceFieldRef),
    /// A key of a ConfigMap of the Pod's namespace.
    ConfigMapKeyRef(ConfigMapKeyRef),
}

/// A field of the Pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldRef {
    /// Such as `metadata.name` or `metadata.labels['app']`.
    pub field_path: String,
}

/// What a container requests or may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourceFieldRef {
    /// Which container; empty: the one whose variable it is. Required in volumes.
    pub container_name: String,
    /// Such as `limits.memory`.
    pub resource: String,
    /// The unit: the amount is divided by it and rounded up. Default 1.
    pub divisor: Option<Quantity>,
}

/// A key of a ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigMapKeyRef {
    /// The ConfigMap.
    pub name: String,
    /// The key.
    pub key: String,
    /// True: the variable is left out if there is no such ConfigMap or key; else the container waits.
    pub optional: Option<bool>,
}

/// A ConfigMap of which each key becomes a variable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EnvFromSource {
    /// Put before each name.
    pub prefix: String,
    /// The ConfigMap.
    pub config_map_name: String,
    /// True: it need not exist; else the container waits for it.
    pub optional: Option<bool>,
}

/// Which exit codes are treated otherwise than the restart policy says (P10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRestartRule {
    /// What is done.
    pub action: RestartRuleAction,
    /// For which exit codes; required.
    pub exit_codes: Option<RestartRuleExitCodes>,
}

words! {
    /// What a restart rule does (P10).
    RestartRuleAction {
        /// The container is started again in place.
        Restart = "Restart",
        /// All containers of the Pod are, init containers first.
        RestartAllContainers = "RestartAllContainers",
    }
}

/// A set of exit codes (P10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartRuleExitCodes {
    /// Whether the codes listed are meant or all others.
    pub operator: ExitCodeOperator,
    /// The codes.
    pub values: Vec<i32>,
}

words! {
    /// How exit codes are compared with a list.
    ExitCodeOperator {
        /// The code is listed.
        In = "In",
        /// The code is not listed.
        NotIn = "NotIn",
    }
}

impl RestartRuleExitCodes {
    /// True if the set has this code.
    pub fn matches(&self, exit_code: i32) -> bool {
        match self.operator {
            ExitCodeOperator::In => self.values.contains(&exit_code),
            ExitCodeOperator::NotIn => !self.values.contains(&exit_code),
            ExitCodeOperator::Other(_) => false,
        }
    }
}

/// What is done after a container's start and before its stop.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lifecycle {
    /// Right after the start; if it fails the container is stopped.
    pub post_start: Option<LifecycleHandler>,
    /// Before the stop signal, within the grace (P6).
    pub pre_stop: Option<LifecycleHandler>,
    /// The signal that asks the container to end, such as `SIGINT`; unset: the image's, or SIGTERM (P6).
    pub stop_signal: Option<String>,
}

/// What a hook does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LifecycleHandler {
    /// Runs a command in the container.
    Exec(ExecAction),
    /// Waits.
    Sleep(SleepAction),
}

/// A command that is run in a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecAction {
    /// Program and arguments; no shell, nothing is expanded.
    pub command: Vec<String>,
}

/// A wait.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SleepAction {
    /// How long.
    pub seconds: i64,
}

/// A command that is run again and again to see how a container does. Numbers of 0 get their defaults, but for the delay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Probe {
    /// What is run: exit code 0 is success.
    pub exec: ExecAction,
    /// Seconds from the container's start to the first run. Default 0.
    pub initial_delay_seconds: i32,
    /// Seconds after which a run has failed. Default 1.
    pub timeout_seconds: i32,
    /// Seconds between runs. Default 10.
    pub period_seconds: i32,
    /// Successes in a row that make a failed probe succeed. Default 1.
    pub success_threshold: i32,
    /// Failures in a row that make it fail. Default 3.
    pub failure_threshold: i32,
    /// Goes before the Pod's grace when the probe stops the container.
    pub termination_grace_period_seconds: Option<i64>,
}

/// Signals of Linux, in the order of their numbers from 1.
const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];
/// The first and the last signal of real time that programs may use.
const REAL_TIME_SIGNALS: (i32, i32) = (34, 64);

/// The number of a signal such as `SIGTERM`, `SIGRTMIN+3` or `SIGRTMAX-1` on Linux; `None`: there is no such signal.
pub fn signal_number(name: &str) -> Option<i32> {
    if let Some(position) = SIGNALS.iter().position(|known| *known == name) {
        return i32::try_from(position + 1).ok();
    }
    let (first, last) = REAL_TIME_SIGNALS;
    let offset = |text: &str| text.parse::<i32>().ok().filter(|offset| (0..=last - first).contains(offset));
    match name {
        "SIGPOLL" => Some(29),
        "SIGIOT" => Some(6),
        "SIGCLD" => Some(17),
        "SIGRTMIN" => Some(first),
        "SIGRTMAX" => Some(last),
        _ => match (name.strip_prefix("SIGRTMIN+"), name.strip_prefix("SIGRTMAX-")) {
            (Some(text), _) => offset(text).map(|offset| first + offset),
            (_, Some(text)) => offset(text).map(|offset| last - offset),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_the_numbers_of_linux() {
        for (name, number) in [
            ("SIGHUP", Some(1)),
            ("SIGKILL", Some(9)),
            ("SIGTERM", Some(15)),
            ("SIGCHLD", Some(17)),
            ("SIGSYS", Some(31)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("SIGRTMAX-1", Some(63)),
            ("SIGRTMIN+31", None),
            ("SIGRTMAX--1", None),
            ("TERM", None),
            ("SIGterm", None),
            ("15", None),
            ("", None),
        ] {
            assert_eq!(signal_number(name), number, "{name}");
        }
    }

    #[test]
    fn restart_rules_compare_exit_codes() {
        let codes = |operator: &str| RestartRuleExitCodes { operator: operator.into(), values: vec![1, 42] };
        assert!(codes("In").matches(42) && !codes("In").matches(2), "P10");
        assert!(codes("NotIn").matches(2) && !codes("NotIn").matches(1), "P10");
        assert!(!codes("Like").matches(1) && !codes("Like").matches(2), "an unknown word matches nothing");
    }
}
