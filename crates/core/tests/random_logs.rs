//! Random logs, garbage included: nothing panics, every invariant holds after every entry, a naive reference says the
//! same, and replicas are equal: the same replies, row changes, orders and hash, also if one of them was loaded from its
//! rows in between (R14, decision 5). In the end everything that can finish does (R9).
#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

mod naive;
mod random;

use proptest::prelude::*;
use stint_api::{ClusterId, Incarnation, NodeName, RestartPolicy, Timestamp};
use stint_core::testing::{Harness, check_invariants};
use stint_core::{
    ClusterSettingsChange, Command, Entry, EntryPosition, ExpireNode, ReportPods, RowsRead, State,
};

use naive::Naive;
use random::{Before, FITS_NOWHERE, History, Step, calm_step, ends_on, node_name, register, settings, step};

/// The cluster of random logs: agents of another one are refused.
const CLUSTER: ClusterId = ClusterId(5);

/// Applies the entry to both replicas and compares everything that can be seen of them.
fn apply_to_both(first: &mut Harness, second: &mut Harness, entry: &Entry) {
    let expected = first.apply_entry(entry);
    let outcome = second.apply_unchecked(entry);
    assert_eq!(expected.replies, outcome.replies);
    assert_eq!(expected.changes, outcome.changes);
    assert_eq!(expected.orders, outcome.orders);
    assert_eq!(expected.ends, outcome.ends);
    assert_eq!(first.state.hash(), second.state.hash());
    assert_eq!(first.state.next_due(), second.state.next_due());
}

/// R9: with nodes that fit everything, and time, every Job that is not held back ends.
fn everything_ends(first: &mut Harness, second: &mut Harness, mut time: i64) {
    let entry =
        |time: i64, commands: Vec<Command>| Entry { time: Timestamp(time), seed: time as u64, commands };
    // A default that no node offers holds everything back.
    let default_runtime = Some(String::new());
    let change = ClusterSettingsChange { default_runtime, ..ClusterSettingsChange::default() };
    apply_to_both(first, second, &entry(time, vec![Command::ChangeClusterSettings(change)]));
    for number in 0..3 {
        let mut commands = vec![Command::CordonNode { node: node_name(number), unschedulable: false }];
        let node = node_name(number);
        let incarnation = first.state.node(&node).map_or(Incarnation(0), |node| node.incarnation);
        commands.push(Command::ExpireNode(ExpireNode { node, incarnation, term: first.term }));
        apply_to_both(first, second, &entry(time, commands));
    }
    // 40 Pods one after another, of four containers that run one after another.
    for round in 0..400 {
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
        let fits_nowhere = first.rows.template(job.uid).is_some_and(|template| {
            template.template.spec.containers[0].requests.values().any(|cpu| cpu.as_str() == FITS_NOWHERE)
        });
        // P10: it begins anew whatever its exit code is.
        let never_ends = first.rows.template(job.uid).is_some_and(|template| {
            template.template.spec.containers[0].restart_policy == Some(RestartPolicy::Always)
        });
        let held_back = job.spec.suspend
            || job.spec.parallelism == 0
            || large
            || waits_long
            || fits_nowhere
            || never_ends;
        assert!(ended || held_back, "R9: {job:?}");
    }
}

/// A log with more of everything than one entry may do: large Jobs are created, lost, suspended, removed and deleted over
/// many entries, and a replica that is loaded from its rows between all of them does the same (decisions 3 and 5).
#[test]
fn large_jobs_are_equal_on_a_replica_that_is_loaded_between_all_chunks() {
    let (mut first, mut second) = (Harness::new(), Harness::new());
    let mut time = 1_767_225_600_000_i64;
    let mut play = |commands: Vec<Command>, elapsed_ms: i64| {
        time += elapsed_ms;
        let mut commands = Some(commands);
        let mut n_entries = 0;
        while commands.is_some() || first.state.has_backlog() {
            let commands = commands.take().unwrap_or(vec![Command::Continue]);
            let entry = Entry { time: Timestamp(time), seed: n_entries, commands };
            second.state = second.rows.load();
            assert_eq!(first.apply_unchecked(&entry), second.apply_unchecked(&entry));
            n_entries += 1;
            assert!(n_entries < 100, "the backlog does not get smaller");
        }
        check_invariants(&first.state, &first.rows);
        let nodes: Vec<_> =
            (0..3).map(|node| (node_name(node), ends_on(&first, &node_name(node), 0))).collect();
        (n_entries, first.clone(), nodes)
    };
    let (_, empty, _) = play(vec![settings(false, 3_600_000)], 0);
    let nodes = (0..3).map(|node| random::large_node(&empty, node)).collect();
    play(nodes, 0);
    let jobs = vec![
        random::large_job(1, "a", "completions 2600, parallelism 2200, indexed"),
        random::large_job(2, "b", "parallelism 1300"),
        random::large_job(3, "c", "completions 1100, parallelism 1100, ttl 0"),
    ];
    let (n_entries, created, nodes) = play(jobs, 0);
    assert!(n_entries >= 3 && created.state.counts().pods_pending == 4600, "{n_entries}");
    // One node is lost with all its Pods, and comes back.
    let incarnation = created.state.node(&nodes[0].0).unwrap().incarnation;
    let expire = ExpireNode { node: nodes[0].0.clone(), incarnation, term: created.term };
    let (n_entries, lost, _) = play(vec![Command::ExpireNode(expire)], 1_000);
    assert!(n_entries >= 2, "{n_entries}");
    let (_, back, _) = play(vec![random::large_node(&lost, 0)], 1_000);
    let (n_entries, suspended, nodes) = play(vec![random::suspend(&back, "a")], 1_000);
    assert!(n_entries >= 2, "{n_entries}");
    // Everything succeeds: c goes with its TTL, b wants no more, a does not count what it has stopped.
    let reports = nodes.into_iter().map(|(node, reports)| {
        let incarnation = suspended.state.node(&node).unwrap().incarnation;
        Command::ReportPods(ReportPods { node, incarnation, reports })
    });
    let (n_entries, _, _) = play(reports.collect(), 1_000);
    assert!(n_entries >= 2, "{n_entries}");
    let (n_entries, gone, _) = play(vec![random::delete_job("a"), random::delete_job("b")], 1_000);
    assert!(n_entries >= 2, "{n_entries}");
    assert_eq!(gone.rows.pods().len(), 0, "D1, J121");
    assert_eq!(gone.rows.jobs().len(), 0);
}

/// A restore with more Pods than one entry may end goes over several, and a replica that is loaded between all of them does
/// the same; meanwhile no node registers and nothing is bound.
#[test]
fn a_large_cluster_is_restored_over_several_entries() {
    let mut first = Harness::new();
    let entry = |commands: Vec<Command>| Entry { time: Timestamp(1_767_225_600_000), seed: 7, commands };
    first.apply_unchecked(&entry(vec![settings(false, 3_600_000)]));
    first.apply_unchecked(&entry(vec![random::large_node(&first, 0)]));
    let job = random::large_job(1, "a", "completions 2600, parallelism 2200, indexed");
    first.apply_unchecked(&entry(vec![job]));
    while first.state.has_backlog() {
        first.apply_unchecked(&entry(vec![Command::Continue]));
    }
    let before = first.state.revision();
    let old: Vec<_> = first.rows.pods().into_iter().map(|(_, pod)| pod.uid).collect();
    first.restore(CLUSTER);
    assert_eq!(first.state.revision().0, before.0 + (1 << 40));
    let mut second = first.clone();
    let mut n_entries = 0;
    while first.state.is_restoring() {
        let commands = vec![Command::Continue, random::large_node(&first, 1)];
        second.state = second.rows.load();
        let outcome = first.apply_entry(&entry(commands.clone()));
        assert_eq!(outcome, second.apply_unchecked(&entry(commands)));
        assert!(matches!(outcome.replies[1], stint_core::Reply::Rejected(_)), "{:?}", outcome.replies);
        assert!(outcome.orders.is_empty());
        n_entries += 1;
        assert!(n_entries < 10, "what is left does not get less");
    }
    assert!(n_entries >= 3, "{n_entries}");
    assert_eq!(first.state.nodes().count(), 0);
    while first.state.has_backlog() {
        first.apply_entry(&entry(vec![Command::Continue]));
    }
    let (_, job) = first.rows.jobs().remove(0);
    assert_eq!((job.status.active, job.status.failed), (2200, 0), "nothing is counted");
    for (_, pod) in first.rows.pods() {
        assert_eq!(old.contains(&pod.uid), pod.reason == "Restored");
    }
}

fn compare_with_naive(steps: &[Step], first: Vec<Command>) {
    let (mut harness, mut naive, mut history) = (Harness::new(), Naive::new(), History::default());
    let mut time = 1_767_225_600_000_i64;
    let restored = std::cell::Cell::new(false);
    let mut play = |harness: &mut Harness, time: i64, commands: Vec<Command>| {
        let entry = Entry { time: Timestamp(time), seed: time as u64, commands };
        let outcome = harness.apply_unchecked(&entry);
        if restored.take() {
            naive.restore();
        }
        naive.entry(&entry, harness.term, &outcome.replies, &harness.rows);
        naive.compare(&harness.state, &harness.rows);
    };
    play(&mut harness, time, [vec![settings(false, 3_600_000)], first].concat());
    for (ops, elapsed_ms, before) in steps {
        time += elapsed_ms;
        match before {
            Before::Nothing => {}
            Before::Reload => harness.state = harness.rows.load(),
            Before::Restore => {
                harness.restore(CLUSTER);
                restored.set(true);
                play(&mut harness, time, vec![Command::Continue]);
            }
        }
        let commands = ops.iter().map(|op| history.command(&harness, op)).collect();
        play(&mut harness, time, commands);
    }
}

/// `PROPTEST_CASES` runs more than what fits into every run of the tests.
fn cases() -> u32 {
    let given = std::env::var_os("PROPTEST_CASES").and_then(|cases| cases.to_str()?.parse().ok());
    given.unwrap_or(64)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// R3–R5, R9: every count, decision, index, delay, binding and deletion is what the naive reference says.
    #[test]
    fn the_naive_reference_agrees(steps in proptest::collection::vec(step(6), 1..60)) {
        compare_with_naive(&steps, Vec::new());
    }

    /// P1, P7–P10, J61, A14: the same of Pods that live long.
    #[test]
    fn the_naive_reference_agrees_about_long_lives(steps in proptest::collection::vec(calm_step(), 20..80)) {
        let nodes = (0..3).map(|node| register(&Harness::new(), node, 9, 60, 0)).collect();
        compare_with_naive(&steps, nodes);
    }

    #[test]
    fn replicas_are_equal_and_invariants_hold(steps in proptest::collection::vec(step(40), 1..50)) {
        let (mut first, mut second) = (Harness::new(), Harness::new());
        let mut history = History::default();
        let mut time = 1_767_225_600_000_i64;
        let begin = Entry { time: Timestamp(time), seed: 1, commands: vec![settings(false, 3_600_000)] };
        apply_to_both(&mut first, &mut second, &begin);
        for (number, (ops, elapsed_ms, before)) in steps.iter().enumerate() {
            time += elapsed_ms;
            match before {
                Before::Nothing => {}
                Before::Reload => second.state = second.rows.load(),
                Before::Restore => {
                    first.restore(CLUSTER);
                    second.restore(CLUSTER);
                }
            }
            let commands = ops.iter().map(|op| history.command(&first, op)).collect();
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
        let mut history = History::default();
        harness.apply_unchecked(&Entry { time: Timestamp(0), seed: 0, commands: vec![settings(true, 1)] });
        let mut state: State = harness.state.clone();
        for (number, ((ops, _, _), time)) in steps.iter().enumerate() {
            let position = EntryPosition { log_index: number as u64 + 2, term: 1 };
            state.begin_entry(position, Timestamp(*time), number as u64);
            for op in ops {
                let command = history.command(&harness, op);
                let _ = state.keys_needed(&command);
                let _ = state.apply(&command, &RowsRead::default());
            }
            let _ = state.finish_entry();
            let entry = Entry {
                time: Timestamp(*time),
                seed: number as u64,
                commands: ops.iter().map(|op| history.command(&harness, op)).collect(),
            };
            harness.apply_unchecked(&entry);
        }
        let _ = state.has_backlog();
    }
}
