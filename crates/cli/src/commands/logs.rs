//! `logs`.

use anyhow::{Result, bail, ensure};
use std::process::ExitCode;
use stint_client::{LogsRequest, PodTarget};

use crate::arguments::{Logs, Tail};
use crate::commands::Context;
use crate::commands::job_watch::{JobWatch, end_of};
use crate::commands::pod_logs::{Followed, PodLogs, has_several_pods, words_of_cut};
use crate::commands::target::pod_target;
use crate::output;

/// `stint logs`.
pub async fn run(context: &Context, logs: &Logs) -> Result<ExitCode> {
    let target = pod_target(&logs.target)?;
    let mut request = LogsRequest::new(context.namespace(), target.clone());
    request.container.clone_from(&logs.container);
    request.previous = logs.previous;
    request.follow = logs.follow;
    request.tail_lines = match logs.tail {
        Tail::All => None,
        Tail::Lines(lines) => Some(lines),
    };
    request.since = logs.since;
    request.timestamps = logs.timestamps;
    match (target, logs.all_pods) {
        (PodTarget::Job(name), true) => {
            ensure!(!logs.previous, "--previous and --all-pods can't be given together");
            return all_pods(context, &name, request).await;
        }
        (PodTarget::Pod(_), true) => bail!("--all-pods is for the pods of a job: give job/NAME"),
        (PodTarget::Job(name), false) => {
            if has_several_pods(&context.client.get_job(context.namespace(), &name).await?) {
                output::note(&format!(
                    "job {name:?} may have several pods, this is one: --all-pods shows all"
                ));
            }
        }
        (PodTarget::Pod(_), false) => {}
    }
    let mut stream = context.client.logs(&request).await?;
    loop {
        let piece = stream.next().await?;
        stream.take_cuts().iter().for_each(|cut| output::note(&words_of_cut(cut)));
        let Some(piece) = piece else { return Ok(ExitCode::SUCCESS) };
        output::data(&piece)?;
    }
}

/// Shows the logs of all Pods of a Job; with `follow` until the Job has ended.
async fn all_pods(context: &Context, name: &str, wanted: LogsRequest) -> Result<ExitCode> {
    let client = &context.client;
    let revision = client.revision(context.namespace()).await?;
    let job = client.get_job(context.namespace(), name).await?;
    let follow = wanted.follow;
    let mut logs = PodLogs::new(client, &job, wanted, true);
    if !follow || end_of(&job).is_some() {
        return Ok(logs.show_present().await?.exit_code());
    }
    logs.begin_present().await?;
    match logs.follow(JobWatch::of(client, &job, revision), revision).await? {
        Followed::Ended(_) if output::was_data_lost() => bail!("not all of the output could be written"),
        Followed::Ended(_) => Ok(ExitCode::SUCCESS),
        Followed::Deleted => bail!("job {name:?} was deleted"),
    }
}
