//! Service ConfigMaps.
//!
//! Owns: its methods. Does not own: validation (`stint-api`), limits and preconditions (`stint-core`).

use prost::Message;
use stint_api::{
    ConfigMap, ConfigMapUid, FieldError, Revision, invalid_message, validate_config_map,
    validate_config_map_update,
};
use stint_core::{Command, CreateConfigMap, DeleteConfigMap, Reply, UpdateConfigMap};
use stint_proto::{ErrorReason, StatusDetails, v1};
use tonic::{Request, Response, Status};

use crate::error;
use crate::listing::{PageRequest, list};
use crate::objects::{ConfigMapQuery, DEFAULT_NAMESPACE, namespace_of, selector_of};
use crate::services::jobs::random_uid;
use crate::services::{Context, optional_namespace, required_name, uid_of, wrong_reply};
use crate::watching::WatchStream;

/// Kind and group in messages.
const RESOURCE: &str = "configmaps";

/// See `proto/stint/v1/config_maps.proto`.
#[derive(Clone)]
pub struct ConfigMapsService(pub Context);

impl ConfigMapsService {
    async fn read(&self, namespace: &str, name: &str, stale: bool) -> Result<ConfigMap, Status> {
        let wanted = (namespace.to_owned(), name.to_owned());
        let found = self.0.reads.rows(stale, move |rows| rows.config_map(&wanted.0, &wanted.1)).await?;
        found.ok_or_else(|| error::not_found(RESOURCE, name))
    }

    /// Proposes a change and reads back what came of it.
    async fn write(
        &self,
        command: Command,
        bytes: usize,
        namespace: &str,
        name: &str,
    ) -> Result<(v1::ConfigMap, u64), Status> {
        let reply = self.0.propose(command, bytes).await?;
        let Reply::Done { revision } = reply else { return Err(wrong_reply(&reply)) };
        let map = self.read(namespace, name, true).await.map_err(error::not_read_back)?;
        Ok((map.into(), revision.0))
    }
}

#[tonic::async_trait]
impl v1::config_maps_server::ConfigMaps for ConfigMapsService {
    async fn create(
        &self,
        request: Request<v1::CreateConfigMapRequest>,
    ) -> Result<Response<v1::CreateConfigMapResponse>, Status> {
        let request = request.into_inner();
        let bytes = request.encoded_len();
        let map = config_map_of(request.config_map)?;
        if map.metadata.name.is_empty() {
            return Err(error::bad_request("metadata.name", "Required value"));
        }
        refuse(&map, &validate_config_map(&map))?;
        let (namespace, name) = (map.metadata.namespace.clone(), map.metadata.name.clone());
        let command = CreateConfigMap { map, uid: ConfigMapUid(random_uid()?) };
        let command = Command::CreateConfigMap(Box::new(command));
        let (config_map, revision) = self.write(command, bytes, &namespace, &name).await?;
        Ok(Response::new(v1::CreateConfigMapResponse { config_map: Some(config_map), revision }))
    }

    async fn get(
        &self,
        request: Request<v1::GetConfigMapRequest>,
    ) -> Result<Response<v1::ConfigMap>, Status> {
        let request = request.into_inner();
        required_name(&request.name)?;
        let namespace = namespace_of(request.namespace, false).unwrap_or_default();
        Ok(Response::new(self.read(&namespace, &request.name, request.stale).await?.into()))
    }

    async fn list(
        &self,
        request: Request<v1::ListConfigMapsRequest>,
    ) -> Result<Response<v1::ListConfigMapsResponse>, Status> {
        let request = request.into_inner();
        let query = ConfigMapQuery {
            namespace: namespace_of(request.namespace, request.all_namespaces),
            name: String::new(),
            selector: selector_of(&request.label_selector)?,
        };
        let page = PageRequest {
            limit: request.limit,
            continue_token: request.continue_token,
            stale: request.stale,
        };
        let context = &self.0;
        let page = list(query, page, &context.reads, &context.lists).await?;
        Ok(Response::new(v1::ListConfigMapsResponse { metadata: Some(page.metadata), items: page.items }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateConfigMapRequest>,
    ) -> Result<Response<v1::UpdateConfigMapResponse>, Status> {
        let request = request.into_inner();
        let bytes = request.encoded_len();
        let map = config_map_of(request.config_map)?;
        required_name(&map.metadata.name)?;
        let uid = uid_of::<ConfigMapUid>("metadata.uid", &map.metadata.uid)?;
        let resource_version = Some(map.metadata.resource_version).filter(|revision| *revision > Revision(0));
        let (namespace, name) = (map.metadata.namespace.clone(), map.metadata.name.clone());
        let old = self.read(&namespace, &name, false).await?;
        refuse(&map, &validate_config_map_update(&old, &map))?;
        let command = Command::UpdateConfigMap(Box::new(UpdateConfigMap { map, uid, resource_version }));
        let (config_map, revision) = self.write(command, bytes, &namespace, &name).await?;
        Ok(Response::new(v1::UpdateConfigMapResponse { config_map: Some(config_map), revision }))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteConfigMapRequest>,
    ) -> Result<Response<v1::DeleteConfigMapResponse>, Status> {
        let request = request.into_inner();
        let bytes = request.encoded_len();
        required_name(&request.name)?;
        optional_namespace(&request.namespace)?;
        let command = DeleteConfigMap {
            namespace: namespace_of(request.namespace, false).unwrap_or_default(),
            name: request.name,
            uid: uid_of::<ConfigMapUid>("uid", &request.uid)?,
            resource_version: Some(Revision(request.resource_version)).filter(|one| *one > Revision(0)),
        };
        let reply = self.0.propose(Command::DeleteConfigMap(command), bytes).await?;
        let Reply::Done { revision } = reply else { return Err(wrong_reply(&reply)) };
        Ok(Response::new(v1::DeleteConfigMapResponse { revision: revision.0 }))
    }

    type WatchStream = WatchStream<v1::ConfigMapWatchEvent>;

    async fn watch(
        &self,
        request: Request<v1::WatchConfigMapsRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let query = ConfigMapQuery {
            namespace: namespace_of(request.namespace, request.all_namespaces),
            name: request.name,
            selector: selector_of(&request.label_selector)?,
        };
        Ok(Response::new(self.0.watches.watch(query, request.from_revision).await?))
    }
}

fn config_map_of(map: Option<v1::ConfigMap>) -> Result<ConfigMap, Status> {
    let map = map.ok_or_else(|| error::bad_request("configMap", "Required value"))?;
    let mut map = ConfigMap::try_from(map)?;
    if map.metadata.namespace.is_empty() {
        map.metadata.namespace = DEFAULT_NAMESPACE.to_owned();
    }
    Ok(map)
}

fn refuse(map: &ConfigMap, errors: &[FieldError]) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    let message = invalid_message("ConfigMap", &map.metadata.name, errors);
    let mut details = StatusDetails::new(ErrorReason::Invalid, message);
    for failed in errors {
        details = details.with_field_violation(failed.field.clone(), failed.detail());
    }
    Err(details.into_status())
}
