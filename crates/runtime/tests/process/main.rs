//! The `process` runtime on real processes, with and without namespaces.
//!
//! Has its own main: the shim is a re-exec of the running binary, so `main` must begin with it. Arguments that don't begin
//! with `-` select cases by a part of their names.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test without harness reports by itself")]

mod adoption;
#[path = "../support/attaches.rs"]
mod attach_cases;
mod attaches;
mod cases;
#[path = "../support/execs.rs"]
mod exec_cases;
mod execs;
mod fixture;
#[path = "../support/processes.rs"]
mod processes;
#[path = "../support/stops.rs"]
mod stops;
mod survival;

use fixture::Fixture;
use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use stint_runtime::maybe_run_shim;

type Case = (&'static str, fn(Fixture) -> Pin<Box<dyn Future<Output = ()>>>);

macro_rules! cases {
    ($($module:ident::$name:ident),* $(,)?) => { &[$((stringify!($name), |fixture| Box::pin($module::$name(fixture)))),*] };
}

const CASES: &[Case] = cases![
    cases::p5_exit_codes,
    cases::p5_signals,
    cases::p5_programs_that_cannot_run,
    cases::bad_folders_are_start_errors,
    cases::output_is_exact,
    cases::output_without_end_is_followed_and_rotated,
    cases::a_line_that_goes_on_is_followed,
    cases::environment_is_what_was_given,
    cases::descriptors_signals_and_umask_are_clean,
    cases::p6_terminate_reaches_the_main_process_only,
    cases::nothing_survives_the_main_process,
    cases::kill_takes_escapees_and_stopped_members,
    cases::kill_takes_what_goes_on_forking,
    cases::a9_nothing_starts_at_or_after_its_last_moment,
    cases::a4_a_start_that_is_killed_leaves_nothing_when_it_answers,
    cases::namespace_is_private,
    cases::many_quick_containers_leave_nothing_open,
    cases::refusals_name_the_cause,
    survival::a_handle_that_is_dropped_lets_go_and_a_start_that_is_dropped_kills,
    survival::a13_the_deadline_kills_whatever_the_agent_does,
    survival::a4_a_disk_that_hangs_holds_up_neither_a_kill_nor_the_deadline,
    survival::a13_threads_of_the_agent_come_and_go,
    survival::shim_death_from_outside,
    survival::spawner_death_from_outside,
    survival::sigterm_for_the_shim_counts_from_outside_only,
    adoption::a13_containers_outlive_their_agent_and_are_adopted_with_whole_logs,
    adoption::a13_containers_of_a_dead_agent_end_at_its_deadline,
    adoption::a13_what_can_not_be_reached_is_ended_before_it_is_missed,
    adoption::a13_what_never_began_is_told_from_what_may_have,
    adoption::a13_what_was_killed_with_its_shim_may_have_run,
    adoption::a13_containers_of_a_stopped_agent_end_at_its_deadline,
    adoption::two_hundred_are_adopted_at_once,
    adoption::shims_that_cannot_be_understood_are_killed,
    execs::programs_run_inside_the_container,
    execs::large_input_passes_and_slow_readers_hold_up_nobody,
    execs::a_terminal_has_a_size_and_a_session,
    execs::programs_end_with_their_container_and_with_their_session,
    execs::refusals_name_the_cause_and_have_a_limit,
    attaches::input_stays_for_clients_that_come_and_go,
    attaches::input_for_one_ends_with_its_client,
    attaches::what_a_container_has_not_is_refused,
    attaches::a_terminal_is_the_containers_own,
    attaches::input_that_is_not_read_holds_up_nothing,
    attaches::a_client_that_does_not_read_is_let_go,
    attaches::a13_shims_of_before_are_not_asked_for_streams,
    attaches::a13_clients_of_the_next_agent_find_input_open,
];

fn main() {
    maybe_run_shim();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == "agent") {
        return adoption::be_an_agent(&arguments[1..]);
    }
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let wanted: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let (mut passed, mut failed) = (0, 0);
    for force_degraded in [false, true] {
        for (name, case) in CASES {
            if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
                continue;
            }
            let mode = if force_degraded { "degraded" } else { "default" };
            let began = Instant::now();
            let folder = OnceLock::new();
            let outcome = std::panic::catch_unwind(|| {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
                runtime.unwrap().block_on(async {
                    let limit = Duration::from_secs(120);
                    let fixture = Fixture::new(force_degraded).await;
                    let _ = folder.set(fixture.folder.clone());
                    tokio::time::timeout(limit, case(fixture)).await.expect("the case hangs");
                });
            });
            if let Some(folder) = folder.get() {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(fixture::clean_up(folder.path(), force_degraded));
            }
            let word = if outcome.is_ok() { "ok" } else { "FAILED" };
            println!("test {name} ({mode}) ... {word} in {} ms", began.elapsed().as_millis());
            *(if outcome.is_ok() { &mut passed } else { &mut failed }) += 1;
        }
    }
    println!("{passed} passed, {failed} failed");
    std::process::exit(i32::from(failed > 0));
}
