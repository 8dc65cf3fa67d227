//! Manifests of test Jobs, and the journal that their Pods write.
//!
//! Owns: texts. Does not own: what the tests assert about them.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A Job that runs a shell script, with further lines of its spec.
pub fn shell_job(name: &str, spec_lines: &[&str], script: &str) -> String {
    shell_job_with(name, spec_lines, "Never", script)
}

/// The same with a restart policy.
pub fn shell_job_with(name: &str, spec_lines: &[&str], restart_policy: &str, script: &str) -> String {
    let spec: String = spec_lines.iter().map(|line| format!("  {line}\n")).collect();
    let script = serde_json::to_string(script).unwrap();
    format!(
        "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: {name}\nspec:\n{spec}  template:\n    spec:\n      \
         restartPolicy: {restart_policy}\n      terminationGracePeriodSeconds: 2\n      containers:\n      - name: main\n        \
         image: none\n        command: [\"/bin/sh\", \"-c\", {script}]\n"
    )
}

/// A script that stamps `start`, then `tick` every 50 ms, then `stop`, into a journal that all Pods share.
/// Each line is `<pod's fencing token> <index> <what> <CLOCK_BOOTTIME in seconds>`.
pub fn journal_script(journal: &Path, ticks: u32, exit_code: u32) -> String {
    // Every Pod is a user of its own.
    let file =
        std::fs::File::options().append(true).create(true).open(journal).expect("a journal can be made");
    file.set_permissions(std::fs::Permissions::from_mode(0o666)).expect("a journal can be opened to all");
    let journal = journal.display();
    format!(
        "stamp() {{ read now rest </proc/uptime; echo \"$STINT_FENCING_TOKEN ${{JOB_COMPLETION_INDEX:-0}} $1 $now\" >>{journal}; }}\n\
         stamp start\nn=0\nwhile [ $n -lt {ticks} ]; do stamp tick; sleep 0.05; n=$((n+1)); done\nstamp stop\nexit {exit_code}\n"
    )
}

/// What one Pod wrote into the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct PodJournal {
    /// Its completion index.
    pub index: u32,
    /// CLOCK_BOOTTIME of its first line, in seconds.
    pub first: f64,
    /// CLOCK_BOOTTIME of its last line, in seconds.
    pub last: f64,
    /// True if it wrote `stop`.
    pub stopped: bool,
}

/// Reads a journal: one item per fencing token.
pub fn read_journal(journal: &Path) -> BTreeMap<u64, PodJournal> {
    let mut pods: BTreeMap<u64, PodJournal> = BTreeMap::new();
    for line in std::fs::read_to_string(journal).unwrap_or_default().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [token, index, what, now] = words[..] else { panic!("a torn line in the journal: {line:?}") };
        let now: f64 = now.parse().unwrap();
        let pod = pods.entry(token.parse().unwrap()).or_insert(PodJournal {
            index: index.parse().unwrap(),
            first: now,
            last: now,
            stopped: false,
        });
        pod.last = pod.last.max(now);
        pod.stopped |= what == "stop";
    }
    pods
}

/// Asserts R6 on a journal: of one index never two Pods at once. Gives the smallest gap in seconds.
pub fn assert_no_overlap(journal: &BTreeMap<u64, PodJournal>) -> f64 {
    let mut smallest_gap = f64::INFINITY;
    let mut by_index: BTreeMap<u32, Vec<&PodJournal>> = BTreeMap::new();
    for pod in journal.values() {
        by_index.entry(pod.index).or_default().push(pod);
    }
    for (index, mut pods) in by_index {
        pods.sort_by(|left, right| left.first.total_cmp(&right.first));
        for pair in pods.windows(2) {
            let gap = pair[1].first - pair[0].last;
            assert!(gap >= 0.0, "two pods of index {index} ran at once: {:?} and {:?}", pair[0], pair[1]);
            smallest_gap = smallest_gap.min(gap);
        }
    }
    smallest_gap
}

/// Most Pods of a journal that ran at one moment.
pub fn most_at_once(journal: &BTreeMap<u64, PodJournal>) -> usize {
    journal
        .values()
        .map(|pod| {
            journal.values().filter(|other| other.first <= pod.first && pod.first < other.last).count()
        })
        .max()
        .unwrap_or(0)
}
