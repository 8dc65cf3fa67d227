//! `wait`.
//!
//! Owns: which states can be waited for, and when one can't come any more. Does not own: following a Job (`job_watch`).

use anyhow::{Result, bail};
use stint_api::{Job, JobConditionType, duration};

use crate::arguments::{Wait, WaitState};
use crate::commands::Context;
use crate::commands::job_watch::{JobChange, JobWatch, Outage, end_of, holds};
use crate::commands::target::{Kind, kind_and_name};
use crate::output;

/// `stint wait`.
pub async fn run(context: &Context, wait: &Wait) -> Result<()> {
    let name = job_name(&wait.target)?;
    let timed_out = || {
        let word = word(wait.state);
        if wait.timeout.is_zero() {
            return anyhow::anyhow!("job {name:?} is not {word}");
        }
        let timeout = duration::format_ms(wait.timeout.as_millis().try_into().unwrap_or(u64::MAX));
        anyhow::anyhow!("timed out after {timeout} waiting for job {name:?} to be {word}")
    };
    let reached = if wait.timeout.is_zero() {
        once(context, wait, name).await?
    } else {
        let until = until(context, wait, name);
        tokio::time::timeout(wait.timeout, until).await.map_err(|_| timed_out())??;
        true
    };
    if !reached {
        return Err(timed_out());
    }
    output::line(&format!("job.batch/{name} {}", word(wait.state)))
}

/// Of job/NAME.
fn job_name(text: &str) -> Result<&str> {
    match text.contains('/').then(|| kind_and_name(text)).transpose()? {
        Some((Kind::Jobs, Some(name))) => Ok(name),
        Some(_) => bail!("{text:?} is not a job: write job/NAME"),
        None => bail!("{text:?} has no kind: write job/{text}"),
    }
}

/// Looks once.
async fn once(context: &Context, wait: &Wait, name: &str) -> Result<bool> {
    match context.client.get_job(context.namespace(), name).await {
        Ok(job) => reached(&job, wait.state),
        Err(error) if error.is_not_found() && wait.state == WaitState::Delete => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Returns when the state is reached.
async fn until(context: &Context, wait: &Wait, name: &str) -> Result<()> {
    let (job, mut watch) = match JobWatch::open(&context.client, context.namespace(), name).await {
        Ok(opened) => opened,
        Err(error) if error.is_not_found() && wait.state == WaitState::Delete => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if reached(&job, wait.state)? {
        return Ok(());
    }
    let mut outage = Outage::default();
    loop {
        match watch.next().await {
            Ok(JobChange::Deleted) if wait.state == WaitState::Delete => return Ok(()),
            Ok(JobChange::Deleted) => {
                bail!("job {name:?} was deleted and can't become {}", word(wait.state))
            }
            Ok(JobChange::Changed(job)) => {
                outage.is_over();
                if reached(&job, wait.state)? {
                    return Ok(());
                }
            }
            // --timeout says how long.
            Err(error) => outage.endure(error, wait.timeout)?,
        }
    }
}

/// True if the state is reached; an error if it can't be reached any more.
fn reached(job: &Job, state: WaitState) -> Result<bool> {
    let is_wanted = |condition_type| match state {
        WaitState::Finished => true,
        WaitState::Complete => condition_type == JobConditionType::Complete,
        WaitState::Failed => condition_type == JobConditionType::Failed,
        WaitState::Delete => false,
    };
    if let Some(end) = end_of(job)
        && is_wanted(end.condition_type)
    {
        return Ok(true);
    }
    // J93: these exclude the other end, also before the last Pod is gone.
    let against = match state {
        WaitState::Complete => [JobConditionType::Failed, JobConditionType::FailureTarget],
        WaitState::Failed => [JobConditionType::Complete, JobConditionType::SuccessCriteriaMet],
        WaitState::Finished | WaitState::Delete => return Ok(false),
    };
    match against.into_iter().find_map(|condition_type| holds(job, condition_type)) {
        Some(end) => bail!(
            "job {:?} is {} and can't become {}: {}: {}",
            job.metadata.name,
            end.condition_type.as_str(),
            word(state),
            end.reason,
            end.message
        ),
        None => Ok(false),
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

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::{ConditionStatus, JobCondition, Timestamp};

    fn job(conditions: &[JobConditionType]) -> Job {
        let condition = |condition_type: &JobConditionType| JobCondition {
            condition_type: *condition_type,
            status: ConditionStatus::True,
            last_probe_time: Timestamp(0),
            last_transition_time: Timestamp(0),
            reason: "BackoffLimitExceeded".to_owned(),
            message: String::new(),
        };
        let mut job = Job::default();
        job.status.conditions = conditions.iter().map(condition).collect();
        job
    }

    #[test]
    fn a_name_without_its_kind_is_told_with_it() {
        assert_eq!(job_name("job/pi").unwrap(), "pi");
        for (text, expected) in [("pi", "write job/pi"), ("pod/pi", "is not a job"), ("job/a/b", "one slash")]
        {
            let error = job_name(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn j93_a_wait_ends_when_its_state_came_or_cant_come_any_more() {
        use JobConditionType::{Complete, Failed, FailureTarget, SuccessCriteriaMet};
        let ends: [&[JobConditionType]; 5] = [
            &[],
            &[SuccessCriteriaMet],
            &[SuccessCriteriaMet, Complete],
            &[FailureTarget],
            &[FailureTarget, Failed],
        ];
        // Of each of them: Some(reached), or None if it can't come any more.
        for (state, expected) in [
            (WaitState::Complete, [Some(false), Some(false), Some(true), None, None]),
            (WaitState::Failed, [Some(false), None, None, Some(false), Some(true)]),
            (WaitState::Finished, [Some(false), Some(false), Some(true), Some(false), Some(true)]),
            (WaitState::Delete, [Some(false); 5]),
        ] {
            for (conditions, expected) in ends.iter().zip(expected) {
                assert_eq!(reached(&job(conditions), state).ok(), expected, "{state:?} {conditions:?}");
            }
        }
    }
}
