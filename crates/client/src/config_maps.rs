//! Calls about ConfigMaps.

use stint_api::{ConfigMap, Revision};
use stint_proto::v1;
use stint_proto::v1::config_maps_client::ConfigMapsClient;

use crate::connection::{Client, Effect};
use crate::error::Error;
use crate::watch::{Scope, Watch};
use crate::{Listed, limits};

impl Client {
    /// Makes a ConfigMap.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::api::ConfigMap;
    ///
    /// let mut map = ConfigMap::default();
    /// map.metadata.name = "example-create".to_owned();
    /// map.data.insert("greeting".to_owned(), "hello".to_owned());
    /// let map = client.create_config_map(&map).await?;
    /// client.delete_config_map("default", &map.metadata.name, &map.metadata.uid, map.metadata.resource_version).await?;
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// `AlreadyExists`, `Invalid` with field violations, [`Error::OutcomeUnknown`], and those of every call.
    pub async fn create_config_map(&self, map: &ConfigMap) -> Result<ConfigMap, Error> {
        let request = v1::CreateConfigMapRequest { config_map: Some(map.clone().into()) };
        let answer = self
            .unary(Effect::Write, request, |channel, request| async move {
                ConfigMapsClient::new(channel).create(request).await
            })
            .await?;
        config_map_of(answer.config_map)
    }

    /// Reads a ConfigMap, linearizably.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// let error = client.get_config_map("default", "no-such-map").await.unwrap_err();
    /// assert!(error.is_not_found());
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// `NotFound`, and those of every call.
    pub async fn get_config_map(&self, namespace: &str, name: &str) -> Result<ConfigMap, Error> {
        let request =
            v1::GetConfigMapRequest { namespace: namespace.to_owned(), name: name.to_owned(), stale: false };
        let answer = self
            .unary(Effect::Read, request, |channel, request| async move {
                ConfigMapsClient::new(channel).get(request).await
            })
            .await?;
        config_map_of(Some(answer))
    }

    /// Reads all ConfigMaps of a scope, page by page.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::Scope;
    ///
    /// for map in client.list_config_maps(&Scope::default()).await? {
    ///     println!("{} has {} keys", map.metadata.name, map.data.len());
    /// }
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// Those of every call.
    pub async fn list_config_maps(&self, scope: &Scope) -> Result<Listed<ConfigMap>, Error> {
        let request = |continue_token| v1::ListConfigMapsRequest {
            namespace: scope.namespace.clone(),
            all_namespaces: scope.all_namespaces,
            label_selector: scope.label_selector.clone(),
            limit: limits::PAGE_SIZE,
            continue_token,
            stale: false,
        };
        self.list(
            usize::MAX,
            request,
            |channel, request| async move { ConfigMapsClient::new(channel).list(request).await },
            |answer| (answer.items, answer.metadata),
        )
        .await
    }

    /// Replaces a ConfigMap. `metadata.uid` and `metadata.resource_version` are preconditions if set.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::api::ConfigMap;
    ///
    /// let mut map = ConfigMap::default();
    /// map.metadata.name = "example-update".to_owned();
    /// map.data.insert("greeting".to_owned(), "hello".to_owned());
    /// let mut map = client.create_config_map(&map).await?;
    /// map.data.insert("greeting".to_owned(), "good morning".to_owned());
    /// let map = client.update_config_map(&map).await?;
    /// # client.delete_config_map("default", &map.metadata.name, "", Default::default()).await?;
    /// # Ok(()) }); }
    /// ```
    ///
    /// # Errors
    /// `NotFound`, `Conflict`, `Invalid`, [`Error::OutcomeUnknown`], and those of every call.
    pub async fn update_config_map(&self, map: &ConfigMap) -> Result<ConfigMap, Error> {
        let request = v1::UpdateConfigMapRequest { config_map: Some(map.clone().into()) };
        let answer = self
            .unary(Effect::Write, request, |channel, request| async move {
                ConfigMapsClient::new(channel).update(request).await
            })
            .await?;
        config_map_of(answer.config_map)
    }

    /// Deletes a ConfigMap. `uid` is a precondition unless it is empty, the revision unless it is 0.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`, [`Error::OutcomeUnknown`], and those of every call.
    pub async fn delete_config_map(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        resource_version: Revision,
    ) -> Result<(), Error> {
        let request = v1::DeleteConfigMapRequest {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            resource_version: resource_version.0,
        };
        self.unary(Effect::Write, request, |channel, request| async move {
            ConfigMapsClient::new(channel).delete(request).await
        })
        .await?;
        Ok(())
    }

    /// Watches ConfigMaps; changes after `from_revision` are given, each once. With 0 what there is comes first, as added.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/example.rs"));
    /// # fn main() { example(async |client| {
    /// use stint_client::Scope;
    ///
    /// let maps = client.list_config_maps(&Scope::default()).await?;
    /// // What comes after the list.
    /// let watch = client.watch_config_maps(&Scope::default(), maps.revision);
    /// # let _ = watch;
    /// # Ok(()) }); }
    /// ```
    pub fn watch_config_maps(&self, scope: &Scope, from_revision: u64) -> Watch<ConfigMap> {
        let request = v1::WatchConfigMapsRequest {
            namespace: scope.namespace.clone(),
            all_namespaces: scope.all_namespaces,
            name: scope.name.clone(),
            label_selector: scope.label_selector.clone(),
            from_revision,
        };
        Watch::new::<v1::ConfigMapWatchEvent>(self, from_revision, move |channel, from_revision| {
            let request = v1::WatchConfigMapsRequest { from_revision, ..request.clone() };
            Box::pin(async move { ConfigMapsClient::new(channel).watch(request).await })
        })
    }
}

fn config_map_of(map: Option<v1::ConfigMap>) -> Result<ConfigMap, Error> {
    map.ok_or_else(|| Error::answer("an answer without its ConfigMap"))?.try_into().map_err(Error::answer)
}
