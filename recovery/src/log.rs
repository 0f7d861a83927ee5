//! Stage 9: the log, before anything is replayed.
//!
//! After a clean close every commit is in tables, so the log has nothing to add: it may even be
//! gone. Otherwise the whole log is validated, and where it ends is judged, see [`wal::judge`].

use crate::inventory::Inventory;
use crate::plan::Verify;
use base::frame::Hash;
use base::fs::Fs;
use base::{Origin, Position, Result, Tick};
use sstable::manifest::State;
use wal::{HeaderState, LogScan, SegmentEnd};

/// What the log adds to the tables.
#[derive(Debug)]
pub(crate) enum LogPlan {
    /// The database was closed: nothing. The end is where it was closed, without a hash; none if it
    /// never had a log.
    Closed(Option<SegmentEnd>),
    /// What was validated.
    Scanned(LogScan),
}

impl LogPlan {
    /// Where the log ends, as the next segment names it.
    pub(crate) fn end(&self) -> Option<SegmentEnd> {
        match self {
            LogPlan::Closed(end) => *end,
            LogPlan::Scanned(scan) => scan.end(),
        }
    }

    /// Who wrote the end of the log, if there is anything to replay.
    pub(crate) fn author(&self) -> Option<Origin> {
        match self {
            LogPlan::Closed(_) => None,
            LogPlan::Scanned(scan) => scan.segments.last().map(|facts| facts.header.owner.origin),
        }
    }

    /// Accepted bytes.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            LogPlan::Closed(_) => 0,
            LogPlan::Scanned(scan) => scan.bytes,
        }
    }
}

pub(crate) fn validate(
    fs: &dyn Fs,
    database: [u8; 16],
    generation: u64,
    state: &State,
    inventory: &Inventory,
    level: Verify,
) -> Result<LogPlan> {
    let segments = without_newer(fs, database, generation, inventory)?;
    if let Some(closed) = state.closed
        && state.flushed >= state.last_tick
        && is_untouched(&segments, inventory, closed.log_end, level)
    {
        return Ok(LogPlan::Closed(closed_end(closed.log_end, state.last_tick)));
    }
    wal::scan_log(fs, database, &segments, state.log_start, state.log_end).map(LogPlan::Scanned)
}

fn closed_end(end: Position, last_seqno: Tick) -> Option<SegmentEnd> {
    let Position { segment: number, offset: end } = end;
    (number != 0).then_some(SegmentEnd { number, end, hash: Hash::default(), last_seqno })
}

/// Whether a closed log is gone as a whole, or ends exactly where it was closed.
fn is_untouched(segments: &[u64], inventory: &Inventory, end: Position, level: Verify) -> bool {
    match segments.last() {
        None => true,
        Some(last) => {
            let len = inventory.segments.get(last).copied();
            level == Verify::Quick && *last == end.segment && len == Some(end.offset)
        }
    }
}

/// The segments without those that recoveries left which died: they are of a newer generation, and
/// stage 6 has made sure that they hold no commits. What follows such a one is newer still, even
/// where a crash took its header.
fn without_newer(
    fs: &dyn Fs,
    database: [u8; 16],
    generation: u64,
    inventory: &Inventory,
) -> Result<Vec<u64>> {
    let mut segments = inventory.segment_numbers();
    let mut kept = segments.len();
    for (at, &number) in segments.iter().enumerate().rev() {
        match wal::read_header(fs, number, database)? {
            HeaderState::Good(header) if header.owner.generation > generation => kept = at,
            HeaderState::Good(_) => break,
            _ => {}
        }
    }
    segments.truncate(kept);
    Ok(segments)
}
