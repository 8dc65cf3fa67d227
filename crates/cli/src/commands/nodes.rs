//! `cordon`, `uncordon` and `drain`.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};
use stint_api::{Pod, duration};
use stint_client::{Client, Scope};

use crate::arguments::Drain;
use crate::commands::job_watch::Outage;
use crate::commands::target::{Kind, kind_and_name};
use crate::output;

/// How often a drained node's Pods are looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(300);
/// Pods that are named when several are waited for.
const PODS_NAMED_MAX: usize = 10;

/// `stint cordon`.
pub async fn cordon(client: &Client, node: &str) -> Result<()> {
    let name = node_name(node)?;
    client.cordon_node(name).await?;
    output::line(&format!("node/{name} cordoned"))
}

/// `stint uncordon`.
pub async fn uncordon(client: &Client, node: &str) -> Result<()> {
    let name = node_name(node)?;
    client.uncordon_node(name).await?;
    output::line(&format!("node/{name} uncordoned"))
}

/// `stint drain`.
pub async fn drain(client: &Client, drain: &Drain) -> Result<()> {
    let name = node_name(&drain.node)?;
    client.drain_node(name).await?;
    if drain.no_wait {
        return output::line(&format!("node/{name} draining"));
    }
    wait_until_empty(client, name, drain.timeout).await?;
    output::line(&format!("node/{name} drained"))
}

/// Returns when no Pod of the node is left that has not ended. It is cordoned: no new ones come.
async fn wait_until_empty(client: &Client, node: &str, timeout: Duration) -> Result<()> {
    let begun = Instant::now();
    let of_node = Scope { all_namespaces: true, node_name: node.to_owned(), ..Scope::default() };
    let mut outage = Outage::default();
    let mut left: Option<Vec<String>> = None;
    loop {
        match client.list_pods(&of_node).await {
            Ok(listed) => {
                outage.is_over();
                let unfinished = unfinished_of(&listed.items);
                if unfinished.is_empty() {
                    return Ok(());
                }
                if left.is_none() && !timeout.is_zero() {
                    output::note(&format!("waiting for pods of node {node:?}: {}", names_of(&unfinished)));
                }
                left = Some(unfinished);
            }
            // --timeout says how long.
            Err(error) => outage.endure(error, timeout)?,
        }
        if begun.elapsed() >= timeout {
            let waited = duration::format_ms(timeout.as_millis().try_into().unwrap_or(u64::MAX));
            let left = left.map_or_else(|| "unknown".to_owned(), |names| names_of(&names));
            bail!(
                "node {node:?} is cordoned and its pods are told to stop, but after {waited} some are left: {left}"
            );
        }
        tokio::time::sleep(POLL_INTERVAL.min(timeout.saturating_sub(begun.elapsed()))).await;
    }
}

/// Names of the Pods that have not ended, in order.
fn unfinished_of(pods: &[Pod]) -> Vec<String> {
    let unfinished = pods.iter().filter(|pod| !pod.status.phase.is_terminal());
    let mut names: Vec<String> =
        unfinished.map(|pod| format!("{}/{}", pod.metadata.namespace, pod.metadata.name)).collect();
    names.sort();
    names
}

/// A few of them, and how many more there are.
fn names_of(names: &[String]) -> String {
    let named = names[..names.len().min(PODS_NAMED_MAX)].join(", ");
    match names.len().saturating_sub(PODS_NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Of NAME or node/NAME.
fn node_name(text: &str) -> Result<&str> {
    match text.contains('/').then(|| kind_and_name(text)).transpose()? {
        None => Ok(text),
        Some((Kind::Nodes, Some(name))) => Ok(name),
        Some(_) => bail!("{text:?} is not a node: write its name, or node/NAME"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::{ObjectMeta, PodPhase, PodStatus};

    #[test]
    fn a_drain_waits_for_the_pods_that_have_not_ended() {
        let pod = |name: &str, phase| {
            let metadata =
                ObjectMeta { namespace: "team".to_owned(), name: name.to_owned(), ..ObjectMeta::default() };
            Pod {
                metadata,
                spec: Default::default(),
                node_name: None,
                completion_index: None,
                binding_revision: None,
                status: PodStatus { phase, ..PodStatus::default() },
            }
        };
        let pods = [
            pod("d", PodPhase::Running),
            pod("c", PodPhase::Failed),
            pod("b", PodPhase::Succeeded),
            pod("a", PodPhase::Pending),
        ];
        assert_eq!(unfinished_of(&pods), ["team/a", "team/d"]);
    }

    #[test]
    fn many_pods_are_not_all_named() {
        let names: Vec<String> = (0..PODS_NAMED_MAX + 2).map(|number| format!("n/{number}")).collect();
        assert_eq!(names_of(&names[..2]), "n/0, n/1");
        assert!(names_of(&names).ends_with("n/9 and 2 more"), "{}", names_of(&names));
    }
}
