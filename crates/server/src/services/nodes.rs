//! Service Nodes.
//!
//! Owns: its methods. Does not own: leases (`leases`), what cordon and drain do (`stint-core`).

use stint_api::NodeName;
use stint_core::{Command, Reply};
use stint_proto::v1;
use tonic::{Request, Response, Status};

use crate::error;
use crate::listing::{PageRequest, list};
use crate::objects::{NodeQuery, selector_of};
use crate::services::{Context, required_name, wrong_reply};
use crate::watching::WatchStream;

/// See `proto/stint/v1/nodes.proto`.
#[derive(Clone)]
pub struct NodesService(pub Context);

/// About the size of a command that names a node.
const COMMAND_BYTES: usize = 300;

impl NodesService {
    async fn read(&self, name: &str, stale: bool) -> Result<v1::Node, Status> {
        let node = NodeName::new(name);
        let found = self.0.reads.rows(stale, move |rows| rows.node_by_name(&node)).await?;
        Ok(found.ok_or_else(|| error::not_found("nodes", name))?.into())
    }

    async fn change(&self, command: Command, name: &str) -> Result<(v1::Node, u64), Status> {
        required_name(name)?;
        let reply = self.0.propose(command, COMMAND_BYTES).await?;
        let Reply::Done { revision } = reply else { return Err(wrong_reply(&reply)) };
        let node = self.read(name, true).await.map_err(error::not_read_back)?;
        Ok((node, revision.0))
    }
}

#[tonic::async_trait]
impl v1::nodes_server::Nodes for NodesService {
    async fn get(&self, request: Request<v1::GetNodeRequest>) -> Result<Response<v1::Node>, Status> {
        let request = request.into_inner();
        required_name(&request.name)?;
        Ok(Response::new(self.read(&request.name, request.stale).await?))
    }

    async fn list(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let request = request.into_inner();
        let query = NodeQuery { name: String::new(), selector: selector_of(&request.label_selector)? };
        let page = PageRequest {
            limit: request.limit,
            continue_token: request.continue_token,
            stale: request.stale,
        };
        let context = &self.0;
        let page = list(query, page, &context.reads, &context.lists).await?;
        Ok(Response::new(v1::ListNodesResponse { metadata: Some(page.metadata), items: page.items }))
    }

    type WatchStream = WatchStream<v1::NodeWatchEvent>;

    async fn watch(
        &self,
        request: Request<v1::WatchNodesRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let query = NodeQuery { name: request.name, selector: selector_of(&request.label_selector)? };
        Ok(Response::new(self.0.watches.watch(query, request.from_revision).await?))
    }

    async fn cordon(
        &self,
        request: Request<v1::CordonNodeRequest>,
    ) -> Result<Response<v1::CordonNodeResponse>, Status> {
        let name = request.into_inner().name;
        let command = Command::CordonNode { node: NodeName::new(&name), unschedulable: true };
        let (node, _) = self.change(command, &name).await?;
        Ok(Response::new(v1::CordonNodeResponse { node: Some(node) }))
    }

    async fn uncordon(
        &self,
        request: Request<v1::UncordonNodeRequest>,
    ) -> Result<Response<v1::UncordonNodeResponse>, Status> {
        let name = request.into_inner().name;
        let command = Command::CordonNode { node: NodeName::new(&name), unschedulable: false };
        let (node, _) = self.change(command, &name).await?;
        Ok(Response::new(v1::UncordonNodeResponse { node: Some(node) }))
    }

    async fn drain(
        &self,
        request: Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeResponse>, Status> {
        let name = request.into_inner().name;
        let (node, revision) = self.change(Command::DrainNode { node: NodeName::new(&name) }, &name).await?;
        Ok(Response::new(v1::DrainNodeResponse { node: Some(node), revision }))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteNodeRequest>,
    ) -> Result<Response<v1::DeleteNodeResponse>, Status> {
        let name = request.into_inner().name;
        required_name(&name)?;
        let command = Command::DeleteNode { node: NodeName::new(&name) };
        let reply = self.0.propose(command, COMMAND_BYTES).await?;
        let Reply::Done { revision } = reply else { return Err(wrong_reply(&reply)) };
        Ok(Response::new(v1::DeleteNodeResponse { revision: revision.0 }))
    }

    async fn usage(
        &self,
        request: Request<v1::NodeUsageRequest>,
    ) -> Result<Response<v1::NodeUsageResponse>, Status> {
        Ok(Response::new(super::usage::of_nodes(&self.0, request.into_inner()).await?))
    }
}
