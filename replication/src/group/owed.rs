//! What peers have not confirmed of this node's commits. Kept, so that it is known after a restart too.
//!
//! Commits are numbered as they are made. What a peer lacks is the difference between the last number
//! and that of the last commit it has confirmed; where that one's number is not known exactly, as after
//! a crash, an older one counts.
//!
//! ```text
//! key        "owed", in the keyspace `esker.node`
//! size       field
//!    1       version      1
//!    8       incarnation  whose commits they are
//!    8       last         the last commit
//!    8       number       its number
//!    v       peers        how many, at most 256
//!   per peer:
//!   16         node
//!    8         confirmed  the last commit that it has
//!    8         number     its number
//!    8         at         when it said so, in milliseconds since the Unix epoch
//! ```

use super::{Group, State};
use crate::roster::MEMBERS_MAX;
use crate::store::{Store, keyspaces};
use base::codec::{Decoded, Reader, put_varint};
use base::{Corruption, Incarnation, NodeId, Origin, Result, ScopeId, Tick};
use std::collections::BTreeMap;
use std::time::Duration;

const VERSION: u8 = 1;
const KEY: &[u8] = b"owed";
/// How often it is written while it changes; when a session ends also.
const KEEP_EVERY: Duration = Duration::from_secs(10);

/// What a peer has confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Confirmed {
    pub(super) tick: Tick,
    number: u64,
    pub(super) at_ms: u64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Owed {
    /// The number of the last commit before this process.
    base: u64,
    peers: BTreeMap<NodeId, Confirmed>,
    /// The last commit, and those that are confirmed, as they were written last.
    kept: (Tick, Vec<(NodeId, Tick)>),
    kept_at: Option<Duration>,
}

impl Owed {
    /// What `store` remembers.
    pub(super) fn read(store: &dyn Store, scope: ScopeId) -> Result<Owed> {
        let own = store.origin();
        let Some(bytes) = store.get(keyspaces::NODE, KEY)? else { return Ok(Owed::default()) };
        match decode(&bytes) {
            Ok(kept) if kept.life == own.incarnation => {
                // There was something else before a crash; how much is not known.
                let is_more = store.written(scope).get(own) > kept.last;
                let base = kept.number + u64::from(is_more);
                Ok(Owed { base, peers: kept.peers, ..Owed::default() })
            }
            Ok(_) => Ok(Owed::default()),
            Err(found) => {
                tracing::warn!(code = "Malformed", %found, "what peers have confirmed is damaged, and not known");
                Ok(Owed::default())
            }
        }
    }

    /// It is written soon.
    pub(super) fn want_kept(&mut self) {
        self.kept_at = None;
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = (NodeId, Confirmed)> + '_ {
        self.peers.iter().map(|(node, confirmed)| (*node, *confirmed))
    }

    /// A new life begins: what peers confirm from now on is of that.
    pub(super) fn begin_life(&mut self, commits: u64) {
        let number = self.base + commits;
        for confirmed in self.peers.values_mut() {
            *confirmed = Confirmed { tick: Tick::ZERO, number, ..*confirmed };
        }
    }

    /// How many of `commits` of this process, and of those before, `peer` has not confirmed.
    pub(super) fn pending(&self, peer: NodeId, last: Tick, commits: u64) -> u64 {
        let confirmed = self.peers.get(&peer).copied().unwrap_or_default();
        if confirmed.tick >= last {
            return 0;
        }
        (self.base + commits).saturating_sub(confirmed.number).max(1)
    }
}

impl State {
    /// Notes that `peer` has confirmed our commits up to `tick`.
    pub(super) fn note_confirmed(&mut self, peer: NodeId, tick: Tick, last: Tick, commits: u64) {
        let number = match tick >= last {
            true => self.owed.base + commits,
            false => self.marks.number_at(tick).map_or(0, |number| self.owed.base + number),
        };
        let confirmed = self.owed.peers.entry(peer).or_default();
        confirmed.tick = confirmed.tick.max(tick);
        confirmed.number = confirmed.number.max(number);
    }
}

impl Group {
    /// Notes that a peer has said something about what it has.
    pub(super) fn note_confirm(&self, store: &dyn Store, peer: NodeId, tick: Tick) {
        let scope = self.scope();
        // In this order: nothing is counted that is behind what is last.
        let commits = store.commits(scope);
        let last = store.applied(scope).get(store.origin());
        let mut state = self.state.lock();
        state.note_confirmed(peer, tick, last, commits);
        if let Some(confirmed) = state.owed.peers.get_mut(&peer) {
            confirmed.at_ms = store.wall_ms();
        }
    }

    /// Whether it is time to write what peers have confirmed.
    pub(super) fn are_confirms_due(&self, now: Duration) -> bool {
        let owed = &mut self.state.lock().owed;
        let is_due = owed.kept_at.is_none_or(|at| now >= at + KEEP_EVERY);
        if is_due {
            owed.kept_at = Some(now);
        }
        is_due
    }

    /// Writes what peers have confirmed, unless that is as it was.
    pub(super) fn keep_confirms(&self, store: &dyn Store) -> Result<()> {
        let own = store.origin();
        let commits = store.commits(self.scope());
        let last = store.applied(self.scope()).get(own);
        let mut state = self.state.lock();
        let peers: Vec<_> = state.owed.peers().map(|(node, has)| (node, has.tick)).collect();
        let now = (last, peers);
        if now.1.is_empty() || now == state.owed.kept {
            return Ok(());
        }
        let value = encode(own, last, &state.owed, commits);
        state.owed.kept = now;
        drop(state);
        store.put(ScopeId::LOCAL, keyspaces::NODE, KEY, &value).map(drop)
    }
}

/// What was kept.
struct Kept {
    life: Incarnation,
    last: Tick,
    number: u64,
    peers: BTreeMap<NodeId, Confirmed>,
}

fn encode(own: Origin, last: Tick, owed: &Owed, commits: u64) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&own.incarnation.0.to_le_bytes());
    out.extend_from_slice(&last.raw().to_le_bytes());
    out.extend_from_slice(&(owed.base + commits).to_le_bytes());
    let peers = owed.peers.iter().take(MEMBERS_MAX);
    put_varint(&mut out, peers.len() as u64);
    for (node, Confirmed { tick, number, at_ms }) in peers {
        out.extend_from_slice(&node.0);
        out.extend_from_slice(&tick.raw().to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&at_ms.to_le_bytes());
    }
    out
}

fn decode(bytes: &[u8]) -> Decoded<Kept> {
    let mut reader = Reader::new(bytes);
    if reader.u8()? != VERSION {
        return Err(Corruption::UnknownKind);
    }
    let life = Incarnation(reader.u64()?);
    let last = tick(&mut reader)?;
    let number = reader.u64()?;
    let count = reader.len()?;
    if count > MEMBERS_MAX {
        return Err(Corruption::OutOfRange);
    }
    let mut peers = BTreeMap::new();
    for _ in 0..count {
        let node = NodeId(reader.array()?);
        let tick = tick(&mut reader)?;
        let (number, at_ms) = (reader.u64()?, reader.u64()?);
        peers.insert(node, Confirmed { tick, number, at_ms });
    }
    if !reader.is_empty() {
        return Err(Corruption::TrailingBytes);
    }
    Ok(Kept { life, last, number, peers })
}

fn tick(reader: &mut Reader<'_>) -> Decoded<Tick> {
    Tick::from_raw(reader.u64()?).ok_or(Corruption::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PEER: NodeId = NodeId([2; 16]);

    /// Two commits before this process; the peer has confirmed one more, at tick 10.
    fn owed() -> Owed {
        let confirmed = Confirmed { tick: Tick::from_ms(10), number: 3, at_ms: 0 };
        Owed { base: 2, peers: BTreeMap::from([(PEER, confirmed)]), ..Owed::default() }
    }

    #[test]
    fn what_a_peer_lacks_are_the_commits_behind_what_it_has_confirmed() {
        let (owed, last) = (owed(), Tick::from_ms(20));
        assert_eq!(owed.pending(PEER, last, 4), 3);
        assert_eq!(owed.pending(NodeId([3; 16]), last, 4), 6, "it has confirmed nothing");
        assert_eq!(owed.pending(PEER, Tick::from_ms(10), 4), 0, "it has the last one");
        assert_eq!(owed.pending(PEER, last, 1), 1, "the last one it has not");
    }

    #[test]
    fn what_a_peer_has_confirmed_of_the_life_before_is_nothing_of_the_next() {
        let mut owed = owed();
        owed.begin_life(4);
        assert_eq!(owed.pending(PEER, Tick::from_ms(30), 5), 1);
        // A life that begins on a clock that went back.
        assert_eq!(owed.pending(PEER, Tick::from_ms(5), 5), 1);
    }

    proptest! {
        #[test]
        fn hostile_records_never_panic(mut bytes: Vec<u8>) {
            bytes.insert(0, VERSION);
            let _ = decode(&bytes);
        }
    }
}
