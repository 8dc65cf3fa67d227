//! What goes on in the cluster, for views that show it as it changes.
//!
//! Owns: which Jobs and Pods are the newest. Does not own: how they look (module `compose`).

use std::cmp::Reverse;
use std::sync::Arc;

use stint_api::{NodeCapacity, Revision};

use crate::limits::OVERVIEW_LOOKED_AT_MAX;
use crate::record::{JobRecord, NodeRecord, PodRecord, TemplateRecord};
use crate::state::State;

impl State {
    /// The newest unfinished Jobs, at most so many. In a very large cluster not all are looked at.
    pub fn newest_jobs(&self, jobs_max: usize) -> Vec<(JobRecord, Arc<TemplateRecord>, Revision)> {
        let mut jobs: Vec<_> = self.jobs.iter().take(OVERVIEW_LOOKED_AT_MAX).collect();
        jobs.sort_by_key(|(uid, job)| (Reverse(job.record.metadata.creation_timestamp), **uid));
        jobs.truncate(jobs_max);
        let shown = jobs.into_iter().filter_map(|(uid, job)| {
            Some((job.record.clone(), Arc::clone(&self.groups.get(uid)?.template), job.revision))
        });
        shown.collect()
    }

    /// The newest unfinished Pods, likewise.
    pub fn newest_pods(&self, pods_max: usize) -> Vec<(Arc<PodRecord>, Arc<TemplateRecord>, Revision)> {
        let mut pods: Vec<_> = self.pods.values().take(OVERVIEW_LOOKED_AT_MAX).collect();
        pods.sort_by_key(|pod| Reverse(pod.record.created_revision));
        pods.truncate(pods_max);
        let shown = pods.into_iter().filter_map(|pod| {
            let template = &self.groups.get(&pod.record.job)?.template;
            Some((Arc::clone(&pod.record), Arc::clone(template), pod.revision))
        });
        shown.collect()
    }

    /// The first nodes by name, with what their Pods have requested.
    pub fn first_nodes(&self, nodes_max: usize) -> Vec<(Arc<NodeRecord>, Revision, NodeCapacity)> {
        let nodes = self.nodes.values().take(nodes_max);
        nodes.map(|node| (Arc::clone(&node.record), node.revision, node.requested)).collect()
    }
}
