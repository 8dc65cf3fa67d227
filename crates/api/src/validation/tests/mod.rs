//! What is accepted and what is refused, rule by rule.

mod config_maps;
mod jobs;
mod pods;

use crate::container::Container;
use crate::defaulting::set_defaults;
use crate::job::Job;
use crate::pod::RestartPolicy;

/// A Job that is accepted.
fn valid() -> Job {
    let mut job = Job::default();
    job.metadata.name = "good".to_owned();
    job.spec.template.spec.restart_policy = Some(RestartPolicy::Never);
    job.spec.template.spec.containers = vec![Container {
        name: "main".to_owned(),
        image: "none".to_owned(),
        command: vec!["true".to_owned()],
        ..Container::default()
    }];
    set_defaults(&mut job);
    job
}
