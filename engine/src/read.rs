//! One key through a view.

use crate::origins::Origins;
use crate::value::Value;
use crate::view::View;
use base::foreign::{plain_value, stamp_of};
use base::{EntryKind, Origin, Result, SpaceId, Stamp, Tick, Trailer, key_hash};
use std::cell::Cell;

/// The moment a read is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadPoint {
    /// It sees commits up to this one.
    pub(crate) at: Tick,
    /// What has expired by this wall clock reads as deleted.
    pub(crate) now_ms: u64,
}

/// What a stored entry shows a reader: its value, or nothing if it is deleted or expired.
#[inline]
pub(crate) fn live_value(trailer: Trailer, stored: &[u8], now_ms: u64) -> Option<&[u8]> {
    if trailer.is_plain_put() {
        return Some(stored);
    }
    match trailer.kind()? {
        EntryKind::Put => plain_value(trailer, stored).ok(),
        EntryKind::PutExpiring => {
            let plain = plain_value(trailer, stored).ok()?;
            let (expires_at_ms, value) = plain.split_first_chunk::<8>()?;
            (u64::from_le_bytes(*expires_at_ms) > now_ms).then_some(value)
        }
        _ => None,
    }
}

/// Whether a range delete with the stamp `range` covers an entry. `local` says what "local" means
/// where the entry is stored; it is asked only if the ticks are equal.
#[cold]
pub(crate) fn is_covered(
    range: Stamp,
    trailer: Trailer,
    stored: &[u8],
    local: impl FnOnce() -> Origin,
    origins: &Origins,
) -> bool {
    origins.compare(range, trailer, stored, local).is_gt()
}

/// Who wants to know into how many blocks of tables a read looks, if anybody does.
pub(crate) type Blocks<'a> = Option<&'a Cell<u64>>;

/// Calls `found` with the value of `key` if it has one. `now_ms` is asked only if an entry expires.
#[inline]
pub(crate) fn get<R>(
    view: &View,
    space: SpaceId,
    key: &[u8],
    at: Tick,
    now_ms: impl Fn() -> u64,
    blocks: Blocks<'_>,
    found: impl FnOnce(&[u8]) -> R,
) -> Result<Option<R>> {
    get_entry(view, space, key, at, now_ms, blocks, |_, value| found(value))
}

/// The value of `key` if it has one, and who wrote it when.
pub(crate) fn get_stamped(
    view: &View,
    space: SpaceId,
    key: &[u8],
    at: Tick,
    now_ms: impl Fn() -> u64,
    blocks: Blocks<'_>,
) -> Result<Option<(Value, Stamp)>> {
    get_entry(view, space, key, at, now_ms, blocks, |entry, value| {
        (Value::copy_of(value), stamp_in(view, entry))
    })
}

/// All that is known of the value of a key.
#[derive(Clone, Debug)]
pub(crate) struct Whole {
    pub(crate) value: Value,
    /// Who wrote it when.
    pub(crate) stamp: Stamp,
    /// Until when it lasts; 0 = for ever.
    pub(crate) expires_at_ms: u64,
}

/// As [`get_stamped`], with its expiry.
pub(crate) fn get_whole(
    view: &View,
    space: SpaceId,
    key: &[u8],
    at: Tick,
    now_ms: impl Fn() -> u64,
) -> Result<Option<Whole>> {
    get_entry(view, space, key, at, now_ms, None, |entry, value| {
        let expires_at_ms = expires_at_ms(entry.trailer, entry.stored);
        Whole { value: Value::copy_of(value), stamp: stamp_in(view, entry), expires_at_ms }
    })
}

/// Until when a stored entry lasts; 0 = for ever.
pub(crate) fn expires_at_ms(trailer: Trailer, stored: &[u8]) -> u64 {
    if trailer.kind() != Some(EntryKind::PutExpiring) {
        return 0;
    }
    let expires = plain_value(trailer, stored).ok().and_then(|plain| plain.first_chunk::<8>());
    expires.copied().map_or(0, u64::from_le_bytes)
}

/// Who wrote an entry when.
fn stamp_in(view: &View, entry: &Found<'_>) -> Stamp {
    let local = || entry.local.unwrap_or(view.active.local());
    let stamp = stamp_of(entry.trailer, entry.stored);
    // An entry whose value could be read has a stamp.
    stamp.map(|stamp| view.origins.entry_stamp(stamp, local)).unwrap_or_default()
}

/// As [`get`], with the entry that holds the value.
#[inline]
fn get_entry<R>(
    view: &View,
    space: SpaceId,
    key: &[u8],
    at: Tick,
    now_ms: impl Fn() -> u64,
    blocks: Blocks<'_>,
    found: impl FnOnce(&Found<'_>, &[u8]) -> R,
) -> Result<Option<R>> {
    let covered = match view.has_range_deletes() {
        true => covering(view, space, key, at),
        false => None,
    };
    newest_counted(view, space, key, at, blocks, |entry| {
        let Found { trailer, stored, local } = entry;
        let local = || local.unwrap_or(view.active.local());
        if covered.is_some_and(|range| is_covered(range, trailer, stored, local, &view.origins)) {
            return None;
        }
        let now_ms = if trailer.kind() == Some(EntryKind::PutExpiring) { now_ms() } else { 0 };
        live_value(trailer, stored, now_ms).map(|value| found(&entry, value))
    })
    .map(Option::flatten)
}

/// An entry as it is stored.
#[derive(Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) trailer: Trailer,
    pub(crate) stored: &'a [u8],
    /// What "local" means in its table; none in a memtable, where it is this database.
    pub(crate) local: Option<Origin>,
}

/// Calls `found` with the newest entry of `key` at or below `at`: the sources from newest to oldest,
/// up to the first that has one.
#[inline]
pub(crate) fn newest<R>(
    view: &View,
    space: SpaceId,
    key: &[u8],
    at: Tick,
    found: impl FnOnce(Found<'_>) -> R,
) -> Result<Option<R>> {
    newest_counted(view, space, key, at, None, found)
}

/// As [`newest`], for somebody who counts blocks.
#[inline]
fn newest_counted<R>(
    view: &View,
    space: SpaceId,
    key: &[u8],
    at: Tick,
    blocks: Blocks<'_>,
    found: impl FnOnce(Found<'_>) -> R,
) -> Result<Option<R>> {
    let hash = key_hash(space, key);
    let at = Trailer::at(at);
    if let Some((trailer, stored)) = view.active.get(space, key, hash, at) {
        return Ok(Some(found(Found { trailer, stored, local: None })));
    }
    for memtable in &view.frozen {
        if let Some((trailer, stored)) = memtable.get(space, key, hash, at) {
            return Ok(Some(found(Found { trailer, stored, local: None })));
        }
    }
    newest_in_tables(view, space, key, (hash, at), blocks, found)
}

/// As [`newest`], where memtables are known to hold nothing at or below `at`.
pub(crate) fn newest_flushed<R>(
    view: &View,
    space: SpaceId,
    key: &[u8],
    at: Tick,
    found: impl FnOnce(Found<'_>) -> R,
) -> Result<Option<R>> {
    newest_in_tables(view, space, key, (key_hash(space, key), Trailer::at(at)), None, found)
}

#[inline]
fn newest_in_tables<R>(
    view: &View,
    space: SpaceId,
    key: &[u8],
    (hash, at): (u64, Trailer),
    blocks: Blocks<'_>,
    found: impl FnOnce(Found<'_>) -> R,
) -> Result<Option<R>> {
    let mut found = Some(found);
    for run in view.runs.runs() {
        let Some(handle) = run.table_for(space, key) else { continue };
        let table = handle.table()?;
        if let Some(blocks) = blocks
            && table.may_contain(hash)
        {
            blocks.set(blocks.get() + 1);
        }
        let result = table.get(space, key, hash, at, |trailer, stored, _| {
            let local = Some(table.local());
            found.take().map(|found| found(Found { trailer, stored, local }))
        });
        if let Some(result) = result.inspect_err(|error| handle.note(error))? {
            return Ok(result);
        }
    }
    Ok(None)
}

/// The greatest stamp of the range deletes anywhere in the view that cover `key` as of `at`.
#[cold]
pub(crate) fn covering(view: &View, space: SpaceId, key: &[u8], at: Tick) -> Option<Stamp> {
    let memtables = std::iter::once(&view.active).chain(&view.frozen);
    memtables
        .filter(|memtable| memtable.has_range_deletes())
        .filter_map(|memtable| memtable.range_deletes().covering(space, key, at))
        .chain(view.table_ranges.covering(space, key, at))
        .max()
}
