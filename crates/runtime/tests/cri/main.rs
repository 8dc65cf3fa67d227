//! The `cri` runtime on a real engine, one of the tests' own.
//!
//! Has its own main: the guard is a re-exec of the running binary, so `main` must begin with it. Arguments that don't begin
//! with `-` select cases by a part of their names. Says so, and passes, where there is no engine.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test without harness reports by itself"
)]

#[path = "../support/attaches.rs"]
mod attach_cases;
mod attaches;
#[path = "../support/attacks.rs"]
mod attacks;
mod basics;
#[path = "../support/engine.rs"]
mod engine;
mod escape;
#[path = "../support/execs.rs"]
mod exec_cases;
mod execs;
mod fencing;
mod fixture;
#[path = "../support/images/mod.rs"]
mod images;
mod limits_and_logs;
#[path = "../support/processes.rs"]
mod processes;
mod restarts;

use engine::Engine;
use fixture::Fixture;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stint_runtime::maybe_run_shim;

type Case = (&'static str, fn(Fixture) -> Pin<Box<dyn Future<Output = ()>>>);

macro_rules! cases {
    ($($module:ident::$name:ident),* $(,)?) => {
        &[$((stringify!($name), |fixture| Box::pin($module::$name(fixture)))),*]
    };
}

const CASES: &[Case] = cases![
    basics::p5_exit_codes,
    basics::p5_programs_that_cannot_run,
    basics::p6_signals_reach_the_main_process,
    basics::p6_an_image_says_how_it_is_stopped,
    basics::what_is_asked_for_is_what_it_gets,
    basics::rights_are_gained_unless_that_is_forbidden,
    basics::the_root_user_is_refused_where_it_must_not_be,
    execs::programs_run_inside_the_container,
    execs::small_input_passes_that_ends_at_once,
    execs::large_input_passes_and_slow_readers_hold_up_nobody,
    execs::a_terminal_has_a_size_and_a_session,
    execs::programs_end_with_their_container_and_with_their_session,
    execs::one_that_leaves_something_behind_holds_up_no_other,
    execs::refusals_name_the_cause_and_have_a_limit,
    attaches::input_stays_for_clients_that_come_and_go,
    attaches::input_for_one_ends_as_its_client_ends_it,
    attaches::input_for_one_ends_with_its_client,
    attaches::what_a_container_has_not_is_refused,
    attaches::a_terminal_is_the_containers_own,
    attaches::input_that_is_not_read_holds_up_nothing,
    attaches::a13_clients_of_the_next_agent_find_input_open,
    basics::images_come_by_their_policies,
    basics::images_are_fetched_from_mirrors_with_credentials,
    basics::images_that_nobody_uses_go_when_the_disk_is_full,
    basics::containers_of_a_pod_share_what_they_asked_for,
    basics::a_killed_start_leaves_nothing,
    basics::an_engine_that_does_not_answer_is_told_of_and_ends_no_container,
    basics::ports_are_reached_on_the_hosts_network_and_on_the_pods_own,
    escape::forbidden_system_calls_are_refused,
    escape::rights_are_few,
    escape::other_pods_are_out_of_reach,
    escape::links_in_volumes_lead_nowhere,
    escape::what_the_node_does_not_allow_is_refused,
    limits_and_logs::p3_too_much_memory_is_oom_killed,
    limits_and_logs::a_fork_bomb_is_held_and_killed,
    limits_and_logs::output_is_exact_over_rotations,
    limits_and_logs::output_is_bounded,
    limits_and_logs::usage_is_told,
    limits_and_logs::r15_logs_of_the_last_two_runs_are_kept,
    fencing::a13_a_dead_agent_is_survived_and_fenced,
    fencing::a13_a_stopped_agent_is_fenced,
    fencing::a13_a_stopped_engine_does_not_help,
    fencing::a12_the_kill_of_the_guard_is_told_as_such,
    fencing::a_later_moment_keeps_containers,
    fencing::what_had_not_begun_begins_under_the_next_lease,
    fencing::a9_a_late_start_never_runs,
    fencing::a9_a_start_goes_on_while_its_lease_is_renewed,
    fencing::kills_do_not_wait_for_the_engine,
    fencing::a_killed_guard_is_replaced,
    fencing::another_agent_adopts,
    fencing::without_a_guard_nothing_is_adopted,
    fencing::orphans_are_removed,
    restarts::a13_what_was_being_started_when_the_agent_died_runs_once,
    restarts::an_agent_that_finds_its_engine_down_takes_containers_over,
    restarts::an_engine_that_comes_up_later_is_met,
    restarts::what_a_lost_node_left_is_removed,
    restarts::containers_without_a_sandbox_are_removed,
    restarts::r6_what_an_engine_lost_sight_of_ends_before_that_is_told,
    basics::start_times,
];

fn main() {
    maybe_run_shim();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == "agent") {
        return block_on(fencing::agent(arguments[1..].to_vec()));
    }
    if arguments.first().is_some_and(|argument| argument == "starter") {
        return block_on(restarts::starter(arguments[1..].to_vec()));
    }
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let wanted: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let engine = match Engine::start() {
        Ok(engine) => Arc::new(engine),
        Err(why) => return println!("not run: the runtime cri: {why}"),
    };
    let (mut passed, mut failed) = (0, 0);
    for (name, case) in CASES {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let began = Instant::now();
        let engine = engine.clone();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            block_on(async {
                let fixture = Fixture::new(engine);
                let cleanup = fixture.clone();
                tokio::time::timeout(Duration::from_secs(120), case(fixture))
                    .await
                    .expect("the case ends in time");
                cleanup.remove_all().await;
            });
        }));
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {word} ({} ms)", began.elapsed().as_millis());
        *if outcome.is_ok() { &mut passed } else { &mut failed } += 1;
    }
    println!("\ntest result: {passed} passed; {failed} failed");
    drop(engine);
    if failed > 0 {
        std::process::exit(1);
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    result
}
