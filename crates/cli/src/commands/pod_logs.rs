//! The logs of all Pods of one Job, shown together.
//!
//! Owns: which runs of which Pods are shown, each once; whole lines of each; how many are read at once. Does not own: when
//! to stop, what is shown of the progress (`progress`).

use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use stint_api::time::format_seconds;
use stint_api::{ConditionStatus, ContainerState, Job, Pod, PodCondition, PodPhase, Timestamp, table};
use stint_client::v1::{LogCut, LogCutReason};
use stint_client::{Client, Error, LogsRequest, PodTarget, Scope, Watch, WatchEventKind};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::color::{Stream, Tone, paint, paint_pod};
use crate::commands::Failures;
use crate::commands::job_watch::{JobChange, JobWatch, Outage, end_of};
use crate::output;
use crate::progress::{self, Progress};

/// Logs that are followed at once; further Pods wait for their turn.
const LOGS_FOLLOWED_MAX: usize = 64;
/// How long the last lines may take after the Job's end.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(10);
/// A longer line is shown in pieces of this size, each like a line.
const LINE_BYTES_MAX: usize = 64 << 10;
/// How often the servers are asked something while nothing changes: whether there is a leader shows in nothing else.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// How long the servers may be away before a Job is given up.
const OUTAGE_MAX: Duration = Duration::from_secs(300);

/// How following a Job has ended.
#[derive(Debug)]
pub enum Followed {
    /// The Job has ended.
    Ended(Box<Job>),
    /// The Job was deleted.
    Deleted,
}

/// The logs of a Job's Pods.
pub struct PodLogs {
    client: Client,
    /// How each of them is to be read; its target is not looked at.
    wanted: LogsRequest,
    of_pods: Scope,
    with_prefix: bool,
    with_output: bool,
    progress: Option<Progress>,
    /// Runs of Pods whose log is shown.
    seen: BTreeSet<(String, u32)>,
    /// What was told of Pods, by their names.
    told: BTreeSet<(String, &'static str)>,
    tasks: JoinSet<()>,
    turns: Arc<Semaphore>,
}

impl PodLogs {
    /// Of the Pods of a Job; each line behind its Pod's name if `with_prefix`.
    pub fn new(client: &Client, job: &Job, wanted: LogsRequest, with_prefix: bool) -> PodLogs {
        PodLogs {
            client: client.clone(),
            wanted,
            of_pods: Scope {
                namespace: job.metadata.namespace.clone(),
                job_name: job.metadata.name.clone(),
                ..Scope::default()
            },
            with_prefix,
            with_output: true,
            progress: None,
            seen: BTreeSet::new(),
            told: BTreeSet::new(),
            tasks: JoinSet::new(),
            turns: Arc::new(Semaphore::new(LOGS_FOLLOWED_MAX)),
        }
    }

    /// Shows no output, only what keeps Pods from running, and failures.
    pub fn without_output(self) -> PodLogs {
        PodLogs { with_output: false, ..self }
    }

    /// Also shows how far the Job is.
    pub fn with_progress(self, progress: Progress) -> PodLogs {
        PodLogs { progress: Some(progress), ..self }
    }

    /// Shows what the Pods have written so far, one after the other.
    pub async fn show_present(mut self) -> Result<Failures> {
        let mut failures = Failures::default();
        for pod in self.client.list_pods(&self.of_pods).await?.items {
            if let Some(request) = self.request_for(&pod, false) {
                let shown = show(&self.client, &request, &self.prefix_of(&pod)).await;
                failures.note(shown.with_context(|| format!("log of pod {}", pod.metadata.name)));
            }
        }
        Ok(failures)
    }

    /// Shows what the Pods write from this revision on until the Job has ended.
    pub async fn follow(&mut self, mut job_watch: JobWatch, revision: u64) -> Result<Followed> {
        let mut pod_watch = self.client.watch_pods(&self.of_pods, revision);
        let mut outage = Outage::default();
        let mut ticks = tokio::time::interval(progress::TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let is_shown = self.progress.as_ref().is_some_and(Progress::is_shown);
        let _probe = is_shown.then(|| Probe::begin(&self.client, &self.of_pods.namespace));
        let followed = loop {
            let failed = tokio::select! {
                _ = ticks.tick(), if self.progress.is_some() => {
                    self.progress.iter_mut().for_each(|progress| progress.tick(self.client.trouble()));
                    continue;
                }
                change = job_watch.next() => match change {
                    Ok(JobChange::Deleted) => break Followed::Deleted,
                    Ok(JobChange::Changed(job)) if end_of(&job).is_some() => break Followed::Ended(job),
                    Ok(JobChange::Changed(job)) => {
                        self.progress.iter_mut().for_each(|progress| progress.job(&job));
                        None
                    }
                    Err(error) => Some(error),
                },
                event = pod_watch.next() => match event {
                    Ok(event) if event.kind != WatchEventKind::Deleted => {
                        self.begin(&event.object);
                        None
                    }
                    Ok(_) => None,
                    Err(error) if error.is_expired() => self.begin_all(&mut pod_watch).await.err(),
                    Err(error) => Some(error),
                },
            };
            match failed {
                Some(error) => outage.endure(error, OUTAGE_MAX)?,
                None => outage.is_over(),
            }
            while self.tasks.try_join_next().is_some() {}
        };
        if let (Followed::Ended(job), Some(progress)) = (&followed, &mut self.progress) {
            progress.job(job);
        }
        self.finish().await;
        self.progress = None;
        Ok(followed)
    }

    /// Begins to show the logs of all Pods that there are, and watches on from there.
    pub async fn begin_all(&mut self, pod_watch: &mut Watch<Pod>) -> Result<(), Error> {
        let listed = self.client.list_pods(&self.of_pods).await?;
        listed.items.iter().for_each(|pod| self.begin(pod));
        *pod_watch = self.client.watch_pods(&self.of_pods, listed.revision);
        Ok(())
    }

    /// Begins to show the logs of all Pods that there are.
    pub async fn begin_present(&mut self) -> Result<(), Error> {
        let listed = self.client.list_pods(&self.of_pods).await?;
        listed.items.iter().for_each(|pod| self.begin(pod));
        Ok(())
    }

    /// Shows the last lines.
    pub async fn finish(&mut self) {
        let last_lines = async {
            // The Job's end may have been seen before the last Pods' events.
            if let Err(error) = self.begin_present().await {
                output::note(&format!("the last lines of some pods can't be read: {error}"));
            }
            while self.tasks.join_next().await.is_some() {}
        };
        if tokio::time::timeout(LAST_LINES_TIMEOUT, last_lines).await.is_err() {
            output::note("the last lines of some pods could not be read in time; stint logs shows them");
        }
    }

    /// Begins to show the log of a Pod's run, if it has started and is not shown yet, and tells what no log says.
    fn begin(&mut self, pod: &Pod) {
        if let Some((what, words)) = trouble_of(pod)
            && self.told.insert((pod.metadata.name.clone(), what))
        {
            let tone = if what == FAILED { Tone::Bad } else { Tone::Doubtful };
            output::note(&format!(
                "pod/{} {}: {words}",
                pod.metadata.name,
                paint(Stream::Stderr, tone, what)
            ));
        }
        let Some(request) = self.request_for(pod, true) else { return };
        let (client, turns) = (self.client.clone(), self.turns.clone());
        let (name, prefix) = (pod.metadata.name.clone(), self.prefix_of(pod));
        self.tasks.spawn(async move {
            let Ok(_turn) = turns.acquire_owned().await else { return };
            if let Err(error) = show(&client, &request, &prefix).await {
                output::note(&format!("log of pod {name}: {error:#}"));
            }
        });
    }

    fn request_for(&mut self, pod: &Pod, follow: bool) -> Option<LogsRequest> {
        let status = pod.status.container_statuses.first().filter(|_| self.with_output)?;
        let has_started =
            matches!(status.state, ContainerState::Running { .. } | ContainerState::Terminated(_));
        if pod.status.phase == PodPhase::Pending || !has_started {
            return None;
        }
        let (name, restart_count) = (pod.metadata.name.clone(), status.restart_count);
        if !self.seen.insert((name.clone(), restart_count)) {
            return None;
        }
        let target = PodTarget::Pod(name);
        Some(LogsRequest { target, follow, restart_count: Some(restart_count), ..self.wanted.clone() })
    }

    fn prefix_of(&self, pod: &Pod) -> String {
        match self.with_prefix {
            true => paint_pod(Stream::Stdout, &pod.metadata.name, &format!("[{}] ", pod.metadata.name)),
            false => String::new(),
        }
    }
}

/// Asks the servers something now and then, for the sake of what the client then knows of them.
struct Probe(tokio::task::JoinHandle<()>);

impl Probe {
    fn begin(client: &Client, namespace: &str) -> Probe {
        let (client, namespace) = (client.clone(), namespace.to_owned());
        Probe(tokio::spawn(async move {
            loop {
                tokio::time::sleep(PROBE_INTERVAL).await;
                // Its failure is seen in `Client::trouble`.
                drop(client.revision(&namespace).await);
            }
        }))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is said of a Pod that has failed.
const FAILED: &str = "failed";

/// What keeps a Pod from running, or why it has failed.
fn trouble_of(pod: &Pod) -> Option<(&'static str, String)> {
    if pod.status.phase == PodPhase::Failed {
        let mut words = table::pod_status(pod);
        let status = pod.status.container_statuses.first().map(|status| &status.state);
        let mut message = pod.status.message.as_str();
        if let Some(ContainerState::Terminated(end)) = status {
            words.push_str(&format!(" (exit code {})", end.exit_code));
            message = if message.is_empty() { &end.message } else { message };
        }
        let message = if message.is_empty() { String::new() } else { format!(": {message}") };
        return Some((FAILED, words + &message));
    }
    let is_unplaced = |condition: &&PodCondition| {
        condition.condition_type == "PodScheduled" && condition.status == ConditionStatus::False
    };
    let condition = pod.status.conditions.iter().find(is_unplaced)?;
    (pod.status.phase == PodPhase::Pending).then(|| ("can't be placed", condition.message.clone()))
}

/// What is missing of a log, in words.
pub fn words_of_cut(cut: &LogCut) -> String {
    let time = |seconds: i64| format_seconds(Timestamp(seconds.saturating_mul(1_000)));
    let from = cut.from.as_ref().map(|from| time(from.seconds));
    let until = cut.until.as_ref().map(|until| time(until.seconds));
    let place = match (from, until) {
        (None, Some(until)) => format!("output before {until}"),
        (Some(from), None) => format!("output after {from}"),
        (Some(from), Some(until)) => format!("output between {from} and {until}"),
        (None, None) => "output".to_owned(),
    };
    match cut.reason() {
        LogCutReason::Unreachable => {
            format!("stint: {place} is on node {}, which does not answer: try again later", cut.node_name)
        }
        LogCutReason::Lost | LogCutReason::Unspecified => {
            format!("stint: {place} was lost with node {}", cut.node_name)
        }
    }
}

/// True if a Job may have several Pods at a time.
pub fn has_several_pods(job: &Job) -> bool {
    job.spec.completions.is_some_and(|count| count > 1) || job.spec.parallelism.is_some_and(|count| count > 1)
}

async fn show(client: &Client, request: &LogsRequest, prefix: &str) -> Result<()> {
    let mut stream = client.logs(request).await?;
    let mut lines = Lines::new(prefix);
    loop {
        let piece = stream.next().await;
        for cut in stream.take_cuts() {
            output::note(&format!("{prefix}{}", words_of_cut(&cut)));
        }
        if let (Ok(Some(piece)), true) = (&piece, prefix.is_empty() && !output::is_above_foot()) {
            output::data(piece)?;
            continue;
        }
        if let Ok(Some(piece)) = &piece {
            output::data(&lines.take(piece))?;
            continue;
        }
        // What came before the end or the error is shown, whole line or not.
        output::data(&lines.rest())?;
        return piece.map(|_| ()).map_err(Into::into);
    }
}

/// Pieces of a log as whole lines with a prefix.
struct Lines<'a> {
    prefix: &'a str,
    begun: Vec<u8>,
}

impl Lines<'_> {
    fn new(prefix: &str) -> Lines<'_> {
        Lines { prefix, begun: Vec::new() }
    }

    /// The lines that are whole with this piece.
    fn take(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut whole = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            for part in part.chunks(LINE_BYTES_MAX) {
                self.begun.extend_from_slice(part);
                if part.ends_with(b"\n") || self.begun.len() >= LINE_BYTES_MAX {
                    whole.extend(self.rest());
                }
            }
        }
        whole
    }

    /// What has begun, as a line.
    fn rest(&mut self) -> Vec<u8> {
        let line = std::mem::take(&mut self.begun);
        if line.is_empty() {
            return line;
        }
        let end: &[u8] = if line.ends_with(b"\n") { b"" } else { b"\n" };
        [self.prefix.as_bytes(), &line, end].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r13_what_is_missing_is_said() {
        let mut cut = LogCut { node_name: "w2".to_owned(), ..LogCut::default() };
        cut.set_reason(LogCutReason::Lost);
        assert_eq!(words_of_cut(&cut), "stint: output was lost with node w2");
        cut.until.get_or_insert_default().seconds = 1_767_225_600;
        assert_eq!(words_of_cut(&cut), "stint: output before 2026-01-01T00:00:00Z was lost with node w2");
        cut.from = cut.until.take();
        cut.set_reason(LogCutReason::Unreachable);
        assert_eq!(
            words_of_cut(&cut),
            "stint: output after 2026-01-01T00:00:00Z is on node w2, which does not answer: try again later"
        );
    }

    #[test]
    fn lines_are_shown_whole_behind_their_prefix() {
        let mut lines = Lines::new("[p] ");
        assert_eq!(lines.take(b"one\ntw"), b"[p] one\n");
        assert_eq!(lines.take(b"o"), b"");
        assert_eq!(lines.take(b"\n\nthree"), b"[p] two\n[p] \n");
        assert_eq!(lines.rest(), b"[p] three\n");
        assert_eq!(lines.rest(), b"");
    }

    #[test]
    fn a_line_without_end_takes_no_memory_without_end() {
        let mut lines = Lines::new("[p] ");
        let shown = lines.take(&vec![b'x'; 3 * LINE_BYTES_MAX + 1]);
        assert_eq!(shown.iter().filter(|byte| **byte == b'\n').count(), 3);
        assert_eq!(lines.begun.len(), 1);
    }
}
