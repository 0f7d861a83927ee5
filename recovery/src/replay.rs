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
use base::record::{Record, Records};
use base::{
    Corruption, Defect, Error, FileName, Origin, Position, Result, ScopeId, SpaceId, Tick, Vector,
    planted,
};
use sstable::manifest::{Added, Edit, State};
use std::collections::BTreeMap;
use std::sync::Arc;
use wal::LogScan;

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
    let authors = Segments::of(scan);
    scan.replay(fs, |seqno, end, payload| {
        progress.refuse_if_cancelled()?;
        progress.advance_log(&mut before, end);
        let is_left_out = seqno == scan.last_seqno && planted(Defect::SkipLastReplay);
        if seqno <= flushed || is_left_out {
            return Ok(());
        }
        if checker.check(fs, authors.author_of(end), seqno, end, payload)? == Content::Nothing {
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
    let vectors = checker.vectors();
    let edit = Edit { flushed: Some(last), last_tick: Some(last), vectors, ..Edit::default() };
    apply(state, &edit, fs)?;
    Ok(replayed)
}

/// Who wrote the segments of a log.
pub(crate) struct Segments<'a>(&'a LogScan);

impl<'a> Segments<'a> {
    /// Those of `scan`.
    pub(crate) fn of(scan: &'a LogScan) -> Segments<'a> {
        Segments(scan)
    }

    /// Whose commit it is that ends at `end`.
    pub(crate) fn author_of(&self, end: Position) -> Origin {
        let segments = &self.0.segments;
        let place = segments.partition_point(|facts| facts.number() < end.segment);
        segments.get(place).map(|facts| facts.header.owner.origin).unwrap_or_default()
    }
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
    state: &'a State,
    /// The keyspace that was looked up last.
    known: Option<SpaceId>,
    /// What the commits checked so far bring of each author.
    vectors: BTreeMap<ScopeId, Vector>,
}

impl<'a> Checker<'a> {
    /// Of commits on top of `state`, which stands in `manifest`: its number, and where it ends.
    pub(crate) fn new(state: &'a State, manifest: Position) -> Checker<'a> {
        Checker { manifest, state, known: None, vectors: BTreeMap::new() }
    }

    /// What the commits checked so far bring of each author, as an edit of the manifest has it.
    pub(crate) fn vectors(self) -> Vec<(ScopeId, Vector)> {
        self.vectors.into_iter().collect()
    }

    /// Checks the commit `payload` of `author` that ends at `end`.
    pub(crate) fn check(
        &mut self,
        fs: &dyn Fs,
        author: Origin,
        seqno: Tick,
        end: Position,
        payload: &[u8],
    ) -> Result<Content> {
        let witness = self.try_check(author, seqno, payload).map_err(|rule| {
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
    fn try_check(
        &mut self,
        author: Origin,
        seqno: Tick,
        payload: &[u8],
    ) -> Result<Option<Position>, &'static str> {
        let mut witness = None;
        for record in Records::new(payload) {
            let record = record.map_err(|_| "the records of a commit decode")?;
            if record.seqno != seqno {
                return Err("the records of a commit have its seqno");
            }
            witness = witness.max(record.manifest);
            self.follow(author, &record)?;
            for effect in record.effects() {
                self.check_space(SpaceId::new(record.scope, effect.op.keyspace))?;
            }
        }
        Ok(witness)
    }

    /// Notes whose commits the record brings, and how far.
    fn follow(&mut self, author: Origin, record: &Record<'_>) -> Result<(), &'static str> {
        let (origin, tick) = match &record.remote {
            Some(remote) if self.state.origin(remote.number) == Some(remote.shipment.origin) => {
                (remote.shipment.origin, remote.shipment.last())
            }
            Some(_) => return Err("the author of a shipment has its number in the manifest"),
            None => (author, record.seqno),
        };
        if record.scope.is_replicated() && record.manifest.is_none() {
            self.vectors.entry(record.scope).or_default().raise(origin, tick);
        }
        Ok(())
    }

    fn check_space(&mut self, space: SpaceId) -> Result<(), &'static str> {
        if self.known == Some(space) {
            return Ok(());
        }
        match self.state.keyspaces.get(&space.keyspace()) {
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
