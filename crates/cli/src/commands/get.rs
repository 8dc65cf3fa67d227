//! `get`.
//!
//! Owns: what is shown of which objects, in which form. Does not own: columns (`table`), Kubernetes' form (crate `kube`).

use anyhow::{Result, anyhow, bail, ensure};
use serde_json::Value;
use std::cmp::Ordering;
use std::process::ExitCode;
use std::time::Duration;
use stint_api::{ConfigMap, Event, Job, Node, ObjectMeta, Pod};
use stint_client::{Client, Error, Listed, Scope, Watch, WatchEventKind};

use crate::arguments::{Format, Get};
use crate::commands::job_watch::Outage;
use crate::commands::target::{Kind, Target, kind_and_name, targets};
use crate::commands::{Context, Failures, now};
use crate::output;
use crate::table::{Row, Table};

/// `stint get`.
pub async fn run(context: &Context, get: &Get) -> Result<ExitCode> {
    let targets = targets(&get.targets)?;
    check(get, &targets)?;
    let mut shown = Shown { get, several: targets.len() > 1, values: Vec::new(), revision: 0, tables: 0 };
    let mut failures = Failures::default();
    for target in &targets {
        match target.kind {
            Kind::Jobs => show::<Job>(context, &mut shown, target, &mut failures).await?,
            Kind::Pods => show::<Pod>(context, &mut shown, target, &mut failures).await?,
            Kind::ConfigMaps => show::<ConfigMap>(context, &mut shown, target, &mut failures).await?,
            Kind::Nodes => show::<Node>(context, &mut shown, target, &mut failures).await?,
            Kind::Events => show::<Event>(context, &mut shown, target, &mut failures).await?,
        }
    }
    let is_one = targets.len() == 1 && targets[0].names.len() == 1;
    shown.finish(context, &targets, is_one)?;
    Ok(failures.exit_code())
}

/// What can be refused before any server is asked.
fn check(get: &Get, targets: &[Target]) -> Result<()> {
    let has_names = targets.iter().any(|target| !target.names.is_empty());
    ensure!(!has_names || get.selector.is_empty(), "names and a selector can't be given together");
    ensure!(
        !(has_names && get.all_namespaces && targets.iter().any(|target| target.kind.is_namespaced())),
        "names and --all-namespaces can't be given together: a name is of one namespace"
    );
    ensure!(!get.watch || targets.len() == 1, "only one kind can be watched at a time");
    ensure!(
        get.regarding.is_none() || targets.iter().all(|target| target.kind == Kind::Events),
        "--for is for events: write get events --for KIND/NAME"
    );
    if !get.selector.is_empty() {
        ensure!(
            targets.iter().all(|target| target.kind != Kind::Events),
            "events have no labels: leave out --selector"
        );
        stint_api::selector::parse(&get.selector)
            .map_err(|error| anyhow!("the selector {:?} can't be read: {error}", get.selector))?;
    }
    Ok(())
}

/// What `get` needs of each kind.
trait Object: Row + Sized {
    /// Kind as `get -o name` shows it.
    const NAME: &'static str;
    fn list(client: &Client, scope: &Scope) -> impl Future<Output = Result<Listed<Self>, Error>>;
    fn get(client: &Client, namespace: &str, name: &str) -> impl Future<Output = Result<Self, Error>>;
    fn watch(client: &Client, scope: &Scope, from_revision: u64) -> Watch<Self>;
    fn json(&self) -> Value;
    fn metadata(&self) -> &ObjectMeta;

    /// How lists are ordered.
    fn order(&self, other: &Self) -> Ordering {
        let key = |meta: &ObjectMeta| (meta.namespace.clone(), meta.name.clone());
        key(self.metadata()).cmp(&key(other.metadata()))
    }
}

/// What is shown, and what is to be shown together at the end.
struct Shown<'a> {
    get: &'a Get,
    /// Objects of several kinds.
    several: bool,
    values: Vec<Value>,
    revision: u64,
    tables: usize,
}

impl Shown<'_> {
    fn is_table(&self) -> bool {
        matches!(self.get.output, Format::Table | Format::Wide)
    }

    /// Shows objects that there are.
    fn objects<T: Object>(&mut self, objects: &[T], table: &mut Table<T>) -> Result<()> {
        match self.get.output {
            Format::Table | Format::Wide if objects.is_empty() => {}
            Format::Table | Format::Wide => {
                if self.tables > 0 {
                    output::line("")?;
                }
                self.tables += 1;
                output::line(&table.lines(objects, now()))?;
            }
            Format::Name => {
                for object in objects {
                    output::line(&format!("{}/{}", T::NAME, object.metadata().name))?;
                }
            }
            Format::Json | Format::Yaml if self.get.watch => {
                for object in objects {
                    print_value(&object.json(), self.get)?;
                }
            }
            Format::Json | Format::Yaml => self.values.extend(objects.iter().map(T::json)),
        }
        Ok(())
    }

    /// Shows what belongs together, or says that there is nothing.
    fn finish(self, context: &Context, targets: &[Target], is_one: bool) -> Result<()> {
        match self.get.output {
            Format::Table | Format::Wide | Format::Name => {
                let asked_for_all = targets.iter().all(|target| target.names.is_empty());
                if self.is_table() && self.tables == 0 && asked_for_all {
                    let kinds: Vec<&str> = targets.iter().map(|target| target.kind.plural()).collect();
                    let is_namespaced = targets.iter().any(|target| target.kind.is_namespaced());
                    let place = match self.get.all_namespaces || !is_namespaced {
                        true => String::new(),
                        false => format!(" in namespace {:?}", context.namespace()),
                    };
                    output::note(&format!("no {} found{place}", kinds.join(" or ")));
                }
                Ok(())
            }
            Format::Json | Format::Yaml if is_one => match &self.values[..] {
                [value] => print_value(value, self.get),
                // Its error has been told.
                _ => Ok(()),
            },
            Format::Json | Format::Yaml => {
                let revision = if self.several { 0 } else { self.revision };
                print_value(&stint_kube::list_to_json(self.values, revision), self.get)
            }
        }
    }
}

async fn show<T: Object>(
    context: &Context,
    shown: &mut Shown<'_>,
    target: &Target,
    failures: &mut Failures,
) -> Result<()> {
    let get = shown.get;
    let mut table = Table::new(get.output == Format::Wide, get.all_namespaces);
    if shown.several {
        table = table.with_kind(T::NAME);
    }
    let mut scope = Scope {
        namespace: context.namespace().to_owned(),
        all_namespaces: get.all_namespaces,
        label_selector: get.selector.clone(),
        ..Scope::default()
    };
    if let Some(regarding) = &get.regarding {
        (scope.regarding_kind, scope.regarding_name) = event_object(regarding)?;
    }
    let client = &context.client;
    if get.watch {
        return watch(client, shown, &target.names, &scope, &mut table).await;
    }
    let mut objects = Vec::new();
    if target.names.is_empty() {
        let listed = T::list(client, &scope).await?;
        shown.revision = listed.revision;
        objects = listed.items;
        objects.sort_by(T::order);
    }
    let mut missing = Vec::new();
    for name in &target.names {
        match T::get(client, &scope.namespace, name).await {
            Ok(object) => objects.push(object),
            Err(error) if error.is_not_found() => missing.push(error),
            Err(error) => return Err(error.into()),
        }
    }
    shown.objects(&objects, &mut table)?;
    for error in missing {
        failures.tell(context, error.into()).await;
    }
    Ok(())
}

/// Kind and name of the object that events are about.
fn event_object(text: &str) -> Result<(String, String)> {
    let (kind, name) = match kind_and_name(text)? {
        (Kind::Jobs, Some(name)) => ("Job", name),
        (Kind::Pods, Some(name)) => ("Pod", name),
        (Kind::Nodes, Some(name)) => ("Node", name),
        _ => bail!("there are no events about {text:?}: write job/NAME, pod/NAME or node/NAME"),
    };
    Ok((kind.to_owned(), name.to_owned()))
}

/// Shows the objects that there are, then changes until interrupted.
async fn watch<T: Object>(
    client: &Client,
    shown: &mut Shown<'_>,
    names: &[String],
    scope: &Scope,
    table: &mut Table<T>,
) -> Result<()> {
    let is_meant = |object: &T| names.is_empty() || names.contains(&object.metadata().name);
    let mut listed = T::list(client, scope).await?;
    if let Some(name) =
        names.iter().find(|name| !listed.items.iter().any(|one| one.metadata().name == **name))
    {
        bail!("{} {name:?} not found", T::NAME);
    }
    listed.items.retain(is_meant);
    listed.items.sort_by(T::order);
    shown.objects(&listed.items, table)?;
    let scope = match names {
        [name] => Scope { name: name.clone(), ..scope.clone() },
        _ => scope.clone(),
    };
    let mut revision = listed.revision;
    let mut watch = T::watch(client, &scope, revision);
    let mut outage = Outage::default();
    loop {
        let event = match watch.next().await {
            Ok(event) => event,
            Err(error) if error.is_expired() => {
                // Too slow for the servers' memory. What has changed is shown as it is now; what is gone is not.
                output::note("changes were missed: what was deleted meanwhile is not shown");
                let mut listed = T::list(client, &scope).await?;
                listed.items.retain(|one| is_meant(one) && one.metadata().resource_version.0 > revision);
                listed.items.sort_by(T::order);
                shown.objects(&listed.items, table)?;
                revision = listed.revision;
                watch = T::watch(client, &scope, revision);
                continue;
            }
            Err(error) => {
                outage.endure(error, Duration::MAX)?;
                continue;
            }
        };
        outage.is_over();
        revision = event.revision;
        if !is_meant(&event.object) {
            continue;
        }
        match shown.get.output {
            Format::Table | Format::Wide => {
                output::line(&table.lines(std::slice::from_ref(&event.object), now()))?;
            }
            Format::Name => {
                let gone = if event.kind == WatchEventKind::Deleted { " deleted" } else { "" };
                output::line(&format!("{}/{}{gone}", T::NAME, event.object.metadata().name))?;
            }
            Format::Json | Format::Yaml => print_value(&event.object.json(), shown.get)?,
        }
    }
}

fn print_value(value: &Value, get: &Get) -> Result<()> {
    match get.output {
        Format::Yaml => {
            // Several documents in one stream.
            let begin = if get.watch { "---\n" } else { "" };
            output::data(format!("{begin}{}", stint_kube::to_yaml(value)).as_bytes())
        }
        _ => output::line(&serde_json::to_string_pretty(value)?),
    }
}

impl Object for Job {
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

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl Object for Pod {
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

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl Object for ConfigMap {
    const NAME: &'static str = "configmap";

    async fn list(client: &Client, scope: &Scope) -> Result<Listed<ConfigMap>, Error> {
        client.list_config_maps(scope).await
    }

    async fn get(client: &Client, namespace: &str, name: &str) -> Result<ConfigMap, Error> {
        client.get_config_map(namespace, name).await
    }

    fn watch(client: &Client, scope: &Scope, from_revision: u64) -> Watch<ConfigMap> {
        client.watch_config_maps(scope, from_revision)
    }

    fn json(&self) -> Value {
        stint_kube::config_map_to_json(self)
    }

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl Object for Node {
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

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl Object for Event {
    const NAME: &'static str = "event";

    async fn list(client: &Client, scope: &Scope) -> Result<Listed<Event>, Error> {
        let mut listed = client.list_events(scope).await?;
        if scope.regarding_kind == "Pod" && !scope.all_namespaces {
            match client.get_pod(&scope.namespace, &scope.regarding_name).await {
                Ok(pod) => listed.items.extend(stint_api::story::of_pod(&pod)),
                // Its events may outlast it for a moment.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listed)
    }

    async fn get(client: &Client, namespace: &str, name: &str) -> Result<Event, Error> {
        let scope = Scope { namespace: namespace.to_owned(), ..Scope::default() };
        let found =
            client.list_events(&scope).await?.items.into_iter().find(|event| event.metadata.name == name);
        let reason = stint_client::ErrorReason::NotFound;
        found.ok_or_else(|| Error::refused(reason, format!("events {name:?} not found")))
    }

    fn watch(client: &Client, scope: &Scope, from_revision: u64) -> Watch<Event> {
        // A scope's name is the name of an Event here, and watches of Events have no such filter.
        client.watch_events(&Scope { name: String::new(), ..scope.clone() }, from_revision)
    }

    fn json(&self) -> Value {
        stint_kube::event_to_json(self)
    }

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    /// The oldest first, as a story is read.
    fn order(&self, other: &Event) -> Ordering {
        let by_time = self.last_timestamp.cmp(&other.last_timestamp);
        by_time
            .then_with(|| self.regarding.cmp(&other.regarding))
            .then_with(|| self.metadata.name.cmp(&other.metadata.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stint_api::{EventType, ObjectReference, PodPhase, PodStatus, Timestamp};

    fn metadata(namespace: &str, name: &str) -> ObjectMeta {
        ObjectMeta { namespace: namespace.to_owned(), name: name.to_owned(), ..ObjectMeta::default() }
    }

    #[test]
    fn pods_are_ordered_by_namespace_and_name() {
        let pod = |namespace: &str, name: &str| {
            let metadata = metadata(namespace, name);
            Pod {
                metadata,
                spec: Default::default(),
                node_name: None,
                completion_index: None,
                binding_revision: None,
                status: PodStatus { phase: PodPhase::Running, ..PodStatus::default() },
            }
        };
        let mut pods = [pod("b", "a"), pod("a", "c"), pod("a", "b")];
        pods.sort_by(Object::order);
        assert_eq!(pods, [pod("a", "b"), pod("a", "c"), pod("b", "a")]);
    }

    #[test]
    fn events_are_about_jobs_pods_and_nodes() {
        let object = |text: &str| event_object(text).ok().map(|(kind, name)| format!("{kind} {name}"));
        assert_eq!(object("po/a").as_deref(), Some("Pod a"));
        assert_eq!(object("node/w1").as_deref(), Some("Node w1"));
        for text in ["a", "cm/a", "pod/", "pods"] {
            assert_eq!(object(text), None, "{text}");
        }
    }

    #[test]
    fn events_are_ordered_by_the_time_they_were_last_seen() {
        let event = |last_timestamp: i64, first_timestamp: i64, object: &str| Event {
            metadata: ObjectMeta::default(),
            regarding: ObjectReference { name: object.to_owned(), ..ObjectReference::default() },
            event_type: EventType::Normal,
            reason: String::new(),
            message: String::new(),
            source: String::new(),
            count: 1,
            first_timestamp: Timestamp(first_timestamp),
            last_timestamp: Timestamp(last_timestamp),
        };
        let mut events = [event(3, 1, "a"), event(2, 2, "b"), event(2, 2, "a"), event(1, 1, "c")];
        events.sort_by(Object::order);
        assert_eq!(events, [event(1, 1, "c"), event(2, 2, "a"), event(2, 2, "b"), event(3, 1, "a")]);
    }
}
