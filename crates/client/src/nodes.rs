//! Calls about Nodes.

use stint_api::Node;
use stint_proto::v1;
use stint_proto::v1::nodes_client::NodesClient;

use crate::connection::{Client, Effect};
use crate::error::Error;
use crate::jobs::list_all;
use crate::watch::{Scope, Watch, WatchMessage};
use crate::{Listed, limits};

impl Client {
    /// Reads a Node, linearizably.
    ///
    /// # Errors
    /// `NotFound`, and those of every call.
    pub async fn get_node(&self, name: &str) -> Result<Node, Error> {
        let request = v1::GetNodeRequest { name: name.to_owned(), stale: false };
        let answer = self
            .call(Effect::Read, |channel| {
                let request = request.clone();
                async move { NodesClient::new(channel).get(request).await }
            })
            .await?;
        node_of(Some(answer.into_inner()))
    }

    /// What nodes use now, in the order of their names: the one of this name, or all if it is empty. What a node uses is unset
    /// if its agent does not answer.
    ///
    /// # Errors
    /// `NotFound`, and those of every call.
    pub async fn node_usage(&self, name: &str) -> Result<Vec<v1::NodeUsage>, Error> {
        let request = v1::NodeUsageRequest { name: name.to_owned() };
        let answer = self
            .call(Effect::Read, |channel| {
                let request = request.clone();
                async move { NodesClient::new(channel).usage(request).await }
            })
            .await?;
        Ok(answer.into_inner().items)
    }

    /// Reads all Nodes that match the label selector, page by page.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn list_nodes(&self, scope: &Scope) -> Result<Listed<Node>, Error> {
        list_all(|continue_token| {
            let request = v1::ListNodesRequest {
                label_selector: scope.label_selector.clone(),
                limit: limits::PAGE_SIZE,
                continue_token,
                stale: false,
            };
            async move {
                let answer = self
                    .call(Effect::Read, |channel| {
                        let request = request.clone();
                        async move { NodesClient::new(channel).list(request).await }
                    })
                    .await?
                    .into_inner();
                let items =
                    answer.items.into_iter().map(|node| node_of(Some(node))).collect::<Result<_, _>>()?;
                Ok((items, answer.metadata.unwrap_or_default()))
            }
        })
        .await
    }

    /// Watches Nodes; changes after `from_revision` are given, each once.
    pub fn watch_nodes(&self, scope: &Scope, from_revision: u64) -> Watch<Node> {
        let (client, scope) = (self.clone(), scope.clone());
        Watch::new::<v1::NodeWatchEvent>(
            Box::new(move |from_revision| {
                let client = client.clone();
                let request = v1::WatchNodesRequest {
                    name: scope.name.clone(),
                    label_selector: scope.label_selector.clone(),
                    from_revision,
                };
                Box::pin(async move {
                    let open = |channel| {
                        let request = request.clone();
                        async move { NodesClient::new(channel).watch(request).await }
                    };
                    Ok(client.call(Effect::Read, open).await?.into_inner())
                })
            }),
            from_revision,
        )
    }

    /// Lets no new Pod be bound to a node.
    ///
    /// # Errors
    /// `NotFound`, and those of every call.
    pub async fn cordon_node(&self, name: &str) -> Result<Node, Error> {
        let request = v1::CordonNodeRequest { name: name.to_owned() };
        let answer = self
            .call(Effect::RepeatableWrite, |channel| {
                let request = request.clone();
                async move { NodesClient::new(channel).cordon(request).await }
            })
            .await?;
        node_of(answer.into_inner().node)
    }

    /// Lets Pods be bound to a node again.
    ///
    /// # Errors
    /// `NotFound`, and those of every call.
    pub async fn uncordon_node(&self, name: &str) -> Result<Node, Error> {
        let request = v1::UncordonNodeRequest { name: name.to_owned() };
        let answer = self
            .call(Effect::RepeatableWrite, |channel| {
                let request = request.clone();
                async move { NodesClient::new(channel).uncordon(request).await }
            })
            .await?;
        node_of(answer.into_inner().node)
    }

    /// Cordons a node and stops its Pods with their grace.
    ///
    /// # Errors
    /// `NotFound`, [`Error::OutcomeUnknown`], and those of every call.
    pub async fn drain_node(&self, name: &str) -> Result<Node, Error> {
        let request = v1::DrainNodeRequest { name: name.to_owned() };
        let answer = self
            .call(Effect::Write, |channel| {
                let request = request.clone();
                async move { NodesClient::new(channel).drain(request).await }
            })
            .await?;
        node_of(answer.into_inner().node)
    }

    /// Removes a node that has no live lease.
    ///
    /// # Errors
    /// `NotFound`, `FailedPrecondition` while its lease lives, and those of every call.
    pub async fn delete_node(&self, name: &str) -> Result<(), Error> {
        let request = v1::DeleteNodeRequest { name: name.to_owned() };
        self.call(Effect::Write, |channel| {
            let request = request.clone();
            async move { NodesClient::new(channel).delete(request).await }
        })
        .await?;
        Ok(())
    }
}

impl WatchMessage for v1::NodeWatchEvent {
    type Object = Node;

    fn parts(self) -> Result<(v1::WatchEventType, u64, Option<Node>), Error> {
        let event_type = self.r#type();
        let object = self.node.map(|node| node_of(Some(node))).transpose()?;
        Ok((event_type, self.revision, object))
    }
}

fn node_of(node: Option<v1::Node>) -> Result<Node, Error> {
    node.ok_or_else(|| Error::answer("an answer without its node"))?.try_into().map_err(Error::answer)
}
