//! Stage 10: what is only in the log goes to tables.
//!
//! Recovery trusts no page of a log whose last sync may have failed: it writes all of it anew, so
//! that the old log is not needed once the root counts.
//!
//! Invariants:
//! - A commit is checked whole before any of it is handed on.
//! - Commits that tables hold already are skipped.

use crate::log::LogPlan;
use crate::plan::{FlushTarget, ReplaySink};
use crate::progress::Progress;
use base::fs::{Fs, full_path};
use base::record::Records;
use base::{Defect, Error, FileName, KeyspaceId, Position, Result, SpaceId, Tick, planted};
use sstable::manifest::{Added, Edit, KeyspaceRecord, State};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a replay made.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) commits: u64,
    pub(crate) tables: usize,
}

/// Replays `log` on top of `state` and adds the tables it makes.
pub(crate) fn replay(
    fs: &dyn Fs,
    log: &LogPlan,
    state: &mut State,
    sink: &mut dyn ReplaySink,
    target: &FlushTarget,
    memory_bytes: u64,
    progress: &Progress,
) -> Result<Replayed> {
    let LogPlan::Scanned(scan) = log else { return Ok(Replayed::default()) };
    progress.expect(scan.bytes);
    let mut replayed = Replayed::default();
    let flushed = state.flushed;
    let before_replay = state.clone();
    let mut checker = Checker::new(&before_replay);
    let mut before = Position::ZERO;
    scan.replay(fs, |seqno, end, payload| {
        progress.refuse_if_cancelled()?;
        let start = if before.segment == end.segment { before.offset } else { 0 };
        progress.advance(end.offset.saturating_sub(start));
        before = end;
        let is_left_out = seqno == scan.last_seqno && planted(Defect::SkipLastReplay);
        if seqno <= flushed || is_left_out {
            return Ok(());
        }
        checker.check(fs, seqno, end, payload)?;
        sink.insert(seqno, payload)?;
        replayed.commits += 1;
        if sink.memory() > memory_bytes {
            replayed.tables += flush(state, sink, target)?;
        }
        Ok(())
    })?;
    replayed.tables += flush(state, sink, target)?;
    let last = scan.last_seqno.max(state.flushed);
    let edit = Edit { flushed: Some(last), last_tick: Some(last), ..Edit::default() };
    apply(state, &edit, fs)?;
    Ok(replayed)
}

/// Whether commits are what the engine writes: records that decode, with the seqno of their commit,
/// of keyspaces that exist.
pub(crate) struct Checker<'a> {
    keyspaces: &'a BTreeMap<KeyspaceId, Arc<KeyspaceRecord>>,
    /// The keyspace that was looked up last.
    known: Option<SpaceId>,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(state: &'a State) -> Checker<'a> {
        Checker { keyspaces: &state.keyspaces, known: None }
    }

    /// Checks the commit `payload` that ends at `end`.
    pub(crate) fn check(
        &mut self,
        fs: &dyn Fs,
        seqno: Tick,
        end: Position,
        payload: &[u8],
    ) -> Result<()> {
        self.try_check(seqno, payload).map_err(|rule| {
            let path = full_path(fs, &FileName::Segment(end.segment).path());
            Error::ReplayInvariant { path, offset: end.offset, rule }
        })
    }

    fn try_check(&mut self, seqno: Tick, payload: &[u8]) -> Result<(), &'static str> {
        for record in Records::new(payload) {
            let record = record.map_err(|_| "the records of a commit decode")?;
            if record.seqno != seqno {
                return Err("the records of a commit have its seqno");
            }
            for op in record.ops {
                self.check_space(SpaceId::new(record.scope, op.keyspace))?;
            }
        }
        Ok(())
    }

    fn check_space(&mut self, space: SpaceId) -> Result<(), &'static str> {
        if self.known == Some(space) {
            return Ok(());
        }
        match self.keyspaces.get(&space.keyspace()) {
            Some(keyspace) if keyspace.space() == space => {
                self.known = Some(space);
                Ok(())
            }
            _ => Err("an op names a keyspace of the manifest"),
        }
    }
}

fn flush(state: &mut State, sink: &mut dyn ReplaySink, target: &FlushTarget) -> Result<usize> {
    let tables = sink.flush(target)?;
    let (order, count) = (state.version.next_order(), tables.len());
    let added = tables.into_iter().map(|meta| Added { order, level: 0, meta: Arc::new(meta) });
    let edit =
        Edit { added: added.collect(), next_table: Some(target.upcoming()), ..Edit::default() };
    apply(state, &edit, target.fs.as_ref())?;
    Ok(count)
}

fn apply(state: &mut State, edit: &Edit, fs: &dyn Fs) -> Result<()> {
    state.apply(edit).map_err(|_| {
        let path = fs.root().to_path_buf();
        Error::CommitFailed { path, rule: "the replayed tables fit the manifest" }
    })
}
