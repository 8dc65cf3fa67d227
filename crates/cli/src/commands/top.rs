//! `top`.

use anyhow::Result;
use stint_client::v1;

use crate::arguments::Top;
use crate::commands::Context;
use crate::output;
use crate::table::Lines;

/// What is not known.
const UNKNOWN: &str = "<unknown>";

/// `stint top`.
pub async fn run(context: &Context, top: &Top) -> Result<()> {
    match top {
        Top::Pods { name, selector, all_namespaces } => {
            let request = v1::PodUsageRequest {
                namespace: context.namespace().to_owned(),
                all_namespaces: *all_namespaces,
                label_selector: selector.clone(),
                name: name.clone().unwrap_or_default(),
            };
            let pods = context.client.pod_usage(&request).await?;
            if pods.is_empty() {
                output::note("no pod that runs and can be measured was found");
                return Ok(());
            }
            let titles = ["NAMESPACE", "NAME", "CPU(cores)", "MEMORY(bytes)"];
            let skipped = usize::from(!all_namespaces);
            let rows = pods.into_iter().map(|pod| {
                let usage = pod.usage.unwrap_or_default();
                let cells = [pod.namespace, pod.name, cpu(usage.cpu_millis), memory(usage.memory_bytes)];
                cells.into_iter().skip(skipped).collect()
            });
            output::line(&Lines::default().of(&titles[skipped..], rows.collect()))
        }
        Top::Nodes { name } => {
            let nodes = context.client.node_usage(name.as_deref().unwrap_or_default()).await?;
            if nodes.is_empty() {
                output::note("the cluster has no nodes");
                return Ok(());
            }
            let titles = ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"];
            output::line(&Lines::default().of(&titles, nodes.into_iter().map(node_cells).collect()))
        }
    }
}

fn node_cells(node: v1::NodeUsage) -> Vec<String> {
    let Some(usage) = node.usage else {
        return std::iter::once(node.name).chain(std::iter::repeat_n(UNKNOWN.to_owned(), 4)).collect();
    };
    vec![
        node.name,
        cpu(usage.cpu_millis),
        share(usage.cpu_millis, node.capacity_cpu_millis),
        memory(usage.memory_bytes),
        share(usage.memory_bytes, node.capacity_memory_bytes),
    ]
}

fn cpu(millis: u64) -> String {
    format!("{millis}m")
}

fn memory(bytes: u64) -> String {
    format!("{}Mi", bytes >> 20)
}

/// In hundredths of what there is.
fn share(used: u64, of: u64) -> String {
    match of {
        0 => UNKNOWN.to_owned(),
        of => format!("{}%", u128::from(used) * 100 / u128::from(of)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_shown_as_kubernetes_users_know_it() {
        assert_eq!(
            (cpu(250), memory(3 << 20), share(1, 4), share(1, 0)),
            ("250m".into(), "3Mi".into(), "25%".into(), UNKNOWN.into())
        );
        let silent = v1::NodeUsage { name: "w1".to_owned(), ..v1::NodeUsage::default() };
        assert_eq!(node_cells(silent).len(), 5);
    }
}
