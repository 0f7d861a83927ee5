//! The ops of a batch, as they stand in a record.
//!
//! ```text
//! size    field
//!    1    kind            OpKind: 1 put, 2 delete, 3 put expiring, 4 range delete, 5 erase
//!    v    keyspace        its number within the record's scope
//!    v+*  key             byte string, 1..=65535 bytes; a range delete's start
//!  put:
//!    v+*  value           byte string
//!  put expiring:
//!    8    expires at      milliseconds since the Unix epoch
//!    v+*  value           byte string
//!  range delete:
//!    v+*  end             byte string; exclusive; empty = to the end of the keyspace
//!  erase:
//!   24    victim          origin of its stamp: node, incarnation ..
//!    8    tick            .. and its tick
//! ```

use crate::codec::{Decoded, Reader, put_bytes, put_varint};
use crate::error::Corruption;
use crate::key::{EntryKind, KeyspaceId};
use crate::limits::{KEY_LEN_MAX, VALUE_LEN_MAX};
use crate::stamp::{Origin, Stamp};
use crate::tick::Tick;

/// What an op does. The bytes equal those of [`EntryKind`] except that 1 and 2 are swapped there;
/// part of the format, do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpKind<'a> {
    /// Sets the value.
    Put(&'a [u8]),
    /// Deletes the key.
    Delete,
    /// Sets the value until a moment, in milliseconds since the Unix epoch.
    PutExpiring {
        /// When the entry ends.
        expires_at_ms: u64,
        /// The value until then.
        value: &'a [u8],
    },
    /// Deletes all keys from the op's key to `end`, exclusive; empty means to the last key.
    RangeDelete {
        /// The first key that stays.
        end: &'a [u8],
    },
    /// Deletes the key's version with this stamp and all older ones, and nothing newer.
    Erase {
        /// The version just below.
        victim: Stamp,
    },
}

/// One write to one keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op<'a> {
    /// The keyspace, within the record's scope.
    pub keyspace: KeyspaceId,
    /// The key, or a range's start.
    pub key: &'a [u8],
    /// What happens to it.
    pub kind: OpKind<'a>,
}

const PUT: u8 = 1;
const DELETE: u8 = 2;
const PUT_EXPIRING: u8 = 3;
const RANGE_DELETE: u8 = 4;
const ERASE: u8 = 5;

impl Op<'_> {
    /// Appends the op.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        let kind = match self.kind {
            OpKind::Put(_) => PUT,
            OpKind::Delete => DELETE,
            OpKind::PutExpiring { .. } => PUT_EXPIRING,
            OpKind::RangeDelete { .. } => RANGE_DELETE,
            OpKind::Erase { .. } => ERASE,
        };
        out.push(kind);
        put_varint(out, u64::from(self.keyspace.0));
        put_bytes(out, self.key);
        match self.kind {
            OpKind::Put(value) => put_bytes(out, value),
            OpKind::Delete => {}
            OpKind::PutExpiring { expires_at_ms, value } => {
                out.extend_from_slice(&expires_at_ms.to_le_bytes());
                put_bytes(out, value);
            }
            OpKind::RangeDelete { end } => put_bytes(out, end),
            OpKind::Erase { victim } => {
                victim.origin.encode(out);
                out.extend_from_slice(&victim.tick.raw().to_le_bytes());
            }
        }
    }

    /// Bytes of its value; none for deletes.
    #[inline]
    pub fn value_len(&self) -> usize {
        match self.kind {
            OpKind::Put(value) | OpKind::PutExpiring { value, .. } => value.len(),
            OpKind::Delete | OpKind::RangeDelete { .. } | OpKind::Erase { .. } => 0,
        }
    }

    /// Whether it stores a value, rather than only deletes.
    #[inline]
    pub fn stores_value(&self) -> bool {
        matches!(self.kind, OpKind::Put(_) | OpKind::PutExpiring { .. })
    }

    /// The kind of the entry that this op leaves in a memtable.
    pub fn entry_kind(&self) -> EntryKind {
        match self.kind {
            OpKind::Put(_) => EntryKind::Put,
            OpKind::Delete => EntryKind::Delete,
            OpKind::PutExpiring { .. } => EntryKind::PutExpiring,
            OpKind::RangeDelete { .. } => EntryKind::RangeDelete,
            OpKind::Erase { .. } => EntryKind::Erase,
        }
    }
}

/// Encoded ops that have been checked once; iterates without errors.
#[derive(Clone, Debug)]
pub struct Ops<'a> {
    reader: Reader<'a>,
}

impl<'a> Ops<'a> {
    /// Takes `count` ops from the front of `reader`, checking each.
    pub fn take(reader: &mut Reader<'a>, count: u64) -> Decoded<Ops<'a>> {
        let all = reader.rest();
        for _ in 0..count {
            decode(reader)?;
        }
        let len = all.len() - reader.rest().len();
        let (ops, _) = all.split_at_checked(len).ok_or(Corruption::Truncated)?;
        Ok(Ops { reader: Reader::new(ops) })
    }

    /// Ops that this process has just encoded.
    pub fn encoded(bytes: &'a [u8]) -> Ops<'a> {
        Ops { reader: Reader::new(bytes) }
    }

    /// The encoded bytes not yet iterated.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.reader.rest()
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Op<'a>;

    #[inline]
    fn next(&mut self) -> Option<Op<'a>> {
        if self.reader.is_empty() {
            return None;
        }
        decode(&mut self.reader).ok()
    }
}

#[inline]
fn decode<'a>(reader: &mut Reader<'a>) -> Decoded<Op<'a>> {
    let kind = reader.u8()?;
    let keyspace = u32::try_from(reader.varint()?).map_err(|_| Corruption::OutOfRange)?;
    let key = reader.bytes()?;
    if key.len() > KEY_LEN_MAX || (key.is_empty() && kind != RANGE_DELETE) {
        return Err(Corruption::OutOfRange);
    }
    let kind = match kind {
        PUT => OpKind::Put(decode_value(reader)?),
        DELETE => OpKind::Delete,
        PUT_EXPIRING => {
            OpKind::PutExpiring { expires_at_ms: reader.u64()?, value: decode_value(reader)? }
        }
        RANGE_DELETE => {
            let end = reader.bytes()?;
            if end.len() > KEY_LEN_MAX + 1 {
                return Err(Corruption::OutOfRange);
            }
            OpKind::RangeDelete { end }
        }
        ERASE => {
            let origin = Origin::decode(reader)?;
            let tick = Tick::from_raw(reader.u64()?).ok_or(Corruption::OutOfRange)?;
            OpKind::Erase { victim: Stamp { tick, origin } }
        }
        _ => return Err(Corruption::UnknownKind),
    };
    Ok(Op { keyspace: KeyspaceId(keyspace), key, kind })
}

#[inline]
fn decode_value<'a>(reader: &mut Reader<'a>) -> Decoded<&'a [u8]> {
    let value = reader.bytes()?;
    if value.len() > VALUE_LEN_MAX {
        return Err(Corruption::OutOfRange);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arbitrary_op() -> impl Strategy<Value = (u32, Vec<u8>, u8, u64, Vec<u8>)> {
        let key = proptest::collection::vec(any::<u8>(), 1..40);
        (any::<u32>(), key, 0u8..5, any::<u64>(), proptest::collection::vec(any::<u8>(), 0..40))
    }

    fn op(parts: &(u32, Vec<u8>, u8, u64, Vec<u8>)) -> Op<'_> {
        let (keyspace, key, kind, expires_at_ms, value) = parts;
        let kind = match kind {
            0 => OpKind::Put(value),
            1 => OpKind::Delete,
            2 => OpKind::PutExpiring { expires_at_ms: *expires_at_ms, value },
            3 => OpKind::RangeDelete { end: value },
            _ => {
                let tick = Tick::from_raw(*expires_at_ms >> 8).unwrap();
                OpKind::Erase { victim: Stamp { tick, origin: Origin::default() } }
            }
        };
        Op { keyspace: KeyspaceId(*keyspace), key, kind }
    }

    proptest! {
        #[test]
        fn ops_come_back(parts in proptest::collection::vec(arbitrary_op(), 0..20)) {
            let mut bytes = Vec::new();
            parts.iter().for_each(|parts| op(parts).encode(&mut bytes));
            let mut reader = Reader::new(&bytes);
            let ops = Ops::take(&mut reader, parts.len() as u64).unwrap();
            prop_assert!(reader.is_empty());
            prop_assert!(ops.eq(parts.iter().map(op)));
        }

        #[test]
        fn hostile_ops_are_refused_without_a_panic(bytes: Vec<u8>, count in 0u64..1000) {
            let _ = Ops::take(&mut Reader::new(&bytes), count).map(Iterator::count);
        }
    }
}
