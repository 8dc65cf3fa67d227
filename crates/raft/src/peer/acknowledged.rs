//! What the other members have acknowledged to this server as leader.
//!
//! Owns: noticing that a member denies an entry that it acknowledged before. Does not own: what is done about it, what
//! openraft itself knows of each member's progress.
//!
//! Invariant: a member is said to have forgotten entries only of the term in which it acknowledged them: a later leader
//! may rightly have had it remove them.

use std::collections::BTreeMap;

use stint_api::MemberId;

/// The highest acknowledged entry of each member.
#[derive(Debug, Default)]
pub struct Acknowledged(BTreeMap<MemberId, Progress>);

/// What became of an answer that denies an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// It never said that it had the entry: how a leader finds where the logs part.
    Honest,
    /// It had acknowledged the entry, or a later one.
    Forgotten {
        /// What it had acknowledged.
        acknowledged_index: u64,
        /// It was not known before.
        first: bool,
    },
}

#[derive(Debug)]
struct Progress {
    /// The leader's term, not the entry's.
    term: u64,
    index: u64,
    forgotten: bool,
    #[cfg(test)]
    denials: u64,
}

impl Acknowledged {
    /// A member has, to the leader of `term`, acknowledged all entries up to `index`. Ends what it had forgotten, if it now
    /// holds as much as it ever acknowledged.
    pub fn acknowledge(&mut self, member: MemberId, term: u64, index: u64) {
        let progress = Progress::new(term, index);
        let known = self.0.entry(member).or_insert(progress);
        // An answer of an earlier term may come late.
        if term > known.term || (term == known.term && index >= known.index) {
            *known = Progress::new(term, index);
        }
    }

    /// A member has told the leader of `term` that it doesn't have the entry at `index`.
    pub fn deny(&mut self, member: MemberId, term: u64, index: u64) -> Denial {
        match self.0.get_mut(&member) {
            Some(known) if term == known.term && index <= known.index => {
                let first = !std::mem::replace(&mut known.forgotten, true);
                #[cfg(test)]
                {
                    known.denials += 1;
                }
                Denial::Forgotten { acknowledged_index: known.index, first }
            }
            _ => Denial::Honest,
        }
    }

    /// Whether a member has forgotten what it acknowledged to the leader of `term`.
    pub fn is_forgotten(&self, member: MemberId, term: u64) -> bool {
        self.0.get(&member).is_some_and(|known| known.term == term && known.forgotten)
    }

    /// Keeps these members only.
    pub fn retain(&mut self, keep: impl Fn(MemberId) -> bool) {
        self.0.retain(|member, _| keep(*member));
    }

    /// How often a member has denied since it last acknowledged.
    #[cfg(test)]
    pub fn denials(&self, member: MemberId) -> u64 {
        self.0.get(&member).map_or(0, |known| known.denials)
    }
}

impl Progress {
    fn new(term: u64, index: u64) -> Progress {
        Progress {
            term,
            index,
            forgotten: false,
            #[cfg(test)]
            denials: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBER: MemberId = MemberId(2);

    fn acknowledged(term: u64, index: u64) -> Acknowledged {
        let mut acknowledged = Acknowledged::default();
        acknowledged.acknowledge(MEMBER, term, index);
        acknowledged
    }

    #[test]
    fn who_denies_what_it_acknowledged_has_forgotten_it() {
        let mut acknowledged = acknowledged(3, 100);
        let forgotten = |first| Denial::Forgotten { acknowledged_index: 100, first };
        assert_eq!(acknowledged.deny(MEMBER, 3, 100), forgotten(true));
        assert_eq!(acknowledged.deny(MEMBER, 3, 40), forgotten(false));
        assert!(acknowledged.is_forgotten(MEMBER, 3));
        assert!(!acknowledged.is_forgotten(MEMBER, 4), "another leader's term");
        assert!(!acknowledged.is_forgotten(MemberId(1), 3));
    }

    #[test]
    fn a_leader_may_look_for_where_the_logs_part() {
        let mut acknowledged = acknowledged(3, 100);
        assert_eq!(acknowledged.deny(MEMBER, 3, 101), Denial::Honest, "not acknowledged yet");
        assert_eq!(acknowledged.deny(MEMBER, 4, 50), Denial::Honest, "acknowledged to an earlier leader");
        assert_eq!(acknowledged.deny(MEMBER, 2, 50), Denial::Honest, "an answer that came late");
        assert_eq!(acknowledged.deny(MemberId(1), 3, 50), Denial::Honest, "another member");
        assert!(!acknowledged.is_forgotten(MEMBER, 3));
    }

    #[test]
    fn only_as_much_as_was_acknowledged_ends_it() {
        let mut acknowledged = acknowledged(3, 100);
        acknowledged.deny(MEMBER, 3, 100);
        acknowledged.acknowledge(MEMBER, 3, 99);
        acknowledged.acknowledge(MEMBER, 2, 500);
        assert!(acknowledged.is_forgotten(MEMBER, 3));
        acknowledged.acknowledge(MEMBER, 3, 100);
        assert!(!acknowledged.is_forgotten(MEMBER, 3));

        acknowledged.deny(MEMBER, 3, 100);
        acknowledged.retain(|member| member != MEMBER);
        assert!(!acknowledged.is_forgotten(MEMBER, 3), "it is no member any more");
    }
}
