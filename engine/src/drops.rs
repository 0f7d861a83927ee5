//! Drops of keyspaces that replicate.
//!
//! Where nobody replicates, a dropped keyspace is gone at once, with its number. Where others may still send
//! what they wrote before they heard of it, it stays and is hidden: a drop is one commit of a range delete
//! of all it holds, and of a record in the keyspace `esker.keyspaces`, which replicates as all data do.
//! What was written before the drop is hidden by its stamp, wherever and whenever it comes; once every
//! author has confirmed the drop, the range delete may go, and what comes then is late.
//!
//! ```text
//! key        its name
//! value
//!    1    version   1
//!    1    says      1 = it is there, 2 = it was dropped
//! ```
//!
//! A keyspace is there unless its newest record says that it was dropped and nothing in it is newer. So all
//! who have received the same have the same keyspaces, and whoever writes to one again, or opens it to, has
//! created it again for all. Handles from before the drop end on each node as it comes.

use crate::batch::Batch;
use crate::bounds::Bounds;
use crate::creation::is_reserved;
use crate::iter::Iter;
use crate::keyspace::{Keyspace, KeyspaceState};
use crate::options::{SyncMode, WriteOptions};
use crate::parts::Parts;
use crate::replicate::{Answers, open_keyspace};
use crate::space::Weight;
use base::{Error, KeyspaceId, OpKind, Result, ScopeId, Tick};
use sstable::manifest::{Edit, KeyspaceRecord, State};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Where drops are told.
pub(crate) const KEYSPACES: &str = "esker.keyspaces";

const VERSION: u8 = 1;
const IS_THERE: [u8; 2] = [VERSION, 1];
const WAS_DROPPED: [u8; 2] = [VERSION, 2];

/// Drops a keyspace. Durable when this returns.
pub(crate) fn drop_keyspace(parts: &Arc<Parts>, state: &Arc<KeyspaceState>) -> Result<()> {
    let scope = state.space.scope();
    let is_shared = parts.installer.with_state(|state| state.floors.contains_key(&scope));
    if is_shared { drop_everywhere(parts, state) } else { drop_here(parts, state) }
}

/// Drops a keyspace that nobody else knows, and its number with it.
fn drop_here(parts: &Parts, state: &Arc<KeyspaceState>) -> Result<()> {
    let id: KeyspaceId = state.space.keyspace();
    // Under the queue's lock: a commit is either before the drop or refused.
    let dropped = parts.commits.mark(|| state.is_dropped.store(true, Ordering::Release));
    parts.record_then(
        |state| drop_of(state, id, dropped),
        |state| {
            if let Some(record) = state.keyspaces.get(&id) {
                parts.catalog.note(record);
            }
        },
    )?;
    parts.commits.bear_witness(parts.installer.durable(), Tick::ZERO);
    parts.compaction_bell.ring();
    Ok(())
}

fn drop_of(state: &State, id: KeyspaceId, at: Tick) -> Edit {
    let record = state.keyspaces.get(&id).filter(|record| !record.is_dropped());
    let dropped = record.map(|record| KeyspaceRecord { dropped: Some(at), ..(**record).clone() });
    Edit { keyspaces: dropped.into_iter().collect(), last_tick: Some(at), ..Edit::default() }
}

/// Drops a keyspace that others may know, or still write to.
fn drop_everywhere(parts: &Arc<Parts>, state: &Arc<KeyspaceState>) -> Result<()> {
    // What is known to be refused ends no handles.
    parts.commits.check_writable()?;
    parts.probe_if_nobody_does();
    parts.space.admit(Weight::Puts)?;
    let records = records(parts, state.space.scope())?;
    let dropped = || Error::KeyspaceDropped { name: state.name.clone() };
    let fresh = end_handles(parts, state).ok_or_else(dropped)?;
    let mut batch = Batch::new();
    batch.delete_all(&fresh);
    batch.put(&records, &state.name, WAS_DROPPED);
    parts.write(batch, WriteOptions { sync: Some(SyncMode::Sync) })?;
    // Whoever has opened it meanwhile did so before the drop.
    end_handles(parts, &fresh);
    parts.compaction_bell.ring();
    Ok(())
}

/// Ends the handles of a keyspace: a commit is either before that, or refused. Others find the state that is
/// returned in its place; none if it was dropped before.
fn end_handles(parts: &Parts, state: &Arc<KeyspaceState>) -> Option<Arc<KeyspaceState>> {
    let mut fresh = None;
    parts.commits.mark(|| fresh = parts.catalog.renew(state));
    fresh
}

/// Whether the keyspace was dropped, and nothing newer was written to it.
pub(crate) fn is_hidden(parts: &Arc<Parts>, state: &Arc<KeyspaceState>) -> Result<bool> {
    let is_told = || {
        let Some(records) = parts.catalog.find(KEYSPACES) else { return Ok(false) };
        let told = parts.get(&records, state.name.as_bytes(), |value| value == WAS_DROPPED)?;
        Ok::<_, Error>(told == Some(true))
    };
    if !state.space.scope().is_replicated() || is_reserved(&state.name) || !is_told()? {
        return Ok(false);
    }
    match is_empty(parts, state) {
        Err(Error::KeyspaceDropped { .. }) => Ok(true),
        is_empty => is_empty,
    }
}

/// Whether nothing in the keyspace has a value. What a drop hides is walked once: nobody has a handle of a
/// hidden keyspace, so it stays empty until something arrives.
fn is_empty(parts: &Arc<Parts>, state: &Arc<KeyspaceState>) -> Result<bool> {
    if let Some(key) = state.seen.load_full()
        && parts.get(state, &key, |_| ())?.is_some()
    {
        return Ok(false);
    }
    let is_lent = || state.is_lent.load(Ordering::Acquire);
    let (arrivals, last) =
        parts.commits.with_queue(|queue| (state.arrivals.load(Ordering::Acquire), queue.last()));
    if state.empty_at.load(Ordering::Acquire) == arrivals + 1 && !is_lent() {
        return Ok(true);
    }
    // Later ones count as arrivals of their own.
    let sees_all = parts.commits.visible() >= last;
    let mut iter = Iter::new(parts.reader(state, None), Bounds::of(&..));
    if let Some((key, _)) = iter.next().transpose()? {
        state.seen.store(Some(Arc::new(key)));
        return Ok(false);
    }
    if sees_all && !is_lent() {
        state.empty_at.store(arrivals + 1, Ordering::Release);
    }
    Ok(true)
}

/// Tells all that the keyspace is there again, if it is hidden; but a reader tells nobody anything.
pub(crate) fn create_again(parts: &Arc<Parts>, state: &Arc<KeyspaceState>) -> Result<()> {
    let is_reader = parts.admissions.answers(state.space.scope()) == Answers::Reader;
    if parts.is_read_only || is_reader || !is_hidden(parts, state)? {
        return Ok(());
    }
    let mut batch = Batch::new();
    batch.put(&records(parts, state.space.scope())?, &state.name, IS_THERE);
    parts.write(batch, WriteOptions::default()).map(drop)
}

/// Tells in `batch` what is known of the keyspace here, with the stamp of now.
pub(crate) fn tell_again(
    parts: &Arc<Parts>,
    state: &Arc<KeyspaceState>,
    batch: &mut Batch,
) -> Result<()> {
    let told = if is_hidden(parts, state)? { WAS_DROPPED } else { IS_THERE };
    batch.put(&records(parts, state.space.scope())?, &state.name, told);
    Ok(())
}

fn records(parts: &Arc<Parts>, scope: ScopeId) -> Result<Keyspace> {
    let state = open_keyspace(parts, scope, KEYSPACES)?;
    Ok(Keyspace::new(state, parts.clone()))
}

/// Ends the handles of the keyspace `name` if `kind`, an op under that name in `records`, tells its drop.
pub(crate) fn follow(parts: &Parts, records: &KeyspaceState, name: &[u8], kind: &OpKind<'_>) {
    if !matches!(kind, OpKind::Put(value) if **value == WAS_DROPPED) {
        return;
    }
    let state = std::str::from_utf8(name).ok().and_then(|name| parts.catalog.find(name));
    let is_users = |state: &Arc<KeyspaceState>| {
        state.space.scope() == records.space.scope() && !is_reserved(&state.name)
    };
    if let Some(state) = state.filter(is_users) {
        end_handles(parts, &state);
    }
}

/// Ends the handles of all keyspaces that are hidden now: what told so came in bulk. One that nobody has
/// opened has none, and is not walked over for that. One that can not be read now keeps them: what tells why
/// is found by whoever reads it.
pub(crate) fn follow_all(parts: &Arc<Parts>) {
    if parts.catalog.find(KEYSPACES).is_none() {
        return;
    }
    for state in parts.catalog.live() {
        if state.is_lent.load(Ordering::Acquire) && is_hidden(parts, &state).unwrap_or(false) {
            end_handles(parts, &state);
        }
    }
}
