//! What a Pod's spec comes to when it is sent to its node: variables with values, volumes with contents.
//!
//! Owns: reading the ConfigMaps that a Pod refers to; resolving references to them, to the Pod's fields and to resources; what
//! is missing. Does not own: the addresses of Pod and node, which the node knows and fills in (`status.podIP`,
//! `status.hostIP`).
//!
//! Invariant: total: whatever a spec refers to, the result is a value, a variable less, or an error of the container.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stint_api::{
    ConfigMap, Container, DownwardApiFile, DownwardApiSource, EnvVar, EnvVarSource, KeyToPath, NodeCapacity,
    NodeName, Pod, PodSpec, Quantity, ResourceFieldRef, StringMap, VolumeProjection, VolumeSource,
};
use stint_proto::v1;
use stint_raft::RaftNode;
use tonic::Status;

use crate::limits::POD_CONTENTS_BYTES_MAX;
use crate::reads::Reads;

/// Fields that only the node knows.
const FIELDS_OF_THE_NODE: [&str; 4] = ["status.podIP", "status.podIPs", "status.hostIP", "status.hostIPs"];
/// Mode of files if neither the file nor its volume names one.
const MODE_DEFAULT: i32 = stint_api::limits::FILE_MODE_DEFAULT;

/// The ConfigMaps of a Pod's namespace that it refers to; what is not there is missing.
type ConfigMaps = BTreeMap<String, ConfigMap>;

/// A Pod with everything resolved that servers know.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The Pod; its containers have no `env_from` any more, and `value_from` only for what the node knows.
    pub pod: Pod,
    /// Contents of its volumes of kind configMap, downwardAPI and projected.
    pub volume_files: Vec<v1::VolumeFiles>,
    /// By container: why it can't be created (CreateContainerConfigError).
    pub config_errors: BTreeMap<String, String>,
}

/// The Pod as its node needs it, with the ConfigMaps as this server has them.
///
/// # Errors
/// If rows cannot be read.
pub async fn for_node(raft: &Arc<RaftNode>, pod: Pod) -> Result<Resolved, Status> {
    // Nearly all Pods refer to nothing, and there are thousands a second.
    if !refers(&pod.spec) {
        return Ok(Resolved { pod, volume_files: Vec::new(), config_errors: BTreeMap::new() });
    }
    let names: Vec<String> = config_maps_of(&pod.spec).into_iter().map(str::to_owned).collect();
    let mut maps = ConfigMaps::new();
    if !names.is_empty() {
        let namespace = pod.metadata.namespace.clone();
        let reads = Reads::new(Arc::clone(raft));
        let read = reads.rows(true, move |rows| {
            let mut found = ConfigMaps::new();
            for name in names {
                if let Some(map) = rows.config_map(&namespace, &name)? {
                    found.insert(name, map);
                }
            }
            Ok(found)
        });
        maps = read.await?;
    }
    let node = pod.node_name.as_deref().map(NodeName::new);
    let capacity = raft.with_state(|state| state.node(&node?).map(|node| node.capacity));
    Ok(resolve(pod, &maps, capacity.unwrap_or_default()))
}

/// True if there is anything to resolve.
fn refers(spec: &PodSpec) -> bool {
    let is_filled =
        |source: &VolumeSource| !matches!(source, VolumeSource::EmptyDir(_) | VolumeSource::HostPath(_));
    spec.volumes.iter().any(|volume| is_filled(&volume.source))
        || spec.init_containers.iter().chain(&spec.containers).any(|container| {
            !container.env_from.is_empty() || container.env.iter().any(|one| one.value_from.is_some())
        })
}

/// Names of the ConfigMaps that a spec refers to.
fn config_maps_of(spec: &PodSpec) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for container in spec.init_containers.iter().chain(&spec.containers) {
        names.extend(container.env_from.iter().map(|source| source.config_map_name.as_str()));
        names.extend(container.env.iter().filter_map(|variable| match &variable.value_from {
            Some(EnvVarSource::ConfigMapKeyRef(key)) => Some(key.name.as_str()),
            _ => None,
        }));
    }
    for volume in &spec.volumes {
        match &volume.source {
            VolumeSource::ConfigMap(map) => names.extend([map.name.as_str()]),
            VolumeSource::Projected(projected) => {
                names.extend(projected.sources.iter().filter_map(|source| match source {
                    VolumeProjection::ConfigMap(map) => Some(map.name.as_str()),
                    VolumeProjection::DownwardApi(_) => None,
                }));
            }
            _ => {}
        }
    }
    names
}

/// Resolves what a Pod's spec refers to. `node` is what its node offers: the limit of a container that has none.
fn resolve(pod: Pod, maps: &ConfigMaps, node: NodeCapacity) -> Resolved {
    let mut resolved =
        Resolved { pod: pod.clone(), volume_files: Vec::new(), config_errors: BTreeMap::new() };
    let sources = Sources { pod: &pod, maps, node };
    let mut failed_volumes = BTreeMap::new();
    let mut bytes = 0;
    for volume in &pod.spec.volumes {
        let files = match sources.files(&volume.source) {
            None => continue,
            Some(Ok(files)) => files,
            Some(Err(problem)) => {
                failed_volumes.insert(volume.name.as_str(), format!("volume {}: {problem}", volume.name));
                continue;
            }
        };
        bytes += files.iter().map(|file| file.path.len() + file.data.len()).sum::<usize>();
        resolved.volume_files.push(v1::VolumeFiles { volume: volume.name.clone(), files });
    }
    let PodSpec { init_containers, containers, .. } = &mut resolved.pod.spec;
    for container in init_containers.iter_mut().chain(containers) {
        let mounted =
            container.volume_mounts.iter().find_map(|mount| failed_volumes.get(mount.name.as_str()));
        match (mounted.cloned(), sources.environment(container)) {
            (None, Ok(env)) => {
                bytes += env.iter().map(|variable| variable.name.len() + variable.value.len()).sum::<usize>();
                container.env = env;
            }
            (Some(problem), _) | (None, Err(problem)) => {
                container.env.clear();
                resolved.config_errors.insert(container.name.clone(), problem);
            }
        }
        container.env_from.clear();
    }
    if bytes > POD_CONTENTS_BYTES_MAX {
        refuse_all(&mut resolved, bytes);
    }
    resolved
}

/// A Pod that would not fit into a message to its node.
fn refuse_all(resolved: &mut Resolved, bytes: usize) {
    let problem = format!(
        "environment and volumes have {bytes} bytes and may have {POD_CONTENTS_BYTES_MAX}: use fewer or smaller ConfigMaps"
    );
    resolved.volume_files.clear();
    let PodSpec { init_containers, containers, .. } = &mut resolved.pod.spec;
    for container in init_containers.iter_mut().chain(containers) {
        container.env.clear();
        resolved.config_errors.insert(container.name.clone(), problem.clone());
    }
}

struct Sources<'a> {
    pod: &'a Pod,
    maps: &'a ConfigMaps,
    node: NodeCapacity,
}

impl Sources<'_> {
    /// Whole ConfigMaps first, then what is named; what comes later wins.
    fn environment(&self, container: &Container) -> Result<Vec<EnvVar>, String> {
        let mut whole: BTreeMap<String, String> = BTreeMap::new();
        for source in &container.env_from {
            let Some(map) = self.maps.get(&source.config_map_name) else {
                if source.optional == Some(true) {
                    continue;
                }
                return Err(map_not_found(&source.config_map_name));
            };
            let named =
                map.data.iter().map(|(key, value)| (format!("{}{key}", source.prefix), value.clone()));
            whole.extend(named.filter(|(_, value)| !value.contains('\0')));
        }
        let plain = |(name, value)| EnvVar { name, value, value_from: None };
        let mut env: Vec<EnvVar> = whole.into_iter().map(plain).collect();
        for variable in &container.env {
            match &variable.value_from {
                None => env.push(variable.clone()),
                Some(EnvVarSource::FieldRef(field))
                    if FIELDS_OF_THE_NODE.contains(&field.field_path.as_str()) =>
                {
                    env.push(variable.clone());
                }
                Some(source) => {
                    if let Some(value) = self.value(source, container)? {
                        env.push(plain((variable.name.clone(), value)));
                    }
                }
            }
        }
        Ok(env)
    }

    /// None: the variable is left out.
    fn value(&self, source: &EnvVarSource, container: &Container) -> Result<Option<String>, String> {
        match source {
            EnvVarSource::FieldRef(field) => self.field(&field.field_path).map(Some),
            EnvVarSource::ResourceFieldRef(field) => self.resource(field, Some(container)).map(Some),
            EnvVarSource::ConfigMapKeyRef(key) => {
                let optional = key.optional == Some(true);
                match self.maps.get(&key.name).map(|map| map.data.get(&key.key)) {
                    Some(Some(value)) if value.contains('\0') => {
                        Err(format!("key {} of configmap {:?} has a NUL character", key.key, key.name))
                    }
                    Some(Some(value)) => Ok(Some(value.clone())),
                    _ if optional => Ok(None),
                    Some(None) => {
                        let namespace = &self.pod.metadata.namespace;
                        Err(format!("couldn't find key {} in ConfigMap {namespace}/{}", key.key, key.name))
                    }
                    None => Err(map_not_found(&key.name)),
                }
            }
        }
    }

    fn field(&self, path: &str) -> Result<String, String> {
        let metadata = &self.pod.metadata;
        let entry = |map: &StringMap, key: &str| map.get(key).cloned().unwrap_or_default();
        let key = |prefix: &str| path.strip_prefix(prefix).and_then(|rest| rest.strip_suffix("']"));
        if let Some(key) = key("metadata.labels['") {
            return Ok(entry(&metadata.labels, key));
        }
        if let Some(key) = key("metadata.annotations['") {
            return Ok(entry(&metadata.annotations, key));
        }
        match path {
            "metadata.name" => Ok(metadata.name.clone()),
            "metadata.namespace" => Ok(metadata.namespace.clone()),
            "metadata.uid" => Ok(metadata.uid.clone()),
            "metadata.labels" => Ok(lines_of(&metadata.labels)),
            "metadata.annotations" => Ok(lines_of(&metadata.annotations)),
            "spec.nodeName" => Ok(self.pod.node_name.clone().unwrap_or_default()),
            "spec.serviceAccountName" => {
                let kept = self.pod.spec.kept_fields.get("serviceAccountName");
                Ok(kept.map_or("default", |text| text.trim_matches('"')).to_owned())
            }
            _ => Err(format!("field {path:?} of the Pod can't be referred to")),
        }
    }

    /// An amount in units of the divisor, rounded up.
    fn resource(&self, field: &ResourceFieldRef, own: Option<&Container>) -> Result<String, String> {
        let spec = &self.pod.spec;
        let named = spec
            .init_containers
            .iter()
            .chain(&spec.containers)
            .find(|container| container.name == field.container_name);
        let container = named.or(own.filter(|_| field.container_name.is_empty()));
        let container = container.ok_or_else(|| format!("container {:?} not found", field.container_name))?;
        let millis = |quantity: &Quantity| quantity.millis();
        let amount = match field.resource.as_str() {
            "limits.cpu" => container.limits.get("cpu").map_or(i128::from(self.node.cpu_millis), millis),
            "limits.memory" => {
                container.limits.get("memory").map_or(i128::from(self.node.memory_bytes) * 1000, millis)
            }
            "requests.cpu" => container.requests.get("cpu").map_or(0, millis),
            "requests.memory" => container.requests.get("memory").map_or(0, millis),
            other => return Err(format!("resource {other:?} can't be referred to")),
        };
        let divisor = field.divisor.as_ref().map_or(0, millis);
        let divisor = if divisor > 0 { divisor } else { 1000 };
        Ok((amount.max(0) / divisor + i128::from(amount.max(0) % divisor > 0)).to_string())
    }

    /// None: not a volume that servers fill.
    fn files(&self, source: &VolumeSource) -> Option<Result<Vec<v1::VolumeFile>, String>> {
        match source {
            VolumeSource::EmptyDir(_) | VolumeSource::HostPath(_) => None,
            VolumeSource::ConfigMap(map) => {
                Some(self.keys(&map.name, &map.items, map.optional, map.default_mode))
            }
            VolumeSource::DownwardApi(fields) => Some(self.fields(&fields.items, fields.default_mode)),
            VolumeSource::Projected(projected) => {
                let mode = projected.default_mode;
                let files = projected.sources.iter().map(|source| match source {
                    VolumeProjection::ConfigMap(map) => self.keys(&map.name, &map.items, map.optional, mode),
                    VolumeProjection::DownwardApi(fields) => self.fields(&fields.items, mode),
                });
                let files: Result<Vec<_>, _> = files.collect();
                // Of two sources with the same path the later one wins.
                Some(files.map(|files| {
                    let by_path: BTreeMap<String, v1::VolumeFile> =
                        files.into_iter().flatten().map(|file| (file.path.clone(), file)).collect();
                    by_path.into_values().collect()
                }))
            }
        }
    }

    fn keys(
        &self,
        name: &str,
        items: &[KeyToPath],
        optional: Option<bool>,
        default_mode: Option<i32>,
    ) -> Result<Vec<v1::VolumeFile>, String> {
        let optional = optional == Some(true);
        let Some(map) = self.maps.get(name) else {
            return if optional { Ok(Vec::new()) } else { Err(map_not_found(name)) };
        };
        let content = |key: &str| {
            let text = map.data.get(key).map(|text| text.as_bytes());
            text.or_else(|| map.binary_data.get(key).map(Vec::as_slice))
        };
        if items.is_empty() {
            let keys = map.data.keys().chain(map.binary_data.keys());
            let file = |key: &String| Some(file(key, content(key)?, None, default_mode));
            return Ok(keys.filter_map(file).collect());
        }
        let mut files = Vec::with_capacity(items.len());
        for item in items {
            match content(&item.key) {
                Some(content) => files.push(file(&item.path, content, item.mode, default_mode)),
                None if optional => {}
                None => {
                    return Err(format!(
                        "configmap {name:?} references non-existent config key: {}",
                        item.key
                    ));
                }
            }
        }
        Ok(files)
    }

    fn fields(
        &self,
        items: &[DownwardApiFile],
        default_mode: Option<i32>,
    ) -> Result<Vec<v1::VolumeFile>, String> {
        let content = |item: &DownwardApiFile| {
            let text = match &item.source {
                DownwardApiSource::FieldRef(field) => self.field(&field.field_path)?,
                DownwardApiSource::ResourceFieldRef(field) => self.resource(field, None)?,
            };
            Ok(file(&item.path, text.as_bytes(), item.mode, default_mode))
        };
        items.iter().map(content).collect()
    }
}

fn file(path: &str, content: &[u8], mode: Option<i32>, default_mode: Option<i32>) -> v1::VolumeFile {
    let mode = mode.or(default_mode).unwrap_or(MODE_DEFAULT);
    v1::VolumeFile {
        path: path.to_owned(),
        data: prost::bytes::Bytes::copy_from_slice(content),
        mode: u32::try_from(mode & 0o777).unwrap_or(0),
    }
}

/// One line per entry, as Kubernetes writes them.
fn lines_of(map: &StringMap) -> String {
    map.iter().map(|(key, value)| format!("{key}={value:?}\n")).collect()
}

fn map_not_found(name: &str) -> String {
    format!("configmap {name:?} not found")
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::{
        ConfigMapKeyRef, ConfigMapProjection, ConfigMapVolume, DownwardApiProjection, DownwardApiVolume,
        EnvFromSource, FieldRef, ObjectMeta, PodStatus, ProjectedVolume, Volume, VolumeMount,
    };

    const NODE: NodeCapacity = NodeCapacity { cpu_millis: 2500, memory_bytes: 1 << 30, pods: 10 };

    fn pod(container: Container, volumes: Vec<Volume>) -> Pod {
        let metadata = ObjectMeta {
            name: "pi-abc".to_owned(),
            namespace: "team".to_owned(),
            uid: "u-1".to_owned(),
            labels: [("app".to_owned(), "pi".to_owned()), ("tier".to_owned(), "a\"b".to_owned())].into(),
            ..ObjectMeta::default()
        };
        let container = Container { name: "main".to_owned(), ..container };
        Pod {
            metadata,
            spec: PodSpec { containers: vec![container], volumes, ..PodSpec::default() },
            node_name: Some("n1".to_owned()),
            completion_index: None,
            binding_revision: None,
            status: PodStatus::default(),
        }
    }

    fn maps() -> ConfigMaps {
        let mut map = ConfigMap::default();
        map.data.insert("level".to_owned(), "debug".to_owned());
        map.data.insert("a.conf".to_owned(), "x = 1\n".to_owned());
        map.binary_data.insert("logo".to_owned(), vec![0, 255]);
        [("settings".to_owned(), map)].into()
    }

    fn from(name: &str, source: EnvVarSource) -> EnvVar {
        EnvVar { name: name.to_owned(), value: String::new(), value_from: Some(source) }
    }

    fn field(path: &str) -> EnvVarSource {
        EnvVarSource::FieldRef(FieldRef { field_path: path.to_owned() })
    }

    fn amount(resource: &str, divisor: Option<&str>) -> EnvVarSource {
        EnvVarSource::ResourceFieldRef(ResourceFieldRef {
            container_name: String::new(),
            resource: resource.to_owned(),
            divisor: divisor.map(|text| Quantity::parse(text).unwrap()),
        })
    }

    fn key(name: &str, key: &str, optional: Option<bool>) -> EnvVarSource {
        let (name, key) = (name.to_owned(), key.to_owned());
        EnvVarSource::ConfigMapKeyRef(ConfigMapKeyRef { name, key, optional })
    }

    fn values(container: Container) -> BTreeMap<String, String> {
        let resolved = resolve(pod(container, Vec::new()), &maps(), NODE);
        assert_eq!(resolved.config_errors, BTreeMap::new());
        let env = &resolved.pod.spec.containers[0].env;
        env.iter().map(|one| (one.name.clone(), one.value.clone())).collect()
    }

    #[test]
    fn variables_get_the_values_of_what_they_refer_to() {
        let mut container = Container::default();
        container.requests.insert("cpu".to_owned(), Quantity::parse("1500m").unwrap());
        container.limits.insert("memory".to_owned(), Quantity::parse("100Mi").unwrap());
        for (name, source) in [
            ("NAME", field("metadata.name")),
            ("NAMESPACE", field("metadata.namespace")),
            ("UID", field("metadata.uid")),
            ("LABEL", field("metadata.labels['app']")),
            ("NO_LABEL", field("metadata.labels['other']")),
            ("NODE", field("spec.nodeName")),
            ("ACCOUNT", field("spec.serviceAccountName")),
            ("CPU", amount("requests.cpu", None)),
            ("CPU_MILLIS", amount("requests.cpu", Some("1m"))),
            ("MEMORY_MI", amount("limits.memory", Some("1Mi"))),
            ("CPU_OF_NODE", amount("limits.cpu", None)),
            ("LEVEL", key("settings", "level", None)),
            ("NO_KEY", key("settings", "other", Some(true))),
            ("NO_MAP", key("other", "level", Some(true))),
        ] {
            container.env.push(from(name, source));
        }
        let values = values(container);
        for (name, expected) in [
            ("NAME", "pi-abc"),
            ("NAMESPACE", "team"),
            ("UID", "u-1"),
            ("LABEL", "pi"),
            ("NO_LABEL", ""),
            ("NODE", "n1"),
            ("ACCOUNT", "default"),
            ("CPU", "2"),
            ("CPU_MILLIS", "1500"),
            ("MEMORY_MI", "100"),
            ("CPU_OF_NODE", "3"),
            ("LEVEL", "debug"),
        ] {
            assert_eq!(values.get(name).map(String::as_str), Some(expected), "{name}");
        }
        assert!(!values.contains_key("NO_KEY") && !values.contains_key("NO_MAP"), "optional: left out");
    }

    #[test]
    fn addresses_are_left_to_the_node() {
        let container = Container { env: vec![from("IP", field("status.podIP"))], ..Container::default() };
        let resolved = resolve(pod(container.clone(), Vec::new()), &maps(), NODE);
        assert_eq!(resolved.pod.spec.containers[0].env, container.env);
    }

    #[test]
    fn whole_config_maps_come_before_what_is_named() {
        let source = |prefix: &str, name: &str, optional| EnvFromSource {
            prefix: prefix.to_owned(),
            config_map_name: name.to_owned(),
            optional,
        };
        let mut container = Container {
            env_from: vec![source("", "settings", None), source("S_", "settings", None)],
            env: vec![EnvVar { name: "level".to_owned(), value: "info".to_owned(), value_from: None }],
            ..Container::default()
        };
        container.env_from.push(source("X_", "other", Some(true)));
        let resolved = resolve(pod(container.clone(), Vec::new()), &maps(), NODE);
        let names: Vec<_> = resolved.pod.spec.containers[0]
            .env
            .iter()
            .map(|one| (one.name.as_str(), one.value.as_str()))
            .collect();
        assert_eq!(names.last(), Some(&("level", "info")), "what comes last wins: {names:?}");
        assert!(names.contains(&("S_a.conf", "x = 1\n")), "{names:?}");
        assert!(resolved.pod.spec.containers[0].env_from.is_empty());
        container.env_from[2].optional = None;
        let resolved = resolve(pod(container, Vec::new()), &maps(), NODE);
        assert_eq!(resolved.config_errors["main"], "configmap \"other\" not found");
    }

    #[test]
    fn what_is_missing_keeps_the_container_from_being_created() {
        for (source, expected) in [
            (key("other", "level", None), "configmap \"other\" not found"),
            (key("settings", "other", Some(false)), "couldn't find key other in ConfigMap team/settings"),
        ] {
            let container = Container { env: vec![from("A", source)], ..Container::default() };
            let resolved = resolve(pod(container, Vec::new()), &maps(), NODE);
            assert_eq!(resolved.config_errors["main"], expected);
        }
    }

    fn volume(name: &str, source: VolumeSource) -> Volume {
        Volume { name: name.to_owned(), source }
    }

    fn map_volume(name: &str, items: &[(&str, &str)], optional: Option<bool>) -> VolumeSource {
        let items = items.iter().map(|(key, path)| KeyToPath {
            key: (*key).to_owned(),
            path: (*path).to_owned(),
            mode: Some(0o400),
        });
        VolumeSource::ConfigMap(ConfigMapVolume {
            name: name.to_owned(),
            items: items.collect(),
            default_mode: Some(0o600),
            optional,
        })
    }

    fn fields() -> Vec<DownwardApiFile> {
        let source = DownwardApiSource::FieldRef(FieldRef { field_path: "metadata.labels".to_owned() });
        vec![DownwardApiFile { path: "labels".to_owned(), mode: None, source }]
    }

    #[test]
    fn volumes_get_their_files() {
        let projected = ProjectedVolume {
            sources: vec![
                VolumeProjection::ConfigMap(ConfigMapProjection {
                    name: "settings".to_owned(),
                    ..ConfigMapProjection::default()
                }),
                VolumeProjection::DownwardApi(DownwardApiProjection { items: fields() }),
            ],
            default_mode: None,
        };
        let volumes = vec![
            volume("empty", VolumeSource::default()),
            volume("whole", map_volume("settings", &[], None)),
            volume("some", map_volume("settings", &[("logo", "etc/logo"), ("none", "x")], Some(true))),
            volume(
                "pod",
                VolumeSource::DownwardApi(DownwardApiVolume { items: fields(), default_mode: None }),
            ),
            volume("all", VolumeSource::Projected(projected)),
        ];
        let resolved = resolve(pod(Container::default(), volumes), &maps(), NODE);
        let shown: Vec<String> = resolved
            .volume_files
            .iter()
            .flat_map(|volume| {
                volume.files.iter().map(|file| {
                    let text = String::from_utf8_lossy(&file.data);
                    format!("{}/{} {:o} {text:?}", volume.volume, file.path, file.mode)
                })
            })
            .collect();
        let labels = "\"app=\\\"pi\\\"\\ntier=\\\"a\\\\\\\"b\\\"\\n\"";
        let expected = [
            "whole/a.conf 600 \"x = 1\\n\"".to_owned(),
            "whole/level 600 \"debug\"".to_owned(),
            "whole/logo 600 \"\\0\u{fffd}\"".to_owned(),
            "some/etc/logo 400 \"\\0\u{fffd}\"".to_owned(),
            format!("pod/labels 644 {labels}"),
            "all/a.conf 644 \"x = 1\\n\"".to_owned(),
            format!("all/labels 644 {labels}"),
            "all/level 644 \"debug\"".to_owned(),
            "all/logo 644 \"\\0\u{fffd}\"".to_owned(),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_volume_without_its_config_map_fails_those_that_mount_it() {
        let mount = VolumeMount { name: "a".to_owned(), ..VolumeMount::default() };
        let mounting = Container { volume_mounts: vec![mount], ..Container::default() };
        for (source, expected) in [
            (map_volume("other", &[], None), Some("volume a: configmap \"other\" not found")),
            (map_volume("other", &[], Some(true)), None),
            (
                map_volume("settings", &[("none", "x")], None),
                Some("volume a: configmap \"settings\" references non-existent config key: none"),
            ),
        ] {
            let volumes = vec![volume("a", source)];
            let resolved = resolve(pod(mounting.clone(), volumes.clone()), &maps(), NODE);
            assert_eq!(resolved.config_errors.get("main").map(String::as_str), expected);
            let resolved = resolve(pod(Container::default(), volumes), &maps(), NODE);
            assert_eq!(resolved.config_errors, BTreeMap::new(), "who does not mount it can run");
        }
    }

    #[test]
    fn more_than_fits_into_a_message_is_refused() {
        let mut maps = maps();
        let large = "x".repeat(POD_CONTENTS_BYTES_MAX / 2);
        maps.get_mut("settings").unwrap().data.insert("large".to_owned(), large);
        let volumes: Vec<Volume> =
            ["a", "b", "c"].map(|name| volume(name, map_volume("settings", &[], None))).into();
        let resolved = resolve(pod(Container::default(), volumes), &maps, NODE);
        assert!(resolved.config_errors["main"].contains("may have"), "{:?}", resolved.config_errors);
        assert!(resolved.volume_files.is_empty());
    }

    #[test]
    fn the_config_maps_of_a_spec_are_those_that_it_names() {
        let mut pod = pod(
            Container { env: vec![from("A", key("a", "k", None))], ..Container::default() },
            vec![volume("b", map_volume("b", &[], None))],
        );
        let source = EnvFromSource { config_map_name: "c".to_owned(), ..EnvFromSource::default() };
        pod.spec.init_containers.push(Container { env_from: vec![source], ..Container::default() });
        assert_eq!(config_maps_of(&pod.spec), BTreeSet::from(["a", "b", "c"]));
    }
}
