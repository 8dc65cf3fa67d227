//! `get`.

use anyhow::{Result, bail};
use serde_json::Value;
use stint_api::{Event, Job, Node, Pod};
use stint_client::{Client, Error, Listed, Scope, Watch, WatchEventKind};

use crate::arguments::{Format, Get};
use crate::commands::now;
use crate::output;
use crate::table::{Row, table};

/// A kind of object that can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Jobs,
    Pods,
    Nodes,
    Events,
}

impl Kind {
    /// By any of the names that Kubernetes' users know.
    pub fn parse(text: &str) -> Result<Kind> {
        Ok(match text {
            "job" | "jobs" | "job.batch" | "jobs.batch" => Kind::Jobs,
            "pod" | "pods" | "po" => Kind::Pods,
            "node" | "nodes" | "no" => Kind::Nodes,
            "event" | "events" | "ev" => Kind::Events,
            other => bail!("there is no kind {other:?}: jobs, pods, nodes and events can be shown"),
        })
    }
}

/// Splits `KIND/NAME`.
pub fn kind_and_name(text: &str) -> Result<(Kind, Option<&str>)> {
    match text.split_once('/') {
        Some((kind, name)) if !name.is_empty() => Ok((Kind::parse(kind)?, Some(name))),
        Some(_) => bail!("{text:?} has no name: write KIND/NAME"),
        None => Ok((Kind::parse(text)?, None)),
    }
}

/// `stint get`.
pub async fn run(client: &Client, get: &Get) -> Result<()> {
    let mut wanted: Vec<(Kind, Vec<String>)> = Vec::new();
    for part in get.kind.split(',') {
        let (kind, name) = kind_and_name(part)?;
        let names = name.map(str::to_owned).into_iter().chain(get.names.iter().cloned()).collect();
        wanted.push((kind, names));
    }
    if get.watch && wanted.len() > 1 {
        bail!("only one kind can be watched at a time");
    }
    if !get.selector.is_empty() {
        // Refused here, before any server is asked.
        stint_api::selector::parse(&get.selector)
            .map_err(|error| anyhow::anyhow!("the selector {:?} can't be read: {error}", get.selector))?;
    }
    let several = wanted.len() > 1;
    let mut json = Vec::new();
    for (kind, names) in &wanted {
        let found = match kind {
            Kind::Jobs => show::<Job>(client, get, names, several).await?,
            Kind::Pods => show::<Pod>(client, get, names, several).await?,
            Kind::Nodes => show::<Node>(client, get, names, several).await?,
            Kind::Events => show::<Event>(client, get, names, several).await?,
        };
        json.extend(found);
    }
    if several && matches!(get.output, Format::Json | Format::Yaml) {
        print_value(&stint_kube::list_to_json(json, 0), get.output)?;
    }
    Ok(())
}

/// What `get` needs of each kind.
trait Shown: Row + Sized {
    /// Kind as `get -o name` shows it.
    const NAME: &'static str;
    fn list(client: &Client, scope: &Scope) -> impl Future<Output = Result<Listed<Self>, Error>>;
    fn get(client: &Client, namespace: &str, name: &str) -> impl Future<Output = Result<Self, Error>>;
    fn watch(client: &Client, scope: &Scope, from_revision: u64) -> Watch<Self>;
    fn json(&self) -> Value;
    fn name(&self) -> &str;
}

/// Prints objects of one kind; gives those that are to be printed together with others.
async fn show<T: Shown>(client: &Client, get: &Get, names: &[String], several: bool) -> Result<Vec<Value>> {
    let scope = Scope {
        namespace: get.namespace.clone(),
        all_namespaces: get.all_namespaces,
        label_selector: get.selector.clone(),
        ..Scope::default()
    };
    let mut revision = 0;
    let mut objects = Vec::new();
    if names.is_empty() || get.watch {
        let listed = T::list(client, &scope).await?;
        revision = listed.revision;
        objects = listed.items;
        if !names.is_empty() {
            objects.retain(|object| names.iter().any(|name| name == object.name()));
        }
    } else {
        for name in names {
            objects.push(T::get(client, &get.namespace, name).await?);
        }
    }
    let single = names.len() == 1 && !several;
    match get.output {
        Format::Table | Format::Wide if objects.is_empty() && !get.watch => {
            if !several {
                let place =
                    if get.all_namespaces { "any".to_owned() } else { format!("the {}", get.namespace) };
                output::note(&format!("No {} found in {place} namespace.", T::NAME));
            }
        }
        Format::Table | Format::Wide if !objects.is_empty() => {
            if several {
                output::line(&format!("# {}", T::NAME))?;
            }
            let wide = get.output == Format::Wide;
            output::line(&table(&objects, now(), wide, get.all_namespaces, true))?;
        }
        Format::Table | Format::Wide => {}
        Format::Name => {
            for object in &objects {
                output::line(&format!("{}/{}", T::NAME, object.name()))?;
            }
        }
        Format::Json | Format::Yaml if several => return Ok(objects.iter().map(T::json).collect()),
        Format::Json | Format::Yaml if get.watch => {
            for object in &objects {
                print_value(&object.json(), get.output)?;
            }
        }
        Format::Json | Format::Yaml if single => {
            for object in &objects {
                print_value(&object.json(), get.output)?;
            }
        }
        Format::Json | Format::Yaml => {
            let items = objects.iter().map(T::json).collect();
            print_value(&stint_kube::list_to_json(items, revision), get.output)?;
        }
    }
    if get.watch {
        follow::<T>(client, get, names, &scope, revision, objects.is_empty()).await?;
    }
    Ok(Vec::new())
}

/// Prints changes until interrupted.
async fn follow<T: Shown>(
    client: &Client,
    get: &Get,
    names: &[String],
    scope: &Scope,
    revision: u64,
    mut with_titles: bool,
) -> Result<()> {
    let mut watch = T::watch(client, scope, revision);
    loop {
        let event = match watch.next().await {
            Ok(event) => event,
            Err(error) if error.is_expired() => {
                // Too slow for the servers' memory: go on from now, and say so.
                let listed = T::list(client, scope).await?;
                output::note("changes were missed; going on from now");
                watch = T::watch(client, scope, listed.revision);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if !names.is_empty() && !names.iter().any(|name| name == event.object.name()) {
            continue;
        }
        match get.output {
            Format::Table | Format::Wide => {
                let wide = get.output == Format::Wide;
                let shown = std::slice::from_ref(&event.object);
                output::line(&table(shown, now(), wide, get.all_namespaces, with_titles))?;
                with_titles = false;
            }
            Format::Name if event.kind == WatchEventKind::Deleted => {
                output::line(&format!("{}/{} deleted", T::NAME, event.object.name()))?;
            }
            Format::Name => output::line(&format!("{}/{}", T::NAME, event.object.name()))?,
            Format::Json | Format::Yaml => print_value(&event.object.json(), get.output)?,
        }
    }
}

fn print_value(value: &Value, format: Format) -> Result<()> {
    match format {
        Format::Yaml => output::data(format!("---\n{}", stint_kube::to_yaml(value)).as_bytes())?,
        _ => output::line(&serde_json::to_string_pretty(value)?)?,
    }
    Ok(())
}

impl Shown for Job {
    const NAME: &'static str = "job.batch";

    async fn list(client: &Client, scope: &Scope) -> Result<Listed<Job>, Error> {
        client.list_jobs(scope).await
    }

    async fn get(client: &Client, namespace: &str, name: &str) -> Result<Job, Error> {
        client.get_job(namespace, name).await
    }

    fn watch(client: &Client, scope: &Scope, from_revision: u64) -> Watch<Job> {
        client.watch_jobs(scope, from_revision)
    }

    fn json(&self) -> Value {
        stint_kube::job_to_json(self)
    }

    fn name(&self) -> &str {
        &self.metadata.name
    }
}

impl Shown for Pod {
    const NAME: &'static str = "pod";

    async fn list(client: &Client, scope: &Scope) -> Result<Listed<Pod>, Error> {
        client.list_pods(scope).await
    }

    async fn get(client: &Client, namespace: &str, name: &str) -> Result<Pod, Error> {
        client.get_pod(namespace, name).await
    }

    fn watch(client: &Client, scope: &Scope, from_revision: u64) -> Watch<Pod> {
        client.watch_pods(scope, from_revision)
    }

    fn json(&self) -> Value {
        stint_kube::pod_to_json(self)
    }

    fn name(&self) -> &str {
        &self.metadata.name
    }
}

impl Shown for Node {
    const NAME: &'static str = "node";

    async fn list(client: &Client, scope: &Scope) -> Result<Listed<Node>, Error> {
        client.list_nodes(scope).await
    }

    async fn get(client: &Client, _namespace: &str, name: &str) -> Result<Node, Error> {
        client.get_node(name).await
    }

    fn watch(client: &Client, scope: &Scope, from_revision: u64) -> Watch<Node> {
        client.watch_nodes(scope, from_revision)
    }

    fn json(&self) -> Value {
        stint_kube::node_to_json(self)
    }

    fn name(&self) -> &str {
        &self.metadata.name
    }
}

impl Shown for Event {
    const NAME: &'static str = "event";

    async fn list(client: &Client, scope: &Scope) -> Result<Listed<Event>, Error> {
        client.list_events(scope).await
    }

    async fn get(client: &Client, namespace: &str, name: &str) -> Result<Event, Error> {
        let scope = Scope { namespace: namespace.to_owned(), ..Scope::default() };
        let found =
            client.list_events(&scope).await?.items.into_iter().find(|event| event.metadata.name == name);
        found.ok_or_else(|| Error::Refused {
            reason: Some(stint_client::ErrorReason::NotFound),
            message: format!("event {name:?} not found in namespace {namespace:?}"),
            field_violations: Vec::new(),
        })
    }

    fn watch(client: &Client, scope: &Scope, from_revision: u64) -> Watch<Event> {
        client.watch_events(scope, from_revision)
    }

    fn json(&self) -> Value {
        stint_kube::event_to_json(self)
    }

    fn name(&self) -> &str {
        &self.metadata.name
    }
}
