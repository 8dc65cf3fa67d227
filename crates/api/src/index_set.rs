//! Sets of completion indexes, kept as runs (job-semantics 1.5, V40).
//!
//! Owns: the set and its text form. Does not own: which index is worked on next (crate `core`).
//!
//! Invariant: runs are ascending and never touch, so that equal sets are equal values and have equal texts.

use std::collections::BTreeMap;
use std::fmt;

/// A set of completion indexes. Its size in memory is that of its gaps, not of its indexes.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexSet {
    /// First → last index of each run.
    runs: BTreeMap<u32, u32>,
    len: u64,
}

/// A text that is not a set of indexes, in Kubernetes' words (V40).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseIndexSetError {
    /// More than two numbers in one interval.
    #[error(
        "the fragment {fragment:?} violates the requirement that an index interval can have at most two parts separated by '-'"
    )]
    Parts {
        /// The interval.
        fragment: String,
    },
    /// Something that is no number.
    #[error("cannot convert string to integer for index: {text:?}")]
    Number {
        /// What should be a number.
        text: String,
    },
    /// An index that the Job does not have.
    #[error("too large index: {text:?}")]
    TooLarge {
        /// The index.
        text: String,
    },
    /// Indexes that do not ascend.
    #[error("non-increasing order, previous: {previous}, current: {current}")]
    Order {
        /// The index before.
        previous: u32,
        /// The index that is not above it.
        current: u32,
    },
}

impl IndexSet {
    /// The empty set.
    pub fn new() -> IndexSet {
        IndexSet::default()
    }

    /// Parses a text such as `1,3-5,7` for a Job of so many completions, as strictly as Kubernetes does where people write
    /// it (V40). An empty text is the empty set.
    ///
    /// # Errors
    /// For the first fragment that is wrong.
    pub fn parse(text: &str, completions: u32) -> Result<IndexSet, ParseIndexSetError> {
        let mut set = IndexSet::new();
        if text.is_empty() {
            return Ok(set);
        }
        let mut previous: Option<u32> = None;
        for fragment in text.split(',') {
            let parts: Vec<&str> = fragment.splitn(3, '-').collect();
            if parts.len() > 2 {
                return Err(ParseIndexSetError::Parts { fragment: fragment.to_owned() });
            }
            let mut run = None;
            for part in parts {
                let current = parse_index(part, completions)?;
                if let Some(previous) = previous.filter(|previous| *previous >= current) {
                    return Err(ParseIndexSetError::Order { previous, current });
                }
                previous = Some(current);
                run = Some((run.map_or(current, |(first, _)| first), current));
            }
            if let Some((first, last)) = run {
                set.insert_run(first, last);
            }
        }
        Ok(set)
    }

    /// Parses what it can of a text: wrong fragments are left out, and so are indexes that the Job does not have (1.5).
    pub fn parse_leniently(text: &str, completions: u32) -> IndexSet {
        let mut set = IndexSet::new();
        let Some(last_valid) = completions.checked_sub(1) else { return set };
        for fragment in text.split(',') {
            let (first, last) = fragment.split_once('-').unwrap_or((fragment, fragment));
            let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else { continue };
            if first <= last && first <= last_valid {
                set.insert_run(first, last.min(last_valid));
            }
        }
        set
    }

    /// How many indexes there are; saturates.
    pub fn len(&self) -> u32 {
        u32::try_from(self.len).unwrap_or(u32::MAX)
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// True if the index is in the set.
    pub fn contains(&self, index: u32) -> bool {
        self.runs.range(..=index).next_back().is_some_and(|(_, last)| *last >= index)
    }

    /// Adds an index; false if it was there.
    pub fn insert(&mut self, index: u32) -> bool {
        let is_new = !self.contains(index);
        if is_new {
            self.insert_run(index, index);
        }
        is_new
    }

    /// Adds all indexes from `first` to `last`, both included; none if `last` is below `first`.
    pub fn insert_run(&mut self, first: u32, last: u32) {
        if last < first {
            return;
        }
        let (mut first, mut last) = (first, last);
        // Every run that overlaps the new one or touches it becomes part of it.
        while let Some((run_first, run_last)) =
            self.runs.range(..=last.saturating_add(1)).next_back().map(|(first, last)| (*first, *last))
            && run_last.saturating_add(1) >= first
        {
            self.runs.remove(&run_first);
            self.len -= count(run_first, run_last);
            first = first.min(run_first);
            last = last.max(run_last);
        }
        self.runs.insert(first, last);
        self.len += count(first, last);
    }

    /// Removes all indexes from `end` on.
    pub fn truncate(&mut self, end: u32) {
        for (first, last) in self.runs.split_off(&end) {
            self.len -= count(first, last);
        }
        if let Some(mut run) = self.runs.last_entry()
            && *run.get() >= end
        {
            self.len -= count(end, *run.get());
            // The run begins below `end`, so `end` is above 0.
            *run.get_mut() = end.saturating_sub(1);
        }
    }

    /// The lowest index that is in both sets.
    pub fn first_common(&self, other: &IndexSet) -> Option<u32> {
        let (mut left, mut right) = (self.runs.iter().peekable(), other.runs.iter().peekable());
        while let (Some((left_first, left_last)), Some((right_first, right_last))) =
            (left.peek(), right.peek())
        {
            if left_last < right_first {
                left.next();
            } else if right_last < left_first {
                right.next();
            } else {
                return Some(**left_first.max(right_first));
            }
        }
        None
    }

    /// The indexes, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.runs.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// The indexes from `from` on that are not in the set, ascending. Skips runs as a whole.
    pub fn absent(&self, from: u32) -> impl Iterator<Item = u32> + '_ {
        let mut next = Some(from);
        std::iter::from_fn(move || {
            let mut index = next?;
            if let Some((_, last)) = self.runs.range(..=index).next_back()
                && *last >= index
            {
                index = last.checked_add(1)?;
            }
            next = index.checked_add(1);
            Some(index)
        })
    }
}

impl FromIterator<u32> for IndexSet {
    fn from_iter<I: IntoIterator<Item = u32>>(indexes: I) -> IndexSet {
        let mut set = IndexSet::new();
        indexes.into_iter().for_each(|index| set.insert_run(index, index));
        set
    }
}

/// Kubernetes' form: `1,3-5,7`; only runs of three or more are written as intervals.
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

fn count(first: u32, last: u32) -> u64 {
    u64::from(last) - u64::from(first) + 1
}

fn parse_index(text: &str, completions: u32) -> Result<u32, ParseIndexSetError> {
    // Rust takes a sign where Kubernetes' texts have none.
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return Err(ParseIndexSetError::Number { text: text.to_owned() });
    }
    let index = text.parse::<u32>().ok().filter(|index| *index < completions);
    index.ok_or_else(|| ParseIndexSetError::TooLarge { text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn set(indexes: &[u32]) -> IndexSet {
        indexes.iter().copied().collect()
    }

    #[test]
    fn texts_are_those_of_kubernetes() {
        for (indexes, text) in [
            (&[][..], ""),
            (&[1, 3, 4, 5, 7], "1,3-5,7"),
            (&[0, 1], "0,1"),
            (&[0, 1, 2], "0-2"),
            (&[5, 3, 1], "1,3,5"),
            (&[u32::MAX - 1, u32::MAX], "4294967294,4294967295"),
        ] {
            assert_eq!(set(indexes).to_string(), text);
        }
    }

    #[test]
    fn v40_wrong_texts_are_refused_in_kubernetes_words() {
        for (text, expected) in [
            (
                "0,1-2-3",
                "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'",
            ),
            ("x", "cannot convert string to integer for index: \"x\""),
            ("1,", "cannot convert string to integer for index: \"\""),
            ("-1", "cannot convert string to integer for index: \"\""),
            ("+1", "cannot convert string to integer for index: \"+1\""),
            ("9", "too large index: \"9\""),
            ("1-9", "too large index: \"9\""),
            ("99999999999999999999", "too large index: \"99999999999999999999\""),
            ("5,3", "non-increasing order, previous: 5, current: 3"),
            ("3-3", "non-increasing order, previous: 3, current: 3"),
            ("1-3,3", "non-increasing order, previous: 3, current: 3"),
        ] {
            assert_eq!(IndexSet::parse(text, 9).unwrap_err().to_string(), expected, "{text}");
        }
        assert_eq!(IndexSet::parse("0,1-3,4,8", 9).unwrap().to_string(), "0-4,8");
        assert!(IndexSet::parse("0", 0).is_err());
    }

    #[test]
    fn damaged_texts_give_what_is_left_of_them() {
        for (text, expected) in [
            ("1,x,3-5", "1,3-5"),
            ("1-2-3,4", "4"),
            ("5-3,7", "7"),
            ("8-4294967295", "8,9"),
            ("10,11", ""),
            ("3,4-5,6", "3-6"),
            (",,", ""),
        ] {
            assert_eq!(IndexSet::parse_leniently(text, 10).to_string(), expected, "{text}");
        }
        assert!(IndexSet::parse_leniently("0-5", 0).is_empty());
    }

    #[test]
    fn the_ends_of_the_range_do_not_overflow() {
        let mut all = IndexSet::new();
        all.insert_run(0, u32::MAX);
        assert_eq!((all.len(), all.contains(u32::MAX)), (u32::MAX, true));
        assert_eq!(all.absent(0).next(), None);
        all.truncate(0);
        assert_eq!(all, IndexSet::new());
        assert_eq!(set(&[u32::MAX]).absent(u32::MAX - 1).collect::<Vec<_>>(), [u32::MAX - 1]);
        let mut set = set(&[u32::MAX]);
        assert!(set.insert(u32::MAX - 1) && !set.insert(u32::MAX));
        assert_eq!(set.len(), 2);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u32),
        InsertRun(u32, u32),
        Truncate(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..60_u32).prop_map(Step::Insert),
            2 => (0..60_u32, 0..60_u32).prop_map(|(first, last)| Step::InsertRun(first, last)),
            1 => (0..60_u32).prop_map(Step::Truncate),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_a_set(steps in prop::collection::vec(step(), 0..40), others in prop::collection::btree_set(0..60_u32, 0..10)) {
            let (mut set, mut model) = (IndexSet::new(), BTreeSet::new());
            for step in steps {
                match step {
                    Step::Insert(index) => prop_assert_eq!(set.insert(index), model.insert(index)),
                    Step::InsertRun(first, last) => {
                        set.insert_run(first, last);
                        model.extend(first..=last);
                    }
                    Step::Truncate(end) => {
                        set.truncate(end);
                        model.retain(|index| *index < end);
                    }
                }
                prop_assert_eq!(set.len() as usize, model.len());
                prop_assert_eq!(set.is_empty(), model.is_empty());
                prop_assert!(set.iter().eq(model.iter().copied()));
                // Equal sets are equal values, however they came to be.
                prop_assert_eq!(&set, &model.iter().copied().collect::<IndexSet>());
            }
            for from in [0, 7, 59, 61] {
                let absent: Vec<u32> = (from..100).filter(|index| !model.contains(index)).take(5).collect();
                prop_assert_eq!(set.absent(from).take(5).collect::<Vec<_>>(), absent);
                prop_assert_eq!(set.contains(from), model.contains(&from));
            }
            let other: IndexSet = others.iter().copied().collect();
            prop_assert_eq!(set.first_common(&other), model.intersection(&others).next().copied());
            let text = set.to_string();
            prop_assert_eq!(IndexSet::parse(&text, 60), Ok(set.clone()));
            prop_assert_eq!(IndexSet::parse_leniently(&text, 60), set);
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in "[0-9,x-]{0,30}", completions in any::<u32>()) {
            let lenient = IndexSet::parse_leniently(&text, completions);
            prop_assert!(lenient.runs.values().all(|last| *last < completions));
            if let Ok(strict) = IndexSet::parse(&text, completions) {
                prop_assert_eq!(strict, lenient);
            }
        }
    }
}
