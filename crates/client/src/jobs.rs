//! Calls about Jobs that exist.

use stint_api::{Job, JobUid, Revision};
use stint_proto::v1;
use stint_proto::v1::jobs_client::JobsClient;

use crate::connection::Client;
use crate::error::Error;
use crate::retry::Effect;
use crate::watch::{Scope, Watch};
use crate::{Listed, limits};

/// A Job that was changed.
#[derive(Debug, Clone)]
pub struct UpdatedJob {
    /// As stored.
    pub job: Job,
    /// For people.
    pub warnings: Vec<String>,
    /// A watch from here misses no later change of the Job.
    pub revision: u64,
}

impl Client {
    /// Reads a Job, linearizably.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// # let handle = client.run(stint_client::JobBuilder::new(["true"])).await?;
    /// # let name = handle.name();
    /// let job = client.get_job("default", name).await?;
    /// println!("{} of its Pods have succeeded", job.status.succeeded);
    /// # handle.delete().await?;
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// `NotFound`, and those of every call.
    pub async fn get_job(&self, namespace: &str, name: &str) -> Result<Job, Error> {
        let request =
            v1::GetJobRequest { namespace: namespace.to_owned(), name: name.to_owned(), stale: false };
        let answer = self
            .unary(Effect::Read, request, |channel, request| async move {
                JobsClient::new(channel).get(request).await
            })
            .await?;
        job_of(Some(answer))
    }

    /// Reads all Jobs of a scope as of one revision, page by page.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::Scope;
    ///
    /// let scope = Scope { label_selector: "team=blue".to_owned(), ..Scope::default() };
    /// let jobs = client.list_jobs(&scope).await?;
    /// // Whoever wants to know what comes next watches from there.
    /// let watch = client.watch_jobs(&scope, jobs.revision);
    /// # let _ = watch;
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// Those of every call.
    pub async fn list_jobs(&self, scope: &Scope) -> Result<Listed<Job>, Error> {
        let request = |continue_token| v1::ListJobsRequest {
            namespace: scope.namespace.clone(),
            all_namespaces: scope.all_namespaces,
            label_selector: scope.label_selector.clone(),
            limit: limits::PAGE_SIZE,
            continue_token,
            stale: false,
        };
        self.list(
            usize::MAX,
            request,
            |channel, request| async move { JobsClient::new(channel).list(request).await },
            |answer| (answer.items, answer.metadata),
        )
        .await
    }

    /// The revision of the cluster now: what is read after this call shows at least it, and a watch from it misses no
    /// later change. Whoever wants to wait for something calls this, reads, and then watches.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// let before = client.revision("default").await?;
    /// # let handle = client.run(stint_client::JobBuilder::new(["true"])).await?;
    /// assert!(client.revision("default").await? > before);
    /// # handle.delete().await?;
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// Those of every call.
    pub async fn revision(&self, namespace: &str) -> Result<u64, Error> {
        let request = v1::ListJobsRequest { namespace: namespace.to_owned(), limit: 1, ..Default::default() };
        let answer = self
            .unary(Effect::Read, request, |channel, request| async move {
                JobsClient::new(channel).list(request).await
            })
            .await?;
        Ok(answer.metadata.unwrap_or_default().resource_version)
    }

    /// Replaces a Job's mutable fields. `metadata.uid` and `metadata.resource_version` are preconditions if set.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::JobBuilder;
    ///
    /// let handle = client.run(JobBuilder::new(["sleep", "60"]).suspended()).await?;
    /// let mut job = handle.get().await?;
    /// job.spec.parallelism = Some(3);
    /// assert_eq!(client.update_job(&job).await?.job.spec.parallelism, Some(3));
    /// // The revision in `job` is an old one by now: somebody else's change would not be overwritten.
    /// assert!(client.update_job(&job).await.unwrap_err().is_conflict());
    /// # handle.delete().await?;
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// `NotFound`, `Conflict`, `Invalid`, and those of every call; [`Error::OutcomeUnknown`], as an update is not repeated.
    pub async fn update_job(&self, job: &Job) -> Result<UpdatedJob, Error> {
        let request = v1::UpdateJobRequest { job: Some(request_job(job)) };
        let answer = self
            .unary(Effect::Write, request, |channel, request| async move {
                JobsClient::new(channel).update(request).await
            })
            .await?;
        Ok(UpdatedJob { job: job_of(answer.job)?, warnings: answer.warnings, revision: answer.revision })
    }

    /// Deletes the Job with this uid; a Job that is gone already is success. What becomes of its Pods is the policy's.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::v1::PropagationPolicy;
    /// # let handle = client.run(stint_client::JobBuilder::new(["true"])).await?;
    /// # let name = handle.name();
    ///
    /// let uid = client.job("default", name).await?.uid();
    /// client.delete_job("default", name, uid, PropagationPolicy::Background).await?;
    /// // It is gone already, as wanted.
    /// client.delete_job("default", name, uid, PropagationPolicy::Background).await?;
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// `Conflict` if the name belongs to another Job by now, and those of every call.
    pub async fn delete_job(
        &self,
        namespace: &str,
        name: &str,
        uid: JobUid,
        policy: v1::PropagationPolicy,
    ) -> Result<Option<Revision>, Error> {
        let request = v1::DeleteJobRequest {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.to_string(),
            resource_version: 0,
            propagation_policy: policy.into(),
        };
        let answer = self
            .unary(Effect::RepeatableWrite, request, |channel, request| async move {
                JobsClient::new(channel).delete(request).await
            })
            .await;
        match answer {
            Ok(answer) => Ok(Some(Revision(answer.revision))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Watches Jobs; changes after `from_revision` are given, each once. With 0 what there is comes first, as added.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::Scope;
    ///
    /// // What there is, then each change.
    /// let mut watch = client.watch_jobs(&Scope { all_namespaces: true, ..Scope::default() }, 0);
    /// # let handle = client.run(stint_client::JobBuilder::new(["true"])).await?;
    /// let event = watch.next().await?;
    /// println!("{:?} {} at revision {}", event.kind, event.object.metadata.name, event.revision);
    /// # handle.delete().await?;
    /// # Ok(()) }); }
    /// ```
    pub fn watch_jobs(&self, scope: &Scope, from_revision: u64) -> Watch<Job> {
        let request = v1::WatchJobsRequest {
            namespace: scope.namespace.clone(),
            all_namespaces: scope.all_namespaces,
            name: scope.name.clone(),
            label_selector: scope.label_selector.clone(),
            from_revision,
        };
        Watch::new::<v1::JobWatchEvent>(self, from_revision, move |channel, from_revision| {
            let request = v1::WatchJobsRequest { from_revision, ..request.clone() };
            Box::pin(async move { JobsClient::new(channel).watch(request).await })
        })
    }
}

/// A Job as a request carries it: its status is the servers' business (M1).
pub(crate) fn request_job(job: &Job) -> v1::Job {
    let mut job: v1::Job = job.clone().into();
    job.status = None;
    job
}

pub(crate) fn job_of(job: Option<v1::Job>) -> Result<Job, Error> {
    job.ok_or_else(|| Error::answer("an answer without its job"))?.try_into().map_err(Error::answer)
}
