//! `explain`: why a Job or a Pod does not run, or what of it runs.
//!
//! Owns: how it is shown. Does not own: what is true of it (the servers say so).

use anyhow::{Result, bail};
use serde_json::{Value, json};
use stint_api::time;
use stint_client::{PodTarget, moment, v1};

use crate::arguments::{Explain, TextFormat};
use crate::commands::Context;
use crate::commands::target::{Kind, kind_and_name};
use crate::output;
use crate::table::harmless;

/// `stint explain`.
pub async fn run(context: &Context, explain: &Explain) -> Result<()> {
    let target = target(&explain.target)?;
    let told = context.client.explain(context.namespace(), &target).await?;
    match explain.output {
        TextFormat::Text => output::line(&text(&told)),
        TextFormat::Json => output::line(&serde_json::to_string_pretty(&json(&told))?),
    }
}

/// A name alone is a Job's.
fn target(text: &str) -> Result<PodTarget> {
    match text.contains('/').then(|| kind_and_name(text)).transpose()? {
        None => Ok(PodTarget::Job(text.to_owned())),
        Some((Kind::Jobs, Some(name))) => Ok(PodTarget::Job(name.to_owned())),
        Some((Kind::Pods, Some(name))) => Ok(PodTarget::Pod(name.to_owned())),
        Some(_) => bail!("{text:?} can't be explained: give job/NAME or pod/NAME"),
    }
}

fn text(told: &v1::Explanation) -> String {
    let mut lines = vec![harmless(&told.summary)];
    for reason in &told.reasons {
        let mut line = format!("  {}: {}", harmless(&reason.reason), harmless(&reason.message));
        if !reason.pod_names.is_empty() {
            line.push_str(&format!(" [{}]", names(&reason.pod_names, reason.pods)));
        }
        if let Some(until) = moment(reason.until) {
            line.push_str(&format!(" (until {})", time::format_seconds(until)));
        }
        lines.push(line);
    }
    if let Some(placement) = &told.placement {
        lines.push(format!("It asks a node for {}.", harmless(&placement.asks.join(", "))));
        lines.push(match placement.nodes {
            0 => "The cluster has no nodes.".to_owned(),
            nodes => format!("Of {} none takes it:", counted(nodes, "node")),
        });
        for objection in &placement.objections {
            let names = names(&objection.node_names, objection.nodes);
            lines.push(format!(
                "  {}: {} [{names}]",
                harmless(&objection.requirement),
                harmless(&objection.message)
            ));
        }
        let more = if placement.more_ahead { " or more" } else { "" };
        lines.push(match placement.pods_ahead {
            0 => "No other pod that waits comes before it.".to_owned(),
            1 => "1 pod that waits comes before it.".to_owned(),
            ahead => format!("{ahead}{more} pods that wait come before it."),
        });
    }
    lines.join("\n")
}

fn counted(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Those that are named, and a sign that there are more.
fn names(names: &[String], count: u32) -> String {
    let more = if (names.len() as u64) < u64::from(count) { ", …" } else { "" };
    format!("{}{more}", harmless(&names.join(", ")))
}

fn json(told: &v1::Explanation) -> Value {
    let at = |known| moment(known).map(time::format_micros);
    json!({
        "state": told.state,
        "summary": told.summary,
        "time": at(told.time),
        "reasons": told.reasons.iter().map(|reason| json!({
            "reason": reason.reason,
            "message": reason.message,
            "until": at(reason.until),
            "pods": reason.pods,
            "podNames": reason.pod_names,
        })).collect::<Vec<_>>(),
        "placement": told.placement.as_ref().map(|placement| json!({
            "asks": placement.asks,
            "nodes": placement.nodes,
            "podsAhead": placement.pods_ahead,
            "moreAhead": placement.more_ahead,
            "objections": placement.objections.iter().map(|objection| json!({
                "requirement": objection.requirement,
                "message": objection.message,
                "nodes": objection.nodes,
                "nodeNames": objection.node_names,
            })).collect::<Vec<_>>(),
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_waits_is_told_what_it_asks_for_and_who_comes_before_it() {
        let told = v1::Explanation {
            state: "Waiting".to_owned(),
            summary: "job a does not run: 4 pods wait for a node".to_owned(),
            reasons: vec![v1::Reason {
                reason: "WaitingForNode".to_owned(),
                message: "4 pods wait for a node".to_owned(),
                until: None,
                pods: 4,
                pod_names: vec!["a-1".to_owned(), "a-2".to_owned()],
            }],
            placement: Some(v1::Placement {
                asks: vec!["cpu 3".to_owned(), "memory 0".to_owned()],
                nodes: 2,
                objections: vec![v1::Objection {
                    requirement: "Cordoned".to_owned(),
                    message: "2 nodes are cordoned".to_owned(),
                    nodes: 2,
                    node_names: vec!["w1".to_owned(), "w2".to_owned()],
                }],
                pods_ahead: 3,
                more_ahead: false,
            }),
            time: None,
        };
        let expected = "\
job a does not run: 4 pods wait for a node
  WaitingForNode: 4 pods wait for a node [a-1, a-2, …]
It asks a node for cpu 3, memory 0.
Of 2 nodes none takes it:
  Cordoned: 2 nodes are cordoned [w1, w2]
3 pods that wait come before it.";
        assert_eq!(text(&told), expected);
        assert_eq!(json(&told)["placement"]["objections"][0]["nodes"], 2);
    }

    #[test]
    fn jobs_and_pods_can_be_explained() {
        assert_eq!(target("a").unwrap(), PodTarget::Job("a".to_owned()));
        assert_eq!(target("job/a").unwrap(), PodTarget::Job("a".to_owned()));
        assert_eq!(target("po/a").unwrap(), PodTarget::Pod("a".to_owned()));
        for text in ["node/a", "job/", "cm/x", "job/a/b", "x/y"] {
            assert!(target(text).is_err(), "{text}");
        }
    }
}
