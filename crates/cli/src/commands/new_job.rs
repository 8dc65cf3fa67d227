//! The Job that flags describe.
//!
//! Owns: what each flag means in a Job. Does not own: what is valid (crate `api`).

use anyhow::{Context as _, Result, bail, ensure};
use std::path::Path;
use stint_api::{
    CompletionMode, Container, EnvVar, Job, JobSpec, ObjectMeta, PodSpec, PodTemplateSpec, Quantity,
    RestartPolicy, StringMap,
};

use crate::arguments::NewJob;

/// The runtime that needs no image.
const PROCESS: &str = "process";
/// Of the program's name so much begins the Job's.
const NAME_PREFIX_MAX: usize = 40;
/// Begins the name of a Job whose program has no name that could.
const NAME_PREFIX_DEFAULT: &str = "job";
/// What the program is called within its Pod.
const CONTAINER_NAME: &str = "main";

/// The Job of these flags and this command, which has at least one word. `variable` is what the environment has here.
pub fn job_of(
    flags: &NewJob,
    command: &[String],
    namespace: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Job> {
    let (Some(program), false) = (command.first(), command.iter().all(String::is_empty)) else {
        bail!("a command is required: write it behind --")
    };
    let runtime = match (&flags.runtime, &flags.image) {
        (Some(runtime), None) if runtime != PROCESS => {
            bail!("containers of the runtime {runtime:?} need an image: give --image")
        }
        (Some(runtime), _) => Some(runtime.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(PROCESS.to_owned()),
    };
    let labels: StringMap =
        flags.label.iter().map(|text| key_and_value("--label", text)).collect::<Result<_>>()?;
    let (name, generate_name) = match &flags.name {
        Some(name) => {
            ensure!(!name.is_empty(), "--name is empty: give a name, or leave it out for one that is made");
            (name.clone(), String::new())
        }
        None => (String::new(), format!("{}-", name_prefix(program))),
    };
    let seconds = |given: Option<std::time::Duration>| given.map(|duration| duration.as_secs());
    let metadata = ObjectMeta {
        name,
        generate_name,
        namespace: namespace.to_owned(),
        labels: labels.clone(),
        ..ObjectMeta::default()
    };
    let pod = PodSpec {
        containers: vec![container(flags, command, variable)?],
        restart_policy: Some(RestartPolicy::Never),
        node_selector: flags
            .node_selector
            .iter()
            .map(|text| key_and_value("--node-selector", text))
            .collect::<Result<_>>()?,
        runtime_class_name: runtime,
        ..PodSpec::default()
    };
    Ok(Job {
        metadata,
        spec: JobSpec {
            completions: flags.completions,
            parallelism: flags.parallelism,
            completion_mode: flags.index.then_some(CompletionMode::Indexed),
            backoff_limit: flags.retries,
            active_deadline_seconds: seconds(flags.deadline)
                .map(i64::try_from)
                .transpose()
                .context("--deadline is too long")?,
            ttl_seconds_after_finished: seconds(flags.ttl)
                .map(i32::try_from)
                .transpose()
                .context("--ttl is too long: it is at most 2147483647s")?,
            template: PodTemplateSpec { labels, spec: pod, ..PodTemplateSpec::default() },
            ..JobSpec::default()
        },
        ..Job::default()
    })
}

fn container(
    flags: &NewJob,
    command: &[String],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Container> {
    let workdir = flags.workdir.as_deref().map(Path::to_str);
    let workdir = workdir.map(|text| text.context("--workdir is not UTF-8")).transpose()?;
    let mut container = Container {
        name: CONTAINER_NAME.to_owned(),
        image: flags.image.clone().unwrap_or_default(),
        // What is written behind -- is meant as it is: `$(VAR)` is for manifests.
        command: command.iter().map(|word| word.replace("$(", "$$(")).collect(),
        working_dir: workdir.unwrap_or_default().to_owned(),
        ..Container::default()
    };
    for text in &flags.env {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => {
                let value = variable(text);
                let value = value
                    .with_context(|| format!("--env {text}: {text} is not set here: write {text}=VALUE"))?;
                (text.as_str(), value)
            }
        };
        let value = value.replace("$(", "$$(");
        container.env.push(EnvVar { name: name.to_owned(), value, value_from: None });
    }
    for (resource, request, limit) in
        [("cpu", &flags.cpu, &flags.cpu_limit), ("memory", &flags.memory, &flags.memory_limit)]
    {
        for (given, resources) in [(request, &mut container.requests), (limit, &mut container.limits)] {
            if let Some(text) = given {
                let quantity =
                    Quantity::parse(text).ok().with_context(|| format!("{text:?} is no quantity"))?;
                resources.insert(resource.to_owned(), quantity);
            }
        }
    }
    Ok(container)
}

fn key_and_value(flag: &str, text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => bail!("{flag} {text:?} is no label: write KEY=VALUE"),
    }
}

/// What a name can begin with, of a program's path.
fn name_prefix(program: &str) -> String {
    let name = program.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default().to_lowercase();
    let fitting =
        name.chars().map(|one| if one.is_ascii_lowercase() || one.is_ascii_digit() { one } else { '-' });
    let fitting: String = fitting.take(NAME_PREFIX_MAX).collect();
    match fitting.trim_matches('-') {
        "" => NAME_PREFIX_DEFAULT.to_owned(),
        prefix => prefix.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser;

    fn made(line: &str) -> Result<Job> {
        let parsed = Arguments::parse_from(["stint", "run"].into_iter().chain(line.split_whitespace()));
        let Command::Run(run) = parsed.command else { panic!("{line}") };
        job_of(&run.job, &run.command, "team", |name| (name == "HERE").then(|| "yes".to_owned()))
    }

    #[test]
    fn flags_become_a_job() {
        let job = made(
            "--name x -c 10 -p 4 --index -e A=b=c -e HERE --cpu 500m --memory 1Gi --memory-limit 2Gi --retries 3 --deadline \
             1h --ttl 90s --node-selector disk=ssd,zone=a -l app=x --workdir /w -- sh -c $(A)",
        )
        .unwrap();
        assert_eq!((job.metadata.name.as_str(), job.metadata.namespace.as_str()), ("x", "team"));
        assert_eq!(job.metadata.labels, job.spec.template.labels);
        let spec = &job.spec;
        assert_eq!((spec.completions, spec.parallelism, spec.backoff_limit), (Some(10), Some(4), Some(3)));
        assert_eq!(spec.completion_mode, Some(CompletionMode::Indexed));
        assert_eq!((spec.active_deadline_seconds, spec.ttl_seconds_after_finished), (Some(3600), Some(90)));
        let pod = &spec.template.spec;
        assert_eq!(pod.runtime_class_name.as_deref(), Some("process"));
        assert_eq!(pod.node_selector.get("zone").map(String::as_str), Some("a"));
        let main = &pod.containers[0];
        assert_eq!(main.command, ["sh", "-c", "$$(A)"], "what is typed is meant as it is");
        let env: Vec<String> = main.env.iter().map(|one| format!("{}={}", one.name, one.value)).collect();
        assert_eq!(env, ["A=b=c", "HERE=yes"]);
        assert_eq!(main.requests["cpu"].as_str(), "500m");
        assert_eq!((main.requests["memory"].as_str(), main.limits["memory"].as_str()), ("1Gi", "2Gi"));
        assert_eq!(main.working_dir, "/w");
        let mut checked = job.clone();
        stint_api::set_defaults(&mut checked);
        checked.metadata.uid = stint_api::JobUid(0).to_string();
        stint_api::generate_labels(&mut checked, stint_api::JobUid(0));
        assert_eq!(stint_api::validate_create(&checked), []);
    }

    #[test]
    fn an_image_asks_for_containers() {
        let of = |line: &str| {
            let pod = made(line).unwrap().spec.template.spec;
            (pod.runtime_class_name, pod.containers[0].image.clone())
        };
        assert_eq!(of("-- true"), (Some("process".to_owned()), String::new()));
        assert_eq!(of("--image perl -- true"), (None, "perl".to_owned()));
        assert_eq!(of("--image perl --runtime cri -- true"), (Some("cri".to_owned()), "perl".to_owned()));
        assert_eq!(of("--runtime process -- true").0.as_deref(), Some("process"));
    }

    #[test]
    fn a_name_is_made_of_the_program() {
        for (program, expected) in [
            ("/usr/bin/python3.11", "python3-11"),
            ("./Train_Model.sh", "train-model-sh"),
            ("sleep", "sleep"),
            ("/", "job"),
            ("日本", "job"),
            ("..", "job"),
        ] {
            assert_eq!(name_prefix(program), expected, "{program}");
        }
        assert_eq!(name_prefix(&"x".repeat(100)).len(), NAME_PREFIX_MAX);
        assert_eq!(made("-- /bin/true").unwrap().metadata.generate_name, "true-");
    }

    #[test]
    fn what_makes_no_job_is_refused_with_what_to_do() {
        for (line, expected) in [
            ("--runtime oci -- true", "give --image"),
            ("--env MISSING -- true", "write MISSING=VALUE"),
            ("--label x -- true", "write KEY=VALUE"),
            ("--node-selector =a -- true", "write KEY=VALUE"),
            ("--name= -- true", "--name is empty"),
        ] {
            let error = format!("{:#}", made(line).unwrap_err());
            assert!(error.contains(expected), "{line}: {error}");
        }
        let empty = job_of(&NewJob::default(), &[String::new()], "x", |_| None).unwrap_err().to_string();
        assert!(empty.contains("behind --"), "{empty}");
    }
}
