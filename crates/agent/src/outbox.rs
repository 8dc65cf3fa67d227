//! Reports on their way to the servers (A8, A10).
//!
//! Owns: which reports were sent over the present session, which wait. Does not own: the journal, what is reported.
//!
//! Invariants: reports of one Pod keep their order; a report is sent again over a new session until it was acknowledged;
//! at most so many are without acknowledgement as the protocol allows, in at most so few messages that many reports that
//! come one by one travel together: a server commits one message of an agent after the other. While many Pods begin, messages
//! also keep a distance.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use stint_lease::BootInstant;
use stint_proto::v1;

use crate::limits;

/// See the module.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<Entry>,
    /// By number, with the number of the message that it was sent in.
    in_flight: BTreeMap<u64, (u64, Entry)>,
    /// Messages with reports in flight: how many of each.
    messages: BTreeMap<u64, usize>,
    last_seq: u64,
    last_message: u64,
    last_sent_at: BootInstant,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    report: v1::PodReport,
    /// Its number in the journal; none if it is not there.
    journaled: Option<u64>,
}

impl Outbox {
    /// Adds a report, with its number in the journal if it is there.
    pub fn push(&mut self, report: v1::PodReport, journaled: Option<u64>) {
        self.waiting.push_back(Entry { report, journaled });
    }

    /// Reports without acknowledgement, sent or not.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.in_flight.len()
    }

    /// The session is gone: everything without acknowledgement is sent again, in order, before what is new.
    pub fn session_lost(&mut self) {
        self.messages.clear();
        for (_, (_, entry)) in std::mem::take(&mut self.in_flight).into_iter().rev() {
            self.waiting.push_front(entry);
        }
    }

    /// A registration carried those reports of the journal that are `told`; the others are still to be sent.
    pub fn registered(&mut self, told: &BTreeSet<u64>) {
        self.session_lost();
        self.waiting.retain(|entry| entry.journaled.is_none_or(|number| !told.contains(&number)));
    }

    /// Nothing is left of any Pod: only what must be told is.
    pub fn keep_journaled(&mut self) {
        self.session_lost();
        self.waiting.retain(|entry| entry.journaled.is_some());
    }

    /// Nothing is to be said any more.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.in_flight.clear();
        self.messages.clear();
    }

    /// When the next reports may be sent, while so many Pods are beginning; none if nothing waits, or an acknowledgement must
    /// come first.
    pub fn due_at(&self, beginning: usize) -> Option<BootInstant> {
        let count = self.sendable();
        if count == 0 {
            return None;
        }
        let beginning = u32::try_from(beginning).unwrap_or(u32::MAX);
        let distance = limits::REPORTS_GATHERED_PER_POD.saturating_mul(beginning);
        // To one that is full nothing can be added.
        let is_full = count == limits::REPORTS_PER_MESSAGE_MAX;
        let distance = if is_full { Duration::ZERO } else { distance.min(limits::REPORTS_GATHERED_MAX) };
        Some(self.last_sent_at.plus(distance))
    }

    fn sendable(&self) -> usize {
        if self.messages.len() >= limits::REPORT_MESSAGES_IN_FLIGHT_MAX {
            return 0;
        }
        let room = limits::REPORTS_IN_FLIGHT_MAX.saturating_sub(self.in_flight.len());
        self.waiting.len().min(room).min(limits::REPORTS_PER_MESSAGE_MAX)
    }

    /// The next reports to send, if any may be sent now, while so many Pods are beginning.
    pub fn next_message(&mut self, now: BootInstant, beginning: usize) -> Option<Vec<v1::SequencedReport>> {
        self.due_at(beginning).filter(|due_at| *due_at <= now)?;
        let count = self.sendable();
        self.last_sent_at = now;
        self.last_message += 1;
        self.messages.insert(self.last_message, count);
        let mut reports = Vec::with_capacity(count);
        for entry in self.waiting.drain(..count) {
            self.last_seq += 1;
            reports.push(v1::SequencedReport { seq: self.last_seq, report: Some(entry.report.clone()) });
            self.in_flight.insert(self.last_seq, (self.last_message, entry));
        }
        Some(reports)
    }

    /// True while something of the journal has yet to be acknowledged.
    pub fn has_journaled(&self) -> bool {
        let in_flight = self.in_flight.values().map(|(_, entry)| entry);
        self.waiting.iter().chain(in_flight).any(|entry| entry.journaled.is_some())
    }

    /// A report was acknowledged, counted or ignored. Its number in the journal, if it is there.
    pub fn acknowledged(&mut self, seq: u64) -> Option<u64> {
        let (message, entry) = self.in_flight.remove(&seq)?;
        if let Some(left) = self.messages.get_mut(&message) {
            *left -= 1;
            if *left == 0 {
                self.messages.remove(&message);
            }
        }
        entry.journaled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(number: u8) -> v1::PodReport {
        v1::PodReport { pod_uid: vec![number; 16].into(), kind: None }
    }

    fn sent(outbox: &mut Outbox) -> Vec<(u64, u8)> {
        let message = outbox.next_message(BootInstant::default(), 0).unwrap_or_default();
        message.iter().map(|one| (one.seq, one.report.as_ref().unwrap().pod_uid[0])).collect()
    }

    #[test]
    fn a10_reports_are_sent_again_in_order_until_acknowledged() {
        let mut outbox = Outbox::default();
        (1..=3).for_each(|number| outbox.push(report(number), Some(10 * u64::from(number))));
        assert_eq!(sent(&mut outbox), [(1, 1), (2, 2), (3, 3)]);
        assert_eq!(sent(&mut outbox), []);
        assert_eq!(outbox.acknowledged(2), Some(20));
        assert_eq!(outbox.acknowledged(2), None);
        outbox.push(report(4), Some(40));
        outbox.session_lost();
        assert_eq!(sent(&mut outbox), [(4, 1), (5, 3), (6, 4)]);
        // A registration has told some of it.
        outbox.push(report(5), None);
        outbox.registered(&[10, 40].into());
        assert_eq!(sent(&mut outbox), [(7, 3), (8, 5)]);
        assert!(outbox.has_journaled());
        assert_eq!((outbox.acknowledged(7), outbox.acknowledged(8)), (Some(30), None));
        assert!(!outbox.has_journaled());
        assert!(outbox.waiting.is_empty() && outbox.in_flight.is_empty() && outbox.messages.is_empty());
    }

    #[test]
    fn a10_reports_that_come_one_by_one_travel_together() {
        let mut outbox = Outbox::default();
        let mut messages = Vec::new();
        for number in 1..=100 {
            outbox.push(report(number), Some(u64::from(number)));
            messages.extend(outbox.next_message(BootInstant::default(), 0));
        }
        assert_eq!(messages.len(), limits::REPORT_MESSAGES_IN_FLIGHT_MAX);
        assert!(outbox.acknowledged(1).is_some());
        let rest = outbox.next_message(BootInstant::default(), 0).unwrap();
        assert_eq!(rest.len(), 100 - messages.len());
        assert!(outbox.next_message(BootInstant::default(), 0).is_none());
    }

    #[test]
    fn while_many_pods_begin_messages_keep_a_distance() {
        let mut outbox = Outbox::default();
        let at = |milliseconds| BootInstant(Duration::from_secs(100) + Duration::from_millis(milliseconds));
        assert_eq!(outbox.due_at(50), None);
        // The first after a pause goes at once, however many follow.
        outbox.push(report(1), None);
        assert_eq!(outbox.next_message(at(0), 50).unwrap().len(), 1);
        // One that begins alone waits for nothing.
        outbox.push(report(2), None);
        assert_eq!(outbox.next_message(at(0), 0).unwrap().len(), 1);
        assert!(outbox.acknowledged(1).is_none() && outbox.acknowledged(2).is_none());
        outbox.push(report(3), None);
        assert_eq!(outbox.due_at(3), Some(at(3)));
        assert_eq!(outbox.due_at(usize::MAX), Some(BootInstant(at(0).0 + limits::REPORTS_GATHERED_MAX)));
        assert!(outbox.next_message(at(2), 3).is_none());
        outbox.push(report(4), None);
        assert_eq!(outbox.next_message(at(3), 3).unwrap().len(), 2);
        // A full message has nothing to wait for.
        (0..limits::REPORTS_PER_MESSAGE_MAX).for_each(|_| outbox.push(report(5), None));
        assert_eq!(outbox.next_message(at(3), 50).unwrap().len(), limits::REPORTS_PER_MESSAGE_MAX);
        // Without room there is nothing to wait for but an acknowledgement.
        outbox.push(report(6), None);
        assert_eq!(outbox.due_at(0), None);
    }

    #[test]
    fn at_most_so_many_are_in_flight() {
        let mut outbox = Outbox::default();
        (0..2 * limits::REPORTS_IN_FLIGHT_MAX).for_each(|_| outbox.push(report(1), None));
        let (mut count, mut messages) = (0, 0);
        while let Some(message) = outbox.next_message(BootInstant::default(), 0) {
            assert!(message.len() <= limits::REPORTS_PER_MESSAGE_MAX);
            count += message.len();
            messages += 1;
        }
        assert_eq!(messages, limits::REPORT_MESSAGES_IN_FLIGHT_MAX);
        assert!(count <= limits::REPORTS_IN_FLIGHT_MAX);
    }
}
