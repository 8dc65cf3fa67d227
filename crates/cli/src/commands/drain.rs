//! `drain`: cordons a node, stops its Pods, and shows how they end.
//!
//! Owns: waiting until the node is empty. Does not own: stopping (the core).

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use stint_api::{Pod, duration};
use stint_client::{Client, Scope};

use crate::arguments::Drain;
use crate::commands::job_watch::Outage;
use crate::commands::nodes::node_name;
use crate::output;
use crate::table::harmless;

/// How often a drained node's Pods are looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(300);
/// Pods that are named when several are waited for.
const PODS_NAMED_MAX: usize = 10;
/// Ends that are told one by one; of more only how many there were.
const ENDS_TOLD_MAX: usize = 200;

/// `stint drain`.
pub async fn run(client: &Client, drain: &Drain) -> Result<()> {
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
    let mut shown: Option<Shown> = None;
    loop {
        match client.list_pods(&of_node).await {
            Ok(listed) => {
                outage.is_over();
                let left = unfinished_of(&listed.items);
                match &mut shown {
                    Some(shown) => shown.update(left),
                    None if left.is_empty() || timeout.is_zero() => shown = Some(Shown::silent(left)),
                    None => shown = Some(Shown::begin(node, left)),
                }
                if shown.as_ref().is_some_and(|shown| shown.left.is_empty()) {
                    return Ok(());
                }
            }
            // --timeout says how long.
            Err(error) => outage.endure(error, timeout)?,
        }
        if begun.elapsed() >= timeout {
            let waited = duration::format_ms(timeout.as_millis().try_into().unwrap_or(u64::MAX));
            let left = shown.map_or_else(|| "unknown".to_owned(), |shown| names_of(&shown.left));
            bail!(
                "node {node:?} is cordoned and its pods are told to stop, but after {waited} some are left: {left}"
            );
        }
        tokio::time::sleep(POLL_INTERVAL.min(timeout.saturating_sub(begun.elapsed()))).await;
    }
}

/// What the user is shown while Pods end: a line for each, and on a terminal a bar below them.
struct Shown {
    left: BTreeSet<String>,
    n_told: usize,
    bar: Option<ProgressBar>,
}

impl Shown {
    /// For whoever does not wait.
    fn silent(left: BTreeSet<String>) -> Shown {
        Shown { left, n_told: 0, bar: None }
    }

    fn begin(node: &str, left: BTreeSet<String>) -> Shown {
        output::note(&format!("waiting for pods of node {node:?}: {}", names_of(&left)));
        // Draws nothing where stderr is no terminal.
        let bar = ProgressBar::with_draw_target(Some(left.len() as u64), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("[{bar:30}] {pos}/{len} pods have ended, {elapsed}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        Shown { left, n_told: 0, bar: Some(bar) }
    }

    /// Tells of each Pod that has ended.
    fn update(&mut self, left: BTreeSet<String>) {
        let Some(bar) = &self.bar else {
            self.left = left;
            return;
        };
        let ended: Vec<String> = self.left.difference(&left).cloned().collect();
        bar.inc(ended.len() as u64);
        let mut to_go = self.left.len();
        for name in &ended {
            to_go -= 1;
            if self.n_told < ENDS_TOLD_MAX {
                self.n_told += 1;
                bar.suspend(|| output::note(&format!("pod {} has ended, {to_go} left", harmless(name))));
            }
        }
        self.left = left;
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Names of the Pods that have not ended, in order.
fn unfinished_of(pods: &[Pod]) -> BTreeSet<String> {
    let unfinished = pods.iter().filter(|pod| !pod.status.phase.is_terminal());
    unfinished.map(|pod| format!("{}/{}", pod.metadata.namespace, pod.metadata.name)).collect()
}

/// A few of them, and how many more there are.
fn names_of(names: &BTreeSet<String>) -> String {
    let named: Vec<&str> = names.iter().take(PODS_NAMED_MAX).map(String::as_str).collect();
    let named = named.join(", ");
    match names.len().saturating_sub(PODS_NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
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
        let left: Vec<String> = unfinished_of(&pods).into_iter().collect();
        assert_eq!(left, ["team/a", "team/d"]);
    }

    #[test]
    fn many_pods_are_not_all_named() {
        let names: BTreeSet<String> =
            (0..PODS_NAMED_MAX + 2).map(|number| format!("n/{number:02}")).collect();
        assert_eq!(names_of(&names.iter().take(2).cloned().collect()), "n/00, n/01");
        assert!(names_of(&names).ends_with("n/09 and 2 more"), "{}", names_of(&names));
    }

    #[test]
    fn each_end_is_told_once() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let mut shown = Shown::begin("w1", set(&["n/a", "n/b", "n/c"]));
        shown.update(set(&["n/a", "n/c"]));
        shown.update(set(&["n/a", "n/c"]));
        assert_eq!((shown.n_told, shown.left.len()), (1, 2));
        shown.update(BTreeSet::new());
        assert_eq!((shown.n_told, shown.left.len()), (3, 0));
    }
}
