//! Why a Job or a Pod does not run, or what of it runs.
//!
//! Owns: reading it out of the state, in words. Does not own: any decision: it asks the controller and the scheduler what they
//! do ([`crate::controller`], [`crate::scheduler`]), and changes nothing.

mod job;
mod placement;
mod pod;

use stint_api::{Timestamp, duration};

use crate::limits::PODS_NAMED_MAX;
use crate::record::PodRecord;

pub use job::explain_finished;
pub use pod::explain_ended;

/// What is to be said about a Job or a Pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explanation {
    /// One word for the whole.
    pub state: &'static str,
    /// One sentence.
    pub summary: String,
    /// What is true of it, what matters most first.
    pub reasons: Vec<Reason>,
    /// Why no node takes those of its Pods that wait for one.
    pub placement: Option<Placement>,
}

/// One thing that is true of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// One CamelCase word.
    pub word: &'static str,
    /// A sentence.
    pub message: String,
    /// When it is over or due.
    pub until: Option<Timestamp>,
    /// How many Pods it is about; 0: none in particular.
    pub pods: u32,
    /// Names of some of them.
    pub names: Vec<String>,
}

/// Why no node takes a Pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// What it asks for, each as a phrase.
    pub asks: Vec<String>,
    /// Nodes of the cluster.
    pub nodes: u32,
    /// What keeps them from taking it; a node may be in several.
    pub obstacles: Vec<Obstacle>,
    /// Pods whose turn is before it.
    pub pods_ahead: u32,
    /// Not all of them were counted.
    pub more_ahead: bool,
}

/// What keeps some nodes from taking a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// One CamelCase word.
    pub requirement: &'static str,
    /// A sentence.
    pub message: String,
    /// How many nodes.
    pub nodes: u32,
    /// Names of some of them.
    pub names: Vec<String>,
}

impl Reason {
    fn new(word: &'static str, message: String) -> Reason {
        Reason { word, message, until: None, pods: 0, names: Vec::new() }
    }

    fn until(self, until: Timestamp) -> Reason {
        Reason { until: Some(until), ..self }
    }

    fn about(self, pods: &Pods) -> Reason {
        Reason { pods: pods.count, names: pods.names.clone(), ..self }
    }
}

/// Some Pods of a Job: how many, and the first names.
#[derive(Debug, Clone, Default)]
struct Pods {
    count: u32,
    names: Vec<String>,
}

impl Pods {
    fn add(&mut self, pod: &PodRecord) {
        self.count = self.count.saturating_add(1);
        if self.names.len() < PODS_NAMED_MAX {
            self.names.push(pod.name.clone());
        }
    }
}

/// `1 pod`, `2 pods`.
fn counted(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The form of a verb that belongs to so many.
fn verb<'a>(count: u32, one: &'a str, several: &'a str) -> &'a str {
    if count == 1 { one } else { several }
}

/// How long it is from one moment to a later one.
fn span(from: Timestamp, to: Timestamp) -> String {
    duration::format_ms(u64::try_from(to.since_ms(from)).unwrap_or(0))
}
