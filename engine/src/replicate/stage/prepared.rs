//! What of a delta is written to tables while it comes, so that little is left to do when it is installed.
//!
//! What is here of a key only grows: an entry that loses when it comes loses later too, and one that wins
//! then wins at the delta's place unless its key is written in between. So entries are compared as they
//! come, and winners go into tables that store no seqno and get that of the delta's place, as those of an
//! [`crate::ingest`] do. If a key was written in between, they are read, compared once more and written anew.
//!
//! That is for deltas that only catch up: without range deletes, without puts that may be late, of keyspaces
//! that are here and have no resolver. From the first chunk on that is no such thing all chunks go to the file.

use super::Purpose;
use super::outline::Gist;
use super::present::Present;
use crate::keyspace::KeyspaceState;
use crate::merge::{Merge, RunCursor, Source};
use crate::options::Background;
use crate::output::{Ending, IsFirst, Output};
use crate::parts::Parts;
use crate::replicate::moment::unreadable;
use crate::tables::TableHandle;
use crate::view::View;
use base::foreign::{
    EntryStamp, Erased, NumberedStamp, plain_value, put_dated, put_dated_erase, stamp_of,
};
use base::state::{StateEntry, StateKind};
use base::{
    Corruption, EntryKind, Origin, OriginNumber, Result, ScopeId, SpaceId, Tick, Trailer, Vector,
    key_hash,
};
use sstable::{ReadMode, TableMeta};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Keyspaces of a delta that is prepared, at the most: each has tables of its own.
const KEYSPACES_MAX: usize = 64;
/// Bytes of tables with newer entries that are looked through for keys of the delta, at the most. Beyond
/// them it is written anew.
const NEWER_BYTES_MAX: u64 = 64 << 20;

/// See the module.
pub(super) struct Prepared {
    parts: Arc<Parts>,
    scope: ScopeId,
    /// Who is "local" in the tables.
    own: Origin,
    /// Commits up to this one were here when the first entry was compared.
    since: Option<Tick>,
    spaces: BTreeMap<String, SpaceId>,
    numbers: BTreeMap<Origin, OriginNumber>,
    output: Option<Output<'static>>,
    /// The keyspace of the last entry.
    space: Option<SpaceId>,
    stored: Vec<u8>,
    /// Once there is no output any more.
    tables: Vec<TableMeta>,
}

/// What is the same for all entries of a keyspace that one author wrote.
struct Whose<'c> {
    keyspace: &'c str,
    space: SpaceId,
    carrier: Origin,
    number: OriginNumber,
    /// Up to where all that the author wrote was received here.
    received: Tick,
}

impl Whose<'_> {
    fn has(&self, entry: &StateEntry<'_>) -> bool {
        std::ptr::eq(self.keyspace, entry.keyspace) && self.carrier == entry.carrier().origin
    }
}

impl Prepared {
    /// Nothing yet; none if a delta of `purpose` can not be prepared.
    pub(super) fn begin(parts: &Arc<Parts>, scope: ScopeId, purpose: Purpose) -> Option<Prepared> {
        if purpose != Purpose::CatchUp {
            return None;
        }
        let mut plan = parts.output_plan(parts.options.table_bytes);
        if parts.options.background == Background::On {
            plan.ending = Ending::Apart;
        }
        let own = plan.owner.origin;
        let output = Some(Output::kept(plan, parts.fs.clone(), parts.clone()));
        Some(Prepared {
            parts: parts.clone(),
            scope,
            own,
            since: None,
            spaces: BTreeMap::new(),
            numbers: BTreeMap::new(),
            output,
            space: None,
            stored: Vec::new(),
            tables: Vec::new(),
        })
    }

    /// Takes the entries of a chunk. False if it does not, nor any more of those that follow.
    pub(super) fn take(&mut self, entries: &[StateEntry<'_>], gist: &Gist<'_>) -> Result<bool> {
        if self.output.is_none() {
            return Ok(false);
        }
        let mut present = Present::of(&self.parts, self.scope);
        if !self.may_take(entries, gist, present.vector()) || !self.learn_spaces(gist) {
            self.end()?;
            return Ok(false);
        }
        self.since.get_or_insert(present.at);
        self.learn_authors(gist)?;
        let mut whose: Option<Whose<'_>> = None;
        for entry in entries {
            if !whose.as_ref().is_some_and(|whose| whose.has(entry)) {
                whose = self.whose(entry, &present);
            }
            if let Some(whose) = &whose {
                self.add(entry, whose, &mut present)?;
            }
        }
        Ok(true)
    }

    /// There are no more entries.
    pub(super) fn end(&mut self) -> Result<()> {
        if let Some(output) = self.output.take() {
            self.tables = output.finish()?;
        }
        Ok(())
    }

    fn may_take(&self, entries: &[StateEntry<'_>], gist: &Gist<'_>, known: &Vector) -> bool {
        let scope = &self.scope;
        let (is_whole, dropped) = self.parts.installer.with_state(|state| {
            let dropped = state.dropped_stamps.get(scope).copied();
            (!state.incomplete.contains_key(scope), dropped.unwrap_or(Tick::ZERO))
        });
        let may_be_late = |entry: &StateEntry<'_>| {
            matches!(entry.kind, StateKind::Put(_) | StateKind::PutExpiring { .. })
                && entry.stamp.tick <= dropped
                && !known.covers_stamp(entry.stamp)
        };
        let is_old = gist.oldest_put.is_some_and(|oldest| oldest <= dropped);
        is_whole
            && !gist.has_ranges()
            && self.parts.damage.check().is_ok()
            && !(is_old && entries.iter().any(may_be_late))
    }

    /// Whether all keyspaces of a chunk are here, and not too many.
    fn learn_spaces(&mut self, gist: &Gist<'_>) -> bool {
        for (name, _) in &gist.keyspaces {
            if !self.spaces.contains_key(*name) {
                let is_usable = |state: &Arc<KeyspaceState>| {
                    state.space.scope() == self.scope
                        && self.parts.resolvers.watched(std::iter::once(state)).is_empty()
                };
                let found = self.parts.catalog.find(name).filter(is_usable);
                let Some(state) = found.filter(|_| self.spaces.len() < KEYSPACES_MAX) else {
                    return false;
                };
                self.spaces.insert((*name).to_owned(), state.space);
            }
        }
        true
    }

    /// Every author has a number before an entry names it.
    fn learn_authors(&mut self, gist: &Gist<'_>) -> Result<()> {
        let mut has_more = false;
        for origin in &gist.carriers {
            if !self.numbers.contains_key(origin) {
                self.numbers.insert(*origin, self.parts.number_of_other(*origin)?);
                has_more = true;
            }
        }
        if let Some(output) = self.output.as_mut().filter(|_| has_more) {
            output.set_authors(self.parts.origins.authors());
        }
        Ok(())
    }

    /// What entries of the same keyspace and author have in common. Both were learned.
    fn whose<'c>(&self, entry: &StateEntry<'c>, present: &Present) -> Option<Whose<'c>> {
        let carrier = entry.carrier().origin;
        Some(Whose {
            keyspace: entry.keyspace,
            space: *self.spaces.get(entry.keyspace)?,
            carrier,
            number: *self.numbers.get(&carrier)?,
            received: present.received(carrier),
        })
    }

    /// Writes an entry if it wins.
    fn add(
        &mut self,
        entry: &StateEntry<'_>,
        whose: &Whose<'_>,
        present: &mut Present,
    ) -> Result<()> {
        let space = whose.space;
        if entry.carrier().tick <= whose.received || !present.is_won_by(space, entry)? {
            return Ok(());
        }
        let Some(output) = &mut self.output else { return Ok(()) };
        if self.space.replace(space).is_some_and(|before| before != space) {
            // Keyspaces come by name, tables by number.
            output.next_table()?;
        }
        let kind = encode(entry, whose.number, &mut self.stored);
        output.add(space, entry.key, Trailer::dated(kind), &self.stored, IsFirst::Yes)
    }

    /// The tables as they are at the delta's place, `seqno`.
    pub(super) fn tables_at(&self, seqno: Tick) -> Vec<TableMeta> {
        let raised = |meta: &TableMeta| TableMeta { seqno_override: Some(seqno), ..meta.clone() };
        self.tables.iter().map(raised).collect()
    }

    /// Whether there is anything.
    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The tables are somebody else's.
    pub(super) fn hand_over(&mut self) {
        self.tables.clear();
    }

    /// Whether all that was prepared wins in `view` too, in which all commits are in tables. `tables` are
    /// those that were prepared, `spaces` the keyspaces now.
    pub(super) fn holds(
        &self,
        view: &View,
        tables: &[Arc<TableHandle>],
        is_there: impl Fn(&str, SpaceId) -> bool,
    ) -> Result<bool> {
        let is_same = self.own == self.parts.identity().origin()
            && self.spaces.iter().all(|(name, space)| is_there(name, *space));
        let Some(since) = self.since.filter(|_| is_same) else { return Ok(false) };
        let is_newer = |handle: &&Arc<TableHandle>| {
            handle.meta().scope == self.scope && handle.meta().newest() > since
        };
        let newer: Vec<_> = view.runs.tables().filter(is_newer).collect();
        if newer.iter().any(|handle| handle.meta().range_deletes > 0)
            || newer.iter().map(|handle| handle.meta().len).sum::<u64>() > NEWER_BYTES_MAX
        {
            return Ok(false);
        }
        for handle in newer {
            for space in self.spaces.values() {
                if was_written(handle, *space, since, tables)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Calls `visit` with each entry of the keyspace `name` in `tables`, those that were prepared.
    pub(super) fn each(
        &self,
        view: &View,
        tables: &[Arc<TableHandle>],
        name: &str,
        mut visit: impl FnMut(&StateEntry<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some(space) = self.spaces.get(name) else { return Ok(()) };
        let mut merge = read_all(tables.into(), *space)?;
        while merge.is_valid() {
            let (trailer, stored) = (merge.trailer(), merge.value());
            let of = stamp_of(trailer, stored).map_err(unreadable)?;
            let local = || self.own;
            let stamp = view.origins.entry_stamp(of, local);
            let kind = match (trailer.kind(), of) {
                (_, EntryStamp::Erase(erased)) => {
                    StateKind::Erase { carrier: view.origins.stamp(erased.carrier, local) }
                }
                (Some(EntryKind::Put), _) => {
                    StateKind::Put(plain_value(trailer, stored).map_err(unreadable)?)
                }
                (Some(EntryKind::PutExpiring), _) => {
                    let plain = plain_value(trailer, stored).map_err(unreadable)?;
                    let split = plain.split_first_chunk::<8>();
                    let (at, value) = split.ok_or_else(|| unreadable(Corruption::Truncated))?;
                    StateKind::PutExpiring { expires_at_ms: u64::from_le_bytes(*at), value }
                }
                _ => StateKind::Delete,
            };
            visit(&StateEntry { keyspace: name, key: merge.key(), stamp, kind })?;
            merge.step()?;
        }
        Ok(())
    }
}

impl Drop for Prepared {
    /// What was not handed over is of no use.
    fn drop(&mut self) {
        self.output = None;
        self.tables.iter().for_each(|meta| self.parts.obsolete.discard(&self.parts, meta.id));
    }
}

/// Puts what is stored of `entry` into `stored`, and returns its kind.
fn encode(entry: &StateEntry<'_>, carrier: OriginNumber, stored: &mut Vec<u8>) -> EntryKind {
    stored.clear();
    let tick = entry.carrier().tick;
    let carrier = NumberedStamp { origin: carrier, tick };
    if let StateKind::Erase { .. } = entry.kind {
        put_dated_erase(stored, Erased { victim: entry.stamp, carrier });
        return EntryKind::Erase;
    }
    put_dated(stored, carrier);
    match entry.kind {
        StateKind::Put(value) => {
            stored.extend_from_slice(value);
            EntryKind::Put
        }
        StateKind::PutExpiring { expires_at_ms, value } => {
            stored.extend_from_slice(&expires_at_ms.to_le_bytes());
            stored.extend_from_slice(value);
            EntryKind::PutExpiring
        }
        _ => EntryKind::Delete,
    }
}

/// Whether a key of `tables`, in order, was written after `since` by what is in `newer`.
fn was_written(
    newer: &Arc<TableHandle>,
    space: SpaceId,
    since: Tick,
    tables: &[Arc<TableHandle>],
) -> Result<bool> {
    let mut merge = read_all([newer.clone()].into(), space)?;
    while merge.is_valid() {
        let key = merge.key();
        if merge.trailer().seqno() > since {
            let place = tables.partition_point(|it| {
                let largest = &it.meta().largest;
                (largest.space, &*largest.key) < (space, key)
            });
            let handle = tables.get(place).filter(|it| it.meta().covers(space, key));
            let hash = key_hash(space, key);
            if let Some(handle) = handle
                && handle.table()?.get(space, key, hash, Trailer::MAX, |_, _, _| ())?.is_some()
            {
                return Ok(true);
            }
        }
        merge.step()?;
    }
    Ok(false)
}

/// All entries of `space` in `tables`, which are in order.
fn read_all(tables: Arc<[Arc<TableHandle>]>, space: SpaceId) -> Result<Merge> {
    let cursor = RunCursor::over(tables, space, ReadMode::Bypass);
    let mut merge = Merge::new(vec![Source::Run(cursor)]);
    merge.seek_first()?;
    Ok(merge)
}
