//! Objects as rows of a table.
//!
//! Owns: columns. Does not own: the words in them (`stint_api::table`).

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Width, presets};
use std::marker::PhantomData;
use stint_api::{
    ConditionStatus, ConfigMap, ContainerState, Event, Job, Node, Pod, Timestamp, table as words,
};

use crate::color::{self, Stream, Tone};

/// What can be shown as a row.
pub trait Row {
    /// Titles of its columns.
    fn titles(wide: bool) -> Vec<&'static str>;
    /// Its cells, as many as there are titles.
    fn cells(&self, now: Timestamp, wide: bool) -> Vec<String>;
    /// For the column that all namespaces need.
    fn namespace(&self) -> &str;
}

/// A table without lines, as Kubernetes' users know it. It may be shown in parts: the titles come with the first, and the
/// columns of later ones are at least as wide.
pub struct Table<T> {
    is_wide: bool,
    all_namespaces: bool,
    /// Shown before each name.
    kind: Option<&'static str>,
    lines: Lines,
    rows: PhantomData<fn(T)>,
}

impl<T: Row> Table<T> {
    pub fn new(is_wide: bool, all_namespaces: bool) -> Table<T> {
        Table { is_wide, all_namespaces, kind: None, lines: Lines::default(), rows: PhantomData }
    }

    /// With `KIND/` before each name, for tables of several kinds.
    pub fn with_kind(self, kind: &'static str) -> Table<T> {
        Table { kind: Some(kind), ..self }
    }

    /// The next part.
    pub fn lines(&mut self, objects: &[T], now: Timestamp) -> String {
        let namespace = self.all_namespaces.then_some("NAMESPACE");
        let titles: Vec<&str> = namespace.into_iter().chain(T::titles(self.is_wide)).collect();
        let rows = objects.iter().map(|object| {
            let namespace = self.all_namespaces.then(|| object.namespace().to_owned());
            let mut cells = object.cells(now, self.is_wide);
            if let (Some(kind), Some(name)) =
                (self.kind.filter(|_| titles.contains(&"NAME")), cells.first_mut())
            {
                *name = format!("{kind}/{name}");
            }
            namespace.into_iter().chain(cells).collect()
        });
        self.lines.of(&titles, rows.collect())
    }
}

/// Cells below their titles.
#[derive(Default)]
pub struct Lines {
    widths: Vec<u16>,
}

impl Lines {
    /// The next rows; below the titles if they are the first.
    pub fn of(&mut self, titles: &[&str], rows: Vec<Vec<String>>) -> String {
        /// Between columns.
        const GAP: u16 = 3;
        let mut table = comfy_table::Table::new();
        // Never wrapped, whatever the terminal's width: a row stays a line for whoever reads it.
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if color::is_on(Stream::Stdout) {
            table.enforce_styling().style_text_only();
        } else {
            table.force_no_tty();
        }
        if self.widths.is_empty() {
            table.set_header(titles.iter().copied());
        }
        for row in rows {
            let toned = |(position, text): (usize, &String)| {
                let tone = titles.get(position).and_then(|title| tone_of(title, text));
                let cell = Cell::new(harmless(text));
                tone.map_or(cell.clone(), |tone| cell.fg(color_of(tone)))
            };
            table.add_row(row.iter().enumerate().map(toned));
        }
        let mut contents = table.column_max_content_widths();
        contents.resize(titles.len(), 0);
        self.widths.resize(titles.len(), 0);
        for ((column, width), content) in table.column_iter_mut().zip(&mut self.widths).zip(contents) {
            *width = content.max(*width);
            column.set_padding((0, GAP));
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(*width + GAP)));
        }
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        lines.join("\n")
    }
}

/// What the words of a column say, if they say that something is well or not.
fn tone_of(title: &str, words: &str) -> Option<Tone> {
    if !title.eq_ignore_ascii_case("STATUS") {
        return (title.eq_ignore_ascii_case("TYPE") && words == "Warning").then_some(Tone::Doubtful);
    }
    // `Ready,SchedulingDisabled`, `Init:Error`: the last part is what matters.
    let is_partly = words.contains(',');
    match words.rsplit([',', ':']).next().unwrap_or(words) {
        _ if is_partly => Some(Tone::Doubtful),
        "Complete" | "Completed" | "Succeeded" | "Ready" => Some(Tone::Good),
        "Pending" | "Suspended" | "Terminating" | "SuccessCriteriaMet" => Some(Tone::Doubtful),
        "Failed" | "Error" | "NotReady" | "OOMKilled" | "NodeLost" | "FailureTarget" | "Evicted" => {
            Some(Tone::Bad)
        }
        // `ErrImagePull`, `CrashLoopBackOff`, `CreateContainerConfigError`, `DeadlineExceeded`
        word if word.starts_with("Err") || word.ends_with("BackOff") || word.ends_with("Error") => {
            Some(Tone::Bad)
        }
        word if word.ends_with("Exceeded") => Some(Tone::Bad),
        _ => None,
    }
}

fn color_of(tone: Tone) -> Color {
    match tone {
        Tone::Good => Color::DarkGreen,
        Tone::Bad => Color::DarkRed,
        Tone::Doubtful => Color::DarkYellow,
        Tone::Hint => Color::DarkCyan,
    }
}

/// A text that stays on its line and says nothing to a terminal, neither by control characters nor by turning the direction
/// in which a line is read.
pub fn harmless(cell: &str) -> String {
    let turns = |one: char| matches!(one, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    let escaped = |one: char| match one.is_control() || turns(one) {
        true => one.escape_default().collect(),
        false => String::from(one),
    };
    cell.chars().map(escaped).collect()
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
            titles.extend(["IP", "NODE", "INDEX", "TOKEN"]);
        }
        titles
    }

    fn cells(&self, now: Timestamp, wide: bool) -> Vec<String> {
        let mut cells = vec![
            self.metadata.name.clone(),
            words::pod_ready(self),
            words::pod_status(self),
            restarts(self, now),
            words::age(self.metadata.creation_timestamp, now),
        ];
        if wide {
            let none = || "<none>".to_owned();
            cells.push(self.status.pod_ips.first().cloned().unwrap_or_else(none));
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

/// `2 (5m ago)`: how often, and how long ago the last run ended.
fn restarts(pod: &Pod, now: Timestamp) -> String {
    let count = words::pod_restarts(pod);
    let ends = pod.status.container_statuses.iter().filter_map(|status| match &status.last_state {
        Some(ContainerState::Terminated(end)) => end.finished_at,
        _ => None,
    });
    match ends.max().filter(|_| count > 0) {
        Some(end) => format!("{count} ({} ago)", words::age(Some(end), now)),
        None => count.to_string(),
    }
}

/// Begins the labels that say what a node is for.
const ROLE_LABEL_PREFIX: &str = "node-role.kubernetes.io/";

impl Row for Node {
    fn titles(wide: bool) -> Vec<&'static str> {
        let mut titles = vec!["NAME", "STATUS", "ROLES", "AGE", "VERSION"];
        if wide {
            // As kubectl has them, then what it shows elsewhere.
            titles.extend(["INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"]);
            titles.extend(["CPU", "MEMORY", "PODS", "CONDITIONS", "LABELS"]);
        }
        titles
    }

    fn cells(&self, now: Timestamp, wide: bool) -> Vec<String> {
        let labels = &self.metadata.labels;
        let roles: Vec<&str> = labels.keys().filter_map(|key| key.strip_prefix(ROLE_LABEL_PREFIX)).collect();
        let mut cells = vec![
            self.metadata.name.clone(),
            words::node_status(self),
            if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") },
            words::age(self.metadata.creation_timestamp, now),
            self.agent_version.clone(),
        ];
        if wide {
            let (requested, capacity) = (&self.requested, &self.capacity);
            let mebibytes = |bytes: u64| format!("{}Mi", bytes >> 20);
            let conditions = self
                .conditions
                .iter()
                .filter(|one| one.condition_type != "Ready" && one.status == ConditionStatus::True);
            let conditions: Vec<&str> = conditions.map(|one| one.condition_type.as_str()).collect();
            let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let known = |text: Option<&String>, otherwise: &str| match text {
                Some(text) if !text.is_empty() => text.clone(),
                _ => otherwise.to_owned(),
            };
            cells.extend([
                known(self.info.addresses.first(), "<none>"),
                "<none>".to_owned(),
                known(Some(&self.info.os_image), "<unknown>"),
                known(Some(&self.info.kernel_version), "<unknown>"),
                self.runtimes.join(","),
                format!("{}m/{}m", requested.cpu_millis, capacity.cpu_millis),
                format!("{}/{}", mebibytes(requested.memory_bytes), mebibytes(capacity.memory_bytes)),
                format!("{}/{}", requested.pods, capacity.pods),
                conditions.join(","),
                labels.join(","),
            ]);
        }
        cells
    }

    fn namespace(&self) -> &str {
        ""
    }
}

impl Row for ConfigMap {
    fn titles(_: bool) -> Vec<&'static str> {
        vec!["NAME", "DATA", "AGE"]
    }

    fn cells(&self, now: Timestamp, _: bool) -> Vec<String> {
        vec![
            self.metadata.name.clone(),
            (self.data.len() + self.binary_data.len()).to_string(),
            words::age(self.metadata.creation_timestamp, now),
        ]
    }

    fn namespace(&self) -> &str {
        &self.metadata.namespace
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

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str) -> Job {
        let mut job = Job::default();
        job.metadata.name = name.to_owned();
        job.metadata.namespace = "team".to_owned();
        job.metadata.creation_timestamp = Some(Timestamp(0));
        job
    }

    #[test]
    fn columns_are_as_kubectl_has_them() {
        let shown = Table::new(false, true).lines(&[job("a"), job("longer")], Timestamp(65_000));
        let expected = "\
NAMESPACE   NAME     STATUS    COMPLETIONS   DURATION   AGE
team        a        Running   0/1                      65s
team        longer   Running   0/1                      65s";
        assert_eq!(shown, expected);
        assert_eq!(<Pod as Row>::titles(false), ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
        assert_eq!(<Node as Row>::titles(false), ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]);
        assert_eq!(<Event as Row>::titles(false), ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
        assert_eq!(<Job as Row>::titles(true)[5..], ["CONTAINERS", "IMAGES", "SELECTOR"]);
        assert_eq!(<Pod as Row>::titles(true)[5..7], ["IP", "NODE"]);
        let of_node = ["INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"];
        assert_eq!(<Node as Row>::titles(true)[5..10], of_node);
        let cells = Node::default().cells(Timestamp(0), true);
        assert_eq!(cells.len(), <Node as Row>::titles(true).len());
        assert_eq!(cells[5..9], ["<none>", "<none>", "<unknown>", "<unknown>"]);
    }

    #[test]
    fn a_table_that_goes_on_keeps_its_columns() {
        let mut table = Table::new(false, false);
        table.lines(&[job("a-long-name")], Timestamp(0));
        assert_eq!(
            table.lines(&[job("a")], Timestamp(0)),
            "a             Running   0/1                      0s"
        );
        let wider = table.lines(&[job("a-name-that-is-longer")], Timestamp(0));
        assert!(wider.starts_with("a-name-that-is-longer   Running"), "{wider}");
        assert!(table.lines(&[job("b")], Timestamp(0)).starts_with("b                       Running"));
    }

    #[test]
    fn columns_stand_below_each_other_whatever_the_script() {
        let rows = ["plain", "日本語", "e\u{301}tat", "🦀 crab", "한글"]
            .map(|name| vec![name.to_owned(), "x".to_owned()]);
        let shown = Lines::default().of(&["NAME", "VALUE"], rows.to_vec());
        let starts: Vec<usize> = shown
            .lines()
            .map(|line| unicode_width::UnicodeWidthStr::width(&line[..line.rfind(['x', 'V']).unwrap()]))
            .collect();
        assert!(starts.iter().all(|start| *start == 10), "{starts:?} {shown}");
    }

    #[test]
    fn words_have_the_tone_of_what_they_say() {
        for (title, words, expected) in [
            ("STATUS", "Complete", Some(Tone::Good)),
            ("Status", "Completed", Some(Tone::Good)),
            ("STATUS", "Running", None),
            ("STATUS", "Ready,SchedulingDisabled", Some(Tone::Doubtful)),
            ("STATUS", "Init:Error", Some(Tone::Bad)),
            ("STATUS", "ErrImagePull", Some(Tone::Bad)),
            ("STATUS", "ImagePullBackOff", Some(Tone::Bad)),
            ("STATUS", "Suspended", Some(Tone::Doubtful)),
            ("TYPE", "Warning", Some(Tone::Doubtful)),
            ("TYPE", "Normal", None),
            ("NAME", "Failed", None),
        ] {
            assert_eq!(tone_of(title, words), expected, "{title} {words}");
        }
    }

    #[test]
    fn tables_of_several_kinds_name_the_kind() {
        let shown = Table::new(false, false).with_kind("job.batch").lines(&[job("a")], Timestamp(0));
        assert!(shown.lines().nth(1).unwrap().starts_with("job.batch/a   "), "{shown}");
    }

    #[test]
    fn a_cell_is_one_line_and_harms_no_terminal() {
        let mut event = Event {
            metadata: stint_api::ObjectMeta::default(),
            regarding: stint_api::ObjectReference {
                kind: "Pod".to_owned(),
                namespace: String::new(),
                name: "p".to_owned(),
                uid: String::new(),
            },
            event_type: stint_api::EventType::Warning,
            reason: "Failed".to_owned(),
            message: "one\ntwo \u{1b}[31mred ü".to_owned(),
            source: String::new(),
            count: 1,
            first_timestamp: Timestamp(0),
            last_timestamp: Timestamp(0),
        };
        let shown = Table::new(false, false).lines(std::slice::from_ref(&event), Timestamp(0));
        assert_eq!(shown.lines().count(), 2);
        assert!(shown.ends_with("pod/p    one\\ntwo \\u{1b}[31mred ü"), "{shown}");
        assert_eq!(harmless("a\u{202e}b"), "a\\u{202e}b", "no text is read backwards");
        event.message = "x".repeat(5000);
        let shown = Table::new(false, false).lines(&[event], Timestamp(0));
        assert_eq!(shown.lines().count(), 2, "nothing is wrapped");
    }
}
