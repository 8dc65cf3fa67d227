//! Jobs that were submitted or found, and waiting for their ends.
//!
//! Owns: what of a Job says that it has ended; one watch for the ends of many. Does not own: watches.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stint_api::{ConditionStatus, Job, JobCondition, JobConditionType, JobUid, Pod};
use stint_proto::v1;

use crate::Listed;
use crate::connection::Client;
use crate::error::Error;
use crate::logs::{LogStream, LogsRequest, PodTarget};
use crate::submit::CreatedJob;
use crate::watch::{Scope, WatchEventKind, WatchStep};

/// True if the Job has ended, well or not: no Pod of it runs or will.
pub fn is_finished(job: &Job) -> bool {
    condition(job, JobConditionType::Complete).is_some() || condition(job, JobConditionType::Failed).is_some()
}

/// The condition of this type, if it holds.
pub fn condition(job: &Job, condition_type: JobConditionType) -> Option<&JobCondition> {
    let holds =
        |one: &&JobCondition| one.condition_type == condition_type && one.status == ConditionStatus::True;
    job.status.conditions.iter().find(holds)
}

/// A Job that was submitted or found. Cheap enough to clone.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
/// # fn main() { example(async |client| {
/// use stint_client::JobBuilder;
///
/// let handle = client.run(JobBuilder::new(["echo", "hello"])).await?;
/// handle.wait().await?;
/// let mut lines = handle.logs().await?.lines();
/// assert_eq!(lines.next().await?.as_deref(), Some("hello"));
/// handle.delete().await?;
/// assert!(handle.get().await.unwrap_err().is_not_found());
/// # Ok(()) }); }
/// ```
#[derive(Debug, Clone)]
pub struct JobHandle {
    client: Client,
    job: Job,
    uid: JobUid,
    revision: u64,
    created: Option<Creation>,
}

/// What a submit met.
#[derive(Debug, Clone)]
struct Creation {
    warnings: Vec<String>,
    outcome: v1::CreateOutcome,
    request_id: String,
}

impl JobHandle {
    pub(crate) fn of_created(client: &Client, created: CreatedJob) -> Result<JobHandle, Error> {
        let CreatedJob { job, warnings, outcome, revision, request_id } = created;
        let uid = uid_of(&job)?;
        let created = Some(Creation { warnings, outcome, request_id });
        Ok(JobHandle { client: client.clone(), job, uid, revision, created })
    }

    fn of_found(client: &Client, job: Job) -> Result<JobHandle, Error> {
        let (uid, revision) = (uid_of(&job)?, job.metadata.resource_version.0);
        Ok(JobHandle { client: client.clone(), job, uid, revision, created: None })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.job.metadata.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.job.metadata.namespace
    }

    /// Its uid: no other Job has it, before or after.
    pub fn uid(&self) -> JobUid {
        self.uid
    }

    /// The Job, as it was when it was submitted or found.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// A watch from here misses no change since then.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether the submit made it or found that an earlier attempt had; None if the Job was found by its name.
    pub fn outcome(&self) -> Option<v1::CreateOutcome> {
        self.created.as_ref().map(|created| created.outcome)
    }

    /// The id of the submit; None if the Job was found by its name.
    pub fn request_id(&self) -> Option<&str> {
        self.created.as_ref().map(|created| created.request_id.as_str())
    }

    /// What the servers had to say of the submit, for people: what is kept without effect, and other advice.
    pub fn warnings(&self) -> &[String] {
        self.created.as_ref().map_or(&[], |created| &created.warnings)
    }

    /// Waits until the Job has succeeded; gives it as it is then. May be given up at any moment.
    ///
    /// # Errors
    /// [`Error::JobFailed`], [`Error::JobDeleted`]; those of every call if no server answers for as long as a call may take:
    /// waiting may be begun again then.
    pub async fn wait(&self) -> Result<Job, Error> {
        checked(self.finished().await?)
    }

    /// As [`JobHandle::wait`], no longer than this.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use std::time::Duration;
    /// use stint_client::{Error, JobBuilder};
    ///
    /// let handle = client.run(JobBuilder::new(["sleep", "60"])).await?;
    /// let error = handle.wait_at_most(Duration::from_millis(100)).await.unwrap_err();
    /// assert!(matches!(error, Error::WaitTimeout { .. }));
    /// handle.delete().await?;
    /// assert!(matches!(handle.wait().await.unwrap_err(), Error::JobDeleted { .. }));
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// Those of [`JobHandle::wait`], and [`Error::WaitTimeout`].
    pub async fn wait_at_most(&self, timeout: Duration) -> Result<Job, Error> {
        match tokio::time::timeout(timeout, self.wait()).await {
            Ok(waited) => waited,
            Err(_) => Err(Error::WaitTimeout { what: "the job has".to_owned(), timeout }),
        }
    }

    /// Waits until the Job has ended, well or not; gives it as it is then.
    ///
    /// # Errors
    /// Those of [`JobHandle::wait`] but [`Error::JobFailed`].
    pub async fn finished(&self) -> Result<Job, Error> {
        let mut jobs = self.client.finished(std::slice::from_ref(self)).await?;
        jobs.pop().ok_or_else(|| Error::answer("no job"))
    }

    /// Reads the Job as it is now.
    ///
    /// # Errors
    /// `NotFound`, also if another one has its name by now; those of every call.
    pub async fn get(&self) -> Result<Job, Error> {
        let job = self.client.get_job(self.namespace(), self.name()).await?;
        if uid_of(&job)? == self.uid {
            return Ok(job);
        }
        let (namespace, name) = (self.namespace(), self.name());
        let message = format!("job {namespace}/{name} was deleted; another one has its name");
        Err(Error::refused(crate::ErrorReason::NotFound, message))
    }

    /// Deletes the Job, and its Pods in the background; one that is gone already is as wanted.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn delete(&self) -> Result<(), Error> {
        let policy = v1::PropagationPolicy::Background;
        self.client.delete_job(self.namespace(), self.name(), self.uid, policy).await?;
        Ok(())
    }

    /// Reads its Pods.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn pods(&self) -> Result<Listed<Pod>, Error> {
        let scope = Scope {
            namespace: self.namespace().to_owned(),
            job_name: self.name().to_owned(),
            ..Scope::default()
        };
        self.client.list_pods(&scope).await
    }

    /// Follows the log of one of its Pods to its end: a running one before an ended one, then the newest. Other parts, and
    /// those of other Pods: [`Client::logs`].
    ///
    /// # Errors
    /// `NotFound` as long as it has no Pod; those of every call.
    pub async fn logs(&self) -> Result<LogStream, Error> {
        let target = PodTarget::Job(self.name().to_owned());
        self.client.logs(&LogsRequest::new(self.namespace(), target).follow()).await
    }
}

impl Client {
    /// A handle of a Job that exists.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// # let submitted = client.run(stint_client::JobBuilder::new(["true"])).await?;
    /// # let name = submitted.name();
    /// client.job("default", name).await?.wait().await?;
    /// # submitted.delete().await?;
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// `NotFound`, and those of every call.
    pub async fn job(&self, namespace: &str, name: &str) -> Result<JobHandle, Error> {
        JobHandle::of_found(self, self.get_job(namespace, name).await?)
    }

    /// Waits until all these Jobs have succeeded; gives them as they are then, in the same order. One stream for all of a
    /// namespace, where a wait for each needs as many, of which a server takes 4,096.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::JobBuilder;
    ///
    /// let mut handles = Vec::new();
    /// for number in 0..3 {
    ///     handles.push(client.run(JobBuilder::new(["echo", &number.to_string()])).await?);
    /// }
    /// let jobs = client.wait_all(&handles).await?;
    /// assert!(jobs.iter().all(|job| job.status.succeeded == 1));
    /// # for handle in handles { handle.delete().await?; }
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// Those of [`JobHandle::wait`]: [`Error::JobFailed`] for the first that has failed, once all have ended;
    /// [`Error::JobDeleted`] at once.
    pub async fn wait_all(&self, handles: &[JobHandle]) -> Result<Vec<Job>, Error> {
        self.finished(handles).await?.into_iter().map(checked).collect()
    }

    /// Waits until all these Jobs have ended, well or not.
    async fn finished(&self, handles: &[JobHandle]) -> Result<Vec<Job>, Error> {
        let mut by_namespace = BTreeMap::<&str, Awaited>::new();
        for handle in handles {
            if handle.outcome() == Some(v1::CreateOutcome::AlreadyDeleted) {
                return Err(deleted(&handle.job));
            }
            by_namespace.entry(handle.namespace()).or_default().add(handle);
        }
        let mut ended = BTreeMap::new();
        for (namespace, mut awaited) in by_namespace {
            let mut scope = Scope { namespace: namespace.to_owned(), ..Scope::default() };
            if let ([only], true) = (handles, awaited.left.len() == 1) {
                scope.name = only.name().to_owned();
            }
            let mut watch = self.watch_jobs(&scope, awaited.revision);
            while !awaited.left.is_empty() {
                awaited.take(watch.next_step().await?)?;
            }
            ended.append(&mut awaited.known);
        }
        let job = |handle: &JobHandle| ended.get(&handle.uid).cloned();
        handles.iter().map(|handle| job(handle).ok_or_else(|| Error::answer("no job"))).collect()
    }
}

/// Jobs of one namespace whose end is waited for.
#[derive(Debug, Default)]
struct Awaited {
    /// As last seen.
    known: BTreeMap<JobUid, Job>,
    /// Those that have not ended.
    left: BTreeSet<JobUid>,
    /// A watch from here misses no end of those.
    revision: u64,
}

impl Awaited {
    fn add(&mut self, handle: &JobHandle) {
        if !is_finished(&handle.job) {
            let earliest = if self.left.is_empty() { handle.revision } else { self.revision };
            self.revision = earliest.min(handle.revision);
            self.left.insert(handle.uid);
        }
        self.known.insert(handle.uid, handle.job.clone());
    }

    /// Takes a step of a watch that shows all of them.
    ///
    /// # Errors
    /// If one that has not ended is gone.
    fn take(&mut self, step: WatchStep<Job>) -> Result<(), Error> {
        match step {
            WatchStep::Change(event) => {
                let uid = self.show(event.object)?;
                match event.kind == WatchEventKind::Deleted && self.left.contains(&uid) {
                    true => Err(self.deleted(uid)),
                    false => Ok(()),
                }
            }
            WatchStep::Relisted(jobs) => {
                let mut there = BTreeSet::new();
                for job in jobs.items {
                    there.insert(self.show(job)?);
                }
                match self.left.iter().find(|uid| !there.contains(*uid)) {
                    Some(gone) => Err(self.deleted(*gone)),
                    None => Ok(()),
                }
            }
        }
    }

    fn show(&mut self, job: Job) -> Result<JobUid, Error> {
        let uid = uid_of(&job)?;
        if self.left.contains(&uid) {
            if is_finished(&job) {
                self.left.remove(&uid);
            }
            self.known.insert(uid, job);
        }
        Ok(uid)
    }

    fn deleted(&self, uid: JobUid) -> Error {
        self.known.get(&uid).map_or_else(|| Error::answer("no job"), deleted)
    }
}

fn deleted(job: &Job) -> Error {
    Error::JobDeleted { namespace: job.metadata.namespace.clone(), name: job.metadata.name.clone() }
}

/// The Job, unless it has failed.
fn checked(job: Job) -> Result<Job, Error> {
    let Some(failure) = condition(&job, JobConditionType::Failed) else { return Ok(job) };
    let (reason, message) = (failure.reason.clone(), failure.message.clone());
    Err(Error::JobFailed { job: Box::new(job), reason, message })
}

fn uid_of(job: &Job) -> Result<JobUid, Error> {
    job.metadata.uid.parse().map_err(Error::answer)
}
