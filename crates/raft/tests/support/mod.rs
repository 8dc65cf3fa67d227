//! A log of plausible entries for storage tests, with what it must do: the core's own harness applies each entry as it is
//! made.
//!
//! Owns: the choice of commands. Does not own: storage; equal seeds give equal logs in every process.

use std::collections::BTreeMap;
use stint_api::NodeInfo;
use stint_api::{
    ClusterId, Container, ContainerTermination, Incarnation, Job, JobSpec, JobUid, MemberId, NodeCapacity,
    NodeName, NodeUid, ObjectMeta, PodPhase, PodSpec, PodTemplateSpec, RestartPolicy, Timestamp, defaulting,
};
use stint_core::testing::{Harness, Outcome, outstanding_runs};
use stint_core::{
    ClusterSettings, Command, CreateJob, DeleteJob, DeletePod, DeletePropagation, Entry, ExpireNode,
    PlacementPolicy, PodKey, PodReport, PodReportKind, RegisterNode, ReportPods, Row, RowKey,
};

const NODES: usize = 4;
const NAMES: usize = 8;
const NAMESPACE: &str = "default";

/// Makes entries; the harness has applied all that were made.
pub struct Script {
    pub harness: Harness,
    random: u64,
    time_ms: i64,
    registrations: BTreeMap<usize, u64>,
}

impl Script {
    /// The first entry stands at log index 1.
    pub fn new(seed: u64) -> Script {
        Script {
            harness: Harness::new(),
            random: seed,
            time_ms: 1_700_000_000_000,
            registrations: BTreeMap::new(),
        }
    }

    /// The next entry, and what it did.
    pub fn next_entry(&mut self) -> (Entry, Outcome) {
        self.time_ms += self.below(3_000) as i64;
        let commands = if self.harness.log_index == 0 {
            let mut commands = vec![settings()];
            commands.extend((0..NODES).map(|node| self.register(node)));
            commands
        } else {
            (0..1 + self.below(3)).map(|_| self.command()).collect()
        };
        let entry = Entry { time: Timestamp(self.time_ms), seed: self.next(), commands };
        let outcome = self.harness.apply_unchecked(&entry);
        (entry, outcome)
    }

    fn command(&mut self) -> Command {
        match self.below(16) {
            0..4 => self.create(),
            4..10 => self.report(),
            10 => {
                let name = self.job_name();
                Command::DeleteJob(DeleteJob {
                    namespace: NAMESPACE.to_owned(),
                    name,
                    uid: None,
                    resource_version: None,
                    propagation: match self.below(3) {
                        0 => DeletePropagation::Background,
                        1 => DeletePropagation::Foreground,
                        _ => DeletePropagation::Orphan,
                    },
                })
            }
            11 => self.delete_pod(),
            12 => {
                let node = self.below(NODES);
                match self.below(4) {
                    0 => self.expire(node),
                    1 => Command::CordonNode { node: node_name(node), unschedulable: self.below(2) == 0 },
                    _ => self.register(node),
                }
            }
            13 => Command::Continue,
            14 => Command::ReserveMemberId,
            _ => Command::Tick,
        }
    }

    fn create(&mut self) -> Command {
        let uid = JobUid(u128::from(self.next()));
        let restart_policy = if self.below(2) == 0 { RestartPolicy::Never } else { RestartPolicy::OnFailure };
        let container = Container {
            name: "main".to_owned(),
            image: "none".to_owned(),
            command: vec!["true".to_owned()],
            ..Container::default()
        };
        let mut job = Job {
            metadata: ObjectMeta {
                name: self.job_name(),
                namespace: NAMESPACE.to_owned(),
                ..ObjectMeta::default()
            },
            spec: JobSpec {
                parallelism: Some(1 + self.below(4) as i32),
                completions: Some(1 + self.below(5) as i32),
                backoff_limit: Some(self.below(3) as i32),
                ttl_seconds_after_finished: (self.below(2) == 0).then(|| self.below(20) as i32),
                backoff_base_ms: Some(1 + self.below(2_000) as u64),
                template: PodTemplateSpec {
                    spec: PodSpec {
                        containers: vec![container],
                        restart_policy: Some(restart_policy),
                        ..PodSpec::default()
                    },
                    ..PodTemplateSpec::default()
                },
                ..JobSpec::default()
            },
            ..Job::default()
        };
        defaulting::set_defaults(&mut job);
        defaulting::generate_labels(&mut job, uid);
        let request_id =
            if self.below(2) == 0 { format!("request-{}", self.below(20)) } else { String::new() };
        Command::CreateJob(Box::new(CreateJob { job, uid, request_id, other_names: Vec::new() }))
    }

    /// What an agent would report: its Pods run, end well or badly.
    fn report(&mut self) -> Command {
        let node = node_name(self.below(NODES));
        let incarnation = self.harness.state.node(&node).map_or(Incarnation(0), |record| record.incarnation);
        let bound: Vec<_> = self
            .harness
            .rows
            .pods()
            .into_iter()
            .map(|(_, pod)| pod)
            .filter(|pod| pod.node.as_ref() == Some(&node) && !pod.phase.is_terminal())
            .collect();
        let mut reports = Vec::new();
        for pod in bound {
            let Some(run) = outstanding_runs(&self.harness.state, &pod).into_iter().next() else { continue };
            let kind = match (pod.phase, self.below(3)) {
                (PodPhase::Pending, 0) => continue,
                (PodPhase::Pending, _) => PodReportKind::Running {
                    run,
                    started_at: Timestamp(self.time_ms),
                    container_id: String::new(),
                    image_id: String::new(),
                    pod_addresses: Vec::new(),
                },
                (_, exit_code) => PodReportKind::ContainerExited {
                    run,
                    termination: ContainerTermination {
                        exit_code: i32::from(exit_code == 0),
                        ..ContainerTermination::default()
                    },
                },
            };
            reports.push(PodReport { pod: pod.uid, kind });
        }
        Command::ReportPods(ReportPods { node, incarnation, reports })
    }

    fn delete_pod(&mut self) -> Command {
        let pods: Vec<(String, PodKey)> = self
            .harness
            .rows
            .map
            .iter()
            .filter_map(|(key, row)| match (key, &row.row) {
                (RowKey::PodName { name, .. }, Row::PodName(key)) => Some((name.clone(), *key)),
                _ => None,
            })
            .collect();
        if pods.is_empty() {
            return Command::Tick;
        }
        let (name, key) = pods[self.below(pods.len())].clone();
        Command::DeletePod(DeletePod {
            namespace: NAMESPACE.to_owned(),
            name,
            uid: None,
            grace_period_seconds: (self.below(2) == 0).then_some(1),
            key: Some(key),
        })
    }

    fn expire(&mut self, node: usize) -> Command {
        let node = node_name(node);
        let incarnation = self.harness.state.node(&node).map_or(Incarnation(0), |record| record.incarnation);
        Command::ExpireNode(ExpireNode { node, incarnation, term: self.harness.term })
    }

    fn register(&mut self, node: usize) -> Command {
        let number = self.registrations.entry(node).or_insert(0);
        *number += 1;
        let registration_number = *number;
        let name = node_name(node);
        let previous_incarnation =
            self.harness.state.node(&name).map_or(Incarnation(0), |record| record.incarnation);
        Command::RegisterNode(Box::new(RegisterNode {
            node: name,
            node_uid: NodeUid(node as u128 + 1),
            boot_id: "boot".to_owned(),
            registration_number,
            nonce: self.next(),
            previous_incarnation,
            cluster_id: None,
            unacknowledged_reports: Vec::new(),
            running_pods: Vec::new(),
            started_pods: Vec::new(),
            capacity: NodeCapacity { cpu_millis: 4_000, memory_bytes: 1 << 30, pods: 6 },
            labels: BTreeMap::new(),
            runtimes: vec!["process".to_owned()],
            conditions: Vec::new(),
            agent_version: "test".to_owned(),
            features: Vec::new(),
            info: NodeInfo::default(),
        }))
    }

    fn job_name(&mut self) -> String {
        format!("job-{}", self.below(NAMES))
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.random;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}

/// The cluster of these logs.
pub const CLUSTER: ClusterId = ClusterId(0x5717);

fn settings() -> Command {
    Command::SetClusterSettings(ClusterSettings {
        cluster_id: CLUSTER,
        node_lease_ms: 10_000,
        placement_policy: PlacementPolicy::Spread,
        event_retention_ms: 60_000,
        default_runtime: String::new(),
        ended_pods_max: 0,
        highest_member_id: MemberId(3),
    })
}

fn node_name(node: usize) -> NodeName {
    NodeName::new(&format!("node-{node}"))
}
