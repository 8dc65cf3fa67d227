//! Model check of what an agent holds (A8, A9, A10, A14): the real [`HeldPods`] between a server and its processes, driven by a
//! checker that loses, doubles, delays and reorders every order, desired set and report.
//!
//! One Pod, of one container or of two, is bound, maybe restarted in place, maybe stopped, as a whole or one container of it;
//! its agent may be replaced by another that takes over what runs. Once the servers hold it for ended, its replacement runs elsewhere
//! at that very moment. Messages stay in flight once they were sent. Leases are not part of it: `model.rs` has them.

#[path = "orders/cluster.rs"]
mod cluster;

use std::collections::BTreeSet;

use cluster::{
    A8_WANTED, A9_ANSWERED, A14_ONCE, ADOPTED, BEGUN_ANEW, CALLED_OFF, ENDED, LATE_ORDER, Mutant,
    NOT_STARTED, OLD_SET, Orders, R6, RESTARTED, STOPPED, Shape,
};
use stateright::{Checker, HasDiscoveries, Model};

#[test]
fn every_order_of_messages_keeps_the_promises() {
    keeps_the_promises(Shape::Single);
}

#[test]
fn every_order_of_messages_keeps_the_promises_to_a_pod_of_two_containers() {
    keeps_the_promises(Shape::Pair);
}

#[test]
fn every_order_of_messages_keeps_the_promises_to_a_pod_with_a_sidecar() {
    keeps_the_promises(Shape::Sidecar);
}

#[test]
fn every_order_of_messages_keeps_the_promises_to_a_pod_that_begins_anew() {
    keeps_the_promises(Shape::Anew);
}

fn keeps_the_promises(shape: Shape) {
    let model = Orders { mutant: Mutant::None, shape };
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    let discoveries = checker.discoveries();
    for promise in [R6, A8_WANTED, A9_ANSWERED, A14_ONCE] {
        if let Some(path) = discoveries.get(promise) {
            panic!("broken: {promise}\n{:#?}", path.clone().into_actions());
        }
    }
    assert!(checker.is_done(), "not all states were explored");
    let of_shape: &[&str] = match shape {
        Shape::Single => &[RESTARTED, ADOPTED],
        Shape::Pair => &[RESTARTED],
        Shape::Sidecar => &[RESTARTED, ADOPTED, CALLED_OFF],
        Shape::Anew => &[CALLED_OFF, BEGUN_ANEW],
    };
    for occurrence in [STOPPED, NOT_STARTED, ENDED, OLD_SET, LATE_ORDER].iter().chain(of_shape) {
        assert!(discoveries.contains_key(occurrence), "it never happens that {occurrence}");
    }
}

#[test]
fn every_broken_rule_is_caught() {
    for (mutant, promise) in [
        (Mutant::NoTombstone, R6),
        (Mutant::TombstoneGoesWithAnySet, R6),
        (Mutant::OlderSetActs, A8_WANTED),
        (Mutant::AbsentStoppedThoughBoundLater, A8_WANTED),
        (Mutant::OrderOfDroppedPodActs, R6),
        (Mutant::NothingAskedBeforeBegin, R6),
        (Mutant::StopBetweenRunsUnanswered, A9_ANSWERED),
        (Mutant::AnyRestartCountActs, A14_ONCE),
        (Mutant::LastEndUnanswered, A9_ANSWERED),
        (Mutant::CallOffUnanswered, A9_ANSWERED),
        (Mutant::CallOffForgotten, R6),
        (Mutant::NothingAdopted, A14_ONCE),
    ] {
        let shape = match mutant {
            Mutant::LastEndUnanswered => Shape::Pair,
            Mutant::CallOffUnanswered | Mutant::CallOffForgotten => Shape::Sidecar,
            _ => Shape::Single,
        };
        let checker = Orders { mutant, shape }
            .checker()
            .finish_when(HasDiscoveries::AnyOf(BTreeSet::from([promise])))
            .spawn_bfs()
            .join();
        assert!(checker.discovery(promise).is_some(), "{mutant:?}: nothing breaks {promise:?}");
    }
}
