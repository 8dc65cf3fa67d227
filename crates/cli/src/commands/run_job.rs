//! `run`: submit a Job, show how far it is and what its Pods write, end as it ends.
//!
//! Owns: the exit code, what Ctrl-C does. Does not own: following a Job (`job_watch`), showing logs (`pod_logs`), what is
//! shown of the progress (`progress`).

use anyhow::{Result, bail};
use std::pin::pin;
use std::process::ExitCode;
use stint_api::{Job, JobConditionType, ObjectMeta};
use stint_client::{CreatedJob, LogsRequest, PodTarget, v1};
use stint_kube::ManifestObject;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::arguments::Run;
use crate::color::{Stream, Tone, paint};
use crate::commands::Context;
use crate::commands::job_watch::{JobWatch, end_of};
use crate::commands::manifest::{self, Document};
use crate::commands::new_job::job_of;
use crate::commands::pod_logs::{Followed, PodLogs, has_several_pods};
use crate::output;
use crate::progress::{Foot, Progress};
use crate::terminal::{self, Keys};

/// As timeout(1) says that a time has run out.
const DEADLINE_EXCEEDED: u8 = 124;
/// As shells say of a command that SIGINT ended, and of one that SIGTERM ended.
const INTERRUPTED: u8 = 128 + 2;
const TERMINATED: u8 = 128 + 15;

/// The condition's reason where a Job has taken too long (J63).
const DEADLINE_REASON: &str = "DeadlineExceeded";

/// `stint run`.
pub async fn run(context: &Context, run: &Run) -> Result<ExitCode> {
    let job = wanted(context, run)?;
    if run.dry_run {
        let mut manifest = stint_kube::job_to_json(&job);
        // What became of it is not for manifests.
        manifest.as_object_mut().and_then(|fields| fields.remove("status"));
        let yaml = stint_kube::to_yaml(&manifest);
        output::data(yaml.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    // Until here a signal ends it at once, also where it waits for stdin. From here on there may be a Job.
    let (mut interrupts, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let created = tokio::select! {
        created = context.client.create_job(&job) => created?,
        _ = interrupts.recv() => return Ok(left_in_doubt(&job, INTERRUPTED)),
        _ = terminate.recv() => return Ok(left_in_doubt(&job, TERMINATED)),
    };
    created.warnings.iter().for_each(|warning| manifest::warn(warning));
    let name = created.job.metadata.name.clone();
    if run.detach {
        output::line(&format!("job.batch/{name} created"))?;
        output::hint(&format!(
            "stint logs -f job/{name} shows what it writes, stint wait job/{name} --for complete waits"
        ));
        return Ok(ExitCode::SUCCESS);
    }
    output::note(&format!("job.batch/{name} created"));
    let (namespace, uid) = (created.job.metadata.namespace.clone(), created.job.metadata.uid.clone());
    let foot = Foot::new();
    let progress = foot.progress(&created.job, run.quiet);
    let ended = {
        let mut ending = pin!(to_the_end(context, created, progress, !run.no_logs));
        loop {
            let answer = tokio::select! {
                ended = &mut ending => break Ok(ended?),
                _ = terminate.recv() => break Err((Answer::Leave, TERMINATED)),
                _ = interrupts.recv() => {
                    if !terminal::can_ask() {
                        break Err((Answer::Leave, INTERRUPTED));
                    }
                    tokio::select! {
                        // The question has answered itself.
                        ended = &mut ending => break Ok(ended?),
                        _ = terminate.recv() => break Err((Answer::Leave, TERMINATED)),
                        answer = ask(&foot, &name, &mut interrupts) => answer?,
                    }
                }
            };
            if answer != Answer::GoOn {
                break Err((answer, INTERRUPTED));
            }
        }
    };
    drop(foot);
    let (answer, exit_code) = match ended {
        Ok(job) => return end(&job),
        Err(left) => left,
    };
    if answer == Answer::Cancel {
        let policy = v1::PropagationPolicy::Background;
        tokio::select! {
            deleted = context.client.delete_job(&namespace, &name, uid.parse()?, policy) => {
                deleted?;
                output::note(&format!("job.batch/{name} cancelled: it is deleted, and its Pods are stopped"));
            }
            // The servers take their time, and nobody waits for them any more.
            _ = interrupts.recv() => output::note(&format!(
                "whether job.batch/{name} is cancelled is not known: stint get job {name} shows it"
            )),
        }
    } else {
        output::note(&format!(
            "job.batch/{name} runs on: stint logs -f job/{name} shows it, stint delete job {name} ends it"
        ));
    }
    Ok(ExitCode::from(exit_code))
}

/// It was interrupted before the servers had answered.
fn left_in_doubt(job: &Job, exit_code: u8) -> ExitCode {
    let ObjectMeta { name, generate_name, .. } = &job.metadata;
    output::note(&match name.as_str() {
        "" => format!(
            "interrupted while the job was submitted: whether there is one is not known; its name begins with {generate_name}: \
             stint get jobs shows it"
        ),
        name => format!(
            "interrupted while job.batch/{name} was submitted: whether it runs is not known; stint get job {name} shows it"
        ),
    });
    ExitCode::from(exit_code)
}

/// The Job that is meant, checked as the servers will.
fn wanted(context: &Context, run: &Run) -> Result<Job> {
    let documents = match &run.filename {
        Some(file) => manifest::read(context, std::slice::from_ref(file))?,
        None => {
            let variable = |name: &str| std::env::var(name).ok();
            let job = job_of(&run.job, &run.command, context.namespace(), variable)?;
            if let [line] = &run.command[..]
                && line.contains(char::is_whitespace)
            {
                output::warning(&format!(
                    "no shell is around the command, and {line:?} is the name of a program: was -- sh -c {line:?} meant?"
                ));
            }
            vec![Document { file: "the command line".to_owned(), object: ManifestObject::Job(Box::new(job)) }]
        }
    };
    let [one] = &documents[..] else { bail!("run takes one Job, the manifest holds {}", documents.len()) };
    manifest::check_new(&documents)?;
    match &one.object {
        ManifestObject::Job(job) => Ok((**job).clone()),
        ManifestObject::ConfigMap(_) => bail!("run takes a Job, the manifest holds a ConfigMap"),
    }
}

/// What the user wants after Ctrl-C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// The Job runs on without anybody looking.
    Leave,
    /// The Job is deleted.
    Cancel,
    /// It was a mistake.
    GoOn,
}

/// Asks what Ctrl-C was meant for; another one leaves the Job.
async fn ask(foot: &Foot, name: &str, interrupts: &mut Signal) -> Result<Answer> {
    let mut keys = Keys::listen()?;
    let question =
        format!("{name}: c cancels it, d detaches and leaves it running, Enter goes on; Ctrl-C detaches ");
    let _shown = foot.ask(&paint(Stream::Stderr, Tone::Doubtful, &question));
    loop {
        let key = tokio::select! {
            key = keys.next() => key,
            _ = interrupts.recv() => return Ok(Answer::Leave),
        };
        match key {
            // The terminal is gone.
            None => return Ok(Answer::Leave),
            Some(b'c' | b'C') => return Ok(Answer::Cancel),
            Some(b'd' | b'D') => return Ok(Answer::Leave),
            Some(b'\n' | b'\r' | b'g' | b'G') => return Ok(Answer::GoOn),
            Some(_) => {}
        }
    }
}

/// Says how a Job has ended.
fn end(job: &Job) -> Result<ExitCode> {
    let name = &job.metadata.name;
    let Some(end) = end_of(job) else { bail!("job {name:?} has no end") };
    let complete = end.condition_type == JobConditionType::Complete;
    let word = match complete {
        true => paint(Stream::Stderr, Tone::Good, "complete"),
        false => paint(Stream::Stderr, Tone::Bad, "failed"),
    };
    output::note(&format!(
        "job.batch/{name} {word}: {} succeeded, {} failed: {}: {}",
        job.status.succeeded, job.status.failed, end.reason, end.message
    ));
    if output::was_data_lost() {
        bail!("not all of the output could be written: stint logs job/{name} --all-pods shows it");
    }
    Ok(match complete {
        true => ExitCode::SUCCESS,
        false if end.reason == DEADLINE_REASON => ExitCode::from(DEADLINE_EXCEEDED),
        false => ExitCode::FAILURE,
    })
}

/// Shows logs until the Job has ended; gives the ended Job.
async fn to_the_end(
    context: &Context,
    created: CreatedJob,
    progress: Progress,
    with_logs: bool,
) -> Result<Job> {
    let CreatedJob { job, outcome, revision, .. } = created;
    let name = &job.metadata.name;
    if outcome == v1::CreateOutcome::AlreadyDeleted {
        bail!("job {name:?} was deleted");
    }
    let mut wanted = LogsRequest::new(&job.metadata.namespace, PodTarget::Job(name.clone()));
    wanted.follow = true;
    let mut logs = PodLogs::new(&context.client, &job, wanted, has_several_pods(&job));
    logs = if with_logs { logs } else { logs.without_output() };
    logs = logs.with_progress(progress);
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

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::{ConditionStatus, JobCondition, Timestamp};

    #[test]
    fn j63_the_exit_code_tells_a_deadline_from_other_failures() {
        let ended = |condition_type, reason: &str| {
            let mut job = Job::default();
            job.status.conditions.push(JobCondition {
                condition_type,
                status: ConditionStatus::True,
                last_probe_time: Timestamp(0),
                last_transition_time: Timestamp(0),
                reason: reason.to_owned(),
                message: String::new(),
            });
            format!("{:?}", end(&job).unwrap())
        };
        let code = |code: u8| format!("{:?}", ExitCode::from(code));
        assert_eq!(ended(JobConditionType::Complete, "CompletionsReached"), code(0));
        assert_eq!(ended(JobConditionType::Failed, "BackoffLimitExceeded"), code(1));
        assert_eq!(ended(JobConditionType::Failed, "DeadlineExceeded"), code(124));
        assert!(end(&Job::default()).is_err());
    }
}
