//! Many requests, one log entry: gathers commands while earlier entries are under way (architecture, "proposer").
//!
//! Owns: the queue of commands, batching, handing each caller its reply, and the one decision of what is known about a
//! command that got no reply (decision 10). Does not own: the log (`stint-raft`), what commands do (`stint-core`).
//!
//! Invariants: a command is proposed at most once; [`ProposalError::NotProposed`] is answered only if the command certainly
//! is in no log entry; the queue is bounded in number and bytes; an idle proposer adds no delay.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use stint_core::{Command, Reply};
use stint_daemon::figures::{Figures, doubling, gauge_value};
use stint_raft::types::ApplyResponse;
use stint_raft::{ProposeError, RaftNode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tracing::{Instrument, Span, field};

use crate::limits::{
    BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, BATCHES_IN_FLIGHT_MAX, PROPOSAL_QUEUE_BYTES_MAX, PROPOSAL_QUEUE_MAX,
    PROPOSAL_TIMEOUT_MS,
};

/// Where batches go: the replicated log, or a script in a test.
pub trait Log: Send + Sync + 'static {
    /// Appends one entry with these commands and waits until it was applied here.
    fn propose(
        &self,
        commands: Vec<Command>,
    ) -> impl Future<Output = Result<ApplyResponse, ProposeError>> + Send;
}

impl Log for RaftNode {
    fn propose(
        &self,
        commands: Vec<Command>,
    ) -> impl Future<Output = Result<ApplyResponse, ProposeError>> + Send {
        RaftNode::propose(self, commands)
    }
}

/// Why a command has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposalError {
    /// Certainly in no log entry: this server does not lead.
    #[error("this server does not lead; the request changed nothing: send it again")]
    NotLeader,
    /// Certainly in no log entry: the queue is full.
    #[error(
        "{PROPOSAL_QUEUE_MAX} commands or {PROPOSAL_QUEUE_BYTES_MAX} bytes are waiting already: try again later"
    )]
    QueueFull,
    /// Certainly in no log entry: it waited too long.
    #[error(
        "the request waited {PROPOSAL_TIMEOUT_MS} ms without being proposed and changed nothing: send it again"
    )]
    NotProposed,
    /// In a log entry, perhaps committed, perhaps never.
    #[error(
        "the outcome is unknown: the request may have been carried out; read, or repeat a create with the same request id"
    )]
    Unknown,
    /// The server is stopping, or its log has failed. In no log entry.
    #[error("the server is stopping: send the request to another one")]
    Stopped,
}

/// Handle of the proposer; cheap to clone.
#[derive(Debug, Clone)]
pub struct Proposer {
    queue: mpsc::Sender<Waiting>,
    bytes: Arc<Semaphore>,
    figures: Arc<ProposerFigures>,
}

/// What the proposer counts.
#[derive(Debug)]
pub struct ProposerFigures {
    batch_commands: Histogram,
    batch_seconds: Histogram,
    unanswered: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Default for ProposerFigures {
    fn default() -> ProposerFigures {
        ProposerFigures {
            // From one to more than a batch may have.
            batch_commands: doubling(1.0, 12),
            // From 250 µs to 16 s.
            batch_seconds: doubling(0.000_25, 17),
            unanswered: Family::default(),
        }
    }
}

impl ProposerFigures {
    /// Lets them be read.
    pub fn register(&self, figures: &mut Figures) {
        for reason in UNANSWERED {
            drop(self.unanswered.get_or_create(&[("reason", reason)]));
        }
        figures.histogram("proposer_batch_commands", "Commands of one log entry", &self.batch_commands);
        let help = "Time from the proposal of a log entry to its application on this server";
        figures.histogram("proposer_batch_seconds", help, &self.batch_seconds);
        let help = "Commands without an answer of the state machine, by what is known of them";
        figures.counters("proposer_unanswered_commands", help, &self.unanswered);
    }

    fn unanswered(&self, error: &ProposalError) {
        self.unanswered.get_or_create(&[("reason", error.word())]).inc();
    }
}

/// All that [`ProposalError::word`] says.
const UNANSWERED: [&str; 5] = ["NotLeader", "QueueFull", "NotProposed", "Unknown", "Stopped"];

impl ProposalError {
    fn word(&self) -> &'static str {
        match self {
            ProposalError::NotLeader => "NotLeader",
            ProposalError::QueueFull => "QueueFull",
            ProposalError::NotProposed => "NotProposed",
            ProposalError::Unknown => "Unknown",
            ProposalError::Stopped => "Stopped",
        }
    }
}

#[derive(Debug)]
struct Waiting {
    command: Command,
    bytes: usize,
    stage: Arc<AtomicU8>,
    reply: oneshot::Sender<Result<Applied, ProposalError>>,
    _room: OwnedSemaphorePermit,
}

/// What became of a command, and where.
#[derive(Debug)]
struct Applied {
    reply: Reply,
    term: i64,
    index: i64,
}

/// Nobody has taken the command yet.
const STAGE_QUEUED: u8 = 0;
/// The command is in an entry, or about to be.
const STAGE_TAKEN: u8 = 1;
/// Its caller has given up; it must not be proposed any more.
const STAGE_GIVEN_UP: u8 = 2;

/// Gives a command up when its caller is dropped or times out.
struct GiveUp {
    stage: Arc<AtomicU8>,
}

impl GiveUp {
    /// True if the command was still in the queue: then it never leaves it.
    fn give_up(&self) -> bool {
        self.stage.compare_exchange(STAGE_QUEUED, STAGE_GIVEN_UP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Proposer {
    /// Starts the task that proposes. It ends when every handle is gone.
    pub fn start(log: Arc<impl Log>) -> Proposer {
        let (queue, waiting) = mpsc::channel(PROPOSAL_QUEUE_MAX);
        let figures = Arc::new(ProposerFigures::default());
        tokio::spawn(run(log, waiting, Arc::clone(&figures)));
        Proposer { queue, bytes: Arc::new(Semaphore::new(PROPOSAL_QUEUE_BYTES_MAX)), figures }
    }

    /// What is counted.
    pub fn figures(&self) -> &ProposerFigures {
        &self.figures
    }

    /// Commands that wait for a place in an entry.
    pub fn waiting(&self) -> usize {
        PROPOSAL_QUEUE_MAX.saturating_sub(self.queue.capacity())
    }

    /// Proposes one command and waits until it was applied here. `bytes` is about its size; the size of the request that
    /// it came from will do.
    pub async fn propose(&self, command: Command, bytes: usize) -> Result<Reply, ProposalError> {
        // Of what nobody has asked for the log entry tells.
        let span = match Span::current().is_disabled() {
            true => Span::none(),
            false => tracing::debug_span!(
                "propose",
                term = field::Empty,
                index = field::Empty,
                unanswered = field::Empty
            ),
        };
        let answer = self.ask(command, bytes).instrument(span.clone()).await;
        match answer {
            Ok(applied) => {
                span.record("term", applied.term).record("index", applied.index);
                Ok(applied.reply)
            }
            Err(error) => {
                span.record("unanswered", error.word());
                self.figures.unanswered(&error);
                Err(error)
            }
        }
    }

    async fn ask(&self, command: Command, bytes: usize) -> Result<Applied, ProposalError> {
        let bytes = bytes.clamp(1, PROPOSAL_QUEUE_BYTES_MAX);
        let room = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room =
            Arc::clone(&self.bytes).try_acquire_many_owned(room).map_err(|_| ProposalError::QueueFull)?;
        let (reply, answer) = oneshot::channel();
        let give_up = GiveUp { stage: Arc::new(AtomicU8::new(STAGE_QUEUED)) };
        let waiting = Waiting { command, bytes, stage: Arc::clone(&give_up.stage), reply, _room: room };
        self.queue.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ProposalError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => ProposalError::Stopped,
        })?;
        match tokio::time::timeout(Duration::from_millis(PROPOSAL_TIMEOUT_MS), answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                Err(if give_up.give_up() { ProposalError::Stopped } else { ProposalError::Unknown })
            }
            Err(_) => {
                Err(if give_up.give_up() { ProposalError::NotProposed } else { ProposalError::Unknown })
            }
        }
    }
}

async fn run(log: Arc<impl Log>, mut waiting: mpsc::Receiver<Waiting>, figures: Arc<ProposerFigures>) {
    let in_flight = Arc::new(Semaphore::new(BATCHES_IN_FLIGHT_MAX));
    let mut left_over = None;
    loop {
        let first = match left_over.take() {
            Some(first) => first,
            None => match waiting.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        // While this waits for an earlier entry, further commands gather in the queue: the batch is what came meanwhile.
        let Ok(place) = Arc::clone(&in_flight).acquire_owned().await else { return };
        let (batch, rest) = gather(first, &mut waiting);
        left_over = rest;
        if batch.is_empty() {
            continue;
        }
        let (log, figures) = (Arc::clone(&log), Arc::clone(&figures));
        let span = tracing::debug_span!(
            "log entry",
            commands = gauge_value(batch.len()),
            term = field::Empty,
            index = field::Empty,
            unanswered = field::Empty,
            otel.status_code = field::Empty,
        );
        let propose = async move {
            figures.batch_commands.observe(batch.len() as f64);
            let begun_at = Instant::now();
            propose_batch(&*log, batch).await;
            figures.batch_seconds.observe(begun_at.elapsed().as_secs_f64());
            drop(place);
        };
        tokio::spawn(propose.instrument(span));
    }
}

/// Takes what is in the queue, up to the limits of one entry. The second value did not fit any more.
fn gather(first: Waiting, waiting: &mut mpsc::Receiver<Waiting>) -> (Vec<Waiting>, Option<Waiting>) {
    let mut batch: Vec<Waiting> = Vec::new();
    let mut bytes = 0_usize;
    let mut next = Some(first);
    while let Some(candidate) = next {
        if !batch.is_empty() && bytes.saturating_add(candidate.bytes) > BATCH_BYTES_MAX {
            return (batch, Some(candidate));
        }
        let taken = candidate
            .stage
            .compare_exchange(STAGE_QUEUED, STAGE_TAKEN, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if taken {
            bytes = bytes.saturating_add(candidate.bytes);
            batch.push(candidate);
        }
        if batch.len() >= BATCH_COMMANDS_MAX {
            break;
        }
        next = waiting.try_recv().ok();
    }
    (batch, None)
}

async fn propose_batch(log: &impl Log, batch: Vec<Waiting>) {
    let mut commands = Vec::with_capacity(batch.len());
    let mut callers = Vec::with_capacity(batch.len());
    for Waiting { command, reply, _room, .. } in batch {
        commands.push(command);
        callers.push((reply, _room));
    }
    match log.propose(commands).await {
        Ok(ApplyResponse { replies, log_index, term, .. }) => {
            // Traces have no unsigned numbers.
            let (term, index) = (gauge_value(term), gauge_value(log_index));
            Span::current().record("term", term).record("index", index);
            let mut replies = replies.into_iter();
            for (caller, _room) in callers {
                // One reply per command is promised; without one nothing is known of the command.
                let answer = replies.next().map(|reply| Applied { reply, term, index });
                let answer = answer.ok_or(ProposalError::Unknown);
                // A caller that is gone needs no answer.
                let _ = caller.send(answer);
            }
        }
        Err(error) => {
            let error = outcome(&error);
            Span::current().record("unanswered", error.word()).record("otel.status_code", "ERROR");
            for (caller, _room) in callers {
                let _ = caller.send(Err(error.clone()));
            }
        }
    }
}

/// Decision 10: what is known of commands whose proposal failed so.
fn outcome(error: &ProposeError) -> ProposalError {
    match error {
        ProposeError::NotLeader { .. } => ProposalError::NotLeader,
        // A log that failed under the entry may hold it.
        ProposeError::Unknown(_) | ProposeError::Fatal(_) => ProposalError::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use stint_api::Revision;

    /// Answers as a script says, and notes what was proposed.
    struct Script {
        answers: Mutex<Vec<Result<(), ProposeError>>>,
        proposed: Mutex<Vec<usize>>,
        /// One permit lets one proposal be answered.
        gate: Semaphore,
    }

    impl Script {
        fn new(answers: Vec<Result<(), ProposeError>>, open: usize) -> Arc<Script> {
            Arc::new(Script {
                answers: Mutex::new(answers),
                proposed: Mutex::default(),
                gate: Semaphore::new(open),
            })
        }
    }

    impl Log for Script {
        async fn propose(&self, commands: Vec<Command>) -> Result<ApplyResponse, ProposeError> {
            self.proposed.lock().push(commands.len());
            let answer = {
                let mut answers = self.answers.lock();
                if answers.is_empty() { Ok(()) } else { answers.remove(0) }
            };
            self.gate.acquire().await.expect("the gate stays").forget();
            answer?;
            let replies = vec![Reply::Done { revision: Revision(1) }; commands.len()];
            Ok(ApplyResponse { log_index: 1, term: 1, replies, revision: Revision(1) })
        }
    }

    #[tokio::test]
    async fn what_gathers_while_entries_are_under_way_goes_into_one() {
        let script = Script::new(Vec::new(), 0);
        let proposer = Proposer::start(Arc::clone(&script));
        let mut callers = Vec::new();
        for _ in 0..20 {
            let proposer = proposer.clone();
            callers.push(tokio::spawn(async move { proposer.propose(Command::Tick, 10).await }));
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(*script.proposed.lock(), vec![1; BATCHES_IN_FLIGHT_MAX], "no more are under way at once");
        script.gate.add_permits(100);
        for caller in callers {
            assert_eq!(caller.await.expect("ended"), Ok(Reply::Done { revision: Revision(1) }));
        }
        let proposed = script.proposed.lock().clone();
        assert_eq!(proposed.iter().sum::<usize>(), 20, "each command once");
        assert!(proposed.len() <= BATCHES_IN_FLIGHT_MAX + 2, "{proposed:?}");
    }

    #[tokio::test]
    async fn decision_10_each_failure_says_what_is_known() {
        let script = Script::new(
            vec![
                Err(ProposeError::NotLeader { leader: None }),
                Err(ProposeError::Unknown("slow".to_owned())),
                Err(ProposeError::Fatal("disk".to_owned())),
            ],
            100,
        );
        let proposer = Proposer::start(script);
        for expected in [ProposalError::NotLeader, ProposalError::Unknown, ProposalError::Unknown] {
            assert_eq!(proposer.propose(Command::Tick, 1).await, Err(expected));
        }
        assert!(proposer.propose(Command::Tick, 1).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn decision_10_a_command_that_was_never_taken_is_certainly_not_proposed() {
        let script = Script::new(Vec::new(), 0);
        let proposer = Proposer::start(Arc::clone(&script));
        let mut callers = Vec::new();
        for _ in 0..BATCHES_IN_FLIGHT_MAX + 2 {
            let proposer = proposer.clone();
            callers.push(tokio::spawn(async move { proposer.propose(Command::Tick, 1).await }));
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }
        let mut outcomes = Vec::new();
        for caller in callers {
            outcomes.push(caller.await.expect("ended"));
        }
        let unknown = outcomes.iter().filter(|outcome| **outcome == Err(ProposalError::Unknown)).count();
        let certain = outcomes.iter().filter(|outcome| **outcome == Err(ProposalError::NotProposed)).count();
        assert_eq!((unknown, certain), (BATCHES_IN_FLIGHT_MAX, 2));
        script.gate.add_permits(100);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        // What was given up is not proposed later.
        assert_eq!(script.proposed.lock().iter().sum::<usize>(), BATCHES_IN_FLIGHT_MAX);
    }

    #[tokio::test]
    async fn decision_11_the_queue_is_bounded_in_number() {
        let script = Script::new(Vec::new(), 0);
        let proposer = Proposer::start(Arc::clone(&script));
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..2 * PROPOSAL_QUEUE_MAX {
            let proposer = proposer.clone();
            callers.spawn(async move { proposer.propose(Command::Tick, 1).await });
        }
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        script.gate.add_permits(PROPOSAL_QUEUE_MAX);
        let outcomes = callers.join_all().await;
        let refused = outcomes.iter().filter(|outcome| **outcome == Err(ProposalError::QueueFull)).count();
        let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(refused + done, 2 * PROPOSAL_QUEUE_MAX, "everybody is told at once or gets a reply");
        assert!(done >= PROPOSAL_QUEUE_MAX && refused > 0, "{done} done, {refused} refused");
        let proposed = script.proposed.lock();
        assert_eq!(proposed.iter().sum::<usize>(), done);
        assert!(proposed.iter().all(|commands| *commands <= BATCH_COMMANDS_MAX));
    }

    #[tokio::test]
    async fn decision_11_the_queue_is_bounded_in_bytes() {
        let script = Script::new(Vec::new(), 0);
        let proposer = Proposer::start(script);
        let large = proposer.clone();
        let _waiting =
            tokio::spawn(async move { large.propose(Command::Tick, PROPOSAL_QUEUE_BYTES_MAX).await });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(proposer.propose(Command::Tick, 1).await, Err(ProposalError::QueueFull));
    }
}
