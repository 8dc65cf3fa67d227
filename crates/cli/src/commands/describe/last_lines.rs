//! The last words of what failed.

use std::time::Duration;
use stint_api::{ContainerState, Pod, PodPhase};
use stint_client::{Client, LogsRequest, PodTarget};

use crate::sheet::Sheet;

/// Lines that are shown.
const LINES: u64 = 10;
/// Bytes that are read of them: lines may be long.
const BYTES_MAX: usize = 8 << 10;
/// How long a node may take to say: the rest is worth showing without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a container wrote last, or why that is not known.
#[derive(Debug, PartialEq, Eq)]
pub struct LastLines {
    pod: String,
    container: String,
    lines: Result<Vec<String>, String>,
}

impl LastLines {
    /// Of the newest of these Pods that failed, and of the container that made it fail; none if none did.
    pub async fn of_failed(client: &Client, pods: &[Pod]) -> Option<LastLines> {
        let failed = pods.iter().filter(|pod| pod.status.phase == PodPhase::Failed);
        let pod = failed.max_by_key(|pod| (pod.metadata.creation_timestamp, pod.metadata.name.clone()))?;
        let container = failed_container(pod)?;
        let mut wanted = LogsRequest::new(&pod.metadata.namespace, PodTarget::Pod(pod.metadata.name.clone()));
        wanted.container = container.clone();
        wanted.tail_lines = Some(LINES);
        let lines = match tokio::time::timeout(PATIENCE, read(client, &wanted)).await {
            Ok(Ok(lines)) => Ok(lines),
            Ok(Err(error)) if error.is_not_found() => Err(format!("the output is gone: {error}")),
            Ok(Err(error)) => Err(format!("the output can't be read: {error}")),
            Err(_) => Err(format!("the output can't be read: no answer for {} s", PATIENCE.as_secs())),
        };
        Some(LastLines { pod: pod.metadata.name.clone(), container, lines })
    }

    /// Adds them, or says what became of them.
    pub fn show(&self, sheet: &mut Sheet) {
        let name = format!("Last Log Lines (pod {}, container {})", self.pod, self.container);
        match &self.lines {
            Ok(lines) if lines.is_empty() => sheet.field(&name, "<none>"),
            Ok(lines) => sheet.text(&name, lines.iter().cloned()),
            Err(why) => sheet.field(&name, format!("<{why}>")),
        }
    }
}

/// The container that went wrong first; without one that did the first that has run.
fn failed_container(pod: &Pod) -> Option<String> {
    let statuses = pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses);
    let ends = statuses.filter_map(|status| match &status.state {
        ContainerState::Terminated(end) => Some((end.exit_code == 0, end.finished_at, &status.name)),
        _ => None,
    });
    ends.min_by_key(|(is_well, finished_at, _)| (*is_well, *finished_at)).map(|(_, _, name)| name.clone())
}

async fn read(client: &Client, wanted: &LogsRequest) -> Result<Vec<String>, stint_client::Error> {
    let mut stream = client.logs(wanted).await?;
    let mut bytes: Vec<u8> = Vec::new();
    while let Some(piece) = stream.next().await? {
        bytes.extend_from_slice(&piece);
        // The end is what is wanted.
        if bytes.len() > BYTES_MAX {
            bytes.drain(..bytes.len() - BYTES_MAX);
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().map(|line| line.trim_end().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_read_is_said() {
        let shown = |lines| {
            let mut sheet = Sheet::default();
            LastLines { pod: "a-1".to_owned(), container: "main".to_owned(), lines }.show(&mut sheet);
            sheet.finish()
        };
        assert_eq!(
            shown(Ok(vec!["one".to_owned(), "tw\u{1b}o".to_owned()])),
            "Last Log Lines (pod a-1, container main):\n  one\n  tw\\u{1b}o"
        );
        assert!(shown(Ok(Vec::new())).ends_with("<none>"));
        assert!(
            shown(Err("the output is gone: node w1".to_owned())).ends_with("<the output is gone: node w1>")
        );
    }
}
