//! What the node says of itself while it runs: whether its disks are nearly full, whether memory is short, and what its
//! runtimes can't guarantee.
//!
//! Owns: looking, and when a pressure begins and ends. Does not own: telling the servers (module `worker`), what follows from
//! it (they decide), removing images (crate `runtime`) and Pods that take too much (module `pod`).
//!
//! Invariant: a pressure ends later than it begins, in amount and in time, so that a node at the edge does not come and go.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use stint_api::{DISK_PRESSURE, MEMORY_PRESSURE};
use stint_proto::v1;
use stint_runtime::Runtime;
use tokio::sync::watch;

use crate::limits;
use crate::usage::meminfo_bytes;

/// What a node says of itself, all of it.
pub type Conditions = Arc<[v1::NodeCondition]>;

/// From when on a node says that it is short of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PressureThresholds {
    /// Less of a disk is free.
    pub disk: FreeDiskMin,
    /// Less memory is available, in bytes; 0: nothing is said of memory.
    pub memory_bytes: u64,
}

impl Default for PressureThresholds {
    fn default() -> PressureThresholds {
        let (percent, memory_bytes) = limits::PRESSURE_DEFAULT;
        let disk = FreeDiskMin { percent, bytes_max: limits::FREE_DISK_MAX_DEFAULT };
        PressureThresholds { disk, memory_bytes }
    }
}

/// How much of a disk must be free: the smaller of two amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeDiskMin {
    /// Percent of the whole disk; 0: nothing is said of disks.
    percent: u8,
    /// Bytes.
    bytes_max: u64,
}

impl FreeDiskMin {
    /// Of the whole disk; 0: nothing is said of disks.
    pub const fn percent(percent: u8) -> FreeDiskMin {
        FreeDiskMin { percent, bytes_max: u64::MAX }
    }

    /// So much, however large the disk is.
    pub const fn bytes(bytes: u64) -> FreeDiskMin {
        FreeDiskMin { percent: 100, bytes_max: bytes }
    }

    fn of(self, total: u64) -> u64 {
        part(total, self.percent).min(self.bytes_max)
    }
}

fn part(total: u64, percent: u8) -> u64 {
    u64::try_from(u128::from(total) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

/// Looks now, and from time to time until nobody waits for what is seen. Needs a tokio runtime.
pub fn watch(
    thresholds: PressureThresholds,
    data_dir: &Path,
    runtimes: Arc<[Arc<dyn Runtime>]>,
) -> watch::Receiver<Conditions> {
    let mut observer = Observer {
        thresholds,
        data_dir: data_dir.to_owned(),
        runtimes,
        disk: Gauge::default(),
        memory: Gauge::default(),
    };
    let (sender, receiver) = watch::channel(observer.look(Instant::now()));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(limits::CONDITIONS_INTERVAL) => {}
                () = sender.closed() => return,
            }
            // A disk may not answer: then nothing new is known.
            let look = tokio::task::spawn_blocking(move || {
                let seen = observer.look(Instant::now());
                (observer, seen)
            });
            let Ok((back, seen)) = look.await else { return };
            observer = back;
            sender.send_if_modified(|known| {
                let differs = differ(known, &seen);
                if differs {
                    *known = seen;
                }
                differs
            });
        }
    });
    receiver
}

/// Numbers in messages change all the time, and are worth no entry of the servers' log.
fn differ(known: &[v1::NodeCondition], seen: &[v1::NodeCondition]) -> bool {
    let same = |(one, other): (&v1::NodeCondition, &v1::NodeCondition)| {
        (&one.r#type, one.status, &one.reason) == (&other.r#type, other.status, &other.reason)
    };
    known.len() != seen.len() || !known.iter().zip(seen).all(same)
}

struct Observer {
    thresholds: PressureThresholds,
    data_dir: PathBuf,
    runtimes: Arc<[Arc<dyn Runtime>]>,
    disk: Gauge,
    memory: Gauge,
}

impl Observer {
    /// Blocks for as long as the disks take.
    fn look(&mut self, now: Instant) -> Conditions {
        let mut conditions = Vec::new();
        if self.thresholds.disk != FreeDiskMin::percent(0) {
            let folders = self.runtimes.iter().flat_map(|runtime| runtime.image_folders());
            let folders = [self.data_dir.clone()].into_iter().chain(folders);
            // One that can't be asked says nothing.
            let disks: Vec<Disk> = folders.filter_map(|folder| Disk::of(folder).ok()).collect();
            let seen = of_disks(&disks, self.thresholds.disk);
            let words = ("AgentHasDiskPressure", "AgentHasNoDiskPressure", "the disks have room");
            conditions.push(condition(DISK_PRESSURE, self.disk.turn(seen, now), words));
        }
        if self.thresholds.memory_bytes > 0 {
            let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
            if let Some(available) = meminfo_bytes(&meminfo, "MemAvailable") {
                let seen = of_memory(available, self.thresholds.memory_bytes);
                let words = ("AgentHasInsufficientMemory", "AgentHasSufficientMemory", "memory is available");
                conditions.push(condition(MEMORY_PRESSURE, self.memory.turn(seen, now), words));
            }
        }
        for lacking in self.runtimes.iter().flat_map(|runtime| runtime.conditions()) {
            // Two runtimes may lack the same.
            if conditions.iter().all(|known: &v1::NodeCondition| known.r#type != lacking.kind) {
                conditions.push(condition(lacking.kind, Some(&lacking.message), (lacking.kind, "", "")));
            }
        }
        conditions.into()
    }
}

/// `problem`: why it holds; none: it does not. `words`: reasons for either, and the message if it does not hold.
fn condition(kind: &str, problem: Option<&str>, words: (&str, &str, &str)) -> v1::NodeCondition {
    let (status, reason, message) = match problem {
        Some(problem) => (v1::ConditionStatus::True, words.0, problem),
        None => (v1::ConditionStatus::False, words.1, words.2),
    };
    v1::NodeCondition {
        r#type: kind.to_owned(),
        status: status.into(),
        last_transition_time: None,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

/// What one look has shown.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// Less than the threshold, and how much.
    Short(String),
    /// Neither: what was, goes on.
    Between,
    /// Clearly more.
    Clear,
}

/// Whether a pressure holds.
#[derive(Debug, Default)]
struct Gauge {
    /// Why; none: it does not.
    problem: Option<String>,
    clear_since: Option<Instant>,
}

impl Gauge {
    fn turn(&mut self, seen: Seen, now: Instant) -> Option<&str> {
        match seen {
            Seen::Short(problem) => {
                self.clear_since = None;
                self.problem.get_or_insert(problem);
            }
            Seen::Between => self.clear_since = None,
            Seen::Clear => {
                let since = *self.clear_since.get_or_insert(now);
                if now.saturating_duration_since(since) >= limits::PRESSURE_CLEAR_AFTER {
                    self.problem = None;
                }
            }
        }
        self.problem.as_deref()
    }
}

/// What is free on the file system of a folder, for others than root.
struct Disk {
    folder: PathBuf,
    bytes: Share,
    /// Of files; of none, if the file system does not count them.
    files: Share,
}

#[derive(Debug, Clone, Copy)]
struct Share {
    free: u64,
    total: u64,
}

impl Share {
    fn seen(self, least: u64, short: impl FnOnce() -> String) -> Seen {
        if self.free < least {
            Seen::Short(short())
        } else if self.free < part(least, limits::PRESSURE_CLEAR_PERCENT) {
            Seen::Between
        } else {
            Seen::Clear
        }
    }
}

impl Disk {
    fn of(folder: PathBuf) -> nix::Result<Disk> {
        let stat = nix::sys::statvfs::statvfs(&folder)?;
        let block = stat.fragment_size();
        Ok(Disk {
            folder,
            bytes: Share {
                free: stat.blocks_available().saturating_mul(block),
                total: stat.blocks().saturating_mul(block),
            },
            files: Share { free: stat.files_available(), total: stat.files() },
        })
    }

    fn seen(&self, free_min: FreeDiskMin) -> Seen {
        let folder = self.folder.display();
        let mebibytes = |bytes: u64| bytes >> 20;
        let least = free_min.of(self.bytes.total);
        let of_bytes = self.bytes.seen(least, || {
            format!(
                "{} of {} MiB are free on the disk of {folder}, less than {}: no new pod is taken until there is more",
                mebibytes(self.bytes.free),
                mebibytes(self.bytes.total),
                mebibytes(least)
            )
        });
        let of_files = self.files.seen(part(self.files.total, limits::FREE_FILES_PERCENT_MIN), || {
            format!(
                "the disk of {folder} takes {} more files, less than {} % of what it can have: no new pod is taken until it takes more",
                self.files.free,
                limits::FREE_FILES_PERCENT_MIN
            )
        });
        worse(of_bytes, of_files)
    }
}

fn worse(one: Seen, other: Seen) -> Seen {
    match (one, other) {
        (Seen::Short(problem), _) | (_, Seen::Short(problem)) => Seen::Short(problem),
        (Seen::Between, _) | (_, Seen::Between) => Seen::Between,
        (Seen::Clear, Seen::Clear) => Seen::Clear,
    }
}

/// The fullest counts.
fn of_disks(disks: &[Disk], free_min: FreeDiskMin) -> Seen {
    disks.iter().map(|disk| disk.seen(free_min)).fold(Seen::Clear, worse)
}

fn of_memory(available: u64, least: u64) -> Seen {
    if available < least {
        let mebibytes = |bytes: u64| bytes >> 20;
        Seen::Short(format!(
            "{} MiB of memory are available, less than {}: no new pod is taken that requests neither cpu nor memory",
            mebibytes(available),
            mebibytes(least)
        ))
    } else if available < part(least, limits::PRESSURE_CLEAR_PERCENT) {
        Seen::Between
    } else {
        Seen::Clear
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn disk(free: u64, total: u64) -> Disk {
        let files = Share { free: 1, total: 2 };
        Disk { folder: PathBuf::from("/data"), bytes: Share { free: free << 20, total: total << 20 }, files }
    }

    #[test]
    fn a_disk_is_short_below_the_threshold_and_clear_a_quarter_above_it() {
        let ten = FreeDiskMin::percent(10);
        for (free, expected) in
            [(99, "short"), (100, "between"), (124, "between"), (125, "clear"), (1000, "clear")]
        {
            let seen = disk(free, 1000).seen(ten);
            let name = match &seen {
                Seen::Short(problem) => {
                    assert!(problem.starts_with("99 of 1000 MiB are free on the disk of /data"), "{problem}");
                    "short"
                }
                Seen::Between => "between",
                Seen::Clear => "clear",
            };
            assert_eq!(name, expected, "{free}");
        }
        let no_files = Disk { files: Share { free: 4, total: 100 }, ..disk(900, 1000) };
        assert!(matches!(no_files.seen(ten), Seen::Short(problem) if problem.contains("4 more files")));
        // A file system that counts no files has none left, and is not short of them.
        let uncounted = Disk { files: Share { free: 0, total: 0 }, ..disk(900, 1000) };
        assert_eq!(uncounted.seen(ten), Seen::Clear);
        // The fullest counts, also if its size is more than can be.
        assert!(matches!(of_disks(&[disk(900, 1000), disk(1, 1000)], ten), Seen::Short(_)));
        let huge = Share { free: u64::MAX, total: u64::MAX };
        assert_eq!(huge.seen(part(u64::MAX, 75), String::new), Seen::Clear);
        assert_eq!(of_disks(&[], ten), Seen::Clear);
        // By default what one Pod may take is enough, also on a large disk.
        let large = |free_gibibytes: u64| disk(free_gibibytes << 10, 4000 << 10);
        let default = PressureThresholds::default().disk;
        assert!(
            matches!(large(9).seen(default), Seen::Short(problem) if problem.contains("less than 10240:"))
        );
        assert_eq!((large(10).seen(default), large(13).seen(default)), (Seen::Between, Seen::Clear));
        assert!(matches!(large(13).seen(FreeDiskMin::bytes(20 << 30)), Seen::Short(_)));
    }

    #[test]
    fn memory_is_short_below_the_threshold_and_clear_a_quarter_above_it() {
        assert!(matches!(of_memory(99 << 20, 100 << 20), Seen::Short(_)));
        assert_eq!(of_memory(100 << 20, 100 << 20), Seen::Between);
        assert_eq!(of_memory(125 << 20, 100 << 20), Seen::Clear);
    }

    #[test]
    fn a_pressure_ends_only_after_it_was_clear_for_a_while() {
        let begin = Instant::now();
        let after = |seconds: u64| begin + Duration::from_secs(seconds);
        let short = || Seen::Short("full".to_owned());
        let hold = limits::PRESSURE_CLEAR_AFTER.as_secs();
        let mut gauge = Gauge::default();
        assert_eq!(gauge.turn(Seen::Between, after(0)), None, "it did not hold");
        assert_eq!(gauge.turn(short(), after(1)), Some("full"));
        assert_eq!(gauge.turn(Seen::Short("fuller".to_owned()), after(2)), Some("full"), "said once");
        assert_eq!(gauge.turn(Seen::Clear, after(3)), Some("full"));
        assert_eq!(
            gauge.turn(Seen::Between, after(3 + hold)),
            Some("full"),
            "it counts from the start again"
        );
        assert_eq!(gauge.turn(Seen::Clear, after(4 + hold)), Some("full"));
        assert_eq!(gauge.turn(Seen::Clear, after(4 + 2 * hold)), None);
        assert_eq!(gauge.turn(short(), after(5 + 2 * hold)), Some("full"), "and begins at once");
    }

    #[test]
    fn other_numbers_are_no_news() {
        let words = ("Full", "NotFull", "room");
        let of = |problem: Option<&str>| [condition(DISK_PRESSURE, problem, words)];
        assert!(!differ(&of(Some("3 left")), &of(Some("2 left"))));
        assert!(differ(&of(Some("3 left")), &of(None)));
        assert!(differ(&of(None), &[]));
    }

    #[test]
    fn what_is_not_watched_is_not_spoken_of() {
        let look = |thresholds: PressureThresholds| {
            let mut observer = Observer {
                thresholds,
                data_dir: PathBuf::from("/"),
                runtimes: Vec::new().into(),
                disk: Gauge::default(),
                memory: Gauge::default(),
            };
            observer.look(Instant::now()).iter().map(|one| one.r#type.clone()).collect::<Vec<_>>()
        };
        assert_eq!(look(PressureThresholds::default()), [DISK_PRESSURE, MEMORY_PRESSURE]);
        assert!(look(PressureThresholds { disk: FreeDiskMin::percent(0), memory_bytes: 0 }).is_empty());
    }
}
