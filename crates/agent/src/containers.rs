//! Runs of containers, each watched by a task of its own.
//!
//! Owns: starting, stopping with grace, killing, the end of one run. Does not own: which runs are wanted, what is reported.
//!
//! Invariant: a run gives exactly one [`RunEvent::Ended`], also if it could never be started.

use std::sync::Arc;
use std::time::{Duration, SystemTime};
use stint_api::{PodUid, Timestamp};
use stint_proto::v1;
use stint_runtime::{ContainerSpec, Exit, PodSandboxSpec, RunningContainer, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::limits;

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
    /// The lease as it was known at the start would have run out before it ran. Nothing of it ever ran.
    TooLate,
}

/// What a run was told last; orders only become stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Run,
    /// SIGKILL follows then.
    Stop(Instant),
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
        sandbox: PodSandboxSpec,
        spec: ContainerSpec,
        events: mpsc::UnboundedSender<RunEvent>,
    ) -> Run {
        let (told, orders) = watch::channel(Told::Run);
        let restart_count = spec.id.restart_count();
        tokio::spawn(async move {
            let end = run(runtime, pod, sandbox, spec, orders, &events).await;
            // The agent is gone, or will read it.
            drop(events.send(RunEvent::Ended { pod, restart_count, end }));
        });
        Run { told }
    }

    /// SIGTERM now, SIGKILL after the grace. Said again, it can only come sooner.
    pub fn stop(&self, grace: Duration) {
        let kill_at = Instant::now() + grace;
        self.told.send_if_modified(|told| {
            let is_stricter = match *told {
                Told::Run => true,
                Told::Stop(known) => kill_at < known,
                Told::Kill => false,
            };
            if is_stricter {
                *told = Told::Stop(kill_at);
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
    sandbox: PodSandboxSpec,
    spec: ContainerSpec,
    mut orders: watch::Receiver<Told>,
    events: &mpsc::UnboundedSender<RunEvent>,
) -> RunEnd {
    let restart_count = spec.id.restart_count();
    let mut kill_orders = orders.clone();
    let killed = Box::pin(async move { killed(&mut kill_orders).await });
    let sandbox = match runtime.open_pod(sandbox).await {
        Ok(sandbox) => sandbox,
        Err(error) => return RunEnd::StartFailed(start_failed(&error.to_string())),
    };
    let container = match sandbox.start(spec, killed).await {
        Ok(container) => container,
        Err(stint_runtime::Error::StartKilled { .. }) => return RunEnd::Exited(killed_at_start()),
        Err(stint_runtime::Error::StartTooLate { .. }) if *orders.borrow() == Told::Run => {
            return RunEnd::TooLate;
        }
        Err(stint_runtime::Error::StartTooLate { .. }) => return RunEnd::Exited(killed_at_start()),
        Err(error) => return RunEnd::StartFailed(start_failed(&error.to_string())),
    };
    let started_at = container.started_at().map(timestamp_ms);
    if let Some(started_at) = started_at {
        drop(events.send(RunEvent::Started { pod, restart_count, started_at }));
    }
    let exit = supervise(container.as_ref(), &mut orders).await;
    container.release().await;
    let termination = termination(&exit, started_at);
    match exit.reason {
        stint_runtime::ExitReason::StartError => RunEnd::StartFailed(termination),
        _ => RunEnd::Exited(termination),
    }
}

async fn supervise(container: &dyn RunningContainer, orders: &mut watch::Receiver<Told>) -> Exit {
    const SIGTERM: i32 = 15;
    let mut deadline: Option<Instant> = None;
    let mut can_be_told = true;
    loop {
        let told = *orders.borrow_and_update();
        match told {
            Told::Run => {}
            Told::Stop(kill_at) => {
                if deadline.replace(kill_at).is_none() {
                    container.signal(SIGTERM);
                }
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
        message: shortened(message),
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
        message: shortened(&message),
        started_at: started_at.map(wire_time),
        finished_at: Some(wire_time(timestamp_ms(exit.finished_at))),
    }
}

/// As much of a message as a report may carry.
pub fn shortened(message: &str) -> String {
    if message.len() <= limits::END_MESSAGE_BYTES_MAX {
        return message.to_owned();
    }
    let ellipsis = "…";
    let mut end = limits::END_MESSAGE_BYTES_MAX - ellipsis.len();
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ellipsis}", &message[..end])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p6_a_stop_that_is_said_again_only_comes_sooner() {
        let (told, orders) = watch::channel(Told::Run);
        let run = Run { told };
        // Seconds from now until the kill.
        let kill_in = || match *orders.borrow() {
            Told::Stop(kill_at) => kill_at.duration_since(Instant::now()).as_secs_f64().round(),
            other => panic!("{other:?}"),
        };
        run.stop(Duration::from_secs(300));
        assert_eq!(kill_in(), 300.0);
        run.stop(Duration::from_secs(600));
        assert_eq!(kill_in(), 300.0, "later");
        run.stop(Duration::from_secs(200));
        assert_eq!(kill_in(), 200.0, "sooner");
        run.kill();
        run.stop(Duration::ZERO);
        assert_eq!(*orders.borrow(), Told::Kill);
    }

    #[test]
    fn messages_have_a_limit_and_stay_text() {
        assert_eq!(shortened("short"), "short");
        let long = shortened(&"ü".repeat(5_000));
        assert!(long.len() <= limits::END_MESSAGE_BYTES_MAX && long.ends_with("ü…"));
    }
}
