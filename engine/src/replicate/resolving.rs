//! From parked losers to ordinary writes, one transaction each.
//!
//! A resolution is committed only if the key still has what the resolver has seen, and in the same
//! commit the loser is gone: a crash resolves nothing twice. Nobody who writes or admits waits for it.

use super::Answers;
use super::parked::{self, Loser, LostWrite};
use crate::batch::Batch;
use crate::keyspace::{Keyspace, KeyspaceState};
use crate::parts::Parts;
use crate::read::Whole;
use crate::resolver::{Conflict, Parked, Resolution, ResolveError, Resolved, Resolver};
use crate::transaction::Transaction;
use crate::value::Value;
use base::error::FileKind;
use base::limits::check_value;
use base::{Corruption, Error, OpKind, Result, Stamp};
use std::sync::Arc;

/// Heads of losers that are read at once.
const HEADS_MAX: usize = 64;
/// Attempts at one loser while others write its key.
const TRIES_MAX: u32 = 16;

/// How an attempt at a loser ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is gone.
    Gone,
    /// It stays.
    Stays,
    /// Somebody has written the key meanwhile.
    Overtaken,
}

/// Resolves what is parked and can be resolved now, until `should_stop`.
pub(crate) fn resolve_all(parts: &Arc<Parts>, should_stop: &dyn Fn() -> bool) -> Result<Resolved> {
    let mut resolved = Resolved::default();
    let Some(parking) = parking(parts) else { return Ok(resolved) };
    let mut after = Vec::new();
    loop {
        let heads = heads(&parking, &after, HEADS_MAX)?;
        let Some((last, _)) = heads.last() else { return Ok(resolved) };
        after.clear();
        after.extend_from_slice(last);
        let losers = heads.iter().map(|(key, head)| Ok((key, told(key, head)?.stamp)));
        let mut losers: Vec<(&Value, Stamp)> = losers.collect::<Result<_>>()?;
        // Of several writes of one key the newest goes first: where they clash, it stays.
        let what = |key: &[u8]| key.first_chunk::<24>().copied();
        losers.sort_by(|a, b| what(a.0).cmp(&what(b.0)).then(b.1.cmp(&a.1)));
        for (key, _) in losers {
            if should_stop() {
                return Ok(resolved);
            }
            match resolve_one(parts, &parking, key)? {
                Outcome::Gone => resolved.resolved += 1,
                Outcome::Stays | Outcome::Overtaken => resolved.parked += 1,
            }
        }
    }
}

/// At most `limit` losers that are parked.
pub(crate) fn parked_now(parts: &Arc<Parts>, limit: usize) -> Result<Vec<Parked>> {
    let mut all = Vec::new();
    let Some(parking) = parking(parts) else { return Ok(all) };
    for (key, head) in heads(&parking, &[], limit)? {
        let value = value_of(&key, |key| parking.get(key))?;
        let Loser { keyspace, key, stamp, write, .. } = decoded(&key, &head, value.as_deref())?;
        let value = match write {
            LostWrite::Put(..) => value.clone(),
            LostWrite::Delete => None,
        };
        all.push(Parked { keyspace: keyspace.to_owned(), key: key.to_vec(), stamp, value });
    }
    Ok(all)
}

/// The keyspace where losers are parked, if there is one.
fn parking(parts: &Arc<Parts>) -> Option<Keyspace> {
    let state = parts.catalog.find(parked::PARKED)?;
    Some(Keyspace::new(state, parts.clone()))
}

/// The next heads behind the key `after`.
fn heads(parking: &Keyspace, after: &[u8], limit: usize) -> Result<Vec<(Value, Value)>> {
    let mut heads = Vec::new();
    let mut iter = parking.range([after, &[0]].concat()..);
    while heads.len() < limit {
        let Some(entry) = iter.next() else { break };
        let (key, value) = entry?;
        if parked::value_key(&key).is_some() {
            heads.push((key, value));
        }
    }
    Ok(heads)
}

fn value_of(
    head: &[u8],
    get: impl FnOnce(&[u8]) -> Result<Option<Value>>,
) -> Result<Option<Value>> {
    parked::value_key(head).map_or(Ok(None), |key| get(&key))
}

fn decoded<'a>(key: &[u8], head: &'a [u8], value: Option<&'a [u8]>) -> Result<Loser<'a>> {
    parked::decode(key, head, value).map_err(unreadable)
}

/// What a head says without its value.
fn told<'a>(key: &[u8], head: &'a [u8]) -> Result<Loser<'a>> {
    decoded(key, head, Some(&[]))
}

fn unreadable(found: Corruption) -> Error {
    Error::corrupt(FileKind::Table, base::dir::TABLES_DIR, 0, found)
}

fn resolve_one(parts: &Arc<Parts>, parking: &Keyspace, key: &[u8]) -> Result<Outcome> {
    for _ in 0..TRIES_MAX {
        match attempt(parts, parking, key)? {
            Outcome::Overtaken => {}
            done => return Ok(done),
        }
    }
    parts.resolvers.note_due();
    Ok(Outcome::Overtaken)
}

/// Tries once to resolve what is parked under `key`.
fn attempt(parts: &Arc<Parts>, parking: &Keyspace, key: &[u8]) -> Result<Outcome> {
    let mut transaction = Transaction::begin(parts)?;
    let Some(head) = transaction.get(parking, key)? else { return Ok(Outcome::Gone) };
    let value = value_of(key, |key| transaction.get(parking, key))?;
    let loser = decoded(key, &head, value.as_deref())?;
    let mut batch = Batch::new();
    batch.delete(parking, key);
    if let Some(key) = parked::value_key(key).filter(|_| value.is_some()) {
        batch.delete(parking, key);
    }
    let Some(state) = parts.catalog.of_space(loser.space) else {
        return commit(parts, transaction, batch); // The keyspace was dropped.
    };
    let may_write = parts.admissions.answers(loser.space.scope()) == Answers::Author;
    let Some(resolver) = parts.resolvers.of(&state.name).filter(|_| may_write) else {
        return Ok(Outcome::Stays);
    };
    if parts.resolvers.is_set_aside(key, loser.stamp) {
        return Ok(Outcome::Stays);
    }
    if transaction.covering(&state, loser.key) > Some(loser.stamp) {
        return commit(parts, transaction, batch); // A range delete has come that is newer.
    }
    let winner = transaction.whole(&state, loser.key)?;
    let now_ms = parts.clock.wall_ms();
    let decided = ask(&*resolver, &loser, winner.as_ref(), now_ms);
    let resolution = match decided.and_then(checked) {
        Ok(resolution) => resolution,
        Err(error) => {
            let keyspace = &*state.name;
            tracing::warn!(target: "esker::engine", keyspace, code = "Conflict", %error, "a resolver failed; the conflict stays parked");
            parts.resolvers.set_aside(key, loser.stamp);
            return Ok(Outcome::Stays);
        }
    };
    let state = Keyspace::new(state, parts.clone());
    write(&mut batch, state.state(), loser.key, winner.as_ref(), &resolution);
    let outcome = commit(parts, transaction, batch)?;
    if outcome == Outcome::Gone {
        parts.resolvers.note_resolved();
    }
    Ok(outcome)
}

/// What the resolver says; a panic is a failure.
fn ask(
    resolver: &dyn Resolver,
    loser: &Loser<'_>,
    winner: Option<&Whole>,
    now_ms: u64,
) -> Result<Resolution, ResolveError> {
    let conflict = Conflict {
        keyspace: loser.keyspace,
        key: loser.key,
        winner: winner.map(|winner| &*winner.value),
        winner_stamp: winner.map(|winner| winner.stamp),
        loser: match loser.write {
            LostWrite::Put(value, until) if until == 0 || until > now_ms => Some(value),
            LostWrite::Put(..) | LostWrite::Delete => None,
        },
        loser_stamp: loser.stamp,
    };
    let asked = base::panics::catch(|| resolver.resolve(&conflict));
    asked.unwrap_or_else(|caught| Err(format!("it {caught}").into()))
}

fn checked(resolution: Resolution) -> Result<Resolution, ResolveError> {
    if let Resolution::Put(value) = &resolution {
        check_value(value)?;
    }
    Ok(resolution)
}

/// Adds what `resolution` makes of the key, unless it is so already.
fn write(
    batch: &mut Batch,
    state: &Arc<KeyspaceState>,
    key: &[u8],
    winner: Option<&Whole>,
    resolution: &Resolution,
) {
    let is_new = |value: &[u8]| winner.is_none_or(|winner| *winner.value != *value);
    match (resolution, winner.map_or(0, |winner| winner.expires_at_ms)) {
        (Resolution::Put(value), 0) if is_new(value) => {
            batch.push(state, key, OpKind::Put(value));
        }
        (Resolution::Put(value), expires_at_ms) if is_new(value) => {
            batch.push(state, key, OpKind::PutExpiring { expires_at_ms, value });
        }
        (Resolution::Delete, _) if winner.is_some() => batch.push(state, key, OpKind::Delete),
        _ => {}
    }
}

fn commit(parts: &Parts, transaction: Transaction, batch: Batch) -> Result<Outcome> {
    match transaction.commit_batch(batch) {
        Ok(_) => Ok(Outcome::Gone),
        Err(Error::Conflict) => Ok(Outcome::Overtaken),
        // Neither lasts; nobody waits for it meanwhile.
        Err(Error::ScopeClosed | Error::KeyspaceDropped { .. }) => {
            parts.resolvers.note_later();
            Ok(Outcome::Stays)
        }
        Err(error) => Err(error),
    }
}
