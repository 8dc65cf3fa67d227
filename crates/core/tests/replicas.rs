//! Random logs, garbage included: nothing panics, every invariant holds after every entry, and replicas are equal: the
//! same replies, row changes, orders and hash, also if one of them was loaded from its rows in between (R14, decision 5).
//! In the end everything that can finish does (R9).
#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

use proptest::prelude::*;
use stint_api::{
    ClusterId, CompletionMode, Container, ContainerTermination, Incarnation, Job, JobUid, MemberId,
    NodeCapacity, NodeName, NodeUid, PodReplacementPolicy, PodUid, Quantity, Revision, StringMap, Timestamp,
    defaulting,
};
use stint_core::testing::Harness;
use stint_core::{
    ClusterSettings, Command, CreateJob, DeleteJob, DeletePod, DeletePropagation, Entry, EntryPosition,
    ExpireNode, PlacementPolicy, PodKey, PodReport, PodReportKind, RegisterNode, ReportPods, Row, RowKey,
    RowsRead, State, UpdateJob, compose,
};

/// Names that Jobs have; few, so that they meet.
const NAMES: [&str; 4] = ["a", "a-0", "b", "c"];

/// What a step of a random log does; numbers are taken modulo what there is.
#[derive(Debug, Clone)]
enum Op {
    Create { name: usize, spec: SpecOp, uid: u8, request: u8 },
    Update { name: usize, spec: SpecOp, stale: bool },
    DeleteJob { name: usize, propagation: u8, stale: bool },
    DeletePod { pod: usize, grace: Option<u32>, hint: bool },
    Register { node: usize, change: u8, cpu: u64, keep: u8 },
    Report { pod: usize, kind: u8, restart: u8, wrong: u8 },
    ReportAll { exit_code: u8 },
    Expire { node: usize, wrong: u8 },
    Cordon { node: usize, unschedulable: bool },
    Drain { node: usize },
    DeleteNode { node: usize },
    Tick,
    Continue,
    Reserve,
    Settings { pack: bool, retention_ms: u64 },
}

#[derive(Debug, Clone)]
struct SpecOp {
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
    cpu_millis: u16,
    priority: i32,
    selector: bool,
}

fn spec_op(most: i32) -> impl Strategy<Value = SpecOp> {
    let number = prop_oneof![16 => 0..6_i32, 1 => Just(-1), 1 => Just(most)];
    let rare = |p| proptest::bool::weighted(p);
    (
        (proptest::option::weighted(0.8, number.clone()), proptest::option::weighted(0.7, number)),
        (any::<bool>(), rare(0.4), rare(0.15), rare(0.2)),
        (prop_oneof![0..4_i32, Just(100)], prop_oneof![Just(0_u64), Just(10_000), Just(u64::MAX)]),
        (proptest::option::weighted(0.2, 0..60_i64), proptest::option::weighted(0.3, 0..30_i32)),
        (prop_oneof![Just(0_u16), Just(500), Just(60_000)], -1..2_i32, rare(0.1)),
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
            cpu_millis: placing.0,
            priority: placing.1,
            selector: placing.2,
        })
}

fn op(most: i32) -> impl Strategy<Value = Op> {
    let rare = || proptest::bool::weighted(0.1);
    prop_oneof![
        6 => (0..4_usize, spec_op(most), any::<u8>(), 0..4_u8)
            .prop_map(|(name, spec, uid, request)| Op::Create { name, spec, uid, request }),
        3 => (0..4_usize, spec_op(most), rare()).prop_map(|(name, spec, stale)| Op::Update { name, spec, stale }),
        2 => (0..4_usize, 0..3_u8, rare())
            .prop_map(|(name, propagation, stale)| Op::DeleteJob { name, propagation, stale }),
        2 => (any::<usize>(), proptest::option::of(0..50_u32), any::<bool>())
            .prop_map(|(pod, grace, hint)| Op::DeletePod { pod, grace, hint }),
        5 => (0..3_usize, 0..10_u8, 0..8_u64, any::<u8>())
            .prop_map(|(node, change, cpu, keep)| Op::Register { node, change, cpu, keep }),
        14 => (any::<usize>(), 0..8_u8, 0..12_u8, 0..20_u8)
            .prop_map(|(pod, kind, restart, wrong)| Op::Report { pod, kind, restart, wrong }),
        2 => (0..3_u8).prop_map(|exit_code| Op::ReportAll { exit_code }),
        2 => (0..3_usize, 0..6_u8).prop_map(|(node, wrong)| Op::Expire { node, wrong }),
        1 => (0..3_usize, any::<bool>()).prop_map(|(node, unschedulable)| Op::Cordon { node, unschedulable }),
        1 => (0..3_usize).prop_map(|node| Op::Drain { node }),
        1 => (0..3_usize).prop_map(|node| Op::DeleteNode { node }),
        4 => Just(Op::Tick),
        2 => Just(Op::Continue),
        1 => Just(Op::Reserve),
        1 => (any::<bool>(), prop_oneof![Just(0_u64), Just(3_600_000), Just(u64::MAX)])
            .prop_map(|(pack, retention_ms)| Op::Settings { pack, retention_ms }),
    ]
}

/// One entry: its commands, how much later than the last it is, and whether the second replica is loaded from rows first.
type Step = (Vec<Op>, i64, bool);

fn step(most: i32) -> impl Strategy<Value = Step> {
    let elapsed_ms = prop_oneof![
        6 => 0..3_000_i64,
        3 => Just(10_000),
        1 => Just(-5_000),
        1 => Just(3_600_000),
    ];
    (proptest::collection::vec(op(most), 1..4), elapsed_ms, proptest::bool::weighted(0.2))
}

fn node_name(number: usize) -> NodeName {
    NodeName::new(["n1", "n2", "n3"][number % 3])
}

fn nth_pod(harness: &Harness, number: usize) -> Option<(PodUid, PodKey, String)> {
    let pods = harness.rows.pods();
    let (_, pod) = pods.get(number.checked_rem(pods.len())?)?;
    let key = PodKey { job: pod.job, created_revision: pod.created_revision };
    Some((pod.uid, key, pod.name.clone()))
}

/// The command that a step stands for, given what there is.
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
            let request_id = if *request == 0 { String::new() } else { format!("r{request}") };
            Command::CreateJob(Box::new(CreateJob { job, uid, request_id }))
        }
        Op::Update { name, spec, stale } => {
            let mut job = job(NAMES[*name], spec);
            if let Some(stored) = stored_job(harness, NAMES[*name]) {
                let (template, mode) = (stored.spec.template.clone(), stored.spec.completion_mode.clone());
                // Mostly changes that are allowed.
                if spec.cpu_millis == 0 {
                    job.spec.template = template;
                }
                if mode != Some(CompletionMode::Indexed) || !spec.indexed {
                    job.spec.completions = stored.spec.completions;
                } else {
                    job.spec.completions = job.spec.parallelism;
                }
                job.spec.completion_mode = mode;
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
            let found = nth_pod(harness, *pod);
            Command::DeletePod(DeletePod {
                namespace: "default".to_owned(),
                name: found.as_ref().map_or("none".to_owned(), |(_, _, name)| name.clone()),
                uid: None,
                grace_period_seconds: *grace,
                key: found.map(|(_, key, _)| key).filter(|_| *hint),
            })
        }
        Op::Register { node, change, cpu, keep } => register(harness, *node, *change, *cpu, *keep),
        Op::Report { pod, kind, restart, wrong } => report(harness, *pod, *kind, *restart, *wrong),
        Op::ReportAll { exit_code } => report_all(harness, i32::from(*exit_code)),
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
        Op::Drain { node } => Command::DrainNode { node: node_name(*node) },
        Op::DeleteNode { node } => Command::DeleteNode { node: node_name(*node) },
        Op::Tick => Command::Tick,
        Op::Continue => Command::Continue,
        Op::Reserve => Command::ReserveMemberId,
        Op::Settings { pack, retention_ms } => settings(*pack, *retention_ms),
    }
}

fn settings(pack: bool, event_retention_ms: u64) -> Command {
    Command::SetClusterSettings(ClusterSettings {
        cluster_id: ClusterId(5),
        node_lease_ms: 10_000,
        placement_policy: if pack { PlacementPolicy::Pack } else { PlacementPolicy::Spread },
        event_retention_ms,
        highest_member_id: MemberId(3),
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
    let cpu = Quantity::parse(&format!("{}m", spec.cpu_millis)).unwrap();
    container.requests.insert("cpu".to_owned(), cpu);
    job.spec.template.spec.containers = vec![container];
    job.spec.template.spec.restart_policy = Some(if spec.on_failure { "OnFailure" } else { "Never" }.into());
    job.spec.template.spec.priority = Some(spec.priority);
    if spec.selector {
        job.spec.template.spec.node_selector = StringMap::from([("disk".to_owned(), "ssd".to_owned())]);
    }
    defaulting::set_defaults(&mut job);
    job
}

fn stored_job(harness: &Harness, name: &str) -> Option<Job> {
    let uid = harness.state.job_uid_by_name("default", name)?;
    let stored = harness.rows.map.get(&RowKey::Job(uid))?;
    let Row::Job(record) = &stored.row else { return None };
    let template = harness.rows.template(uid)?;
    Some(compose::job(record, &template, stored.revision))
}

fn register(harness: &Harness, number: usize, change: u8, cpu: u64, keep: u8) -> Command {
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
                let kind = PodReportKind::ContainerExited { restart_count: 0, termination };
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
            pods: if change == 5 { u32::MAX } else { 20 * (number as u32 + 1) },
        },
        labels: StringMap::from([("disk".to_owned(), if number == 0 { "ssd" } else { "hdd" }.to_owned())]),
        runtimes: vec!["process".to_owned()],
        conditions: Vec::new(),
        agent_version: String::new(),
    }))
}

fn report(harness: &Harness, pod: usize, kind: u8, restart: u8, wrong: u8) -> Command {
    let uid = nth_pod(harness, pod).map_or(PodUid(1), |(uid, _, _)| uid);
    let uid = if wrong == 0 { PodUid(u128::MAX) } else { uid };
    let known = harness.state.pod(&uid);
    let node = known.and_then(|pod| pod.node.clone()).unwrap_or_else(|| node_name(pod));
    let node = if wrong == 1 { node_name(pod + 1) } else { node };
    let incarnation = harness.state.node(&node).map_or(Incarnation(0), |node| node.incarnation);
    let incarnation = if wrong == 2 { Incarnation(incarnation.0.wrapping_sub(1)) } else { incarnation };
    let restart_count =
        if restart < 2 { u32::from(restart) } else { known.map_or(0, |pod| pod.restart_count) };
    let termination = |exit_code| ContainerTermination { exit_code, ..ContainerTermination::default() };
    let kind = match kind {
        0 | 1 => PodReportKind::Running { restart_count, started_at: Timestamp(i64::MIN) },
        2 | 3 => PodReportKind::ContainerExited { restart_count, termination: termination(0) },
        4 => PodReportKind::ContainerExited { restart_count, termination: termination(i32::MIN) },
        5 => PodReportKind::StartFailed { restart_count, termination: termination(0) },
        6 => PodReportKind::NotStarted,
        _ => PodReportKind::LeaseExpired { termination: termination(137) },
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

fn ends_on(harness: &Harness, node: &NodeName, exit_code: i32) -> Vec<PodReport> {
    let desired = harness.state.desired_pods(node);
    let report = |desired: &stint_core::DesiredPod| {
        let restart_count = harness.state.pod(&desired.pod).map_or(0, |pod| pod.restart_count);
        let termination = ContainerTermination { exit_code, ..ContainerTermination::default() };
        PodReport { pod: desired.pod, kind: PodReportKind::ContainerExited { restart_count, termination } }
    };
    desired.iter().map(report).collect()
}

/// Applies the entry to both replicas and compares everything that can be seen of them.
fn apply_to_both(first: &mut Harness, second: &mut Harness, entry: &Entry) {
    let expected = first.apply_entry(entry);
    let outcome = second.apply_unchecked(entry);
    assert_eq!(expected.replies, outcome.replies);
    assert_eq!(expected.changes, outcome.changes);
    assert_eq!(expected.orders, outcome.orders);
    assert_eq!(first.state.hash(), second.state.hash());
    assert_eq!(first.state.next_due(), second.state.next_due());
}

/// R9: with nodes that fit everything, and time, every Job that is not held back ends.
fn everything_ends(first: &mut Harness, second: &mut Harness, mut time: i64) {
    let entry =
        |time: i64, commands: Vec<Command>| Entry { time: Timestamp(time), seed: time as u64, commands };
    for number in 0..3 {
        let mut commands = vec![Command::CordonNode { node: node_name(number), unschedulable: false }];
        let node = node_name(number);
        let incarnation = first.state.node(&node).map_or(Incarnation(0), |node| node.incarnation);
        commands.push(Command::ExpireNode(ExpireNode { node, incarnation, term: first.term }));
        apply_to_both(first, second, &entry(time, commands));
    }
    for round in 0..200 {
        let mut commands = vec![Command::Continue];
        for number in 0..3 {
            if first.state.node(&node_name(number)).is_none_or(|node| !node.live) {
                let mut registration = register(first, number, 9, 1_000, 0);
                if let Command::RegisterNode(registration) = &mut registration {
                    registration.capacity.pods = 10_000;
                    registration.labels.insert("disk".to_owned(), "ssd".to_owned());
                }
                commands.push(registration);
            }
        }
        let live: Vec<(NodeName, Incarnation)> = first
            .state
            .nodes()
            .filter(|node| node.live)
            .map(|node| (node.name.clone(), node.incarnation))
            .collect();
        for (node, incarnation) in live {
            let reports = ends_on(first, &node, 0);
            commands.push(Command::ReportPods(ReportPods { node, incarnation, reports }));
        }
        if !first.state.has_backlog()
            && let Some(due) = first.state.next_due().filter(|due| due.0 < time + 86_400_000)
        {
            time = time.max(due.0);
        }
        let entry = entry(time, commands);
        if round % 8 == 0 {
            apply_to_both(first, second, &entry);
        } else {
            assert_eq!(first.apply_unchecked(&entry), second.apply_unchecked(&entry));
        }
        if first.state.counts().pods_pending + first.state.counts().pods_running == 0
            && !first.state.has_backlog()
            && first.state.next_due().is_none_or(|due| due.0 > time + 1_000_000)
        {
            break;
        }
    }
    assert!(!first.state.has_backlog(), "the backlog is worked off");
    for (_, job) in first.rows.jobs() {
        let ended = job
            .status
            .conditions
            .iter()
            .any(|condition| matches!(condition.condition_type.as_str(), "Complete" | "Failed"));
        let large =
            job.spec.completions.is_some_and(|completions| completions > 100) || job.spec.parallelism > 100;
        let waits_long = job.status.backoff_until.is_some_and(|until| until.0 > time + 1_000_000);
        let held_back = job.spec.suspend || job.spec.parallelism == 0 || large || waits_long;
        assert!(ended || held_back, "R9: {job:?}");
    }
}

/// `PROPTEST_CASES` runs more than what fits into every run of the tests.
fn cases() -> u32 {
    let given = std::env::var_os("PROPTEST_CASES").and_then(|cases| cases.to_str()?.parse().ok());
    given.unwrap_or(64)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replicas_are_equal_and_invariants_hold(steps in proptest::collection::vec(step(40), 1..50)) {
        let (mut first, mut second) = (Harness::new(), Harness::new());
        let mut time = 1_767_225_600_000_i64;
        let begin = Entry { time: Timestamp(time), seed: 1, commands: vec![settings(false, 3_600_000)] };
        apply_to_both(&mut first, &mut second, &begin);
        for (number, (ops, elapsed_ms, reload)) in steps.iter().enumerate() {
            time += elapsed_ms;
            if *reload {
                second.state = second.rows.load();
            }
            let commands = ops.iter().map(|op| command(&first, op)).collect();
            let entry = Entry { time: Timestamp(time), seed: number as u64, commands };
            apply_to_both(&mut first, &mut second, &entry);
        }
        time = time.max(first.state.time().0);
        everything_ends(&mut first, &mut second, time);
    }

    /// Rows that were asked for and not given, times at the ends of the range: answers are refusals, never panics.
    #[test]
    fn missing_rows_and_extreme_times_do_no_harm(
        steps in proptest::collection::vec((step(i32::MAX), prop_oneof![Just(i64::MIN), Just(i64::MAX), 0..1_000_000_i64]), 1..20),
    ) {
        let mut harness = Harness::new();
        harness.apply_unchecked(&Entry { time: Timestamp(0), seed: 0, commands: vec![settings(true, 1)] });
        let mut state: State = harness.state.clone();
        for (number, ((ops, _, _), time)) in steps.iter().enumerate() {
            let position = EntryPosition { log_index: number as u64 + 2, term: 1 };
            state.begin_entry(position, Timestamp(*time), number as u64);
            for op in ops {
                let command = command(&harness, op);
                let _ = state.keys_needed(&command);
                let _ = state.apply(&command, &RowsRead::default());
            }
            let _ = state.finish_entry();
            let entry = Entry {
                time: Timestamp(*time),
                seed: number as u64,
                commands: ops.iter().map(|op| command(&harness, op)).collect(),
            };
            harness.apply_unchecked(&entry);
        }
        let _ = state.has_backlog();
    }
}
