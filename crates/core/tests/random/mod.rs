//! Random logs: what people, agents and leaders might propose, garbage, doubled and late commands included.
//!
//! Owns: which commands. Does not own: what is expected of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use stint_api::{
    ClusterId, CompletionMode, ConditionStatus, ConfigMap, ConfigMapUid, Container, ContainerRestartRule,
    ContainerTermination, EventType, ExitCodeOperator, Incarnation, Job, JobSpec, JobUid, MemberId,
    NodeCapacity, NodeCondition, NodeInfo, NodeName, NodeUid, PodReplacementPolicy, PodSpec, PodUid, Probe,
    Quantity, RestartPolicy, RestartRuleAction, RestartRuleExitCodes, Revision, StringMap, Timestamp,
    defaulting,
};
use stint_core::testing::{Harness, outstanding_runs};
use stint_core::{
    ClusterSettings, ClusterSettingsChange, Command, ContainerRun, CreateConfigMap, CreateJob,
    DeleteConfigMap, DeleteJob, DeletePod, DeletePropagation, DesiredAction, DesiredPod, ExpireNode, LogTail,
    PlacementPolicy, PodKey, PodReport, PodReportKind, RegisterNode, ReportNodeConditions, ReportPods, Row,
    RowKey, StoreLogTails, UpdateConfigMap, UpdateJob, compose,
};

/// Names that Jobs have; few, so that they meet.
const NAMES: [&str; 4] = ["a", "a-0", "b", "c"];

/// Numbers of [`SpecOp::shape`].
const SHAPES: u8 = 11;

/// A request for cpu that is beyond every limit.
pub const FITS_NOWHERE: &str = "1000P";

/// What a step of a random log does; numbers are taken modulo what there is.
#[derive(Debug, Clone)]
pub enum Op {
    Create { name: usize, spec: SpecOp, uid: u8, request: u8 },
    Update { name: usize, spec: SpecOp, only: u8, stale: bool },
    DeleteJob { name: usize, propagation: u8, stale: bool },
    DeletePod { pod: usize, grace: Option<u32>, hint: bool },
    Register { node: usize, change: u8, cpu: u64, keep: u8 },
    Report { pod: usize, kind: u8, container: u8, restart: u8, wrong: u8 },
    ReportAll { exit_code: u8 },
    Progress { node: usize, dice: u64 },
    Expire { node: usize, wrong: u8 },
    Cordon { node: usize, unschedulable: bool },
    Conditions { node: usize, holds: u8, wrong: u8 },
    Drain { node: usize },
    DeleteNode { node: usize },
    Replay { ago: usize },
    Tick,
    Continue,
    Reserve,
    Settings { pack: bool, retention_ms: u64 },
    ChangeSettings { pack: bool, runtime: usize },
    ConfigMap { name: usize, action: u8, content: u8, wrong: u8 },
    LogTail { pod: usize, container: u8, restart: u8, offset: u64, is_last: bool, wrong: u8 },
}

#[derive(Debug, Clone)]
pub struct SpecOp {
    parallelism: Option<i32>,
    completions: Option<i32>,
    indexed: bool,
    on_failure: bool,
    suspend: bool,
    terminating: bool,
    backoff_limit: i32,
    backoff_base_ms: u64,
    deadline: Option<i64>,
    ttl: Option<i32>,
    cpu: &'static str,
    /// Which containers its Pods have; 0: one.
    shape: u8,
    template: bool,
    priority: i32,
    selector: bool,
}

fn spec_op(most: i32) -> impl Strategy<Value = SpecOp> {
    let number = prop_oneof![16 => 0..6_i32, 1 => Just(-1), 1 => Just(most)];
    let rare = |p| proptest::bool::weighted(p);
    (
        (proptest::option::weighted(0.8, number.clone()), proptest::option::weighted(0.7, number)),
        (any::<bool>(), rare(0.4), rare(0.2), rare(0.4)),
        (prop_oneof![0..4_i32, Just(100)], prop_oneof![Just(0_u64), Just(10_000), Just(u64::MAX)]),
        (proptest::option::weighted(0.2, 0..60_i64), proptest::option::weighted(0.3, 0..30_i32)),
        (
            prop::sample::select(vec!["0", "0", "500m", "500m", "60", FITS_NOWHERE]),
            -1..2_i32,
            rare(0.1),
            rare(0.3),
            prop_oneof![3 => Just(0_u8), 4 => 1..SHAPES],
        ),
    )
        .prop_map(|(counts, flags, limits, times, placing)| SpecOp {
            parallelism: counts.0,
            completions: counts.1,
            indexed: flags.0,
            on_failure: flags.1,
            suspend: flags.2,
            terminating: flags.3,
            backoff_limit: limits.0,
            backoff_base_ms: limits.1,
            deadline: times.0,
            ttl: times.1,
            cpu: placing.0,
            priority: placing.1,
            selector: placing.2,
            template: placing.3,
            shape: placing.4,
        })
}

/// One Job is in the middle of things most of the time.
fn name() -> impl Strategy<Value = usize> {
    prop_oneof![2 => Just(0_usize), 1 => 0..4_usize]
}

fn op(most: i32) -> impl Strategy<Value = Op> {
    let rare = || proptest::bool::weighted(0.1);
    prop_oneof![
        6 => (name(), spec_op(most), any::<u8>(), 0..6_u8)
            .prop_map(|(name, spec, uid, request)| Op::Create { name, spec, uid, request }),
        6 => (name(), spec_op(most), 0..10_u8, rare())
            .prop_map(|(name, spec, only, stale)| Op::Update { name, spec, only, stale }),
        2 => (name(), 0..3_u8, rare())
            .prop_map(|(name, propagation, stale)| Op::DeleteJob { name, propagation, stale }),
        2 => (any::<usize>(), proptest::option::of(0..50_u32), any::<bool>())
            .prop_map(|(pod, grace, hint)| Op::DeletePod { pod, grace, hint }),
        5 => (0..3_usize, 0..10_u8, 0..8_u64, any::<u8>())
            .prop_map(|(node, change, cpu, keep)| Op::Register { node, change, cpu, keep }),
        18 => (any::<usize>(), 0..23_u8, any::<u8>(), 0..12_u8, 0..20_u8).prop_map(
            |(pod, kind, container, restart, wrong)| Op::Report { pod, kind, container, restart, wrong }
        ),
        2 => (0..3_u8).prop_map(|exit_code| Op::ReportAll { exit_code }),
        12 => (0..3_usize, any::<u64>()).prop_map(|(node, dice)| Op::Progress { node, dice }),
        2 => (0..3_usize, 0..6_u8).prop_map(|(node, wrong)| Op::Expire { node, wrong }),
        1 => (0..3_usize, any::<bool>()).prop_map(|(node, unschedulable)| Op::Cordon { node, unschedulable }),
        3 => (0..3_usize, 0..8_u8, 0..10_u8)
            .prop_map(|(node, holds, wrong)| Op::Conditions { node, holds, wrong }),
        1 => (0..3_usize).prop_map(|node| Op::Drain { node }),
        1 => (0..3_usize).prop_map(|node| Op::DeleteNode { node }),
        2 => (0..40_usize).prop_map(|ago| Op::Replay { ago }),
        4 => Just(Op::Tick),
        2 => Just(Op::Continue),
        1 => Just(Op::Reserve),
        2 => (0..3_usize, 0..4_u8, 0..6_u8, 0..12_u8)
            .prop_map(|(name, action, content, wrong)| Op::ConfigMap { name, action, content, wrong }),
        6 => (any::<usize>(), any::<u8>(), 0..8_u8, 0..4_u64, any::<bool>(), 0..20_u8).prop_map(
            |(pod, container, restart, offset, is_last, wrong)| Op::LogTail {
                pod, container, restart, offset, is_last, wrong
            }
        ),
        1 => (any::<bool>(), prop_oneof![Just(0_u64), Just(3_600_000), Just(u64::MAX)])
            .prop_map(|(pack, retention_ms)| Op::Settings { pack, retention_ms }),
        1 => (any::<bool>(), 0..4_usize).prop_map(|(pack, runtime)| Op::ChangeSettings { pack, runtime }),
    ]
}

/// One entry: its commands, how much later than the last it is, and what happens first.
pub type Step = (Vec<Op>, i64, Before);

/// What happens before an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Nothing,
    /// The second replica is loaded from rows.
    Reload,
    /// The cluster goes on as another one, restored from its rows.
    Restore,
}

fn before() -> impl Strategy<Value = Before> {
    prop_oneof![40 => Just(Before::Nothing), 9 => Just(Before::Reload), 1 => Just(Before::Restore)]
}

pub fn step(most: i32) -> impl Strategy<Value = Step> {
    let elapsed_ms = prop_oneof![
        6 => 0..3_000_i64,
        3 => Just(10_000),
        1 => Just(-5_000),
        1 => Just(600_000),
        1 => Just(3_600_000),
    ];
    (proptest::collection::vec(op(most), 1..4), elapsed_ms, before())
}

/// Steps in which little goes wrong, so that Pods live long enough to begin anew again and again.
pub fn calm_step() -> impl Strategy<Value = Step> {
    let op = prop_oneof![
        2 => (name(), spec_op(6), any::<u8>(), 0..6_u8)
            .prop_map(|(name, spec, uid, request)| Op::Create { name, spec, uid, request }),
        1 => (0..3_usize, 0..2_u64)
            .prop_map(|(node, cpu)| Op::Register { node, change: 9, cpu: 60 + cpu, keep: 0 }),
        30 => (0..3_usize, any::<u64>()).prop_map(|(node, dice)| Op::Progress { node, dice }),
        2 => (any::<usize>(), 0..22_u8, any::<u8>(), 0..12_u8, 0..20_u8).prop_map(
            |(pod, kind, container, restart, wrong)| Op::Report { pod, kind, container, restart, wrong }
        ),
        1 => (any::<usize>(), proptest::option::of(0..50_u32), any::<bool>())
            .prop_map(|(pod, grace, hint)| Op::DeletePod { pod, grace, hint }),
    ];
    let elapsed_ms = prop_oneof![6 => 0..3_000_i64, 3 => Just(10_000), 1 => Just(600_000)];
    (proptest::collection::vec(op, 1..4), elapsed_ms, before())
}

pub fn node_name(number: usize) -> NodeName {
    NodeName::new(["n1", "n2", "n3"][number % 3])
}

fn nth_pod(harness: &Harness, number: usize) -> Option<(PodUid, PodKey, String)> {
    let pods = harness.rows.pods();
    let (_, pod) = pods.get(number.checked_rem(pods.len())?)?;
    let key = PodKey { job: pod.job, created_revision: pod.created_revision };
    Some((pod.uid, key, pod.name.clone()))
}

fn nth_unfinished(harness: &Harness, number: usize) -> Option<(PodUid, PodKey, String)> {
    let pods: Vec<_> = harness.rows.pods().into_iter().filter(|(_, pod)| !pod.phase.is_terminal()).collect();
    let (_, pod) = pods.get(number.checked_rem(pods.len())?)?;
    let key = PodKey { job: pod.job, created_revision: pod.created_revision };
    Some((pod.uid, key, pod.name.clone()))
}

/// What was proposed so far: agents repeat themselves, and their messages come late and out of order.
#[derive(Debug, Default)]
pub struct History {
    commands: Vec<Command>,
}

impl History {
    /// The command that a step stands for, given what there is.
    pub fn command(&mut self, harness: &Harness, op: &Op) -> Command {
        let command = match op {
            Op::Replay { ago } => self.commands.iter().rev().nth(*ago).cloned().unwrap_or(Command::Tick),
            op => command(harness, op),
        };
        self.commands.push(command.clone());
        command
    }
}

fn command(harness: &Harness, op: &Op) -> Command {
    let state = &harness.state;
    match op {
        Op::Create { name, spec, uid, request } => {
            let uid = if *uid < 3 {
                JobUid(u128::from(*uid))
            } else {
                JobUid(u128::from(harness.log_index) << 8 | u128::from(*uid))
            };
            let mut job = job(NAMES[*name], spec);
            defaulting::generate_labels(&mut job, uid);
            let (id, has_others) = (request % 3, *request >= 3);
            let request_id = if id == 0 { String::new() } else { format!("r{id}") };
            let others = NAMES.iter().filter(|other| has_others && **other != NAMES[*name]);
            let other_names = others.map(|other| (*other).to_owned()).collect();
            Command::CreateJob(Box::new(CreateJob { job, uid, request_id, other_names }))
        }
        Op::Update { name, spec, only, stale } => {
            let mut job = job(NAMES[*name], spec);
            if let Some(stored) = stored_job(harness, NAMES[*name]) {
                let (template, mode) = (stored.spec.template.clone(), stored.spec.completion_mode.clone());
                // Mostly changes that are allowed.
                let priority = template.spec.priority;
                if spec.template {
                    // Where Pods run may change while the Job is suspended (1.4).
                    job.spec.template.labels.clone_from(&template.labels);
                    job.spec.template.spec.priority = priority;
                    job.spec.template.spec.restart_policy.clone_from(&template.spec.restart_policy);
                    let requests = job.spec.template.spec.containers[0].requests.clone();
                    job.spec.template.spec.containers.clone_from(&template.spec.containers);
                    job.spec.template.spec.init_containers.clone_from(&template.spec.init_containers);
                    job.spec.template.spec.containers[0].requests = requests;
                } else {
                    job.spec.template = template;
                }
                if mode != Some(CompletionMode::Indexed) || !spec.indexed {
                    job.spec.completions = stored.spec.completions;
                } else {
                    job.spec.completions = job.spec.parallelism;
                }
                job.spec.completion_mode = mode;
            }
            if let Some(stored) = stored_job(harness, NAMES[*name]).filter(|_| *only < 8) {
                let given = std::mem::replace(&mut job, stored).spec;
                change_one_thing(&mut job.spec, given, *only);
            }
            let resource_version = stale.then_some(Revision(3));
            Command::UpdateJob(Box::new(UpdateJob { job, uid: None, resource_version }))
        }
        Op::DeleteJob { name, propagation, stale } => Command::DeleteJob(DeleteJob {
            namespace: "default".to_owned(),
            name: NAMES[*name].to_owned(),
            uid: stale.then_some(JobUid(77)),
            resource_version: None,
            propagation: match propagation {
                0 => DeletePropagation::Background,
                1 => DeletePropagation::Foreground,
                _ => DeletePropagation::Orphan,
            },
        }),
        Op::DeletePod { pod, grace, hint } => {
            let unfinished = nth_unfinished(harness, *pod).filter(|_| *pod % 4 > 0);
            let found = unfinished.or_else(|| nth_pod(harness, *pod));
            Command::DeletePod(DeletePod {
                namespace: "default".to_owned(),
                name: found.as_ref().map_or("none".to_owned(), |(_, _, name)| name.clone()),
                uid: None,
                grace_period_seconds: *grace,
                key: found.map(|(_, key, _)| key).filter(|_| *hint),
            })
        }
        Op::Register { node, change, cpu, keep } => register(harness, *node, *change, *cpu, *keep),
        Op::Report { pod, kind, container, restart, wrong } => {
            report(harness, *pod, *kind, *container, *restart, *wrong)
        }
        Op::ReportAll { exit_code } => report_all(harness, i32::from(*exit_code)),
        Op::Progress { node, dice } => progress(harness, &node_name(*node), *dice),
        Op::Expire { node, wrong } => {
            let node = node_name(*node);
            let incarnation = state.node(&node).map_or(Incarnation(0), |node| node.incarnation);
            let incarnation = if *wrong == 0 { Incarnation(1) } else { incarnation };
            let term = if *wrong == 1 { 7 } else { harness.term };
            Command::ExpireNode(ExpireNode { node, incarnation, term })
        }
        Op::Cordon { node, unschedulable } => {
            Command::CordonNode { node: node_name(*node), unschedulable: *unschedulable }
        }
        Op::Conditions { node, holds, wrong } => {
            let node = node_name(*node);
            let incarnation = state.node(&node).map_or(Incarnation(0), |node| node.incarnation);
            let incarnation = if *wrong == 0 { Incarnation(1) } else { incarnation };
            let conditions = ["DiskPressure", "MemoryPressure", "FencingDegraded"].into_iter().enumerate();
            let conditions = conditions.map(|(bit, condition_type)| NodeCondition {
                condition_type: condition_type.to_owned(),
                status: if holds >> bit & 1 == 1 { ConditionStatus::True } else { ConditionStatus::False },
                last_transition_time: None,
                reason: condition_type.to_owned(),
                message: String::new(),
            });
            // What is not said holds no more.
            let conditions = conditions.take(if *wrong == 1 { 0 } else { 3 }).collect();
            Command::ReportNodeConditions(ReportNodeConditions { node, incarnation, conditions })
        }
        Op::Drain { node } => Command::DrainNode { node: node_name(*node) },
        Op::DeleteNode { node } => Command::DeleteNode { node: node_name(*node) },
        Op::Tick | Op::Replay { .. } => Command::Tick,
        Op::Continue => Command::Continue,
        Op::Reserve => Command::ReserveMemberId,
        Op::Settings { pack, retention_ms } => settings(*pack, *retention_ms),
        Op::ChangeSettings { pack, runtime } => Command::ChangeClusterSettings(ClusterSettingsChange {
            placement_policy: pack.then_some(PlacementPolicy::Pack),
            // All nodes offer `process` and nothing else.
            default_runtime: ["", "process", "oci"].get(*runtime).map(|runtime| (*runtime).to_owned()),
            ..ClusterSettingsChange::default()
        }),
        Op::ConfigMap { name, action, content, wrong } => {
            config_map(harness, NAMES[*name], *action, *content, *wrong)
        }
        Op::LogTail { pod, container, restart, offset, is_last, wrong } => {
            log_tail(harness, *pod, (*container, *restart), (*offset, *is_last), *wrong)
        }
    }
}

/// Mostly what is accepted; `wrong` below 3 is a key, a uid or a revision that is not.
fn config_map(harness: &Harness, name: &str, action: u8, content: u8, wrong: u8) -> Command {
    let mut map = ConfigMap::default();
    map.metadata.namespace = "default".to_owned();
    map.metadata.name = name.to_owned();
    map.metadata.labels.insert("content".to_owned(), content.to_string());
    let key = if wrong == 0 { "a/b" } else { "a" };
    map.data.insert(key.to_owned(), "x".repeat(usize::from(content) / 2));
    map.immutable = (content == 5).then_some(true);
    let uid = (wrong == 1).then_some(ConfigMapUid(7));
    let resource_version = (wrong == 2).then_some(Revision(3));
    match action {
        0 => {
            let uid = ConfigMapUid(u128::from(harness.log_index) << 8 | u128::from(content));
            Command::CreateConfigMap(Box::new(CreateConfigMap { map, uid }))
        }
        3 => Command::DeleteConfigMap(DeleteConfigMap {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid,
            resource_version,
        }),
        _ => Command::UpdateConfigMap(Box::new(UpdateConfigMap { map, uid, resource_version })),
    }
}

/// Mostly of what a Pod has run or may run; `wrong` below 5 is something that is not.
fn log_tail(
    harness: &Harness,
    number: usize,
    (container, restart): (u8, u8),
    (first_offset, is_last): (u64, bool),
    wrong: u8,
) -> Command {
    let pods = harness.rows.pods();
    let pod = number.checked_rem(pods.len()).map(|number| Arc::clone(&pods[number].1));
    let node = match pod.as_ref().and_then(|pod| pod.node.clone()) {
        Some(node) if wrong != 0 => node,
        _ => node_name(number),
    };
    let incarnation = harness.state.node(&node).map_or(Incarnation(0), |node| node.incarnation);
    let containers = pod.as_ref().map_or(&[][..], |pod| &pod.containers);
    let container = usize::from(container).checked_rem(containers.len()).unwrap_or(0);
    let run = containers.get(container).map_or(0, |container| container.restart_count);
    let restart_count = match restart {
        0 => 0,
        1 | 2 => run.saturating_sub(1),
        7 => run + 1,
        _ => run,
    };
    let created = pod.as_ref().map_or(Revision(1), |pod| pod.created_revision);
    let created_revision = if wrong == 1 { Revision(created.0 + 1) } else { created };
    let tail = LogTail {
        pod: pod.as_ref().filter(|_| wrong != 2).map_or(PodUid(1), |pod| pod.uid),
        key: PodKey { job: pod.as_ref().map_or(JobUid(1), |pod| pod.job), created_revision },
        container: if wrong == 3 { 9 } else { container as u32 },
        restart_count,
        first_offset,
        is_last,
        entries: vec![b'x'; restart.into()],
    };
    let incarnation = if wrong == 4 { Incarnation(1) } else { incarnation };
    Command::StoreLogTails(StoreLogTails { node, incarnation, tails: vec![tail] })
}

pub fn settings(pack: bool, event_retention_ms: u64) -> Command {
    Command::SetClusterSettings(ClusterSettings {
        cluster_id: ClusterId(5),
        node_lease_ms: 10_000,
        placement_policy: if pack { PlacementPolicy::Pack } else { PlacementPolicy::Spread },
        event_retention_ms,
        highest_member_id: MemberId(3),
        default_runtime: String::new(),
        ended_pods_max: 0,
    })
}

fn job(name: &str, spec: &SpecOp) -> Job {
    let mut job = Job::default();
    job.metadata.name = name.to_owned();
    job.spec.parallelism = spec.parallelism;
    job.spec.completions = spec.completions;
    job.spec.completion_mode =
        Some(if spec.indexed { CompletionMode::Indexed } else { CompletionMode::NonIndexed });
    job.spec.suspend = Some(spec.suspend);
    job.spec.pod_replacement_policy = Some(if spec.terminating {
        PodReplacementPolicy::TerminatingOrFailed
    } else {
        PodReplacementPolicy::Failed
    });
    job.spec.backoff_limit = Some(spec.backoff_limit);
    job.spec.backoff_base_ms = Some(spec.backoff_base_ms);
    job.spec.backoff_cap_ms = Some(spec.backoff_base_ms.max(600_000));
    job.spec.active_deadline_seconds = spec.deadline;
    job.spec.ttl_seconds_after_finished = spec.ttl;
    let mut container = Container {
        name: "main".to_owned(),
        image: "none".to_owned(),
        command: vec!["true".to_owned()],
        ..Container::default()
    };
    container.requests.insert("cpu".to_owned(), Quantity::parse(spec.cpu).unwrap());
    job.spec.template.spec.containers = vec![container];
    add_containers(&mut job.spec.template.spec, spec.shape);
    job.spec.template.spec.restart_policy = Some(if spec.on_failure { "OnFailure" } else { "Never" }.into());
    job.spec.template.spec.priority = Some(spec.priority);
    if spec.selector {
        job.spec.template.spec.node_selector = StringMap::from([("disk".to_owned(), "ssd".to_owned())]);
    }
    defaulting::set_defaults(&mut job);
    job
}

/// Containers beside the first.
fn add_containers(spec: &mut PodSpec, shape: u8) {
    let named = |name: &str, cpu: &str| Container {
        name: name.to_owned(),
        requests: BTreeMap::from([("cpu".to_owned(), Quantity::parse(cpu).unwrap())]),
        ..spec.containers[0].clone()
    };
    let (setup, proxy, second) = (named("setup", "700m"), named("proxy", "100m"), named("second", "0"));
    let sidecar = Container { restart_policy: Some(RestartPolicy::Always), ..proxy };
    let probed = Container { startup_probe: Some(Probe::default()), ..sidecar.clone() };
    let codes =
        |action: RestartRuleAction, operator: ExitCodeOperator, values: &[i32]| ContainerRestartRule {
            action,
            exit_codes: Some(RestartRuleExitCodes { operator, values: values.to_vec() }),
        };
    let rule = |action, code: i32| codes(action, ExitCodeOperator::In, &[code]);
    match shape {
        1 => spec.containers.push(second),
        2 => spec.init_containers.push(setup),
        3 => {
            let other = Container { name: "proxy-b".to_owned(), ..sidecar.clone() };
            spec.init_containers = vec![sidecar, setup, other];
        }
        4 => {
            spec.init_containers = vec![setup, probed];
            spec.containers[0].readiness_probe = Some(Probe::default());
        }
        5 => {
            spec.init_containers = vec![setup, sidecar];
            spec.containers.push(second);
            spec.containers[0].restart_policy_rules =
                vec![rule(RestartRuleAction::RestartAllContainers, 3), rule(RestartRuleAction::Restart, 4)];
        }
        6 => {
            let never = Container { restart_policy: Some(RestartPolicy::Never), ..second };
            spec.containers.push(never);
            spec.containers[0].restart_policy = Some(RestartPolicy::OnFailure);
        }
        // Containers that begin anew also if they have succeeded.
        7 => {
            spec.init_containers = vec![setup];
            spec.containers.push(second);
            spec.containers[0].restart_policy = Some(RestartPolicy::Always);
            spec.containers[1].restart_policy_rules = vec![rule(RestartRuleAction::RestartAllContainers, 0)];
        }
        8 => {
            let others = codes(RestartRuleAction::Restart, ExitCodeOperator::NotIn, &[0, 4]);
            let all = rule(RestartRuleAction::RestartAllContainers, 3);
            let policy = Some(RestartPolicy::Never);
            let picky =
                Container { restart_policy: policy, restart_policy_rules: vec![all, others], ..setup };
            spec.init_containers = vec![picky, sidecar];
            spec.containers.push(second);
        }
        9 => {
            let anew = vec![rule(RestartRuleAction::RestartAllContainers, 3)];
            let setup = Container { restart_policy: Some(RestartPolicy::OnFailure), ..setup };
            let setup = Container { restart_policy_rules: anew.clone(), ..setup };
            spec.init_containers = vec![Container { restart_policy_rules: anew, ..probed }, setup];
        }
        10 => {
            let late = Container { name: "late".to_owned(), ..setup.clone() };
            spec.init_containers = vec![setup, sidecar, late];
            spec.containers[0].restart_policy_rules =
                vec![codes(RestartRuleAction::RestartAllContainers, ExitCodeOperator::NotIn, &[0, 1])];
        }
        _ => {}
    }
}

fn change_one_thing(spec: &mut JobSpec, given: JobSpec, which: u8) {
    match which {
        0 => spec.parallelism = given.parallelism,
        // J29.
        1 => (spec.parallelism, spec.completions) = (given.parallelism, given.parallelism),
        2 | 3 => spec.pod_replacement_policy = given.pod_replacement_policy,
        4 => spec.suspend = given.suspend,
        5 => spec.backoff_limit = given.backoff_limit,
        6 => spec.active_deadline_seconds = given.active_deadline_seconds,
        _ => spec.ttl_seconds_after_finished = given.ttl_seconds_after_finished,
    }
}

fn stored_job(harness: &Harness, name: &str) -> Option<Job> {
    let uid = harness.state.job_uid_by_name("default", name)?;
    let stored = harness.rows.map.get(&RowKey::Job(uid))?;
    let Row::Job(record) = &stored.row else { return None };
    let template = harness.rows.template(uid)?;
    Some(compose::job(record, &template, stored.revision))
}

pub fn register(harness: &Harness, number: usize, change: u8, cpu: u64, keep: u8) -> Command {
    let node = node_name(number);
    let known = harness.state.node(&node);
    let last = known.map_or(0, |known| known.registration_number);
    let mut running_pods = Vec::new();
    let mut started_pods = Vec::new();
    let mut unacknowledged_reports = Vec::new();
    for (place, desired) in harness.state.desired_pods(&node).iter().enumerate() {
        match (keep >> (2 * (place % 4))) & 3 {
            0 => running_pods.push(desired.pod),
            1 => started_pods.push(desired.pod),
            2 => {
                let termination = ContainerTermination { exit_code: 1, ..ContainerTermination::default() };
                let run = ContainerRun { container: "main".to_owned(), restart_count: 0 };
                let kind = PodReportKind::ContainerExited { run, termination };
                unacknowledged_reports.push(PodReport { pod: desired.pod, kind });
            }
            _ => {}
        }
    }
    started_pods.push(PodUid(u128::from(keep)));
    Command::RegisterNode(Box::new(RegisterNode {
        node,
        node_uid: NodeUid(if change == 0 { 99 } else { number as u128 }),
        boot_id: format!("boot-{}", u8::from(change == 1)),
        registration_number: if change == 2 { last } else { last + 1 },
        nonce: u64::from(change == 3),
        previous_incarnation: known.map_or(Incarnation(0), |known| known.incarnation),
        cluster_id: (change == 4).then_some(ClusterId(6)),
        unacknowledged_reports,
        running_pods,
        started_pods,
        capacity: NodeCapacity {
            cpu_millis: cpu * 1000,
            memory_bytes: 1 << 30,
            pods: if change == 5 { u32::MAX } else { 3 * (number as u32 + 1) },
        },
        labels: StringMap::from([("disk".to_owned(), if number == 0 { "ssd" } else { "hdd" }.to_owned())]),
        runtimes: vec!["process".to_owned()],
        conditions: Vec::new(),
        agent_version: String::new(),
        features: Vec::new(),
        info: NodeInfo::default(),
    }))
}

fn report(harness: &Harness, pod: usize, kind: u8, container: u8, restart: u8, wrong: u8) -> Command {
    let unfinished = nth_unfinished(harness, pod).filter(|_| wrong > 3);
    let uid = unfinished.or_else(|| nth_pod(harness, pod)).map_or(PodUid(1), |(uid, _, _)| uid);
    let uid = if wrong == 0 { PodUid(u128::MAX) } else { uid };
    let known = harness.state.pod(&uid);
    let node = known.and_then(|pod| pod.node.clone()).unwrap_or_else(|| node_name(pod));
    let node = if wrong == 1 { node_name(pod + 1) } else { node };
    let incarnation = harness.state.node(&node).map_or(Incarnation(0), |node| node.incarnation);
    let incarnation = if wrong == 2 { Incarnation(incarnation.0.wrapping_sub(1)) } else { incarnation };
    let runs = known.map(|pod| outstanding_runs(&harness.state, pod)).unwrap_or_default();
    let outstanding = usize::from(container).checked_rem(runs.len()).map(|place| runs[place].clone());
    let run = match outstanding.filter(|_| restart >= 2) {
        Some(run) => run,
        None => ContainerRun {
            container: ["main", "second", "setup", "proxy", "late", ""][usize::from(container) % 6]
                .to_owned(),
            restart_count: u32::from(restart % 2),
        },
    };
    let termination = |exit_code| ContainerTermination { exit_code, ..ContainerTermination::default() };
    let kind = match kind {
        0..=3 => PodReportKind::Running {
            run,
            started_at: Timestamp(i64::MIN),
            container_id: "process://1".to_owned(),
            image_id: String::new(),
            pod_addresses: Vec::new(),
        },
        4..=7 => PodReportKind::ContainerExited { run, termination: termination(0) },
        8 | 9 => PodReportKind::ContainerExited { run, termination: termination(i32::MIN) },
        10 | 11 => PodReportKind::ContainerExited { run, termination: termination(i32::from(kind) - 7) },
        12 => PodReportKind::StartFailed { run, termination: termination(0) },
        13 => PodReportKind::NotStarted { run: None },
        14 | 15 => PodReportKind::NotStarted { run: Some(run) },
        16 => PodReportKind::LeaseExpired {
            run,
            termination: (restart.is_multiple_of(2)).then(|| termination(137)),
        },
        17 => PodReportKind::Waiting { run, reason: "ErrImagePull".to_owned(), message: "none".to_owned() },
        22 => PodReportKind::Notice {
            event_type: EventType::Warning,
            reason: "Unhealthy".to_owned(),
            message: "none".to_owned(),
            count: 0,
        },
        18..=20 => PodReportKind::Readiness { run, started: kind > 18, ready: kind > 19 },
        _ => PodReportKind::PodFailed {
            reason: "Evicted".to_owned(),
            message: "full".to_owned(),
            ended: vec![(run, termination(137))],
        },
    };
    // Doubled reports must count once.
    let report = PodReport { pod: uid, kind };
    Command::ReportPods(ReportPods { node, incarnation, reports: vec![report.clone(), report] })
}

/// A report of the first live node about all that it should hold.
fn report_all(harness: &Harness, exit_code: i32) -> Command {
    let node = harness.state.nodes().find(|node| node.live);
    let name = node.map_or(node_name(0), |node| node.name.clone());
    let incarnation = node.map_or(Incarnation(0), |node| node.incarnation);
    Command::ReportPods(ReportPods { reports: ends_on(harness, &name, exit_code), node: name, incarnation })
}

/// What happens next to each run on a node: it begins, becomes ready, ends by a code that rules may speak of.
fn progress(harness: &Harness, node: &NodeName, dice: u64) -> Command {
    let incarnation = harness.state.node(node).map_or(Incarnation(0), |node| node.incarnation);
    let mut reports = Vec::new();
    for (place, DesiredPod { pod, .. }) in harness.state.desired_pods(node).iter().enumerate() {
        let record = harness.state.pod(pod).unwrap();
        for (number, run) in outstanding_runs(&harness.state, record).into_iter().enumerate() {
            let drawn = dice.rotate_right(5 * (7 * place + number) as u32) % 16;
            let exit = |exit_code| PodReportKind::ContainerExited {
                run: run.clone(),
                termination: ContainerTermination { exit_code, ..ContainerTermination::default() },
            };
            let kind = match drawn {
                0..=4 => PodReportKind::Running {
                    run,
                    started_at: Timestamp(0),
                    container_id: String::new(),
                    image_id: String::new(),
                    pod_addresses: Vec::new(),
                },
                5 | 6 => PodReportKind::Readiness { run, started: true, ready: drawn == 6 },
                7..=9 => exit(0),
                10..=13 => exit(drawn as i32 - 9),
                14 => PodReportKind::NotStarted { run: Some(run) },
                _ => continue,
            };
            reports.push(PodReport { pod: *pod, kind });
        }
    }
    Command::ReportPods(ReportPods { node: node.clone(), incarnation, reports })
}

pub fn ends_on(harness: &Harness, node: &NodeName, exit_code: i32) -> Vec<PodReport> {
    let desired = harness.state.desired_pods(node);
    let mut reports = Vec::new();
    for DesiredPod { pod, action, .. } in desired {
        let record = harness.state.pod(&pod).unwrap();
        let is_to_stop = |run: &ContainerRun| match &action {
            DesiredAction::Stop { .. } => true,
            DesiredAction::Run { containers } => {
                containers.iter().any(|one| *one.name == *run.container && one.stop_grace_ms.is_some())
            }
        };
        for run in outstanding_runs(&harness.state, record) {
            // A sidecar stays until it is told to stop.
            let kinds = if run.container.starts_with("proxy") && !is_to_stop(&run) {
                let running = PodReportKind::Running {
                    run: run.clone(),
                    started_at: Timestamp(0),
                    container_id: String::new(),
                    image_id: String::new(),
                    pod_addresses: Vec::new(),
                };
                vec![running, PodReportKind::Readiness { run, started: true, ready: true }]
            } else {
                let termination = ContainerTermination { exit_code, ..ContainerTermination::default() };
                vec![PodReportKind::ContainerExited { run, termination }]
            };
            reports.extend(kinds.into_iter().map(|kind| PodReport { pod, kind }));
        }
    }
    reports
}

/// A node that takes thousands of Pods.
pub fn large_node(harness: &Harness, number: usize) -> Command {
    let mut registration = register(harness, number, 9, 1_000_000, 0);
    if let Command::RegisterNode(registration) = &mut registration {
        registration.capacity.pods = 5_000;
    }
    registration
}

/// A Job with settings such as `completions 5, parallelism 3, indexed, ttl 0`.
pub fn large_job(uid: u128, name: &str, settings: &str) -> Command {
    let number = |key: &str| {
        let found = settings.split(", ").find_map(|setting| setting.strip_prefix(key));
        found.map(|number| number.trim().parse::<i32>().unwrap())
    };
    let spec = SpecOp {
        parallelism: number("parallelism"),
        completions: number("completions"),
        indexed: settings.ends_with("indexed"),
        on_failure: false,
        suspend: false,
        terminating: false,
        backoff_limit: i32::MAX,
        backoff_base_ms: 0,
        deadline: None,
        ttl: number("ttl"),
        cpu: "0",
        shape: 0,
        template: false,
        priority: 0,
        selector: false,
    };
    let (mut job, uid) = (job(name, &spec), JobUid(uid));
    defaulting::generate_labels(&mut job, uid);
    let (request_id, other_names) = (String::new(), Vec::new());
    Command::CreateJob(Box::new(CreateJob { job, uid, request_id, other_names }))
}

/// The Job as it is, suspended.
pub fn suspend(harness: &Harness, name: &str) -> Command {
    let mut job = stored_job(harness, name).unwrap();
    job.spec.suspend = Some(true);
    Command::UpdateJob(Box::new(UpdateJob { job, uid: None, resource_version: None }))
}

/// In the background.
pub fn delete_job(name: &str) -> Command {
    Command::DeleteJob(DeleteJob {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        uid: None,
        resource_version: None,
        propagation: DeletePropagation::Background,
    })
}
