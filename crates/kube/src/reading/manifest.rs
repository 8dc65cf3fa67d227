//! Manifests: documents, lists, kinds.
//!
//! Owns: which objects a text holds. Does not own: what is in a Job.

use serde_json::Value;
use stint_api::{ConfigMap, FieldError, Job};

use super::config_map::config_map_of;
use super::convert::Refusals;
use super::job::job_of;
use super::schema;
use super::tree::{Content, Node, parse, shortened};
use crate::error::{ManifestError, ManifestProblem};
use crate::limits;

const JOB_API_VERSION: &str = "batch/v1";
const CORE_API_VERSION: &str = "v1";

/// One object of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub enum ManifestObject {
    /// Kind `Job`.
    Job(Box<Job>),
    /// Kind `ConfigMap`.
    ConfigMap(Box<ConfigMap>),
}

/// A kind of object and its version.
type Kind = (&'static str, &'static str);

const JOB: Kind = ("Job", JOB_API_VERSION);
const CONFIG_MAP: Kind = ("ConfigMap", CORE_API_VERSION);

/// Reads the objects of a manifest, in order: as [`read_manifest`], with ConfigMaps too.
///
/// # Errors
/// As [`read_manifest`].
pub fn read_objects(text: &str) -> Result<Vec<ManifestObject>, Vec<ManifestError>> {
    read(text, &[JOB, CONFIG_MAP])
}

/// Reads the Jobs of a manifest, in order: YAML, of one or several documents, or JSON; kind `Job`, or kind `List` of Jobs.
/// An empty text gives none. Nothing is defaulted, and nothing validated beyond names, types and what is supported.
///
/// `status` and what the server sets in `metadata` are accepted and ignored, but for `uid` and `resourceVersion`, which
/// are kept as preconditions.
///
/// # Errors
/// All that is wrong, with positions: the text is not YAML or repeats a key, a field or kind is unknown, a value is of the
/// wrong type, a field is not supported.
pub fn read_manifest(text: &str) -> Result<Vec<Job>, Vec<ManifestError>> {
    let jobs = read(text, &[JOB])?.into_iter().filter_map(|object| match object {
        ManifestObject::Job(job) => Some(*job),
        ManifestObject::ConfigMap(_) => None,
    });
    Ok(jobs.collect())
}

/// Objects of these kinds, and lists of them.
fn read(text: &str, kinds: &[Kind]) -> Result<Vec<ManifestObject>, Vec<ManifestError>> {
    let documents = parse(text).map_err(|error| vec![error])?;
    let mut objects = Vec::new();
    let mut errors = Vec::new();
    for document in documents {
        if document.content != Content::Null {
            read_object(document, "", kinds, &mut objects, &mut errors);
        }
        if objects.len() > limits::MANIFEST_OBJECTS_MAX {
            let what = if kinds.len() == 1 { "Jobs" } else { "objects" };
            let problem = ManifestProblem::TooMany { what, limit: limits::MANIFEST_OBJECTS_MAX };
            errors.push(ManifestError { position: None, problem });
            break;
        }
    }
    if errors.is_empty() { Ok(objects) } else { Err(errors) }
}

/// Reads one Job of its Kubernetes JSON, by the rules of [`read_manifest`]; the errors have no positions.
///
/// # Errors
/// As [`read_manifest`].
pub fn job_from_json(value: &Value) -> Result<Job, Vec<ManifestError>> {
    let mut node = Node::from_json(value);
    let mut errors = Vec::new();
    if !check_kind(&node, "", &[JOB], &mut errors) {
        return Err(errors);
    }
    read_job(&mut node, "")
}

fn read_object(
    mut node: Node,
    path: &str,
    kinds: &[Kind],
    objects: &mut Vec<ManifestObject>,
    errors: &mut Vec<ManifestError>,
) {
    let mut known = kinds.to_vec();
    // A list within a list would be read without end.
    if path.is_empty() {
        known.extend([("List", CORE_API_VERSION), ("JobList", JOB_API_VERSION)]);
    }
    // The items of a JobList need not say what they are.
    let is_plain = !path.is_empty() && node.entry("kind").is_none() && node.entry("apiVersion").is_none();
    if !is_plain && !check_kind(&node, path, &known, errors) {
        return;
    }
    let read = match node.text("kind") {
        Some("ConfigMap") => {
            Some(read_config_map(&mut node, path).map(|map| ManifestObject::ConfigMap(Box::new(map))))
        }
        Some("Job") => Some(read_job(&mut node, path).map(|job| ManifestObject::Job(Box::new(job)))),
        _ if is_plain => Some(read_job(&mut node, path).map(|job| ManifestObject::Job(Box::new(job)))),
        _ => None,
    };
    match read {
        Some(Ok(object)) => return objects.push(object),
        Some(Err(found)) => return errors.extend(found),
        None => {}
    }
    let position = node.position;
    let unknown = match &node.content {
        Content::Map(entries) => {
            let is_known = |key: &str| matches!(key, "apiVersion" | "kind" | "metadata" | "items");
            entries.iter().find(|entry| !is_known(&entry.key))
        }
        _ => None,
    };
    if let Some(entry) = unknown {
        let problem = ManifestProblem::UnknownField { path: shortened(&entry.key), suggestion: None };
        errors.push(ManifestError { position: entry.position, problem });
    }
    let Some(items) = node.entry_mut("items") else {
        let problem = ManifestProblem::Field(FieldError::required("items", "a list of Jobs"));
        errors.push(ManifestError { position, problem });
        return;
    };
    match std::mem::replace(&mut items.content, Content::Null) {
        Content::List(items) => {
            for (index, item) in items.into_iter().enumerate() {
                read_object(item, &format!("items[{index}]"), kinds, objects, errors);
            }
        }
        Content::Null => {}
        _ => {
            let detail = "expected a list of Jobs".to_owned();
            let problem = ManifestProblem::WrongType { path: "items".to_owned(), detail };
            errors.push(ManifestError { position: items.position, problem });
        }
    }
}

/// True if the object is of one of these kinds, and of the right version.
fn check_kind(node: &Node, path: &str, known: &[Kind], errors: &mut Vec<ManifestError>) -> bool {
    let mut refuse = |error: FieldError| {
        errors.push(ManifestError {
            position: node.locate(relative(&error.field, path)),
            problem: ManifestProblem::Field(error),
        });
        false
    };
    let field = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    if !matches!(node.content, Content::Map(_)) {
        let problem = ManifestProblem::WrongType {
            path: if path.is_empty() { "the document".to_owned() } else { path.to_owned() },
            detail: "expected an object with apiVersion, kind, metadata and spec".to_owned(),
        };
        errors.push(ManifestError { position: node.position, problem });
        return false;
    }
    let kinds: Vec<&'static str> =
        known.iter().map(|(kind, _)| *kind).filter(|kind| *kind != "JobList").collect();
    let Some(kind) = node.entry("kind") else {
        return refuse(FieldError::required(field("kind"), "write \"Job\""));
    };
    let Content::Text(kind) = &kind.value.content else {
        return refuse(FieldError::required(field("kind"), "write \"Job\""));
    };
    let Some((_, expected)) = known.iter().find(|(known, _)| known == kind) else {
        return refuse(FieldError::unsupported(field("kind"), &shortened(kind), &kinds));
    };
    match node.text("apiVersion") {
        Some(version) if version == *expected => true,
        Some(version) => {
            refuse(FieldError::unsupported(field("apiVersion"), &shortened(version), &[expected]))
        }
        None => refuse(FieldError::required(field("apiVersion"), format!("write {expected:?}"))),
    }
}

/// M1: what only the server sets is ignored, also if it is of another version of Kubernetes.
fn drop_what_servers_set(node: &mut Node) {
    node.remove(&["status", "apiVersion", "kind"]);
    if let Some(metadata) = node.entry_mut("metadata") {
        metadata.remove(&[
            "creationTimestamp",
            "deletionGracePeriodSeconds",
            "deletionTimestamp",
            "generation",
            "managedFields",
            "selfLink",
        ]);
    }
}

fn read_config_map(node: &mut Node, path: &str) -> Result<ConfigMap, Vec<ManifestError>> {
    drop_what_servers_set(node);
    let mut refusals = Refusals::new(path);
    let map = config_map_of(schema::read(node, path)?, &mut refusals);
    let errors = refusals.located(node);
    if errors.is_empty() { Ok(map) } else { Err(errors) }
}

fn read_job(node: &mut Node, path: &str) -> Result<Job, Vec<ManifestError>> {
    drop_what_servers_set(node);
    let mut refusals = Refusals::new(path);
    if let Some(spec) = node.entry_mut("spec")
        && spec.entry("scheduling").is_some_and(|entry| entry.value.content != Content::Null)
    {
        // Younger than the schema, so that it would be called unknown (D10).
        refusals.not_yet("spec.scheduling");
    }
    let scheduling = refusals.located(node);
    if let Some(spec) = node.entry_mut("spec") {
        spec.remove(&["scheduling"]);
    }
    let mut errors = scheduling;
    match schema::read(node, path) {
        Ok(job) => {
            let mut refusals = Refusals::new(path);
            let job = job_of(job, &mut refusals);
            errors.extend(refusals.located(node));
            errors.sort_by_key(|error| error.position);
            if errors.is_empty() { Ok(job) } else { Err(errors) }
        }
        Err(found) => {
            errors.extend(found);
            Err(errors)
        }
    }
}

/// The part of a path below an object's own.
pub(super) fn relative<'a>(field: &'a str, path: &str) -> &'a str {
    field.strip_prefix(path).map_or(field, |rest| rest.strip_prefix('.').unwrap_or(rest))
}
