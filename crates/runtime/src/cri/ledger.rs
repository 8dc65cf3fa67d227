//! What must be known of Pods and their containers when the engine does not answer, and of those that it has not.
//!
//! Owns: small files in the agent's folder: one for each Pod that has a sandbox, one for each run that the engine was asked to
//! start. Does not own: what is concluded from them (`recovery`).
//!
//! They are written before the engine is asked, so a run without a file never began, however the agent or the engine ended. They
//! need to survive both, but not the host: after another boot nothing of them is left to be known.

use super::CgroupDriver;
use super::config::{PodFacts, streams_of_text, streams_to_text};
use crate::container_id::check_pod_uid;
use crate::{ContainerId, LogLimits, StreamsSpec};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// File with the facts of a Pod, in its folder; no container has that name, as theirs have a dot.
const POD: &str = "pod";
/// File with what is known of the engine.
const ENGINE: &str = "engine";

/// The files of one node.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    folder: PathBuf,
}

/// What was last known of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EngineFacts {
    /// Such as `containerd`.
    pub name: String,
    pub driver: CgroupDriver,
    /// The image of its sandboxes, if it tells.
    pub sandbox_image: Option<String>,
}

/// A run that the engine was asked to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunRecord {
    pub id: ContainerId,
    /// What the engine calls it.
    pub container_id: String,
    pub log_limits: LogLimits,
    pub stop_signal: Option<i32>,
    pub streams: StreamsSpec,
    /// Once the engine has said that it runs.
    pub started: Option<StartedRecord>,
}

/// What is known of a run that runs, or has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StartedRecord {
    pub at: SystemTime,
    pub image_ref: String,
    /// Of its main process, if the engine told it.
    pub pid: Option<i32>,
}

/// A Pod that had a sandbox.
#[derive(Debug)]
pub(super) struct PodRecord {
    pub facts: PodFacts,
    /// The engine's ids of its sandboxes, the last one in use.
    pub sandbox_ids: Vec<String>,
    pub runs: Vec<RunRecord>,
}

impl Ledger {
    /// Nothing is made until it is needed.
    pub fn new(folder: PathBuf) -> Ledger {
        Ledger { folder }
    }

    /// What was last known of the engine, if it ever was met.
    pub fn engine(&self) -> Option<EngineFacts> {
        let facts = read(&self.folder.join(ENGINE))?;
        Some(EngineFacts {
            name: facts["name"].as_str()?.to_owned(),
            driver: CgroupDriver::from_word(facts["driver"].as_str()?)?,
            sandbox_image: facts["sandboxImage"].as_str().map(str::to_owned),
        })
    }

    /// The engine was met.
    pub fn keep_engine(&self, facts: &EngineFacts) -> io::Result<()> {
        let value = json!({
            "name": facts.name,
            "driver": facts.driver.word(),
            "sandboxImage": facts.sandbox_image,
        });
        write(&self.folder, ENGINE, &value)
    }

    /// A Pod has these sandboxes.
    pub fn keep_pod(&self, facts: &PodFacts, sandbox_ids: &[String]) -> io::Result<()> {
        let value = json!({ "facts": facts.to_json(), "sandboxes": sandbox_ids });
        write(&self.pod_folder(&facts.uid), POD, &value)
    }

    /// The engine is about to be asked to start a run, or has said that it runs.
    pub fn keep_run(&self, run: &RunRecord) -> io::Result<()> {
        let started = run.started.as_ref().map(|started| {
            let at = started.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            json!({
                "atMs": u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
                "imageRef": started.image_ref,
                "pid": started.pid,
            })
        });
        let value = json!({
            "containerId": run.container_id,
            "logFileBytes": run.log_limits.file_bytes,
            "logFiles": run.log_limits.files,
            "stopSignal": run.stop_signal,
            "streams": streams_to_text(run.streams),
            "started": started,
        });
        write(&self.pod_folder(run.id.pod_uid()), &name_of(&run.id), &value)
    }

    /// Whether the engine was ever asked to start a run.
    pub fn has_run(&self, id: &ContainerId) -> bool {
        // What can't be looked at may have run.
        self.path_of(id).try_exists().unwrap_or(true)
    }

    /// Whether the engine was asked to start a run of a Pod whose end is not on record elsewhere.
    pub fn has_runs(&self, pod_uid: &str) -> bool {
        entries(&self.pod_folder(pod_uid)).iter().any(|path| run_of(pod_uid, path).is_some())
    }

    /// The run never began, or its end is on record elsewhere.
    pub fn forget_run(&self, id: &ContainerId) {
        // Without a file there is nothing to forget.
        let _ = fs::remove_file(self.path_of(id));
    }

    /// Nothing of the Pod is left.
    pub fn forget_pod(&self, uid: &str) {
        let folder = self.pod_folder(uid);
        for path in entries(&folder) {
            let _ = fs::remove_file(path);
        }
        let _ = fs::remove_dir(folder);
    }

    /// All Pods. What can't be read is left out.
    pub fn pods(&self) -> Vec<PodRecord> {
        let mut pods = Vec::new();
        for folder in entries(&self.folder) {
            let Some(uid) = file_name(&folder).filter(|name| check_pod_uid(name).is_ok()) else { continue };
            let Some(pod) = read(&folder.join(POD)) else { continue };
            let facts = pod["facts"].as_str().and_then(PodFacts::from_json);
            let Some(facts) = facts.filter(|facts| facts.uid == uid) else { continue };
            let ids = pod["sandboxes"].as_array().into_iter().flatten();
            let sandbox_ids = ids.filter_map(|id| id.as_str().map(str::to_owned)).collect();
            let runs = entries(&folder).into_iter().filter_map(|path| run_of(uid, &path)).collect();
            pods.push(PodRecord { facts, sandbox_ids, runs });
        }
        pods
    }

    /// Uids of all Pods, also of those that can't be read.
    pub fn pod_uids(&self) -> BTreeSet<String> {
        let folders = entries(&self.folder);
        let uids = folders.iter().filter_map(|folder| file_name(folder));
        uids.filter(|uid| check_pod_uid(uid).is_ok()).map(str::to_owned).collect()
    }

    fn pod_folder(&self, uid: &str) -> PathBuf {
        self.folder.join(uid)
    }

    fn path_of(&self, id: &ContainerId) -> PathBuf {
        self.pod_folder(id.pod_uid()).join(name_of(id))
    }
}

fn name_of(id: &ContainerId) -> String {
    format!("{}.{}", id.container_name(), id.restart_count())
}

fn run_of(pod_uid: &str, path: &Path) -> Option<RunRecord> {
    let (container, run) = file_name(path)?.rsplit_once('.')?;
    let id = ContainerId::new(pod_uid, container, run.parse().ok()?).ok()?;
    let record = read(path)?;
    let signed = |value: &Value| value.as_i64().and_then(|number| i32::try_from(number).ok());
    let started = match &record["started"] {
        Value::Null => None,
        started => Some(StartedRecord {
            at: SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(started["atMs"].as_u64()?))?,
            image_ref: started["imageRef"].as_str().unwrap_or_default().to_owned(),
            pid: signed(&started["pid"]),
        }),
    };
    Some(RunRecord {
        id,
        container_id: record["containerId"].as_str()?.to_owned(),
        log_limits: LogLimits {
            file_bytes: record["logFileBytes"].as_u64()?,
            files: record["logFiles"].as_u64()?.try_into().ok()?,
        },
        stop_signal: signed(&record["stopSignal"]),
        // Missing with agents of before: then there is nothing special.
        streams: streams_of_text(record["streams"].as_str().unwrap_or_default()),
        started,
    })
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn read(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Whole or not at all, for whoever reads it.
fn write(folder: &Path, name: &str, value: &Value) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = folder.join(name);
    // No run has such a name: the part after its dot is a number.
    let beside = folder.join(format!("{name}.new"));
    fs::write(&beside, value.to_string())?;
    fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PodSandboxSpec;
    use crate::cri::CriNetwork;

    const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";

    fn run(container: &str, number: u32, started: Option<StartedRecord>) -> RunRecord {
        RunRecord {
            id: ContainerId::new(UID, container, number).unwrap(),
            container_id: format!("engine-{container}"),
            log_limits: LogLimits { file_bytes: 10, files: 2 },
            stop_signal: Some(10),
            streams: StreamsSpec { stdin: true, stdin_once: true, terminal: false },
            started,
        }
    }

    #[test]
    fn what_was_kept_is_read_again_and_what_is_torn_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(folder.path().join("runs"));
        assert!(ledger.engine().is_none() && ledger.pods().is_empty());
        let engine = EngineFacts {
            name: "containerd".to_owned(),
            driver: CgroupDriver::Systemd,
            sandbox_image: Some("pause".to_owned()),
        };
        ledger.keep_engine(&engine).unwrap();
        assert_eq!(ledger.engine(), Some(engine));
        let facts = PodFacts::new(&PodSandboxSpec::new(UID, PathBuf::from("/data/pods")), CriNetwork::Host);
        ledger.keep_pod(&facts, &["one".to_owned(), "two".to_owned()]).unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1234);
        let started = StartedRecord { at, image_ref: "sha256:0".to_owned(), pid: Some(17) };
        let (asked, runs) = (run("a-b", 0, None), run("main", 3, Some(started)));
        assert!(!ledger.has_run(&asked.id));
        ledger.keep_run(&asked).unwrap();
        ledger.keep_run(&run("main", 3, None)).unwrap();
        ledger.keep_run(&runs).unwrap();
        assert!(ledger.has_run(&asked.id) && ledger.has_run(&runs.id));
        assert!(!ledger.has_run(&run("main", 2, None).id));
        fs::write(folder.path().join("runs").join(UID).join("main.4"), "{").unwrap();
        let mut pods = ledger.pods();
        assert_eq!(pods.len(), 1);
        let pod = pods.pop().unwrap();
        assert_eq!((pod.facts, pod.sandbox_ids), (facts, vec!["one".to_owned(), "two".to_owned()]));
        let mut found = pod.runs;
        found.sort_by(|one, other| one.id.cmp(&other.id));
        assert_eq!(found, [asked.clone(), runs]);
        assert!(ledger.has_runs(UID));
        ledger.forget_run(&asked.id);
        assert!(!ledger.has_run(&asked.id));
        fs::write(folder.path().join("runs").join(UID).join(POD), "{").unwrap();
        assert!(ledger.pods().is_empty());
        assert_eq!(ledger.pod_uids(), BTreeSet::from([UID.to_owned()]), "that it is there is known");
        ledger.forget_pod(UID);
        assert!(!ledger.has_runs(UID));
        assert!(ledger.pod_uids().is_empty() && ledger.engine().is_some());
    }
}
