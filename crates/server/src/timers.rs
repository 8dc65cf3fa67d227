//! The leader's loop for what is due: proposes `Tick` when a timer of the state is, `Continue` while it has a backlog.
//!
//! Owns: when to propose these two. Does not own: what is due (`stint-core`), the cluster's time (`stint-raft`).
//!
//! Invariants: level-triggered (R9): each round looks at the state afresh, so that a missed wake-up costs at most
//! [`TIMER_SLEEP_MAX_MS`]; at most one of its proposals is under way; without leadership nothing is proposed.

use std::sync::Arc;
use std::time::Duration;

use stint_api::Timestamp;
use stint_core::Command;
use stint_raft::RaftNode;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::limits::{TIMER_PAUSE_MIN_MS, TIMER_SLEEP_MAX_MS};
use crate::proposer::Proposer;

/// What the state asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Continue,
    Tick,
    /// Nothing before so many milliseconds have passed.
    Nothing(u64),
}

/// Runs until `stop`.
pub async fn run(raft: Arc<RaftNode>, proposer: Proposer, stop: CancellationToken) {
    let mut leadership = raft.leadership();
    let mut applied = raft.applied();
    // The cluster's time moves on between entries: it is the last entry's plus what has passed here since.
    let mut clock = (Timestamp(0), Instant::now());
    loop {
        leadership.mark_unchanged();
        applied.mark_unchanged();
        let leads = {
            let leadership = leadership.borrow();
            leadership.is_leader && leadership.established
        };
        let wanted = if leads {
            raft.with_state(|state| {
                if clock.0 != state.time() {
                    clock = (state.time(), Instant::now());
                }
                wanted(state.time(), clock.1.elapsed(), state.next_due(), state.has_backlog())
            })
        } else {
            Wanted::Nothing(TIMER_SLEEP_MAX_MS)
        };
        let (command, pause_ms) = match wanted {
            Wanted::Continue => (Some(Command::Continue), 0),
            Wanted::Tick => (Some(Command::Tick), TIMER_PAUSE_MIN_MS),
            Wanted::Nothing(pause_ms) => (None, pause_ms),
        };
        if let Some(command) = command {
            const COMMAND_BYTES: usize = 16;
            tokio::select! {
                outcome = proposer.propose(command, COMMAND_BYTES) => {
                    if let Err(failed) = outcome {
                        tracing::debug!(%failed, "timers were not proposed");
                        pause(TIMER_SLEEP_MAX_MS, &stop).await;
                    }
                }
                () = stop.cancelled() => return,
            }
            pause(pause_ms, &stop).await;
        } else {
            tokio::select! {
                _ = leadership.changed() => {}
                _ = applied.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
                () = stop.cancelled() => {}
            }
        }
        if stop.is_cancelled() {
            return;
        }
    }
}

async fn pause(ms: u64, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(ms)) => {}
        () = stop.cancelled() => {}
    }
}

fn wanted(time: Timestamp, passed: Duration, due: Option<Timestamp>, backlog: bool) -> Wanted {
    if backlog {
        return Wanted::Continue;
    }
    let Some(due) = due else { return Wanted::Nothing(TIMER_SLEEP_MAX_MS) };
    let passed_ms = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
    match u64::try_from(due.since_ms(time.plus_ms(passed_ms))) {
        Ok(0) | Err(_) => Wanted::Tick,
        Ok(wait_ms) => Wanted::Nothing(wait_ms.clamp(TIMER_PAUSE_MIN_MS, TIMER_SLEEP_MAX_MS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_is_proposed_and_nothing_else() {
        let at = |ms| Some(Timestamp(ms));
        let passed = Duration::from_millis(100);
        assert_eq!(wanted(Timestamp(1_000), passed, None, false), Wanted::Nothing(TIMER_SLEEP_MAX_MS));
        assert_eq!(wanted(Timestamp(1_000), passed, None, true), Wanted::Continue);
        assert_eq!(wanted(Timestamp(1_000), passed, at(1_100), false), Wanted::Tick);
        assert_eq!(wanted(Timestamp(1_000), passed, at(5), false), Wanted::Tick);
        assert_eq!(wanted(Timestamp(1_000), passed, at(1_150), false), Wanted::Nothing(50));
        assert_eq!(wanted(Timestamp(1_000), passed, at(1_101), false), Wanted::Nothing(TIMER_PAUSE_MIN_MS));
        assert_eq!(
            wanted(Timestamp(1_000), passed, at(i64::MAX), false),
            Wanted::Nothing(TIMER_SLEEP_MAX_MS)
        );
        assert_eq!(wanted(Timestamp(i64::MAX), passed, at(i64::MIN), true), Wanted::Continue);
    }
}
