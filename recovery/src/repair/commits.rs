//! The part of the log that a repair replays, and the keyspaces it speaks of.

use super::facts::{Catalog, Facts};
use super::report::Loss;
use crate::log::LogPlan;
use crate::replay::{ANY_MANIFEST, Checker};
use base::fs::{Fs, full_path};
use base::record::Records;
use base::{FileName, Origin, Position, Result, SpaceId, Tick};
use sstable::manifest::{Edit, KeyspaceRecord, KeyspaceSettings, State};
use std::collections::BTreeSet;
use wal::{LogSalvage, LogScan};

/// Bits of filter for a keyspace whose settings are lost.
const FILTER_BITS: u8 = 10;

/// What to replay.
pub(super) struct Commits {
    pub(super) plan: LogPlan,
    /// No tick up to it may be used again.
    pub(super) last: Tick,
    pub(super) losses: Vec<Loss>,
}

/// Decides which commits of the log are replayed on top of `state`. Keyspaces that commits speak of
/// are added to `state` if the manifest is damaged, and are a broken rule if it is whole.
pub(super) fn choose(fs: &dyn Fs, facts: &Facts, state: &mut State) -> Result<Commits> {
    let nothing = Commits { plan: LogPlan::Closed(None), last: Tick::ZERO, losses: Vec::new() };
    let Catalog { lost, .. } = &facts.catalog;
    let segments = facts.inventory.segment_numbers();
    let is_in_tables = state.closed.is_some() && state.flushed >= state.last_tick;
    let first = match lost {
        None if is_in_tables => return Ok(nothing),
        None => state.log_start,
        // The edit that moved the start may be among those lost.
        Some(_) => match segments.iter().copied().filter(|it| *it >= state.log_start).min() {
            Some(first) => first,
            None => return Ok(nothing),
        },
    };
    let promise = match lost {
        Some(_) if state.log_end.segment < first => Position::ZERO,
        _ => state.log_end,
    };
    let (database, flushed) = (facts.database, state.flushed);
    let LogSalvage { scan, cut } =
        wal::salvage_log(fs, database, &segments, first, promise, flushed)?;
    if lost.is_some() {
        add_keyspaces(state, spaces_of(fs, &scan)?);
        add_authors(fs, &scan, state)?;
    }
    let mut checker = Checker::new(state, ANY_MANIFEST);
    // Whose commits they are is looked at when they are replayed.
    let check = |seqno, end, payload: &[u8]| match seqno > flushed {
        true => checker.check(fs, Origin::default(), seqno, end, payload).map(drop),
        false => Ok(()),
    };
    let LogSalvage { scan, cut: broken } = wal::cut_where(fs, scan, flushed, check)?;
    let mut commits = Commits { last: scan.last_seqno, ..nothing };
    for cut in [broken, cut].into_iter().flatten() {
        commits.last = commits.last.max(cut.later.last);
        commits.losses.push(Loss::Commits {
            file: full_path(fs, &FileName::Segment(cut.at.segment).path()),
            offset: cut.at.offset,
            later: cut.later.count,
            first: cut.later.first,
            last: cut.later.last,
        });
    }
    commits.plan = LogPlan::Scanned(scan);
    Ok(commits)
}

/// The keyspaces that commits of `scan` speak of, as far as they decode.
fn spaces_of(fs: &dyn Fs, scan: &LogScan) -> Result<BTreeSet<SpaceId>> {
    let mut spaces = BTreeSet::new();
    scan.replay(fs, |_, _, payload| {
        for record in Records::new(payload).map_while(Result::ok) {
            let effects = record.effects();
            spaces.extend(effects.map(|it| SpaceId::new(record.scope, it.op.keyspace)));
        }
        Ok(())
    })?;
    Ok(spaces)
}

/// Adds the authors that shipments of `scan` name and `state` does not know, as far as their numbers lead
/// on.
fn add_authors(fs: &dyn Fs, scan: &LogScan, state: &mut State) -> Result<()> {
    scan.replay(fs, |_, _, payload| {
        let records = Records::new(payload).map_while(Result::ok);
        for author in records.filter_map(|record| record.remote.map(|remote| remote.author())) {
            if state.next_origin() == Some(author.number) {
                let origins = vec![(author.number, author.origin)];
                // An author who is known under another number contradicts the list: it is left out.
                let _ = state.apply(&Edit { origins, ..Edit::default() });
            }
        }
        Ok(())
    })
}

/// Adds a keyspace for each of `spaces` that `state` does not know, under a name that says so.
pub(super) fn add_keyspaces(state: &mut State, spaces: BTreeSet<SpaceId>) {
    for space in spaces {
        let (scope, id) = (space.scope(), space.keyspace());
        if state.keyspaces.contains_key(&id) {
            continue;
        }
        let mut name = format!("recovered-{}-{}", scope.0, id.0);
        while state.keyspaces.values().any(|keyspace| keyspace.name == name) {
            name.push('+');
        }
        let settings = KeyspaceSettings { filter_bits: FILTER_BITS, ..KeyspaceSettings::default() };
        let (created, dropped) = (Tick::ZERO, None);
        let record = KeyspaceRecord { id, scope, name, created, dropped, settings };
        // A keyspace of a new number contradicts nothing.
        let _ = state.apply(&Edit { keyspaces: vec![record], ..Edit::default() });
    }
}
