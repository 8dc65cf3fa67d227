//! Which objects a command line means: `jobs`, `job NAME …`, `job/NAME pod/NAME`, `jobs,pods`.
//!
//! Owns: kinds and their names. Does not own: what is done to the objects.

use anyhow::{Result, bail, ensure};
use stint_client::PodTarget;

use crate::near::did_you_mean;

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Jobs,
    Pods,
    ConfigMaps,
    Nodes,
    Events,
}

impl Kind {
    /// By any of the names that Kubernetes' users know.
    pub fn parse(text: &str) -> Result<Kind> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "job" | "jobs" | "job.batch" | "jobs.batch" | "job.v1.batch" | "jobs.v1.batch" => Kind::Jobs,
            "pod" | "pods" | "po" => Kind::Pods,
            "configmap" | "configmaps" | "cm" => Kind::ConfigMaps,
            "node" | "nodes" | "no" => Kind::Nodes,
            "event" | "events" | "ev" => Kind::Events,
            _ => bail!(
                "there is no kind {text:?}: jobs, pods, configmaps, nodes and events are there{}",
                did_you_mean(text, ["jobs", "pods", "configmaps", "nodes", "events"])
            ),
        })
    }

    /// As people call several of them.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Jobs => "jobs",
            Kind::Pods => "pods",
            Kind::ConfigMaps => "configmaps",
            Kind::Nodes => "nodes",
            Kind::Events => "events",
        }
    }

    /// True if its objects are in namespaces.
    pub fn is_namespaced(self) -> bool {
        self != Kind::Nodes
    }
}

/// Objects of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub kind: Kind,
    /// Empty: all.
    pub names: Vec<String>,
}

/// Splits `KIND/NAME`.
pub fn kind_and_name(text: &str) -> Result<(Kind, Option<&str>)> {
    match text.split_once('/') {
        Some((kind, name)) if !name.is_empty() && !name.contains('/') => Ok((Kind::parse(kind)?, Some(name))),
        Some((_, "")) => bail!("{text:?} has no name: write KIND/NAME"),
        Some(_) => {
            bail!("{text:?} has more than one slash: write KIND/NAME, and the namespace behind --namespace")
        }
        None => Ok((Kind::parse(text)?, None)),
    }
}

/// One Job: its name, or job/NAME.
pub fn job_name(text: &str) -> Result<&str> {
    match text.contains('/').then(|| kind_and_name(text)).transpose()? {
        None => Ok(text),
        Some((Kind::Jobs, Some(name))) => Ok(name),
        Some(_) => bail!("{text:?} is no job: give its name, or job/NAME"),
    }
}

/// One Pod: its name, pod/NAME, or job/NAME for one of a Job's.
pub fn pod_target(text: &str) -> Result<PodTarget> {
    match text.contains('/').then(|| kind_and_name(text)).transpose()? {
        None => Ok(PodTarget::Pod(text.to_owned())),
        Some((Kind::Pods, Some(name))) => Ok(PodTarget::Pod(name.to_owned())),
        Some((Kind::Jobs, Some(name))) => Ok(PodTarget::Job(name.to_owned())),
        Some(_) => bail!("{text:?} is no pod: give the name of a pod, or job/NAME"),
    }
}

/// Reads a command's words, of which there is at least one: kinds and then names, or KIND/NAME each. What is of one kind
/// comes together.
pub fn targets(words: &[String]) -> Result<Vec<Target>> {
    let mut targets: Vec<Target> = Vec::new();
    let mut add = |kind: Kind, names: &[String]| match targets.iter_mut().find(|one| one.kind == kind) {
        Some(target) => target.names.extend_from_slice(names),
        None => targets.push(Target { kind, names: names.to_vec() }),
    };
    let Some((first, names)) = words.split_first() else { bail!("a kind is required, such as jobs") };
    if first.contains('/') {
        for word in words {
            ensure!(word.contains('/'), "{word:?} stands among KIND/NAME: write KIND/NAME for each object");
            let (kind, Some(name)) = kind_and_name(word)? else { bail!("{word:?} has no name") };
            add(kind, &[name.to_owned()]);
        }
        return Ok(targets);
    }
    if let Some(word) = names.iter().find(|name| name.contains('/')) {
        bail!("{word:?} is no name: write KIND NAME …, or KIND/NAME for each object");
    }
    for kind in first.split(',') {
        ensure!(!kind.is_empty(), "{first:?} names no kind: write jobs, or several as in jobs,pods");
        add(Kind::parse(kind)?, names);
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Vec<(Kind, String)>> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Ok(targets(&words)?.into_iter().map(|target| (target.kind, target.names.join(" "))).collect())
    }

    #[test]
    fn words_name_objects() {
        for (line, expected) in [
            ("jobs", vec![(Kind::Jobs, "")]),
            ("Job a b", vec![(Kind::Jobs, "a b")]),
            (
                "jobs,po,no,ev",
                vec![(Kind::Jobs, ""), (Kind::Pods, ""), (Kind::Nodes, ""), (Kind::Events, "")],
            ),
            ("job,pod x", vec![(Kind::Jobs, "x"), (Kind::Pods, "x")]),
            ("job/a pod/b jobs.batch/c", vec![(Kind::Jobs, "a c"), (Kind::Pods, "b")]),
            ("cm,configmap a", vec![(Kind::ConfigMaps, "a a")]),
        ] {
            let expected: Vec<_> =
                expected.into_iter().map(|(kind, names)| (kind, names.to_owned())).collect();
            assert_eq!(read(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn a_pod_is_named_by_itself_or_by_its_job() {
        for (text, expected) in [
            ("a", PodTarget::Pod("a".to_owned())),
            ("pod/a", PodTarget::Pod("a".to_owned())),
            ("jobs.batch/a", PodTarget::Job("a".to_owned())),
        ] {
            assert_eq!(pod_target(text).unwrap(), expected);
        }
        assert_eq!((job_name("a").unwrap(), job_name("jobs/a").unwrap()), ("a", "a"));
        for text in ["pod/a", "job/", "job/a/b"] {
            assert!(job_name(text).is_err(), "{text}");
        }
        for text in ["node/a", "job/", "x/a", "job/a/b"] {
            assert!(pod_target(text).is_err(), "{text}");
        }
    }

    #[test]
    fn words_that_name_nothing_are_refused() {
        for (text, expected) in [("job/", "has no name"), ("job/a/b", "more than one slash")] {
            assert!(kind_and_name(text).unwrap_err().to_string().contains(expected), "{text}");
        }
        for line in
            ["deployments", "jobs,", ",", "job/", "/a", "job/a b", "job/a/b", "job a pod/b", "job/a pod", ""]
        {
            assert!(read(line).is_err(), "{line}");
        }
        assert!(targets(&[]).is_err());
    }
}
