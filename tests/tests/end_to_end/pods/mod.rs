//! One suite of Pods that holds for every runtime: what a container's end, output, environment, volumes, order, probes,
//! hooks and limits look like from outside.
//!
//! Owns: running the cases on one cluster and looking at what became of them. Does not own: the cases themselves (a
//! module per subject), how an engine of a test is started.
//!
//! Every case is one Job. All of a suite are submitted together and looked at one after another, so a suite takes about as
//! long as its slowest Pod.

mod ends;
mod environment;
mod lifecycle;
mod output;
mod security;
mod volumes;

use serde_json::{Value, json};
use std::time::Duration;
use stint_tests::cluster::condition;
use stint_tests::{Cluster, ClusterOptions};

/// The image of all cases: a busybox, which runtimes without images replace by the host's programs.
pub const IMAGE: &str = "localhost/stint-test/busybox:1";
/// The slowest case waits for a liveness probe, a grace and a restart's back-off.
const ENDED_WITHIN: Duration = Duration::from_secs(180);

/// What a case can't do without. A runtime that has it not leaves the case out, and says so.
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
    /// Programs are the host's: there is no image.
    HostPrograms,
}

/// One Job and what is expected of it.
pub struct Case {
    name: &'static str,
    needs: &'static [Need],
    job: Value,
    pod: Value,
    check: fn(&Ended<'_>),
}

/// A case: a Pod of this spec, and what must be true when its Job has ended.
pub fn case(name: &'static str, pod: Value, check: fn(&Ended<'_>)) -> Case {
    Case { name, needs: &[], job: json!({}), pod, check }
}

impl Case {
    /// Further fields of the Job's spec.
    pub fn job(mut self, fields: Value) -> Case {
        self.job = fields;
        self
    }

    /// What the case can't do without.
    pub fn needs(mut self, needs: &'static [Need]) -> Case {
        self.needs = needs;
        self
    }

    fn manifest(&self) -> Value {
        let mut pod = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 2});
        merge(&mut pod, &self.pod);
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

/// Runs every case that the cluster's runtime can run; `has` says what it can do.
pub fn run_suite(cluster: &Cluster, runtime: &str, has: &[Need], pod_fields: &Value) {
    let all = [
        ends::cases(),
        output::cases(),
        environment::cases(),
        volumes::cases(),
        lifecycle::cases(),
        security::cases(),
    ];
    let (run, left_out): (Vec<Case>, Vec<Case>) =
        all.into_iter().flatten().partition(|case| case.needs.iter().all(|need| has.contains(need)));
    for case in &left_out {
        println!("{runtime}: not run: {} (needs {:?})", case.name, case.needs);
    }
    for settings in environment::config_maps() {
        cluster.stint_with_input(&["apply", "-f", "-"], &settings.to_string()).success();
    }
    for case in &run {
        let mut manifest = case.manifest();
        merge(&mut manifest["spec"]["template"]["spec"], pod_fields);
        let outcome = cluster.stint_with_input(&["apply", "-f", "-"], &manifest.to_string());
        assert_eq!(outcome.code, 0, "{}: {}", case.name, outcome.stderr);
    }
    let mut failures = Vec::new();
    for case in &run {
        // One that fails must not hide the others: a suite is read as a whole.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(cluster, case)));
        if outcome.is_err() {
            failures.push(case.name);
        }
    }
    assert!(failures.is_empty(), "{runtime}: {} of {} cases failed: {failures:?}", failures.len(), run.len());
    println!("{runtime}: {} cases run, {} left out", run.len(), left_out.len());
}

fn check(cluster: &Cluster, case: &Case) {
    let ended = stint_tests::wait_until(ENDED_WITHIN, || {
        let job = cluster.job(case.name);
        ["Complete", "Failed"].iter().any(|end| condition(&job, end).is_some()).then_some(job)
    });
    let job = ended.unwrap_or_else(|| {
        panic!("{} has not ended within {ENDED_WITHIN:?}: {:#?}", case.name, cluster.pods(case.name))
    });
    (case.check)(&Ended { cluster, name: case.name, job, pods: cluster.pods(case.name) });
}

#[test]
fn processes_of_root() {
    let mut options = ClusterOptions::new(1, 1);
    options.agent_arguments.extend(["--max-pods", "200"].map(str::to_owned));
    let cluster = Cluster::start(options);
    let has = [Need::Limits, Need::Mounts, Need::Namespaces, Need::Users, Need::HostPrograms];
    run_suite(&cluster, "process as root", &has, &json!({}));
}
