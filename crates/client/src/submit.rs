//! Submitting Jobs.
//!
//! Owns: request ids, names that servers make and that are taken, unknown outcomes. Does not own: waiting (`wait`).

use std::time::Instant;

use stint_api::Job;
use stint_proto::limits::REQUEST_ID_BYTES_MAX;
use stint_proto::status::ErrorReason;
use stint_proto::v1;
use stint_proto::v1::jobs_client::JobsClient;

use crate::connection::Client;
use crate::error::Error;
use crate::jobs::{job_of, request_job};
use crate::retry::Effect;
use crate::wait::JobHandle;
use crate::{JobBuilder, limits};

/// A Job that was created.
#[derive(Debug, Clone)]
pub struct CreatedJob {
    /// As stored.
    pub job: Job,
    /// What is kept without effect, and other advice; for people.
    pub warnings: Vec<String>,
    /// Whether an earlier attempt of the same request had made it; then `job` shows how far it is, or that it is gone.
    pub outcome: v1::CreateOutcome,
    /// A watch from here misses no later change of the Job or its Pods.
    pub revision: u64,
    /// The id that the request had.
    pub request_id: String,
}

impl Client {
    /// Submits a Job of one container; see [`JobBuilder`].
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::{Error, JobBuilder};
    ///
    /// let handle = client.run(JobBuilder::new(["sh", "-c", "exit 3"]).retries(0)).await?;
    /// match handle.wait().await {
    ///     Err(Error::JobFailed { reason, .. }) => assert_eq!(reason, "BackoffLimitExceeded"),
    ///     other => panic!("{other:?}"),
    /// }
    /// # handle.delete().await?;
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// [`Error::Option`], and those of [`Client::submit`].
    pub async fn run(&self, job: JobBuilder) -> Result<JobHandle, Error> {
        self.submit(&job.build()?).await
    }

    /// Submits a Job; resolves once it is stored on a majority of the servers.
    ///
    /// The request has a random id, so that attempts of unknown outcome are repeated without making a second Job. Where the
    /// servers make the name (`metadata.generate_name`) and it is taken, another is tried.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::JobBuilder;
    ///
    /// let mut job = JobBuilder::new(["sleep", "1"]).build()?;
    /// job.spec.template.spec.priority = Some(5);
    /// let handle = client.submit(&job).await?;
    /// println!("job {} is stored", handle.name());
    /// handle.wait().await?;
    /// # handle.delete().await?;
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// `AlreadyExists`; `Invalid` with field violations; [`Error::OutcomeUnknown`] with the request's id; those of every
    /// call.
    pub async fn submit(&self, job: &Job) -> Result<JobHandle, Error> {
        JobHandle::of_created(self, self.create_job(job).await?)
    }

    /// Submits a Job with a request id of the caller's: what became of a submit that ended with [`Error::OutcomeUnknown`] is
    /// found out so, within 5 minutes of its first attempt. It never makes a second Job.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use std::time::Duration;
    /// use stint_client::{Error, JobBuilder};
    ///
    /// let job = JobBuilder::new(["true"]).build()?;
    /// let handle = match client.submit(&job).await {
    ///     Err(Error::OutcomeUnknown { request_id: Some(id), .. }) => {
    ///         client.with_timeout(Duration::from_secs(60)).submit_again(&job, &id).await?
    ///     }
    ///     submitted => submitted?,
    /// };
    /// # handle.wait().await?;
    /// # handle.delete().await?;
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// [`Error::Option`] for an id that servers would not take; those of [`Client::submit`].
    pub async fn submit_again(&self, job: &Job, request_id: &str) -> Result<JobHandle, Error> {
        if request_id.is_empty() || request_id.len() > REQUEST_ID_BYTES_MAX {
            let problem = format!("it has {} bytes, 1 to {REQUEST_ID_BYTES_MAX} are taken", request_id.len());
            return Err(Error::Option { option: "request id", problem });
        }
        JobHandle::of_created(self, self.create(job, request_id.to_owned(), Instant::now()).await?)
    }

    /// Submits a Job and waits until it has ended: [`Client::submit`], then [`JobHandle::wait`].
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// let job = stint_client::JobBuilder::new(["true"]).ttl(0).build()?;
    /// assert_eq!(client.submit_and_wait(&job).await?.status.succeeded, 1);
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// Those of both.
    pub async fn submit_and_wait(&self, job: &Job) -> Result<Job, Error> {
        self.submit(job).await?.wait().await
    }

    /// Creates a Job, as [`Client::submit`] does; for whoever wants the answer and no handle.
    ///
    /// # Errors
    /// Those of [`Client::submit`].
    pub async fn create_job(&self, job: &Job) -> Result<CreatedJob, Error> {
        // A name that is made derives from the request's id.
        let n_names = if job.metadata.name.is_empty() { limits::NAMES_MAX } else { 1 };
        let begun = Instant::now();
        let mut tried = 1;
        loop {
            match self.create(job, new_request_id()?, begun).await {
                Err(error) if error.reason() == Some(ErrorReason::AlreadyExists) && tried < n_names => {
                    tried += 1;
                }
                created => return created,
            }
        }
    }

    /// `begun`: when the first attempt of the submit was made.
    async fn create(&self, job: &Job, request_id: String, begun: Instant) -> Result<CreatedJob, Error> {
        // Later attempts could outlive the servers' memory of the request.
        let timeout = self.timeout().min(limits::CREATE_REPEAT_MAX).saturating_sub(begun.elapsed());
        let request = v1::CreateJobRequest { job: Some(request_job(job)), request_id: request_id.clone() };
        let answer = self
            .with_timeout(timeout)
            .unary(Effect::RepeatableWrite, request, |channel, request| async move {
                JobsClient::new(channel).create(request).await
            })
            .await
            .map_err(|error| match error {
                Error::OutcomeUnknown { cause, .. } => {
                    Error::OutcomeUnknown { cause, request_id: Some(request_id.clone()) }
                }
                error => error,
            })?;
        let outcome = answer.outcome();
        if outcome == v1::CreateOutcome::Unspecified {
            return Err(Error::answer("an answer without its outcome"));
        }
        let job = job_of(answer.job)?;
        Ok(CreatedJob { job, warnings: answer.warnings, outcome, revision: answer.revision, request_id })
    }
}

fn new_request_id() -> Result<String, Error> {
    let mut id = [0_u8; 16];
    getrandom::fill(&mut id).map_err(Error::answer)?;
    Ok(id.iter().map(|byte| format!("{byte:02x}")).collect())
}
