//! Writes that lost to one of this node's which had not seen them, as they wait for their resolver in the
//! keyspace `esker.conflicts`, which never leaves the node.
//!
//! A put is two entries, a delete is one. Integers are little-endian where nothing else is said:
//!
//! ```text
//! key
//!    8    space           number of scope and keyspace here, big-endian
//!   16    what            first bytes of the Blake3 of the key
//!   24    origin          node, incarnation: the author of the write
//!    8    tick            when it was written, big-endian
//!    1    part            0 or 1
//! value of part 0
//!    1    version         1
//!    1    write           1 = a delete, 2 = a put
//!    8    expires at      milliseconds since the Unix epoch; 0 = never
//!    v+*  keyspace        its name
//!    v+*  key
//! value of part 1, only of a put
//!    *    value
//! ```

use crate::memtable::Memtable;
use base::codec::{Decoded, Reader, put_bytes};
use base::limits::KEYSPACE_NAME_LEN_MAX;
use base::{Corruption, Op, OpKind, Origin, SpaceId, Stamp, Tick};

/// Where losers are parked.
pub(crate) const PARKED: &str = "esker.conflicts";

const VERSION: u8 = 1;
const DELETE: u8 = 1;
const PUT: u8 = 2;
const KEY_LEN: usize = 8 + 16 + Origin::LEN + 8 + 1;
const HEAD_LEN_MAX: usize = 1 + 1 + 8 + 2 + KEYSPACE_NAME_LEN_MAX + 3;

/// A write that lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loser<'a> {
    pub(crate) space: SpaceId,
    /// The keyspace's name.
    pub(crate) keyspace: &'a str,
    pub(crate) key: &'a [u8],
    pub(crate) stamp: Stamp,
    pub(crate) write: LostWrite<'a>,
}

/// What it would have done to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LostWrite<'a> {
    Delete,
    /// A value, and until when; 0 = for ever.
    Put(&'a [u8], u64),
}

impl<'a> LostWrite<'a> {
    /// That of an op; none if it is not about the value of one key.
    pub(crate) fn of(kind: &OpKind<'a>) -> Option<LostWrite<'a>> {
        match *kind {
            OpKind::Put(value) => Some(LostWrite::Put(value, 0)),
            OpKind::PutExpiring { expires_at_ms, value } => {
                Some(LostWrite::Put(value, expires_at_ms))
            }
            OpKind::Delete => Some(LostWrite::Delete),
            OpKind::RangeDelete { .. } | OpKind::Erase { .. } => None,
        }
    }
}

/// Losers of one commit, as ops on the keyspace where they are parked.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    /// How many losers.
    pub(crate) losers: u64,
    /// How many ops they are.
    pub(crate) count: u64,
    /// Their encoding.
    pub(crate) ops: Vec<u8>,
}

impl Parking {
    /// Parks `loser` in `space`.
    pub(crate) fn add(&mut self, loser: &Loser<'_>, space: SpaceId) {
        self.losers += 1;
        each_part(loser, |key, value| {
            let (keyspace, kind) = (space.keyspace(), OpKind::Put(value));
            Op { keyspace, key, kind }.encode(&mut self.ops);
            self.count += 1;
        });
    }

    /// The most bytes that parking `op` takes in a memtable.
    pub(crate) fn reservation(op: &Op<'_>) -> usize {
        let (key, head) = ([0; KEY_LEN], vec![0; HEAD_LEN_MAX + op.key.len()]);
        let value = match LostWrite::of(&op.kind) {
            Some(LostWrite::Put(value, _)) => value,
            _ => &[],
        };
        let part = |value| Op { keyspace: op.keyspace, key: &key, kind: OpKind::Put(value) };
        [&*head, value].map(|value| Memtable::reservation(&part(value))).iter().sum()
    }
}

/// Calls `keep` with key and value of each part of `loser`.
pub(crate) fn each_part(loser: &Loser<'_>, mut keep: impl FnMut(&[u8], &[u8])) {
    let mut key = Vec::with_capacity(KEY_LEN);
    key.extend_from_slice(&loser.space.0.to_be_bytes());
    let what = blake3::hash(loser.key);
    key.extend_from_slice(what.as_bytes().first_chunk::<16>().map_or(&[], |what| what));
    loser.stamp.origin.encode(&mut key);
    key.extend_from_slice(&loser.stamp.tick.raw().to_be_bytes());
    let (write, value, expires_at_ms) = match loser.write {
        LostWrite::Delete => (DELETE, None, 0),
        LostWrite::Put(value, expires_at_ms) => (PUT, Some(value), expires_at_ms),
    };
    let mut head = vec![VERSION, write];
    head.extend_from_slice(&expires_at_ms.to_le_bytes());
    put_bytes(&mut head, loser.keyspace.as_bytes());
    put_bytes(&mut head, loser.key);
    key.push(0);
    keep(&key, &head);
    if let Some(value) = value {
        key.pop();
        key.push(1);
        keep(&key, value);
    }
}

/// The key of the value of the loser whose head has the key `head`; none if that is no head.
pub(crate) fn value_key(head: &[u8]) -> Option<Vec<u8>> {
    let (part, rest) = head.split_last()?;
    (*part == 0 && head.len() == KEY_LEN).then(|| [rest, &[1]].concat())
}

/// What `of` says, which has the key `key`, with `value` as what is in its other part.
pub(crate) fn decode<'a>(key: &[u8], of: &'a [u8], value: Option<&'a [u8]>) -> Decoded<Loser<'a>> {
    let mut place = Reader::new(key);
    let space = SpaceId(u64::from_be_bytes(place.array()?));
    let _what: [u8; 16] = place.array()?;
    let origin = Origin::decode(&mut place)?;
    let tick = Tick::from_raw(u64::from_be_bytes(place.array()?)).ok_or(Corruption::OutOfRange)?;
    let mut head = Reader::new(of);
    if head.u8()? != VERSION {
        return Err(Corruption::OutOfRange);
    }
    let write = head.u8()?;
    let expires_at_ms = head.u64()?;
    let keyspace = std::str::from_utf8(head.bytes()?).map_err(|_| Corruption::OutOfRange)?;
    let key = head.bytes()?;
    let write = match (write, value) {
        (DELETE, _) => LostWrite::Delete,
        (PUT, Some(value)) => LostWrite::Put(value, expires_at_ms),
        _ => return Err(Corruption::OutOfRange),
    };
    let stamp = Stamp { tick, origin };
    match head.is_empty() {
        true => Ok(Loser { space, keyspace, key, stamp, write }),
        false => Err(Corruption::TrailingBytes),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use base::{Incarnation, NodeId};
    use proptest::prelude::*;

    fn parts(loser: &Loser<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut parts = Vec::new();
        each_part(loser, |key, value| parts.push((key.to_vec(), value.to_vec())));
        parts
    }

    proptest! {
        #[test]
        fn a_loser_comes_back_as_it_was_parked(
            raw in 0u64..1 << 56, node: [u8; 16], life: u64, space: u64, name in "[a-z]{1,9}",
            key in prop::collection::vec(any::<u8>(), 1..40), value: Option<(Vec<u8>, u64)>,
            cut: prop::sample::Index
        ) {
            let origin = Origin { node: NodeId(node), incarnation: Incarnation(life) };
            let stamp = Stamp { tick: Tick::from_raw(raw).unwrap(), origin };
            let write = match &value {
                Some((value, until)) => LostWrite::Put(value, *until),
                None => LostWrite::Delete,
            };
            let loser = Loser { space: SpaceId(space), keyspace: &name, key: &key, stamp, write };
            let parts = parts(&loser);
            let ((head_key, head), other) = parts.split_first().map(|(a, b)| (a.clone(), b)).unwrap();
            let stored = other.first().map(|(key, value)| {
                assert_eq!(value_key(&head_key).as_ref(), Some(key));
                assert_eq!(value_key(key), None);
                &**value
            });
            prop_assert_eq!(stored.is_some(), value.is_some());
            prop_assert_eq!(decode(&head_key, &head, stored), Ok(loser));
            let part = &head[..cut.index(head.len())];
            prop_assert!(decode(&head_key, part, stored).is_err());
        }

        #[test]
        fn hostile_bytes_never_panic(key: Vec<u8>, head: Vec<u8>) {
            let _ = decode(&key, &head, None);
            let _ = value_key(&key);
        }
    }
}
