//! What keeps calls from being answered, while it does.
//!
//! Owns: since when, and what was met last. Does not own: what is done about it (`connection`).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Why no call is answered at the moment. Calls go on trying; this is for telling people why they wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// How long ago the first attempt failed since which none has succeeded.
    pub duration: Duration,
    /// What the last attempt met.
    pub kind: TroubleKind,
    /// The address that is tried next.
    pub next_address: String,
}

/// What an attempt can meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TroubleKind {
    /// A server answered that nobody leads, or that it can't reach who does.
    NoLeader,
    /// A server answered that it can't do it now: it is stopping, or has too much to do.
    Busy,
    /// Nothing answered.
    NoAnswer,
}

/// Shared by all calls of a client.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    now: Mutex<Option<(Instant, TroubleKind, String)>>,
}

impl Troubles {
    /// An attempt failed, and the next goes to this address.
    pub fn met(&self, kind: TroubleKind, next_address: &str) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.as_ref().map_or_else(Instant::now, |(since, ..)| *since);
        *now = Some((since, kind, next_address.to_owned()));
    }

    /// An attempt was answered.
    pub fn are_over(&self) {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// As of now.
    pub fn present(&self) -> Option<Trouble> {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, kind, next_address) = now.as_ref()?;
        Some(Trouble { duration: since.elapsed(), kind: *kind, next_address: next_address.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_lasts_from_the_first_failure_to_the_first_answer() {
        let troubles = Troubles::default();
        assert_eq!(troubles.present(), None);
        troubles.met(TroubleKind::NoAnswer, "a:1");
        let first = troubles.present().unwrap();
        troubles.met(TroubleKind::NoLeader, "b:1");
        let later = troubles.present().unwrap();
        assert!(later.duration >= first.duration, "it began with the first");
        assert_eq!((later.kind, later.next_address.as_str()), (TroubleKind::NoLeader, "b:1"));
        troubles.are_over();
        assert_eq!(troubles.present(), None);
    }
}
