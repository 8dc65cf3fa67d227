//! Nodes: registration (A2), expiry (A6, D2), cordon, drain, where Pods may be bound.

use std::collections::BTreeMap;

use stint_api::{ConditionStatus, Incarnation, NodeCondition, NodeUid};
use stint_core::testing::Rows;
use stint_core::{ExpireNode, PodRecord, RegisterNode, RejectionReason, Reply, ReportNodeConditions};

use super::containers::{Container, ask};
use super::pods::{Pod, Stop};
use super::{Naive, done, refused};

/// A node.
#[derive(Debug, Clone)]
pub struct Node {
    pub node_uid: NodeUid,
    pub boot: String,
    pub number: u64,
    pub nonce: u64,
    pub incarnation: Incarnation,
    pub live: bool,
    pub cordoned: bool,
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    pub pods: u32,
    pub labels: BTreeMap<String, String>,
    pub disk_pressure: bool,
    pub memory_pressure: bool,
}

impl Naive {
    /// A2.
    pub(super) fn register(&mut self, register: &RegisterNode, reply: &Reply) {
        let name = register.node.as_str().to_owned();
        if register.cluster_id.is_some_and(|cluster| cluster.0 != 5) {
            return refused(reply, RejectionReason::OtherCluster);
        }
        if register.capacity.pods > 10_000 {
            return refused(reply, RejectionReason::Invalid);
        }
        let has_pods = self.pods.iter().any(|pod| is_on(pod, &name));
        if let Some(node) = self.nodes.get(&name) {
            let same_folder = node.node_uid == register.node_uid;
            if !same_folder && node.live {
                return refused(reply, RejectionReason::NodeNameTaken);
            }
            if same_folder && register.registration_number < node.number {
                return refused(reply, RejectionReason::StaleRegistration);
            }
            if same_folder && register.registration_number == node.number {
                if register.nonce != node.nonce {
                    return refused(reply, RejectionReason::ClonedFolder);
                }
                let Reply::NodeRegistered { incarnation, .. } = reply else { panic!("{reply:?}") };
                assert_eq!(*incarnation, node.incarnation, "a repeated registration is answered again");
                return;
            }
            if node.live && node.boot != register.boot_id {
                return refused(reply, RejectionReason::PreviousLeaseAlive);
            }
            if !node.live && has_pods {
                return refused(reply, RejectionReason::PreviousLeaseAlive);
            }
            if node.live {
                self.settle(&name, register);
            }
        }
        let Reply::NodeRegistered { incarnation, .. } = reply else { panic!("{reply:?}") };
        let old = self.nodes.get(&name);
        assert!(old.is_none_or(|old| old.incarnation < *incarnation), "incarnations rise");
        let node = Node {
            node_uid: register.node_uid,
            boot: register.boot_id.clone(),
            number: register.registration_number,
            nonce: register.nonce,
            incarnation: *incarnation,
            live: true,
            cordoned: old.is_some_and(|old| old.cordoned),
            cpu_millis: register.capacity.cpu_millis,
            memory_bytes: register.capacity.memory_bytes,
            pods: register.capacity.pods,
            labels: register.labels.clone(),
            disk_pressure: says(&register.conditions, "DiskPressure"),
            memory_pressure: says(&register.conditions, "MemoryPressure"),
        };
        self.nodes.insert(name, node);
    }

    /// The lease never expired: reports count, what runs stays, what was started is lost, the rest was never there.
    fn settle(&mut self, name: &str, register: &RegisterNode) {
        for report in &register.unacknowledged_reports {
            self.report_one(name, report);
        }
        for place in 0..self.pods.len() {
            let pod = &self.pods[place];
            let uid = pod.uid.unwrap();
            if !is_on(pod, name) || register.running_pods.contains(&uid) {
                continue;
            }
            if register.started_pods.contains(&uid) || pod.has_run {
                self.end(place, false, "NodeLost");
            } else if pod.stop.is_some() {
                self.end(place, false, "");
            } else {
                self.pods[place].node = None;
                self.pods[place].containers.clear();
                self.pods[place].initialized_since = None;
            }
        }
        self.sweep();
    }

    pub(super) fn report_conditions(&mut self, report: &ReportNodeConditions, reply: &Reply) {
        let Some(node) = self.nodes.get_mut(report.node.as_str()) else {
            return refused(reply, RejectionReason::NotFound);
        };
        if !node.live || node.incarnation != report.incarnation {
            return refused(reply, RejectionReason::StaleIncarnation);
        }
        done(reply);
        node.disk_pressure = says(&report.conditions, "DiskPressure");
        node.memory_pressure = says(&report.conditions, "MemoryPressure");
    }

    /// A6.
    pub(super) fn expire(&mut self, expire: &ExpireNode, reply: &Reply) {
        if expire.term != self.term {
            return refused(reply, RejectionReason::StaleTerm);
        }
        let Some(node) = self.nodes.get_mut(expire.node.as_str()) else {
            return refused(reply, RejectionReason::NotFound);
        };
        if !node.live || node.incarnation != expire.incarnation {
            return refused(reply, RejectionReason::StaleIncarnation);
        }
        done(reply);
        node.live = false;
    }

    /// D2.
    pub(super) fn lose_pods_of_lost_nodes(&mut self) {
        let lost: Vec<String> =
            self.nodes.iter().filter(|(_, node)| !node.live).map(|(name, _)| name.clone()).collect();
        for name in lost {
            for place in 0..self.pods.len() {
                if is_on(&self.pods[place], &name) {
                    self.end(place, false, "NodeLost");
                }
            }
        }
        self.sweep();
    }

    pub(super) fn cordon(&mut self, name: &str, cordoned: bool, reply: &Reply) {
        let Some(node) = self.nodes.get_mut(name) else { return refused(reply, RejectionReason::NotFound) };
        node.cordoned = cordoned;
        done(reply);
    }

    /// J17.
    pub(super) fn drain(&mut self, name: &str, reply: &Reply) {
        self.cordon(name, true, reply);
        for place in 0..self.pods.len() {
            if is_on(&self.pods[place], name) && self.pods[place].stop.is_none() {
                self.stop(place, Stop::Deleted, None);
            }
        }
    }

    pub(super) fn delete_node(&mut self, name: &str, reply: &Reply) {
        let Some(node) = self.nodes.get(name) else { return refused(reply, RejectionReason::NotFound) };
        if node.live || self.pods.iter().any(|pod| is_on(pod, name)) {
            return refused(reply, RejectionReason::FailedPrecondition);
        }
        done(reply);
        self.nodes.remove(name);
    }

    /// Every Pod that waits, the most urgent first: it is bound to one of the best nodes that fit, or none fits.
    pub(super) fn check_bindings(&mut self, rows: &Rows) {
        let mut waiting: Vec<usize> = (0..self.pods.len())
            .filter(|place| self.pods[*place].end.is_none() && self.pods[*place].node.is_none())
            .collect();
        waiting.sort_by_key(|place| {
            let pod = &self.pods[*place];
            (std::cmp::Reverse(self.templates[&pod.job].priority), pod.created)
        });
        let real: BTreeMap<_, _> = rows.pods().into_iter().map(|(_, pod)| (pod.uid, pod)).collect();
        for place in waiting {
            let pod = &self.pods[place];
            let record: &PodRecord = &real[&pod.uid.unwrap()];
            let mut fitting: Vec<&String> = self.nodes.keys().filter(|name| self.fits(pod, name)).collect();
            // D2.
            if fitting.iter().any(|name| Some(*name) != pod.avoid.as_ref()) {
                fitting.retain(|name| Some(*name) != pod.avoid.as_ref());
            }
            let best = fitting.iter().map(|name| self.merit(name)).fold(f64::MIN, f64::max);
            match &record.node {
                Some(node) => {
                    let name = node.as_str().to_owned();
                    assert!(fitting.contains(&&name), "{pod:?} is on {name}, one of {fitting:?} fits");
                    // The share is computed in 2^20ths.
                    assert!(self.merit(&name) >= best - 1e-5, "{name} is not the best of {fitting:?}");
                    // D11: whoever comes later for the same work has the higher token.
                    if let Some(index) = pod.index {
                        let last = self.fences.insert((pod.job, index), record.binding_revision);
                        assert!(last.is_none_or(|last| last < record.binding_revision), "{pod:?}");
                    }
                    let shapes = self.templates[&self.pods[place].job].shapes.clone();
                    let pod = &mut self.pods[place];
                    pod.node = Some(name);
                    pod.containers = shapes.iter().map(|_| Container::new()).collect();
                    ask(&shapes, pod);
                }
                None => assert!(fitting.is_empty(), "{pod:?} waits, and {fitting:?} fit"),
            }
        }
    }

    fn used(&self, name: &str) -> (i128, u32) {
        let pods = self.pods.iter().filter(|pod| is_on(pod, name));
        pods.fold((0, 0), |(cpu, count), pod| (cpu + self.templates[&pod.job].cpu_millis, count + 1))
    }

    fn fits(&self, pod: &Pod, name: &str) -> bool {
        let (node, template) = (&self.nodes[name], &self.templates[&pod.job]);
        let (cpu, count) = self.used(name);
        let selected = template.selector.iter().all(|(key, value)| node.labels.get(key) == Some(value));
        let cpu_fits = template.cpu_millis == 0 || cpu + template.cpu_millis <= i128::from(node.cpu_millis);
        // No Job names a runtime, and all nodes offer this one.
        // No container here asks for memory.
        let is_repelled = node.disk_pressure || (node.memory_pressure && template.cpu_millis == 0);
        let is_offered = ["", "process"].contains(&self.default_runtime.as_str());
        node.live && !node.cordoned && selected && cpu_fits && count < node.pods && is_offered && !is_repelled
    }

    /// The free shares of cpu, memory and Pods together; for `pack` the fuller node is the better.
    fn merit(&self, name: &str) -> f64 {
        let node = &self.nodes[name];
        let (cpu, count) = self.used(name);
        let share = |used: f64, all: f64| if all == 0.0 { 0.0 } else { (all - used).max(0.0) / all };
        let free = share(cpu as f64, node.cpu_millis as f64)
            + share(0.0, node.memory_bytes as f64)
            + share(f64::from(count), f64::from(node.pods));
        if self.pack { -free } else { free }
    }
}

fn says(conditions: &[NodeCondition], wanted: &str) -> bool {
    conditions.iter().any(|one| one.condition_type == wanted && one.status == ConditionStatus::True)
}

fn is_on(pod: &Pod, name: &str) -> bool {
    pod.end.is_none() && pod.node.as_deref() == Some(name)
}
