//! What an agent makes of what it finds, told by a runtime that finds what a test says (A2, A13).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use stint_api::{Container, PodSpec, PodUid};
use stint_proto::auth::BearerInterceptor;
use stint_proto::v1;
use stint_runtime::{
    AttachSession, AttachSpec, BoxFuture, Condition, ContainerId, ContainerSpec, Error, ExecSession,
    ExecSpec, Exit, Feature, ImageSpec, LogStore, PodSandbox, PodSandboxSpec, RecoveredPod, RunningContainer,
    Runtime, Usage,
};

use super::Worker;
use super::registration::RegistrationContent;
use crate::config::AgentConfig;
use crate::journal::{Change, Journal, Registration};
use crate::pod::PodTemplate;

struct Found {
    id: ContainerId,
    killed: Arc<AtomicBool>,
    released: Arc<AtomicBool>,
}

impl RunningContainer for Found {
    fn id(&self) -> &ContainerId {
        &self.id
    }
    fn runtime_id(&self) -> String {
        String::new()
    }
    fn image_id(&self) -> String {
        String::new()
    }
    fn started_at(&self) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH)
    }
    fn signal(&self, _: i32) {}
    fn kill(&self) -> BoxFuture<'_, ()> {
        self.killed.store(true, Ordering::SeqCst);
        Box::pin(async {})
    }
    fn wait(&self) -> BoxFuture<'_, Exit> {
        let killed = self.killed.clone();
        Box::pin(async move {
            while !killed.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Exit {
                exit_code: 137,
                signal: Some(9),
                reason: stint_runtime::ExitReason::Error,
                message: String::new(),
                finished_at: SystemTime::UNIX_EPOCH,
                log_bytes_dropped: 0,
                fenced: false,
            }
        })
    }
    fn release(&self) -> BoxFuture<'_, ()> {
        self.released.store(true, Ordering::SeqCst);
        Box::pin(async {})
    }
    fn attach(&self, _: AttachSpec) -> BoxFuture<'_, Result<AttachSession, Error>> {
        unreachable!("nobody attaches to it")
    }

    fn exec(&self, _: ExecSpec) -> BoxFuture<'_, Result<Box<dyn ExecSession>, Error>> {
        Box::pin(async { Err(Error::NotRunning { container: String::new() }) })
    }
    fn usage(&self) -> BoxFuture<'_, Result<Usage, Error>> {
        Box::pin(async { Ok(Usage::default()) })
    }
}

struct Finds {
    found: std::sync::Mutex<Vec<RecoveredPod>>,
    /// Runs that it knows to have never begun.
    never_ran: Vec<(PodUid, u32)>,
}

impl Runtime for Finds {
    fn name(&self) -> &'static str {
        "process"
    }
    fn conditions(&self) -> Vec<Condition> {
        Vec::new()
    }
    fn features(&self) -> BTreeSet<Feature> {
        BTreeSet::new()
    }
    fn recover(&self) -> BoxFuture<'_, Result<Vec<RecoveredPod>, Error>> {
        let found = std::mem::take(&mut *self.found.lock().unwrap());
        Box::pin(async { Ok(found) })
    }
    fn may_have_run(&self, _: &Path, run: &ContainerId) -> bool {
        let never_ran = |(pod, number): &(PodUid, u32)| {
            pod.to_string() == run.pod_uid() && *number == run.restart_count()
        };
        !self.never_ran.iter().any(never_ran)
    }
    fn set_deadline(&self, _: Duration) {}
    fn open_pod(&self, _: PodSandboxSpec) -> BoxFuture<'_, Result<Arc<dyn PodSandbox>, Error>> {
        Box::pin(async { Err(Error::NotRunning { container: String::new() }) })
    }
}

struct Shared {
    uid: String,
    closed: Arc<AtomicBool>,
}

impl PodSandbox for Shared {
    fn pod_uid(&self) -> &str {
        &self.uid
    }
    fn addresses(&self) -> Vec<IpAddr> {
        Vec::new()
    }
    fn prepare<'a>(&'a self, _: &'a ImageSpec) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }
    fn start(
        &self,
        spec: ContainerSpec,
        _: BoxFuture<'static, ()>,
    ) -> BoxFuture<'_, Result<Arc<dyn RunningContainer>, Error>> {
        let container = spec.id.to_string();
        Box::pin(async move { Err(Error::NotRunning { container }) })
    }
    fn usage(&self) -> BoxFuture<'_, Result<Usage, Error>> {
        Box::pin(async { Ok(Usage::default()) })
    }
    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.closed.store(true, Ordering::SeqCst);
        Box::pin(async { Ok(()) })
    }
}

/// Whether a container was killed, whether it was released, and whether its Pod was closed.
type Fate = [Arc<AtomicBool>; 3];

fn found(pod: PodUid, container: &str, run: u32) -> (RecoveredPod, Fate) {
    let fate: Fate = Default::default();
    let id = ContainerId::new(&pod.to_string(), container, run).unwrap();
    let [killed, released, closed] = fate.clone();
    let containers: Vec<Arc<dyn RunningContainer>> = vec![Arc::new(Found { id, killed, released })];
    let sandbox = Arc::new(Shared { uid: pod.to_string(), closed });
    (RecoveredPod { pod_uid: pod.to_string(), sandbox, containers }, fate)
}

fn finds(found: Vec<RecoveredPod>) -> Finds {
    Finds { found: found.into(), never_ran: Vec::new() }
}

/// A run that a Pod's folder says to be about to begin, or to have begun.
fn prepare_run(worker: &Worker, pod: u128, run: u32) {
    let file = crate::pod::termination_file(&worker.leftovers.pod_folder(PodUid(pod)), "main", run);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, "").unwrap();
}

/// An agent of a folder whose journal has these changes, and that has kept the templates of these Pods.
fn worker(folder: &std::path::Path, boot_id: &str, journaled: Vec<Change>, finds: Finds) -> Worker {
    let mut journal = Journal::open(folder).unwrap();
    journal.append(Change::Registration(Registration { number: 1, nonce: 2, boot_id: boot_id.to_owned() }));
    journaled.into_iter().for_each(|change| journal.append(change));
    journal.sync().unwrap();
    for pod in 1..=5 {
        let container = |name: &str| Container { name: name.to_owned(), ..Container::default() };
        let spec = PodSpec { containers: vec![container("main"), container("other")], ..PodSpec::default() };
        let uid = crate::journal::bytes_of(pod).into();
        let to_run = v1::PodToRun { uid, spec: Some(spec.into()), ..v1::PodToRun::default() };
        let pod_folder = folder.join("pods").join(PodUid(pod).to_string());
        std::fs::create_dir_all(&pod_folder).unwrap();
        PodTemplate::new(to_run, pod_folder).keep().unwrap();
    }
    let config = AgentConfig::new("w1", "127.0.0.1:1", folder.to_owned());
    let store = LogStore::open(&folder.join("logs")).unwrap();
    let runtimes: Arc<[Arc<dyn Runtime>]> = Arc::new([Arc::new(finds)]);
    Worker::new(config, BearerInterceptor::new(None), journal, store, runtimes).unwrap()
}

fn this_boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned()
}

fn begun(pod: u128, run: u32) -> Change {
    Change::started(PodUid(pod), "main", run)
}

async fn eventually(fate: &[Arc<AtomicBool>]) {
    while !fate.iter().all(|one| one.load(Ordering::SeqCst)) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a2_each_pod_of_this_boot_is_accounted_for_and_what_is_not_known_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (goes_on, kept) = found(PodUid(1), "main", 2);
    let (not_known, gone) = found(PodUid(4), "main", 0);
    let (earlier, early) = found(PodUid(5), "main", 0);
    let journaled = vec![
        begun(1, 2),
        // Nothing is left of it.
        begun(2, 0),
        // It waits for another run.
        begun(3, 0),
        Change::ended(PodUid(3), "main", 0),
        // It waited, such as for its image.
        Change::started(PodUid(3), "other", 0),
        // Another run of it was begun than was found.
        begun(5, 1),
    ];
    let mut worker = worker(folder.path(), &this_boot(), journaled, finds(vec![goes_on, not_known, earlier]));
    prepare_run(&worker, 2, 0);
    prepare_run(&worker, 5, 1);
    worker.adopt().await.unwrap();
    let uids = |pods: &[u128]| pods.iter().copied().map(PodUid).collect::<BTreeSet<_>>();
    let content = RegistrationContent::new(&worker);
    assert_eq!((&content.started_pods, &content.running_pods), (&uids(&[1, 2, 3, 5]), &uids(&[1, 2, 3, 5])));
    assert_eq!(worker.pods[&PodUid(1)].live, [("main".to_owned(), 2)].into());
    let told: Vec<_> = content
        .reports
        .iter()
        .map(|report| match &report.kind {
            Some(v1::pod_report::Kind::Exited(exited)) => {
                let termination = exited.termination.as_ref().unwrap();
                (report.pod_uid[15], exited.restart_count, termination.exit_code, termination.reason.as_str())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [(2, 0, 137, "ContainerStatusUnknown"), (5, 1, 137, "ContainerStatusUnknown")], "P3");
    eventually(&gone).await;
    // Its Pod goes on without it.
    eventually(&early[..2]).await;
    assert!(!early[2].load(Ordering::SeqCst));
    assert!(kept.iter().all(|one| !one.load(Ordering::SeqCst)), "what is known goes on");
}

#[tokio::test]
async fn p3_what_a_runtime_would_have_kept_and_has_not_was_never_begun() {
    let folder = tempfile::tempdir().unwrap();
    let (goes_on, kept) = found(PodUid(1), "main", 2);
    let found = Finds { never_ran: vec![(PodUid(2), 0)], ..finds(vec![goes_on]) };
    let mut worker = worker(folder.path(), &this_boot(), vec![begun(1, 2), begun(2, 0)], found);
    prepare_run(&worker, 1, 2);
    prepare_run(&worker, 2, 0);
    worker.adopt().await.unwrap();
    let content = RegistrationContent::new(&worker);
    assert_eq!(content.running_pods, [1, 2].map(PodUid).into(), "both are accounted for");
    assert!(content.reports.is_empty(), "and neither has ended: {:?}", content.reports);
    let file =
        |pod: u128, run| crate::pod::termination_file(&worker.leftovers.pod_folder(PodUid(pod)), "main", run);
    assert!(file(1, 2).exists(), "for the last words of what runs");
    assert!(!file(2, 0).exists(), "no later agent takes it for begun");
    assert!(kept.iter().all(|one| !one.load(Ordering::SeqCst)));
}

#[tokio::test]
async fn a2_of_another_boot_nothing_is_accounted_for() {
    let folder = tempfile::tempdir().unwrap();
    let journaled = vec![begun(1, 0), begun(2, 0), Change::ended(PodUid(2), "main", 0)];
    let mut worker = worker(folder.path(), "another", journaled, finds(Vec::new()));
    worker.adopt().await.unwrap();
    let content = RegistrationContent::new(&worker);
    assert_eq!(content.started_pods.len(), 2);
    assert!(content.running_pods.is_empty() && content.reports.is_empty());
}

/// Pods of which it is not known what they were to be leave nothing behind.
#[tokio::test]
async fn a2_a_pod_without_a_template_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let (of_unknown, fate) = found(PodUid(6), "main", 0);
    let mut worker = worker(folder.path(), &this_boot(), vec![begun(6, 0)], finds(vec![of_unknown]));
    worker.adopt().await.unwrap();
    eventually(&fate).await;
}
