//! A Job: what was asked for, what came of it, which attempts there were.

use stint_api::{ContainerState, Event, Job, JobSpec, Pod, Timestamp, table as words};

use super::last_lines::LastLines;
use super::{conditions, containers, events, moment, pairs, seconds};
use crate::sheet::Sheet;

/// Attempts that are shown: of more, the newest.
const ATTEMPTS_SHOWN_MAX: usize = 20;

pub fn sheet(job: &Job, pods: &[Pod], last: Option<&LastLines>, told: &[Event], now: Timestamp) -> String {
    let mut sheet = Sheet::default();
    let (spec, status) = (&job.spec, &job.status);
    sheet.field("Name", &job.metadata.name);
    sheet.field("Namespace", &job.metadata.namespace);
    sheet.field_if("Selector", spec.selector.as_ref().map(ToString::to_string).unwrap_or_default());
    pairs(&mut sheet, "Labels", &job.metadata.labels);
    pairs(&mut sheet, "Annotations", &job.metadata.annotations);
    sheet.field("Status", words::job_status(job));
    limits(&mut sheet, spec);
    sheet.field_if("Created", moment(job.metadata.creation_timestamp));
    sheet.field_if("Start Time", moment(status.start_time));
    sheet.field_if("Completed At", moment(status.completion_time));
    sheet.field_if("Duration", words::job_duration(job, now));
    let (ready, terminating) = (status.ready.unwrap_or(0), status.terminating.unwrap_or(0));
    let mut counts = format!(
        "{} Active ({ready} Ready) / {} Succeeded / {} Failed",
        status.active, status.succeeded, status.failed
    );
    if terminating > 0 {
        counts.push_str(&format!(" / {terminating} Terminating"));
    }
    sheet.field("Pods Statuses", counts);
    if let Some(completed) = &status.completed_indexes {
        sheet.list("Completed Indexes", Some(completed.clone()).filter(|text| !text.is_empty()));
    }
    template(&mut sheet, spec);
    conditions(
        &mut sheet,
        status.conditions.iter().map(|one| {
            let at = Some(one.last_transition_time);
            (one.condition_type.as_str(), one.status, at, one.reason.as_str(), one.message.as_str())
        }),
    );
    attempts(&mut sheet, pods, now);
    if let Some(last) = last {
        last.show(&mut sheet);
    }
    events(&mut sheet, told, now);
    sheet.finish()
}

fn limits(sheet: &mut Sheet, spec: &JobSpec) {
    let number =
        |number: Option<i32>| number.map_or_else(|| "<unset>".to_owned(), |number| number.to_string());
    sheet.field("Parallelism", number(spec.parallelism));
    sheet.field("Completions", number(spec.completions));
    sheet.field("Completion Mode", spec.completion_mode.as_ref().map_or("NonIndexed", |mode| mode.as_str()));
    sheet.field("Suspend", spec.suspend.unwrap_or(false).to_string());
    sheet.field("Backoff Limit", number(spec.backoff_limit));
    sheet.field_if("Active Deadline", spec.active_deadline_seconds.map(seconds).unwrap_or_default());
    sheet.field_if("TTL After Finished", spec.ttl_seconds_after_finished.map(seconds).unwrap_or_default());
}

fn template(sheet: &mut Sheet, spec: &JobSpec) {
    let template = &spec.template;
    sheet.part("Pod Template", |sheet| {
        pairs(sheet, "Labels", &template.labels);
        if !template.annotations.is_empty() {
            pairs(sheet, "Annotations", &template.annotations);
        }
        sheet.field(
            "Restart Policy",
            template.spec.restart_policy.as_ref().map_or("", |policy| policy.as_str()),
        );
        sheet.field_if("Runtime Class", template.spec.runtime_class_name.as_deref().unwrap_or_default());
        containers::containers(sheet, &template.spec, |_| None);
        containers::volumes(sheet, &template.spec.volumes);
        pairs(sheet, "Node-Selectors", &template.spec.node_selector);
    });
}

/// The Pods of the Job, the oldest first: where each was and how it ended.
fn attempts(sheet: &mut Sheet, pods: &[Pod], now: Timestamp) {
    let mut pods: Vec<&Pod> = pods.iter().collect();
    pods.sort_by_key(|pod| (pod.metadata.creation_timestamp, pod.metadata.name.clone()));
    let hidden = pods.len().saturating_sub(ATTEMPTS_SHOWN_MAX);
    let is_indexed = pods.iter().any(|pod| pod.completion_index.is_some());
    let mut titles = vec!["Pod", "Node", "Status", "Exit", "Restarts", "Started", "Duration", "Message"];
    if is_indexed {
        titles.insert(1, "Index");
    }
    let rows = pods.iter().skip(hidden).map(|pod| {
        let mut row = attempt(pod, now);
        if is_indexed {
            row.insert(1, pod.completion_index.map_or_else(String::new, |index| index.to_string()));
        }
        row
    });
    let name = match hidden {
        0 => "Attempts".to_owned(),
        hidden => format!("Attempts (the newest; {hidden} or more before them)"),
    };
    sheet.table(&name, &titles, rows.collect());
}

fn attempt(pod: &Pod, now: Timestamp) -> Vec<String> {
    let statuses = &pod.status.container_statuses;
    let ends = statuses.iter().filter_map(|status| match &status.state {
        ContainerState::Terminated(end) => Some(end),
        _ => None,
    });
    // Of several the one that went wrong first is what people look for.
    let ends: Vec<_> = ends.collect();
    let end = ends.iter().filter(|end| end.exit_code != 0).min_by_key(|end| end.finished_at).or(ends.last());
    let finished = ends.iter().filter_map(|end| end.finished_at).max();
    let started = pod.status.start_time;
    let until = match pod.status.phase.is_terminal() {
        true => finished,
        false => Some(now),
    };
    let duration = started.zip(until).map(|(from, to)| words::human_duration_ms(to.since_ms(from)));
    let message = match pod.status.message.as_str() {
        "" => end.map(|end| end.message.trim_end().to_owned()).unwrap_or_default(),
        message => message.to_owned(),
    };
    vec![
        pod.metadata.name.clone(),
        pod.node_name.clone().unwrap_or_else(|| "<none>".to_owned()),
        words::pod_status(pod),
        end.map(|end| end.exit_code.to_string()).unwrap_or_default(),
        words::pod_restarts(pod).to_string(),
        moment(started),
        duration.unwrap_or_default(),
        message,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::{ContainerStatus, ContainerTermination, ObjectMeta, PodPhase, PodStatus};

    fn ended(name: &str, node: &str, exit_code: i32, at: i64) -> Pod {
        let state = ContainerState::Terminated(ContainerTermination {
            exit_code,
            reason: "Error".to_owned(),
            finished_at: Some(Timestamp(at + 2_000)),
            ..ContainerTermination::default()
        });
        Pod {
            metadata: ObjectMeta {
                name: name.to_owned(),
                creation_timestamp: Some(Timestamp(at)),
                ..ObjectMeta::default()
            },
            spec: Default::default(),
            node_name: Some(node.to_owned()),
            completion_index: None,
            binding_revision: None,
            status: PodStatus {
                phase: PodPhase::Failed,
                start_time: Some(Timestamp(at)),
                container_statuses: vec![ContainerStatus { state, ..ContainerStatus::default() }],
                ..PodStatus::default()
            },
        }
    }

    #[test]
    fn each_attempt_says_where_it_was_and_how_it_ended() {
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let pods = [ended("b", "w2", 3, 60_000), ended("a", "w1", 137, 0)];
        let text = sheet(&Job::default(), &pods, None, &[], Timestamp(100_000));
        let lines: Vec<String> = text.lines().map(squeezed).collect();
        let place = lines.iter().position(|line| line == "Attempts:").unwrap();
        assert_eq!(lines[place + 3], "a w1 Error 137 0 1970-01-01T00:00:00Z 2s", "{text}");
        assert_eq!(lines[place + 4], "b w2 Error 3 0 1970-01-01T00:01:00Z 2s", "{text}");
        assert!(
            lines.contains(&"Pods Statuses: 0 Active (0 Ready) / 0 Succeeded / 0 Failed".to_owned()),
            "{text}"
        );
    }

    #[test]
    fn only_the_newest_attempts_are_shown() {
        let pods: Vec<Pod> =
            (0..30).map(|number| ended(&format!("p{number:02}"), "w1", 1, number * 1_000)).collect();
        let text = sheet(&Job::default(), &pods, None, &[], Timestamp(100_000));
        assert!(!text.contains("p09") && text.contains("p10") && text.contains("p29"), "{text}");
        assert!(text.contains("Attempts (the newest; 10 or more before them)"), "{text}");
    }
}
