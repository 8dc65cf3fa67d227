//! The `oci` runtime on real containers, out of images that the tests make.
//!
//! Has its own main: the shim is a re-exec of the running binary, so `main` must begin with it. Arguments that don't begin
//! with `-` select cases by a part of their names. Needs root; says so where there is none.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test without harness reports by itself")]

#[path = "../support/attaches.rs"]
mod attach_cases;
mod attaches;
#[path = "../support/attacks.rs"]
mod attacks;
mod cases;
mod escape;
mod fixture;
#[path = "../support/images/mod.rs"]
mod images;
mod isolation;
#[path = "../support/processes.rs"]
mod processes;
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
    cases::p5_exit_codes_and_signals,
    cases::the_image_says_what_the_pod_does_not,
    cases::output_and_environment_are_exact,
    cases::users_are_those_of_the_image_or_the_pod,
    cases::folders_that_an_image_writes_to_are_there,
    cases::what_cannot_start_says_why,
    cases::layers_are_one_root_and_each_run_has_its_own_changes,
    cases::an_image_may_have_as_many_layers_as_fit,
    cases::volumes_are_seen_where_they_are_mounted,
    cases::programs_run_inside_the_container,
    cases::perl_computes_pi,
    cases::an_image_that_is_missing_is_said_to_be,
    isolation::a_container_sees_nothing_of_the_host,
    isolation::containers_of_a_pod_share_memory,
    isolation::rights_are_few,
    isolation::system_calls_are_filtered,
    isolation::what_the_node_does_not_allow_is_refused,
    isolation::limits_hold,
    escape::forbidden_system_calls_are_refused,
    escape::the_agents_program_is_not_changed_by_who_runs_it,
    escape::who_enters_shows_nothing_of_the_shim,
    escape::a_working_folder_leads_nowhere_else,
    escape::nothing_is_inherited,
    escape::other_pods_are_out_of_reach,
    escape::links_in_volumes_lead_nowhere,
    escape::the_host_is_not_written_to,
    survival::p6_a_signal_reaches_the_main_process,
    survival::nothing_survives_the_main_process_or_a_kill,
    survival::a4_a_start_that_is_killed_leaves_nothing,
    survival::a9_nothing_starts_at_or_after_its_last_moment,
    survival::a13_the_deadline_kills,
    survival::containers_are_adopted_with_their_images,
    survival::a_pod_is_the_same_user_under_the_next_agent,
    survival::many_containers_leave_nothing_behind,
    attaches::input_stays_for_clients_that_come_and_go,
    attaches::input_for_one_ends_with_its_client,
    attaches::a_terminal_is_the_containers_own,
    attaches::input_that_is_not_read_holds_up_nothing,
    attaches::a13_clients_of_the_next_agent_find_input_open,
];

fn main() {
    maybe_run_shim();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if attacks::is_attack(&arguments) {
        return attacks::own_program();
    }
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("not run: containers need root");
        return;
    }
    let wanted: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let (mut passed, mut failed) = (0, 0);
    for (name, case) in CASES {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let began = Instant::now();
        let folder = OnceLock::new();
        let run = |future: Pin<Box<dyn Future<Output = ()>>>| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.unwrap().block_on(future);
        };
        let outcome = std::panic::catch_unwind(|| {
            let folder = &folder;
            run(Box::pin(async move {
                let fixture = Fixture::new().await;
                let _ = folder.set(fixture.folder.clone());
                tokio::time::timeout(Duration::from_secs(120), case(fixture)).await.expect("the case hangs");
            }));
        });
        if let Some(folder) = folder.get() {
            let folder = folder.clone();
            run(Box::pin(async move { fixture::clean_up(folder.path()).await }));
        }
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {word} in {} ms", began.elapsed().as_millis());
        *(if outcome.is_ok() { &mut passed } else { &mut failed }) += 1;
    }
    println!("{passed} passed, {failed} failed");
    std::process::exit(i32::from(failed > 0));
}
