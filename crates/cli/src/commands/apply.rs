//! `apply` and `create`.
//!
//! Owns: their order: everything is read and checked before anything is sent. Does not own: reading manifests (`manifest`).

use anyhow::{Context as _, Result, bail};
use stint_api::{
    ConfigMap, Job, generate_labels, set_defaults, validate_config_map, validate_config_map_update,
    validate_update,
};
use stint_client::Client;
use stint_kube::ManifestObject;

use crate::arguments::Manifest;
use crate::commands::Context;
use crate::commands::manifest::{self, problem_of, problem_of_map, problem_of_new, refuse_if_any};
use crate::output;

/// What is to be applied, and what is there already.
enum Wanted {
    Job(Box<Job>, Option<Box<Job>>),
    ConfigMap(Box<ConfigMap>, Option<Box<ConfigMap>>),
}

/// `stint apply`.
pub async fn apply(context: &Context, manifest: &Manifest) -> Result<()> {
    let client = &context.client;
    let documents = manifest::read(context, &manifest.filename)?;
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut problems = Vec::new();
    for document in documents {
        let file = &document.file;
        let metadata = document.metadata();
        if metadata.name.is_empty() {
            problems.push(format!(
                "{file}: metadata.name: Required value: apply needs a name; use create with metadata.generateName"
            ));
            continue;
        }
        let (namespace, name) = (metadata.namespace.as_str(), metadata.name.as_str());
        match document.object.clone() {
            ManifestObject::Job(job) => {
                let existing = present(client.get_job(namespace, name).await)?;
                problems.extend(problem_with(file, &job, existing.as_ref())?);
                wanted.push(Wanted::Job(job, existing.map(Box::new)));
            }
            ManifestObject::ConfigMap(map) => {
                let existing = present(client.get_config_map(namespace, name).await)?;
                let errors = match &existing {
                    Some(existing) => validate_config_map_update(existing, &map),
                    None => validate_config_map(&map),
                };
                problems.extend(problem_of_map(file, &map, &errors));
                wanted.push(Wanted::ConfigMap(map, existing.map(Box::new)));
            }
        }
    }
    refuse_if_any(&problems)?;
    let count = wanted.len();
    for (position, one) in wanted.into_iter().enumerate() {
        let (kind, name, result) = match one {
            Wanted::Job(job, existing) => {
                let name = job.metadata.name.clone();
                ("job.batch", name, apply_job(client, *job, existing).await)
            }
            Wanted::ConfigMap(map, existing) => {
                let name = map.metadata.name.clone();
                ("configmap", name, apply_config_map(client, &map, existing).await)
            }
        };
        let result = result.with_context(|| not_sent(position, count, kind, &name))?;
        output::line(&format!("{kind}/{name} {result}"))?;
    }
    Ok(())
}

/// None if there is none.
fn present<T>(found: Result<T, stint_client::Error>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn apply_config_map(
    client: &Client,
    map: &ConfigMap,
    existing: Option<Box<ConfigMap>>,
) -> Result<&'static str> {
    let Some(existing) = existing else {
        client.create_config_map(map).await?;
        return Ok("created");
    };
    let updated = client.update_config_map(map).await?;
    let is_unchanged = updated.metadata.resource_version == existing.metadata.resource_version;
    Ok(if is_unchanged { "unchanged" } else { "configured" })
}

async fn apply_job(client: &Client, mut job: Job, existing: Option<Box<Job>>) -> Result<&'static str> {
    let Some(existing) = existing else {
        let created = client.create_job(&job).await?;
        created.warnings.iter().for_each(|warning| manifest::warn(warning));
        return Ok("created");
    };
    if job.metadata.uid.is_empty() {
        job.metadata.uid = existing.metadata.uid.clone();
    }
    let updated = client.update_job(&job).await?;
    updated.warnings.iter().for_each(|warning| manifest::warn(warning));
    let is_unchanged = updated.job.metadata.resource_version == existing.metadata.resource_version;
    Ok(if is_unchanged { "unchanged" } else { "configured" })
}

/// What the servers would refuse, seen from here.
fn problem_with(file: &str, job: &Job, existing: Option<&Job>) -> Result<Option<String>> {
    let Some(existing) = existing else { return Ok(problem_of_new(file, job)) };
    let mut job = job.clone();
    set_defaults(&mut job);
    generate_labels(&mut job, existing.metadata.uid.parse().context("the servers gave a wrong uid")?);
    Ok(problem_of(file, &job, &validate_update(existing, &job)))
}

/// `stint create`.
pub async fn create(context: &Context, manifest: &Manifest) -> Result<()> {
    let client = &context.client;
    let documents = manifest::read(context, &manifest.filename)?;
    manifest::check_new(&documents)?;
    let count = documents.len();
    if count > 1 {
        // One that exists would stop it in the middle.
        for document in documents.iter().filter(|one| !one.metadata().name.is_empty()) {
            let (namespace, name) = (&document.metadata().namespace, &document.metadata().name);
            let exists = match &document.object {
                ManifestObject::Job(_) => present(client.get_job(namespace, name).await)?.is_some(),
                ManifestObject::ConfigMap(_) => {
                    present(client.get_config_map(namespace, name).await)?.is_some()
                }
            };
            if exists {
                bail!("{}: {} {name:?} already exists: nothing was created", document.file, document.kind());
            }
        }
    }
    for (position, document) in documents.iter().enumerate() {
        let name = &document.metadata().name;
        match &document.object {
            ManifestObject::Job(job) => {
                let created = client.create_job(job).await;
                let created = created.with_context(|| not_sent(position, count, "job", name))?;
                created.warnings.iter().for_each(|warning| manifest::warn(warning));
                output::line(&format!("job.batch/{} created", created.job.metadata.name))?;
            }
            ManifestObject::ConfigMap(map) => {
                let created = client.create_config_map(map).await;
                let created = created.with_context(|| not_sent(position, count, "configmap", name))?;
                output::line(&format!("configmap/{} created", created.metadata.name))?;
            }
        }
    }
    Ok(())
}

/// What an error in the middle leaves undone.
fn not_sent(position: usize, count: usize, kind: &str, name: &str) -> String {
    let kind = kind.trim_end_matches(".batch");
    match count - position - 1 {
        0 => format!("{kind} {name:?}"),
        left => format!("{kind} {name:?}, and {left} after it were not sent"),
    }
}
