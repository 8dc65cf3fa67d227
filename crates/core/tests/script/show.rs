//! What scripts print.

use std::fmt::Write;
use std::sync::Arc;

use stint_api::{ContainerState, NodeName, Timestamp};
use stint_core::{
    ContainerRecord, ContainerRunState, DesiredAction, DesiredContainer, DesiredPod, JobRecord, PodRecord,
    Row, RowKey, compose, explain, history,
};

use super::Interpreter;

impl Interpreter {
    pub fn show(&mut self, what: &[&str]) -> String {
        match what {
            ["jobs"] => self.show_jobs(),
            ["pods"] => self.show_pods(),
            ["pod", alias] => self.show_pod(alias),
            ["nodes"] => self.show_nodes(),
            ["events"] => self.show_events(),
            ["desired", node] => {
                let pods = self.harness.state.desired_pods(&NodeName::new(node));
                let mut lines: Vec<String> = pods.iter().map(|pod| self.desired(pod)).collect();
                lines.sort();
                lines.concat()
            }
            ["orders"] => {
                let orders = std::mem::take(&mut self.orders);
                orders
                    .iter()
                    .map(|order| format!("{}: {}", order.node, self.desired(&order.desired)))
                    .collect()
            }
            ["rows"] => self.show_rows(),
            ["tails"] => self.show_tails(),
            ["history", job] => self.show_history(job),
            ["explain", job] => {
                let Some(uid) = self.harness.state.job_uid_by_name("default", job) else {
                    return "gone\n".to_owned();
                };
                let told = self.harness.state.explain_job(uid);
                let time = self.harness.state.time();
                self.explained(&told.unwrap_or_else(|| explain::explain_finished(&self.job_row(job), time)))
            }
            ["explain", "pod", alias] => {
                let (uid, key, _) = self.pods.get(*alias).expect("a Pod");
                if let Some(told) = self.harness.state.explain_pod(*uid) {
                    return self.explained(&told);
                }
                match self.harness.rows.map.get(&RowKey::Pod(*key)).map(|stored| &stored.row) {
                    Some(Row::Pod(pod)) => {
                        self.explained(&explain::explain_ended(pod, self.harness.state.time()))
                    }
                    _ => "gone\n".to_owned(),
                }
            }
            ["backlog"] => {
                let due = self.harness.state.next_due().map_or("nothing".to_owned(), |due| self.time(due));
                format!("backlog: {}, due: {due}\n", self.harness.state.has_backlog())
            }
            ["tombstones"] => self
                .harness
                .rows
                .map
                .values()
                .filter_map(|stored| match &stored.row {
                    Row::Tombstone(row) => {
                        Some(format!("{} {} until {}\n", row.name, row.request_id, self.time(row.expires_at)))
                    }
                    _ => None,
                })
                .collect(),
            _ => panic!("show {what:?}"),
        }
    }

    fn show_jobs(&self) -> String {
        let mut jobs: Vec<Arc<JobRecord>> =
            self.harness.rows.jobs().into_iter().map(|(_, job)| job).collect();
        jobs.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        jobs.iter().map(|job| self.job(job)).collect()
    }

    fn job(&self, job: &JobRecord) -> String {
        let status = &job.status;
        let mut line = format!(
            "{}: active={} ready={} terminating={} succeeded={} failed={}",
            job.metadata.name,
            status.active,
            status.ready,
            status.terminating,
            status.succeeded,
            status.failed
        );
        if job.spec.indexed {
            write!(line, " completed={:?}", status.completed_indexes).unwrap();
        }
        for (name, time) in
            [("start", status.start_time), ("end", status.completion_time), ("backoff", status.backoff_until)]
        {
            if let Some(time) = time {
                write!(line, " {name}={}", self.time(time)).unwrap();
            }
        }
        if job.metadata.generation != 1 {
            write!(line, " generation={}", job.metadata.generation).unwrap();
        }
        if status.deleting {
            line.push_str(" deleting");
        }
        line.push('\n');
        for condition in &status.conditions {
            let name = condition.condition_type.as_str();
            let holds = condition.status.as_str();
            let at = self.time(condition.last_transition_time);
            writeln!(line, "  {name}={holds} {at} {}: {}", condition.reason, condition.message).unwrap();
        }
        line
    }

    /// Unfinished and ended Pods, by Job and creation.
    fn show_pods(&self) -> String {
        let mut pods: Vec<Arc<PodRecord>> =
            self.harness.rows.pods().into_iter().map(|(_, pod)| pod).collect();
        pods.sort_by_key(|pod| (pod.job, pod.created_revision));
        pods.iter().map(|pod| self.pod_line(pod)).collect()
    }

    fn pod_line(&self, pod: &PodRecord) -> String {
        let mut line = format!("{} {}", self.readable(&pod.name), pod.phase.as_str());
        let at = |time: Option<Timestamp>| time.map(|time| self.time(time));
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                write!(line, " {name}={value}").unwrap();
            }
        };
        add("index", pod.index.map(|index| index.to_string()));
        add("node", pod.node.as_ref().map(ToString::to_string));
        let restarts: u32 = pod.containers.iter().map(|container| container.restart_count).sum();
        add("restarts", (restarts > 0).then(|| restarts.to_string()));
        let single = pod.containers.first().filter(|_| pod.containers.len() == 1);
        add("restart-at", at(single.and_then(|container| container.restart_at)));
        add("stop", pod.stop_reason.map(|reason| format!("{reason:?}")));
        add("until", at(pod.deletion_at.filter(|_| !pod.phase.is_terminal())));
        add("exit", single.and_then(exit_code));
        add("sidecars-until", at(pod.sidecars_until));
        add("restarting", pod.restarting_all.then(|| "all".to_owned()));
        add("reason", Some(pod.reason.clone()));
        add("disruption", Some(pod.disruption_reason.clone()));
        add("avoids", pod.avoid_node.as_ref().map(ToString::to_string));
        let message = if pod.message.is_empty() { &pod.unschedulable_message } else { &pod.message };
        add("message", (!message.is_empty()).then(|| format!("{message:?}")));
        line.push('\n');
        if pod.containers.len() > 1 {
            let template = self.harness.rows.template(pod.job).expect("its template");
            let spec = &template.template.spec;
            let names = spec.init_containers.iter().chain(&spec.containers).map(|container| &container.name);
            for (name, container) in names.zip(&pod.containers) {
                line.push_str(&self.container_line(name, container));
            }
        }
        line
    }

    /// One of several containers.
    fn container_line(&self, name: &str, container: &ContainerRecord) -> String {
        let mut line = match &container.state {
            ContainerRunState::Blocked => format!("  {name}: blocked"),
            ContainerRunState::Waiting { reason, .. } => format!("  {name}: waiting {reason}"),
            ContainerRunState::Running { started, ready, .. } => {
                let not = |holds: bool| if holds { "" } else { "not " };
                format!("  {name}: running, {}started, {}ready", not(*started), not(*ready))
            }
            ContainerRunState::Ended => format!("  {name}: ended"),
        };
        line.truncate(line.trim_end().len());
        if let Some(code) = exit_code(container) {
            write!(line, " exit={code}").unwrap();
        }
        if container.restart_count > 0 {
            write!(line, " restarts={}", container.restart_count).unwrap();
        }
        if let Some(at) = container.restart_at {
            write!(line, " restart-at={}", self.time(at)).unwrap();
        }
        line.push('\n');
        line
    }

    /// One Pod as readers see it.
    fn show_pod(&self, alias: &str) -> String {
        let (_, key, _) = self.pods.get(alias).expect("a Pod");
        let Some(stored) = self.harness.rows.map.get(&RowKey::Pod(*key)) else { return "gone\n".to_owned() };
        let Row::Pod(record) = &stored.row else { panic!("not a Pod") };
        let template = self.harness.rows.template(record.job).expect("its template");
        let pod = compose::pod(record, &template, stored.revision);
        let mut output = self.pod_line(record);
        for (key, value) in &pod.metadata.labels {
            writeln!(output, "  label {key}={value}").unwrap();
        }
        for owner in &pod.metadata.owner_references {
            writeln!(output, "  owner {} {}", owner.kind, owner.name).unwrap();
        }
        if let Some(at) = pod.metadata.deletion_timestamp {
            writeln!(output, "  deletion {}", self.time(at)).unwrap();
        }
        for variable in &pod.spec.containers[0].env {
            let value = match variable.name.as_str() {
                "STINT_FENCING_TOKEN" => {
                    assert_eq!(variable.value, record.binding_revision.to_string());
                    "(revision of the binding)"
                }
                _ => &variable.value,
            };
            writeln!(output, "  env {}={value}", variable.name).unwrap();
        }
        for condition in &pod.status.conditions {
            let holds = condition.status.as_str();
            writeln!(
                output,
                "  {}={holds} {} {}",
                condition.condition_type, condition.reason, condition.message
            )
            .unwrap();
        }
        for status in pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses) {
            let state = |state: &ContainerState| match state {
                ContainerState::Waiting { reason, .. } => format!("waiting {reason}"),
                ContainerState::Running { .. } => "running".to_owned(),
                ContainerState::Terminated(termination) => format!("exit {}", termination.exit_code),
            };
            let last = status.last_state.as_ref().map_or("none".to_owned(), state);
            writeln!(output, "  container {} {}, before: {last}", status.name, state(&status.state)).unwrap();
        }
        if let Some(runtime) = &pod.spec.runtime_class_name {
            writeln!(output, "  runtime {runtime}").unwrap();
        }
        if let Some(host_ip) = &pod.status.host_ip {
            writeln!(output, "  host {host_ip} pod {}", pod.status.pod_ips.join(",")).unwrap();
        }
        trim_line_ends(&output)
    }

    fn show_nodes(&self) -> String {
        let nodes = self.harness.state.nodes().map(|node| {
            let requested = self.harness.state.requested_on(&node.name);
            let mut line = format!("{}: {}", node.name, if node.live { "live" } else { "lost" });
            if node.unschedulable {
                line.push_str(" cordoned");
            }
            writeln!(
                line,
                " pods={} cpu={}m/{}m memory={}/{}",
                requested.pods,
                requested.cpu_millis,
                node.capacity.cpu_millis,
                requested.memory_bytes,
                node.capacity.memory_bytes
            )
            .unwrap();
            for condition in &node.conditions {
                let holds = condition.status.as_str();
                let since = condition.last_transition_time.map_or_else(|| "?".to_owned(), |at| self.time(at));
                writeln!(line, "  {}={holds} {since} {}", condition.condition_type, condition.message)
                    .unwrap();
            }
            line
        });
        nodes.collect()
    }

    fn show_events(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for stored in self.harness.rows.map.values() {
            if let Row::Event(event) = &stored.row {
                let object = format!("{} {}", event.regarding.kind, self.readable(&event.regarding.name));
                lines.push(format!(
                    "{object}: {} {} x{} {}..{}: {}\n",
                    event.event_type.as_str(),
                    event.reason,
                    event.count,
                    self.time(event.first_at),
                    self.time(event.last_at),
                    self.readable(&event.message)
                ));
            }
        }
        lines.sort();
        lines.concat()
    }

    fn job_row(&self, name: &str) -> Arc<JobRecord> {
        let jobs = self.harness.rows.jobs();
        jobs.into_iter().map(|(_, job)| job).find(|job| job.metadata.name == name).expect("a Job")
    }

    fn show_history(&self, name: &str) -> String {
        let job = self.job_row(name);
        let template = self.harness.rows.template(job.uid).expect("its template");
        let written = match self.harness.rows.map.get(&RowKey::History(job.uid)).map(|stored| &stored.row) {
            Some(Row::History(record)) => record.decisions.clone(),
            _ => Vec::new(),
        };
        let mut pods: Vec<Arc<PodRecord>> =
            self.harness.rows.pods().into_iter().map(|(_, pod)| pod).collect();
        pods.retain(|pod| pod.job == job.uid);
        let mut output = String::new();
        for one in history::of_job(&job, &template, &written, &pods) {
            let pod =
                if one.pod.is_empty() { String::new() } else { format!(" {}", self.readable(&one.pod)) };
            let count = if one.count > 1 { format!(" x{}", one.count) } else { String::new() };
            let (at, message) = (self.time(one.at), self.readable(&one.message));
            writeln!(output, "{at} {}{pod}{count}: {message}", one.reason).unwrap();
        }
        let told: u32 = written.iter().map(|one| one.count).sum();
        if job.status.decisions > told {
            writeln!(output, "forgotten: {}", job.status.decisions - told).unwrap();
        }
        output
    }

    fn explained(&self, told: &explain::Explanation) -> String {
        let mut output = format!("{}: {}\n", told.state, self.readable(&told.summary));
        for reason in &told.reasons {
            let until = reason.until.map(|at| format!(" until {}", self.time(at))).unwrap_or_default();
            let names: Vec<String> = reason.names.iter().map(|name| self.readable(name)).collect();
            let pods = match reason.pods {
                0 => String::new(),
                count => format!(" ({count}: {})", names.join(", ")),
            };
            writeln!(output, "  {}{until}{pods}: {}", reason.word, self.readable(&reason.message)).unwrap();
        }
        if let Some(placement) = &told.placement {
            let more = if placement.more_ahead { " or more" } else { "" };
            writeln!(
                output,
                "  asks: {}; {} nodes, {}{more} ahead",
                placement.asks.join(", "),
                placement.nodes,
                placement.pods_ahead
            )
            .unwrap();
            for obstacle in &placement.obstacles {
                let names = obstacle.names.join(", ");
                writeln!(
                    output,
                    "    {} {} ({names}): {}",
                    obstacle.requirement, obstacle.nodes, obstacle.message
                )
                .unwrap();
            }
        }
        output
    }

    fn show_tails(&self) -> String {
        let mut lines = Vec::new();
        for (key, stored) in &self.harness.rows.map {
            let (RowKey::LogTail(key), Row::LogTail(tail)) = (key, &stored.row) else { continue };
            let (alias, _) = self.pods.iter().find(|(_, (uid, _, _))| *uid == key.pod).expect("a known Pod");
            let last = if tail.is_last { " last" } else { "" };
            lines.push(format!(
                "{alias} container={} restart={} offset={} bytes={}{last}\n",
                key.container,
                key.restart_count,
                tail.first_offset,
                tail.entries.len()
            ));
        }
        lines.sort();
        lines.concat()
    }

    fn show_rows(&self) -> String {
        let mut counts = std::collections::BTreeMap::new();
        for key in self.harness.rows.map.keys() {
            let kind = match key {
                RowKey::Meta => "meta",
                RowKey::Node(_) => "node",
                RowKey::Job(_) => "job",
                RowKey::Template(_) => "template",
                RowKey::JobName { .. } => "job-name",
                RowKey::Pod(_) => "pod",
                RowKey::PodName { .. } => "pod-name",
                RowKey::Event { .. } => "event",
                RowKey::Tombstone { .. } => "tombstone",
                RowKey::ConfigMap { .. } => "configmap",
                RowKey::LogTail(_) => "log-tail",
                RowKey::History(_) => "history",
            };
            *counts.entry(kind).or_insert(0) += 1;
        }
        counts.iter().map(|(kind, count)| format!("{kind}: {count}\n")).collect()
    }

    fn desired(&self, desired: &DesiredPod) -> String {
        let (alias, _) = self.pods.iter().find(|(_, (uid, _, _))| *uid == desired.pod).expect("a known Pod");
        match &desired.action {
            DesiredAction::Run { containers } => {
                let run = |container: &DesiredContainer| {
                    let DesiredContainer { name, restart_count, delay_ms, stop_grace_ms } = container;
                    let name = if &**name == "main" { String::new() } else { format!(" of={name}") };
                    let stop = stop_grace_ms.map(|grace_ms| format!(" stop={grace_ms}ms"));
                    let stop = stop.unwrap_or_default();
                    format!("run {alias}{name} restart={restart_count} delay={delay_ms}ms{stop}\n")
                };
                containers.iter().map(run).collect()
            }
            DesiredAction::Stop { grace_ms } => format!("stop {alias} grace={grace_ms}ms\n"),
        }
    }
}

/// Of the last run that has ended, unless another goes on.
fn exit_code(container: &ContainerRecord) -> Option<String> {
    let is_running = matches!(container.state, ContainerRunState::Running { .. });
    let termination = container.termination.as_ref().filter(|_| !is_running)?;
    Some(termination.exit_code.to_string())
}

fn trim_line_ends(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
