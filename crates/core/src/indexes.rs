//! Sets of completion indexes as ranges.

use std::collections::BTreeMap;
use std::fmt;

/// A set of completion indexes, as runs: first → last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IndexSet {
    runs: BTreeMap<u32, u32>,
    len: u32,
}

#[derive(Debug)]
pub(crate) struct ParseIndexSetError;

impl IndexSet {
    pub(crate) fn new() -> IndexSet {
        IndexSet::default()
    }

    pub(crate) fn parse(text: &str) -> Result<IndexSet, ParseIndexSetError> {
        let mut set = IndexSet::new();
        for fragment in text.split(',').filter(|fragment| !fragment.is_empty()) {
            let (first, last) = fragment.split_once('-').unwrap_or((fragment, fragment));
            let first: u32 = first.parse().map_err(|_| ParseIndexSetError)?;
            let last: u32 = last.parse().map_err(|_| ParseIndexSetError)?;
            if first > last {
                return Err(ParseIndexSetError);
            }
            // Runs of the canonical text never touch, so that this loop is as long as the set only for foreign text.
            for index in first..=last {
                set.insert(index);
            }
        }
        Ok(set)
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn contains(&self, index: u32) -> bool {
        self.runs.range(..=index).next_back().is_some_and(|(_, last)| *last >= index)
    }

    pub(crate) fn insert(&mut self, index: u32) -> bool {
        if self.contains(index) {
            return false;
        }
        let before = self.runs.range(..index).next_back().map(|(first, last)| (*first, *last));
        let mut first = index;
        let mut last = index;
        if let Some((run_first, run_last)) = before
            && run_last.checked_add(1) == Some(index)
        {
            first = run_first;
        }
        if let Some(next) = index.checked_add(1)
            && let Some(run_last) = self.runs.remove(&next)
        {
            last = run_last;
        }
        self.runs.insert(first, last);
        self.len += 1;
        true
    }

    /// Removes all indexes from `end` on.
    pub(crate) fn truncate(&mut self, end: u32) {
        let dropped = self.runs.split_off(&end);
        for (first, last) in dropped {
            self.len -= last - first + 1;
        }
        if let Some((first, last)) = self.runs.last_key_value().map(|(first, last)| (*first, *last))
            && last >= end
        {
            self.len -= last - end + 1;
            self.runs.insert(first, end - 1);
        }
    }
}

impl fmt::Display for IndexSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (first, last) in &self.runs {
            match last - first {
                0 => write!(formatter, "{separator}{first}")?,
                1 => write!(formatter, "{separator}{first},{last}")?,
                _ => write!(formatter, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}
