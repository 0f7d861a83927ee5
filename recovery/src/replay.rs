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
use base::error::FileKind;
use base::fs::{Fs, full_path};
use base::record::Records;
use base::{
    Corruption, Defect, Error, FileName, KeyspaceId, Position, Result, SpaceId, Tick, planted,
};
use sstable::manifest::{Added, Edit, KeyspaceRecord, State};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a replay made.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) commits: u64,
    pub(crate) tables: usize,
}

/// A manifest that no log contradicts: for those who have settled that before.
pub(crate) const ANY_MANIFEST: Position = Position { segment: u64::MAX, offset: u64::MAX };

/// What is replayed, and the manifest that it goes on top of.
pub(crate) struct Source<'a> {
    pub(crate) log: &'a LogPlan,
    /// Its number as the segment, and where it ends.
    pub(crate) manifest: Position,
}

/// The furthest that any commit in `segments` says the manifest was durable, as far as they can be
/// read.
pub(crate) fn witnessed(fs: &dyn Fs, segments: &[u64], database: [u8; 16]) -> Result<Position> {
    let mut furthest = Position::ZERO;
    for &number in segments {
        let Ok(mut reader) = wal::read_segment(fs, number, database, None) else { continue };
        while let Some(commit) = reader.next()? {
            let records = Records::new(commit.payload).map_while(Result::ok);
            furthest = records.filter_map(|record| record.manifest).fold(furthest, Position::max);
        }
    }
    Ok(furthest)
}

/// Replays `source` on top of `state` and adds the tables it makes.
pub(crate) fn replay(
    fs: &dyn Fs,
    source: &Source<'_>,
    state: &mut State,
    sink: &mut dyn ReplaySink,
    target: &FlushTarget,
    memory_bytes: u64,
    progress: &Progress,
) -> Result<Replayed> {
    let LogPlan::Scanned(scan) = source.log else { return Ok(Replayed::default()) };
    progress.expect(scan.bytes);
    sink.begin(target.owner.origin);
    let mut replayed = Replayed::default();
    let flushed = state.flushed;
    let before_replay = state.clone();
    let mut checker = Checker::new(&before_replay, source.manifest);
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
        if checker.check(fs, seqno, end, payload)? == Content::Nothing {
            return Ok(());
        }
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

/// What a commit leaves to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// It has writes.
    Writes,
    /// It only bears witness.
    Nothing,
}

/// Whether commits are what the engine writes: records that decode, with the seqno of their commit,
/// of keyspaces that exist, on top of a manifest that reaches as far as the log says.
pub(crate) struct Checker<'a> {
    manifest: Position,
    keyspaces: &'a BTreeMap<KeyspaceId, Arc<KeyspaceRecord>>,
    /// The keyspace that was looked up last.
    known: Option<SpaceId>,
}

impl<'a> Checker<'a> {
    /// Of commits on top of `state`, which stands in `manifest`: its number, and where it ends.
    pub(crate) fn new(state: &'a State, manifest: Position) -> Checker<'a> {
        Checker { manifest, keyspaces: &state.keyspaces, known: None }
    }

    /// Checks the commit `payload` that ends at `end`.
    pub(crate) fn check(
        &mut self,
        fs: &dyn Fs,
        seqno: Tick,
        end: Position,
        payload: &[u8],
    ) -> Result<Content> {
        let witness = self.try_check(seqno, payload).map_err(|rule| {
            let path = full_path(fs, &FileName::Segment(end.segment).path());
            Error::ReplayInvariant { path, offset: end.offset, rule }
        })?;
        let Some(durable) = witness else { return Ok(Content::Writes) };
        if durable <= self.manifest {
            return Ok(Content::Nothing);
        }
        let path = full_path(fs, &FileName::Manifest(self.manifest.segment).path());
        let found = Corruption::MissingPromised;
        Err(Error::corrupt(FileKind::Manifest, path, self.manifest.offset, found))
    }

    /// What the commit says was durable of the manifest, if it is there for that.
    fn try_check(&mut self, seqno: Tick, payload: &[u8]) -> Result<Option<Position>, &'static str> {
        let mut witness = None;
        for record in Records::new(payload) {
            let record = record.map_err(|_| "the records of a commit decode")?;
            if record.seqno != seqno {
                return Err("the records of a commit have its seqno");
            }
            witness = witness.max(record.manifest);
            for op in record.ops {
                self.check_space(SpaceId::new(record.scope, op.keyspace))?;
            }
        }
        Ok(witness)
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
