//! `tree`: the Pods of a Job by index and attempt, each with its end.
//!
//! Owns: which of many Pods are shown, how they are grouped. Does not own: the words about a Pod (`stint_api::table`).

use anyhow::Result;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use stint_api::{ContainerState, Job, Pod, PodPhase, Timestamp, table as words, time};
use stint_client::Scope;

use crate::arguments::Tree;
use crate::commands::target::job_name;
use crate::commands::{Context, now};
use crate::output;
use crate::table::Lines;

/// Pods that are shown unless all are asked for: a few screens.
const PODS_SHOWN_MAX: usize = 100;
/// Pods that are looked at unless all are asked for: reading them takes a second or two.
const PODS_READ_MAX: usize = 10_000;
/// How often a list that the servers let go of is begun anew.
const RESTARTS_MAX: usize = 3;

/// `stint tree`.
pub async fn run(context: &Context, tree: &Tree) -> Result<()> {
    let name = job_name(&tree.target)?;
    let job = context.client.get_job(context.namespace(), name).await?;
    let scope =
        Scope { namespace: context.namespace().to_owned(), job_name: name.to_owned(), ..Scope::default() };
    let read_max = if tree.all { usize::MAX } else { PODS_READ_MAX };
    let mut restarts = 0;
    let (attempts, is_cut) = loop {
        let (mut attempts, mut is_cut) = (Vec::new(), false);
        let visited = context.client.visit_pods(&scope, |pod| {
            if attempts.len() >= read_max {
                is_cut = true;
                return ControlFlow::Break(());
            }
            attempts.push(Attempt::of(&pod, now()));
            ControlFlow::Continue(())
        });
        match visited.await {
            Ok(_) => break (attempts, is_cut),
            Err(error) if error.is_expired() && restarts < RESTARTS_MAX => restarts += 1,
            Err(error) => return Err(error.into()),
        }
    };
    let shown_max = if tree.all { usize::MAX } else { PODS_SHOWN_MAX };
    output::line(&text(&job, attempts, shown_max, now()))?;
    if is_cut {
        output::note(&format!(
            "only the first {PODS_READ_MAX} pods were looked at: stint tree job/{name} --all looks at all of them"
        ));
    }
    Ok(())
}

/// What is kept of a Pod: there may be very many.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Attempt {
    index: Option<u32>,
    /// Which of its index, or of the Job, counted from 1.
    number: usize,
    name: String,
    node: String,
    status: String,
    urgency: Urgency,
    exit_code: String,
    started: Option<Timestamp>,
    duration: String,
    message: String,
}

/// What is shown first when not everything is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    Failed,
    Running,
    Pending,
    Succeeded,
}

impl Attempt {
    fn of(pod: &Pod, now: Timestamp) -> Attempt {
        let statuses = pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses);
        let ends: Vec<_> = statuses
            .filter_map(|status| match &status.state {
                ContainerState::Terminated(end) => Some(end),
                _ => None,
            })
            .collect();
        // Of several the one that went wrong first is what people look for.
        let failed = ends.iter().filter(|end| end.exit_code != 0).min_by_key(|end| end.finished_at);
        let end = failed.or(ends.last());
        let started = pod.status.start_time;
        let until = match pod.status.phase.is_terminal() {
            true => ends.iter().filter_map(|end| end.finished_at).max(),
            false => Some(now),
        };
        let duration = started.zip(until).map(|(from, to)| words::human_duration_ms(to.since_ms(from)));
        Attempt {
            index: pod.completion_index.map(|index| index.0),
            number: 0,
            name: pod.metadata.name.clone(),
            node: pod.node_name.clone().unwrap_or_else(|| "<none>".to_owned()),
            status: words::pod_status(pod),
            urgency: match pod.status.phase {
                PodPhase::Failed => Urgency::Failed,
                PodPhase::Running => Urgency::Running,
                PodPhase::Succeeded => Urgency::Succeeded,
                _ => Urgency::Pending,
            },
            exit_code: end.map(|end| end.exit_code.to_string()).unwrap_or_default(),
            started,
            duration: duration.unwrap_or_default(),
            message: match pod.status.message.as_str() {
                "" => end.map(|end| end.message.trim_end().to_owned()).unwrap_or_default(),
                message => message.to_owned(),
            },
        }
    }
}

/// `attempts` by creation.
fn text(job: &Job, mut attempts: Vec<Attempt>, shown_max: usize, now: Timestamp) -> String {
    let mut groups: BTreeMap<Option<u32>, usize> = BTreeMap::new();
    for attempt in &mut attempts {
        let number = groups.entry(attempt.index).or_default();
        *number += 1;
        attempt.number = *number;
    }
    let hidden = hide(&mut attempts, shown_max);
    let mut rows = vec![root(job, now)];
    let mut by_index: BTreeMap<Option<u32>, Vec<Attempt>> = BTreeMap::new();
    for attempt in attempts {
        by_index.entry(attempt.index).or_default().push(attempt);
    }
    let has_rest = !hidden.is_empty();
    let n_groups = by_index.len();
    for (place, (index, attempts)) in by_index.into_iter().enumerate() {
        let is_last = place + 1 == n_groups && !has_rest;
        match index {
            None => branch(&mut rows, "", attempts, !has_rest),
            Some(index) => {
                rows.push(index_row(index, &attempts, groups[&Some(index)], is_last));
                branch(&mut rows, if is_last { "   " } else { "│  " }, attempts, true);
            }
        }
    }
    if has_rest {
        let counts: Vec<String> = hidden.iter().map(|(status, count)| format!("{count} {status}")).collect();
        let total: usize = hidden.values().sum();
        rows.push(vec![format!("└─ … {total} more: {}", counts.join(", "))]);
    }
    let columns = ["POD", "NODE", "STATUS", "EXIT", "STARTED", "DURATION", "MESSAGE"];
    for row in &mut rows {
        row.resize(columns.len(), String::new());
    }
    Lines::default().of(&columns, rows)
}

/// Leaves so many attempts, those that matter most; counts the others by status.
fn hide(attempts: &mut Vec<Attempt>, shown_max: usize) -> BTreeMap<String, usize> {
    let mut hidden: BTreeMap<String, usize> = BTreeMap::new();
    if attempts.len() <= shown_max {
        return hidden;
    }
    let mut order: Vec<usize> = (0..attempts.len()).collect();
    // The newest of the same urgency.
    order.sort_by_key(|place| (attempts[*place].urgency, Reverse(*place)));
    let mut is_shown = vec![false; attempts.len()];
    order.iter().take(shown_max).for_each(|place| is_shown[*place] = true);
    let mut place = 0;
    attempts.retain(|attempt| {
        let keep = is_shown[place];
        place += 1;
        if !keep {
            *hidden.entry(attempt.status.clone()).or_default() += 1;
        }
        keep
    });
    hidden
}

fn root(job: &Job, now: Timestamp) -> Vec<String> {
    let status = &job.status;
    let failed = if status.failed > 0 { format!(", {} failed", status.failed) } else { String::new() };
    vec![
        format!("job/{}", job.metadata.name),
        String::new(),
        words::job_status(job).to_owned(),
        String::new(),
        status.start_time.map(time::format_seconds).unwrap_or_default(),
        words::job_duration(job, now),
        format!("{} complete{failed}, {} active", words::job_completions(job), status.active),
    ]
}

/// An index stands for its last attempt that is shown.
fn index_row(index: u32, attempts: &[Attempt], count: usize, is_last: bool) -> Vec<String> {
    let stem = if is_last { "└─" } else { "├─" };
    let status = attempts.last().map(|last| last.status.clone()).unwrap_or_default();
    let attempts = if count == 1 { "1 attempt".to_owned() } else { format!("{count} attempts") };
    vec![format!("{stem} index {index} ({attempts})"), String::new(), status]
}

fn branch(rows: &mut Vec<Vec<String>>, stem: &str, attempts: Vec<Attempt>, has_end: bool) {
    let count = attempts.len();
    for (place, attempt) in attempts.into_iter().enumerate() {
        let fork = if place + 1 == count && has_end { "└─" } else { "├─" };
        rows.push(vec![
            format!("{stem}{fork} {} #{}", attempt.name, attempt.number),
            attempt.node,
            attempt.status,
            attempt.exit_code,
            attempt.started.map(time::format_seconds).unwrap_or_default(),
            attempt.duration,
            attempt.message,
        ]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(index: Option<u32>, name: &str, urgency: Urgency) -> Attempt {
        Attempt {
            index,
            number: 0,
            name: name.to_owned(),
            node: "w1".to_owned(),
            status: format!("{urgency:?}"),
            urgency,
            exit_code: if urgency == Urgency::Failed { "3".to_owned() } else { String::new() },
            started: None,
            duration: "2s".to_owned(),
            message: String::new(),
        }
    }

    fn shown(attempts: Vec<Attempt>, shown_max: usize) -> Vec<String> {
        let mut job = Job::default();
        job.metadata.name = "a".to_owned();
        let text = text(&job, attempts, shown_max, Timestamp(0));
        let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().skip(1).map(squeezed).collect()
    }

    #[test]
    fn attempts_stand_below_their_index() {
        let attempts = vec![
            attempt(Some(0), "a-0-x", Urgency::Failed),
            attempt(Some(1), "a-1-x", Urgency::Succeeded),
            attempt(Some(0), "a-0-y", Urgency::Running),
        ];
        let expected = [
            "job/a Running 0/1 complete, 0 active",
            "├─ index 0 (2 attempts) Running",
            "│ ├─ a-0-x #1 w1 Failed 3 2s",
            "│ └─ a-0-y #2 w1 Running 2s",
            "└─ index 1 (1 attempt) Succeeded",
            "└─ a-1-x #1 w1 Succeeded 2s",
        ];
        assert_eq!(shown(attempts, 10), expected);
    }

    #[test]
    fn of_many_pods_those_that_failed_and_those_that_run_are_shown() {
        let mut attempts: Vec<Attempt> =
            (0..100_000).map(|number| attempt(None, &format!("p{number}"), Urgency::Succeeded)).collect();
        attempts[7].urgency = Urgency::Failed;
        attempts[7].status = "Error".to_owned();
        attempts[9].urgency = Urgency::Running;
        attempts[9].status = "Running".to_owned();
        let lines = shown(attempts, 3);
        let expected = [
            "job/a Running 0/1 complete, 0 active",
            "├─ p7 #8 w1 Error 2s",
            "├─ p9 #10 w1 Running 2s",
            "├─ p99999 #100000 w1 Succeeded 2s",
            "└─ … 99997 more: 99997 Succeeded",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_job_without_pods_is_shown_alone() {
        assert_eq!(shown(Vec::new(), 3), ["job/a Running 0/1 complete, 0 active"]);
    }
}
