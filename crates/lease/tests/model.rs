//! Model check of the lease protocol (A1-A9, promises R6 to R8): the real machines of both sides, driven by a checker that tries
//! every order of messages, losses, delays, elections and clock ticks within bounds.
//!
//! The protocol as it is must keep every promise in every state within the bounds; with any one rule broken, the checker must
//! find a state that breaks the promise which that rule is for. `STINT_TESTS_FULL=1` also explores wider bounds.

#[path = "model/agent.rs"]
mod agent;
#[path = "model/cluster.rs"]
mod cluster;
#[path = "model/mutant.rs"]
mod mutant;
#[path = "model/server.rs"]
mod server;

use std::collections::BTreeSet;

use cluster::{
    A4_RAN_OUT, A6_OWN_TIME, Bounds, Cluster, EXPIRED, EXPIRED_AFTER_DELAY, KILLED, LATE_EXPIRY,
    MARK_REFUSES, R6, R7_DEPOSED, R7_MARK, R7_STALE, R8, REGISTERED_ANEW, RENEWED, RENEWED_AFTER_CHANGE,
    REPLACED, Scale, Start,
};
use mutant::Mutant;
use stateright::{Checker, HasDiscoveries, Model};

/// A leader, a change of leader and two heartbeats; the agent's clock as slow as the fence margin and the grace allow.
const USUAL: Bounds = Bounds {
    scale: Scale::FewTicks,
    ticks: 8,
    elections: 1,
    heartbeats: 2,
    duplicates: 0,
    lags: 2,
    registrations: 1,
    failed_rounds: 0,
    held_up: 0,
    crashes: 0,
    start: Start::Running,
};

/// Explores all states within the bounds: none may break a promise, and each of `reached` must be there.
fn exhaust(bounds: Bounds, reached: &[&'static str]) {
    let checker = Cluster::new(bounds, Mutant::None)
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_dfs()
        .join();
    let discoveries = checker.discoveries();
    for (promise, path) in &discoveries {
        if !cluster::OCCURRENCES.contains(promise) {
            panic!("broken within {bounds:?}: {promise}\n{:#?}", path.clone().into_actions());
        }
    }
    assert!(checker.is_done(), "{bounds:?}: not all states were explored");
    for occurrence in reached {
        assert!(discoveries.contains_key(occurrence), "{bounds:?}: it never happens that {occurrence}");
    }
}

/// With this one fault, some state within the bounds breaks `promise`.
fn catches(mutant: Mutant, promise: &'static str, bounds: Bounds) {
    let checker = Cluster::new(bounds, mutant)
        .checker()
        .finish_when(HasDiscoveries::AnyOf(BTreeSet::from([promise])))
        .spawn_bfs()
        .join();
    assert!(checker.discovery(promise).is_some(), "{mutant:?}: nothing breaks {promise:?} within {bounds:?}");
}

fn is_full_run() -> bool {
    std::env::var_os("STINT_TESTS_FULL").is_some_and(|value| !value.is_empty() && value != "0")
}

#[test]
fn a_deposed_leader_and_the_shortest_lease() {
    let bounds = Bounds { scale: Scale::ShortestLease, ticks: 13, ..USUAL };
    exhaust(bounds, &[RENEWED, RENEWED_AFTER_CHANGE, EXPIRED, REPLACED, KILLED, LATE_EXPIRY, MARK_REFUSES]);
}

#[test]
fn failed_rounds_and_doubled_heartbeats() {
    exhaust(Bounds { failed_rounds: 1, ..USUAL }, &[RENEWED, RENEWED_AFTER_CHANGE, EXPIRED, REPLACED]);
    exhaust(Bounds { duplicates: 1, ..USUAL }, &[RENEWED, RENEWED_AFTER_CHANGE, EXPIRED, REPLACED]);
}

#[test]
fn a_server_leads_twice() {
    exhaust(Bounds { ticks: 9, elections: 2, ..USUAL }, &[RENEWED_AFTER_CHANGE, REPLACED, LATE_EXPIRY]);
}

#[test]
fn many_heartbeats() {
    exhaust(Bounds { ticks: 9, heartbeats: 3, ..USUAL }, &[RENEWED, RENEWED_AFTER_CHANGE, REPLACED]);
}

#[test]
fn a_leader_that_is_held_up() {
    let reached = [RENEWED, EXPIRED_AFTER_DELAY, REPLACED];
    exhaust(Bounds { ticks: 11, elections: 0, held_up: 4, ..USUAL }, &reached);
    exhaust(Bounds { ticks: 9, held_up: 2, heartbeats: 1, ..USUAL }, &reached);
}

#[test]
fn a_node_registers_anew() {
    let bounds = Bounds { heartbeats: 1, registrations: 2, ..USUAL };
    exhaust(bounds, &[REGISTERED_ANEW, RENEWED, EXPIRED, REPLACED]);
}

#[test]
fn a_node_registers_for_the_first_time() {
    let bounds = Bounds { heartbeats: 1, start: Start::Unregistered, ..USUAL };
    exhaust(bounds, &[RENEWED, RENEWED_AFTER_CHANGE, EXPIRED, REPLACED]);
    let bounds = Bounds { elections: 0, registrations: 2, ..bounds };
    exhaust(bounds, &[REGISTERED_ANEW, RENEWED, EXPIRED, REPLACED]);
}

#[test]
fn an_agent_dies_and_comes_back() {
    let bounds = Bounds { heartbeats: 1, registrations: 2, crashes: 1, start: Start::Ordered, ..USUAL };
    exhaust(bounds, &[REGISTERED_ANEW, RENEWED, EXPIRED, REPLACED]);
}

#[test]
fn every_broken_rule_is_caught() {
    let (usual, twice) = (USUAL, Bounds { registrations: 2, ..USUAL });
    let ordered = Bounds { start: Start::Ordered, ..usual };
    let ordered_twice = Bounds { start: Start::Ordered, ..twice };
    let unregistered = Bounds { start: Start::Unregistered, elections: 0, heartbeats: 0, ..usual };
    let held_up = Bounds { held_up: 2, elections: 0, ..usual };
    for (mutant, promise, bounds) in [
        (Mutant::DeadlineFromReceipt, R6, usual),
        (Mutant::PassedDeadlineExtended, A4_RAN_OUT, usual),
        (Mutant::RegistersWhileKilling, R6, twice),
        (Mutant::NoFenceMargin, R6, usual),
        (Mutant::NoExpiryGrace, R6, usual),
        (Mutant::RegistrationCountsFromLastSending, R6, unregistered),
        (Mutant::RenewsWithoutQuorumRound, R6, usual),
        (Mutant::RenewsWithoutQuorumRound, R7_DEPOSED, usual),
        (Mutant::EarlierRoundConfirms, R6, usual),
        (Mutant::EarlierRoundConfirms, R7_DEPOSED, usual),
        (Mutant::AnswersAnyIncarnation, R7_STALE, usual),
        (Mutant::NoMarkAtAnswering, R7_MARK, usual),
        (Mutant::ExpiryOfAnotherTermApplies, R6, usual),
        (Mutant::ExpiryOfAnotherIncarnationApplies, R6, twice),
        (Mutant::DelayIsNotMadeUpFor, A6_OWN_TIME, held_up),
        (Mutant::NewLeaderWaitsZero, R6, usual),
        (Mutant::NoStartGate, R6, ordered),
        (Mutant::NoStartGate, R8, ordered),
        (Mutant::StartGateIgnoresIncarnation, R8, ordered_twice),
    ] {
        catches(mutant, promise, bounds);
    }
}

/// The bounds on clocks are not slack: one tick more than the margins allow, and two run.
#[test]
fn r6_needs_the_bound_on_clock_rates() {
    for scale in [Scale::FewTicks, Scale::ShortestLease] {
        let bounds = Bounds { scale, ticks: 11, elections: 0, heartbeats: 0, lags: 3, ..USUAL };
        catches(Mutant::None, R6, bounds);
    }
}

#[test]
fn wider_bounds() {
    if !is_full_run() {
        return;
    }
    exhaust(Bounds { registrations: 2, ..USUAL }, &[REGISTERED_ANEW, RENEWED_AFTER_CHANGE, REPLACED]);
    exhaust(Bounds { ticks: 9, held_up: 2, ..USUAL }, &[RENEWED_AFTER_CHANGE, EXPIRED_AFTER_DELAY]);
    let bounds = Bounds { heartbeats: 1, registrations: 2, start: Start::Unregistered, ..USUAL };
    exhaust(bounds, &[REGISTERED_ANEW, RENEWED_AFTER_CHANGE, REPLACED]);
    let bounds = Bounds { scale: Scale::ShortestLease, ticks: 13, heartbeats: 3, ..USUAL };
    exhaust(bounds, &[RENEWED_AFTER_CHANGE, REPLACED]);
    exhaust(Bounds { duplicates: 1, failed_rounds: 1, ..USUAL }, &[RENEWED_AFTER_CHANGE, REPLACED]);
}
