//! Calls about Pods.

use stint_api::Pod;
use stint_proto::v1;
use stint_proto::v1::pods_client::PodsClient;

use crate::connection::Client;
use crate::error::Error;
use crate::retry::Effect;
use crate::watch::{Scope, Watch};
use crate::{Listed, limits};

impl Client {
    /// Reads a Pod, linearizably.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// let error = client.get_pod("default", "no-such-pod").await.unwrap_err();
    /// assert!(error.is_not_found());
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// `NotFound`, and those of every call.
    pub async fn get_pod(&self, namespace: &str, name: &str) -> Result<Pod, Error> {
        let request =
            v1::GetPodRequest { namespace: namespace.to_owned(), name: name.to_owned(), stale: false };
        let answer = self
            .unary(Effect::Read, request, |channel, request| async move {
                PodsClient::new(channel).get(request).await
            })
            .await?;
        answer.try_into().map_err(Error::answer)
    }

    /// Reads all Pods of a scope as of one revision, page by page.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// # let handle = client.run(stint_client::JobBuilder::new(["true"])).await?;
    /// # handle.wait().await?;
    /// # let job_name = handle.name().to_owned();
    /// use stint_client::Scope;
    ///
    /// for pod in client.list_pods(&Scope { job_name, ..Scope::default() }).await? {
    ///     println!("{} is {:?}", pod.metadata.name, pod.status.phase);
    /// }
    /// # handle.delete().await?;
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// Those of every call.
    pub async fn list_pods(&self, scope: &Scope) -> Result<Listed<Pod>, Error> {
        let request = |continue_token| v1::ListPodsRequest {
            namespace: scope.namespace.clone(),
            all_namespaces: scope.all_namespaces,
            label_selector: scope.label_selector.clone(),
            limit: limits::PAGE_SIZE,
            continue_token,
            stale: false,
            job_name: scope.job_name.clone(),
            node_name: scope.node_name.clone(),
        };
        self.list(
            if scope.items_max == 0 { usize::MAX } else { scope.items_max },
            request,
            |channel, request| async move { PodsClient::new(channel).list(request).await },
            |answer| (answer.items, answer.metadata),
        )
        .await
    }

    /// Deletes the Pod with this uid; one that is gone already is success.
    ///
    /// # Errors
    /// `Conflict` if the name belongs to another Pod by now, and those of every call.
    pub async fn delete_pod(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        grace_period_seconds: Option<u32>,
    ) -> Result<(), Error> {
        let request = v1::DeletePodRequest {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            grace_period_seconds,
        };
        let answer = self
            .unary(Effect::RepeatableWrite, request, |channel, request| async move {
                PodsClient::new(channel).delete(request).await
            })
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Watches Pods; changes after `from_revision` are given, each once. With 0 what there is comes first, as added.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::Scope;
    ///
    /// let revision = client.revision("default").await?;
    /// let mut watch = client.watch_pods(&Scope::default(), revision);
    /// let handle = client.run(stint_client::JobBuilder::new(["true"])).await?;
    /// println!("{} is new", watch.next().await?.object.metadata.name);
    /// # handle.delete().await?;
    /// # Ok(()) }); }
    /// ```
    pub fn watch_pods(&self, scope: &Scope, from_revision: u64) -> Watch<Pod> {
        let request = v1::WatchPodsRequest {
            namespace: scope.namespace.clone(),
            all_namespaces: scope.all_namespaces,
            name: scope.name.clone(),
            label_selector: scope.label_selector.clone(),
            from_revision,
            job_name: scope.job_name.clone(),
            node_name: scope.node_name.clone(),
        };
        Watch::new::<v1::PodWatchEvent>(self, from_revision, move |channel, from_revision| {
            let request = v1::WatchPodsRequest { from_revision, ..request.clone() };
            Box::pin(async move { PodsClient::new(channel).watch(request).await })
        })
    }
}
