//! Objects as rows of a table.
//!
//! Owns: columns. Does not own: the words in them (`stint_api::table`).

use comfy_table::{ContentArrangement, Table, presets};
use stint_api::{Event, Job, Node, Pod, Timestamp, table as words};

/// What can be shown as a row.
pub trait Row {
    /// Titles of its columns.
    fn titles(wide: bool) -> Vec<&'static str>;
    /// Its cells, as many as there are titles.
    fn cells(&self, now: Timestamp, wide: bool) -> Vec<String>;
    /// For the column that all namespaces need.
    fn namespace(&self) -> &str;
}

/// Objects as a table without lines, as Kubernetes' users know it.
pub fn table<T: Row>(
    objects: &[T],
    now: Timestamp,
    wide: bool,
    all_namespaces: bool,
    with_titles: bool,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if with_titles {
        let namespace = all_namespaces.then_some("NAMESPACE");
        table.set_header(namespace.into_iter().chain(T::titles(wide)));
    }
    for object in objects {
        let namespace = all_namespaces.then(|| object.namespace().to_owned());
        table.add_row(namespace.into_iter().chain(object.cells(now, wide)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

impl Row for Job {
    fn titles(wide: bool) -> Vec<&'static str> {
        let mut titles = vec!["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"];
        if wide {
            titles.extend(["CONTAINERS", "IMAGES", "SELECTOR"]);
        }
        titles
    }

    fn cells(&self, now: Timestamp, wide: bool) -> Vec<String> {
        let mut cells = vec![
            self.metadata.name.clone(),
            words::job_status(self).to_owned(),
            words::job_completions(self),
            words::job_duration(self, now),
            words::age(self.metadata.creation_timestamp, now),
        ];
        if wide {
            let containers = &self.spec.template.spec.containers;
            let names: Vec<&str> = containers.iter().map(|container| container.name.as_str()).collect();
            let images: Vec<&str> = containers.iter().map(|container| container.image.as_str()).collect();
            let selector = self.spec.selector.as_ref().map(ToString::to_string).unwrap_or_default();
            cells.extend([names.join(","), images.join(","), selector]);
        }
        cells
    }

    fn namespace(&self) -> &str {
        &self.metadata.namespace
    }
}

impl Row for Pod {
    fn titles(wide: bool) -> Vec<&'static str> {
        let mut titles = vec!["NAME", "READY", "STATUS", "RESTARTS", "AGE"];
        if wide {
            titles.extend(["NODE", "INDEX", "TOKEN"]);
        }
        titles
    }

    fn cells(&self, now: Timestamp, wide: bool) -> Vec<String> {
        let mut cells = vec![
            self.metadata.name.clone(),
            words::pod_ready(self),
            words::pod_status(self),
            words::pod_restarts(self).to_string(),
            words::age(self.metadata.creation_timestamp, now),
        ];
        if wide {
            let none = || "<none>".to_owned();
            cells.push(self.node_name.clone().unwrap_or_else(none));
            cells.push(self.completion_index.map_or_else(none, |index| index.to_string()));
            cells.push(self.binding_revision.map_or_else(none, |revision| revision.to_string()));
        }
        cells
    }

    fn namespace(&self) -> &str {
        &self.metadata.namespace
    }
}

impl Row for Node {
    fn titles(wide: bool) -> Vec<&'static str> {
        let mut titles = vec!["NAME", "STATUS", "CPU", "MEMORY", "PODS", "AGE", "VERSION"];
        if wide {
            titles.extend(["RUNTIMES", "CONDITIONS", "LABELS"]);
        }
        titles
    }

    fn cells(&self, now: Timestamp, wide: bool) -> Vec<String> {
        let mebibytes = |bytes: u64| format!("{}Mi", bytes >> 20);
        let mut cells = vec![
            self.metadata.name.clone(),
            words::node_status(self),
            format!("{}m/{}m", self.requested.cpu_millis, self.capacity.cpu_millis),
            format!("{}/{}", mebibytes(self.requested.memory_bytes), mebibytes(self.capacity.memory_bytes)),
            format!("{}/{}", self.requested.pods, self.capacity.pods),
            words::age(self.metadata.creation_timestamp, now),
            self.agent_version.clone(),
        ];
        if wide {
            let conditions = self.conditions.iter().filter(|one| one.condition_type != "Ready");
            let conditions: Vec<&str> = conditions.map(|one| one.condition_type.as_str()).collect();
            let labels: Vec<String> =
                self.metadata.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            cells.extend([self.runtimes.join(","), conditions.join(","), labels.join(",")]);
        }
        cells
    }

    fn namespace(&self) -> &str {
        ""
    }
}

impl Row for Event {
    fn titles(wide: bool) -> Vec<&'static str> {
        let mut titles = vec!["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"];
        if wide {
            titles.extend(["FIRST SEEN", "COUNT", "SOURCE"]);
        }
        titles
    }

    fn cells(&self, now: Timestamp, wide: bool) -> Vec<String> {
        let mut cells = vec![
            words::age(Some(self.last_timestamp), now),
            self.event_type.as_str().to_owned(),
            self.reason.clone(),
            format!("{}/{}", self.regarding.kind.to_lowercase(), self.regarding.name),
            self.message.clone(),
        ];
        if wide {
            cells.extend([
                words::age(Some(self.first_timestamp), now),
                self.count.to_string(),
                self.source.clone(),
            ]);
        }
        cells
    }

    fn namespace(&self) -> &str {
        &self.metadata.namespace
    }
}
