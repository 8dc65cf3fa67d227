//! Runs of containers, each watched by a task of its own.
//!
//! Owns: starting, stopping with grace, killing, the end of one run. Does not own: which runs are wanted, what is reported.
//!
//! Invariant: a run gives exactly one [`RunEvent::Ended`], also if it could never be started.

use std::sync::Arc;
use std::time::{Duration, SystemTime};
use stint_api::{PodUid, Timestamp};
use stint_proto::v1;
use stint_runtime::{ContainerSpec, Exit, RunningContainer, Runtime};
use tokio::sync::{mpsc, watch};

/// What became of a run.
#[derive(Debug)]
pub enum RunEvent {
    /// Its first process exists.
    Started {
        /// Which Pod.
        pod: PodUid,
        /// Which run.
        restart_count: u32,
        /// By this machine's clock; for display only.
        started_at: Timestamp,
    },
    /// Nothing of it is left.
    Ended {
        /// Which Pod.
        pod: PodUid,
        /// Which run.
        restart_count: u32,
        /// How.
        end: RunEnd,
    },
}

/// How a run ended.
#[derive(Debug)]
pub enum RunEnd {
    /// It ran.
    Exited(v1::ContainerStateTerminated),
    /// It could not be started.
    StartFailed(v1::ContainerStateTerminated),
}

/// What a run was told last; orders only become stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Run,
    Stop(Duration),
    Kill,
}

/// A run that was begun.
#[derive(Debug)]
pub struct Run {
    told: watch::Sender<Told>,
}

impl Run {
    /// Begins a run. Events come over `events`.
    pub fn begin(
        runtime: Arc<dyn Runtime>,
        pod: PodUid,
        spec: ContainerSpec,
        events: mpsc::UnboundedSender<RunEvent>,
    ) -> Run {
        let (told, orders) = watch::channel(Told::Run);
        let restart_count = spec.id.restart_count();
        tokio::spawn(async move {
            let end = run(runtime, pod, spec, orders, &events).await;
            // The agent is gone, or will read it.
            drop(events.send(RunEvent::Ended { pod, restart_count, end }));
        });
        Run { told }
    }

    /// SIGTERM now, SIGKILL after the grace.
    pub fn stop(&self, grace: Duration) {
        self.told.send_if_modified(|told| {
            let is_stricter = *told == Told::Run;
            if is_stricter {
                *told = Told::Stop(grace);
            }
            is_stricter
        });
    }

    /// SIGKILL now (A4: no grace once the lease has run out).
    pub fn kill(&self) {
        self.told.send_if_modified(|told| std::mem::replace(told, Told::Kill) != Told::Kill);
    }
}

async fn run(
    runtime: Arc<dyn Runtime>,
    pod: PodUid,
    spec: ContainerSpec,
    mut orders: watch::Receiver<Told>,
    events: &mpsc::UnboundedSender<RunEvent>,
) -> RunEnd {
    let restart_count = spec.id.restart_count();
    // Dropping the start before it has resolved kills what it began: a kill needs no container.
    let started = tokio::select! {
        started = runtime.start(spec) => started,
        () = killed(&mut orders) => return RunEnd::Exited(killed_at_start()),
    };
    let container = match started {
        Ok(container) => container,
        Err(error) => return RunEnd::StartFailed(start_failed(&error.to_string())),
    };
    let started_at = timestamp_ms(container.started_at());
    drop(events.send(RunEvent::Started { pod, restart_count, started_at }));
    let exit = supervise(container.as_ref(), orders).await;
    let termination = termination(&exit, Some(started_at));
    match exit.reason {
        stint_runtime::ExitReason::StartError => RunEnd::StartFailed(termination),
        _ => RunEnd::Exited(termination),
    }
}

async fn supervise(container: &dyn RunningContainer, mut orders: watch::Receiver<Told>) -> Exit {
    let mut deadline: Option<tokio::time::Instant> = None;
    let mut can_be_told = true;
    loop {
        let told = *orders.borrow_and_update();
        match told {
            Told::Run => {}
            Told::Stop(grace) => {
                container.signal_terminate();
                deadline.get_or_insert(tokio::time::Instant::now() + grace);
            }
            Told::Kill => {
                container.kill().await;
                return container.wait().await;
            }
        }
        let grace_over = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            exit = container.wait() => return exit,
            () = grace_over => {
                container.kill().await;
                return container.wait().await;
            }
            changed = orders.changed(), if can_be_told => can_be_told = changed.is_ok(),
        }
    }
}

async fn killed(orders: &mut watch::Receiver<Told>) {
    if orders.wait_for(|told| *told == Told::Kill).await.is_err() {
        // Nobody is left who could ask for it.
        std::future::pending().await
    }
}

/// 128 + SIGKILL, of a run that was killed while it was being started.
fn killed_at_start() -> v1::ContainerStateTerminated {
    v1::ContainerStateTerminated {
        exit_code: 137,
        signal: 9,
        reason: "Error".to_owned(),
        message: "killed while it was being started".to_owned(),
        ..v1::ContainerStateTerminated::default()
    }
}

fn start_failed(message: &str) -> v1::ContainerStateTerminated {
    const CANNOT_RUN: i32 = 128;
    let now = wire_time(timestamp_ms(SystemTime::now()));
    v1::ContainerStateTerminated {
        exit_code: CANNOT_RUN,
        reason: stint_runtime::ExitReason::StartError.as_str().to_owned(),
        message: message.to_owned(),
        finished_at: Some(now),
        ..v1::ContainerStateTerminated::default()
    }
}

fn termination(exit: &Exit, started_at: Option<Timestamp>) -> v1::ContainerStateTerminated {
    let mut message = exit.message.clone();
    if exit.log_bytes_dropped > 0 {
        let separator = if message.is_empty() { "" } else { "; " };
        message = format!("{message}{separator}{} bytes of output could not be kept", exit.log_bytes_dropped);
    }
    v1::ContainerStateTerminated {
        exit_code: exit.exit_code,
        signal: exit.signal.unwrap_or(0),
        reason: exit.reason.as_str().to_owned(),
        message,
        started_at: started_at.map(wire_time),
        finished_at: Some(wire_time(timestamp_ms(exit.finished_at))),
    }
}

fn timestamp_ms(time: SystemTime) -> Timestamp {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// A timestamp as it travels.
pub fn wire_time(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.0.div_euclid(1000),
        nanos: (time.0.rem_euclid(1000) * 1_000_000) as i32,
    }
}
