//! What a data folder holds when it is opened, and whether that can be true.
//!
//! Owns: the checks of decision 12: an unbroken chain of log records, and last log ≥ committed, applied and purged.
//! Does not own: a torn tail, which the engine drops, and the rows' contents.
//!
//! Invariant: damage is refused, never mended: a server that forgets what it promised endangers the others.

use crate::codec::{self, Applied};
use crate::engine::{Engine, Table, View};
use crate::error::CodecError;
use crate::log_growth::LogGrowth;
use crate::log_thread::{SECOND_ROW_SET, StartPosition, entry_bytes, meta_key};
use crate::types::{LogId, Vote, term_of};
use std::ops::{Bound, ControlFlow};
use stint_api::ClusterId;

/// What was found, all of it checked.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    /// The last entry that is in the log.
    pub(crate) last: Option<LogId>,
    pub(crate) applied: Applied,
    pub(crate) growth: LogGrowth,
    pub(crate) start: StartPosition,
}

/// Reads and checks everything but the rows. The error says what is wrong, for [`crate::error::Error::Damaged`].
pub(crate) fn recover(engine: &dyn Engine, cluster_id: Option<ClusterId>) -> Result<Recovered, String> {
    let mut result = Err("nothing was read".to_owned());
    engine
        .with_view(&mut |view| result = recover_view(view, cluster_id))
        .map_err(|error| error.to_string())?;
    result
}

/// The row set in use and the position of its rows, as of a view.
pub(crate) fn read_applied(view: &dyn View) -> Result<(Table, Applied), String> {
    let row_set = match meta(view, meta_key::ROW_SET)? {
        Some(bytes) if bytes.as_ref() == SECOND_ROW_SET => Table::RowsB,
        Some(_) | None => Table::RowsA,
    };
    let applied = decode_meta(view, meta_key::APPLIED, codec::decode_applied)?.unwrap_or_default();
    Ok((row_set, applied))
}

fn recover_view(view: &dyn View, cluster_id: Option<ClusterId>) -> Result<Recovered, String> {
    let vote = decode_meta(view, meta_key::VOTE, codec::decode_vote)?;
    let committed = decode_meta(view, meta_key::COMMITTED, codec::decode_log_id)?;
    let purged = decode_meta(view, meta_key::PURGED, codec::decode_log_id)?;
    let (row_set, applied) = read_applied(view)?;
    let mut log = LogCheck {
        cluster_id,
        purged,
        committed,
        applied: applied.log_id,
        last: None,
        growth: LogGrowth::default(),
        damage: None,
    };
    view.scan(Table::Log, Bound::Unbounded, Bound::Unbounded, &mut |key, value| log.visit(key, value))
        .map_err(|error| error.to_string())?;
    if let Some(damage) = log.damage {
        return Err(damage);
    }
    let last = log.last.map(|(log_id, _)| log_id);
    let log_end = last.max(purged);
    for (name, position) in [("committed", committed), ("applied", applied.log_id)] {
        if position > log_end {
            return Err(format!(
                "the log ends with {}, but {} was recorded as {name}: entries that this server once acknowledged are gone",
                show(log_end),
                show(position),
            ));
        }
    }
    if purged > applied.log_id {
        return Err(format!(
            "entries up to {} were purged, but the rows are those of {}: rows are gone",
            show(purged),
            show(applied.log_id),
        ));
    }
    if let (Some(vote), Some(last)) = (&vote, log_end)
        && vote.leader_id.term < term_of(&last)
    {
        return Err(format!(
            "the vote is of term {}, but the log has an entry of term {}: the vote is gone",
            vote.leader_id.term,
            term_of(&last),
        ));
    }
    if vote.is_none() && log_end.is_some_and(|last| term_of(&last) > 0) {
        return Err("there are log entries, but no vote: the vote is gone".to_owned());
    }
    Ok(Recovered {
        vote,
        committed,
        purged,
        last,
        start: StartPosition {
            last_record: log.last.map(|(log_id, checksum)| (log_id.index(), checksum)),
            purged_index: purged.map(|log_id| log_id.index()),
            applied_index: applied.log_id.map(|log_id| log_id.index()),
            row_set,
        },
        applied,
        growth: log.growth,
    })
}

/// Walks along the log, record by record.
struct LogCheck {
    cluster_id: Option<ClusterId>,
    purged: Option<LogId>,
    committed: Option<LogId>,
    applied: Option<LogId>,
    last: Option<(LogId, u32)>,
    growth: LogGrowth,
    damage: Option<String>,
}

impl LogCheck {
    fn visit(&mut self, key: &[u8], value: bytes::Bytes) -> ControlFlow<()> {
        match self.check(key, value) {
            Ok(next) => {
                self.last = Some(next);
                ControlFlow::Continue(())
            }
            Err(damage) => {
                self.damage = Some(damage);
                ControlFlow::Break(())
            }
        }
    }

    fn check(&self, key: &[u8], value: bytes::Bytes) -> Result<(LogId, u32), String> {
        let key: [u8; 8] = key.try_into().map_err(|_| "the log has a key that is not an index".to_owned())?;
        let index = u64::from_be_bytes(key);
        let expected = match (self.last, self.purged) {
            (Some((last, _)), _) => last.index() + 1,
            (None, Some(purged)) => purged.index() + 1,
            (None, None) => 0,
        };
        if index != expected {
            return Err(format!("the log has a gap: entry {expected} is missing, entry {index} is there"));
        }
        let record =
            codec::check_record(index, value).map_err(|error| format!("log entry {index}: {error}"))?;
        if let Some((last, checksum)) = self.last {
            if record.previous_checksum != checksum {
                return Err(format!(
                    "log entry {index} does not follow entry {}: one of them was exchanged",
                    last.index()
                ));
            }
            if term_of(&record.entry.log_id) < term_of(&last) {
                return Err(format!("log entry {index} is of an earlier term than the entry before it"));
            }
        }
        if let (Some(found), Some(expected)) = (record.cluster_id, self.cluster_id)
            && found != expected
        {
            return Err(format!("log entry {index} is of cluster {found}, the folder of cluster {expected}"));
        }
        for (name, position) in [("committed", self.committed), ("applied", self.applied)] {
            if let Some(position) = position
                && position.index() == index
                && position != record.entry.log_id
            {
                return Err(format!(
                    "the log has {} where {} was recorded as {name}",
                    record.entry.log_id, position
                ));
            }
        }
        self.growth.appended(index, entry_bytes(&record.entry));
        Ok((record.entry.log_id, record.checksum))
    }
}

fn meta(view: &dyn View, key: &[u8]) -> Result<Option<bytes::Bytes>, String> {
    view.get(Table::Meta, key).map_err(|error| error.to_string())
}

fn decode_meta<T>(
    view: &dyn View,
    key: &[u8],
    decode: impl FnOnce(bytes::Bytes) -> Result<T, CodecError>,
) -> Result<Option<T>, String> {
    meta(view, key)?.map(decode).transpose().map_err(|error| error.to_string())
}

fn show(log_id: Option<LogId>) -> String {
    log_id.map_or_else(
        || "nothing".to_owned(),
        |log_id| format!("entry {} of term {}", log_id.index(), term_of(&log_id)),
    )
}
