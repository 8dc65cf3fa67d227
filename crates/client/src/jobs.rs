//! Calls about Jobs.

use std::future::Future;
use stint_api::{Job, JobUid, Revision};
use stint_proto::v1;
use stint_proto::v1::jobs_client::JobsClient;

use crate::connection::{Client, Effect};
use crate::error::Error;
use crate::watch::{Scope, Watch, WatchMessage};
use crate::{Listed, limits};

/// A Job that was created.
#[derive(Debug, Clone)]
pub struct CreatedJob {
    /// As stored.
    pub job: Job,
    /// For people.
    pub warnings: Vec<String>,
    /// Whether an earlier attempt of the same request had made it; then `job` shows how far it is, or that it is gone.
    pub outcome: v1::CreateOutcome,
    /// A watch from here misses no later change of the Job.
    pub revision: u64,
}

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
    /// Creates a Job. The request carries a random id, so that attempts of unknown outcome can be repeated.
    ///
    /// # Errors
    /// `AlreadyExists`, `Invalid` with field violations, and those of every call.
    pub async fn create_job(&self, job: &Job) -> Result<CreatedJob, Error> {
        let mut id = [0_u8; 16];
        getrandom::fill(&mut id).map_err(Error::answer)?;
        let request_id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        // Later attempts could outlive the servers' memory of the request.
        let timeout = self.timeout().min(limits::CREATE_REPEAT_MAX);
        let request = v1::CreateJobRequest { job: Some(request_job(job)), request_id };
        let answer = self
            .call_within(Effect::RepeatableWrite, timeout, |channel| {
                let request = request.clone();
                async move { JobsClient::new(channel).create(request).await }
            })
            .await?
            .into_inner();
        let outcome = answer.outcome();
        let job = job_of(answer.job)?;
        Ok(CreatedJob { job, warnings: answer.warnings, outcome, revision: answer.revision })
    }

    /// Reads a Job, linearizably.
    ///
    /// # Errors
    /// `NotFound`, and those of every call.
    pub async fn get_job(&self, namespace: &str, name: &str) -> Result<Job, Error> {
        let request =
            v1::GetJobRequest { namespace: namespace.to_owned(), name: name.to_owned(), stale: false };
        let answer = self
            .call(Effect::Read, |channel| {
                let request = request.clone();
                async move { JobsClient::new(channel).get(request).await }
            })
            .await?;
        job_of(Some(answer.into_inner()))
    }

    /// Reads all Jobs of a scope, page by page.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn list_jobs(&self, scope: &Scope) -> Result<Listed<Job>, Error> {
        list_all(|continue_token| {
            let request = v1::ListJobsRequest {
                namespace: scope.namespace.clone(),
                all_namespaces: scope.all_namespaces,
                label_selector: scope.label_selector.clone(),
                limit: limits::PAGE_SIZE,
                continue_token,
                stale: false,
            };
            async move {
                let answer = self
                    .call(Effect::Read, |channel| {
                        let request = request.clone();
                        async move { JobsClient::new(channel).list(request).await }
                    })
                    .await?
                    .into_inner();
                let items =
                    answer.items.into_iter().map(|item| job_of(Some(item))).collect::<Result<_, _>>()?;
                Ok((items, answer.metadata.unwrap_or_default()))
            }
        })
        .await
    }

    /// The revision of the cluster now: what is read after this call shows at least it, and a watch from it misses no
    /// later change. Whoever wants to wait for something calls this, reads, and then watches.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn revision(&self, namespace: &str) -> Result<u64, Error> {
        let request = v1::ListJobsRequest {
            namespace: namespace.to_owned(),
            limit: 1,
            ..v1::ListJobsRequest::default()
        };
        let answer = self
            .call(Effect::Read, |channel| {
                let request = request.clone();
                async move { JobsClient::new(channel).list(request).await }
            })
            .await?;
        Ok(answer.into_inner().metadata.unwrap_or_default().resource_version)
    }

    /// Replaces a Job's mutable fields. `metadata.uid` and `metadata.resource_version` are preconditions if set.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`, `Invalid`, [`Error::OutcomeUnknown`], and those of every call.
    pub async fn update_job(&self, job: &Job) -> Result<UpdatedJob, Error> {
        let request = v1::UpdateJobRequest { job: Some(request_job(job)) };
        let answer = self
            .call(Effect::Write, |channel| {
                let request = request.clone();
                async move { JobsClient::new(channel).update(request).await }
            })
            .await?
            .into_inner();
        Ok(UpdatedJob { job: job_of(answer.job)?, warnings: answer.warnings, revision: answer.revision })
    }

    /// Deletes the Job with this uid; a Job that is gone already is success.
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
            .call(Effect::RepeatableWrite, |channel| {
                let request = request.clone();
                async move { JobsClient::new(channel).delete(request).await }
            })
            .await;
        match answer {
            Ok(answer) => Ok(Some(Revision(answer.into_inner().revision))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Watches Jobs; changes after `from_revision` are given, each once.
    pub fn watch_jobs(&self, scope: &Scope, from_revision: u64) -> Watch<Job> {
        let (client, scope) = (self.clone(), scope.clone());
        Watch::new::<v1::JobWatchEvent>(
            Box::new(move |from_revision| {
                let client = client.clone();
                let request = v1::WatchJobsRequest {
                    namespace: scope.namespace.clone(),
                    all_namespaces: scope.all_namespaces,
                    name: scope.name.clone(),
                    label_selector: scope.label_selector.clone(),
                    from_revision,
                };
                Box::pin(async move {
                    let open = |channel| {
                        let request = request.clone();
                        async move { JobsClient::new(channel).watch(request).await }
                    };
                    Ok(client.call(Effect::Read, open).await?.into_inner())
                })
            }),
            from_revision,
        )
    }
}

impl WatchMessage for v1::JobWatchEvent {
    type Object = Job;

    fn parts(self) -> Result<(v1::WatchEventType, u64, Option<Job>), Error> {
        let event_type = self.r#type();
        let object = self.job.map(|job| job_of(Some(job))).transpose()?;
        Ok((event_type, self.revision, object))
    }
}

/// A Job as a request carries it: its status is the servers' business (M1).
fn request_job(job: &Job) -> v1::Job {
    let mut job: v1::Job = job.clone().into();
    job.status = None;
    job
}

fn job_of(job: Option<v1::Job>) -> Result<Job, Error> {
    job.ok_or_else(|| Error::answer("an answer without its job"))?.try_into().map_err(Error::answer)
}

/// Reads page after page; begins anew if a page expired meanwhile.
pub(crate) async fn list_all<T, F, Page>(page: F) -> Result<Listed<T>, Error>
where
    F: Fn(String) -> Page,
    Page: Future<Output = Result<(Vec<T>, v1::ListMeta), Error>>,
{
    list_most(usize::MAX, page).await
}

/// The same, until there are so many.
pub(crate) async fn list_most<T, F, Page>(items_max: usize, page: F) -> Result<Listed<T>, Error>
where
    F: Fn(String) -> Page,
    Page: Future<Output = Result<(Vec<T>, v1::ListMeta), Error>>,
{
    let mut restarts = 0;
    'anew: loop {
        let mut items = Vec::new();
        let mut token = String::new();
        loop {
            let (mut more, metadata) = match page(token).await {
                Ok(answer) => answer,
                Err(error) if error.is_expired() && restarts < limits::LIST_RESTARTS_MAX => {
                    restarts += 1;
                    continue 'anew;
                }
                Err(error) => return Err(error),
            };
            items.append(&mut more);
            if metadata.continue_token.is_empty() || items.len() >= items_max {
                return Ok(Listed { items, revision: metadata.resource_version });
            }
            token = metadata.continue_token;
        }
    }
}
