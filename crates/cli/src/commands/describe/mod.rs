//! `describe`: one object with all that belongs to it.
//!
//! Owns: what is fetched for each kind, the parts that several kinds have in common. Does not own: alignment (`sheet`).

mod containers;
mod job;
mod last_lines;
mod node;
mod pod;

use self::last_lines::LastLines;
use anyhow::{Result, bail};
use std::process::ExitCode;
use stint_api::{ConditionStatus, Event, ObjectMeta, StringMap, Timestamp, table as words, time};
use stint_client::Scope;

use crate::arguments::Describe;
use crate::commands::target::{Kind, Target, targets};
use crate::commands::{Context, Failures, now};
use crate::output;
use crate::sheet::Sheet;

/// Pods of a Job or a node that are read at most: of more, only so many are looked at.
const PODS_READ_MAX: usize = 2_000;

/// `stint describe`.
pub async fn run(context: &Context, describe: &Describe) -> Result<ExitCode> {
    let targets = targets(&describe.targets)?;
    let mut failures = Failures::default();
    let mut is_first = true;
    for target in &targets {
        for name in names(context, target).await? {
            let text = match describe_one(context, target.kind, &name).await {
                Ok(text) => text,
                Err(error) => {
                    failures.tell(context, error).await;
                    continue;
                }
            };
            if !std::mem::take(&mut is_first) {
                output::line("\n")?;
            }
            output::line(&text)?;
        }
    }
    Ok(failures.exit_code())
}

/// The names that were given, or all.
async fn names(context: &Context, target: &Target) -> Result<Vec<String>> {
    if !target.names.is_empty() {
        return Ok(target.names.clone());
    }
    let scope = Scope { namespace: context.namespace().to_owned(), ..Scope::default() };
    let client = &context.client;
    let mut names: Vec<String> = match target.kind {
        Kind::Nodes => {
            client.list_nodes(&scope).await?.items.into_iter().map(|node| node.metadata.name).collect()
        }
        Kind::Jobs => {
            client.list_jobs(&scope).await?.items.into_iter().map(|job| job.metadata.name).collect()
        }
        Kind::Pods => {
            client.list_pods(&scope).await?.items.into_iter().map(|pod| pod.metadata.name).collect()
        }
        Kind::ConfigMaps | Kind::Events => Vec::new(),
    };
    names.sort();
    if names.is_empty() && matches!(target.kind, Kind::Nodes | Kind::Jobs | Kind::Pods) {
        output::note(&format!("no {} found", target.kind.plural()));
    }
    Ok(names)
}

async fn describe_one(context: &Context, kind: Kind, name: &str) -> Result<String> {
    let (client, namespace) = (&context.client, context.namespace());
    match kind {
        Kind::Nodes => {
            let node = client.get_node(name).await?;
            let on_node = Scope {
                all_namespaces: true,
                node_name: name.to_owned(),
                items_max: PODS_READ_MAX,
                ..Scope::default()
            };
            let mut pods = client.list_pods(&on_node).await?.items;
            pods.retain(|pod| !pod.status.phase.is_terminal());
            let events = events_of(context, "Node", &node.metadata).await?;
            Ok(node::sheet(&node, &pods, &events, now()))
        }
        Kind::Jobs => {
            let job = client.get_job(namespace, name).await?;
            let of_job = Scope {
                namespace: namespace.to_owned(),
                job_name: name.to_owned(),
                items_max: PODS_READ_MAX,
                ..Scope::default()
            };
            let pods = client.list_pods(&of_job).await?.items;
            let events = events_of(context, "Job", &job.metadata).await?;
            let last = LastLines::of_failed(client, &pods).await;
            Ok(job::sheet(&job, &pods, last.as_ref(), &events, now()))
        }
        Kind::Pods => {
            let pod = client.get_pod(namespace, name).await?;
            let mut events = events_of(context, "Pod", &pod.metadata).await?;
            events.extend(stint_api::story::of_pod(&pod));
            let last = LastLines::of_failed(client, std::slice::from_ref(&pod)).await;
            Ok(pod::sheet(&pod, last.as_ref(), &events, now()))
        }
        Kind::ConfigMaps | Kind::Events => {
            bail!("{} can't be described: nodes, jobs and pods can; see get -o yaml", kind.plural())
        }
    }
}

async fn events_of(context: &Context, kind: &str, object: &ObjectMeta) -> Result<Vec<Event>> {
    let scope = Scope {
        namespace: object.namespace.clone(),
        regarding_kind: kind.to_owned(),
        regarding_name: object.name.clone(),
        regarding_uid: if kind == "Node" { String::new() } else { object.uid.clone() },
        ..Scope::default()
    };
    Ok(context.client.list_events(&scope).await?.items)
}

/// Labels or annotations.
fn pairs(sheet: &mut Sheet, name: &str, map: &StringMap) {
    sheet.list(name, map.iter().map(|(key, value)| format!("{key}={value}")));
}

/// One condition of an object.
type Condition<'a> = (&'a str, ConditionStatus, Option<Timestamp>, &'a str, &'a str);

fn conditions<'a>(sheet: &mut Sheet, conditions: impl Iterator<Item = Condition<'a>>) {
    let rows = conditions.map(|(kind, status, changed_at, reason, message)| {
        vec![
            kind.to_owned(),
            status.as_str().to_owned(),
            moment(changed_at),
            reason.to_owned(),
            message.to_owned(),
        ]
    });
    sheet.table("Conditions", &["Type", "Status", "LastTransitionTime", "Reason", "Message"], rows.collect());
}

/// The oldest first.
fn events(sheet: &mut Sheet, events: &[Event], now: Timestamp) {
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by_key(|event| (event.last_timestamp, event.first_timestamp));
    let rows = events.iter().map(|event| {
        let age = match event.count {
            0 | 1 => words::age(Some(event.last_timestamp), now),
            count => {
                let (last, first) = (
                    words::age(Some(event.last_timestamp), now),
                    words::age(Some(event.first_timestamp), now),
                );
                format!("{last} (x{count} over {first})")
            }
        };
        let kind = event.event_type.as_str().to_owned();
        vec![kind, event.reason.clone(), age, event.source.clone(), event.message.clone()]
    });
    sheet.table("Events", &["Type", "Reason", "Age", "From", "Message"], rows.collect());
}

/// A moment as Kubernetes' objects carry it.
fn moment(at: Option<Timestamp>) -> String {
    at.map(time::format_seconds).unwrap_or_default()
}

fn seconds(count: impl std::fmt::Display) -> String {
    format!("{count}s")
}

#[cfg(test)]
fn test_event(reason: &str, count: u32, first: i64, last: i64) -> Event {
    Event {
        metadata: ObjectMeta::default(),
        regarding: stint_api::ObjectReference::default(),
        event_type: stint_api::EventType::Normal,
        reason: reason.to_owned(),
        message: format!("{reason} was it"),
        source: "test".to_owned(),
        count,
        first_timestamp: Timestamp(first),
        last_timestamp: Timestamp(last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_in_order_and_counted() {
        let mut sheet = Sheet::default();
        let told = [test_event("Second", 3, 1_000, 20_000), test_event("First", 1, 2_000, 2_000)];
        events(&mut sheet, &told, Timestamp(31_000));
        let expected = "\
Events:
  Type     Reason   Age                From   Message
  ----     ------   ---                ----   -------
  Normal   First    29s                test   First was it
  Normal   Second   11s (x3 over 30s)   test   Second was it";
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed(&sheet.finish()), squeezed(expected));
    }
}
