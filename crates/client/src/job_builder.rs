//! The common Job: one container.
//!
//! Owns: making it out of a few options. Does not own: defaults and validation, which are the servers'.

use std::time::Duration;

use stint_api::{CompletionMode, Container, EnvVar, Job, Quantity, RestartPolicy};

use crate::error::Error;
use crate::limits::NAME_PREFIX_BYTES_MAX;

/// What runs a Job that names no image.
const PROCESS: &str = "process";

/// Makes a Job of one container.
///
/// ```
/// use stint_client::JobBuilder;
///
/// let job = JobBuilder::new(["python3", "-c", "print('hello')"])
///     .name("hello")
///     .image("docker.io/library/python:3.13")
///     .completions(10)
///     .parallelism(4)
///     .indexed()
///     .env("LANG", "C.UTF-8")
///     .cpu("500m")
///     .memory("256Mi")
///     .retries(3)
///     .deadline(600)
///     .node_selector("disk", "ssd")
///     .build()?;
/// assert_eq!(job.spec.completions, Some(10));
/// # Ok::<(), stint_client::Error>(())
/// ```
///
/// What it has no option for is set in the [`Job`] that [`JobBuilder::build`] gives.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is built or run"]
pub struct JobBuilder {
    job: Job,
    container: Container,
    /// The first amount that is none.
    problem: Option<(&'static str, String)>,
}

impl JobBuilder {
    /// Program and arguments; no shell splits them. Without [`JobBuilder::name`] the servers make a name that begins with
    /// the program's.
    pub fn new<Word: Into<String>>(command: impl IntoIterator<Item = Word>) -> JobBuilder {
        let command: Vec<String> = command.into_iter().map(Into::into).collect();
        let mut job = Job::default();
        job.metadata.generate_name = name_prefix(command.first().map_or("", String::as_str));
        job.spec.template.spec.restart_policy = Some(RestartPolicy::Never);
        let container = Container { name: "main".to_owned(), command, ..Container::default() };
        JobBuilder { job, container, problem: None }
    }

    /// Its name.
    pub fn name(mut self, name: impl Into<String>) -> JobBuilder {
        self.job.metadata.name = name.into();
        self.job.metadata.generate_name.clear();
        self
    }

    /// The servers make a name that begins so.
    pub fn generate_name(mut self, prefix: impl Into<String>) -> JobBuilder {
        self.job.metadata.generate_name = prefix.into();
        self.job.metadata.name.clear();
        self
    }

    /// Its namespace; `default` unless it is given.
    pub fn namespace(mut self, namespace: impl Into<String>) -> JobBuilder {
        self.job.metadata.namespace = namespace.into();
        self
    }

    /// What its containers are made from. Without it the Job runs as a process of the node.
    pub fn image(mut self, image: impl Into<String>) -> JobBuilder {
        self.container.image = image.into();
        self
    }

    /// How often it must succeed. The servers' default is 1.
    pub fn completions(mut self, completions: i32) -> JobBuilder {
        self.job.spec.completions = Some(completions);
        self
    }

    /// How many of its Pods run at once. The servers' default is 1.
    pub fn parallelism(mut self, parallelism: i32) -> JobBuilder {
        self.job.spec.parallelism = Some(parallelism);
        self
    }

    /// Each Pod gets an index from 0, in `JOB_COMPLETION_INDEX`, and each index must succeed once.
    pub fn indexed(mut self) -> JobBuilder {
        self.job.spec.completion_mode = Some(CompletionMode::Indexed);
        self
    }

    /// A variable of its environment; `$(OTHER)` is expanded.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> JobBuilder {
        self.container.env.push(EnvVar { name: name.into(), value: value.into(), value_from: None });
        self
    }

    /// What a node must have free and what each Pod may use, such as `2` or `500m`.
    pub fn cpu(self, amount: &str) -> JobBuilder {
        self.resource("cpu", amount)
    }

    /// What a node must have free and what each Pod may use, such as `1Gi`.
    pub fn memory(self, amount: &str) -> JobBuilder {
        self.resource("memory", amount)
    }

    /// Failures that are forgiven. The servers' default is 6.
    pub fn retries(mut self, retries: i32) -> JobBuilder {
        self.job.spec.backoff_limit = Some(retries);
        self
    }

    /// Pause after the first failure, doubled with each further one. The servers' default is 10 s.
    pub fn backoff(mut self, pause: Duration) -> JobBuilder {
        self.job.spec.backoff_base_ms = Some(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Seconds after its start at which an unfinished Job fails.
    pub fn deadline(mut self, seconds: i64) -> JobBuilder {
        self.job.spec.active_deadline_seconds = Some(seconds);
        self
    }

    /// Seconds after its end at which the Job is deleted.
    pub fn ttl(mut self, seconds: i32) -> JobBuilder {
        self.job.spec.ttl_seconds_after_finished = Some(seconds);
        self
    }

    /// A container that fails is started again in its Pod; else its Pod is replaced.
    pub fn restart_in_place(mut self) -> JobBuilder {
        self.job.spec.template.spec.restart_policy = Some(RestartPolicy::OnFailure);
        self
    }

    /// Seconds from SIGTERM to SIGKILL. The servers' default is 30.
    pub fn grace(mut self, seconds: i64) -> JobBuilder {
        self.job.spec.template.spec.termination_grace_period_seconds = Some(seconds);
        self
    }

    /// What runs it: `process`, `cri` or `oci`. Without it the cluster's default, `process` if there is no image.
    pub fn runtime(mut self, runtime: impl Into<String>) -> JobBuilder {
        self.job.spec.template.spec.runtime_class_name = Some(runtime.into());
        self
    }

    /// Higher goes first. The servers' default is 0.
    pub fn priority(mut self, priority: i32) -> JobBuilder {
        self.job.spec.template.spec.priority = Some(priority);
        self
    }

    /// A label that a node must carry.
    pub fn node_selector(mut self, name: impl Into<String>, value: impl Into<String>) -> JobBuilder {
        self.job.spec.template.spec.node_selector.insert(name.into(), value.into());
        self
    }

    /// A label of the Job and of its Pods.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> JobBuilder {
        let (name, value) = (name.into(), value.into());
        self.job.spec.template.labels.insert(name.clone(), value.clone());
        self.job.metadata.labels.insert(name, value);
        self
    }

    /// An annotation of the Job.
    pub fn annotation(mut self, name: impl Into<String>, value: impl Into<String>) -> JobBuilder {
        self.job.metadata.annotations.insert(name.into(), value.into());
        self
    }

    /// No Pod runs until the Job is changed.
    pub fn suspended(mut self) -> JobBuilder {
        self.job.spec.suspend = Some(true);
        self
    }

    /// The Job. It can be changed before it is submitted.
    ///
    /// # Errors
    /// [`Error::Option`] for an empty command, and for amounts that are none.
    pub fn build(self) -> Result<Job, Error> {
        let JobBuilder { mut job, container, problem } = self;
        if let Some((option, problem)) = problem {
            return Err(Error::Option { option, problem });
        }
        if container.command.is_empty() {
            let problem = "it is empty: give at least the program".to_owned();
            return Err(Error::Option { option: "command", problem });
        }
        let pod = &mut job.spec.template.spec;
        if container.image.is_empty() {
            pod.runtime_class_name.get_or_insert_with(|| PROCESS.to_owned());
        }
        pod.containers.push(container);
        if job.spec.completion_mode == Some(CompletionMode::Indexed) {
            // An indexed Job must say how many there are.
            job.spec.completions.get_or_insert(1);
        }
        Ok(job)
    }

    fn resource(mut self, name: &'static str, amount: &str) -> JobBuilder {
        match Quantity::parse(amount) {
            Ok(quantity) => {
                self.container.requests.insert(name.to_owned(), quantity.clone());
                self.container.limits.insert(name.to_owned(), quantity);
            }
            Err(error) => {
                self.problem.get_or_insert_with(|| (name, format!("{amount:?} is no amount: {error}")));
            }
        }
        self
    }
}

/// A prefix for generated names out of a program's path.
fn name_prefix(program: &str) -> String {
    let base = program.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let words = base.split(|one: char| !one.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut prefix = words.collect::<Vec<_>>().join("-");
    prefix.truncate(NAME_PREFIX_BYTES_MAX);
    let prefix = prefix.trim_end_matches('-');
    format!("{}-", if prefix.is_empty() { "job" } else { prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_made_of_words() {
        let job = JobBuilder::new(["/usr/bin/My Program.sh", "x"])
            .indexed()
            .cpu("500m")
            .env("A", "b")
            .backoff(Duration::from_millis(1500))
            .label("team", "blue")
            .build()
            .unwrap();
        assert_eq!((&*job.metadata.name, &*job.metadata.generate_name), ("", "my-program-sh-"));
        assert_eq!((job.spec.completions, job.spec.backoff_base_ms), (Some(1), Some(1500)));
        assert_eq!(job.spec.template.labels, job.metadata.labels);
        let pod = &job.spec.template.spec;
        assert_eq!(pod.runtime_class_name.as_deref(), Some("process"), "it has no image");
        let [container] = &*pod.containers else { panic!("{:?}", pod.containers) };
        assert_eq!(container.image, "", "processes have none");
        assert_eq!(container.command, ["/usr/bin/My Program.sh", "x"]);
        assert_eq!(container.limits["cpu"].as_str(), "500m");
        assert_eq!(container.requests, container.limits);
        let job = JobBuilder::new(["x"]).image("i").name("n").build().unwrap();
        assert_eq!((&*job.metadata.name, &*job.metadata.generate_name), ("n", ""));
        assert_eq!(job.spec.template.spec.runtime_class_name, None, "the cluster's default");
    }

    #[test]
    fn names_are_made_of_any_program() {
        for (program, prefix) in
            [("…", "job-"), ("", "job-"), ("/", "job-"), ("a/B_c", "b-c-"), ("-x-", "x-")]
        {
            assert_eq!(name_prefix(program), prefix, "{program:?}");
        }
        assert_eq!(name_prefix(&"x".repeat(300)).len(), NAME_PREFIX_BYTES_MAX + 1);
    }

    #[test]
    fn what_no_job_can_be_made_of_names_its_option() {
        let nothing: [&str; 0] = [];
        for (builder, option) in [
            (JobBuilder::new(nothing), "command"),
            (JobBuilder::new(["x"]).cpu("much"), "cpu"),
            (JobBuilder::new(["x"]).memory("").cpu("?"), "memory"),
        ] {
            let error = builder.build().unwrap_err();
            assert!(error.to_string().starts_with(&format!("the job can't be made: {option}: ")), "{error}");
        }
    }
}
