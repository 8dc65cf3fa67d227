//! Faults at random for a while, and a load larger than the other tests': whatever happens, nothing acknowledged is lost, no
//! index runs twice at once, every loss counts once, and afterwards everything goes on (R1, R4, R5, R6, R9).
//!
//! Short by default; with `STINT_TESTS_FULL` set, minutes long and larger.

use crate::manifests::{assert_no_overlap, journal_script, read_journal, shell_job};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use stint_tests::{Cluster, ClusterOptions, eventually};

const INDEXES: usize = 40;
const PARALLELISM: usize = 8;
/// A Job of `INDEXES` indexes that run a fifth of a second each needs a second without faults.
const SETTLED_WITHIN: Duration = Duration::from_secs(180);

fn is_full() -> bool {
    std::env::var_os("STINT_TESTS_FULL").is_some()
}

/// Numbers that a seed repeats: xorshift.
struct Random(u64);

impl Random {
    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn pause(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(from_ms + self.below(to_ms - from_ms))
    }
}

#[test]
fn random_faults_lose_nothing_and_run_nothing_twice() {
    let seed = match std::env::var("STINT_TESTS_SEED") {
        Ok(seed) => seed.parse().expect("STINT_TESTS_SEED is a number"),
        Err(_) => stint_tests::boot_time_ms() | 1,
    };
    println!("STINT_TESTS_SEED={seed}");
    let mut random = Random(seed);
    let length = Duration::from_secs(if is_full() { 600 } else { 40 });
    let mut cluster = Cluster::start(ClusterOptions::with_shortest_lease(3, 3));
    let begun = Instant::now();
    let mut jobs = Vec::new();
    let mut faults = 0;
    while begun.elapsed() < length {
        submit(&cluster, &mut jobs);
        faults += 1;
        fault(&mut cluster, &mut random);
        // Time without a fault: leases and elections need some.
        std::thread::sleep(random.pause(500, 4_000));
    }
    let healed_at = Instant::now();
    let (mut pods, mut losses, mut smallest_gap) = (0, 0, f64::INFINITY);
    for name in &jobs {
        let job = cluster.wait_for_condition(name, "Complete", SETTLED_WITHIN);
        assert_eq!(job["status"]["succeeded"], INDEXES, "R4: {name}, seed {seed}");
        let journal = read_journal(&journal_of(&cluster, name));
        let gap = assert_no_overlap(&journal);
        smallest_gap = smallest_gap.min(gap);
        // Every Pod that is Failed was lost with its node, or its agent was killed in the moment between recording the start
        // and starting: the program itself never fails.
        let failed: Vec<_> =
            cluster.pods(name).into_iter().filter(|pod| pod["status"]["phase"] == "Failed").collect();
        for pod in &failed {
            let terminated = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
            let is_unknown = terminated["reason"] == "ContainerStatusUnknown";
            assert!(is_unknown || pod["status"]["reason"] == "NodeLost", "seed {seed}: {pod:#}");
        }
        let counted = job["status"]["failed"].as_u64().unwrap_or(0) as usize;
        assert_eq!(counted, failed.len(), "R5: {name} counts each loss once, seed {seed}");
        // An index may have run more often than it was counted only if its Pod was lost after it had begun.
        assert!(journal.len() <= INDEXES + counted, "{name}: {} pods wrote, {counted} lost", journal.len());
        (pods, losses) = (pods + journal.len(), losses + counted);
    }
    println!(
        "{faults} faults in {} s, {} jobs, {pods} pods ran, {losses} lost and counted, smallest gap between two pods of one \
         index {smallest_gap:.2} s, all complete {:.1} s after the last fault",
        length.as_secs(),
        jobs.len(),
        healed_at.elapsed().as_secs_f64()
    );
}

/// One more Job, which is acknowledged, or known to be there.
fn submit(cluster: &Cluster, jobs: &mut Vec<String>) {
    let name = format!("faults-{}", jobs.len());
    let lines = [
        format!("completions: {INDEXES}"),
        format!("parallelism: {PARALLELISM}"),
        "completionMode: Indexed".to_owned(),
        "backoffLimit: 1000".to_owned(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let manifest = shell_job(&name, &lines, &journal_script(&journal_of(cluster, &name), 4, 0));
    eventually("a job is acknowledged", Duration::from_secs(90), || {
        (cluster.stint_with_input(&["create", "-f", "-"], &manifest).code == 0
            || cluster.stint(&["get", "jobs", &name]).code == 0)
            .then_some(())
    });
    jobs.push(name);
}

fn journal_of(cluster: &Cluster, job: &str) -> std::path::PathBuf {
    cluster.folder.path().join(format!("{job}.journal"))
}

/// One fault and its end. At most one server is away at a time: what happens without a majority has tests of its own.
fn fault(cluster: &mut Cluster, random: &mut Random) {
    let servers = cluster.server_names();
    let server = servers[random.below(servers.len() as u64) as usize].clone();
    let agents = cluster.agent_names();
    let agent = agents[random.below(agents.len() as u64) as usize].clone();
    match random.below(6) {
        0 | 1 => {
            cluster.kill_server(&server);
            std::thread::sleep(random.pause(0, 3_000));
            cluster.start_server(&server);
        }
        2 => {
            cluster.servers[&server].signal(Signal::SIGSTOP);
            std::thread::sleep(random.pause(100, 3_000));
            cluster.servers[&server].signal(Signal::SIGCONT);
        }
        3 | 4 => {
            cluster.kill_agent(&agent);
            // Shorter than the lease, and longer.
            std::thread::sleep(random.pause(0, 8_000));
            cluster.start_agent(&agent, &[]);
        }
        _ => {
            cluster.agents[&agent].signal(Signal::SIGSTOP);
            // Shorter than the lease, and longer: then its Pods end without it.
            std::thread::sleep(random.pause(100, 8_000));
            cluster.agents[&agent].signal(Signal::SIGCONT);
        }
    }
}

#[test]
fn many_pods_are_counted_exactly() {
    let completions = if is_full() { 20_000 } else { 1_000 };
    let cluster = Cluster::start(ClusterOptions::new(3, 2));
    let lines = [format!("completions: {completions}"), "parallelism: 200".to_owned()];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let manifest = shell_job("many", &lines, "true");
    let begun = Instant::now();
    cluster.apply(&manifest.replace(r#"["/bin/sh", "-c", "true"]"#, r#"["true"]"#));
    cluster.stint(&["wait", "job/many", "--for", "complete", "--timeout", "1200s"]).success();
    let seconds = begun.elapsed().as_secs_f64();
    println!("{completions} pods of `true`: {seconds:.1} s, {:.0}/s", f64::from(completions) / seconds);
    let job = cluster.job("many");
    assert_eq!(job["status"]["succeeded"], completions);
    assert!(matches!(job["status"]["failed"].as_i64(), None | Some(0)));
    let pods = cluster.stint(&["get", "pods", "-o", "name"]).success();
    assert_eq!(pods.lines().count(), completions as usize, "a pod for each success, and all can be listed");
    cluster.stint(&["delete", "job", "many"]).success();
    eventually("all of them are deleted", Duration::from_secs(120), || {
        cluster.stint(&["get", "pods", "-o", "name"]).success().is_empty().then_some(())
    });
}
