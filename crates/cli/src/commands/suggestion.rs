//! Names near one that does not exist.
//!
//! Owns: finding out what was probably meant. Does not own: what is near (`near`).
//!
//! Invariant: an error is told within [`TIMEOUT`] of its coming, whatever the servers do.

use std::time::Duration;
use stint_client::{Client, Error, Scope};

use crate::commands::Context;
use crate::commands::target::Kind;
use crate::complete::names_of;
use crate::near::nearest;

/// How long it may take to find out.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Names that are looked at, where a list can be cut off.
const NAMES_MAX: usize = 10_000;

/// What was probably meant where an object does not exist; None if nothing comes to mind.
pub async fn of(context: &Context, error: &anyhow::Error) -> Option<String> {
    let error = error.chain().find_map(|cause| cause.downcast_ref::<Error>())?;
    let (kind, name) = error.is_not_found().then(|| missing(&error.to_string())).flatten()?;
    tokio::time::timeout(TIMEOUT, near(&context.client, context.namespace(), kind, &name)).await.ok()?
}

/// Kind and name of `jobs.batch "a" not found`, as servers say it.
fn missing(message: &str) -> Option<(Kind, String)> {
    let (kind, rest) = message.split_once(" \"")?;
    Some((Kind::parse(kind).ok()?, rest.strip_suffix("\" not found")?.to_owned()))
}

async fn near(client: &Client, namespace: &str, kind: Kind, name: &str) -> Option<String> {
    let scope = Scope { namespace: namespace.to_owned(), items_max: NAMES_MAX, ..Scope::default() };
    let names = names_of(client, kind, &scope).await.ok()?;
    if let Some(near) = nearest(name, names.iter().map(String::as_str)) {
        return Some(format!("did you mean {near}?"));
    }
    if !kind.is_namespaced() {
        return None;
    }
    let place = match kind {
        Kind::Jobs => {
            elsewhere(client.list_jobs(&everywhere()).await.ok()?.items.iter().map(|one| &one.metadata), name)
        }
        Kind::Pods => {
            elsewhere(client.list_pods(&everywhere()).await.ok()?.items.iter().map(|one| &one.metadata), name)
        }
        Kind::ConfigMaps => elsewhere(
            client.list_config_maps(&everywhere()).await.ok()?.items.iter().map(|one| &one.metadata),
            name,
        ),
        Kind::Nodes | Kind::Events => None,
    };
    place.map(|place| format!("there is one in namespace {place}: -n {place}"))
}

fn everywhere() -> Scope {
    Scope { all_namespaces: true, items_max: NAMES_MAX, ..Scope::default() }
}

fn elsewhere<'a>(mut all: impl Iterator<Item = &'a stint_api::ObjectMeta>, name: &str) -> Option<String> {
    all.find(|one| one.name == name).map(|one| one.namespace.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_read_from_the_servers_words() {
        assert_eq!(missing("jobs.batch \"a\" not found"), Some((Kind::Jobs, "a".to_owned())));
        assert_eq!(missing("pods \"a-0-x\" not found"), Some((Kind::Pods, "a-0-x".to_owned())));
        assert_eq!(missing("nodes \"w1\" not found"), Some((Kind::Nodes, "w1".to_owned())));
        assert_eq!(missing("something \"a\" not found"), None);
        assert_eq!(missing("job \"a\" has no Pod yet"), None);
    }
}
