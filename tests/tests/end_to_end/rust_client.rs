//! Programs that use the Rust client while leaders are killed: each Job exists once and runs once, no outcome stays unknown,
//! and a watch misses and repeats nothing (R1, R4, R5, R11, decision 10).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use stint_client::{Client, ClientOptions, Error, JobBuilder, JobHandle, Scope, WatchEventKind, WatchStep};
use stint_client::{api::Job, is_finished};
use stint_tests::{Cluster, ClusterOptions, eventually};

const IN_FLIGHT: usize = 16;
/// For a third of the submits, and for all ends, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(1_200);

/// How many Jobs a run submits.
fn n_jobs() -> usize {
    if std::env::var_os("STINT_TESTS_FULL").is_some() { 10_000 } else { 1_000 }
}

/// Submits until it is answered. Counts outcomes that were unknown at first.
async fn submit(client: &Client, job: &Job, unknown: &AtomicUsize) -> JobHandle {
    let mut request_id: Option<String> = None;
    loop {
        let submitted = match &request_id {
            None => client.submit(job).await,
            Some(id) => client.submit_again(job, id).await,
        };
        match submitted {
            Ok(handle) => return handle,
            Err(Error::OutcomeUnknown { request_id: Some(id), .. }) => {
                unknown.fetch_add(1, Ordering::Relaxed);
                request_id = Some(id);
            }
            // Nothing was changed by these attempts; earlier ones stay what they were.
            Err(error) if error.is_outage() => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Watches until so many Jobs have ended; gives how often each was said to be new.
async fn watched(client: Client, n_jobs: usize) -> BTreeMap<String, usize> {
    let (mut added, mut ended) = (BTreeMap::new(), BTreeSet::new());
    let mut watch = client.watch_jobs(&Scope::default(), 0);
    while ended.len() < n_jobs {
        let mut show = |job: &Job| {
            if is_finished(job) {
                ended.insert(job.metadata.uid.clone());
            }
        };
        match watch.next_step().await {
            Ok(WatchStep::Change(event)) => {
                if event.kind == WatchEventKind::Added {
                    *added.entry(event.object.metadata.name.clone()).or_default() += 1;
                }
                show(&event.object);
            }
            Ok(WatchStep::Relisted(jobs)) => {
                for job in jobs {
                    added.entry(job.metadata.name.clone()).or_insert(1);
                    show(&job);
                }
            }
            Err(error) => assert!(error.is_outage(), "{error:?}"),
        }
    }
    added
}

#[test]
fn jobs_of_a_program_exist_and_run_once_though_leaders_are_killed() {
    // No Pod is to be lost with a leader, however slow the machine.
    let options = ClusterOptions { node_lease: "30s".to_owned(), ..ClusterOptions::new(3, 1) };
    let mut cluster = Cluster::start(options);
    let ran = cluster.folder.path().join("ran");
    fs::write(&ran, "").unwrap();
    // Each Pod is a user of its own.
    fs::set_permissions(&ran, Permissions::from_mode(0o666)).unwrap();
    let n_jobs = n_jobs();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client =
        Client::new(ClientOptions::new(&cluster.addresses()).with_timeout(Duration::from_secs(1))).unwrap();
    let patient = client.with_timeout(Duration::from_secs(60));

    let watching = runtime.spawn(watched(patient.clone(), n_jobs));
    let (next, answered, unknown) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::default());
    let submitting: Vec<_> = (0..IN_FLIGHT)
        .map(|_| {
            let (client, ran, unknown) = (client.clone(), ran.clone(), Arc::clone(&unknown));
            let (next, answered) = (Arc::clone(&next), Arc::clone(&answered));
            runtime.spawn(async move {
                let mut handles = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= n_jobs {
                        return handles;
                    }
                    let script = format!("echo {number} >>{}", ran.display());
                    // Names are made by the servers, all with one prefix.
                    let job = JobBuilder::new(["sh", "-c", &script]).retries(0).build().unwrap();
                    handles.push(submit(&client, &job, &unknown).await);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for part in 1..=2 {
        eventually("submits are answered", PATIENCE, || {
            (answered.load(Ordering::Relaxed) >= part * n_jobs / 3).then_some(())
        });
        let leader = cluster.wait_for_leader(Duration::from_secs(60));
        cluster.kill_server(&leader);
        cluster.start_server(&leader);
    }

    let (jobs, listed, added) = runtime.block_on(async {
        let mut handles = Vec::new();
        for one in submitting {
            handles.extend(one.await.unwrap());
        }
        let jobs = tokio::time::timeout(PATIENCE, patient.wait_all(&handles)).await.unwrap().unwrap();
        let listed = patient.list_jobs(&Scope::default()).await.unwrap();
        let added = tokio::time::timeout(PATIENCE, watching).await.unwrap().unwrap();
        (jobs, listed.items.len(), added)
    });
    let unknown = AtomicUsize::load(&unknown, Ordering::Relaxed);
    println!("{n_jobs} jobs, {unknown} unknown outcomes resolved");
    assert_eq!((jobs.len(), listed), (n_jobs, n_jobs), "each exists once");
    assert!(jobs.iter().all(|job| job.status.succeeded == 1 && job.status.failed == 0));
    let mut numbers: Vec<usize> =
        fs::read_to_string(&ran).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..n_jobs), "each ran once");
    assert_eq!(added.len(), n_jobs);
    assert!(added.values().all(|times| *times == 1), "the watch repeats nothing: {added:?}");
}
