//! Taking in the tails of logs that agents have, at the pace that the cluster can afford.
//!
//! Owns: whose turn it is, how many bytes come in a second, finding the rows of the Pods that are meant. Does not own: which
//! tails are kept (`stint-core`), how they are read (`services::kept_logs`).
//!
//! Invariants: an agent sends what it was given credit for, once; what all agents together send is bounded in bytes per second
//! and in messages under way, so that tails never keep Jobs waiting; nothing here holds up a session's other messages.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use stint_api::{Incarnation, JobUid, PodUid};
use stint_core::{Command, LogTail, PodKey, Reply, Row, RowKey, StoreLogTails, TemplateRecord};
use stint_proto::limits::{LOG_TAILS_BYTES_MAX, LOG_TAILS_PER_MESSAGE_MAX};
use stint_proto::v1;
use stint_proto::v1::LogTailResult;
use stint_proto::v1::server_message::Message as ToAgent;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::time::Instant;
use tonic::Status;

use crate::agent_wire;
use crate::ended_pods::EndedPods;
use crate::error;
use crate::limits::{
    LOG_TAIL_MESSAGE_BYTES, LOG_TAIL_NODES_AT_ONCE, LOG_TAIL_WAIT_MS, LOG_TAILS_BYTES_PER_SECOND,
    LOG_TAILS_RETRY_MS,
};
use crate::proposer::ProposalError;
use crate::services::Context;
use crate::sessions::Session;

/// What all sessions of this server share.
#[derive(Debug)]
pub struct LogTailIntake {
    /// Nodes whose turn it is.
    turns: Semaphore,
    /// From when on more may come.
    free_at: Mutex<Instant>,
}

/// What an agent says about tails.
#[derive(Debug)]
pub enum LogTailMessage {
    /// Some wait.
    Offer,
    /// Some of them.
    Tails(v1::LogTails),
}

impl Default for LogTailIntake {
    fn default() -> LogTailIntake {
        LogTailIntake { turns: Semaphore::new(LOG_TAIL_NODES_AT_ONCE), free_at: Mutex::new(Instant::now()) }
    }
}

impl LogTailIntake {
    /// Waits for a turn, and until what came before is paid for; first come, first served.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let turn = self.turns.acquire().await.ok()?;
        let free_at = *self.free_at.lock();
        tokio::time::sleep_until(free_at).await;
        Some(turn)
    }

    /// So many bytes have come.
    fn spend(&self, bytes: usize) {
        let mut free_at = self.free_at.lock();
        let cost = Duration::from_secs(1).saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX))
            / LOG_TAILS_BYTES_PER_SECOND;
        *free_at = (*free_at).max(Instant::now()) + cost;
    }
}

/// Takes the tails of one session, for as long as it lasts.
///
/// # Errors
/// If the agent sends what it may not.
pub async fn take(
    context: &Context,
    intake: &LogTailIntake,
    ended_pods: &EndedPods,
    session: &Arc<Session>,
    mut said: mpsc::Receiver<LogTailMessage>,
) -> Result<(), Status> {
    while let Some(message) = said.recv().await {
        // Tails without credit come from a turn that was over.
        if !matches!(message, LogTailMessage::Offer) {
            continue;
        }
        let Some(_turn) = intake.turn().await else { break };
        session.send(ToAgent::LogTailCredit(v1::LogTailCredit { bytes: LOG_TAIL_MESSAGE_BYTES }));
        let wait = tokio::time::timeout(Duration::from_millis(LOG_TAIL_WAIT_MS), async {
            loop {
                match said.recv().await {
                    Some(LogTailMessage::Tails(tails)) => return Some(tails),
                    Some(LogTailMessage::Offer) => {}
                    None => return None,
                }
            }
        });
        let Ok(Some(tails)) = wait.await else { continue };
        let bytes: usize = tails.tails.iter().map(|tail| tail.entries.len()).sum();
        check(&tails, bytes)?;
        intake.spend(bytes);
        let results = store(context, ended_pods, session, tails, bytes).await?;
        let results = results.into_iter().map(Into::into).collect();
        session.send(ToAgent::LogTailAck(v1::LogTailAck { results }));
    }
    std::future::pending().await
}

fn check(tails: &v1::LogTails, bytes: usize) -> Result<(), Status> {
    if tails.tails.len() > LOG_TAILS_PER_MESSAGE_MAX || bytes > LOG_TAILS_BYTES_MAX {
        let message = format!(
            "at most {LOG_TAILS_PER_MESSAGE_MAX} tails of {LOG_TAILS_BYTES_MAX} bytes together may be sent at once"
        );
        return Err(error::bad_request("tails", message));
    }
    Ok(())
}

/// Stores tails; what became of each.
async fn store(
    context: &Context,
    ended_pods: &EndedPods,
    session: &Session,
    message: v1::LogTails,
    bytes: usize,
) -> Result<Vec<LogTailResult>, Status> {
    let mut results = vec![LogTailResult::Refused; message.tails.len()];
    if Incarnation(message.incarnation) != session.incarnation {
        return Ok(vec![LogTailResult::Later; message.tails.len()]);
    }
    let uids: Vec<_> = message.tails.iter().map(|tail| tail.pod_uid.clone()).collect();
    let uids = agent_wire::pod_uids("tails.podUid", &uids)?;
    let mut templates = HashMap::new();
    let (mut places, mut tails) = (Vec::new(), Vec::new());
    for (place, (tail, pod)) in message.tails.into_iter().zip(uids).enumerate() {
        let Some(key) = key_of(context, ended_pods, pod) else {
            if !ended_pods.is_gone(pod) {
                results[place] = LogTailResult::Later;
            }
            continue;
        };
        let template = match templates.get(&key.job) {
            Some(template) => Option::clone(template),
            None => {
                let template = template_of(context, key.job).await?;
                templates.insert(key.job, template.clone());
                template
            }
        };
        let Some(container) = template.and_then(|template| place_of(&template, &tail.container)) else {
            continue;
        };
        places.push(place);
        tails.push(LogTail {
            pod,
            key,
            container,
            restart_count: tail.restart_count,
            first_offset: tail.first_offset,
            is_last: tail.is_last,
            entries: tail.entries.into(),
        });
    }
    if tails.is_empty() {
        return Ok(results);
    }
    let accepted = propose(context, session, tails, bytes).await;
    for (number, place) in places.into_iter().enumerate() {
        results[place] = match &accepted {
            Some(accepted) if accepted.get(number) == Some(&true) => LogTailResult::Stored,
            Some(_) => LogTailResult::Refused,
            None => LogTailResult::Later,
        };
    }
    Ok(results)
}

/// For each tail, whether it was taken; none if nothing is known of that.
async fn propose(
    context: &Context,
    session: &Session,
    tails: Vec<LogTail>,
    bytes: usize,
) -> Option<Vec<bool>> {
    let store = StoreLogTails { node: session.node.clone(), incarnation: session.incarnation, tails };
    loop {
        match context.proposer.propose(Command::StoreLogTails(store.clone()), bytes).await {
            Ok(Reply::LogTailsStored { accepted }) => return Some(accepted),
            // Others come first.
            Err(ProposalError::QueueFull) => {
                tokio::time::sleep(Duration::from_millis(LOG_TAILS_RETRY_MS)).await;
            }
            // What was stored is stored again without harm.
            failed => {
                tracing::debug!(node = %session.node, ?failed, "tails of logs were not stored");
                return None;
            }
        }
    }
}

/// Where a Pod's row is.
fn key_of(context: &Context, ended_pods: &EndedPods, pod: PodUid) -> Option<PodKey> {
    let unfinished = context.raft.with_state(|state| {
        let record = state.pod(&pod)?;
        Some(PodKey { job: record.job, created_revision: record.created_revision })
    });
    unfinished.or_else(|| ended_pods.key_of(pod))
}

async fn template_of(context: &Context, job: JobUid) -> Result<Option<Arc<TemplateRecord>>, Status> {
    if let Some(template) = context.raft.with_state(|state| state.template(&job).map(Arc::clone)) {
        return Ok(Some(template));
    }
    context
        .reads
        .rows(true, move |rows| {
            let row = rows.view().get(&RowKey::Template(job));
            let row = row.map_err(|failed| error::internal("reading a template", &failed))?;
            Ok(row.and_then(|stored| match stored.row {
                Row::Template(template) => Some(template),
                _ => None,
            }))
        })
        .await
}

/// Where a container stands in the records of a template's Pods.
fn place_of(template: &TemplateRecord, container: &str) -> Option<u32> {
    let spec = &template.template.spec;
    let place = spec.init_containers.iter().chain(&spec.containers).position(|one| one.name == container)?;
    u32::try_from(place).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_in_a_second_is_bounded_and_a_pause_saves_nothing_up() {
        let intake = LogTailIntake::default();
        let begun = Instant::now();
        for _ in 0..3 {
            drop(intake.turn().await);
            intake.spend(LOG_TAILS_BYTES_PER_SECOND as usize);
        }
        assert_eq!(begun.elapsed().as_secs(), 2);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let begun = Instant::now();
        for _ in 0..2 {
            drop(intake.turn().await);
            intake.spend(LOG_TAILS_BYTES_PER_SECOND as usize);
        }
        assert_eq!(begun.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_nodes_send_at_once() {
        let intake = LogTailIntake::default();
        let mut turns = Vec::new();
        for _ in 0..LOG_TAIL_NODES_AT_ONCE {
            turns.push(intake.turn().await);
        }
        assert!(tokio::time::timeout(Duration::from_secs(9), intake.turn()).await.is_err());
        turns.pop();
        assert!(tokio::time::timeout(Duration::from_secs(9), intake.turn()).await.is_ok());
    }
}
