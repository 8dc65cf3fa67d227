//! Sends the servers the last output of containers, so that it can be read after the node is lost.
//!
//! Owns: which tails wait, what was sent last. Does not own: log files (crate `runtime`), when it may send (the servers say).
//!
//! Of a run that has ended the tail is sent once; of one that goes on every few seconds, if there is new output. What has ended
//! comes first, the last first. A run without output costs nothing.
//!
//! Invariants: nothing waits for this: it has a task of its own, and its messages go out behind all others; what was not
//! acknowledged is sent again, by the next agent of the folder too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use stint_api::{Incarnation, PodUid};
use stint_logs::limits::TAIL_BYTES_MAX;
use stint_proto::limits::{LOG_TAILS_BYTES_MAX, LOG_TAILS_PER_MESSAGE_MAX};
use stint_proto::{uid_to_wire, v1};
use stint_runtime::{ContainerId, LogStore, Shipped};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::limits;
use crate::log_archive::LogArchiver;

/// Handle of the task, which ends with it.
#[derive(Debug)]
pub struct LogTails {
    told: mpsc::UnboundedSender<Told>,
}

#[derive(Debug)]
enum Told {
    /// Where to send from now on; none: nowhere.
    Session(Option<Outgoing>),
    Credit(usize),
    Results(Vec<i32>),
    /// To be answered once no end waits.
    Flush(oneshot::Sender<()>),
}

#[derive(Debug)]
struct Outgoing {
    incarnation: Incarnation,
    messages: mpsc::Sender<v1::AgentMessage>,
}

impl LogTails {
    /// Starts the task, which tells `archiver` too which runs have ended. Needs a tokio runtime.
    pub fn start(store: LogStore, archiver: LogArchiver) -> LogTails {
        let (told, receiver) = mpsc::unbounded_channel();
        // Listens from now on, whenever the task begins.
        let ended = store.ended();
        tokio::spawn(run(store, archiver, ended, receiver));
        LogTails { told }
    }

    /// A session is established. Its end is noticed without being told.
    pub fn session(&self, incarnation: Incarnation, messages: mpsc::Sender<v1::AgentMessage>) {
        self.tell(Told::Session(Some(Outgoing { incarnation, messages })));
    }

    /// The session is gone.
    pub fn session_lost(&self) {
        self.tell(Told::Session(None));
    }

    /// The server takes some.
    pub fn credit(&self, credit: &v1::LogTailCredit) {
        self.tell(Told::Credit(usize::try_from(credit.bytes).unwrap_or(usize::MAX)));
    }

    /// The server has answered.
    pub fn acknowledged(&self, ack: v1::LogTailAck) {
        self.tell(Told::Results(ack.results));
    }

    /// Resolves when the servers have the tails of all that has ended, but of what they want later. May take forever.
    pub fn flushed(&self) -> oneshot::Receiver<()> {
        let (flushed, receiver) = oneshot::channel();
        self.tell(Told::Flush(flushed));
        receiver
    }

    fn tell(&self, told: Told) {
        // The task lives as long as we do.
        drop(self.told.send(told));
    }
}

/// What waits, and what is on its way.
#[derive(Debug, Default)]
struct Waiting {
    /// Runs that have ended; the last is sent first.
    ended: VecDeque<ContainerId>,
    /// Runs that go on and have new output; the first is sent first.
    grown: VecDeque<ContainerId>,
    /// Runs that go on: where what was sent ended.
    sent_up_to: BTreeMap<ContainerId, u64>,
    /// To be tried again, and when.
    later: VecDeque<(Instant, ContainerId)>,
    /// Sent and not acknowledged, in order.
    in_flight: Vec<InFlight>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct InFlight {
    id: ContainerId,
    end_offset: u64,
    is_last: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.grown.is_empty()
    }

    /// True while the end of a run is not known to have arrived.
    fn has_ended(&self) -> bool {
        !self.ended.is_empty() || self.in_flight.iter().any(|sent| sent.is_last)
    }

    /// A run with output has ended.
    fn ended(&mut self, id: ContainerId) {
        self.sent_up_to.remove(&id);
        self.grown.retain(|grown| *grown != id);
        self.ended.push_back(id);
        while self.ended.len() > limits::LOG_TAILS_WAITING_MAX {
            self.ended.pop_front();
        }
    }

    /// Where the logs of all runs that go on end now.
    fn measured(&mut self, live: Vec<(ContainerId, u64)>) {
        let is_live: BTreeSet<ContainerId> = live.iter().map(|(id, _)| id.clone()).collect();
        self.sent_up_to.retain(|id, _| is_live.contains(id));
        let known: BTreeSet<ContainerId> = self.grown.iter().cloned().collect();
        for (id, end_offset) in live {
            let sent_up_to = self.sent_up_to.get(&id).copied().unwrap_or(0);
            if end_offset > sent_up_to && !known.contains(&id) {
                self.grown.push_back(id);
            }
        }
    }

    /// The next to be sent, and whether its run has ended.
    fn next(&mut self) -> Option<(ContainerId, bool)> {
        let ended = self.ended.pop_back().map(|id| (id, true));
        ended.or_else(|| self.grown.pop_front().map(|id| (id, false)))
    }

    fn give_back(&mut self, id: ContainerId, is_last: bool) {
        if is_last { self.ended(id) } else { self.grown.push_front(id) }
    }

    /// What was on its way is not known to have arrived.
    fn nothing_in_flight(&mut self) {
        for InFlight { id, is_last, .. } in std::mem::take(&mut self.in_flight) {
            self.give_back(id, is_last);
        }
    }

    /// What was on its way has been answered. The runs that need not be sent again.
    fn answered(&mut self, results: &[i32], now: Instant) -> Vec<ContainerId> {
        let mut done = Vec::new();
        let sent = std::mem::take(&mut self.in_flight);
        for (place, InFlight { id, end_offset, is_last }) in sent.into_iter().enumerate() {
            let result = results.get(place).copied().unwrap_or_default();
            match v1::LogTailResult::try_from(result).unwrap_or_default() {
                v1::LogTailResult::Stored | v1::LogTailResult::Refused if is_last => done.push(id),
                v1::LogTailResult::Stored | v1::LogTailResult::Refused => {
                    self.sent_up_to.insert(id, end_offset);
                }
                v1::LogTailResult::Later | v1::LogTailResult::Unspecified => {
                    // Of one that goes on there will be more to say soon.
                    if is_last {
                        self.later.push_back((now + limits::LOG_TAIL_LATER_PAUSE, id));
                    }
                }
            }
        }
        done
    }

    fn wake_up(&mut self, now: Instant) {
        while self.later.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, id)) = self.later.pop_front() {
                self.ended(id);
            }
        }
    }
}

async fn run(
    store: LogStore,
    archiver: LogArchiver,
    mut ended: mpsc::UnboundedReceiver<ContainerId>,
    mut told: mpsc::UnboundedReceiver<Told>,
) {
    let mut waiting = Waiting::default();
    let mut outgoing: Option<Outgoing> = None;
    let mut has_looked = false;
    // An offer or tails are on their way: the server speaks next, or has forgotten.
    let mut answer_due: Option<Instant> = None;
    let mut look_at = Instant::now() + limits::LOG_TAIL_INTERVAL;
    let mut ids = Vec::new();
    let mut flushes: Vec<oneshot::Sender<()>> = Vec::new();
    loop {
        let wake_at = answer_due.unwrap_or(look_at).min(look_at);
        tokio::select! {
            message = told.recv() => match message {
                None => return,
                Some(Told::Session(session)) => {
                    outgoing = session;
                    answer_due = None;
                    waiting.nothing_in_flight();
                    // What was left by an earlier agent; all that runs is known by now.
                    if outgoing.is_some() && !std::mem::replace(&mut has_looked, true) {
                        for id in unshipped(&store).await {
                            waiting.ended(id);
                        }
                    }
                }
                Some(Told::Credit(bytes)) => {
                    waiting.nothing_in_flight();
                    if let Some(session) = &outgoing {
                        let message = compose(&store, &mut waiting, session.incarnation, bytes).await;
                        send(&mut outgoing, v1::agent_message::Message::LogTails(message)).await;
                        answer_due = Some(Instant::now() + limits::LOG_TAIL_ANSWER_PATIENCE);
                    }
                }
                Some(Told::Results(results)) => {
                    answer_due = None;
                    for id in waiting.answered(&results, Instant::now()) {
                        if let Err(error) = store.mark(&id, Shipped::Tail).await {
                            tracing::debug!(container = %id, %error, "a log can't be marked");
                        }
                    }
                }
                Some(Told::Flush(flushed)) => flushes.push(flushed),
            },
            // Ends come in crowds: one look at the disk serves many.
            count = recv_crowd(&mut ended, &mut ids) => if count > 0 {
                for (id, end_offset) in store.end_offsets(std::mem::take(&mut ids)).await {
                    if end_offset > 0 {
                        archiver.ended(id.clone());
                        waiting.ended(id);
                    }
                }
            },
            () = tokio::time::sleep_until(wake_at) => {}
        }
        if ids.is_empty() && ended.is_empty() && !waiting.has_ended() {
            // Whoever asked may have stopped waiting.
            for flushed in flushes.drain(..) {
                let _ = flushed.send(());
            }
        }
        let now = Instant::now();
        if look_at <= now {
            look_at = now + limits::LOG_TAIL_INTERVAL;
            waiting.measured(store.end_offsets(store.live()).await);
            waiting.wake_up(now);
        }
        if answer_due.is_none_or(|due| due <= now) && outgoing.is_some() && !waiting.is_empty() {
            send(&mut outgoing, v1::agent_message::Message::LogTailOffer(v1::LogTailOffer {})).await;
            answer_due = Some(now + limits::LOG_TAIL_OFFER_PATIENCE);
        }
    }
}

/// Waits for an end and a moment longer for others. May be dropped while it waits: nothing that has come is lost.
async fn recv_crowd(ended: &mut mpsc::UnboundedReceiver<ContainerId>, ids: &mut Vec<ContainerId>) -> usize {
    if ids.is_empty() {
        match ended.recv().await {
            Some(first) => ids.push(first),
            None => return std::future::pending().await,
        }
    }
    tokio::time::sleep(limits::LOG_TAIL_GATHER).await;
    while ids.len() < limits::LOG_TAILS_WAITING_MAX
        && let Ok(next) = ended.try_recv()
    {
        ids.push(next);
    }
    ids.len()
}

async fn send(outgoing: &mut Option<Outgoing>, message: v1::agent_message::Message) {
    if let Some(session) = outgoing
        && session.messages.send(v1::AgentMessage { message: Some(message) }).await.is_err()
    {
        *outgoing = None;
    }
}

/// Runs whose tail the servers are not known to have.
async fn unshipped(store: &LogStore) -> Vec<ContainerId> {
    let mut found = Vec::new();
    match store.pods().await {
        Ok(pods) => {
            for pod in pods {
                found.extend(store.unmarked(&pod, Shipped::Tail).await.unwrap_or_default());
            }
        }
        Err(error) => tracing::warn!(%error, "logs of earlier pods can't be looked for"),
    }
    found
}

/// As many tails as may be sent.
async fn compose(
    store: &LogStore,
    waiting: &mut Waiting,
    incarnation: Incarnation,
    credit: usize,
) -> v1::LogTails {
    let mut tails = Vec::new();
    let mut bytes_left = credit.min(LOG_TAILS_BYTES_MAX);
    while tails.len() < LOG_TAILS_PER_MESSAGE_MAX
        && let Some((id, is_last)) = waiting.next()
    {
        let Ok(pod) = id.pod_uid().parse::<PodUid>() else { continue };
        let excerpt = match store.tail(&id, TAIL_BYTES_MAX).await {
            Ok(Some(excerpt)) => excerpt,
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(container = %id, %error, "the tail of a log can't be read");
                continue;
            }
        };
        let entries = excerpt.compressed();
        let Some(left) = bytes_left.checked_sub(entries.len()) else {
            waiting.give_back(id, is_last);
            break;
        };
        bytes_left = left;
        tails.push(v1::LogTail {
            pod_uid: uid_to_wire(pod),
            container: id.container_name().to_owned(),
            restart_count: id.restart_count(),
            first_offset: excerpt.first_offset,
            is_last,
            entries: entries.into(),
        });
        waiting.in_flight.push(InFlight { id, end_offset: excerpt.end_offset(), is_last });
    }
    v1::LogTails { incarnation: incarnation.0, tails }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> ContainerId {
        ContainerId::new("01234567-89ab-cdef-0123-456789abcdef", "main", number).unwrap()
    }

    fn send_all(waiting: &mut Waiting) -> Vec<(u32, bool)> {
        let mut sent = Vec::new();
        while let Some((id, is_last)) = waiting.next() {
            sent.push((id.restart_count(), is_last));
            waiting.in_flight.push(InFlight { id, end_offset: 10, is_last });
        }
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn r13_what_has_ended_is_sent_first_and_until_it_has_arrived() {
        let (stored, later) = (v1::LogTailResult::Stored as i32, v1::LogTailResult::Later as i32);
        let mut waiting = Waiting::default();
        waiting.measured(vec![(id(1), 10), (id(2), 0)]);
        waiting.ended(id(3));
        waiting.ended(id(4));
        assert_eq!(send_all(&mut waiting), [(4, true), (3, true), (1, false)]);
        assert!(waiting.has_ended(), "what is on its way may be lost");
        waiting.nothing_in_flight();
        assert_eq!(send_all(&mut waiting).len(), 3);
        let now = Instant::now();
        // One more than was sent, and one less, do no harm.
        assert_eq!(waiting.answered(&[stored, later, stored, stored], now), [id(3)]);
        assert!(waiting.is_empty());
        waiting.wake_up(now + limits::LOG_TAIL_LATER_PAUSE);
        waiting.measured(vec![(id(1), 10), (id(2), 5)]);
        assert_eq!(send_all(&mut waiting), [(4, true), (2, false)]);
        assert_eq!(waiting.answered(&[], now), []);
        waiting.measured(vec![(id(1), 11), (id(2), 5)]);
        waiting.ended(id(1));
        assert_eq!(send_all(&mut waiting), [(1, true), (2, false)]);
    }

    #[test]
    fn a_run_that_ends_while_its_tail_is_on_its_way_is_sent_again() {
        let mut waiting = Waiting::default();
        waiting.measured(vec![(id(1), 10)]);
        assert_eq!(send_all(&mut waiting), [(1, false)]);
        waiting.ended(id(1));
        assert_eq!(waiting.answered(&[v1::LogTailResult::Stored as i32], Instant::now()), []);
        assert_eq!(send_all(&mut waiting), [(1, true)]);
        waiting.measured(Vec::new());
        assert!(waiting.sent_up_to.is_empty());
    }
}
