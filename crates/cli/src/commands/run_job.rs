//! `run`: submit a Job, show what its Pods write, end as it ends.

use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use stint_api::{ContainerState, Job, JobConditionType, Pod, PodPhase};
use stint_client::{Client, LogTarget, LogsRequest, Scope, WatchEventKind};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::arguments::Manifest;
use crate::commands::{apply, wait};
use crate::output;

/// Logs that are followed at once; further Pods wait for their turn.
const LOGS_FOLLOWED_MAX: usize = 64;
/// How long the last lines may take after the Job's end.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(10);

/// `stint run`.
pub async fn run(client: &Client, manifest: &Manifest) -> Result<ExitCode> {
    let jobs = apply::read(manifest)?;
    let [job] = &jobs[..] else { bail!("run takes one Job, the manifest holds {}", jobs.len()) };
    let created = client.create_job(job).await?;
    created.warnings.iter().for_each(|warning| apply::warn(warning));
    let job = created.job;
    output::note(&format!("job.batch/{} created", job.metadata.name));
    let job = follow(client, &job, created.revision).await?;
    let Some(end) = wait::end_of(&job) else { bail!("job {:?} has no end", job.metadata.name) };
    let complete = end.condition_type == JobConditionType::Complete;
    output::note(&format!(
        "job.batch/{} {}: {} succeeded, {} failed: {}: {}",
        job.metadata.name,
        if complete { "complete" } else { "failed" },
        job.status.succeeded,
        job.status.failed,
        end.reason,
        end.message
    ));
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows logs until the Job has ended; gives the ended Job.
async fn follow(client: &Client, job: &Job, revision: u64) -> Result<Job> {
    let namespace = job.metadata.namespace.clone();
    let name = job.metadata.name.clone();
    let of_job = Scope { namespace: namespace.clone(), name: name.clone(), ..Scope::default() };
    let of_pods = Scope { namespace: namespace.clone(), job_name: name.clone(), ..Scope::default() };
    let mut job_watch = client.watch_jobs(&of_job, revision);
    let mut pod_watch = client.watch_pods(&of_pods, revision);
    let alone = job.spec.completions.unwrap_or(1) <= 1 && job.spec.parallelism.unwrap_or(1) <= 1;
    let mut logs = Logs {
        client: client.clone(),
        namespace,
        alone,
        seen: BTreeSet::new(),
        tasks: JoinSet::new(),
        turns: Arc::new(Semaphore::new(LOGS_FOLLOWED_MAX)),
    };
    let ended = loop {
        tokio::select! {
            event = job_watch.next() => match event {
                Ok(event) if event.object.metadata.uid != job.metadata.uid => {}
                Ok(event) if event.kind == WatchEventKind::Deleted => bail!("job {name:?} was deleted"),
                Ok(event) if wait::end_of(&event.object).is_some() => break event.object,
                Ok(_) => {}
                Err(error) if error.is_expired() => {
                    if let Some(ended) = wait::end_by_reading(client, &of_job.namespace, &name).await? {
                        break ended;
                    }
                    let listed = client.list_jobs(&of_job).await?;
                    job_watch = client.watch_jobs(&of_job, listed.revision);
                }
                Err(error) => return Err(error.into()),
            },
            event = pod_watch.next() => match event {
                Ok(event) if event.kind != WatchEventKind::Deleted => logs.notice(&event.object),
                Ok(_) => {}
                Err(error) if error.is_expired() => {
                    let listed = client.list_pods(&of_pods).await?;
                    listed.items.iter().for_each(|pod| logs.notice(pod));
                    pod_watch = client.watch_pods(&of_pods, listed.revision);
                }
                Err(error) => return Err(error.into()),
            },
        }
    };
    // The Job's end may have been seen before the last Pods' events.
    let last_lines = async {
        if let Ok(listed) = client.list_pods(&of_pods).await {
            listed.items.iter().for_each(|pod| logs.notice(pod));
        }
        while logs.tasks.join_next().await.is_some() {}
    };
    if tokio::time::timeout(LAST_LINES_TIMEOUT, last_lines).await.is_err() {
        output::note("the last lines of some pods could not be read in time; stint logs shows them");
    }
    Ok(ended)
}

struct Logs {
    client: Client,
    namespace: String,
    /// The Job has one Pod at a time: no prefix is needed.
    alone: bool,
    /// Runs of Pods whose log is shown.
    seen: BTreeSet<(String, u32)>,
    tasks: JoinSet<()>,
    turns: Arc<Semaphore>,
}

impl Logs {
    /// Begins to show the log of a Pod's run that has started.
    fn notice(&mut self, pod: &Pod) {
        let Some(status) = pod.status.container_statuses.first() else { return };
        let has_started =
            matches!(status.state, ContainerState::Running { .. } | ContainerState::Terminated(_));
        if pod.status.phase == PodPhase::Pending || !has_started {
            return;
        }
        let (name, restart_count) = (pod.metadata.name.clone(), status.restart_count);
        if !self.seen.insert((name.clone(), restart_count)) {
            return;
        }
        let mut request = LogsRequest::new(&self.namespace, LogTarget::Pod(name.clone()));
        request.follow = true;
        request.restart_count = Some(restart_count);
        let (client, turns) = (self.client.clone(), self.turns.clone());
        let prefix = if self.alone { String::new() } else { format!("[{name}] ") };
        self.tasks.spawn(async move {
            let Ok(_turn) = turns.acquire_owned().await else { return };
            if let Err(error) = show(&client, &request, &prefix).await {
                output::note(&format!("log of pod {name}: {error:#}"));
            }
        });
    }
}

async fn show(client: &Client, request: &LogsRequest, prefix: &str) -> Result<()> {
    let mut stream = client.logs(request).await?;
    let mut line: Vec<u8> = Vec::new();
    while let Some(piece) = stream.next().await? {
        if prefix.is_empty() {
            output::data(&piece)?;
            continue;
        }
        line.extend_from_slice(&piece);
        while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            let rest = line.split_off(end + 1);
            output::data(&[prefix.as_bytes(), &line].concat())?;
            line = rest;
        }
    }
    if !line.is_empty() {
        output::data(&[prefix.as_bytes(), &line, b"\n"].concat())?;
    }
    Ok(())
}
