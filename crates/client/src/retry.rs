//! The retry table: what the end of one attempt means for the next.
//!
//! Owns: reading a status, which server is asked next, pauses, time limits, which error a call ends with. Does not own:
//! sending, sleeping, clocks and chance, which are given.
//!
//! Invariants: a write that may have been carried out is repeated only if repeating it changes nothing, and if none of its
//! attempts is answered the caller is told that its outcome is unknown; every call ends within its timeout.

use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use stint_proto::StatusDetails;
use stint_proto::status::{self, ErrorReason, LEADER_ADDRESS};
use tonic::{Code, Status};

use crate::address::is_address;
use crate::error::Error;
use crate::limits;

/// What a call does, and so what may be done about an attempt whose outcome is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It changes nothing.
    Read,
    /// It changes something, and nothing more if it is carried out again.
    RepeatableWrite,
    /// It changes something each time.
    Write,
}

/// What the end of an attempt means: the rows of the table.
#[derive(Debug)]
pub(crate) enum Meaning {
    /// Certainly not carried out: try again, elsewhere.
    NotDone {
        message: String,
        /// That the server asked for.
        pause: Option<Duration>,
        /// Where the leader is, if the server knows.
        leader: Option<String>,
        /// A server said so, not the lack of one.
        answered: bool,
    },
    /// Perhaps carried out, perhaps not.
    MaybeDone { message: String },
    /// The caller's business.
    Final(Error),
}

impl Meaning {
    pub(crate) fn of(failed: &Status) -> Meaning {
        let Some(word) = status::reason_word(failed) else { return Meaning::of_connection(failed) };
        let reason = ErrorReason::parse(&word);
        let message = failed.message().to_owned();
        let pause = status::retry_after(failed).map(|pause| pause.min(limits::RETRY_PAUSE_ASKED_MAX));
        match (reason, failed.code()) {
            (Some(ErrorReason::OutcomeUnknown), _) => Meaning::MaybeDone { message },
            (Some(ErrorReason::NotLeader), _) => {
                let metadata = StatusDetails::of(failed).map(|details| details.metadata).unwrap_or_default();
                let leader = metadata.get(LEADER_ADDRESS).filter(|address| !address.is_empty()).cloned();
                Meaning::NotDone { message, pause, leader, answered: true }
            }
            // The server says that nothing was changed, and that it may go better next time.
            (Some(ErrorReason::Timeout), _) | (_, Code::Unavailable) => {
                Meaning::NotDone { message, pause, leader: None, answered: true }
            }
            (_, Code::ResourceExhausted) if pause.is_some() => {
                Meaning::NotDone { message, pause, leader: None, answered: true }
            }
            _ => Meaning::Final(Error::of_status(failed)),
        }
    }

    /// Of a status without a reason of stint's own: it comes from the connection, or from something between.
    fn of_connection(failed: &Status) -> Meaning {
        let message = root_cause(failed);
        match failed.code() {
            _ if is_connect_error(failed) => {
                Meaning::NotDone { message, pause: None, leader: None, answered: false }
            }
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal | Code::DeadlineExceeded => {
                Meaning::MaybeDone { message }
            }
            _ => Meaning::Final(Error::of_status(failed)),
        }
    }

    /// Of an attempt that was given up because nothing came.
    pub(crate) fn no_answer(patience: Duration) -> Meaning {
        Meaning::MaybeDone { message: format!("no answer within {patience:.1?}") }
    }

    /// Of a stream that never ends by itself and has ended well: a server that stops does so.
    pub(crate) fn stream_ended() -> Meaning {
        Meaning::MaybeDone { message: "the server ended the stream".to_owned() }
    }
}

/// True if no connection could be made, so that nothing was sent.
fn is_connect_error(failed: &Status) -> bool {
    let mut source = failed.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn root_cause(failed: &Status) -> String {
    let mut message = failed.message().to_owned();
    let mut source = failed.source();
    while let Some(error) = source {
        message = error.to_string();
        source = error.source();
    }
    if message.is_empty() { failed.code().to_string() } else { message }
}

/// The known servers, and which of them is asked first.
#[derive(Debug)]
pub(crate) struct Servers {
    addresses: Vec<Arc<str>>,
    /// Position of the server that answered last.
    current: AtomicUsize,
    /// Leaders that servers have named and that are not among the addresses.
    told: Mutex<Vec<Arc<str>>>,
}

impl Servers {
    /// `addresses`: at least one.
    pub(crate) fn new(addresses: &[String]) -> Servers {
        Servers {
            addresses: addresses.iter().map(|address| Arc::from(address.as_str())).collect(),
            current: AtomicUsize::new(0),
            told: Mutex::new(Vec::new()),
        }
    }

    /// How many were given.
    pub(crate) fn count(&self) -> usize {
        self.addresses.len()
    }

    /// All that were given, separated by commas.
    pub(crate) fn text(&self) -> String {
        self.addresses.join(",")
    }

    fn first(&self) -> usize {
        self.current.load(Ordering::Relaxed) % self.addresses.len()
    }

    /// The next one is asked first from now on, unless another call has decided already.
    fn passed_over(&self, position: usize) {
        let next = (position + 1) % self.addresses.len();
        // Lost races are the other call's decision.
        let _ = self.current.compare_exchange(position, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Another server is asked first from now on.
    pub(crate) fn ask_another(&self) {
        self.passed_over(self.first());
    }

    /// Takes a leader's address from a server. None if it can't be used. A known server is asked first from now on.
    fn hinted(&self, address: &str) -> Option<Arc<str>> {
        let host_port = address.strip_prefix("http://").unwrap_or(address);
        if let Some(position) = self.addresses.iter().position(|known| &**known == host_port) {
            self.current.store(position, Ordering::Relaxed);
            return Some(self.addresses[position].clone());
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = told.iter().find(|known| &***known == host_port) {
            return Some(known.clone());
        }
        if told.len() >= limits::ADDRESSES_MAX || !is_address(host_port) {
            return None;
        }
        let address: Arc<str> = Arc::from(host_port);
        told.push(address.clone());
        Some(address)
    }
}

/// The attempts of one call: [`Attempts::next`], send, and [`Attempts::failed`] if it did, until that is an error.
#[derive(Debug)]
pub(crate) struct Attempts {
    effect: Effect,
    timeout: Duration,
    begun: Instant,
    pause: Duration,
    failures: usize,
    /// An attempt of this write may have been carried out.
    may_be_done: bool,
    hinted: Option<Arc<str>>,
    followed_hint: bool,
    position: usize,
    /// What a server said last.
    said: Option<String>,
}

impl Attempts {
    pub(crate) fn new(effect: Effect, timeout: Duration, now: Instant) -> Attempts {
        Attempts {
            effect,
            timeout,
            begun: now,
            pause: limits::RETRY_PAUSE_FIRST,
            failures: 0,
            may_be_done: false,
            hinted: None,
            followed_hint: false,
            position: 0,
            said: None,
        }
    }

    /// Who is asked now, and how long that may take.
    pub(crate) fn next(&mut self, servers: &Servers, now: Instant) -> (Arc<str>, Duration) {
        let left = self.timeout.saturating_sub(now.saturating_duration_since(self.begun));
        self.position = servers.first();
        let hinted = self.hinted.take();
        self.followed_hint = hinted.is_some();
        // A server that accepts and never answers must not use up the time of the others.
        let patience = match self.effect {
            Effect::Read | Effect::RepeatableWrite if servers.count() > 1 => {
                left.min(limits::ATTEMPT_TIMEOUT)
            }
            _ => left,
        };
        (hinted.unwrap_or_else(|| servers.addresses[self.position].clone()), patience)
    }

    /// Who is asked next, unless a server has just said who leads.
    pub(crate) fn upcoming(&self, servers: &Servers) -> Option<Arc<str>> {
        self.hinted.is_none().then(|| servers.addresses[servers.first()].clone())
    }

    /// How long to wait before the next attempt. `chance`: 0 to 1, without 1.
    ///
    /// # Errors
    /// If there is no next attempt: what the call ends with.
    pub(crate) fn failed(
        &mut self,
        servers: &Servers,
        meaning: Meaning,
        now: Instant,
        chance: f64,
    ) -> Result<Duration, Error> {
        let is_unanswered = matches!(meaning, Meaning::MaybeDone { .. });
        let (message, asked, answered) = match meaning {
            Meaning::Final(error) => return Err(error),
            Meaning::MaybeDone { message } if self.effect == Effect::Write => {
                return Err(Error::outcome_unknown(&message));
            }
            Meaning::MaybeDone { message } => {
                self.may_be_done |= self.effect == Effect::RepeatableWrite;
                (message, None, false)
            }
            Meaning::NotDone { message, pause, leader, answered } => {
                let leader = leader.filter(|_| !self.followed_hint);
                self.hinted = leader.and_then(|address| servers.hinted(&address));
                (message, pause, answered)
            }
        };
        if answered {
            self.said = Some(message.clone());
        }
        self.failures += 1;
        if self.hinted.is_none() {
            // Another server may know better, or be up: also after one that was only asked because another named it.
            servers.passed_over(self.position);
        }
        let round_is_over = self.failures.is_multiple_of(servers.count());
        let wait = match asked {
            _ if self.hinted.is_some() => Duration::ZERO,
            // Never sooner than asked; later by a little, so that not all callers come back at once.
            Some(asked) => asked.mul_f64(1.0 + chance / 4.0),
            None if round_is_over => self.pause.mul_f64((1.0 + chance) / 2.0),
            None => Duration::ZERO,
        };
        if round_is_over {
            self.pause = (self.pause * 2).min(limits::RETRY_PAUSE_MAX);
        }
        if now.saturating_duration_since(self.begun) + wait < self.timeout {
            return Ok(wait);
        }
        let timeout = self.timeout;
        // An attempt that began with next to no time left says nothing about the servers.
        let was_cut = is_unanswered && now.saturating_duration_since(self.begun) >= timeout;
        let said = self.said.take().filter(|_| answered || was_cut);
        Err(if self.may_be_done {
            Error::outcome_unknown(&message)
        } else if let Some(last) = said {
            Error::Unavailable { timeout, last }
        } else {
            Error::Unreachable { addresses: servers.text(), timeout, last: message }
        })
    }
}

/// The attempts of one stream that is opened again whenever it ends. Reads only.
#[derive(Debug)]
pub(crate) struct StreamAttempts {
    timeout: Duration,
    attempts: Option<Attempts>,
    opened: Option<Instant>,
}

impl StreamAttempts {
    pub(crate) fn new(timeout: Duration) -> StreamAttempts {
        StreamAttempts { timeout, attempts: None, opened: None }
    }

    /// Who is asked now, and how long it may take until the stream is open.
    pub(crate) fn next(&mut self, servers: &Servers, now: Instant) -> (Arc<str>, Duration) {
        let timeout = self.timeout;
        self.attempts.get_or_insert_with(|| Attempts::new(Effect::Read, timeout, now)).next(servers, now)
    }

    /// Who is asked next.
    pub(crate) fn upcoming(&self, servers: &Servers) -> Option<Arc<str>> {
        self.attempts.as_ref()?.upcoming(servers)
    }

    /// The server has begun to answer.
    pub(crate) fn opened(&mut self, now: Instant) {
        self.opened = Some(now);
    }

    /// A message came that brought the stream further: what was before is forgotten.
    pub(crate) fn worked(&mut self) {
        self.attempts = None;
    }

    /// How long to wait before the stream is opened again.
    ///
    /// # Errors
    /// If it is not: whoever opens it again all the same has the whole time again.
    pub(crate) fn ended(
        &mut self,
        servers: &Servers,
        meaning: Meaning,
        now: Instant,
        chance: f64,
    ) -> Result<Duration, Error> {
        let opened = self.opened.take();
        if opened.is_some_and(|at| now.saturating_duration_since(at) >= limits::STREAM_HEALTHY_AFTER) {
            self.attempts = None;
        }
        if self.attempts.is_none() {
            self.next(servers, now);
        }
        let Some(attempts) = &mut self.attempts else { return Ok(Duration::ZERO) };
        let wait = attempts.failed(servers, meaning, now, chance);
        if let Err(error) = &wait {
            if error.is_expired() {
                // One that was started lately keeps less than the others.
                servers.passed_over(attempts.position);
            }
            self.attempts = None;
        }
        wait
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
