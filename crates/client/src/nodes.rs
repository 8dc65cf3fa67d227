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
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::Scope;
    ///
    /// let nodes = client.list_nodes(&Scope::default()).await?;
    /// let name = &nodes.items[0].metadata.name;
    /// let node = client.get_node(name).await?;
    /// println!("{name} has {:?}", node.capacity);
    /// # Ok(()) }); }
    /// ```
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
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// for node in client.node_usage("").await? {
    ///     println!("{}: {:?}", node.name, node.usage);
    /// }
    /// # Ok(()) }); }
    /// ```
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
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::Scope;
    ///
    /// let with_disk = Scope { label_selector: "disk=ssd".to_owned(), ..Scope::default() };
    /// println!("{} nodes have an SSD", client.list_nodes(&with_disk).await?.items.len());
    /// # Ok(()) }); }
    /// ```
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
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::Scope;
    ///
    /// let mut watch = client.watch_nodes(&Scope::default(), 0);
    /// println!("{} is there", watch.next().await?.object.metadata.name);
    /// # Ok(()) }); }
    /// ```
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
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::Scope;
    ///
    /// let nodes = client.list_nodes(&Scope::default()).await?;
    /// let name = &nodes.items[0].metadata.name;
    /// assert!(client.cordon_node(name).await?.unschedulable);
    /// assert!(!client.uncordon_node(name).await?.unschedulable);
    /// # Ok(()) }); }
    /// ```
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
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::Scope;
    ///
    /// let nodes = client.list_nodes(&Scope::default()).await?;
    /// let name = &nodes.items[0].metadata.name;
    /// client.uncordon_node(name).await?;
    /// # Ok(()) }); }
    /// ```
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
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// let error = client.delete_node("no-such-node").await.unwrap_err();
    /// assert!(error.is_not_found());
    /// # Ok(()) }); }
    /// ```
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
