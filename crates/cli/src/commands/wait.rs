//! `wait`, and what `run` shares with it: how a Job has ended.

use anyhow::{Result, bail};
use stint_api::{ConditionStatus, Job, JobCondition, JobConditionType};
use stint_client::{Client, Error, Scope, WatchEventKind};

use crate::arguments::{Wait, WaitState};
use crate::commands::get::{Kind, kind_and_name};
use crate::output;

/// `stint wait`.
pub async fn run(client: &Client, wait: &Wait) -> Result<()> {
    let name = match kind_and_name(&wait.target)? {
        (Kind::Jobs, Some(name)) => name,
        _ => bail!("{:?} is not a job: write job/NAME", wait.target),
    };
    match tokio::time::timeout(wait.timeout, until(client, wait, name)).await {
        Ok(outcome) => outcome,
        Err(_) => {
            bail!("timed out after {:?} waiting for job {name:?} to be {}", wait.timeout, word(wait.state))
        }
    }
}

async fn until(client: &Client, wait: &Wait, name: &str) -> Result<()> {
    let scope = Scope { namespace: wait.namespace.clone(), name: name.to_owned(), ..Scope::default() };
    'anew: loop {
        let (uid, revision) = match client.get_job(&wait.namespace, name).await {
            Ok(job) => {
                if reached(&job, wait.state)? {
                    output::line(&format!("job.batch/{name} {}", word(wait.state)))?;
                    return Ok(());
                }
                (job.metadata.uid, job.metadata.resource_version.0)
            }
            Err(error) if error.is_not_found() && wait.state == WaitState::Delete => {
                output::line(&format!("job.batch/{name} deleted"))?;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let mut watch = client.watch_jobs(&scope, revision);
        loop {
            let event = match watch.next().await {
                Ok(event) => event,
                Err(error) if error.is_expired() => continue 'anew,
                Err(error) => return Err(error.into()),
            };
            let is_gone = event.kind == WatchEventKind::Deleted || event.object.metadata.uid != uid;
            match (is_gone, wait.state) {
                (true, WaitState::Delete) => {
                    output::line(&format!("job.batch/{name} deleted"))?;
                    return Ok(());
                }
                (true, _) => bail!("job {name:?} was deleted"),
                (false, state) if reached(&event.object, state)? => {
                    output::line(&format!("job.batch/{name} {}", word(state)))?;
                    return Ok(());
                }
                (false, _) => {}
            }
        }
    }
}

/// The condition that ends a Job, if it has ended.
pub fn end_of(job: &Job) -> Option<&JobCondition> {
    let is_end = |condition: &&JobCondition| {
        condition.status == ConditionStatus::True
            && matches!(condition.condition_type, JobConditionType::Complete | JobConditionType::Failed)
    };
    job.status.conditions.iter().find(is_end)
}

/// Reads the end of a Job that may have been missed.
pub async fn end_by_reading(client: &Client, namespace: &str, name: &str) -> Result<Option<Job>, Error> {
    let job = client.get_job(namespace, name).await?;
    Ok(end_of(&job).is_some().then_some(job))
}

/// True if the state is reached; an error if it can't be reached any more.
fn reached(job: &Job, state: WaitState) -> Result<bool> {
    let Some(end) = end_of(job) else { return Ok(false) };
    match (state, end.condition_type) {
        (WaitState::Finished, _)
        | (WaitState::Complete, JobConditionType::Complete)
        | (WaitState::Failed, JobConditionType::Failed) => Ok(true),
        (WaitState::Delete, _) => Ok(false),
        (wanted, ended) => bail!(
            "job {:?} is {} and can't become {}: {}: {}",
            job.metadata.name,
            ended.as_str(),
            word(wanted),
            end.reason,
            end.message
        ),
    }
}

fn word(state: WaitState) -> &'static str {
    match state {
        WaitState::Complete => "complete",
        WaitState::Failed => "failed",
        WaitState::Finished => "finished",
        WaitState::Delete => "deleted",
    }
}
