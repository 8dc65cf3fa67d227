//! What the machine of a Pod has to know of its template.
//!
//! Owns: the shape of it. Does not own: programs, images, volumes (the driver has the whole template).

use std::time::Duration;

/// A Pod, as far as timing and order are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPlan {
    /// Init containers and sidecars in their order, then the others.
    pub containers: Vec<ContainerPlan>,
    /// Of stops that the agent itself decides on, such as after a failed probe.
    pub grace: Duration,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerPlan {
    /// Its name in the Pod.
    pub name: String,
    /// An init container that goes on beside the others: it is stopped after them (P7).
    pub is_sidecar: bool,
    /// Something may have to be fetched before it starts.
    pub needs_image: bool,
    /// Why it can't be made at all; empty: it can.
    pub config_error: String,
    /// It has something to do right after its start.
    pub post_start: bool,
    /// It has something to do right before its stop (P6).
    pub pre_stop: bool,
    /// By [`ProbeKind`].
    pub probes: [Option<ProbePlan>; 3],
}

impl ContainerPlan {
    /// The probe of that kind.
    pub fn probe(&self, kind: ProbeKind) -> Option<&ProbePlan> {
        self.probes[kind as usize].as_ref()
    }
}

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Until it has passed, the container counts as not started and the other probes wait.
    Startup,
    /// Once it fails, the container is stopped.
    Liveness,
    /// Says whether the container is ready.
    Readiness,
}

impl ProbeKind {
    /// All of them, in the order in which they are looked at.
    pub const ALL: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness];

    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            ProbeKind::Startup => "startup",
            ProbeKind::Liveness => "liveness",
            ProbeKind::Readiness => "readiness",
        }
    }
}

/// When and how often a probe is made, as in Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbePlan {
    /// After the start of the container.
    pub initial_delay: Duration,
    /// From one to the next; at least a second.
    pub period: Duration,
    /// So many in a row make a pass of a probe that had failed.
    pub success_threshold: u32,
    /// So many in a row make a failure of a probe that had passed.
    pub failure_threshold: u32,
    /// Of the stop that follows its failure; the Pod's if none.
    pub grace: Option<Duration>,
}
