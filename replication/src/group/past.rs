//! What this node certainly did not write, so that it finds out that it has forgotten something.
//!
//! A directory that was put back from a copy goes on where the copy ends, in the same life. What its
//! peers have of it behind that was written by this node, and is not here. As long as nothing was
//! written since, that shows: they have more than there is. Once something was, their last commit of
//! this node lies in a gap: between its last commit before a start and the moment of that start it
//! wrote nothing. Then there are two histories of one life, a fork: nothing is exchanged with anybody
//! until an operator begins another life.
//!
//! Kept in the keyspace `esker.node`:
//!
//! ```text
//! key        "gaps"
//! size       field
//!    1       version      1
//!    8       incarnation  whose gaps they are
//!    v       gaps         how many, at most 64, newest last
//!   per gap:
//!    8         last       the last commit before it; 0 = there was none
//!    8         until      the moment of the start
//!
//! key        "fork"
//! size       field
//!    1       version      1
//!    8       incarnation  the life that has two histories
//!    8       at           the last commit that both have
//! ```

use super::{Group, State};
use crate::error::ProtocolError;
use crate::store::{Store, keyspaces};
use base::codec::{Decoded, Reader, put_varint};
use base::{Corruption, Incarnation, NodeId, Origin, Result, ScopeId, Tick, Vector};

const VERSION: u8 = 1;
const GAPS_KEY: &[u8] = b"gaps";
const FORK_KEY: &[u8] = b"fork";
/// Gaps that are remembered. A peer that has not met this node since an older one is not noticed.
const GAPS_MAX: usize = 64;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Past {
    life: Incarnation,
    gaps: Vec<Gap>,
    fork: Option<Fork>,
}

/// Behind `last`, nothing up to and including `until` was written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gap {
    last: Tick,
    until: Tick,
}

/// A life with two histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fork {
    life: Incarnation,
    at: Tick,
}

/// Notes that the database was opened, if it was ever used by replicas: whoever writes to it afterwards
/// goes on behind what is here now.
///
/// # Errors
/// Those of a write.
pub fn note_open(store: &dyn Store) -> Result<()> {
    if store.entries(keyspaces::NODE)?.is_empty() {
        return Ok(());
    }
    Past::begin(store, ScopeId::MAIN).map(drop)
}

impl Past {
    /// What `store` remembers, and the gap that ends now.
    pub(super) fn begin(store: &dyn Store, scope: ScopeId) -> Result<Past> {
        let own = store.origin();
        let mut past = Past { life: own.incarnation, ..Past::default() };
        if let Some(bytes) = store.get(keyspaces::NODE, GAPS_KEY)? {
            match decode_gaps(&bytes) {
                Ok((life, gaps)) if life == own.incarnation => past.gaps = gaps,
                Ok(_) => {}
                Err(found) => {
                    tracing::warn!(code = "Malformed", %found, "what is known of earlier starts is damaged")
                }
            }
        }
        if let Some(bytes) = store.get(keyspaces::NODE, FORK_KEY)? {
            past.fork = decode_fork(&bytes).ok();
        }
        if let Err(error) = past.end_gap(store, scope) {
            // A node whose disk is full has to start all the same.
            tracing::warn!(code = error.code(), %error, "the moment of this start is not noted");
        }
        Ok(past)
    }

    /// Notes that nothing was written here since the last commit that is here.
    fn end_gap(&mut self, store: &dyn Store, scope: ScopeId) -> Result<()> {
        let put =
            |past: &Past| store.put(ScopeId::LOCAL, keyspaces::NODE, GAPS_KEY, &past.encode_gaps());
        // First the moment: what others commit meanwhile is behind it, or is seen.
        let until = put(self)?;
        let last = store.written(scope).get(store.origin());
        if last < until {
            self.add(Gap { last, until });
            put(self)?;
        }
        Ok(())
    }

    /// Whether the life of `own` has two histories.
    pub(super) fn is_forked(&self, own: Origin) -> bool {
        self.fork.is_some_and(|fork| fork.life == own.incarnation)
    }

    /// A start after which nothing was written is part of the gap of the next.
    fn add(&mut self, gap: Gap) {
        self.gaps.retain(|known| known.last != gap.last);
        let excess = (self.gaps.len() + 1).saturating_sub(GAPS_MAX);
        self.gaps.drain(..excess);
        self.gaps.push(gap);
    }

    /// The last commit that is here before `tick`, if this node can not have written at `tick`.
    fn gap_of(&self, life: Incarnation, tick: Tick) -> Option<Tick> {
        let holds = |gap: &&Gap| self.life == life && gap.last < tick && tick <= gap.until;
        self.gaps.iter().find(holds).map(|gap| gap.last)
    }

    fn encode_gaps(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.life.0.to_le_bytes());
        put_varint(&mut out, self.gaps.len() as u64);
        for gap in &self.gaps {
            out.extend_from_slice(&gap.last.raw().to_le_bytes());
            out.extend_from_slice(&gap.until.raw().to_le_bytes());
        }
        out
    }
}

fn decode_gaps(bytes: &[u8]) -> Decoded<(Incarnation, Vec<Gap>)> {
    let mut reader = Reader::new(bytes);
    check_version(&mut reader)?;
    let life = Incarnation(reader.u64()?);
    let count = reader.len()?;
    if count > GAPS_MAX {
        return Err(Corruption::OutOfRange);
    }
    let mut gaps = Vec::new();
    for _ in 0..count {
        gaps.push(Gap { last: tick(&mut reader)?, until: tick(&mut reader)? });
    }
    if reader.is_empty() { Ok((life, gaps)) } else { Err(Corruption::TrailingBytes) }
}

fn decode_fork(bytes: &[u8]) -> Decoded<Fork> {
    let mut reader = Reader::new(bytes);
    check_version(&mut reader)?;
    let fork = Fork { life: Incarnation(reader.u64()?), at: tick(&mut reader)? };
    if reader.is_empty() { Ok(fork) } else { Err(Corruption::TrailingBytes) }
}

fn check_version(reader: &mut Reader<'_>) -> Decoded<()> {
    if reader.u8()? == VERSION { Ok(()) } else { Err(Corruption::UnknownKind) }
}

fn tick(reader: &mut Reader<'_>) -> Decoded<Tick> {
    Tick::from_raw(reader.u64()?).ok_or(Corruption::OutOfRange)
}

impl State {
    /// What was written before the fork was noticed may have hidden to some what was forgotten here:
    /// another life begins with comparisons.
    pub(super) fn audit_after_fork(&mut self) {
        if self.past.fork.is_some() {
            let members: Vec<NodeId> = self.roster.members().map(|(node, _)| node).collect();
            members.into_iter().for_each(|node| self.audits.want(node));
        }
    }
}

impl Group {
    /// Refuses a peer that has of the present life what this node did not write, and remembers it:
    /// from then on everybody is refused.
    pub(super) fn check_past(&self, store: &dyn Store, has: Tick) -> Result<(), ProtocolError> {
        let own = store.origin();
        let found = self.state.lock().past.gap_of(own.incarnation, has);
        let Some(at) = found else { return Ok(()) };
        let fork = Fork { life: own.incarnation, at };
        let mut value = vec![VERSION];
        value.extend_from_slice(&fork.life.0.to_le_bytes());
        value.extend_from_slice(&fork.at.raw().to_le_bytes());
        self.state.lock().past.fork = Some(fork);
        store.put(ScopeId::LOCAL, keyspaces::NODE, FORK_KEY, &value)?;
        Err(ProtocolError::Fork { origin: own, at })
    }

    /// Refuses everything while the present life has two histories.
    pub(crate) fn refuse_if_forked(&self) -> Result<(), ProtocolError> {
        let state = self.state.lock();
        match state.past.fork {
            Some(Fork { at, .. }) if state.past.is_forked(state.own) => {
                Err(ProtocolError::Fork { origin: state.own, at })
            }
            _ => Ok(()),
        }
    }

    /// What this node has, as it says when it asks for all of a peer's state. Of a life that had two
    /// histories it has surely what both had; what it wrote then comes to others afterwards.
    pub(crate) fn claims(&self, store: &dyn Store) -> Vector {
        let applied = store.applied(self.scope());
        let fork = self.state.lock().past.fork;
        let Some(fork) = fork.filter(|_| !store.is_whole(self.scope())) else { return applied };
        let forked = Origin { node: self.node(), incarnation: fork.life };
        let sure =
            |(of, tick): (Origin, Tick)| (of, if of == forked { tick.min(fork.at) } else { tick });
        applied.iter().map(sure).filter(|(_, tick)| *tick > Tick::ZERO).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{GroupConfig, Writes};
    use super::*;
    use crate::memory::MemoryStore;
    use crate::roster::Role;
    use proptest::prelude::*;

    fn store() -> MemoryStore {
        MemoryStore::new(NodeId([9; 16]), Incarnation(1), 1_000)
    }

    fn write(store: &MemoryStore) -> Tick {
        store.put(ScopeId::MAIN, "k", b"k", b"v").unwrap()
    }

    #[test]
    fn what_was_written_is_in_no_gap_and_what_another_copy_wrote_is() {
        let store = store();
        let life = store.origin().incarnation;
        let mut known = Vec::new();
        let mut forgotten = Vec::new();
        for start in 1..100 {
            // As long as this copy is away, another one writes.
            forgotten.push(Tick::from_ms(start * 10_000 - 5_000));
            store.set_wall_ms(start * 10_000);
            let past = Past::begin(&store, ScopeId::MAIN).unwrap();
            known.push(write(&store));
            assert!(past.gaps.len() <= GAPS_MAX);
            assert!(known.iter().all(|tick| past.gap_of(life, *tick).is_none()));
            let newest = forgotten.iter().rev().take(GAPS_MAX);
            assert!(newest.clone().all(|tick| past.gap_of(life, *tick).is_some()), "{start}");
            assert_eq!(past.gap_of(Incarnation(2), forgotten[0]), None, "of another life");
        }
    }

    #[test]
    fn starts_between_which_nothing_was_written_are_one_gap() {
        let store = store();
        let last = write(&store);
        for start in 2..10 {
            store.set_wall_ms(start * 1_000);
            let past = Past::begin(&store, ScopeId::MAIN).unwrap();
            assert_eq!(past.gaps.len(), 1);
            assert_eq!(past.gap_of(Incarnation(1), Tick::from_ms(1_500)), Some(last));
        }
    }

    /// Node 9, which was put back, and has written since.
    #[test]
    fn who_knows_what_was_forgotten_ends_all_exchange_after_a_restart_too() {
        let store = store();
        let last = write(&store);
        store.set_wall_ms(9_000);
        let first = vec![store.origin().node, NodeId([8; 16])];
        let config = GroupConfig { scope: ScopeId::MAIN, role: Role::Author, first };
        let group = Group::open(config.clone(), &store).unwrap();
        let next = write(&store);
        for has in [Tick::ZERO, last, next] {
            group.check_past(&store, has).unwrap();
        }
        group.refuse_if_forked().unwrap();
        let forgotten = Tick::from_ms(5_000);
        assert_eq!(group.check_past(&store, forgotten).unwrap_err().code(), "Fork");
        for group in [&group, &Group::open(config, &store).unwrap()] {
            assert_eq!(group.writes(), Writes::Forked);
            assert_eq!(group.refuse_if_forked().unwrap_err().code(), "Fork");
        }
    }

    proptest! {
        #[test]
        fn hostile_records_never_panic(mut bytes: Vec<u8>) {
            bytes.insert(0, VERSION);
            let _ = (decode_gaps(&bytes), decode_fork(&bytes));
        }
    }
}
