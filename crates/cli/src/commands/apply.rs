//! `apply` and `create`.
//!
//! Owns: their order: everything is read and checked before anything is sent. Does not own: reading manifests (`manifest`).

use anyhow::{Context as _, Result, bail};
use stint_api::{Job, generate_labels, set_defaults, validate_update};
use stint_client::Client;

use crate::arguments::Manifest;
use crate::commands::Context;
use crate::commands::manifest::{self, Document, problem_of, problem_of_new, refuse_if_any};
use crate::output;

/// `stint apply`.
pub async fn apply(context: &Context, manifest: &Manifest) -> Result<()> {
    let client = &context.client;
    let documents = manifest::read(context, &manifest.filename)?;
    let mut wanted: Vec<(Job, Option<Job>)> = Vec::new();
    let mut problems = Vec::new();
    for Document { file, job } in documents {
        if job.metadata.name.is_empty() {
            problems.push(format!(
                "{file}: metadata.name: Required value: apply needs a name; use create with metadata.generateName"
            ));
            continue;
        }
        let existing = match client.get_job(&job.metadata.namespace, &job.metadata.name).await {
            Ok(existing) => Some(existing),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        problems.extend(problem_with(&file, &job, existing.as_ref())?);
        wanted.push((job, existing));
    }
    refuse_if_any(&problems)?;
    let count = wanted.len();
    for (position, (job, existing)) in wanted.into_iter().enumerate() {
        let name = job.metadata.name.clone();
        let result =
            apply_one(client, job, existing).await.with_context(|| not_sent(position, count, &name))?;
        output::line(&format!("job.batch/{name} {result}"))?;
    }
    Ok(())
}

async fn apply_one(client: &Client, mut job: Job, existing: Option<Job>) -> Result<&'static str> {
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
        for Document { file, job } in documents.iter().filter(|one| !one.job.metadata.name.is_empty()) {
            match client.get_job(&job.metadata.namespace, &job.metadata.name).await {
                Ok(_) => bail!("{file}: job {:?} already exists: nothing was created", job.metadata.name),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    for (position, Document { job, .. }) in documents.iter().enumerate() {
        let name = &job.metadata.name;
        let created = client.create_job(job).await.with_context(|| not_sent(position, count, name))?;
        created.warnings.iter().for_each(|warning| manifest::warn(warning));
        output::line(&format!("job.batch/{} created", created.job.metadata.name))?;
    }
    Ok(())
}

/// What an error in the middle leaves undone.
fn not_sent(position: usize, count: usize, name: &str) -> String {
    match count - position - 1 {
        0 => format!("job {name:?}"),
        left => format!("job {name:?}, and {left} after it were not sent"),
    }
}
