//! `run`: submit a Job, show what its Pods write, end as it ends.
//!
//! Owns: the exit code. Does not own: following a Job (`job_watch`), showing logs (`pod_logs`).

use anyhow::{Result, bail};
use std::process::ExitCode;
use stint_api::{Job, JobConditionType};
use stint_client::{CreatedJob, LogsRequest, PodTarget, v1};
use stint_kube::ManifestObject;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Manifest;
use crate::commands::Context;
use crate::commands::job_watch::{JobWatch, end_of};
use crate::commands::manifest;
use crate::commands::pod_logs::{Followed, PodLogs, has_several_pods};
use crate::output;

/// As shells say of a command that SIGINT ended, and of one that SIGTERM ended.
const INTERRUPTED: u8 = 128 + 2;
const TERMINATED: u8 = 128 + 15;

/// `stint run`.
pub async fn run(context: &Context, manifest: &Manifest) -> Result<ExitCode> {
    let read = manifest::read(context, &manifest.filename)?;
    let [one] = &read[..] else { bail!("run takes one Job, the manifest holds {}", read.len()) };
    manifest::check_new(&read)?;
    let ManifestObject::Job(job) = &one.object else {
        bail!("run takes a Job, the manifest holds a ConfigMap")
    };
    let created = context.client.create_job(job).await?;
    created.warnings.iter().for_each(|warning| manifest::warn(warning));
    let name = created.job.metadata.name.clone();
    output::note(&format!("job.batch/{name} created"));
    let mut terminate = signal(SignalKind::terminate())?;
    let leave = |exit_code| {
        output::note(&format!(
            "job.batch/{name} runs on: stint logs -f job/{name} shows it, stint delete job {name} ends it"
        ));
        Ok(ExitCode::from(exit_code))
    };
    let job = tokio::select! {
        ended = to_the_end(context, created) => ended?,
        _ = tokio::signal::ctrl_c() => return leave(INTERRUPTED),
        _ = terminate.recv() => return leave(TERMINATED),
    };
    let Some(end) = end_of(&job) else { bail!("job {name:?} has no end") };
    let complete = end.condition_type == JobConditionType::Complete;
    output::note(&format!(
        "job.batch/{name} {}: {} succeeded, {} failed: {}: {}",
        if complete { "complete" } else { "failed" },
        job.status.succeeded,
        job.status.failed,
        end.reason,
        end.message
    ));
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows logs until the Job has ended; gives the ended Job.
async fn to_the_end(context: &Context, created: CreatedJob) -> Result<Job> {
    let CreatedJob { job, outcome, revision, .. } = created;
    let name = &job.metadata.name;
    if outcome == v1::CreateOutcome::AlreadyDeleted {
        bail!("job {name:?} was deleted");
    }
    let mut wanted = LogsRequest::new(&job.metadata.namespace, PodTarget::Job(name.clone()));
    wanted.follow = true;
    let mut logs = PodLogs::new(&context.client, &job, wanted, has_several_pods(&job));
    if end_of(&job).is_some() {
        // It ended before an attempt to create it was answered.
        logs.finish().await;
        return Ok(job);
    }
    if outcome == v1::CreateOutcome::AlreadyExisted {
        // Pods may have started before the revision that the last attempt was answered with.
        logs.begin_present().await?;
    }
    match logs.follow(JobWatch::of(&context.client, &job, revision), revision).await? {
        Followed::Ended(job) => Ok(*job),
        Followed::Deleted => bail!("job {name:?} was deleted before it ended"),
    }
}
