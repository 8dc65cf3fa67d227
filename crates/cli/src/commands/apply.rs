//! `apply`, `create`, and reading manifests for `run` and `delete -f`.

use anyhow::{Context, Result, bail};
use std::io::Read;
use stint_api::Job;
use stint_client::Client;

use crate::arguments::Manifest;
use crate::output;

/// `stint apply`.
pub async fn apply(client: &Client, manifest: &Manifest) -> Result<()> {
    for mut job in read(manifest)? {
        let (namespace, name) = (job.metadata.namespace.clone(), job.metadata.name.clone());
        if name.is_empty() {
            bail!("metadata.name: Required value: apply needs a name; use create with metadata.generateName");
        }
        let result = match client.get_job(&namespace, &name).await {
            Ok(existing) => {
                if job.metadata.uid.is_empty() {
                    job.metadata.uid = existing.metadata.uid.clone();
                }
                let updated = client.update_job(&job).await?;
                updated.warnings.iter().for_each(|warning| warn(warning));
                if updated.job.metadata.resource_version == existing.metadata.resource_version {
                    "unchanged"
                } else {
                    "configured"
                }
            }
            Err(error) if error.is_not_found() => {
                let created = client.create_job(&job).await?;
                created.warnings.iter().for_each(|warning| warn(warning));
                "created"
            }
            Err(error) => return Err(error.into()),
        };
        output::line(&format!("job.batch/{name} {result}"))?;
    }
    Ok(())
}

/// `stint create`.
pub async fn create(client: &Client, manifest: &Manifest) -> Result<()> {
    for job in read(manifest)? {
        let created = client.create_job(&job).await?;
        created.warnings.iter().for_each(|warning| warn(warning));
        output::line(&format!("job.batch/{} created", created.job.metadata.name))?;
    }
    Ok(())
}

/// Reads all Jobs of all manifests before anything is done with the first.
pub fn read(manifest: &Manifest) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for filename in &manifest.filename {
        let text = read_text(filename)?;
        let read = stint_kube::read_manifest(&text).map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(|error| format!("{filename}: {error}")).collect();
            anyhow::anyhow!("{}", errors.join("\n"))
        })?;
        if read.is_empty() {
            bail!("{filename} holds no object: give a manifest of kind Job");
        }
        jobs.extend(read);
    }
    for job in &mut jobs {
        if job.metadata.namespace.is_empty() {
            job.metadata.namespace.clone_from(&manifest.namespace);
        }
    }
    Ok(jobs)
}

/// Tells the user what was accepted without effect.
pub fn warn(warning: &str) {
    output::note(&format!("warning: {warning}"));
}

fn read_text(filename: &str) -> Result<String> {
    let mut bytes = Vec::new();
    if filename == "-" {
        std::io::stdin().lock().read_to_end(&mut bytes).context("stdin can't be read")?;
    } else {
        bytes = std::fs::read(filename).with_context(|| format!("{filename} can't be read"))?;
    }
    String::from_utf8(bytes).with_context(|| format!("{filename} is not text: manifests are UTF-8"))
}
