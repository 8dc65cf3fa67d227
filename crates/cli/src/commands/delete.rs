//! `delete`.

use anyhow::{Result, bail};
use stint_client::{Client, Scope, v1};

use crate::arguments::{Cascade, Delete, Manifest};
use crate::commands::apply;
use crate::commands::get::{Kind, kind_and_name};
use crate::output;

/// `stint delete`.
pub async fn run(client: &Client, delete: &Delete) -> Result<()> {
    if !delete.filename.is_empty() {
        let manifest = Manifest { filename: delete.filename.clone(), namespace: delete.namespace.clone() };
        for job in apply::read(&manifest)? {
            delete_job(client, delete, &job.metadata.namespace, &job.metadata.name).await?;
        }
        return Ok(());
    }
    let Some(kind) = &delete.kind else { bail!("nothing to delete: give KIND NAME, KIND/NAME or -f FILE") };
    let (kind, name) = kind_and_name(kind)?;
    let mut names: Vec<String> =
        name.map(str::to_owned).into_iter().chain(delete.names.iter().cloned()).collect();
    if names.is_empty() && delete.selector.is_empty() {
        bail!("a name is required: give KIND NAME, KIND/NAME, -l SELECTOR or -f FILE");
    }
    if !delete.selector.is_empty() {
        if !names.is_empty() {
            bail!("names and a selector can't be given together");
        }
        let scope = Scope {
            namespace: delete.namespace.clone(),
            label_selector: delete.selector.clone(),
            ..Scope::default()
        };
        names = match kind {
            Kind::Jobs => {
                client.list_jobs(&scope).await?.items.into_iter().map(|job| job.metadata.name).collect()
            }
            Kind::Pods => {
                client.list_pods(&scope).await?.items.into_iter().map(|pod| pod.metadata.name).collect()
            }
            Kind::Nodes => {
                client.list_nodes(&scope).await?.items.into_iter().map(|node| node.metadata.name).collect()
            }
            Kind::Events => bail!("events can't be deleted: they go with their objects"),
        };
    }
    for name in names {
        match kind {
            Kind::Jobs => delete_job(client, delete, &delete.namespace, &name).await?,
            Kind::Pods => {
                // By uid: a Pod of that name that is made meanwhile is not meant.
                let pod = client.get_pod(&delete.namespace, &name).await?;
                client.delete_pod(&delete.namespace, &name, &pod.metadata.uid, delete.grace_period).await?;
                output::line(&format!("pod/{name} deleted"))?;
            }
            Kind::Nodes => {
                client.delete_node(&name).await?;
                output::line(&format!("node/{name} deleted"))?;
            }
            Kind::Events => bail!("events can't be deleted: they go with their objects"),
        }
    }
    Ok(())
}

async fn delete_job(client: &Client, delete: &Delete, namespace: &str, name: &str) -> Result<()> {
    let policy = match delete.cascade {
        Cascade::Background => v1::PropagationPolicy::Background,
        Cascade::Foreground => v1::PropagationPolicy::Foreground,
        Cascade::Orphan => v1::PropagationPolicy::Orphan,
    };
    // By uid: a Job of that name that is made meanwhile is not meant.
    let job = client.get_job(namespace, name).await?;
    client.delete_job(namespace, name, job.metadata.uid.parse()?, policy).await?;
    output::line(&format!("job.batch/{name} deleted"))?;
    Ok(())
}
