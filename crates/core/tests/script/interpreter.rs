//! What each command of a script does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use stint_api::{
    ClusterId, CompletionMode, ConditionStatus, Container, ContainerRestartRule, ContainerTermination,
    EventType, ExitCodeOperator, HostPathVolume, Incarnation, Job, JobSpec, JobUid, MemberId, NodeCapacity,
    NodeCondition, NodeInfo, NodeName, NodeUid, ObjectMeta, PodReplacementPolicy, PodSecurityContext,
    PodSpec, PodTemplateSpec, PodUid, Probe, Quantity, RestartPolicy, RestartRuleExitCodes, Revision,
    StringMap, Timestamp, Volume, VolumeMount, VolumeSource, defaulting,
};
use stint_core::testing::{Harness, Outcome, outstanding_runs};
use stint_core::{
    ClusterSettings, ClusterSettingsChange, Command, ContainerRun, CreateJob, CreateOutcome, DeleteJob,
    DeletePod, DeletePropagation, Entry, ExpireNode, LogTail, Order, PlacementPolicy, PodKey, PodReport,
    PodReportKind, RegisterNode, Reply, ReportNodeConditions, ReportPods, Row, RowChangeKind, RowKey,
    StoreLogTails, UpdateJob, compose,
};

/// Midnight of 2026-01-01: scripts show times from here.
pub const START_MS: i64 = 1_767_225_600_000;

/// A cluster that scripts act upon.
pub struct Interpreter {
    pub harness: Harness,
    pub now_ms: i64,
    /// Name of each Pod ever created → JOB/N.
    pub aliases: BTreeMap<String, String>,
    pub pods: BTreeMap<String, (PodUid, PodKey, String)>,
    pub orders: Vec<Order>,
    n_pods: BTreeMap<String, usize>,
    n_jobs: u128,
    registrations: BTreeMap<String, RegisterNode>,
    place: String,
}

/// Settings of a command: `key=value`, or a bare word as key with an empty value.
struct Arguments<'a> {
    given: Vec<(&'a str, &'a str)>,
    used: BTreeSet<&'a str>,
    place: &'a str,
}

impl<'a> Arguments<'a> {
    fn new(words: &[&'a str], place: &'a str) -> Arguments<'a> {
        let given = words.iter().map(|word| word.split_once('=').unwrap_or((word, ""))).collect();
        Arguments { given, used: BTreeSet::new(), place }
    }

    fn all(&mut self, key: &'a str) -> Vec<&'a str> {
        self.used.insert(key);
        self.given.iter().filter(|(other, _)| *other == key).map(|(_, value)| *value).collect()
    }

    fn text(&mut self, key: &'a str) -> Option<&'a str> {
        self.all(key).last().copied()
    }

    fn flag(&mut self, key: &'a str) -> bool {
        self.text(key).is_some()
    }

    fn number<T: std::str::FromStr>(&mut self, key: &'a str) -> Option<T> {
        let text = self.text(key)?;
        Some(text.parse().unwrap_or_else(|_| panic!("{}: {key}={text} is no number", self.place)))
    }

    fn duration_ms(&mut self, key: &'a str) -> Option<i64> {
        self.text(key).map(duration_ms)
    }

    /// Panics over a misspelt setting.
    fn done(self) {
        for (key, _) in &self.given {
            assert!(self.used.contains(key), "{}: {key} means nothing here", self.place);
        }
    }
}

/// `TYPE=STATUS` or `TYPE=STATUS:MESSAGE`, with `_` for blanks.
fn condition(text: &str) -> NodeCondition {
    let (condition_type, rest) = text.split_once('=').expect("TYPE=STATUS");
    let (status, message) = rest.split_once(':').unwrap_or((rest, ""));
    NodeCondition {
        condition_type: condition_type.to_owned(),
        status: match status {
            "True" => ConditionStatus::True,
            "False" => ConditionStatus::False,
            "Unknown" => ConditionStatus::Unknown,
            other => panic!("{other} is no status"),
        },
        last_transition_time: None,
        reason: format!("{condition_type}Is{status}"),
        message: message.replace('_', " "),
    }
}

/// Milliseconds of `10s`, `500ms`, `2m`, `1h`, `3d`.
fn duration_ms(text: &str) -> i64 {
    let digits = text.trim_start_matches('+');
    let split = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let number: i64 = digits[..split].parse().unwrap_or_else(|_| panic!("{text} is no duration"));
    let unit_ms = match &digits[split..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        unit => panic!("{text}: unit {unit:?}"),
    };
    number * unit_ms
}

impl Interpreter {
    pub fn new() -> Interpreter {
        let mut interpreter = Interpreter {
            harness: Harness::new(),
            now_ms: START_MS,
            aliases: BTreeMap::new(),
            pods: BTreeMap::new(),
            orders: Vec::new(),
            n_pods: BTreeMap::new(),
            n_jobs: 0,
            registrations: BTreeMap::new(),
            place: String::new(),
        };
        interpreter.propose(vec![settings(Arguments::new(&[], ""))]);
        interpreter
    }

    /// Runs one line and returns its output.
    pub fn entry(&mut self, line: &str, place: &str) -> String {
        self.place = place.to_owned();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["show", what @ ..] => self.show(what),
            ["next"] => match self.harness.state.next_due() {
                Some(due) => {
                    self.now_ms = due.0.max(self.now_ms);
                    let mut output = format!("at {}\n", self.time(due));
                    output.push_str(&self.propose(vec![Command::Tick]));
                    output
                }
                None => "nothing is due\n".to_owned(),
            },
            ["settle"] => self.settle(),
            ["restore", cluster] => {
                self.harness.restore(ClusterId(cluster.parse().expect("a cluster id")));
                String::new()
            }
            ["reload"] => {
                self.harness.state = self.harness.rows.load();
                String::new()
            }
            ["term", term] => {
                self.harness.term = term.parse().expect("a term");
                String::new()
            }
            ["wait", duration] => {
                self.now_ms += duration_ms(duration);
                String::new()
            }
            ["finish", job, count, what] => {
                let count: usize = count.parse().expect("how many");
                let reports = self.finish(job, count, what);
                self.propose(reports)
            }
            _ => {
                let parts: Vec<Vec<&str>> =
                    line.split("&&").map(|part| part.split_whitespace().collect()).collect();
                let commands = parts.iter().map(|words| self.command(words)).collect();
                self.propose(commands)
            }
        }
    }

    /// Applies one entry; says what was refused.
    fn propose(&mut self, commands: Vec<Command>) -> String {
        let seed = self.harness.log_index.wrapping_mul(0x5851_f42d_4c95_7f2d);
        let asked: Vec<String> = commands
            .iter()
            .filter_map(|command| match command {
                Command::CreateJob(create) => Some(create.job.metadata.name.clone()),
                _ => None,
            })
            .collect();
        let entry = Entry { time: Timestamp(self.now_ms), seed, commands };
        let outcome = self.harness.apply_entry(&entry);
        self.learn(&outcome);
        let mut output = String::new();
        for reply in &outcome.replies {
            match reply {
                Reply::Rejected(rejection) => {
                    let message = self.readable(&rejection.message);
                    writeln!(output, "refused, {:?}: {message}", rejection.reason).unwrap();
                }
                Reply::JobCreated { outcome, .. } if *outcome == CreateOutcome::Created => {}
                Reply::JobCreated { name, outcome, .. } if asked.contains(name) => {
                    writeln!(output, "{outcome:?}").unwrap();
                }
                Reply::JobCreated { name, outcome, .. } => writeln!(output, "{outcome:?} as {name}").unwrap(),
                Reply::Reported { accepted } if accepted.contains(&false) => {
                    writeln!(output, "ignored {}", accepted.iter().filter(|accepted| !**accepted).count())
                        .unwrap();
                }
                Reply::LogTailsStored { accepted } if accepted.contains(&false) => {
                    writeln!(output, "tail ignored").unwrap();
                }
                Reply::MemberIdReserved { member_id } => writeln!(output, "member {member_id}").unwrap(),
                _ => {}
            }
        }
        output
    }

    fn learn(&mut self, outcome: &Outcome) {
        for change in &outcome.changes {
            if let (RowKey::Pod(key), RowChangeKind::Added(Row::Pod(pod))) = (&change.key, &change.kind) {
                let template = self.harness.rows.template(pod.job);
                let template = template.expect("a new Pod has a template");
                let number = self.n_pods.entry(template.job_name.clone()).or_default();
                let alias = format!("{}/{number}", template.job_name);
                *number += 1;
                self.aliases.insert(pod.name.clone(), alias.clone());
                self.pods.insert(alias, (pod.uid, *key, pod.name.clone()));
            }
        }
        self.orders.extend(outcome.orders.iter().cloned());
    }

    fn settle(&mut self) -> String {
        let mut output = String::new();
        let mut entries = 0;
        while self.harness.state.has_backlog() {
            output.push_str(&self.propose(vec![Command::Continue]));
            entries += 1;
            assert!(entries < 1_000, "{}: the backlog does not get smaller", self.place);
        }
        writeln!(output, "{entries} entries").unwrap();
        output
    }

    /// Text with Pods called JOB/N.
    pub fn readable(&self, text: &str) -> String {
        let mut readable = text.to_owned();
        for (name, alias) in &self.aliases {
            if readable.contains(name.as_str()) {
                readable = readable.replace(name.as_str(), alias);
            }
        }
        readable
    }

    /// A time as seconds from the start.
    pub fn time(&self, at: Timestamp) -> String {
        let ms = at.0 - START_MS;
        if ms % 1000 == 0 { format!("+{}s", ms / 1000) } else { format!("+{ms}ms") }
    }

    fn command(&mut self, words: &[&str]) -> Command {
        let place = self.place.clone();
        match words {
            ["tick", duration] => {
                self.now_ms += duration_ms(duration);
                Command::Tick
            }
            ["tick"] => Command::Tick,
            ["continue"] => Command::Continue,
            ["reserve"] => Command::ReserveMemberId,
            ["settings", rest @ ..] => settings(Arguments::new(rest, &place)),
            ["change", "settings", rest @ ..] => change_settings(Arguments::new(rest, &place)),
            ["node", name, rest @ ..] => self.register(name, Arguments::new(rest, &place)),
            ["again", name] => Command::RegisterNode(Box::new(
                self.registrations.get(*name).expect("a registration").clone(),
            )),
            ["expire", name, rest @ ..] => self.expire(name, Arguments::new(rest, &place)),
            ["cordon", name] => Command::CordonNode { node: NodeName::new(name), unschedulable: true },
            ["uncordon", name] => Command::CordonNode { node: NodeName::new(name), unschedulable: false },
            ["conditions", name, rest @ ..] => self.conditions(name, rest),
            ["drain", name] => Command::DrainNode { node: NodeName::new(name) },
            ["delete", "node", name] => Command::DeleteNode { node: NodeName::new(name) },
            ["create", "job", name, rest @ ..] => self.create(name, Arguments::new(rest, &place)),
            ["update", "job", name, rest @ ..] => self.update(name, Arguments::new(rest, &place)),
            ["delete", "job", name, rest @ ..] => delete_job(name, Arguments::new(rest, &place)),
            ["delete", "pod", pod, rest @ ..] => self.delete_pod(pod, Arguments::new(rest, &place)),
            ["report", pod, what, rest @ ..] => {
                let mut arguments = Arguments::new(rest, &place);
                let mut report = self.report(pod, what, arguments.text("of"), arguments.number("restart"));
                if let PodReportKind::Running { pod_addresses, .. } = &mut report.kind {
                    *pod_addresses = list(arguments.text("pod-address").unwrap_or(""));
                }
                let bound = self.node_of(pod);
                let node = arguments.text("node").map(NodeName::new).or(bound);
                let node = node.unwrap_or_else(|| NodeName::new("nowhere"));
                let current = self.harness.state.node(&node).map_or(Incarnation(0), |node| node.incarnation);
                let incarnation = arguments.number("incarnation").map_or(current, Incarnation);
                arguments.done();
                Command::ReportPods(ReportPods { node, incarnation, reports: vec![report] })
            }
            ["tail", pod, rest @ ..] => self.tail(pod, Arguments::new(rest, &place)),
            _ => panic!("{place}: not a command"),
        }
    }

    /// The last output of a container, as its node sends it.
    fn tail(&self, pod: &str, mut arguments: Arguments<'_>) -> Command {
        let unknown = (PodUid(1), PodKey { job: JobUid(1), created_revision: Revision(1) }, String::new());
        let (uid, key, _) = self.pods.get(pod).unwrap_or(&unknown);
        let rows = self.harness.rows.pods();
        let bound = rows.iter().find(|(_, pod)| pod.uid == *uid).and_then(|(_, pod)| pod.node.clone());
        let node = arguments.text("node").map(NodeName::new).or(bound);
        let node = node.unwrap_or_else(|| NodeName::new("nowhere"));
        let current = self.harness.state.node(&node).map_or(Incarnation(0), |node| node.incarnation);
        let tail = LogTail {
            pod: *uid,
            key: *key,
            container: arguments.number("container").unwrap_or(0),
            restart_count: arguments.number("restart").unwrap_or(0),
            first_offset: arguments.number("offset").unwrap_or(0),
            is_last: arguments.flag("last"),
            entries: vec![b'x'; arguments.number("bytes").unwrap_or(1)],
        };
        let incarnation = arguments.number("incarnation").map_or(current, Incarnation);
        arguments.done();
        Command::StoreLogTails(StoreLogTails { node, incarnation, tails: vec![tail] })
    }

    fn node_of(&self, pod: &str) -> Option<NodeName> {
        let (uid, _, _) = self.pods.get(pod)?;
        self.harness.state.pod(uid)?.node.clone()
    }

    /// `of` is the container; without it the first that may run, or `main`.
    fn report(&self, pod: &str, what: &str, of: Option<&str>, restart: Option<u32>) -> PodReport {
        let uid = self.pods.get(pod).map_or(PodUid(1), |(uid, _, _)| *uid);
        let state = &self.harness.state;
        let runs = state.pod(&uid).map(|pod| outstanding_runs(state, pod)).unwrap_or_default();
        let found = runs.into_iter().find(|run| of.is_none_or(|of| run.container == of));
        let mut run = found
            .unwrap_or_else(|| ContainerRun { container: of.unwrap_or("main").to_owned(), restart_count: 0 });
        run.restart_count = restart.unwrap_or(run.restart_count);
        let termination = |exit_code: i32, reason: &str| ContainerTermination {
            exit_code,
            reason: reason.to_owned(),
            ..ContainerTermination::default()
        };
        let kind = match what.split_once('=').unwrap_or((what, "")) {
            ("running", _) => PodReportKind::Running {
                run,
                started_at: Timestamp(self.now_ms),
                container_id: String::new(),
                image_id: String::new(),
                pod_addresses: Vec::new(),
            },
            ("waiting", reason) => {
                PodReportKind::Waiting { run, reason: reason.to_owned(), message: "of the script".to_owned() }
            }
            ("notice", reason) => PodReportKind::Notice {
                event_type: EventType::Warning,
                reason: reason.to_owned(),
                message: "of the script".to_owned(),
                count: 0,
            },
            ("started", _) => PodReportKind::Readiness { run, started: true, ready: false },
            ("ready", _) => PodReportKind::Readiness { run, started: true, ready: true },
            // How a container ended is known if it is named.
            ("pod-failed", reason) => PodReportKind::PodFailed {
                reason: reason.to_owned(),
                message: "of the script".to_owned(),
                ended: of.map(|_| (run, termination(137, "Error"))).into_iter().collect(),
            },
            ("exit", code) => {
                let code: i32 = code.parse().expect("an exit code");
                let reason = if code == 0 { "Completed" } else { "Error" };
                PodReportKind::ContainerExited { run, termination: termination(code, reason) }
            }
            ("start-failed", _) => {
                PodReportKind::StartFailed { run, termination: termination(127, "StartError") }
            }
            ("not-started", "") => PodReportKind::NotStarted { run: None },
            ("not-started", _) => PodReportKind::NotStarted { run: Some(run) },
            ("lease-expired", "before-start") => PodReportKind::LeaseExpired { run, termination: None },
            ("lease-expired", _) => {
                PodReportKind::LeaseExpired { run, termination: Some(termination(137, "Error")) }
            }
            _ => panic!("{}: {what} is no report", self.place),
        };
        PodReport { pod: uid, kind }
    }

    /// Reports about the first bound Pods of a Job, by creation: one command per node.
    fn finish(&self, job: &str, count: usize, what: &str) -> Vec<Command> {
        let mut reports: BTreeMap<NodeName, Vec<PodReport>> = BTreeMap::new();
        let prefix = format!("{job}/");
        let mut pods: Vec<(&PodKey, &String)> = self
            .pods
            .iter()
            .filter(|(alias, _)| alias.starts_with(&prefix) && self.node_of(alias).is_some())
            .map(|(alias, (_, key, _))| (key, alias))
            .collect();
        pods.sort();
        for (_, alias) in pods.into_iter().take(count) {
            let node = self.node_of(alias).expect("a bound Pod");
            reports.entry(node).or_default().push(self.report(alias, what, None, None));
        }
        let command = |(node, reports): (NodeName, Vec<PodReport>)| {
            let incarnation = self.harness.state.node(&node).expect("its node").incarnation;
            Command::ReportPods(ReportPods { node, incarnation, reports })
        };
        reports.into_iter().map(command).collect()
    }

    fn register(&mut self, name: &str, mut arguments: Arguments<'_>) -> Command {
        let last = self.registrations.get(name);
        let number = last.map_or(1, |last| last.registration_number + 1);
        let previous =
            self.harness.state.node(&NodeName::new(name)).map_or(Incarnation(0), |node| node.incarnation);
        let uid_of = |text: &str| NodeUid(text.bytes().fold(0, |sum, byte| sum * 256 + u128::from(byte)));
        let mut labels = StringMap::from([("kubernetes.io/hostname".to_owned(), name.to_owned())]);
        for label in arguments.all("label") {
            let (key, value) = label.split_once('=').expect("label=KEY=VALUE");
            labels.insert(key.to_owned(), value.to_owned());
        }
        let quantity = |text: &str| Quantity::parse(text).expect("a quantity");
        let capacity = NodeCapacity {
            cpu_millis: quantity(arguments.text("cpu").unwrap_or("4")).millis() as u64,
            memory_bytes: quantity(arguments.text("memory").unwrap_or("8Gi")).units() as u64,
            pods: arguments.number("pods").unwrap_or(110),
        };
        let uids = |list: Option<&str>| -> Vec<PodUid> {
            let aliases = list.unwrap_or("").split(',').filter(|alias| !alias.is_empty());
            aliases.map(|alias| self.pods.get(alias).expect("a Pod").0).collect()
        };
        let reports = arguments.all("report").into_iter().map(|report| {
            let (pod, what) = report.split_once(':').expect("report=POD:WHAT");
            self.report(pod, what, None, None)
        });
        let reports = reports.collect();
        let running_pods = uids(arguments.text("running"));
        let mut started_pods = uids(arguments.text("started"));
        started_pods.extend(&running_pods);
        let registration = RegisterNode {
            node: NodeName::new(name),
            node_uid: uid_of(arguments.text("uid").unwrap_or(name)),
            boot_id: arguments.text("boot").unwrap_or("boot-1").to_owned(),
            registration_number: arguments.number("number").unwrap_or(number),
            nonce: arguments.number("nonce").unwrap_or(7),
            previous_incarnation: arguments.number("prev").map_or(previous, Incarnation),
            cluster_id: arguments.number("cluster").map(ClusterId),
            unacknowledged_reports: reports,
            running_pods,
            started_pods,
            capacity,
            labels,
            runtimes: list(arguments.text("runtimes").unwrap_or("process")),
            conditions: arguments.all("condition").into_iter().map(condition).collect(),
            agent_version: "0.1.0".to_owned(),
            features: list(arguments.text("features").unwrap_or("")),
            info: NodeInfo {
                addresses: list(arguments.text("address").unwrap_or("")),
                ..NodeInfo::default()
            },
        };
        arguments.done();
        self.registrations.insert(name.to_owned(), registration.clone());
        Command::RegisterNode(Box::new(registration))
    }

    /// What a node says of itself: `TYPE=STATUS:MESSAGE` each, with `_` for blanks.
    fn conditions(&self, name: &str, words: &[&str]) -> Command {
        let node = NodeName::new(name);
        let current = self.harness.state.node(&node).map_or(Incarnation(0), |node| node.incarnation);
        let (of, said): (Vec<&str>, Vec<&str>) =
            words.iter().partition(|word| word.starts_with("incarnation="));
        let incarnation = of
            .first()
            .map_or(current, |word| Incarnation(word["incarnation=".len()..].parse().expect("a number")));
        let conditions = said.into_iter().map(condition).collect();
        Command::ReportNodeConditions(ReportNodeConditions { node, incarnation, conditions })
    }

    fn expire(&self, name: &str, mut arguments: Arguments<'_>) -> Command {
        let node = NodeName::new(name);
        let current = self.harness.state.node(&node).map_or(Incarnation(0), |node| node.incarnation);
        let incarnation = arguments.number("incarnation").map_or(current, Incarnation);
        let term = arguments.number("term").unwrap_or(self.harness.term);
        arguments.done();
        Command::ExpireNode(ExpireNode { node, incarnation, term })
    }

    fn create(&mut self, name: &str, mut arguments: Arguments<'_>) -> Command {
        self.n_jobs += 1;
        let uid = arguments.number("uid").map_or(JobUid(self.n_jobs), JobUid);
        let request_id = arguments.text("request").unwrap_or("").to_owned();
        let other_names = arguments.text("or").unwrap_or("").split(',').filter(|name| !name.is_empty());
        let other_names = other_names.map(str::to_owned).collect();
        let metadata = ObjectMeta {
            name: name.to_owned(),
            namespace: arguments.text("namespace").unwrap_or("default").to_owned(),
            ..ObjectMeta::default()
        };
        let completions =
            if arguments.given.iter().any(|(key, _)| *key == "completions") { None } else { Some(1) };
        let blank = JobSpec {
            completions,
            completion_mode: Some(CompletionMode::NonIndexed),
            template: template(),
            ..JobSpec::default()
        };
        let spec = job_spec(blank, &mut arguments);
        arguments.done();
        let mut job = Job { metadata, spec, ..Job::default() };
        defaulting::set_defaults(&mut job);
        defaulting::generate_labels(&mut job, uid);
        Command::CreateJob(Box::new(CreateJob { job, uid, request_id, other_names }))
    }

    fn update(&self, name: &str, mut arguments: Arguments<'_>) -> Command {
        let uid = self.harness.state.job_uid_by_name("default", name);
        let stored = uid.and_then(|uid| self.harness.rows.map.get(&RowKey::Job(uid)));
        let mut job = match stored.map(|stored| (&stored.row, stored.revision)) {
            Some((Row::Job(record), revision)) => {
                let template = self.harness.rows.template(record.uid).expect("its template");
                compose::job(record, &template, revision)
            }
            _ => Job {
                metadata: ObjectMeta {
                    name: name.to_owned(),
                    namespace: "default".to_owned(),
                    ..ObjectMeta::default()
                },
                ..Job::default()
            },
        };
        job.spec = job_spec(job.spec, &mut arguments);
        for label in arguments.all("label") {
            let (key, value) = label.split_once('=').expect("label=KEY=VALUE");
            job.metadata.labels.insert(key.to_owned(), value.to_owned());
        }
        let resource_version = match arguments.text("rv") {
            Some("current") => Some(job.metadata.resource_version),
            Some(number) => Some(Revision(number.parse().expect("a revision"))),
            None => None,
        };
        let uid = arguments.number("uid").map(JobUid);
        arguments.done();
        Command::UpdateJob(Box::new(UpdateJob { job, uid, resource_version }))
    }

    fn delete_pod(&self, pod: &str, mut arguments: Arguments<'_>) -> Command {
        let known = self.pods.get(pod);
        let name = known.map_or(pod.to_owned(), |(_, _, name)| name.clone());
        let row = self
            .harness
            .rows
            .map
            .get(&RowKey::PodName { namespace: "default".to_owned(), name: name.clone() });
        let key = match row.map(|stored| &stored.row) {
            Some(Row::PodName(key)) => Some(*key),
            _ => None,
        };
        let uid = arguments.number("uid").map(PodUid);
        let grace = arguments.duration_ms("grace").map(|ms| (ms / 1000) as u32);
        arguments.done();
        Command::DeletePod(DeletePod {
            namespace: "default".to_owned(),
            name,
            uid,
            grace_period_seconds: grace,
            key,
        })
    }
}

fn list(words: &str) -> Vec<String> {
    words.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn settings(mut arguments: Arguments<'_>) -> Command {
    let policy = match arguments.text("policy") {
        Some("pack") => PlacementPolicy::Pack,
        _ => PlacementPolicy::Spread,
    };
    let settings = ClusterSettings {
        cluster_id: ClusterId(arguments.number("cluster").unwrap_or(0xc1)),
        node_lease_ms: arguments.duration_ms("lease").unwrap_or(10_000) as u64,
        placement_policy: policy,
        event_retention_ms: arguments.duration_ms("retention").unwrap_or(3_600_000) as u64,
        highest_member_id: MemberId(3),
        default_runtime: arguments.text("runtime").unwrap_or("").to_owned(),
        ended_pods_max: 0,
    };
    arguments.done();
    Command::SetClusterSettings(settings)
}

fn change_settings(mut arguments: Arguments<'_>) -> Command {
    let policy = arguments.text("policy").map(|policy| match policy {
        "pack" => PlacementPolicy::Pack,
        _ => PlacementPolicy::Spread,
    });
    let change = ClusterSettingsChange {
        placement_policy: policy,
        event_retention_ms: arguments.duration_ms("retention").map(|ms| ms as u64),
        default_runtime: arguments.text("runtime").map(str::to_owned),
        ended_pods_max: arguments.number("ended"),
    };
    arguments.done();
    Command::ChangeClusterSettings(change)
}

fn delete_job(name: &str, mut arguments: Arguments<'_>) -> Command {
    let propagation = if arguments.flag("orphan") {
        DeletePropagation::Orphan
    } else if arguments.flag("foreground") {
        DeletePropagation::Foreground
    } else {
        arguments.flag("background");
        DeletePropagation::Background
    };
    let command = DeleteJob {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        uid: arguments.number("uid").map(JobUid),
        resource_version: arguments.number("rv").map(Revision),
        propagation,
    };
    arguments.done();
    Command::DeleteJob(command)
}

fn template() -> PodTemplateSpec {
    let mut template = PodTemplateSpec::default();
    template.spec.containers = vec![Container {
        name: "main".to_owned(),
        image: "none".to_owned(),
        command: vec!["true".to_owned()],
        ..Container::default()
    }];
    template.spec.restart_policy = Some("Never".into());
    template
}

/// `completions=N|none parallelism= indexed backoff= deadline= ttl= suspend[=false] restart=Never|OnFailure
/// replace=terminating|failed base= cap= cpu= memory= selector=K=V priority= grace=`.
/// Containers beside `main`, and what is special about each.
fn containers(spec: &mut PodSpec, arguments: &mut Arguments<'_>) {
    let named = |name: &str, policy: Option<&str>| Container {
        name: name.to_owned(),
        restart_policy: policy.map(RestartPolicy::from),
        ..spec.containers[0].clone()
    };
    let apps: Vec<_> = arguments.all("app").into_iter().map(|name| named(name, None)).collect();
    // In the order in which they are given.
    let init: Vec<_> = arguments
        .given
        .iter()
        .filter_map(|(key, name)| match *key {
            "init" => Some(named(name, None)),
            "sidecar" => Some(named(name, Some("Always"))),
            _ => None,
        })
        .collect();
    arguments.used.extend(["init", "sidecar"]);
    spec.containers.extend(apps);
    spec.init_containers.extend(init);
    let mut all: Vec<&mut Container> = spec.init_containers.iter_mut().chain(&mut spec.containers).collect();
    let names: Vec<String> = all.iter().map(|container| container.name.clone()).collect();
    let of = |name: &str| names.iter().position(|other| other == name).expect("a container of the job");
    for policy in arguments.all("policy") {
        let (name, policy) = policy.split_once(':').expect("policy=NAME:POLICY");
        let place = of(name);
        all[place].restart_policy = Some(policy.into());
    }
    for rule in arguments.all("rule") {
        let [name, action, codes] = rule.split(':').collect::<Vec<_>>()[..] else {
            panic!("rule=NAME:ACTION:CODE,CODE")
        };
        let place = of(name);
        all[place].restart_policy_rules.push(ContainerRestartRule {
            action: action.into(),
            exit_codes: Some(RestartRuleExitCodes {
                operator: ExitCodeOperator::In,
                values: codes.split(',').map(|code| code.parse().expect("an exit code")).collect(),
            }),
        });
    }
    for probe in arguments.all("probe") {
        let (name, kind) = probe.split_once(':').expect("probe=NAME:KIND");
        let place = of(name);
        match kind {
            "startup" => all[place].startup_probe = Some(Probe::default()),
            "readiness" => all[place].readiness_probe = Some(Probe::default()),
            _ => panic!("no such probe: {kind}"),
        }
    }
    spec.runtime_class_name = arguments.text("runtime").map(str::to_owned).or(spec.runtime_class_name.take());
    spec.host_network |= arguments.flag("host-network");
    if arguments.flag("stdin") {
        spec.containers[0].stdin = true;
    }
    for (place, path) in arguments.all("host-path").into_iter().enumerate() {
        let (path, read_only) = path.strip_suffix(":ro").map_or((path, false), |path| (path, true));
        let name = format!("host-{place}");
        let source = VolumeSource::HostPath(HostPathVolume { path: path.to_owned(), path_type: None });
        spec.volumes.push(Volume { name: name.clone(), source });
        let mount = VolumeMount { name, mount_path: path.to_owned(), read_only, ..VolumeMount::default() };
        spec.containers[0].volume_mounts.push(mount);
    }
    if arguments.flag("limits") {
        spec.containers[0].limits = spec.containers[0].requests.clone();
    }
    if let Some(user) = arguments.number("user") {
        let context = PodSecurityContext { run_as_user: Some(user), ..PodSecurityContext::default() };
        spec.security_context = Some(context);
    }
}

fn job_spec(mut spec: JobSpec, arguments: &mut Arguments<'_>) -> JobSpec {
    let seconds = |ms: i64| ms / 1000;
    match arguments.text("completions") {
        Some("none") => spec.completions = None,
        Some(number) => spec.completions = Some(number.parse().expect("completions")),
        None => {}
    }
    spec.parallelism = arguments.number("parallelism").or(spec.parallelism);
    if arguments.flag("indexed") {
        spec.completion_mode = Some(CompletionMode::Indexed);
    }
    spec.backoff_limit = arguments.number("backoff").or(spec.backoff_limit);
    spec.active_deadline_seconds =
        arguments.duration_ms("deadline").map(seconds).or(spec.active_deadline_seconds);
    spec.ttl_seconds_after_finished =
        arguments.duration_ms("ttl").map(|ms| seconds(ms) as i32).or(spec.ttl_seconds_after_finished);
    if let Some(value) = arguments.text("suspend") {
        spec.suspend = Some(value != "false");
    }
    if let Some(policy) = arguments.text("restart") {
        spec.template.spec.restart_policy = Some(policy.into());
    }
    match arguments.text("replace") {
        Some("terminating") => spec.pod_replacement_policy = Some(PodReplacementPolicy::TerminatingOrFailed),
        Some(_) => spec.pod_replacement_policy = Some(PodReplacementPolicy::Failed),
        None => {}
    }
    spec.backoff_base_ms = arguments.duration_ms("base").map(|ms| ms as u64).or(spec.backoff_base_ms);
    spec.backoff_cap_ms = arguments.duration_ms("cap").map(|ms| ms as u64).or(spec.backoff_cap_ms);
    for resource in ["cpu", "memory"] {
        if let Some(text) = arguments.text(resource) {
            let quantity = Quantity::parse(text).expect("a quantity");
            spec.template.spec.containers[0].requests.insert(resource.to_owned(), quantity);
        }
    }
    containers(&mut spec.template.spec, arguments);
    for selector in arguments.all("selector") {
        let (key, value) = selector.split_once('=').expect("selector=KEY=VALUE");
        spec.template.spec.node_selector.insert(key.to_owned(), value.to_owned());
    }
    spec.template.spec.priority = arguments.number("priority").or(spec.template.spec.priority);
    let grace = arguments.duration_ms("grace").map(seconds);
    spec.template.spec.termination_grace_period_seconds =
        grace.or(spec.template.spec.termination_grace_period_seconds);
    spec
}
