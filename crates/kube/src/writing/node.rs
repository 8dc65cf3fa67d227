//! Nodes.

use serde_json::{Value, json};
use stint_api::{Node, NodeCapacity, StringMap};

use super::Object;
use super::meta::{metadata, seconds};

/// Annotation with the node's registration (decision 7).
const INCARNATION: &str = "stint.dev/incarnation";
/// Annotations with what unfinished Pods have requested; Kubernetes' clients add that up themselves.
const REQUESTED: [&str; 3] =
    ["stint.dev/requested-cpu", "stint.dev/requested-memory", "stint.dev/requested-pods"];
/// Annotation with the runtimes that the agent offers.
const RUNTIMES: &str = "stint.dev/runtimes";

/// The Node as Kubernetes' `v1` Node. What Kubernetes has no field for is shown as annotations `stint.dev/…`.
pub fn node_to_json(node: &Node) -> Value {
    let mut meta = node.metadata.clone();
    meta.annotations.extend(annotations(node));
    let mut spec = Object::new();
    if node.unschedulable {
        spec.set("unschedulable", true);
        spec.set("taints", json!([{ "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" }]));
    }
    let conditions = node.conditions.iter().map(|condition| {
        let mut object = Object::new();
        object.set("type", condition.condition_type.as_str());
        object.set("status", condition.status.as_str());
        object.set_some("lastTransitionTime", condition.last_transition_time.map(seconds));
        object.set_filled("reason", condition.reason.as_str());
        object.set_filled("message", condition.message.as_str());
        Value::from(object)
    });
    let conditions: Vec<Value> = conditions.collect();
    let info = &node.info;
    // Agents run on nothing else.
    let operating_system =
        if info.operating_system.is_empty() { "linux" } else { info.operating_system.as_str() };
    let addresses = info.addresses.iter().map(|address| json!({"type": "InternalIP", "address": address}));
    let hostname = json!({"type": "Hostname", "address": node.metadata.name});
    let addresses: Vec<Value> = addresses.chain([hostname]).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": Value::from(metadata(&meta)),
        "spec": Value::from(spec),
        "status": {
            "capacity": capacity(&node.capacity),
            "allocatable": capacity(&node.capacity),
            "conditions": conditions,
            "addresses": addresses,
            "nodeInfo": {
                "architecture": info.architecture,
                "bootID": node.boot_id,
                "containerRuntimeVersion": "",
                "kernelVersion": info.kernel_version,
                "kubeProxyVersion": "",
                "kubeletVersion": node.agent_version,
                "machineID": node.node_uid,
                "operatingSystem": operating_system,
                "osImage": info.os_image,
                "systemUUID": "",
            },
        },
    })
}

fn annotations(node: &Node) -> StringMap {
    let [cpu, memory, pods] = REQUESTED;
    let requested = &node.requested;
    let mut annotations = StringMap::from([
        (cpu.to_owned(), cpu_text(requested.cpu_millis)),
        (memory.to_owned(), memory_text(requested.memory_bytes)),
        (pods.to_owned(), requested.pods.to_string()),
    ]);
    if node.incarnation.0 > 0 {
        annotations.insert(INCARNATION.to_owned(), node.incarnation.to_string());
    }
    if !node.runtimes.is_empty() {
        annotations.insert(RUNTIMES.to_owned(), node.runtimes.join(","));
    }
    annotations
}

fn capacity(capacity: &NodeCapacity) -> Value {
    json!({
        "cpu": cpu_text(capacity.cpu_millis),
        "memory": memory_text(capacity.memory_bytes),
        "pods": capacity.pods.to_string(),
    })
}

fn cpu_text(millis: u64) -> String {
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

fn memory_text(bytes: u64) -> String {
    if bytes > 0 && bytes.is_multiple_of(1024) { format!("{}Ki", bytes / 1024) } else { bytes.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::Quantity;

    #[test]
    fn amounts_are_quantities() {
        for (text, millis) in [(cpu_text(4000), 4000), (cpu_text(1500), 1500), (cpu_text(0), 0)] {
            assert_eq!(Quantity::parse(&text).unwrap().millis(), millis, "{text}");
        }
        for bytes in [0, 1, 1023, 1024, 8 << 30] {
            assert_eq!(Quantity::parse(&memory_text(bytes)).unwrap().units(), i128::from(bytes));
        }
    }
}
