//! What a Pod's machine is told, what it wants done, and what it tells.
//!
//! Owns: the words. Does not own: what follows from what (`machine`).

use std::time::Duration;
use stint_proto::v1;

use crate::pod::plan::ProbeKind;

/// Place of a container in [`PodPlan::containers`](crate::pod::plan::PodPlan::containers).
pub type Index = usize;

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum PodEvent {
    /// This run is wanted now, and is in the journal.
    Begin {
        /// Which container.
        container: Index,
        /// Which run of it.
        run: u32,
    },
    /// One container is to stop.
    StopContainer {
        /// Which.
        container: Index,
        /// From now.
        grace: Duration,
    },
    /// All are to stop, within one grace. Said again, it can only come sooner.
    Stop {
        /// From now.
        grace: Duration,
    },
    /// All are to end without grace, and no further run is begun.
    Kill,
    /// The Pod can't be here: all are to end without grace, and that is the Pod's end.
    Fail {
        /// One word.
        reason: String,
        /// For people.
        message: String,
    },
    /// What the containers share is there.
    Opened,
    /// It could not be made this time.
    OpenFailed {
        /// For people.
        message: String,
    },
    /// The container's image is there, or not.
    Prepared {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// Why not.
        result: Result<(), ImageProblem>,
    },
    /// Its program runs.
    Started {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
    },
    /// Nothing of it is left.
    Ended {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// How.
        end: RunEnd,
    },
    /// The start came too late for the lease as it was known then; nothing of it ran.
    TooLate {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
    },
    /// The node could not start it this time, which is not its fault; nothing of it ran.
    StartDelayed {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// What the node lacks, for people.
        message: String,
    },
    /// What containers refer to was looked up anew; nothing else of the plan is another one.
    Renewed {
        /// By [`Index`]: why each can't be made.
        config_errors: Vec<String>,
    },
    /// A hook is done.
    HookDone {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// Which hook.
        hook: Hook,
        /// Why it failed.
        result: Result<(), String>,
    },
    /// A probe is done.
    Probed {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// Which probe.
        kind: ProbeKind,
        /// Why it failed.
        result: Result<(), String>,
    },
    /// Time has passed.
    Tick,
}

/// Why an image is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageProblem {
    /// Kubernetes' word, such as `ErrImagePull`.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// What a container does at a turn of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Right after the start.
    PostStart,
    /// Right before the stop.
    PreStop,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEnd {
    /// It ran.
    Exited(v1::ContainerStateTerminated),
    /// It was killed because the lease ran out, by whoever kills then (A12).
    Fenced(v1::ContainerStateTerminated),
    /// It could not be started.
    StartFailed(v1::ContainerStateTerminated),
    /// A stop came first: nothing of this run ever was.
    NotStarted,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum PodEffect {
    /// Make what the containers share.
    Open,
    /// Fetch what the container needs; answered by [`PodEvent::Prepared`].
    Prepare {
        /// Which container.
        container: Index,
        /// For which run.
        run: u32,
    },
    /// Start it, if the lease allows; answered by [`PodEvent::Started`], [`PodEvent::Ended`] or [`PodEvent::TooLate`].
    Start {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
    },
    /// Carry a hook out; answered by [`PodEvent::HookDone`].
    Hook {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// Which hook.
        hook: Hook,
    },
    /// Make a probe; answered by [`PodEvent::Probed`].
    Probe {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// Which probe.
        kind: ProbeKind,
    },
    /// Send it its stop signal.
    Terminate {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
    },
    /// Kill everything of it, also while it is being started.
    Kill {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
    },
    /// Say something about the Pod.
    Tell(PodFact),
}

/// Something that others want to know.
#[derive(Debug, Clone, PartialEq)]
pub enum PodFact {
    /// The run waits for something; not an end.
    Waiting {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// Kubernetes' word.
        reason: String,
        /// For people.
        message: String,
    },
    /// Its program runs.
    Running {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// No startup probe and no hook has yet to pass.
        started: bool,
        /// No readiness probe has yet to pass either.
        ready: bool,
    },
    /// That has changed.
    Readiness {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// It counts as started.
        started: bool,
        /// It is ready.
        ready: bool,
    },
    /// Nothing of the run is left.
    Ended {
        /// Which container.
        container: Index,
        /// Which run.
        run: u32,
        /// How.
        end: RunEnd,
    },
    /// The Pod can't be here, and nothing of it is left.
    Failed {
        /// One word.
        reason: String,
        /// For people.
        message: String,
    },
}
