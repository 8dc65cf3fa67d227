//! Calls about Nodes.

use stint_api::Node;
use stint_proto::v1;
use stint_proto::v1::nodes_client::NodesClient;

use crate::connection::{Client, Effect};
use crate::error::Error;
use crate::watch::{Scope, Watch};
use crate::{Listed, limits};

impl Client {
    /// Reads a Node, linearizably.
    ///
    /// # Errors
    /// `NotFound`, and those of every call.
    pub async fn get_node(&self, name: &str) -> Result<Node, Error> {
        let request = v1::GetNodeRequest { name: name.to_owned(), stale: false };
        let answer = self
            .unary(Effect::Read, request, |channel, request| async move {
                NodesClient::new(channel).get(request).await
            })
            .await?;
        node_of(Some(answer))
    }

    /// What nodes use now, in the order of their names: the one of this name, or all if it is empty. What a node uses is unset
    /// if its agent does not answer.
    ///
    /// # Errors
    /// `NotFound`, and those of every call.
    pub async fn node_usage(&self, name: &str) -> Result<Vec<v1::NodeUsage>, Error> {
        let request = v1::NodeUsageRequest { name: name.to_owned() };
        let answer = self
            .unary(Effect::Read, request, |channel, request| async move {
                NodesClient::new(channel).usage(request).await
            })
            .await?;
        Ok(answer.items)
    }

    /// Reads all Nodes that match the label selector, page by page.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn list_nodes(&self, scope: &Scope) -> Result<Listed<Node>, Error> {
        let request = |continue_token| v1::ListNodesRequest {
            label_selector: scope.label_selector.clone(),
            limit: limits::PAGE_SIZE,
            continue_token,
            stale: false,
        };
        self.list(
            usize::MAX,
            request,
            |channel, request| async move { NodesClient::new(channel).list(request).await },
            |answer| (answer.items, answer.metadata),
        )
        .await
    }

    /// Watches Nodes; changes after `from_revision` are given, each once. With 0 what there is comes first, as added.
    pub fn watch_nodes(&self, scope: &Scope, from_revision: u64) -> Watch<Node> {
        let request = v1::WatchNodesRequest {
            name: scope.name.clone(),
            label_selector: scope.label_selector.clone(),
            from_revision,
        };
        Watch::new::<v1::NodeWatchEvent>(self, from_revision, move |channel, from_revision| {
            let request = v1::WatchNodesRequest { from_revision, ..request.clone() };
            Box::pin(async move { NodesClient::new(channel).watch(request).await })
        })
    }

    /// Lets no new Pod be bound to a node.
    ///
    /// # Errors
    /// `NotFound`, and those of every call.
    pub async fn cordon_node(&self, name: &str) -> Result<Node, Error> {
        let request = v1::CordonNodeRequest { name: name.to_owned() };
        let answer = self
            .unary(Effect::RepeatableWrite, request, |channel, request| async move {
                NodesClient::new(channel).cordon(request).await
            })
            .await?;
        node_of(answer.node)
    }

    /// Lets Pods be bound to a node again.
    ///
    /// # Errors
    /// `NotFound`, and those of every call.
    pub async fn uncordon_node(&self, name: &str) -> Result<Node, Error> {
        let request = v1::UncordonNodeRequest { name: name.to_owned() };
        let answer = self
            .unary(Effect::RepeatableWrite, request, |channel, request| async move {
                NodesClient::new(channel).uncordon(request).await
            })
            .await?;
        node_of(answer.node)
    }

    /// Cordons a node and stops its Pods with their grace.
    ///
    /// # Errors
    /// `NotFound`, [`Error::OutcomeUnknown`], and those of every call.
    pub async fn drain_node(&self, name: &str) -> Result<Node, Error> {
        let request = v1::DrainNodeRequest { name: name.to_owned() };
        let answer = self
            .unary(Effect::Write, request, |channel, request| async move {
                NodesClient::new(channel).drain(request).await
            })
            .await?;
        node_of(answer.node)
    }

    /// Removes a node that has no live lease.
    ///
    /// # Errors
    /// `NotFound`, `FailedPrecondition` while its lease lives, and those of every call.
    pub async fn delete_node(&self, name: &str) -> Result<(), Error> {
        let request = v1::DeleteNodeRequest { name: name.to_owned() };
        self.unary(Effect::Write, request, |channel, request| async move {
            NodesClient::new(channel).delete(request).await
        })
        .await?;
        Ok(())
    }
}

fn node_of(node: Option<v1::Node>) -> Result<Node, Error> {
    node.ok_or_else(|| Error::answer("an answer without its node"))?.try_into().map_err(Error::answer)
}
