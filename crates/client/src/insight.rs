//! Calls that say why things are as they are, and what goes on; reading very many Pods without keeping them.

use std::ops::ControlFlow;
use stint_api::{Pod, Timestamp};
use stint_proto::v1;
use stint_proto::v1::insight_client::InsightClient;
use stint_proto::v1::pods_client::PodsClient;

use crate::connection::{Client, Effect};
use crate::error::Error;
use crate::limits;
use crate::logs::PodTarget;
use crate::watch::Scope;

/// A moment of an answer; none if there is none, or none that can be told.
pub fn moment(at: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    stint_proto::time::timestamp_from_wire("time", at).ok().flatten()
}

impl Client {
    /// Why a Job or a Pod does not run, or what of it runs.
    ///
    /// # Errors
    /// `NotFound`, and those of every call.
    pub async fn explain(&self, namespace: &str, target: &PodTarget) -> Result<v1::Explanation, Error> {
        use v1::explain_request::Target;
        let target = match target {
            PodTarget::Job(name) => Target::JobName(name.clone()),
            PodTarget::Pod(name) => Target::PodName(name.clone()),
        };
        let request = v1::ExplainRequest { namespace: namespace.to_owned(), target: Some(target) };
        let answer = self
            .call(Effect::Read, |channel| {
                let request = request.clone();
                async move { InsightClient::new(channel).explain(request).await }
            })
            .await?;
        Ok(answer.into_inner())
    }

    /// What was decided about a Job, in order.
    ///
    /// # Errors
    /// `NotFound`, and those of every call.
    pub async fn job_history(&self, namespace: &str, name: &str) -> Result<v1::HistoryResponse, Error> {
        let request = v1::HistoryRequest { namespace: namespace.to_owned(), job_name: name.to_owned() };
        let answer = self
            .call(Effect::Read, |channel| {
                let request = request.clone();
                async move { InsightClient::new(channel).history(request).await }
            })
            .await?;
        Ok(answer.into_inner())
    }

    /// How much there is of everything, and the newest of what is unfinished: at most `limit` of each kind.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn overview(&self, limit: u32) -> Result<v1::OverviewResponse, Error> {
        let answer = self
            .call(Effect::Read, |channel| async move {
                InsightClient::new(channel).overview(v1::OverviewRequest { limit }).await
            })
            .await?;
        Ok(answer.into_inner())
    }

    /// Gives Pods of a scope one by one, page by page, so that not all of them have to be kept, until `visit` breaks. Gives back
    /// the revision that they are of.
    ///
    /// # Errors
    /// [`Error::is_expired`](crate::Error::is_expired) if the servers let go of the list meanwhile: begin anew. Those of every
    /// call.
    pub async fn visit_pods(
        &self,
        scope: &Scope,
        mut visit: impl FnMut(Pod) -> ControlFlow<()>,
    ) -> Result<u64, Error> {
        let mut continue_token = String::new();
        loop {
            let request = v1::ListPodsRequest {
                namespace: scope.namespace.clone(),
                all_namespaces: scope.all_namespaces,
                label_selector: scope.label_selector.clone(),
                job_name: scope.job_name.clone(),
                node_name: scope.node_name.clone(),
                limit: limits::PAGE_SIZE,
                continue_token,
                stale: false,
            };
            let answer = self
                .call(Effect::Read, |channel| {
                    let request = request.clone();
                    async move { PodsClient::new(channel).list(request).await }
                })
                .await?
                .into_inner();
            let metadata = answer.metadata.unwrap_or_default();
            for item in answer.items {
                if visit(item.try_into().map_err(Error::answer)?).is_break() {
                    return Ok(metadata.resource_version);
                }
            }
            if metadata.continue_token.is_empty() {
                return Ok(metadata.resource_version);
            }
            continue_token = metadata.continue_token;
        }
    }
}
