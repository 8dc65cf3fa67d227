//! A snapshot is saved while Jobs run, and restored as another cluster: every acknowledged Job is there, what was finished is
//! as it was, and what was not completes there, once (R1, R3, R4; decision 6).

use crate::manifests::shell_job;
use crate::members;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use stint_client::{Client, ClientOptions, Scope};
use stint_tests::cluster::run_stint;
use stint_tests::{Cluster, ClusterOptions, eventually};

const SOON: Duration = Duration::from_secs(90);
/// Jobs that run while the snapshot is saved.
const JOBS: usize = 50;
/// By how much a restore raises revisions.
const RAISE: u64 = 1 << 40;

/// A file that Pods of every user may append to.
fn shared_file(path: &Path) {
    let file = std::fs::File::options().append(true).create(true).open(path).unwrap();
    file.set_permissions(std::fs::Permissions::from_mode(0o666)).unwrap();
}

/// `stint snapshot …`, with no cluster in reach.
fn offline(arguments: &[&str]) -> stint_tests::Outcome {
    run_stint("127.0.0.1:1", &[&["snapshot"], arguments].concat(), "")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Whether a cursor is told that it is too old.
fn is_expired(cluster: &Cluster, cursor: u64) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::new(ClientOptions::new(&cluster.addresses())).unwrap();
        let mut watch = client.watch_jobs(&Scope::default(), cursor);
        match tokio::time::timeout(Duration::from_secs(10), watch.next()).await {
            Ok(Err(error)) => error.is_expired(),
            Ok(Ok(_)) | Err(_) => false,
        }
    })
}

fn is_complete(job: &Value) -> bool {
    stint_tests::cluster::condition(job, "Complete").is_some_and(|found| found["status"] == "True")
}

#[test]
fn a_snapshot_of_a_follower_under_50_jobs_becomes_a_second_cluster() {
    let mut old = Cluster::start(ClusterOptions::new(3, 2));
    let folder = old.folder.path().to_owned();
    let (journal, gate, backup) = (folder.join("journal"), folder.join("end"), folder.join("backup"));
    shared_file(&journal);

    // Finished: five that are complete, and one that has failed.
    for number in 0..5 {
        old.apply(&shell_job(&format!("done-{number}"), &["completions: 2"], "true"));
    }
    old.apply(&shell_job("broken", &["backoffLimit: 0"], "exit 3"));
    for number in 0..5 {
        old.wait_for_condition(&format!("done-{number}"), "Complete", SOON);
    }
    old.wait_for_condition("broken", "Failed", SOON);
    let finished: Vec<Value> = (0..5)
        .map(|number| format!("done-{number}"))
        .chain(["broken".to_owned()])
        .map(|name| old.job(&name))
        .collect();
    // One with an index that is done, and one that has a failure behind it.
    let wait = format!("while [ ! -e {} ]; do sleep 0.2; done", gate.display());
    let note = |name: &str| {
        format!("echo \"$STINT_FENCING_TOKEN {name} ${{JOB_COMPLETION_INDEX:-0}}\" >>{}", journal.display())
    };
    let indexed = format!("[ $JOB_COMPLETION_INDEX = 0 ] || {{ {wait}; }}\n{}", note("indexed"));
    let lines = ["completions: 4", "parallelism: 4", "completionMode: Indexed", "backoffLimit: 0"];
    old.apply(&shell_job("indexed", &lines, &indexed));
    eventually("an index is done", SOON, || {
        (old.job("indexed")["status"]["completedIndexes"] == "0").then_some(())
    });
    // Each has no failure to spare: what the restore ends must not count.
    for number in 0..JOBS {
        let name = format!("job-{number}");
        old.apply(&shell_job(&name, &["backoffLimit: 0"], &format!("{wait}\n{}", note(&name))));
    }
    eventually("they run", SOON, || {
        let pods = old.json(&["get", "pods", "-o", "json"]);
        let running = pods["items"].as_array()?.iter().filter(|pod| pod["status"]["phase"] == "Running");
        (running.count() >= JOBS).then_some(())
    });

    let leader = old.wait_for_leader(SOON);
    let follower = old.server_names().into_iter().find(|name| *name != leader).unwrap();
    // Acknowledged right before: it must be in there, though a follower saves it.
    old.apply(&shell_job("last", &["backoffLimit: 0"], &format!("{wait}\n{}", note("last"))));
    let begun = Instant::now();
    let of_follower = old.client_addresses[&follower].clone();
    let saved = run_stint(&of_follower, &["snapshot", "save", text(&backup)], "").success();
    println!("{} after {} ms", saved.trim(), begun.elapsed().as_millis());
    assert!(saved.contains(&format!("saved by {follower}")), "{saved}");
    assert_eq!(backup.metadata().unwrap().permissions().mode() & 0o777, 0o600, "specs may hold secrets");
    let listed = old.json(&["get", "jobs", "-o", "json"]);
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|job| job["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let names_before = names(&listed);
    assert_eq!(names_before.len(), 5 + 1 + 1 + JOBS + 1);
    // What comes later is not in it, and its revisions are none of the new cluster's.
    old.apply(&shell_job("later", &["suspend: true"], "true"));
    let later: u64 = old.job("later")["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();

    let refused = run_stint(&of_follower, &["snapshot", "save", text(&backup)], "");
    assert!(refused.code == 1 && refused.stderr.contains("--force"), "{refused:?}");
    run_stint(&of_follower, &["snapshot", "save", text(&folder.join("another"))], "").success();
    let link = folder.join("link");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    let refused = run_stint(&of_follower, &["snapshot", "save", "--force", text(&link)], "");
    assert!(refused.code == 1 && refused.stderr.contains("replaces files only"), "{refused:?}");
    assert!(link.symlink_metadata().unwrap().is_symlink());
    let inspected = offline(&["inspect", text(&backup), "-o", "json"]).success();
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(
        (inspected["jobs"].as_u64(), inspected["unfinishedJobs"].as_u64(), inspected["nodes"].as_u64()),
        (Some(names_before.len() as u64), Some(JOBS as u64 + 2), Some(2)),
        "{inspected:#}"
    );
    let revision: u64 = inspected["revision"].as_str().unwrap().parse().unwrap();
    let old_id = old.json(&["status", "-o", "json"])["clusterId"].clone();
    assert_eq!(inspected["clusterId"], old_id);

    // The old cluster is lost.
    for name in old.server_names() {
        old.kill_server(&name);
    }
    for name in old.agent_names() {
        old.kill_agent(&name);
    }
    let mut new = Cluster::prepare(ClusterOptions::new(1, 1));
    let data = new.data_folder("s1");
    let begun = Instant::now();
    let said = offline(&["restore", text(&backup), "--data-dir", text(&data), "--name", "s1"]).success();
    println!("{} after {} ms", said.trim(), begun.elapsed().as_millis());
    new.start_server("s1");
    new.wait_for_leader(SOON);
    let status = new.json(&["status", "-o", "json"]);
    assert_ne!(status["clusterId"], old_id);
    assert!(said.contains(status["clusterId"].as_str().unwrap()), "{said}");
    let mut names_now = names(&new.json(&["get", "jobs", "-o", "json"]));
    names_now.sort();
    let mut expected = names_before;
    expected.sort();
    assert_eq!(names_now, expected, "every acknowledged Job, and no other");
    for before in &finished {
        let name = before["metadata"]["name"].as_str().unwrap();
        assert_eq!(new.job(name), *before, "R3: {name} is as it was");
    }
    for cursor in [1, revision - 1, revision, revision + 1, later, revision + RAISE - 1] {
        assert!(is_expired(&new, cursor), "cursor {cursor}; the snapshot is of revision {revision}");
    }

    // It is a cluster like any other, and grows.
    for name in ["s2", "s3"] {
        members::add(&mut new, name);
    }
    members::wait_for_voters(&new, &["s1", "s2", "s3"]);
    new.kill_server("s1");
    new.wait_for_leader(SOON);
    new.start_server("s1");
    new.wait_for_leader(SOON);
    // What agents that were killed leave behind ends with its lease; before that it would see leave to end.
    eventually("no pod of the old cluster is left", SOON, || {
        (crate::job_behaviour::processes_with(text(&gate)) == 0).then_some(())
    });
    // An agent of its own, and one of the old cluster, which has to forget that.
    let writable = format!("writable={}", folder.display());
    new.start_agent("w1", &["--allow", &writable]);
    new.wait_for_agents(SOON);
    let addresses = new.addresses();
    old.start_agent_towards("w2", &addresses, &[]);
    eventually("the old cluster's agent is a node of the new one", SOON, || {
        new.ready_nodes().contains(&"w2".to_owned()).then_some(())
    });
    let output = std::fs::read_to_string(old.log_path("w2")).unwrap();
    assert!(output.contains("of another cluster"), "{output}");
    assert_eq!(std::fs::read_to_string(&journal).unwrap().lines().count(), 1, "only the index that was done");

    std::fs::write(&gate, "").unwrap();
    let unfinished: Vec<String> = (0..JOBS)
        .map(|number| format!("job-{number}"))
        .chain(["indexed".to_owned(), "last".to_owned()])
        .collect();
    for name in &unfinished {
        let job = new.wait_for_condition(name, "Complete", SOON);
        assert!(is_complete(&job));
        assert!(matches!(job["status"]["failed"].as_i64(), None | Some(0)), "uncounted: {}", job["status"]);
    }
    // Each did its work once: index 0 in the old cluster, everything else in the new one, with a higher token.
    let mut done: Vec<(String, u64)> = std::fs::read_to_string(&journal)
        .unwrap()
        .lines()
        .map(|line| {
            let (token, what) = line.split_once(' ').unwrap();
            (what.to_owned(), token.parse().unwrap())
        })
        .collect();
    done.sort();
    let mut expected: Vec<String> = (0..JOBS).map(|number| format!("job-{number} 0")).collect();
    expected.extend(["last 0".to_owned()]);
    expected.extend((0..4).map(|index| format!("indexed {index}")));
    expected.sort();
    assert_eq!(done.iter().map(|(what, _)| what.clone()).collect::<Vec<_>>(), expected);
    for (what, token) in &done {
        assert_eq!(*token > revision + RAISE, what != "indexed 0", "{what} with token {token}");
    }
    // What was unfinished says why it ended.
    for pod in new.pods("job-7") {
        match pod["status"]["phase"].as_str() {
            Some("Failed") => assert_eq!(pod["status"]["reason"], "Restored", "{pod:#}"),
            phase => assert_eq!(phase, Some("Succeeded")),
        }
    }
    let history = new.stint(&["history", "job-7"]).success();
    assert!(history.contains("PodRestored"), "{history}");
    old.end_agents();
    new.end_agents();
}

#[test]
fn what_is_damaged_is_refused_and_leaves_nothing() {
    let mut cluster = Cluster::start(ClusterOptions::new(3, 0));
    for number in 0..20 {
        cluster.apply(&shell_job(&format!("job-{number}"), &["suspend: true"], "true"));
    }
    let folder = cluster.folder.path().to_owned();
    let backup = folder.join("backup");
    cluster.stint(&["snapshot", "save", text(&backup)]).success();
    let bytes = std::fs::read(&backup).unwrap();
    let bad = folder.join("bad");
    let data: PathBuf = folder.join("restored");
    let refused = |content: &[u8], expected: &str| {
        std::fs::write(&bad, content).unwrap();
        let inspected = offline(&["inspect", text(&bad)]);
        assert_eq!(inspected.code, 1, "accepted: {}", inspected.stdout);
        assert!(inspected.stderr.contains(expected), "{}", inspected.stderr);
        let restored = offline(&["restore", text(&bad), "--data-dir", text(&data), "--name", "s1"]);
        assert_eq!((restored.code, restored.stderr), (1, inspected.stderr));
        assert!(!data.exists(), "something is left");
    };
    // From one end to the other.
    for number in 0..64 {
        let mut flipped = bytes.clone();
        flipped[number * (bytes.len() - 1) / 63] ^= 1 << (number % 8);
        refused(&flipped, "snapshot refused");
    }
    for length in [0, 10, 100, bytes.len() / 2, bytes.len() - 1] {
        refused(&bytes[..length], "snapshot refused");
    }
    refused(&[&bytes[..], b"\n"].concat(), "it is damaged");
    refused(
        &std::fs::read(stint_tests::binary("stint-agent")).unwrap()[..4096],
        "no snapshot that stint has saved",
    );
    let mut later = bytes.clone();
    later[b"stint snapshot ".len()] = b'7';
    refused(&later, "file version 7");

    // Nothing is written over.
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("precious"), "x").unwrap();
    let restore = ["restore", text(&backup), "--data-dir", text(&data), "--name"];
    let outcome = offline(&[&restore[..], &["s1"]].concat());
    assert!(outcome.code == 1 && outcome.stderr.contains("precious"), "{outcome:?}");
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1);
    std::fs::remove_dir_all(&data).unwrap();
    let outcome = offline(&[&restore[..], &["S 1"]].concat());
    assert!(outcome.code == 1 && outcome.stderr.contains("DNS label"), "{outcome:?}");
    assert!(!data.exists());

    // Without a majority only what one server has can be saved, and only if that is asked for.
    let names = cluster.server_names();
    for name in &names[1..] {
        cluster.kill_server(name);
    }
    let survivor = cluster.client_addresses[&names[0]].clone();
    let stale = folder.join("stale");
    let save = ["--request-timeout", "5s", "snapshot", "save", text(&stale)];
    let outcome = eventually("no majority is left", SOON, || {
        let outcome = run_stint(&survivor, &save, "");
        (outcome.code != 0).then_some(outcome)
    });
    assert!(!stale.exists(), "{outcome:?}");
    run_stint(&survivor, &[&save[..], &["--stale"]].concat(), "").success();
    offline(&["restore", text(&stale), "--data-dir", text(&data), "--name", "s1"]).success();
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("stint-snapshot")), "{left:?}");
}

#[test]
fn a_snapshot_is_saved_with_the_token_only() {
    let mut options = ClusterOptions::new(1, 0);
    let secrets = stint_tests::folder::TestFolder::new("stint-token.");
    let token = secrets.path().join("token");
    std::fs::write(&token, "0123456789abcdef-a-token-of-the-test-only").unwrap();
    options.server_arguments = vec!["--token-file".to_owned(), text(&token).to_owned()];
    let mut cluster = Cluster::prepare(options);
    cluster.start_server("s1");
    let backup = cluster.folder.path().join("backup");
    let save = ["snapshot", "save", text(&backup)];
    eventually("it is saved with the token", SOON, || {
        let with_token = [&["--token-file", text(&token)], &save[..]].concat();
        (cluster.stint(&with_token).code == 0).then_some(())
    });
    std::fs::remove_file(&backup).unwrap();
    let refused = cluster.stint(&save);
    assert!(refused.code == 1 && refused.stderr.contains("token"), "{refused:?}");
    assert!(!backup.exists());
}
