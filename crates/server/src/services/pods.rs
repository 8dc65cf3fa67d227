//! Service Pods.
//!
//! Owns: its methods but the reading of logs (`logs`), what happens inside Pods (`access`) and what they use (`usage`). Does not own: what deleting a Pod means (`stint-core`).

use prost::Message;
use stint_api::PodUid;
use stint_core::{Command, DeletePod, PodKey, Reply};
use stint_proto::v1;
use tonic::{Request, Response, Status, Streaming};

use crate::error;
use crate::listing::{PageRequest, list};
use crate::objects::{PodQuery, namespace_of, selector_of};
use crate::services::access::{self, ChannelStream};
use crate::services::logs::LogStream;
use crate::services::{Context, optional_namespace, required_name, uid_of, wrong_reply};
use crate::watching::WatchStream;

/// See `proto/stint/v1/pods.proto`.
#[derive(Clone)]
pub struct PodsService(pub Context);

#[tonic::async_trait]
impl v1::pods_server::Pods for PodsService {
    async fn get(&self, request: Request<v1::GetPodRequest>) -> Result<Response<v1::Pod>, Status> {
        let request = request.into_inner();
        required_name(&request.name)?;
        let namespace = namespace_of(request.namespace, false).unwrap_or_default();
        let name = request.name.clone();
        let pod =
            self.0.reads.rows(request.stale, move |rows| match rows.pod_by_name(&namespace, &name)? {
                Some((record, revision)) => rows.compose_pod(&record, revision),
                None => Ok(None),
            });
        let pod = pod.await?.ok_or_else(|| error::not_found("pods", &request.name))?;
        Ok(Response::new(pod.into()))
    }

    async fn list(
        &self,
        request: Request<v1::ListPodsRequest>,
    ) -> Result<Response<v1::ListPodsResponse>, Status> {
        let request = request.into_inner();
        let query = PodQuery {
            namespace: namespace_of(request.namespace, request.all_namespaces),
            name: String::new(),
            selector: selector_of(&request.label_selector)?,
            job_name: request.job_name,
            node_name: request.node_name,
        };
        let page = PageRequest {
            limit: request.limit,
            continue_token: request.continue_token,
            stale: request.stale,
        };
        let context = &self.0;
        let page = list(query, page, &context.reads, &context.lists).await?;
        Ok(Response::new(v1::ListPodsResponse { metadata: Some(page.metadata), items: page.items }))
    }

    type WatchStream = WatchStream<v1::PodWatchEvent>;

    async fn watch(
        &self,
        request: Request<v1::WatchPodsRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let query = PodQuery {
            namespace: namespace_of(request.namespace, request.all_namespaces),
            name: request.name,
            selector: selector_of(&request.label_selector)?,
            job_name: request.job_name,
            node_name: request.node_name,
        };
        Ok(Response::new(self.0.watches.watch(query, request.from_revision).await?))
    }

    async fn delete(
        &self,
        request: Request<v1::DeletePodRequest>,
    ) -> Result<Response<v1::DeletePodResponse>, Status> {
        let request = request.into_inner();
        let bytes = request.encoded_len();
        required_name(&request.name)?;
        optional_namespace(&request.namespace)?;
        let namespace = namespace_of(request.namespace, false).unwrap_or_default();
        let expected = uid_of::<PodUid>("uid", &request.uid)?;
        let wanted = (namespace.clone(), request.name.clone());
        // Linearizable: that there is none is said because of it.
        let found = self.0.reads.rows(false, move |rows| rows.pod_by_name(&wanted.0, &wanted.1)).await?;
        let (record, _) = found.ok_or_else(|| error::not_found("pods", &request.name))?;
        // Decision 10: by uid, also if the caller gave a name only.
        let uid = expected.unwrap_or(record.uid);
        let command = DeletePod {
            namespace,
            name: request.name,
            uid: Some(uid),
            grace_period_seconds: request.grace_period_seconds,
            key: Some(PodKey { job: record.job, created_revision: record.created_revision }),
        };
        let reply = self.0.propose(Command::DeletePod(command), bytes).await?;
        let Reply::Done { revision } = reply else { return Err(wrong_reply(&reply)) };
        Ok(Response::new(v1::DeletePodResponse { uid: uid.to_string(), revision: revision.0 }))
    }

    type LogsStream = LogStream;

    async fn logs(&self, request: Request<v1::PodLogsRequest>) -> Result<Response<LogStream>, Status> {
        Ok(Response::new(super::logs::stream(self.0.clone(), request.into_inner()).await?))
    }

    type ExecStream = ChannelStream<v1::ExecResponse>;

    async fn exec(
        &self,
        request: Request<Streaming<v1::ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        Ok(Response::new(access::exec(self.0.clone(), request.into_inner()).await?))
    }

    type AttachStream = ChannelStream<v1::ExecResponse>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::ExecRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        Ok(Response::new(access::attach(self.0.clone(), request.into_inner()).await?))
    }

    type PortForwardStream = ChannelStream<v1::PortForwardResponse>;

    async fn port_forward(
        &self,
        request: Request<Streaming<v1::PortForwardRequest>>,
    ) -> Result<Response<Self::PortForwardStream>, Status> {
        Ok(Response::new(access::port_forward(self.0.clone(), request.into_inner()).await?))
    }

    async fn usage(
        &self,
        request: Request<v1::PodUsageRequest>,
    ) -> Result<Response<v1::PodUsageResponse>, Status> {
        Ok(Response::new(super::usage::of_pods(&self.0, request.into_inner()).await?))
    }
}
