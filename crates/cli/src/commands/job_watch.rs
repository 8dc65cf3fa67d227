//! Following one Job: how it changes, and how it ends.
//!
//! Owns: never missing the end of a Job, whatever is lost meanwhile. Does not own: watches (crate `client`), what is done
//! about a change.

use std::time::{Duration, Instant};
use stint_api::{ConditionStatus, Job, JobCondition, JobConditionType};
use stint_client::{Client, Error, Scope, Watch, WatchEventKind};

use crate::output;

/// What became of a Job.
#[derive(Debug)]
pub enum JobChange {
    /// It has changed.
    Changed(Box<Job>),
    /// It is gone, or its name belongs to another one.
    Deleted,
}

/// A watch of one Job, by its uid.
#[derive(Debug)]
pub struct JobWatch {
    client: Client,
    scope: Scope,
    uid: String,
    watch: Watch<Job>,
}

impl JobWatch {
    /// Reads a Job and watches it from there.
    pub async fn open(client: &Client, namespace: &str, name: &str) -> Result<(Job, JobWatch), Error> {
        // The revision first: what happens after it is in the Job that is read, or comes by the watch. The Job's own
        // revision may be older than what servers still know of.
        let revision = client.revision(namespace).await?;
        let job = client.get_job(namespace, name).await?;
        let watch = JobWatch::of(client, &job, revision);
        Ok((job, watch))
    }

    /// Watches a Job that was read or made at this revision.
    pub fn of(client: &Client, job: &Job, revision: u64) -> JobWatch {
        let scope = Scope {
            namespace: job.metadata.namespace.clone(),
            name: job.metadata.name.clone(),
            ..Scope::default()
        };
        let watch = client.watch_jobs(&scope, revision);
        JobWatch { client: client.clone(), scope, uid: job.metadata.uid.clone(), watch }
    }

    /// The next change; waits for it. May be given up and called again.
    pub async fn next(&mut self) -> Result<JobChange, Error> {
        loop {
            match self.watch.next().await {
                // An earlier Job of this name, or a later one: the deletion of this one comes in between.
                Ok(event) if event.object.metadata.uid != self.uid => {}
                Ok(event) if event.kind == WatchEventKind::Deleted => return Ok(JobChange::Deleted),
                Ok(event) => return Ok(JobChange::Changed(Box::new(event.object))),
                Err(error) if error.is_expired() => return self.begin_anew().await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Changes were missed: looks at the Job, and watches from there.
    async fn begin_anew(&mut self) -> Result<JobChange, Error> {
        match JobWatch::open(&self.client, &self.scope.namespace, &self.scope.name).await {
            Ok((job, watch)) if job.metadata.uid == self.uid => {
                *self = watch;
                Ok(JobChange::Changed(Box::new(job)))
            }
            Ok(_) => Ok(JobChange::Deleted),
            Err(error) if error.is_not_found() => Ok(JobChange::Deleted),
            Err(error) => Err(error),
        }
    }
}

/// How long the servers have been away, as one command sees it.
#[derive(Debug, Default)]
pub struct Outage {
    since: Option<Instant>,
}

impl Outage {
    /// A server has answered.
    pub fn is_over(&mut self) {
        if self.since.take().is_some() {
            output::note("the servers answer again");
        }
    }

    /// No server has answered as long as a request may take. Says so once, and gives the error back if it is no outage or
    /// lasts longer than `patience`.
    pub fn endure(&mut self, error: Error, patience: Duration) -> Result<(), Error> {
        if !error.is_outage() {
            return Err(error);
        }
        match self.since {
            Some(since) if since.elapsed() > patience => return Err(error),
            Some(_) => {}
            None => {
                output::note(&format!("{error}; still trying"));
                self.since = Some(Instant::now());
            }
        }
        Ok(())
    }
}

/// The condition that ends a Job, if it has ended.
pub fn end_of(job: &Job) -> Option<&JobCondition> {
    holds(job, JobConditionType::Complete).or_else(|| holds(job, JobConditionType::Failed))
}

/// The condition of this type, if it is true.
pub fn holds(job: &Job, condition_type: JobConditionType) -> Option<&JobCondition> {
    let is_meant = |condition: &&JobCondition| {
        condition.status == ConditionStatus::True && condition.condition_type == condition_type
    };
    job.status.conditions.iter().find(is_meant)
}
