//! `delete`.

use anyhow::{Result, bail, ensure};
use std::process::ExitCode;
use stint_api::Revision;
use stint_client::{Error, Scope, v1};
use stint_kube::ManifestObject;

use crate::arguments::{Cascade, Delete};
use crate::commands::target::{Kind, targets};
use crate::commands::{Context, Failures, manifest};
use crate::complete::names_of;
use crate::output;

/// `stint delete`. What can be deleted is deleted, whatever happens to the rest.
pub async fn run(context: &Context, delete: &Delete) -> Result<ExitCode> {
    let mut failures = Failures::default();
    for (kind, namespace, name) in meant(context, delete).await? {
        match delete_one(context, delete, kind, &namespace, &name).await {
            Err(error) if delete.ignore_not_found && is_not_found(&error) => {}
            Err(error) => failures.tell(context, error).await,
            Ok(()) => {}
        }
    }
    Ok(failures.exit_code())
}

/// Kind, namespace and name of everything that is to be deleted.
async fn meant(context: &Context, delete: &Delete) -> Result<Vec<(Kind, String, String)>> {
    let mut meant = Vec::new();
    if !delete.filename.is_empty() {
        for document in manifest::read(context, &delete.filename)? {
            let kind = match &document.object {
                ManifestObject::Job(_) => Kind::Jobs,
                ManifestObject::ConfigMap(_) => Kind::ConfigMaps,
            };
            let metadata = document.metadata();
            ensure!(
                !metadata.name.is_empty(),
                "{}: metadata.name: Required value: delete needs a name",
                document.file
            );
            meant.push((kind, metadata.namespace.clone(), metadata.name.clone()));
        }
        return Ok(meant);
    }
    for target in targets(&delete.targets)? {
        let kind = target.kind;
        if kind == Kind::Events {
            bail!("events can't be deleted: they go with their objects");
        }
        ensure!(
            delete.grace_period.is_none() || kind == Kind::Pods,
            "--grace-period is for pods: {} have none",
            kind.plural()
        );
        let names = match (target.names.is_empty(), delete.selector.is_empty()) {
            (true, true) => bail!("a name is required: give KIND NAME, KIND/NAME, -l SELECTOR or -f FILE"),
            (false, false) => bail!("names and a selector can't be given together"),
            (false, true) => target.names,
            (true, false) => selected(context, kind, &delete.selector).await?,
        };
        if names.is_empty() {
            output::note(&format!("no {} match {}", kind.plural(), delete.selector));
        }
        meant.extend(names.into_iter().map(|name| (kind, context.namespace().to_owned(), name)));
    }
    Ok(meant)
}

async fn selected(context: &Context, kind: Kind, selector: &str) -> Result<Vec<String>> {
    let scope = Scope {
        namespace: context.namespace().to_owned(),
        label_selector: selector.to_owned(),
        ..Scope::default()
    };
    Ok(names_of(&context.client, kind, &scope).await?)
}

/// By uid where there is one: an object of that name that is made meanwhile is not meant.
async fn delete_one(
    context: &Context,
    delete: &Delete,
    kind: Kind,
    namespace: &str,
    name: &str,
) -> Result<()> {
    let client = &context.client;
    let word = match kind {
        Kind::Jobs => {
            let policy = match delete.cascade {
                Cascade::Background => v1::PropagationPolicy::Background,
                Cascade::Foreground => v1::PropagationPolicy::Foreground,
                Cascade::Orphan => v1::PropagationPolicy::Orphan,
            };
            let job = client.get_job(namespace, name).await?;
            client.delete_job(namespace, name, job.metadata.uid.parse()?, policy).await?;
            "job.batch"
        }
        Kind::Pods => {
            let pod = client.get_pod(namespace, name).await?;
            client.delete_pod(namespace, name, &pod.metadata.uid, delete.grace_period).await?;
            "pod"
        }
        Kind::ConfigMaps => {
            let map = client.get_config_map(namespace, name).await?;
            client.delete_config_map(namespace, name, &map.metadata.uid, Revision(0)).await?;
            "configmap"
        }
        Kind::Nodes => {
            client.delete_node(name).await?;
            "node"
        }
        Kind::Events => bail!("events can't be deleted: they go with their objects"),
    };
    output::line(&format!("{word}/{name} deleted"))
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Error>().is_some_and(Error::is_not_found)
}
