//! From the log to the state: dispatch of commands, the end of an entry, what is left for the next.
//!
//! Owns: the order in which things happen within an entry. Does not own: what any of them does.
//!
//! Invariants: `apply` is total: bad input is a rejection; what one entry does is bounded by the limits, and the rest is
//! found again from the state alone.

use std::sync::Arc;
use stint_api::{JobConditionType, MemberId};

use crate::command::{ClusterSettings, ClusterSettingsChange, Command};
use crate::deletion::{rows_of_pod_deletion, rows_of_units};
use crate::limits::PODS_UNFINISHED_MAX;
use crate::order::Order;
use crate::record::{JobRecord, PodRecord};
use crate::reply::{Rejection, RejectionReason, Reply};
use crate::row::{Row, RowChange, RowChangeKind, RowKey, RowsNeeded, RowsRead};
use crate::state::State;

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The answer to whoever proposed it.
    pub reply: Reply,
    /// Row changes, in order.
    pub changes: Vec<RowChange>,
    /// Hints for agents, in order.
    pub orders: Vec<Order>,
}

/// What the end of an entry did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Row changes, in order; the last is the one of [`RowKey::Meta`].
    pub changes: Vec<RowChange>,
    /// Hints for agents, in order.
    pub orders: Vec<Order>,
    /// What has ended in this entry, by its commands too, in order.
    pub ends: Vec<Ended>,
}

/// A Pod or a Job that has ended. Each is told once, by the entry that ended it: its row may be changed, or be deleted, at the
/// same time of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Succeeded or Failed; its row may be gone.
    Pod(Arc<PodRecord>),
    /// A finished Job.
    Job {
        /// As it has ended.
        record: Arc<JobRecord>,
        /// Complete or Failed.
        condition: JobConditionType,
    },
}

impl State {
    /// The rows that [`State::apply`] must be given for this command. Ask right before applying it, after every earlier
    /// command: what is needed depends on the state.
    pub fn keys_needed(&self, command: &Command) -> RowsNeeded {
        match command {
            Command::CreateJob(command) => {
                RowsNeeded { keys: self.finished_jobs_of_names(command), ranges: Vec::new() }
            }
            Command::UpdateJob(command) => {
                let metadata = &command.job.metadata;
                let existing = self.job_names.get(&metadata.namespace, &metadata.name);
                match existing.filter(|uid| self.finished.contains_key(uid)) {
                    Some(uid) => {
                        RowsNeeded { keys: vec![RowKey::Job(uid), RowKey::Template(uid)], ranges: Vec::new() }
                    }
                    None => RowsNeeded::default(),
                }
            }
            Command::DeleteJob(command) => match self.job_names.get(&command.namespace, &command.name) {
                Some(uid) => rows_of_units(&[self.deletion_unit_of(uid)]),
                None => RowsNeeded::default(),
            },
            Command::DeletePod(command) => {
                match (self.pod_names.get(&command.namespace, &command.name), command.key) {
                    (None, Some(key)) => rows_of_pod_deletion(key),
                    _ => RowsNeeded::default(),
                }
            }
            Command::Tick | Command::Continue => rows_of_units(&self.deletion_units()),
            Command::UpdateConfigMap(command) => {
                let metadata = &command.map.metadata;
                self.rows_of_config_map(&metadata.namespace, &metadata.name)
            }
            Command::DeleteConfigMap(command) => self.rows_of_config_map(&command.namespace, &command.name),
            Command::StoreLogTails(command) => self.rows_of_log_tails(command),
            _ => RowsNeeded::default(),
        }
    }

    /// Applies one command of the entry that was begun. `rows` is what [`State::keys_needed`] asked for, with the effects
    /// of every earlier command.
    pub fn apply(&mut self, command: &Command, rows: &RowsRead) -> Applied {
        let reply = match command {
            Command::CreateJob(command) => self.create_job(command, rows),
            Command::UpdateJob(command) => self.update_job(command, rows),
            Command::DeleteJob(command) => self.delete_job(command, rows),
            Command::DeletePod(command) => self.delete_pod(command, rows),
            Command::RegisterNode(command) => self.register_node(command),
            Command::ReportPods(command) => self.report_pods(command),
            Command::ReportNodeConditions(command) => self.report_node_conditions(command),
            Command::ExpireNode(command) => self.expire_node(command),
            Command::CordonNode { node, unschedulable } => self.cordon_node(node, *unschedulable),
            Command::DrainNode { node } => self.drain_node(node),
            Command::DeleteNode { node } => self.delete_node(node),
            Command::Tick | Command::Continue => {
                self.carry_deletions_on(rows);
                self.done()
            }
            Command::ReserveMemberId => self.reserve_member_id(),
            Command::SetClusterSettings(settings) => self.set_cluster_settings(settings),
            Command::ChangeClusterSettings(change) => self.change_cluster_settings(change),
            Command::CreateConfigMap(command) => self.create_config_map(command),
            Command::UpdateConfigMap(command) => self.update_config_map(command, rows),
            Command::DeleteConfigMap(command) => self.delete_config_map(command, rows),
            Command::StoreLogTails(command) => self.store_log_tails(command, rows),
        };
        let changes = std::mem::take(&mut self.entry.changes);
        Applied { reply, changes, orders: std::mem::take(&mut self.entry.orders) }
    }

    /// Ends the entry: Pods of lost nodes, and of a cluster before a restore, end, timers fire, Jobs are synced, Pods are bound; as far as one entry may.
    pub fn finish_entry(&mut self) -> Finished {
        self.carry_restore_on();
        self.end_pods_of_lost_nodes();
        self.fire_timers();
        self.stop_pods_of_deleted_jobs();
        self.sync_jobs();
        // What is bound now would go to a node of the old cluster.
        if !self.is_restoring() {
            self.schedule();
        }
        let meta = Row::Meta(Arc::new(self.meta.clone()));
        self.push_plain(RowKey::Meta, RowChangeKind::Modified(meta));
        let entry = std::mem::take(&mut self.entry);
        Finished { changes: entry.changes, orders: entry.orders, ends: entry.ends }
    }

    /// True if an entry with `Continue` would bring something further now.
    pub fn has_backlog(&self) -> bool {
        // At the limit of unfinished Pods, Jobs that want more of them wait for others to end.
        let can_create = !self.create_backlog.is_empty() && self.pods.len() < PODS_UNFINISHED_MAX;
        can_create
            || !self.remove_backlog.is_empty()
            || !self.stop_backlog.is_empty()
            || !self.deletion_backlog.is_empty()
            || !self.lost_nodes.is_empty()
            || self.is_restoring()
            || self.scheduler.unfinished
            || self.next_due().is_some_and(|due| due <= self.meta.time)
    }

    pub(crate) fn done(&self) -> Reply {
        Reply::Done { revision: self.meta.revision }
    }

    /// Decision 13: never one that was used before, also not by a member of an earlier state of the cluster.
    fn reserve_member_id(&mut self) -> Reply {
        let highest = self.meta.highest_member_id.max(self.meta.applied_log_index);
        self.meta.highest_member_id = highest.saturating_add(1);
        Reply::MemberIdReserved { member_id: MemberId(self.meta.highest_member_id) }
    }

    fn set_cluster_settings(&mut self, settings: &ClusterSettings) -> Reply {
        if let Some(present) = &self.meta.settings
            && present.cluster_id != settings.cluster_id
        {
            let message = format!("this cluster is {}: a cluster's id never changes", present.cluster_id);
            return Reply::Rejected(Rejection::new(RejectionReason::FailedPrecondition, message));
        }
        self.meta.highest_member_id = self.meta.highest_member_id.max(settings.highest_member_id.0);
        self.meta.settings = Some(settings.clone());
        self.settings_changed();
        self.done()
    }

    fn change_cluster_settings(&mut self, change: &ClusterSettingsChange) -> Reply {
        let Some(settings) = &mut self.meta.settings else {
            let message = "the cluster is not initialized yet: try again".to_owned();
            return Reply::Rejected(Rejection::new(RejectionReason::FailedPrecondition, message));
        };
        let ClusterSettingsChange { placement_policy, event_retention_ms, default_runtime, ended_pods_max } =
            change;
        settings.placement_policy = placement_policy.unwrap_or(settings.placement_policy);
        settings.event_retention_ms = event_retention_ms.unwrap_or(settings.event_retention_ms);
        settings.ended_pods_max = ended_pods_max.unwrap_or(settings.ended_pods_max);
        if let Some(runtime) = default_runtime {
            settings.default_runtime.clone_from(runtime);
        }
        self.settings_changed();
        self.done()
    }

    /// Brings up to date what derives from the settings: when events expire, in which order nodes are preferred, which Pods
    /// fit where and what those that wait are told.
    fn settings_changed(&mut self) {
        self.event_retention_changed();
        self.entry.nodes_changed = true;
        let names: Vec<_> = self.nodes.keys().cloned().collect();
        for name in names {
            self.node_changed(&name);
        }
    }
}
