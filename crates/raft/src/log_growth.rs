//! How large the log is, in bytes: entries can be tiny or hundreds of kilobytes, so their number alone bounds no disk (R15).
//!
//! Owns: the sizes of stretches of the log. Does not own: when a snapshot is made or the log is cut (module `running`), the
//! thresholds (module `node`).

use crate::limits::LOG_GROWTH_MARK_BYTES;
use parking_lot::Mutex;
use std::collections::VecDeque;

/// Sizes of the log, to the nearest [`LOG_GROWTH_MARK_BYTES`] and an entry.
#[derive(Debug, Default)]
pub(crate) struct LogGrowth(Mutex<Marks>);

#[derive(Debug, Default)]
struct Marks {
    /// Bytes of all entries that were ever noted and not truncated.
    total_bytes: u64,
    /// Log index of an entry, and the bytes of all entries up to it; both ascending.
    marks: VecDeque<(u64, u64)>,
}

impl LogGrowth {
    /// Entries are noted in the order of the log.
    pub(crate) fn appended(&self, index: u64, bytes: usize) {
        let mut marks = self.0.lock();
        marks.total_bytes += bytes as u64;
        let marked_bytes = marks.marks.back().map_or(0, |(_, bytes)| *bytes);
        if marks.marks.is_empty() || marks.total_bytes - marked_bytes >= LOG_GROWTH_MARK_BYTES {
            let total_bytes = marks.total_bytes;
            marks.marks.push_back((index, total_bytes));
        }
    }

    /// Entries from this index on are gone; others will take their places.
    pub(crate) fn truncated(&self, from: u64) {
        let mut marks = self.0.lock();
        if marks.marks.back().is_some_and(|(index, _)| *index >= from) {
            while marks.marks.back().is_some_and(|(index, _)| *index >= from) {
                marks.marks.pop_back();
            }
            marks.total_bytes = marks.marks.back().map_or(0, |(_, bytes)| *bytes);
        }
    }

    /// Entries up to this index are gone.
    pub(crate) fn purged(&self, up_to: u64) {
        let mut marks = self.0.lock();
        // The last one at or before it stays: what follows it is measured from there.
        while marks.marks.get(1).is_some_and(|(index, _)| *index <= up_to) {
            marks.marks.pop_front();
        }
    }

    /// Bytes of the entries behind an index; none: of all that were noted.
    pub(crate) fn bytes_behind(&self, index: Option<u64>) -> u64 {
        let marks = self.0.lock();
        let before = marks.marks.iter().rev().find(|(mark, _)| Some(*mark) <= index);
        marks.total_bytes - before.map_or(0, |(_, bytes)| *bytes)
    }

    /// The last index whose entry, with all before it, can go while at least so many bytes stay behind it; none: nothing can.
    pub(crate) fn index_before_last_bytes(&self, bytes: u64) -> Option<u64> {
        let marks = self.0.lock();
        let kept_from = marks.total_bytes.checked_sub(bytes)?;
        marks.marks.iter().rev().find(|(_, up_to)| *up_to <= kept_from).map(|(index, _)| *index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: u64 = LOG_GROWTH_MARK_BYTES;

    /// Entries 0 to 9 of half a mark each.
    fn ten_entries() -> LogGrowth {
        let growth = LogGrowth::default();
        for index in 0..10 {
            growth.appended(index, MARK as usize / 2);
        }
        growth
    }

    #[test]
    fn bytes_are_known_to_the_nearest_mark() {
        let growth = ten_entries();
        assert_eq!(growth.bytes_behind(None), 5 * MARK);
        assert_eq!(growth.bytes_behind(Some(9)), MARK / 2, "the last mark is at entry 8");
        assert_eq!(growth.bytes_behind(Some(4)), 5 * MARK / 2);
        assert_eq!(growth.index_before_last_bytes(MARK), Some(6));
        assert_eq!(growth.index_before_last_bytes(6 * MARK), None);
    }

    #[test]
    fn truncated_entries_do_not_count() {
        let growth = ten_entries();
        growth.truncated(4);
        assert_eq!(growth.bytes_behind(None), 3 * MARK / 2, "up to the mark at entry 2");
        growth.appended(4, 10);
        assert_eq!(growth.bytes_behind(Some(3)), 10);
        growth.truncated(0);
        assert_eq!(growth.bytes_behind(None), 0);
    }

    #[test]
    fn marks_do_not_pile_up() {
        let growth = ten_entries();
        growth.purged(7);
        assert_eq!(growth.0.lock().marks.len(), 2);
        assert_eq!(growth.bytes_behind(Some(7)), 3 * MARK / 2, "what is behind is still known");
    }
}
