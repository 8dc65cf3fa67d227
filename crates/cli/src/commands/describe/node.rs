//! A node: what it is, what it guarantees, what it offers and what is taken of it, what runs there.

use stint_api::{ConditionStatus, Event, Node, NodeCapacity, NodeOffer, Pod, Timestamp, table as words};

use super::{conditions, events, moment, pairs};
use crate::sheet::Sheet;

/// Begins the labels that say what a node is for.
const ROLE_LABEL_PREFIX: &str = "node-role.kubernetes.io/";
/// Ends the conditions by which a node says that it guarantees less.
const REDUCED: [&str; 2] = ["Degraded", "NotEnforced"];

pub fn sheet(node: &Node, pods: &[Pod], told: &[Event], now: Timestamp) -> String {
    let mut sheet = Sheet::default();
    let labels = &node.metadata.labels;
    sheet.field("Name", &node.metadata.name);
    sheet.list(
        "Roles",
        labels.keys().filter_map(|key| key.strip_prefix(ROLE_LABEL_PREFIX)).map(str::to_owned),
    );
    pairs(&mut sheet, "Labels", labels);
    pairs(&mut sheet, "Annotations", &node.metadata.annotations);
    sheet.field("CreationTimestamp", moment(node.metadata.creation_timestamp));
    sheet.field("Unschedulable", node.unschedulable.to_string());
    sheet.field(
        "Lease",
        match node.incarnation.0 {
            0 => "expired: its Pods are lost".to_owned(),
            incarnation => format!("held, incarnation {incarnation}"),
        },
    );
    sheet.list("Runtimes", runtimes(node));
    let allows = node.features.iter().filter(|word| NodeOffer::is_for_people(word));
    sheet.list("Allows", allows.cloned());
    sheet.field("Guarantees", guarantees(node));
    conditions(
        &mut sheet,
        node.conditions.iter().map(|one| {
            let (kind, reason, message) = (&one.condition_type, &one.reason, &one.message);
            (kind.as_str(), one.status, one.last_transition_time, reason.as_str(), message.as_str())
        }),
    );
    sheet.part("Addresses", |sheet| {
        for address in &node.info.addresses {
            sheet.field("InternalIP", address);
        }
        sheet.field("Hostname", &node.metadata.name);
    });
    capacity(&mut sheet, node);
    system(&mut sheet, node);
    running(&mut sheet, pods, now);
    events(&mut sheet, told, now);
    sheet.finish()
}

fn runtimes(node: &Node) -> Vec<String> {
    let named = |(place, name): (usize, &String)| match place {
        0 => format!("{name} (of Pods that name none, unless the cluster's default is another)"),
        _ => name.clone(),
    };
    node.runtimes.iter().enumerate().map(named).collect()
}

/// In one line what the conditions say at length.
fn guarantees(node: &Node) -> String {
    let reduced = |kind: &&str| REDUCED.iter().any(|end| kind.ends_with(end));
    let holding = node.conditions.iter().filter(|condition| condition.status == ConditionStatus::True);
    let kinds = holding.map(|condition| condition.condition_type.as_str());
    let kinds: Vec<&str> = kinds.filter(reduced).collect();
    match &kinds[..] {
        [] => "all: fencing, isolation and limits as documented".to_owned(),
        kinds => format!("fewer: {}; see Conditions", kinds.join(", ")),
    }
}

fn capacity(sheet: &mut Sheet, node: &Node) {
    let NodeCapacity { cpu_millis, memory_bytes, pods } = node.capacity;
    let taken = &node.requested;
    let share = |taken: u64, of: u64| {
        (u128::from(taken) * 100)
            .checked_div(u128::from(of))
            .map_or_else(String::new, |share| format!("{share}%"))
    };
    let row = |name: &str, capacity: String, requests: String, share: String| {
        vec![name.to_owned(), capacity, requests, share]
    };
    let rows = vec![
        row("cpu", millis(cpu_millis), millis(taken.cpu_millis), share(taken.cpu_millis, cpu_millis)),
        row(
            "memory",
            bytes(memory_bytes),
            bytes(taken.memory_bytes),
            share(taken.memory_bytes, memory_bytes),
        ),
        row("pods", pods.to_string(), taken.pods.to_string(), share(taken.pods.into(), pods.into())),
    ];
    sheet.table("Capacity", &["Resource", "Capacity", "Requests", "Share"], rows);
}

fn system(sheet: &mut Sheet, node: &Node) {
    let info = &node.info;
    sheet.part("System Info", |sheet| {
        sheet.field("Node UID", &node.node_uid);
        sheet.field("Boot ID", &node.boot_id);
        sheet.field("Kernel Version", known(&info.kernel_version));
        sheet.field("OS Image", known(&info.os_image));
        sheet.field("Operating System", known(&info.operating_system));
        sheet.field("Architecture", known(&info.architecture));
        sheet.field("Agent Version", &node.agent_version);
    });
}

fn running(sheet: &mut Sheet, pods: &[Pod], now: Timestamp) {
    let rows = pods.iter().map(|pod| {
        vec![
            pod.metadata.namespace.clone(),
            pod.metadata.name.clone(),
            words::pod_status(pod),
            words::pod_restarts(pod).to_string(),
            words::age(pod.metadata.creation_timestamp, now),
        ]
    });
    let titles = ["Namespace", "Name", "Status", "Restarts", "Age"];
    sheet.table(&format!("Unfinished Pods ({})", pods.len()), &titles, rows.collect());
}

fn known(text: &str) -> &str {
    if text.is_empty() { "<unknown>" } else { text }
}

fn millis(millis: u64) -> String {
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

fn bytes(bytes: u64) -> String {
    format!("{}Mi", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::{ConditionStatus, Incarnation, NodeCondition, NodeInfo, ObjectMeta};

    fn condition(kind: &str, message: &str) -> NodeCondition {
        NodeCondition {
            condition_type: kind.to_owned(),
            status: ConditionStatus::True,
            last_transition_time: None,
            reason: kind.to_owned(),
            message: message.to_owned(),
        }
    }

    #[test]
    fn a_node_says_what_it_is_and_what_it_lacks() {
        let mut node = Node {
            metadata: ObjectMeta { name: "w1".to_owned(), ..ObjectMeta::default() },
            capacity: NodeCapacity { cpu_millis: 4_000, memory_bytes: 8 << 30, pods: 110 },
            requested: NodeCapacity { cpu_millis: 1_500, memory_bytes: 1 << 30, pods: 2 },
            conditions: vec![condition("Ready", "the agent holds a live lease")],
            incarnation: Incarnation(7),
            runtimes: vec!["process".to_owned(), "oci".to_owned()],
            features: vec!["images".to_owned()],
            info: NodeInfo { addresses: vec!["10.0.0.7".to_owned()], ..NodeInfo::default() },
            ..Node::default()
        };
        let text = sheet(&node, &[], &[], Timestamp(0));
        let has = |text: &str, words: &str| {
            let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(text.lines().any(|line| squeezed(line) == words), "{words} is not in\n{text}");
        };
        has(&text, "Lease: held, incarnation 7");
        has(&text, "Allows: images");
        has(&text, "Guarantees: all: fencing, isolation and limits as documented");
        has(&text, "InternalIP: 10.0.0.7");
        has(&text, "cpu 4 1500m 37%");
        has(&text, "memory 8192Mi 1024Mi 12%");
        has(&text, "pods 110 2 1%");
        has(&text, "OS Image: <unknown>");
        has(&text, "Unfinished Pods (0): <none>");
        node.conditions.push(condition("FencingDegraded", "no namespaces"));
        node.conditions.push(condition("LimitsNotEnforced", "no cgroups"));
        node.conditions.push(NodeCondition {
            status: ConditionStatus::False,
            ..condition("IsolationDegraded", "it was")
        });
        node.incarnation = Incarnation(0);
        let text = sheet(&node, &[], &[], Timestamp(0));
        has(&text, "Lease: expired: its Pods are lost");
        has(&text, "Guarantees: fewer: FencingDegraded, LimitsNotEnforced; see Conditions");
        has(&text, "FencingDegraded True FencingDegraded no namespaces");
        has(&text, "IsolationDegraded False IsolationDegraded it was");
    }
}
