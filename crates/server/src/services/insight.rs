//! Service Insight: why things are as they are, and what goes on.
//!
//! Owns: which rows an answer needs, its form on the wire. Does not own: explanations, histories and their words
//! (`stint-core`).

use std::ops::Bound;
use std::sync::Arc;

use stint_api::{Revision, table};
use stint_core::explain::{Explanation, explain_ended, explain_finished};
use stint_core::history::{Decision, of_job};
use stint_core::{DecisionRecord, JobRecord, PodKey, PodRecord, Row, RowKey, RowRange, compose};
use stint_proto::time::timestamp_to_wire;
use stint_proto::v1;
use tonic::{Request, Response, Status};

use crate::error;
use crate::limits::{HISTORY_PODS_MAX, OVERVIEW_ITEMS_DEFAULT, OVERVIEW_ITEMS_MAX};
use crate::objects::{DEFAULT_NAMESPACE, RowReader};
use crate::services::{Context, required_name};

/// See `proto/stint/v1/insight.proto`.
#[derive(Clone)]
pub struct InsightService(pub Context);

#[tonic::async_trait]
impl v1::insight_server::Insight for InsightService {
    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::Explanation>, Status> {
        use v1::explain_request::Target;
        let request = request.into_inner();
        let namespace = namespace_or_default(request.namespace);
        let told = match request.target {
            Some(Target::JobName(name)) => self.explain_job(namespace, name).await?,
            Some(Target::PodName(name)) => self.explain_pod(namespace, name).await?,
            None => return Err(error::bad_request("target", "Required value: name a job or a pod")),
        };
        Ok(Response::new(told))
    }

    async fn history(
        &self,
        request: Request<v1::HistoryRequest>,
    ) -> Result<Response<v1::HistoryResponse>, Status> {
        let request = request.into_inner();
        required_name(&request.job_name)?;
        let (namespace, name) = (namespace_or_default(request.namespace), request.job_name);
        let wanted = name.clone();
        let told = self.0.reads.rows(false, move |rows| history(rows, &namespace, &wanted)).await?;
        told.map(Response::new).ok_or_else(|| error::not_found("jobs.batch", &name))
    }

    async fn overview(
        &self,
        request: Request<v1::OverviewRequest>,
    ) -> Result<Response<v1::OverviewResponse>, Status> {
        let limit = match request.into_inner().limit {
            0 => OVERVIEW_ITEMS_DEFAULT,
            limit => (limit as usize).min(OVERVIEW_ITEMS_MAX),
        };
        self.0.reads.confirm().await?;
        let raft = &self.0.raft;
        // Three short looks: each lets what was applied meanwhile go ahead.
        let (counts, n_ended, time, revision) = raft
            .with_state(|state| (state.counts(), state.meta().n_ended_pods, state.time(), state.revision()));
        let jobs = raft.with_state(|state| state.newest_jobs(limit));
        let pods = raft.with_state(|state| state.newest_pods(limit));
        let nodes = raft.with_state(|state| state.first_nodes(limit));
        let count = |number: usize| number as u64;
        Ok(Response::new(v1::OverviewResponse {
            counts: Some(v1::OverviewCounts {
                jobs: count(counts.jobs),
                unfinished_jobs: count(counts.unfinished_jobs),
                pods_pending: count(counts.pods_pending),
                pods_running: count(counts.pods_running),
                pods_unbound: count(counts.pods_unbound),
                pods_ended: n_ended,
                nodes: count(counts.nodes),
                nodes_live: count(counts.nodes_live),
            }),
            jobs: jobs
                .iter()
                .map(|(record, template, revision)| overview_job(&compose::job(record, template, *revision)))
                .collect(),
            pods: pods
                .iter()
                .map(|(record, template, revision)| {
                    let pod = compose::pod(record, template, *revision);
                    v1::OverviewPod {
                        namespace: template.namespace.clone(),
                        name: record.name.clone(),
                        job_name: template.job_name.clone(),
                        node_name: record.node.as_ref().map(ToString::to_string).unwrap_or_default(),
                        status: table::pod_status(&pod),
                        restarts: table::pod_restarts(&pod),
                        created: Some(timestamp_to_wire(record.created_at)),
                    }
                })
                .collect(),
            nodes: nodes
                .iter()
                .map(|(record, revision, requested)| v1::OverviewNode {
                    name: record.name.to_string(),
                    status: table::node_status(&compose::node(record, *requested, *revision)),
                    requested_cpu_millis: requested.cpu_millis,
                    capacity_cpu_millis: record.capacity.cpu_millis,
                    requested_memory_bytes: requested.memory_bytes,
                    capacity_memory_bytes: record.capacity.memory_bytes,
                    requested_pods: requested.pods,
                    capacity_pods: record.capacity.pods,
                })
                .collect(),
            time: Some(timestamp_to_wire(time)),
            revision: revision.0,
            leader: self.0.name.to_string(),
        }))
    }
}

impl InsightService {
    async fn explain_job(&self, namespace: String, name: String) -> Result<v1::Explanation, Status> {
        required_name(&name)?;
        self.0.reads.confirm().await?;
        let raft = &self.0.raft;
        let (uid, told, time) = raft.with_state(|state| {
            let uid = state.job_uid_by_name(&namespace, &name);
            (uid, uid.and_then(|uid| state.explain_job(uid)), state.time())
        });
        let uid = uid.ok_or_else(|| error::not_found("jobs.batch", &name))?;
        if let Some(told) = told {
            return Ok(explanation_to_wire(told, time));
        }
        // It has finished: memory holds little of it.
        let row = self.0.reads.rows(true, move |rows| rows.get(&RowKey::Job(uid))).await?;
        match row.map(|stored| stored.row) {
            Some(Row::Job(record)) => Ok(explanation_to_wire(explain_finished(&record, time), time)),
            _ => Err(error::not_found("jobs.batch", &name)),
        }
    }

    async fn explain_pod(&self, namespace: String, name: String) -> Result<v1::Explanation, Status> {
        required_name(&name)?;
        let wanted = name.clone();
        let row = self.0.reads.rows(false, move |rows| rows.pod_by_name(&namespace, &wanted)).await?;
        let (record, _) = row.ok_or_else(|| error::not_found("pods", &name))?;
        let (told, time) = self.0.raft.with_state(|state| (state.explain_pod(record.uid), state.time()));
        if let Some(told) = told {
            return Ok(explanation_to_wire(told, time));
        }
        let record = match record.phase.is_terminal() {
            true => record,
            // It has ended since its row was read.
            false => {
                let key = RowKey::Pod(PodKey { job: record.job, created_revision: record.created_revision });
                let row = self.0.reads.rows(true, move |rows| rows.get(&key)).await?;
                match row.map(|stored| stored.row) {
                    Some(Row::Pod(record)) => record,
                    _ => return Err(error::not_found("pods", &name)),
                }
            }
        };
        Ok(explanation_to_wire(explain_ended(&record, time), time))
    }
}

fn history(
    rows: &mut RowReader<'_>,
    namespace: &str,
    name: &str,
) -> Result<Option<v1::HistoryResponse>, Status> {
    let Some(uid) = rows.job_uid(namespace, name)? else { return Ok(None) };
    let Some(Row::Job(job)) = rows.get(&RowKey::Job(uid))?.map(|stored| stored.row) else { return Ok(None) };
    let Some(template) = rows.template(uid)? else { return Ok(None) };
    let written = match rows.get(&RowKey::History(uid))?.map(|stored| stored.row) {
        Some(Row::History(history)) => history.decisions.clone(),
        _ => Vec::new(),
    };
    let key = |revision| RowKey::Pod(PodKey { job: uid, created_revision: revision });
    let range = RowRange {
        from: Bound::Included(key(Revision(0))),
        to: Bound::Included(key(Revision(u64::MAX))),
        limit: HISTORY_PODS_MAX + 1,
    };
    let found = rows.view().scan(&range).map_err(|failed| error::internal("reading rows", &failed))?;
    let mut pods: Vec<Arc<PodRecord>> = found
        .into_iter()
        .filter_map(|(_, stored)| match stored.row {
            Row::Pod(pod) => Some(pod),
            _ => None,
        })
        .collect();
    let more_pods = pods.len() > HISTORY_PODS_MAX;
    pods.truncate(HISTORY_PODS_MAX);
    Ok(Some(v1::HistoryResponse {
        decisions: of_job(&job, &template, &written, &pods).into_iter().map(decision_to_wire).collect(),
        forgotten: forgotten(&job, &written),
        more_pods,
        job_uid: uid.to_string(),
    }))
}

/// Decisions that were written down once, and are not any more.
fn forgotten(job: &JobRecord, written: &[DecisionRecord]) -> u32 {
    let kept = written.iter().fold(0, |sum: u32, one| sum.saturating_add(one.count));
    job.status.decisions.saturating_sub(kept)
}

fn decision_to_wire(decision: Decision) -> v1::Decision {
    v1::Decision {
        time: Some(timestamp_to_wire(decision.at)),
        reason: decision.reason,
        message: decision.message,
        pod_name: decision.pod,
        count: decision.count,
        by: decision.by,
    }
}

fn explanation_to_wire(told: Explanation, time: stint_api::Timestamp) -> v1::Explanation {
    let reasons = told.reasons.into_iter().map(|reason| v1::Reason {
        reason: reason.word.to_owned(),
        message: reason.message,
        until: reason.until.map(timestamp_to_wire),
        pods: reason.pods,
        pod_names: reason.names,
    });
    let placement = told.placement.map(|placement| v1::Placement {
        asks: placement.asks,
        nodes: placement.nodes,
        objections: placement
            .obstacles
            .into_iter()
            .map(|obstacle| v1::Objection {
                requirement: obstacle.requirement.to_owned(),
                message: obstacle.message,
                nodes: obstacle.nodes,
                node_names: obstacle.names,
            })
            .collect(),
        pods_ahead: placement.pods_ahead,
        more_ahead: placement.more_ahead,
    });
    v1::Explanation {
        state: told.state.to_owned(),
        summary: told.summary,
        reasons: reasons.collect(),
        placement,
        time: Some(timestamp_to_wire(time)),
    }
}

fn overview_job(job: &stint_api::Job) -> v1::OverviewJob {
    let count = |number: i32| u32::try_from(number).unwrap_or(0);
    let status = &job.status;
    v1::OverviewJob {
        namespace: job.metadata.namespace.clone(),
        name: job.metadata.name.clone(),
        status: table::job_status(job).to_owned(),
        completions: table::job_completions(job),
        active: count(status.active),
        ready: count(status.ready.unwrap_or(0)),
        succeeded: count(status.succeeded),
        failed: count(status.failed),
        created: job.metadata.creation_timestamp.map(timestamp_to_wire),
        uid: job.metadata.uid.clone(),
    }
}

fn namespace_or_default(namespace: String) -> String {
    if namespace.is_empty() { DEFAULT_NAMESPACE.to_owned() } else { namespace }
}
