//! `history`: everything that was decided about a Job, in order.
//!
//! Owns: how it is shown. Does not own: what was decided (the servers keep it).

use anyhow::Result;
use serde_json::json;
use stint_api::time;
use stint_client::{moment, v1};

use crate::arguments::{History, TextFormat};
use crate::commands::Context;
use crate::commands::target::job_name;
use crate::output;
use crate::table::Lines;

/// `stint history`.
pub async fn run(context: &Context, history: &History) -> Result<()> {
    let name = job_name(&history.target)?;
    let told = context.client.job_history(context.namespace(), name).await?;
    match history.output {
        TextFormat::Text => output::line(&text(&told))?,
        TextFormat::Json => {
            let decisions: Vec<_> = told
                .decisions
                .iter()
                .map(|one| {
                    json!({
                        "time": moment(one.time).map(time::format_micros),
                        "reason": one.reason,
                        "message": one.message,
                        "by": one.by,
                        "podName": one.pod_name,
                        "count": one.count,
                    })
                })
                .collect();
            let whole = json!({
                "jobUid": told.job_uid,
                "decisions": decisions,
                "forgotten": told.forgotten,
                "morePods": told.more_pods,
            });
            return output::line(&serde_json::to_string_pretty(&whole)?);
        }
    }
    if told.forgotten > 0 {
        output::note(&format!(
            "{} earlier decisions are forgotten: a job keeps its last hundred that no pod tells of",
            told.forgotten
        ));
    }
    if told.more_pods {
        output::note(&format!(
            "job {name:?} has more pods than are told of here: stint tree job/{name} --all shows them"
        ));
    }
    Ok(())
}

fn text(told: &v1::HistoryResponse) -> String {
    let rows = told.decisions.iter().map(|one| {
        let at = moment(one.time).map(milliseconds).unwrap_or_default();
        let message = match one.count {
            0 | 1 => one.message.clone(),
            count => format!("{} (and {} more like it)", one.message, count - 1),
        };
        vec![at, one.reason.clone(), one.by.clone(), one.pod_name.clone(), message]
    });
    Lines::default().of(&["TIME", "WHAT", "BY", "POD", "HOW AND WHY"], rows.collect())
}

/// A moment to the millisecond: several decisions fall into one second.
fn milliseconds(at: stint_api::Timestamp) -> String {
    let text = time::format_micros(at);
    match text.strip_suffix("000Z") {
        Some(short) => format!("{short}Z"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn decisions_are_told_one_per_line() {
        let decision = |seconds: u64, reason: &str, by: &str, pod: &str, count| v1::Decision {
            time: Some((UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 5)).into()),
            reason: reason.to_owned(),
            message: "it\nwas so".to_owned(),
            pod_name: pod.to_owned(),
            by: by.to_owned(),
            count,
        };
        let told = v1::HistoryResponse {
            decisions: vec![
                decision(0, "Created", "client", "", 1),
                decision(61, "PodFailed", "agent of w1", "a-1", 3),
            ],
            ..v1::HistoryResponse::default()
        };
        let expected = "\
TIME                       WHAT        BY            POD   HOW AND WHY
1970-01-01T00:00:00.005Z   Created     client              it\\nwas so
1970-01-01T00:01:01.005Z   PodFailed   agent of w1   a-1   it\\nwas so (and 2 more like it)";
        assert_eq!(text(&told), expected);
    }
}
