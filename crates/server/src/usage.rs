//! What nodes and their Pods use, asked of their agents.
//!
//! Owns: questions and answers. Does not own: measuring (agents), who asks (`services`).
//!
//! Invariant: nothing is asked that nobody wants to know: what is used is neither stored nor sent regularly.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use stint_api::NodeName;
use stint_proto::v1;
use stint_proto::v1::server_message::Message;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::limits::{USAGE_NODES_AT_ONCE, USAGE_PODS_MAX, USAGE_QUESTIONS_PER_SESSION_MAX, USAGE_WAIT_MS};
use crate::sessions::Session;

/// Questions that one agent has not answered.
#[derive(Debug, Default)]
pub struct UsageQuestions {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    last_id: u64,
    waiting: HashMap<u64, oneshot::Sender<v1::UsageAnswer>>,
}

impl UsageQuestions {
    /// Takes an answer in; one that nobody waits for is dropped.
    pub fn answer(&self, mut answer: v1::UsageAnswer) {
        answer.pods.truncate(USAGE_PODS_MAX);
        if let Some(waiting) = self.open.lock().waiting.remove(&answer.request_id) {
            // Whoever asked may have gone.
            drop(waiting.send(answer));
        }
    }

    /// The session is over: nothing is answered any more.
    pub fn clear(&self) {
        self.open.lock().waiting.clear();
    }

    /// None if too many wait already.
    fn ask(&self) -> Option<(u64, oneshot::Receiver<v1::UsageAnswer>)> {
        let mut open = self.open.lock();
        open.waiting.retain(|_, waiting| !waiting.is_closed());
        if open.waiting.len() >= USAGE_QUESTIONS_PER_SESSION_MAX {
            return None;
        }
        open.last_id += 1;
        let (sender, receiver) = oneshot::channel();
        let id = open.last_id;
        open.waiting.insert(id, sender);
        Some((id, receiver))
    }
}

/// Asks agents what is used, of their Pods too if `pods`. Those that do not answer in time are left out.
pub async fn ask(sessions: Vec<Arc<Session>>, pods: bool) -> Vec<(NodeName, v1::UsageAnswer)> {
    let turns = Arc::new(Semaphore::new(USAGE_NODES_AT_ONCE));
    let mut questions = JoinSet::new();
    for session in sessions {
        let turns = Arc::clone(&turns);
        questions.spawn(async move {
            let _turn = turns.acquire_owned().await.ok()?;
            let answer = ask_one(&session, pods);
            let answer = tokio::time::timeout(Duration::from_millis(USAGE_WAIT_MS), answer).await.ok()??;
            Some((session.node.clone(), answer))
        });
    }
    let mut answers: Vec<_> = questions.join_all().await.into_iter().flatten().collect();
    answers.sort_by(|one, other| one.0.cmp(&other.0));
    answers
}

async fn ask_one(session: &Session, pods: bool) -> Option<v1::UsageAnswer> {
    let (request_id, answer) = session.usage_questions.ask()?;
    if !session.send(Message::UsageRequest(v1::UsageRequest { request_id, pods })) {
        return None;
    }
    answer.await.ok()
}
