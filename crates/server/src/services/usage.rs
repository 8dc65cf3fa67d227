//! Pods.Usage and Nodes.Usage: what is used now, asked of the agents.
//!
//! Owns: which Pods and Nodes are shown. Does not own: the questions (`crate::usage`).

use stint_api::{NodeName, PodUid};
use stint_proto::{uid_from_wire, v1};
use tonic::Status;

use crate::error;
use crate::objects::{namespace_of, selector_of};
use crate::services::Context;
use crate::sessions::composed;
use crate::usage::ask;

/// See `proto/stint/v1/pods.proto`.
pub async fn of_pods(
    context: &Context,
    request: v1::PodUsageRequest,
) -> Result<v1::PodUsageResponse, Status> {
    let selector = selector_of(&request.label_selector)?;
    let namespace = namespace_of(request.namespace, request.all_namespaces);
    context.reads.confirm().await?;
    let sessions = context.sessions.all();
    let raft = &context.raft;
    let busy = sessions
        .into_iter()
        .filter(|session| raft.with_state(|state| !state.desired_pods(&session.node).is_empty()));
    let answers = ask(busy.collect(), true).await;
    let mut items = Vec::new();
    for (node, answer) in answers {
        for measured in answer.pods {
            // One that has ended since, or that the agent only thinks it has.
            let Ok(uid) = uid_from_wire::<PodUid>("podUid", &measured.pod_uid) else { continue };
            let Some(pod) = composed(raft, uid) else { continue };
            let is_here = pod.node_name.as_ref().is_some_and(|name| name.as_str() == node.as_str());
            let is_wanted = namespace.as_ref().is_none_or(|wanted| *wanted == pod.metadata.namespace)
                && (request.name.is_empty() || request.name == pod.metadata.name)
                && selector.matches(&pod.metadata.labels);
            if is_here && is_wanted {
                items.push(v1::PodUsage {
                    namespace: pod.metadata.namespace,
                    name: pod.metadata.name,
                    node_name: node.to_string(),
                    usage: measured.usage,
                });
            }
        }
    }
    items.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
    Ok(v1::PodUsageResponse { items })
}

/// See `proto/stint/v1/nodes.proto`.
pub async fn of_nodes(
    context: &Context,
    request: v1::NodeUsageRequest,
) -> Result<v1::NodeUsageResponse, Status> {
    context.reads.confirm().await?;
    let wanted = |name: &NodeName| request.name.is_empty() || request.name == name.as_str();
    let mut items: Vec<v1::NodeUsage> = context.raft.with_state(|state| {
        let nodes = state.nodes().filter(|node| wanted(&node.name));
        nodes
            .map(|node| v1::NodeUsage {
                name: node.name.to_string(),
                usage: None,
                capacity_cpu_millis: node.capacity.cpu_millis,
                capacity_memory_bytes: node.capacity.memory_bytes,
            })
            .collect()
    });
    if items.is_empty() && !request.name.is_empty() {
        return Err(error::not_found("nodes", &request.name));
    }
    let sessions = context.sessions.all().into_iter().filter(|session| wanted(&session.node));
    for (node, answer) in ask(sessions.collect(), false).await {
        if let Some(item) = items.iter_mut().find(|item| item.name == node.as_str()) {
            item.usage = answer.node;
        }
    }
    items.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(v1::NodeUsageResponse { items })
}
