//! One suite of Pods that holds for every runtime: what a container's end, output, environment, volumes, order, probes,
//! hooks and limits look like from outside.
//!
//! Owns: running the cases on one cluster and looking at what became of them. Does not own: the cases themselves (a
//! module per subject), what there is to run them on (`platform`).
//!
//! Every case is one Job. All of a suite are submitted together and looked at one after another, so a suite takes about as
//! long as its slowest Pod.

mod ends;
mod environment;
mod images;
mod lifecycle;
mod output;
mod platform;
mod security;
mod volumes;

use platform::Platform;
use serde_json::{Value, json};
use std::time::Duration;
use stint_tests::cluster::condition;
use stint_tests::{BUSYBOX_IMAGE as IMAGE, Cluster};

/// The slowest case waits for a liveness probe, a grace and a restart's back-off.
const ENDED_WITHIN: Duration = Duration::from_secs(180);

/// What a case can't do without. A platform that has it not leaves the case out, and says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Limits of memory and of the number of processes are enforced.
    Limits,
    /// Volumes can be mounted.
    Mounts,
    /// Containers have PID namespaces.
    Namespaces,
    /// Users other than the agent's own can be had.
    Users,
    /// Containers are made of images.
    Images,
}

/// One Job and what is expected of it.
pub struct Case {
    name: &'static str,
    needs: &'static [Need],
    job: Value,
    pod: Value,
    stopped: Option<Stopped>,
    writes_much: bool,
    check: fn(&Ended<'_>),
}

/// When a Job is stopped.
#[derive(Debug, Clone, Copy)]
enum Stopped {
    /// All containers run, and `main` has written this.
    Wrote(&'static str),
    /// `main` waits, for one of these reasons.
    Waits(&'static [&'static str]),
}

/// A case: a Pod of this spec, and what must be true when its Job has ended.
pub fn case(name: &'static str, pod: Value, check: fn(&Ended<'_>)) -> Case {
    Case { name, needs: &[], job: json!({}), pod, stopped: None, writes_much: false, check }
}

impl Case {
    /// Further fields of the Job's spec.
    pub fn job(mut self, fields: Value) -> Case {
        self.job = fields;
        self
    }

    /// Once all of its containers run and `main` has written this, the Job's deadline is passed.
    pub fn stopped_after(mut self, output: &'static str) -> Case {
        self.stopped = Some(Stopped::Wrote(output));
        self
    }

    /// Once `main` waits for one of these reasons, the Job's deadline is passed.
    pub fn stopped_while_waiting(mut self, reasons: &'static [&'static str]) -> Case {
        self.stopped = Some(Stopped::Waits(reasons));
        self
    }

    /// It ends by itself when it is stopped, within a grace that a busy machine does not use up.
    pub fn patient(mut self) -> Case {
        self.pod["terminationGracePeriodSeconds"] = json!(30);
        self
    }

    /// What the case can't do without.
    pub fn needs(mut self, needs: &'static [Need]) -> Case {
        self.needs = needs;
        self
    }

    /// More than an engine has read when its only container `main` ends.
    pub fn writes_much(mut self) -> Case {
        self.writes_much = true;
        self
    }

    /// An engine whose node says `LogsDegraded` loses what it has not read when a container ends: let it read.
    fn let_it_be_read(&mut self) {
        let script = &mut self.pod["containers"][0]["command"][2];
        *script = json!(format!("{}; sleep 2", script.as_str().expect("a script")));
    }

    fn manifest(&self, pod_fields: &Value) -> Value {
        let mut pod = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 2});
        merge(&mut pod, &self.pod);
        merge(&mut pod, pod_fields);
        let mut spec = json!({"backoffLimit": 0, "template": {"spec": pod}});
        merge(&mut spec, &self.job);
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": self.name}, "spec": spec})
    }
}

fn merge(into: &mut Value, fields: &Value) {
    let (Some(into), Some(fields)) = (into.as_object_mut(), fields.as_object()) else { return };
    for (name, value) in fields {
        into.insert(name.clone(), value.clone());
    }
}

/// A Pod of one container `main` that runs a shell script.
pub fn script(text: &str) -> Value {
    json!({"containers": [shell("main", text)]})
}

/// A container that runs a shell script.
pub fn shell(name: &str, text: &str) -> Value {
    json!({"name": name, "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["/bin/sh", "-c", text]})
}

/// A container that runs a shell script, with further fields.
pub fn shell_with(name: &str, text: &str, fields: Value) -> Value {
    let mut container = shell(name, text);
    merge(&mut container, &fields);
    container
}

/// A Job that has ended.
pub struct Ended<'a> {
    cluster: &'a Cluster,
    /// What it ran on.
    pub platform: Platform,
    name: &'static str,
    /// The Job.
    pub job: Value,
    /// Its Pods.
    pub pods: Vec<Value>,
}

impl Ended<'_> {
    /// Its only Pod.
    pub fn pod(&self) -> &Value {
        assert_eq!(self.pods.len(), 1, "{}: {:#?}", self.name, self.pods);
        &self.pods[0]
    }

    /// Asserts that the Job is Complete.
    pub fn complete(&self) {
        let complete = condition(&self.job, "Complete");
        assert!(
            complete.is_some(),
            "{} is not Complete: {}\n{:#}",
            self.name,
            self.job["status"],
            self.pod()["status"]
        );
    }

    /// Asserts that the Job is Failed.
    pub fn failed(&self) {
        assert!(
            condition(&self.job, "Failed").is_some(),
            "{} has not failed: {}",
            self.name,
            self.job["status"]
        );
    }

    /// Status of a container or init container.
    pub fn status(&self, container: &str) -> Value {
        let status = &self.pod()["status"];
        let lists = ["containerStatuses", "initContainerStatuses"];
        let all = lists.iter().filter_map(|list| status[list].as_array()).flatten();
        let mut found = all.filter(|one| one["name"] == container);
        found.next().unwrap_or_else(|| panic!("{}: no container {container}: {status:#}", self.name)).clone()
    }

    /// How a container ended.
    pub fn terminated(&self, container: &str) -> Value {
        let state = self.status(container)["state"]["terminated"].clone();
        assert!(state.is_object(), "{}: {container} has not ended: {:#}", self.name, self.status(container));
        state
    }

    /// Asserts how a container ended.
    pub fn ended(&self, container: &str, exit_code: i64, reason: &str) {
        let state = self.terminated(container);
        assert_eq!(
            (state["exitCode"].as_i64(), state["reason"].as_str()),
            (Some(exit_code), Some(reason)),
            "{}: {container}: {state:#}",
            self.name
        );
    }

    /// What a container wrote.
    pub fn log(&self, container: &str) -> String {
        let pod = self.pod()["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.cluster.stint(&["logs", &pod, "-c", container]).success()
    }

    /// Asserts what `main` wrote.
    pub fn wrote(&self, expected: &str) {
        assert_eq!(self.log("main"), expected, "{}", self.name);
    }
}

/// Runs every case that means the same on a platform. All Pods get these fields too.
pub fn run_suite(cluster: &Cluster, platform: Platform, pod_fields: &Value) {
    let all = [
        ends::cases(),
        output::cases(),
        environment::cases(),
        volumes::cases(),
        lifecycle::cases(),
        security::cases(),
        images::cases(),
    ];
    let all: Vec<Case> = all.into_iter().flatten().collect();
    platform::check_table(all.iter().map(|case| case.name));
    let (mut run, mut left_out) = (Vec::new(), 0);
    let loses_output = platform == Platform::Cri && says_logs_degraded(cluster);
    for mut case in all {
        if loses_output && case.writes_much {
            println!("{}: with a pause at its end: {}: the engine loses output", platform.name(), case.name);
            case.let_it_be_read();
        }
        match platform.leaves_out(&case) {
            None => run.push(case),
            Some(why) => {
                println!("{}: not run: {}: {why}", platform.name(), case.name);
                left_out += 1;
            }
        }
    }
    for settings in environment::config_maps() {
        cluster.stint_with_input(&["apply", "-f", "-"], &settings.to_string()).success();
    }
    for case in &run {
        submit(cluster, case, &case.manifest(pod_fields));
    }
    let mut failures = Vec::new();
    for case in &run {
        if let Some(stopped) = case.stopped
            && !stop(cluster, case, stopped, pod_fields)
        {
            println!("{}: {} is never {stopped:?}", platform.name(), case.name);
            failures.push(case.name);
        }
    }
    for case in &run {
        // One that fails must not hide the others: a suite is read as a whole.
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(cluster, platform, case)));
        if outcome.is_err() {
            failures.push(case.name);
        }
    }
    let name = platform.name();
    assert!(failures.is_empty(), "{name}: {} of {} cases failed: {failures:?}", failures.len(), run.len());
    println!("{name}: {} cases run, {left_out} left out", run.len());
}

/// Whether the only node's engine is known to lose the end of what containers write.
fn says_logs_degraded(cluster: &Cluster) -> bool {
    let nodes = cluster.json(&["get", "nodes", "-o", "json"]);
    let said = condition(&nodes["items"][0], "LogsDegraded");
    said.is_some_and(|said| said["message"].as_str().is_some_and(|message| message.contains("containerd")))
}

fn submit(cluster: &Cluster, case: &Case, manifest: &Value) {
    let outcome = cluster.stint_with_input(&["apply", "-f", "-"], &manifest.to_string());
    assert_eq!(outcome.code, 0, "{}: {}", case.name, outcome.stderr);
}

/// Passes a Job's deadline once it has got as far as it should; false if it never does.
fn stop(cluster: &Cluster, case: &Case, stopped: Stopped, pod_fields: &Value) -> bool {
    let has_come = |pod: &Value| {
        let states: Vec<Value> = match pod["status"]["containerStatuses"].as_array() {
            Some(statuses) => statuses.iter().map(|status| status["state"].clone()).collect(),
            None => return false,
        };
        match stopped {
            Stopped::Waits(reasons) => {
                let reason = states[0]["waiting"]["reason"].as_str().unwrap_or_default();
                reasons.contains(&reason)
            }
            // What of it has ended by itself is a matter of what is expected of it.
            Stopped::Wrote(_) if states.iter().all(|state| state["terminated"].is_object()) => true,
            Stopped::Wrote(output) => {
                let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                states.iter().all(|state| state["running"].is_object())
                    && cluster.stint(&["logs", name, "-c", "main"]).stdout.contains(output)
            }
        }
    };
    let came = stint_tests::wait_until(ENDED_WITHIN, || {
        let pods = cluster.pods(case.name);
        pods.first().filter(|pod| has_come(pod)).map(|_| ())
    });
    let mut manifest = case.manifest(pod_fields);
    manifest["spec"]["activeDeadlineSeconds"] = json!(1);
    submit(cluster, case, &manifest);
    came.is_some()
}

fn check(cluster: &Cluster, platform: Platform, case: &Case) {
    let ended = stint_tests::wait_until(ENDED_WITHIN, || {
        let job = cluster.job(case.name);
        ["Complete", "Failed"].iter().any(|end| condition(&job, end).is_some()).then_some(job)
    });
    let job = ended.unwrap_or_else(|| {
        panic!("{} has not ended within {ENDED_WITHIN:?}: {:#?}", case.name, cluster.pods(case.name))
    });
    (case.check)(&Ended { cluster, platform, name: case.name, job, pods: cluster.pods(case.name) });
}
