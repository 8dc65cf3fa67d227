//! The control plane grows, shrinks, loses a server and changes its leader while Jobs run, by `stint member` alone: nothing
//! acknowledged is lost, and no Pod notices (R1, R4, R6, R9).

use crate::manifests::{journal_script, read_journal, shell_job};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use stint_tests::{Cluster, ClusterOptions, eventually};

const SOON: Duration = Duration::from_secs(90);
/// Jobs that run during each change.
const JOBS: usize = 50;

/// 50 Jobs of one Pod, all of which run; a Pod that is lost would be a failure too many.
struct Running {
    names: Vec<String>,
    journal: PathBuf,
    /// Where its Pods look for leave to end.
    gate: PathBuf,
}

impl Running {
    fn begin(cluster: &Cluster, what: &str) -> Running {
        let folder = cluster.folder.path();
        let (journal, gate) = (folder.join(format!("{what}.journal")), folder.join(format!("{what}.end")));
        let wait = format!("while [ ! -e {} ]; do stamp tick; sleep 0.5; done\nstamp stop\n", gate.display());
        let script = journal_script(&journal, 1, 0).replace("stamp stop\n", &wait);
        let names: Vec<String> = (0..JOBS).map(|number| format!("{what}-{number}")).collect();
        for name in &names {
            cluster.apply(&shell_job(name, &["backoffLimit: 0"], &script));
        }
        eventually("all of them run", SOON, || (started(&journal) == JOBS).then_some(()));
        Running { names, journal, gate }
    }

    /// Each Job is there, completes, and has had one Pod that ran once from its start to its end.
    fn end(self, cluster: &Cluster) {
        let listed = cluster.stint(&["get", "jobs", "-o", "name"]).success();
        let listed: Vec<&str> = listed.lines().collect();
        for name in &self.names {
            assert!(listed.contains(&format!("job.batch/{name}").as_str()), "{name} is lost: {listed:?}");
        }
        assert_eq!(started(&self.journal), JOBS, "nothing was started again");
        std::fs::write(&self.gate, "").unwrap();
        for name in &self.names {
            let job = cluster.wait_for_condition(name, "Complete", SOON);
            assert!(matches!(job["status"]["failed"].as_i64(), None | Some(0)), "{name}: {}", job["status"]);
        }
        let pods = read_journal(&self.journal);
        assert_eq!(pods.len(), JOBS, "every Job had one Pod");
        assert!(pods.values().all(|pod| pod.stopped), "and none was disturbed");
        for name in &self.names {
            cluster.stint(&["delete", "job", name]).success();
        }
    }
}

fn started(journal: &std::path::Path) -> usize {
    let text = std::fs::read_to_string(journal).unwrap_or_default();
    text.lines().filter(|line| line.contains(" start ")).count()
}

/// Voters by name, as the leader says.
fn voters(cluster: &Cluster) -> Vec<String> {
    let outcome = cluster.stint(&["member", "list", "-o", "json"]);
    let Ok(status) = serde_json::from_str::<serde_json::Value>(&outcome.stdout) else { return Vec::new() };
    let members = status["members"].as_array().cloned().unwrap_or_default();
    let voting = members.iter().filter(|member| member["role"] == "leader" || member["role"] == "follower");
    let mut names: Vec<String> =
        voting.filter_map(|member| member["name"].as_str().map(str::to_owned)).collect();
    names.sort();
    names
}

pub fn wait_for_voters(cluster: &Cluster, expected: &[&str]) {
    let mut last = Vec::new();
    eventually(&format!("the voters are {expected:?}"), SOON, || {
        last = voters(cluster);
        (last == expected).then_some(())
    });
}

/// As an operator does: retried while another change or a new leader is not done with.
fn member(cluster: &Cluster, arguments: &[&str]) {
    let mut words = vec!["member"];
    words.extend(arguments);
    eventually(&format!("stint {words:?}"), SOON, || {
        let outcome = cluster.stint(&words);
        // A change that was carried out while its answer was lost is refused as one that was made.
        let done = outcome.code == 0
            || outcome.stderr.contains("is a member already")
            || outcome.stderr.contains("not found");
        if !done {
            println!("{words:?}: {}", outcome.stderr.trim());
        }
        done.then_some(())
    });
}

pub fn add(cluster: &mut Cluster, name: &str) {
    cluster.place_server(name);
    let place = format!("{name}={}", cluster.peer_addresses[name]);
    member(cluster, &["add", &place]);
    cluster.start_server(name);
}

fn remove(cluster: &mut Cluster, name: &str) {
    member(cluster, &["remove", name]);
    let mut server = cluster.servers.remove(name).expect("it was started");
    server.kill();
    cluster.forget_server(name);
}

#[test]
fn a_cluster_grows_to_five_and_shrinks_to_one_under_50_jobs_each_time() {
    let mut cluster = Cluster::start(ClusterOptions::new(1, 2));
    let begun = Instant::now();
    let growing = Running::begin(&cluster, "growing");
    for name in ["s2", "s3"] {
        add(&mut cluster, name);
    }
    wait_for_voters(&cluster, &["s1", "s2", "s3"]);
    // The agents were started when only s1 was there, and have to find the others when it is gone: they are told of them with the
    // answers to their heartbeats, five of which come within a lease of 20 s.
    std::thread::sleep(Duration::from_secs(15));
    cluster.kill_server("s1");
    cluster.wait_for_leader(SOON);
    cluster.wait_for_agents(SOON);
    cluster.apply(&shell_job("without-s1", &["backoffLimit: 0"], "true"));
    cluster.wait_for_condition("without-s1", "Complete", SOON);
    cluster.start_server("s1");
    for name in ["s4", "s5"] {
        add(&mut cluster, name);
    }
    wait_for_voters(&cluster, &["s1", "s2", "s3", "s4", "s5"]);
    growing.end(&cluster);
    println!("grown from one to five, one of them killed, after {} s", begun.elapsed().as_secs());

    let begun = Instant::now();
    let shrinking = Running::begin(&cluster, "shrinking");
    // Also the one that leads.
    let leader = cluster.wait_for_leader(SOON);
    remove(&mut cluster, &leader);
    let mut left: Vec<String> = cluster.server_names();
    while left.len() > 1 {
        let name = left.remove(0);
        remove(&mut cluster, &name);
        cluster.wait_for_leader(SOON);
    }
    wait_for_voters(&cluster, &[left[0].as_str()]);
    cluster.apply(&shell_job("on-the-last", &["backoffLimit: 0"], "true"));
    cluster.wait_for_condition("on-the-last", "Complete", SOON);
    shrinking.end(&cluster);
    println!("shrunk from five to one after {} s", begun.elapsed().as_secs());
}

#[test]
fn a_dead_server_is_replaced_and_leadership_handed_around_under_50_jobs() {
    let mut cluster = Cluster::start(ClusterOptions::new(3, 2));
    let running = Running::begin(&cluster, "replaced");
    // A server whose machine is gone: another takes its name, at another address.
    let leader = cluster.wait_for_leader(SOON);
    let dead = cluster.server_names().into_iter().find(|name| *name != leader).unwrap();
    cluster.kill_server(&dead);
    std::fs::remove_dir_all(cluster.data_folder(&dead)).unwrap();
    cluster.place_server(&dead);
    let address = cluster.peer_addresses[&dead].clone();
    member(&cluster, &["replace", &dead, "--peer-address", &address]);
    cluster.start_server(&dead);
    wait_for_voters(&cluster, &["s1", "s2", "s3"]);

    // The leader's machine is gone too.
    let leader = cluster.wait_for_leader(SOON);
    cluster.kill_server(&leader);
    std::fs::remove_dir_all(cluster.data_folder(&leader)).unwrap();
    cluster.place_server(&leader);
    cluster.wait_for_leader(SOON);
    let address = cluster.peer_addresses[&leader].clone();
    member(&cluster, &["replace", &leader, "--peer-address", &address]);
    cluster.start_server(&leader);
    wait_for_voters(&cluster, &["s1", "s2", "s3"]);

    for name in ["s1", "s2", "s3", "s1"] {
        eventually(&format!("{name} leads"), SOON, || {
            cluster.stint(&["member", "transfer", name]);
            (cluster.leader().as_deref() == Some(name)).then_some(())
        });
        let job = format!("under-{name}");
        cluster.apply(&shell_job(&job, &["backoffLimit: 0"], "true"));
        cluster.wait_for_condition(&job, "Complete", SOON);
        cluster.stint(&["delete", "job", &job]).success();
    }
    running.end(&cluster);
}

#[test]
fn what_would_lose_the_quorum_is_refused() {
    let mut cluster = Cluster::start(ClusterOptions::new(3, 0));
    let leader = cluster.wait_for_leader(SOON);
    let others: Vec<String> = cluster.server_names().into_iter().filter(|name| *name != leader).collect();
    cluster.kill_server(&others[0]);
    // At once, before anybody has noticed. Two of three answer: without one of them there would be no majority.
    let refused = cluster.stint(&["member", "remove", &others[1]]);
    assert_eq!(refused.code, 1, "{}", refused.stdout);
    let names_it = format!("no majority: {:?} did not within 2 s; bring them back", others[0]);
    assert!(refused.stderr.contains(&names_it), "{}", refused.stderr);
    // The dead one may go.
    member(&cluster, &["remove", &others[0]]);
    let mut left = vec![leader.as_str(), others[1].as_str()];
    left.sort_unstable();
    wait_for_voters(&cluster, &left);
}
